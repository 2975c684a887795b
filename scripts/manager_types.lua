-- A value, an array, a list and a dict made by a manager, changed by a child.
-- List and dict live in the manager's process: each use is a question to it. Value and array are shared memory.
local mp = require "mp"

local m <close> = mp.Manager()
local value, array = m:Value("i", 0), m:Array("d", { 1, 2, 3 })
local list, dict = m:list { "a", "b" }, m:dict()

local function change()
  value.value = 42
  for i = 1, #array do array[i] = array[i] / 2 end
  list:append "c"
  list:reverse()
  dict.inner = list                     -- a proxy inside: a reference, not a copy
end

local p = mp.Process { target = change }
p:start()
p:join()

print("value: " .. value.value)
print("array: " .. table.concat(array:get(1, 3), " "))
list:append "d"
print("list: " .. table.concat(list:copy(), " "))
print("the list in the dict: " .. table.concat(dict.inner:copy(), " "))
