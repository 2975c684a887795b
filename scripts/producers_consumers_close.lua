-- Two producers, two consumers, ended by closing the queue: what the nils of producers_consumers were for.
-- Nobody has to know how many consumers there are; `items` ends when the queue is closed and empty.
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
  for food in q:items() do
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
q:close()
print("put after close:", q:put("too late"))
fred:join()
frida:join()
