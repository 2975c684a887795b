-- What the parent may rely on after join, with and without a timeout.
-- The same four facts before, during and after a child's life; then the exit code that terminate leaves.
local mp = require "mp"

local p = mp.Process { target = function() mp.sleep(0.8); os.exit(7) end }

local function show(when)
  print(("%-7s alive %s, pid %s, exit code %s"):format(when, p:is_alive(), p.pid and "known" or "none", p.exitcode))
end

show "before:"
p:start()
show "during:"
print("join(0.1) gives", p:join(0.1))   -- not yet
print("join() gives", p:join())         -- now it has ended for certain
print("join() again", p:join())
show "after:"

local sleeper = mp.Process { target = mp.sleep, args = { 60 } }
sleeper:start()
sleeper:terminate()
sleeper:join()
print("terminated: exit code " .. sleeper.exitcode)   -- minus the number of the signal
