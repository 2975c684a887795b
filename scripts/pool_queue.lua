-- A plain queue, handed to the workers of a pool as an argument of the task.
-- In Python only a manager's queue may travel like this; here every shared object may.
local mp = require "mp"

local function count(q, from, to)
  for i = from, to do q:put(i) end
  return to - from + 1
end

local pool <close> = mp.Pool(2)
local q = mp.Queue()
local put = pool:starmap(count, { { q, 1, 5 }, { q, 6, 10 }, { q, 11, 15 } })
print("put by the tasks: " .. table.concat(put, " "))

local got = q:get_many(100)
table.sort(got)
print("got by the parent: " .. table.concat(got, " "))
