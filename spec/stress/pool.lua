-- pool.lua -- workers of a pool are killed at random instants while maps, iterations and calls run with retries: every result is right.
--   mprun spec/stress/pool.lua [SECONDS]
local mp = require "mp"

local seconds <const> = tonumber(arg[1]) or 10
local N <const> = seconds < 10 and 20000 or 100000
local CHUNKS <const> = { 1, 100, 1000 }

local function square(x) return x * x end

local function must(ok, fmt, ...)
  if ok then return end
  io.stderr:write("pool: " .. fmt:format(...) .. "\n")
  os.exit(1)
end

local pool <close> = mp.Pool(3)
local stop, victims = mp.Event(), mp.Queue()

-- Knows who the workers are by what the owner tells now and then.
local killer = mp.Process { daemon = true, start_method = "fork", target = function()
  local list
  while not stop:wait(0.003) do
    repeat
      local newer = victims:get(list and 0 or nil)
      list = newer or list
    until not newer
    os.execute(("kill -KILL %d 2>/dev/null"):format(list[math.random(#list)]))
  end
end }
killer:start()

local list = {}
for i = 1, N do list[i] = i end
local turns, start = 0, mp.now()
repeat
  victims:put(pool:pids())
  local r = pool:map(square, list, { retries = 1000, chunksize = CHUNKS[turns % 4 + 1] })
  for i = 1, N do must(r[i] == i * i, "map: item %d is %s", i, tostring(r[i])) end
  local want = 0
  for v, i in pool:imap(square, list, { retries = 1000, chunksize = 10 }) do
    want = want + 1
    must(v == want * want and i == want, "imap: item %d is %s", want, tostring(v))
    if want % 100 == 0 then victims:put(pool:pids()) end
    if want == 3000 then break end
  end
  local results = {}
  for i = 1, 1000 do results[i] = pool:apply_async(square, { i }, { retries = 1000 }) end
  for i = 1, 1000 do must(results[i]:get() == i * i, "apply: task %d", i) end
  turns = turns + 1
until mp.now() - start > seconds
stop:set()
killer:join()
local deaths = 0
for _, w in ipairs(pool:stats().workers) do deaths = deaths + w.starts - 1 end
must(deaths > 0, "nobody was killed")
print(("pool: %d turns of %d items, %d workers killed"):format(turns, N, deaths))
