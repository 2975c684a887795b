-- A process made from a function: parent and child run at the same time.
-- Watch the order of the lines: the parent goes on while the child sleeps, and waits only at join.
local mp = require "mp"
io.stdout:setvbuf "line"

local function greet(who, seconds)
  print(("%s: hello %s"):format(mp.current_process().name, who))
  mp.sleep(seconds)
  print(("%s: slept for %.1f s"):format(mp.current_process().name, seconds))
end

local p = mp.Process { target = greet, args = { "world", 0.3 }, name = "greeter" }
p:start()
print("parent: started " .. p.name)
p:join()
print("parent: " .. p.name .. " is done")
