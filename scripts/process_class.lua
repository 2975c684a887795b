-- A process made from a class: extend Process and say in `run` what it does.
-- A field is set by `init` in the parent, when the process is made; `run` reads it in the child.
local mp = require "mp"
io.stdout:setvbuf "line"

local Greeter = mp.Process:extend "Greeter"

function Greeter:init(who)
  self.who = who
end

function Greeter:run()
  print("child: hello " .. self.who)
  mp.sleep(0.3)
  print("child: goodbye " .. self.who)
end

local p = Greeter("world")
p:start()
print("parent: " .. p.who .. " is being greeted")
p:join()
print("parent: done")
