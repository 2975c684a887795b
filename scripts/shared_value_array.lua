-- A number and an array that both processes see: the child sets them, the parent reads what it set.
-- The types are those of C: "d" is a double, "i" an int. What does not fit is an error, not a surprise.
local mp = require "mp"

local number, array = mp.Value("d", 0.0), mp.Array("i", 10)

local function set()
  number.value = 3.1415927
  array[1] = 7
  for i = 2, #array do array[i] = -i end
end

local p = mp.Process { target = set }
p:start()
p:join()

print("number: " .. number.value)
print("array: " .. table.concat(array:get(1, #array), " "))
print("too large: " .. select(2, pcall(function() array[1] = 2 ^ 40 end)))
