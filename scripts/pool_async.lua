-- Results of a pool that are collected later by `get`; and `apply`, which waits for each.
-- Each apply_async gives a receipt at once, so that all workers have something to do.
local mp = require "mp"

local function double(x)
  mp.sleep(0.1)
  return 2 * x
end

local pool <close> = mp.Pool(3)
local receipts, results = {}, {}

local start = mp.now()
for i = 1, 6 do receipts[i] = pool:apply_async(double, { i }) end
print("ready at once: " .. tostring(receipts[6]:ready()))
for i, r in ipairs(receipts) do results[i] = r:get() end
print(("collected: %s (after %.1f s)"):format(table.concat(results, " "), mp.now() - start))

start = mp.now()
for i = 1, 6 do results[i] = pool:apply(double, { i }) end
print(("one by one: %s (after %.1f s)"):format(table.concat(results, " "), mp.now() - start))

print("an error comes with get: " .. select(2, pcall(function()
  return pool:apply_async(function() error("no such number", 0) end):get()
end)).message)
