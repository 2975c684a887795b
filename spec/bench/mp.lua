-- mp.lua ROW [COUNT] -- the work of each row of the bench, by mp. Prints one number, in the unit of the row (run.lua);
-- status 3 says that this build has not got what the row needs.
local mp = require "mp"

local now = mp.now

local function missing(what)
  io.stderr:write("no ", what, "\n")
  os.exit(3)
end

local function need(...)
  for _, name in ipairs { ... } do
    local there, x = pcall(function() return mp[name] end)
    if not there or x == nil then missing("mp." .. name) end
  end
end

local function putter(q, gate, message, n)
  gate:wait()
  for _ = 1, n do q:put(message) end
end

local function getter(q, gate, n)
  gate:wait()
  for _ = 1, n do q:get() end
end

local function process(target, ...)
  local p = mp.Process { target = target, args = table.pack(...) }
  p:start()
  return p
end

local function join(list)
  for _, p in ipairs(list) do
    p:join()
    assert(p.exitcode == 0, "a process of the bench failed")
  end
end

-- What `work` takes between the opening of the gate and its end; the processes have started by then.
local function timed(gate, work)
  mp.sleep(0.05)
  local start = now()
  gate:set()
  work()
  return now() - start
end

local function queue(message, n, users, put, get, size)
  need("Queue", "Event", "Process")
  users, put, get = users or 1, put or putter, get or getter
  local q, gate, list = mp.Queue(size), mp.Event(), {}
  local took
  for _ = 1, users do list[#list + 1] = process(put, q, gate, message, n // users) end
  if users == 1 then
    took = timed(gate, function() get(q, gate, n) end)
    join(list)
  else
    for _ = 1, users do list[#list + 1] = process(get, q, gate, n // users) end
    took = timed(gate, function() join(list) end)
  end
  return took / n
end

local function put_hundreds(q, gate, message, n)
  local list = {}
  for i = 1, 100 do list[i] = message end
  gate:wait()
  for _ = 1, n, 100 do q:put_many(list) end
end

local function get_hundreds(q, gate, n)
  gate:wait()
  while n > 0 do n = n - q:get_many(100).n end
end

local function median(list)
  table.sort(list)
  return list[#list // 2 + 1]
end

-- Batches of a hundred, at most n of them or for two seconds; the median batch is what it takes while both run.
local function round_trip(n)
  need("Pipe", "Process")
  local a, b = mp.Pipe()
  local p = process(function()
    while true do
      local message = b:recv()
      if message == nil then return end
      b:send(message)
    end
  end)
  mp.sleep(0.05)
  local took, limit = {}, now() + 2
  while #took < n and now() < limit do
    local start = now()
    for i = 1, 100 do
      a:send(i)
      a:recv()
    end
    took[#took + 1] = (now() - start) / 100
  end
  a:send(nil)
  join { p }
  return median(took)
end

local function wake(n)
  need("Queue", "Process")
  local q, took = mp.Queue(), {}
  local p = process(function()
    for _ = 1, n do
      local t = now()
      while now() - t < 0.0005 do end
      q:put(now())
    end
  end)
  for i = 1, n do
    local sent = q:get()
    took[i] = now() - sent
  end
  join { p }
  return median(took)
end

local function lock(n)
  need("Lock")
  local l = mp.Lock()
  local start = now()
  for _ = 1, n do
    l:acquire()
    l:release()
  end
  return (now() - start) / n
end

local function increment(gate, v, l, n)
  gate:wait()
  for _ = 1, n do
    l:acquire()
    v.value = v.value + 1
    l:release()
  end
end

local function counter(n)
  need("Event", "Value", "Process")
  local gate, v = mp.Event(), mp.Value("q", 0)
  local list = {}
  for i = 1, 2 do list[i] = process(increment, gate, v, v:get_lock(), n // 2) end
  local took = timed(gate, function() join(list) end)
  assert(v.value == n // 2 * 2, "an increment was lost")
  return took / n
end

local function value(n)
  need("Value")
  local v, sum = mp.Value("d", 0.0), 0
  local start = now()
  for _ = 1, n do sum = sum + v.value end
  assert(sum == 0)
  return (now() - start) / n
end

local function workers(new, n, method)
  need(new)
  local function nothing() end
  local first = mp[new] { target = nothing, start_method = method } -- the first spawn starts the zygote
  first:start()
  first:join()
  local start = now()
  for _ = 1, n do
    local p = mp[new] { target = nothing, start_method = method }
    p:start()
    p:join()
  end
  return (now() - start) / n
end

local function square(x) return x * x end

local function range(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

local function pool_map(n, chunksize)
  need("Pool")
  local pool <close> = mp.Pool(2)
  pool:map(square, range(100))
  local list = range(n)
  local start = now()
  local result = pool:map(square, list, { chunksize = chunksize })
  local took = now() - start
  assert(result[n] == n * n)
  return took / n
end

local function pool_apply(n)
  need("Pool")
  local pool <close> = mp.Pool(2)
  pool:apply(square, { 3 })
  local start = now()
  for i = 1, n do pool:apply(square, { i }) end
  return (now() - start) / n
end

local function mandel_row(row)
  local inside, size = 0, 400
  for col = 0, size - 1 do
    local cr, ci, zr, zi, k = 2 * col / size - 1.5, 2 * row / size - 1, 0.0, 0.0, 0
    while k < 100 and zr * zr + zi * zi < 4 do
      zr, zi, k = zr * zr - zi * zi + cr, 2 * zr * zi + ci, k + 1
    end
    if k == 100 then inside = inside + 1 end
  end
  return inside
end

local function computing(size)
  need("Pool")
  local took, inside = {}, {}
  for n = 1, 2 do
    local pool <close> = mp.Pool(n)
    pool:map(square, range(100))
    local start, sum = now(), 0
    for _, x in ipairs(pool:map(mandel_row, range(size), { chunksize = 5 })) do sum = sum + x end
    took[n], inside[n] = now() - start, sum
  end
  assert(inside[1] == inside[2])
  return took[1] / took[2]
end

local function dict(n, use)
  need("Dict")
  local d, keys = mp.Dict(), {}
  for i = 0, 999 do
    keys[i] = ("k%03d"):format(i)
    d[keys[i]] = 1.5
  end
  local start = now()
  use(d, keys, n)
  return (now() - start) / n
end

local function manager(n)
  need("Manager")
  local m <close> = mp.Manager()
  local calls = m:list { 1, 2, 3 }
  local start, sum = now(), 0
  for _ = 1, n do sum = sum + #calls end
  assert(sum == 3 * n)
  return (now() - start) / n
end

local function private_mb(pid)
  local kb = 0
  for line in io.lines(("/proc/%d/smaps_rollup"):format(pid)) do
    kb = kb + (line:match "^Private_%a+:%s*(%d+) kB" or 0)
  end
  return kb / 1024
end

local function memory(method)
  need("Queue", "Process")
  local go = mp.Queue()
  local p = mp.Process { target = function(q) q:get() end, args = { go }, start_method = method }
  p:start()
  mp.sleep(0.2)
  local mb = private_mb(p.pid)
  go:put(1)
  join { p }
  return mb
end

local rows = {
  queue_int = { 1e9, 3000000, function(n) return queue(1, n) end },
  queue_table = { 1e9, 1000000, function(n) return queue({ id = 1, name = "food", n = 3.5 }, n) end },
  queue_1m = { 1, 1000, function(n) return 1048576e-9 / queue(("x"):rep(1048576), n, 1, putter, getter, 8) end },
  queue_4_4 = { 1e9, 800000, function(n) return queue(1, n, 4) end },
  queue_many = { 1e9, 10000000, function(n) return queue(1, n, 1, put_hundreds, get_hundreds) end },
  round_trip = { 1e6, 3000, round_trip },
  wake = { 1e6, 600, wake },
  lock = { 1e9, 4000000, lock },
  counter = { 1e9, 1000000, counter },
  value = { 1e9, 4000000, value },
  process = { 1e6, 1000, function(n) return workers("Process", n) end },
  process_spawn = { 1e6, 1000, function(n) return workers("Process", n, "spawn") end },
  thread = { 1e6, 1000, function(n) return workers("Thread", n) end },
  closure = { 1e9, 300000, function(n)
    local count, unit = 0, { name = "x" }
    return queue(function(k) count = count + k return unit.name, count end, n)
  end },
  table_3 = { 1e9, 1000000, function(n) return queue({ 1, 2, 3 }, n) end },
  table_100 = { 1e6, 100000, function(n) return queue(range(100), n) end },
  table_100k = { 1e3, 200, function(n) return queue(range(100000), n) end },
  pool_map_1 = { 1e6, 200000, function(n) return pool_map(n, 1) end },
  pool_map = { 1e9, 3000000, pool_map },
  pool_apply = { 1e6, 50000, pool_apply },
  computing = { 1, 400, computing },
  dict_set = { 1e9, 1000000, function(n)
    return dict(n, function(d, keys) for i = 1, n do d[keys[i % 1000]] = 2.5 end end)
  end },
  dict_get = { 1e9, 1000000, function(n)
    return dict(n, function(d, keys)
      local sum = 0
      for i = 1, n do sum = sum + d[keys[i % 1000]] end
      assert(sum == 1.5 * n)
    end)
  end },
  manager = { 1e6, 20000, manager },
  memory = { 1, 1, function() return memory("fork") end },
}

-- Curves (curves.lua): the third argument is where on the curve.
local x = math.tointeger(arg[3] or 1)
rows.size = { 1, 1000, function(n) return x * 1e-9 / queue(("x"):rep(x), n, 1, putter, getter, math.max(8, math.min(1000, (64 << 20) // x))) end }
rows.users = { 1e9, 400000, function(n) return queue(1, n, x) end }
rows.backlog = { 1e9, 100000, function(n)
  local q, start = mp.Queue(), now()
  for _ = 1, math.max(1, n // x) do
    for _ = 1, x do q:put(1) end
    for _ = 1, x do q:get() end
  end
  return (now() - start) / (math.max(1, n // x) * x)
end }
rows.processes = { 1e6, 1, function()
  local q, list, start = mp.Queue(), {}, now()
  for i = 1, x do list[i] = process(function() q:get() end) end
  for _ = 1, x do q:put(1) end
  join(list)
  return (now() - start) / x
end }

local row = rows[arg[1]] or missing("row " .. tostring(arg[1]))
local unit, count, f = table.unpack(row)
io.write(("%.6g\n"):format(unit * f(math.tointeger(arg[2] or count))))
