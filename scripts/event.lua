-- A traffic light: one process switches an event, the others wait at it.
-- Those who come while it is set drive on at once; all who wait are let go together.
local mp = require "mp"
io.stdout:setvbuf "line"
math.randomseed(tonumber(os.getenv "MP_SEED") or os.time())

local green = mp.Event()

local function light()
  for _ = 1, 2 do
    green:clear()
    print "light: red"
    mp.sleep(0.3)
    print "light: green"
    green:set()
    mp.sleep(0.2)
  end
end

local function car(i, seconds)
  mp.sleep(seconds)                     -- the way to the crossing
  if not green:is_set() then print(("car %d waits"):format(i)) end
  green:wait()
  print(("car %d drives"):format(i))
end

local all = { mp.Process { target = light } }
for i = 1, 6 do all[i + 1] = mp.Process { target = car, args = { i, 0.05 + 0.7 * math.random() } } end
for _, p in ipairs(all) do p:start() end
for _, p in ipairs(all) do p:join() end
print "the crossing is empty"
