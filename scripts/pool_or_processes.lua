-- A hundred and one computations, by a pool and by as many processes.
-- A pool starts its workers once; a process for each task pays the start every time.
local mp = require "mp"

local function compute(n)
  local sum = 0
  for i = 1, 100 * n do sum = sum + i % 7 end
  return sum
end

local function by_pool(list)
  local pool <close> = mp.Pool(mp.cpu_count())
  return pool:map(compute, list)
end

local function by_processes(list)
  local all, results = {}, {}
  for i, n in ipairs(list) do
    all[i] = mp.Process { target = compute, args = { n } }
    all[i]:start()
  end
  for i, p in ipairs(all) do results[i] = p:result() end
  return results
end

local list = {}
for i = 0, 100 do list[i + 1] = i end

local function timed(title, how)
  local start, sum = mp.now(), 0
  for _, x in ipairs(how(list)) do sum = sum + x end
  print(("%s: sum %d, %.3f s"):format(title, sum, mp.now() - start))
end

timed("pool", by_pool)
timed("processes", by_processes)
