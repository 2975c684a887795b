-- A manager with an address and a key: a second, independent program connects and works on its objects.
-- The program is this script again, started by the shell; one with a wrong key is refused.
local mp = require "mp"

if arg[1] == "client" then
  local ok, m = pcall(mp.connect, arg[2], arg[3])
  if not ok or not m then return print "client: was refused" end
  local scores = m:scores()
  print("client: Anna has " .. scores.Anna)
  scores.Bert = 7
  return
end

local m <close> = mp.Manager { address = "tcp://127.0.0.1:0", authkey = "open sesame" }
local scores = m:dict { Anna = 5 }
m:register("scores", function() return scores end)

local function run(key)
  os.execute(("'%s' '%s' client '%s' '%s'"):format(arg[-1], arg[0], m.address, key))
end

run "a guess"
print("server: Bert has " .. tostring(scores.Bert))
run "open sesame"
print("server: Bert has " .. tostring(scores.Bert))
