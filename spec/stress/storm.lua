-- storm.lua -- kills at random instants, and a model that knows what the survivors must see.
--   mprun spec/stress/storm.lua [SECONDS] [SEED]
-- Each round takes one kind of object, starts processes that use it, kills some of them by SIGKILL, and checks. Prints the seed first, one line
-- a kind at the end, and ends with status 1 at the first thing that is not as it must be.
local mp = require "mp"

local seconds = tonumber(arg[1]) or 10
local seed = tonumber(arg[2]) or os.time() * 1000003 % (1 << 31)
math.randomseed(seed)
print(("storm: seed %d, %g seconds"):format(seed, seconds))
io.stdout:setvbuf "line"

local kills, rounds = {}, {}
local kind -- of this round
local patience = 30 -- seconds after which something hangs

local function fail(fmt, ...)
  io.stderr:write(("storm: %s, seed %d: %s\n"):format(kind, seed, fmt:format(...)))
  os.exit(1)
end

local function must(ok, fmt, ...) if not ok then fail(fmt, ...) end end

local function start(f, ...)
  local p = mp.Process { target = function(...)
    math.randomseed(mp.getpid()) -- the parent's sequence would be everybody's
    return f(...)
  end, args = table.pack(...), start_method = "fork", daemon = true }
  p:start()
  return p
end

local function nap(most) mp.sleep(math.random() * most) end

-- Kills p after a random time; it may have ended by itself.
local function kill(p, most)
  nap(most or 0.004)
  p:kill()
  must(p:join(patience), "a killed process does not end")
  if p.exitcode == -9 then kills[kind] = (kills[kind] or 0) + 1 end
  return p.exitcode == -9
end

local function finish(p, what)
  must(p:join(patience), "%s hangs", what)
  must(p.exitcode == 0, "%s ended with %s", what, p.exitcode)
end

local storms = {}

-- What a putter said it has put is got once, in its order, but for one message in the hands of each getter killed.
local function queue_storm(options)
  local N, MOST = 3, 20000
  local q = mp.Queue(options)
  local put, seen, stop = mp.Array("q", N), mp.Array("B", N * MOST), mp.Event()
  local function putter(i)
    local s = put[i]
    while s < MOST and not stop:is_set() do
      must(q:put({ i, s + 1, ("x"):rep(s % 50), s + 1 }, patience), "a put times out")
      s = s + 1
      put[i] = s
    end
  end
  local function getter()
    local last = {}
    for v in q:items(patience) do
      must(type(v) == "table" and v[2] == v[4] and #v[3] == (v[2] - 1) % 50, "a torn message")
      if not options.redeliver then must(v[2] > (last[v[1]] or 0), "%d after %d of putter %d", v[2], last[v[1]] or 0, v[1]) end
      last[v[1]] = v[2]
      seen:add((v[1] - 1) * MOST + v[2], 1)
      if options.redeliver then q:task_done() end
    end
  end
  local putters, getters, dead = {}, {}, 0
  for i = 1, N do putters[i], getters[i] = start(putter, i), start(getter) end
  for _ = 1, math.random(1, 6) do
    local i = math.random(N)
    if math.random(2) == 1 then
      if kill(getters[i]) then dead = dead + 1 end
      getters[i] = start(getter)
    elseif kill(putters[i]) then
      -- It may have put one message that it had no time to count: the successor does not know and puts it again.
      put[i] = put[i] + 1
      putters[i] = start(putter, i)
    end
  end
  stop:set()
  for i = 1, N do finish(putters[i], "a putter") end
  q:close()
  for i = 1, N do finish(getters[i], "a getter") end
  local missing = 0
  for i = 1, N do
    for s = 1, put[i] do
      local n = seen[(i - 1) * MOST + s]
      if n == 0 then missing = missing + 1 end
      if not options.redeliver then must(n <= 1, "message %d of putter %d came %d times", s, i, n) end
    end
  end
  local uncounted = kills[kind] or 0 -- numbers skipped for putters killed before they put them
  must(missing <= dead + uncounted, "%d messages are missing, %d getters were killed", missing, dead)
  if options.redeliver then must(q:join(patience), "not everything was settled") end
end

storms["queue"] = function() queue_storm { maxsize = math.random(0, 5) * 10 } end
storms["queue, redelivering"] = function() queue_storm { redeliver = true, maxsize = 50 } end

storms["pipe"] = function()
  local r, w = mp.Pipe(false)
  for _ = 1, 5 do
    local p = start(function()
      local n = 0
      while true do
        n = n + 1
        w:send { n, ("p"):rep(n * 37 % 3000), n }
      end
    end)
    local readers = {}
    for i = 1, 2 do
      readers[i] = start(function()
        while true do
          local v = r:recv()
          must(v[1] == v[3] and #v[2] == v[1] * 37 % 3000, "a torn message")
        end
      end)
    end
    kill(readers[1])
    kill(p)
    kill(readers[2])
    while r:poll() do
      local v = r:recv()
      must(v[1] == v[3] and #v[2] == v[1] * 37 % 3000, "a torn message")
    end
  end
  w:close()
  local _, why = r:recv(patience)
  must(why == "eof", "no eof after the last sender's death, but %s", why)
end

storms["lock"] = function()
  local l, a = math.random(2) == 1 and mp.Lock() or mp.RLock(), mp.Array("q", 2)
  local function worker(n)
    for _ = 1, n do
      local ok, how = l:acquire(patience)
      must(ok, "acquire times out")
      if how == "abandoned" then a[2] = a[1] end -- the dead may have been between the two
      must(a[1] == a[2], "%d and %d under the lock", a[1], a[2])
      a[1] = a[1] + 1
      a[2] = a[2] + 1
      l:release()
    end
  end
  local ps = {}
  for i = 1, 4 do ps[i] = start(worker, i <= 2 and math.huge or 3000) end
  kill(ps[1])
  kill(ps[2])
  finish(ps[3], "a holder")
  finish(ps[4], "a holder")
  must(l:acquire(patience), "the lock is lost")
  l:release()
end

storms["semaphore"] = function()
  local n = math.random(1, 4)
  local s = mp.Semaphore { n, owned = true }
  local function worker(turns)
    for _ = 1, turns do
      must(s:acquire(patience), "acquire times out")
      if math.random(10) == 1 then nap(0.0005) end
      s:release()
    end
  end
  local ps = {}
  for i = 1, 6 do ps[i] = start(worker, i <= 3 and math.huge or 200) end
  for i = 1, 3 do kill(ps[i]) end
  for i = 4, 6 do finish(ps[i], "a worker") end
  must(s:value() == n, "%d permits of %d are back", s:value(), n)
end

storms["condition"] = function()
  local c, turns, done = mp.Condition(), mp.Value("q", 0), mp.Value("?", false)
  local function waiter()
    c:acquire()
    while not done.value do
      c:wait(patience)
      turns:add(1)
    end
    c:release()
  end
  local ps = {}
  for i = 1, 5 do ps[i] = start(waiter) end
  local notifier = start(function()
    for _ = 1, 500 do c:with(function() c:notify(math.random(3)) end) end
  end)
  kill(ps[1])
  kill(ps[2])
  kill(notifier)
  c:with(function() done.value = true c:notify_all() end)
  for i = 3, 5 do finish(ps[i], "a waiter") end
end

storms["event"] = function()
  local e = mp.Event()
  local ps, setter = {}, start(function() while true do e:set() e:clear() end end)
  for i = 1, 3 do ps[i] = start(function() for _ = 1, 20 do must(e:wait(patience), "nobody sets") end end) end
  kill(ps[1])
  kill(setter)
  e:set()
  finish(ps[2], "a waiter")
  finish(ps[3], "a waiter")
end

storms["barrier"] = function()
  local b = mp.Barrier(3)
  local function party() return b:wait(patience) end
  local ps = { start(party), start(party) }
  local died = kill(ps[1], 0.01)
  local rank, why = b:wait(died and 0.5 or patience)
  if rank then must(rank >= 1 and rank <= 3, "rank %s", rank) else must(why == "broken" or why == "timeout", "%s", why) end
  must(ps[2]:join(patience), "a party hangs")
  b:reset()
  local again = { start(party), start(party) }
  must(b:wait(patience), "a barrier that was reset does not work")
  for _, p in ipairs(again) do finish(p, "a party") end
end

storms["value"] = function()
  local v, own = mp.Value("q", 0), mp.Array("q", 4)
  local ps = {}
  for i = 1, 4 do
    ps[i] = start(function()
      for _ = 1, i <= 2 and math.huge or 5000 do
        v:add(1)
        own:add(i, 1)
      end
    end)
  end
  local dead = 0
  for i = 1, 2 do if kill(ps[i]) then dead = dead + 1 end end
  for i = 3, 4 do finish(ps[i], "an adder") end
  local sum = 0
  for i = 1, 4 do sum = sum + own[i] end
  must(v.value >= sum and v.value <= sum + dead, "%d counted, %d in all", v.value, sum)
end

storms["dict"] = function()
  local d, own = mp.Dict(), mp.Array("q", 4)
  local ps = {}
  for i = 1, 4 do
    ps[i] = start(function()
      for n = 1, i <= 2 and math.huge or 2000 do -- the victims go on until they are killed
        d:incr("count")
        own:add(i, 1)
        d[i * 1000 + n % 100] = { i, ("v"):rep(n % 200), n, n }
        if n % 7 == 0 then d:pop(i * 1000 + math.random(100)) end
      end
    end)
  end
  local dead = 0
  for i = 1, 2 do if kill(ps[i], 0.02) then dead = dead + 1 end end
  for _, v in pairs(d) do
    if type(v) == "table" then must(v[3] == v[4] and #v[2] == v[3] % 200, "a torn value") end
  end
  for i = 3, 4 do finish(ps[i], "a writer") end
  local sum = 0
  for i = 1, 4 do sum = sum + own[i] end
  local count = d:get("count", 0)
  must(count >= sum and count <= sum + dead, "%d counted, %d in the dict", sum, count)
  local n = 0
  for _ in pairs(d) do n = n + 1 end
  must(n == #d, "%d pairs in a dict of %d", n, #d)
end

storms["list"] = function()
  local l, own = mp.List(), mp.Array("q", 3)
  local ps = {}
  for i = 1, 3 do
    ps[i] = start(function()
      for n = 1, i <= 2 and math.huge or 1000 do
        if n % 3 == 0 then l:insert(1, { i, n, n }) else l:append { i, n, n } end
        own:add(i, 1)
        if n % 10 == 0 then
          l:pop()
          own:add(i, -1)
        end
      end
    end)
  end
  local dead = 0
  for i = 1, 2 do if kill(ps[i], 0.02) then dead = dead + 1 end end
  finish(ps[3], "a writer")
  local sum = own[1] + own[2] + own[3]
  must(math.abs(#l - sum) <= dead, "%d elements, %d counted", #l, sum)
  for _, v in ipairs(l) do must(v[2] == v[3], "a torn element") end
end

storms["handles"] = function()
  local q, MOST = mp.Queue(), 60
  local p = start(function()
    for i = 1, 10000 do
      local inner = mp.Queue(1)
      inner:put(i)
      q:put(inner)
    end
  end)
  local g = start(function() for inner in q:items() do must(inner:get_nowait(), "an empty gift") end end)
  kill(g, 0.01)
  kill(p, 0.01)
  for _ = 1, MOST do
    local inner = q:get_nowait()
    if not inner then break end
    must(inner:get_nowait(), "a foreign queue arrived")
  end
end

local function count_fds()
  local f = assert(io.popen("sleep 0.05; ls /proc/" .. mp.getpid() .. "/fd | wc -l"))
  local n = f:read("n")
  f:close()
  return n
end

local names = {}
for name in pairs(storms) do names[#names + 1] = name end
table.sort(names)
collectgarbage()
local before
local deadline = mp.now() + seconds
local round = 0
repeat
  round = round + 1
  kind = names[(round - 1) % #names + 1]
  rounds[kind] = (rounds[kind] or 0) + 1
  local k = kills[kind]
  kills[kind] = 0
  storms[kind]()
  kills[kind] = (k or 0) + kills[kind]
  collectgarbage()
  collectgarbage()
  if round == #names then before = count_fds() end
until mp.now() >= deadline and round >= #names

kind = "the end"
must(#mp.active_children() == 0, "%d children are left", #mp.active_children())
must(count_fds() <= before + 2, "%d descriptors, %d after the first rounds", count_fds(), before)
local total = 0
for _, name in ipairs(names) do
  print(("%-22s %5d rounds %6d kills"):format(name, rounds[name] or 0, kills[name] or 0))
  total = total + (kills[name] or 0)
end
print(("storm: clean, %d kills"):format(total))
