-- Fifty processes take one off a counter in a managed dict: reading and writing needs a lock around both.
-- The same once more with `update`, which reads, computes and writes as one step, and needs none.
local mp = require "mp"

local m <close> = mp.Manager()
local d, lock = m:dict { count = 100 }, m:Lock()

local function under_lock()
  lock:acquire()
  d.count = d.count - 1
  lock:release()
end

local function at_once()
  d:update("count", function(n) return n - 1 end)
end

local function run(title, target)
  local all = {}
  for i = 1, 50 do
    all[i] = mp.Process { target = target }
    all[i]:start()
  end
  for _, p in ipairs(all) do p:join() end
  print(("%s: %d are left"):format(title, d.count))
end

run("with a lock", under_lock)
run("by update", at_once)
