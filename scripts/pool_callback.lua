-- Who does what: the task runs in a worker, its callback in the process that owns the pool.
-- The process ids tell. Callbacks may therefore change the owner's variables.
local mp = require "mp"
io.stdout:setvbuf "line"

local function work(i)
  print(("worker: task %d in process %d"):format(i, mp.getpid()))
  return i * 10
end

local sum = 0
local function add(result)
  print(("callback: result %d in process %d"):format(result, mp.getpid()))
  sum = sum + result
end

print("parent: process " .. mp.getpid())
local pool = mp.Pool(3)
for i = 1, 4 do pool:apply_async(work, { i }, { callback = add }) end
pool:close()
pool:join()
print("parent: the sum is " .. sum)
