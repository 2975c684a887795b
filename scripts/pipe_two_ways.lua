-- Two processes exchange greetings over a two-way pipe; then a pipe that goes one way only.
-- Each end sends and receives; of a one-way pipe the first end receives and the second sends.
local mp = require "mp"
io.stdout:setvbuf "line"

local function talk(name, c, first)
  if first then c:send("hello, this is " .. name) end
  print(name .. " heard: " .. c:recv())
  if not first then c:send("hello back, this is " .. name) end
end

local a, b = mp.Pipe()
local anna = mp.Process { target = talk, args = { "Anna", a, true } }
local bert = mp.Process { target = talk, args = { "Bert", b, false } }
anna:start()
bert:start()
anna:join()
bert:join()

local receiver, sender = mp.Pipe(false)
local p = mp.Process { target = function() sender:send { 1, 2, word = "three" } end }
p:start()
local message = receiver:recv()
print("parent received: " .. message[1] .. " " .. message[2] .. " " .. message.word)
print("sending at the wrong end: " .. tostring(select(2, pcall(receiver.send, receiver, 1))))
p:join()
