-- Ten processes put, ten get, over a queue that holds only three.
-- The parent closes the queue when all putters are done: the getters take what is left and end.
local mp = require "mp"
math.randomseed(tonumber(os.getenv "MP_SEED") or os.time())

local q, output = mp.Queue(3), mp.Lock()

local function say(...)
  local _ <close> = output:guard()
  print(...)
  io.flush()
end

local function putter(i, seconds)
  mp.sleep(seconds)
  say(("putter %d puts %d"):format(i, i * i))
  q:put(i * i)
end

local function getter(i)
  for v in q:items() do
    say(("getter %d got %d"):format(i, v))
    mp.sleep(0.05)
  end
end

local function start(target, i)
  local p = mp.Process { target = target, args = { i, math.random() / 5 } }
  p:start()
  return p
end

local putters, getters = {}, {}
for i = 1, 10 do putters[i], getters[i] = start(putter, i), start(getter, i) end
for _, p in ipairs(putters) do p:join() end
q:close()
for _, p in ipairs(getters) do p:join() end
print("left in the queue: " .. q:qsize())
