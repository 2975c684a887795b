-- A queue of five holds back whoever is too fast: the sixth put waits until somebody takes one.
-- The time that each put took shows it.
local mp = require "mp"
io.stdout:setvbuf "line"

local q = mp.Queue(5)

local function fill()
  for i = 1, 6 do
    local start = mp.now()
    q:put(i)
    print(("put %d: %s"):format(i, mp.now() - start > 0.1 and "had to wait" or "at once"))
  end
end

local p = mp.Process { target = fill }
p:start()
mp.sleep(0.5)
print("the queue is full: " .. tostring(q:full()))
print("took " .. q:get())
p:join()
print("size at the end: " .. q:qsize())
