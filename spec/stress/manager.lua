-- manager.lua -- clients of a manager are killed at random instants, near ones and linked ones: the server goes on, no operation is half done,
-- nobody waits for the dead, and nothing of theirs is left.
--   mprun spec/stress/manager.lua [SECONDS]
local mp = require "mp"

local seconds = tonumber(arg[1]) or 10
local seed = math.tointeger(os.getenv "MP_SEED" or "") or os.time()
math.randomseed(seed)

local m = mp.Manager { address = "tcp://127.0.0.1:0", authkey = "stress" }
local address = m.address
local d, l = m:dict { n = 0, u = 0 }, m:list()
local lock = mp.Lock()
local tried, done = mp.Value("q", 0), mp.Value("q", 0)
m:register("d", function() return d end)
m:register("l", function() return l end)
m:register("lock", function() return lock end)
m:register("descriptors", function()
  return function()
    collectgarbage()
    collectgarbage()
    local n = 0
    for fd = 0, 4095 do
      local f = io.open("/proc/self/fdinfo/" .. fd)
      if f then
        f:close()
        n = n + 1
      end
    end
    return n
  end
end)
local descriptors = m:descriptors()

local function work(far)
  local dict, list, mine = d, l, lock
  if far then
    local c = mp.connect(address, "stress")
    dict, list, mine = c:d(), c:l(), c:lock()
  end
  while true do
    tried:add(1)
    dict:incr("n")
    done:add(1)
    dict:update("u", function(u) return u + 1 end)
    dict:with(function(held)
      held.left = "begun"
      held.left = nil
    end)
    list:append { 1, list }
    list:pop()
    if mine:acquire() then mine:release() end
    if not far then dict.part = m:list { far } end
  end
end

local function start(far)
  local p = mp.Process { target = work, args = { far } }
  p:start()
  return p
end

local function fail(...)
  io.stderr:write(("manager (MP_SEED=%d): "):format(seed), string.format(...), "\n")
  os.exit(1)
end

local before = descriptors()
local deadline, kills = mp.now() + seconds, 0
local ps = {}
while mp.now() < deadline do
  for i = 1, 4 do ps[i] = ps[i] or start(i == 4 and kills % 8 == 0) end
  mp.sleep(math.random() * 0.03)
  local i = math.random(4)
  ps[i]:kill()
  ps[i]:join()
  ps[i] = nil
  kills = kills + 1
end
for _, p in pairs(ps) do
  p:kill()
  p:join()
  kills = kills + 1
end

-- The dead let go of what they held, so these come to an end. A dead far client's deputy may have finished what it was asked for.
local n = d:with(function(held) return held.n end)
if n < done.value or n > tried.value then fail("%d increments, of %d tried and %d known to be done", n, tried.value, done.value) end
if not lock:acquire(60) then fail("the lock is held by a dead client") end
lock:release()
if d.left ~= nil and d.left ~= "begun" then fail("a value nobody wrote: %s", tostring(d.left)) end
for i, v in ipairs(l:copy()) do
  if v[1] ~= 1 or v[2] ~= l then fail("item %d is torn", i) end
end
d:clear()
l:clear()
local after
for _ = 1, 600 do
  after = descriptors()
  if after <= before then break end
  mp.sleep(0.05)
end
if after > before then fail("%d descriptors of the server before, %d after", before, after) end
m:shutdown()
print(("manager: %d clients killed, %d increments"):format(kills, n))
