-- Two processes made from a class, each with its own end of a pipe.
-- The end is set as a field when the process is made.
local mp = require "mp"
io.stdout:setvbuf "line"

local Player = mp.Process:extend "Player"

function Player:init(who, pipe, first)
  self.who, self.pipe, self.first = who, pipe, first or false
end

function Player:run()
  if self.first then self.pipe:send(1) end
  repeat
    local ball = self.pipe:recv()
    print(("%s has the ball for stroke %d"):format(self.who, ball))
    self.pipe:send(ball + 1)
  until ball >= 5
end

local a, b = mp.Pipe()
local ping, pong = Player("ping", a, true), Player("pong", b)
ping:start()
pong:start()
ping:join()
pong:join()
print "game over"
