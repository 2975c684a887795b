-- A queue that can be joined: the parent goes on when everything that was put has been dealt with.
-- The consumer is a daemon; it says task_done after each item, and ends with the program.
local mp = require "mp"
io.stdout:setvbuf "line"

local q = mp.JoinableQueue()

local function consume()
  while true do
    local item = q:get()
    mp.sleep(0.05)
    print("consumer: done with " .. item)
    q:task_done()
  end
end

mp.Process { target = consume, daemon = true }:start()
for i = 1, 5 do q:put("item " .. i) end
print "parent: all are put, but not done"
q:join()
print "parent: all are done"
