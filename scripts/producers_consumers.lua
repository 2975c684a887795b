-- Two producers of different food, two consumers, and the classic way to end: one nil for each consumer.
-- The parent puts them after it has joined the producers, so they are the last in the queue.
local mp = require "mp"
io.stdout:setvbuf "line"
math.randomseed(tonumber(os.getenv "MP_SEED") or os.time())

local q = mp.Queue()

local function produce(name, food, seconds)
  for i = 1, 4 do
    mp.sleep(seconds)
    q:put(food .. " " .. i)
    print(("%s made %s %d"):format(name, food, i))
  end
end

local function consume(name, seconds)
  while true do
    local food = q:get()
    if food == nil then break end
    mp.sleep(seconds)
    print(("%s ate %s"):format(name, food))
  end
  print(name .. " has had enough")
end

local function start(target, ...)
  local p = mp.Process { target = target, args = { ... } }
  p:start()
  return p
end

local function pause() return math.random() / 10 end
local egon, emma = start(produce, "Egon", "bun", pause()), start(produce, "Emma", "dumpling", pause())
local fred, frida = start(consume, "Fred", pause()), start(consume, "Frida", pause())
egon:join()
emma:join()
for _ = 1, 2 do q:put(nil) end
fred:join()
frida:join()
