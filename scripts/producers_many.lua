-- Five producers of ten items each, two consumers.
-- Who gets what is a matter of luck; that each item is consumed exactly once is not.
local mp = require "mp"

local q = mp.Queue(8)

local function produce(i)
  for k = 1, 10 do q:put(("item %d of producer %d"):format(k, i)) end
end

local function consume()
  local n, seen = 0, {}
  for item in q:items() do
    mp.sleep(0.005)
    n = n + 1
    seen[n] = item
  end
  return seen
end

local producers, consumers, total, different = {}, {}, 0, {}
for i = 1, 5 do producers[i] = mp.Process { target = produce, args = { i } } end
for i = 1, 2 do consumers[i] = mp.Process { target = consume } end
for _, p in ipairs(producers) do p:start() end
for _, p in ipairs(consumers) do p:start() end
for _, p in ipairs(producers) do p:join() end
q:close()

for i, p in ipairs(consumers) do
  local seen = p:result()
  print(("consumer %d had %d items"):format(i, #seen))
  total = total + #seen
  for _, item in ipairs(seen) do different[item] = true end
end
local n = 0
for _ in pairs(different) do n = n + 1 end
print(("%d items in all, %d different ones"):format(total, n))
