-- A daemon ends with the main program: nobody waits for its endless loop.
-- Its `daemon` field has to be set before the start; afterwards it is too late, and an error says so.
local mp = require "mp"
io.stdout:setvbuf "line"

local function tick()
  while true do
    print "daemon: tick"
    mp.sleep(0.1)
  end
end

local p = mp.Process { target = tick, daemon = true }
p:start()
print("main: " .. select(2, pcall(function() p.daemon = false end)))
mp.sleep(0.55)
print "main: the end"
