-- A queue of five holds back whoever is too fast: the sixth put waits until somebody takes one.
-- Before each put the process looks whether the queue is full.
local mp = require "mp"
io.stdout:setvbuf "line"

local q = mp.Queue(5)

local function fill()
  for i = 1, 6 do
    local full = q:full()
    q:put(i)
    print(("put %d: %s"):format(i, full and "had to wait" or "at once"))
  end
end

local p = mp.Process { target = fill }
p:start()
while not q:full() do mp.sleep(0.05) end
mp.sleep(0.4)
print "the queue is full"
print("took " .. q:get())
p:join()
print("size at the end: " .. q:qsize())
