-- Four consumers on one pipe, a hundred messages: all end at "eof", because every unused end is closed.
-- Then one that forgets to close its copy of the sending end: as long as that is open, eof never comes.
local mp = require "mp"
io.stdout:setvbuf "line"

local function consume(receiver, sender)
  sender:close()                        -- not used here
  local n = 0
  while true do
    local message, why = receiver:recv()
    if why then return n, why end
    n = n + message
  end
end

local function forgetful(receiver)
  local _, why = receiver:recv(0.3)
  return why
end

local receiver, sender = mp.Pipe(false)
local consumers, total = {}, 0
for i = 1, 4 do
  consumers[i] = mp.Process { target = consume, args = { receiver, sender } }
  consumers[i]:start()
end
receiver:close()                        -- not used here either
for _ = 1, 100 do sender:send(1) end
sender:close()
for i, p in ipairs(consumers) do
  local n, why = p:result()
  print(("consumer %d ended with %s"):format(i, why))
  total = total + n
end
print(total .. " messages were received")

receiver, sender = mp.Pipe(false)
local p = mp.Process { target = forgetful, args = { receiver, sender } }
p:start()
sender:close()
print("one who forgets to close sees: " .. p:result())
