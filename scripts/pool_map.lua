-- A pool of five workers squares ten numbers.
-- The results come in the order of the numbers, whoever computed them.
local mp = require "mp"

local function square(x)
  mp.sleep(0.05)
  return x * x
end

local pool <close> = mp.Pool(5)
local start = mp.now()
print(table.concat(pool:map(square, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, 1), " "))
print(("after %.2f s; one after the other they would take %.2f s"):format(mp.now() - start, 10 * 0.05))
