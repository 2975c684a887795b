-- Pools: contract in docs/reference/pool.md.
local mp = require "mp"
local run = require "spec.support.run"

local slow <const> = run.slow

local function square(x) return x * x end
local function nap(x) mp.sleep(x) return x end

local function numbers(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

local function failing(kind, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert(mp.is_error(e, kind), "not an mp.Error of kind " .. kind .. ": " .. tostring(e))
  return e
end

local function misuse(words, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert.equal("string", type(e))
  for _, word in ipairs(words) do assert(e:find(word, 1, true), ("%q is not in %q"):format(word, e)) end
end

describe("a pool", function()
  it("applies a function and gives all its results", function()
    local pool <close> = mp.Pool(2)
    assert.same({ 3, "x", n = 2 }, table.pack(pool:apply(function(a, b) return a + b, "x" end, { 1, 2 })))
    assert.same({ n = 0 }, table.pack(pool:apply(function() end)))
    assert.same({ nil, nil, 3, n = 3 }, table.pack(pool:apply(function(...) return ... end, { nil, nil, 3, n = 3 })))
    assert.same({ nil, n = 1 }, table.pack(pool:apply(function() return nil end)))
    assert.equal(2, pool:apply(select, { 2, 1, 2 }))
  end)

  it("runs tasks in other processes, as many as were asked for", function()
    local pool <close> = mp.Pool(3)
    assert.equal(3, pool.processes)
    local pids = pool:pids()
    assert.equal(3, #pids)
    local known = {}
    for _, pid in ipairs(pids) do known[pid] = true end
    assert.is_nil(known[mp.getpid()])
    assert.is_true(known[pool:apply(mp.getpid)])
    local default <close> = mp.Pool()
    assert.equal(mp.cpu_count(), default.processes)
  end)

  it("maps a list in order, whatever the chunks", function()
    local pool <close> = mp.Pool(2)
    local list = numbers(1000)
    for _, o in ipairs { {}, 1, 7, 1000, 5000, { chunksize = 13 }, { timeout = 30 } } do
      local r = pool:map(square, list, o)
      assert.equal(1000, r.n)
      for i = 1, 1000 do assert.equal(i * i, r[i]) end
    end
    assert.same({ n = 0 }, pool:map(square, {}))
  end)

  it("takes whole numbers of either type, and shared lists", function()
    local pool <close> = mp.Pool(2.0)
    assert.same({ 1, 4, 9, n = 3 }, pool:map(square, mp.List { 1, 2, 3 }, { chunksize = 2.0, retries = 1.0 }))
    assert.same({ 16, 25, n = 2 }, pool:map(square, mp.Array("i", { 4, 5 }), 2 ^ 40))
    local sum = 0
    for v in pool:imap(square, mp.List { 1, 2, 3 }) do sum = sum + v end
    assert.equal(14, sum)
  end)

  it("keeps nil arguments and nil results in their places", function()
    local pool <close> = mp.Pool(2)
    local r = pool:map(function(x) if x ~= 2 then return x end end, { 1, 2, 3, nil, n = 5 })
    assert.same({ 1, nil, 3, nil, nil, n = 5 }, r)
    r = pool:starmap(function(a, b) return b and a + b end, { { 1, 2 }, { n = 2 }, { 3, 4, n = 2 } }, 2)
    assert.same({ 3, nil, 7, n = 3 }, r)
  end)

  it("gives the results of the asynchronous forms when they are asked for", function()
    local pool <close> = mp.Pool(2)
    local a = pool:apply_async(square, { 7 })
    local m = pool:map_async(square, numbers(100))
    local s = pool:starmap_async(function(x, y) return x .. y end, { { "a", "b" }, { "c", "d" } })
    assert.same({ "ab", "cd", n = 2 }, s:get())
    assert.equal(100 * 100, m:get()[100])
    assert.equal(49, a:get())
    assert.equal(49, a:get())
    assert.is_true(a:ready())
    assert.is_true(a:successful())
    assert.is_true(a:wait())
    assert.equal("mp.AsyncResult ready ", tostring(a):sub(1, 21))
  end)

  it("says timeout when a result is not there in time, and has it later", function()
    local pool <close> = mp.Pool(1)
    local r = pool:apply_async(nap, { 0.2 })
    assert.same({ nil, "timeout", n = 2 }, table.pack(r:get(0.01)))
    assert.same({ nil, "timeout", n = 2 }, table.pack(r:get(0)))
    assert.same({ nil, "timeout", n = 2 }, table.pack(r:wait(-1)))
    assert.is_false(r:ready())
    misuse({ "successful", "not ready" }, r.successful, r)
    assert.equal(0.2, r:get(10 * slow))
  end)

  it("sends closures, with their upvalues as they are at each call", function()
    local pool <close> = mp.Pool(2)
    local factor = 2
    local function f(x) return factor * x end
    assert.same({ 2, 4, n = 2 }, pool:map(f, { 1, 2 }))
    factor = 10
    assert.same({ 10, 20, n = 2 }, pool:map(f, { 1, 2 }))
    local big = ("x"):rep(100000)
    assert.same({ 100001, 100002, n = 2 }, pool:map(function(x) return #big + x end, { 1, 2 }, 1))
  end)

  it("tells functions apart that differ in a shared object only", function()
    local pool <close> = mp.Pool(2)
    local function putter(q) return function(x) q:put(x) end end
    local a, b = mp.Queue(), mp.Queue()
    pool:map(putter(a), { 1, 2, 3 }, 1)
    pool:map(putter(b), { 4, 5 }, 1)
    assert.equal(3, a:qsize())
    assert.equal(2, b:qsize())
    pool:apply(function(q) q:put("argument") end, { a })
    assert.equal(4, a:qsize())
  end)

  it("survives more functions than a worker keeps", function()
    local pool <close> = mp.Pool(1)
    for i = 1, 600 do assert.equal(i + 1, pool:apply(function(x) return x + i end, { 1 })) end
  end)

  it("raises a task's error with its value, place and traceback", function()
    local pool <close> = mp.Pool(2)
    local function culprit() error { code = 7 } end
    local e = failing("error", pool.apply, pool, culprit)
    assert.equal(7, e.value.code)
    assert(e.traceback:find("pool_spec.lua", 1, true))
    assert.equal("PoolWorker", e.name:sub(1, 10))
    e = failing("error", pool.map, pool, function(x) if x == 50 then error("bad " .. x) end return x end, numbers(100))
    assert(tostring(e):find("bad 50", 1, true))
    assert.equal(9, pool:apply(square, { 3 }))
    local r = pool:apply_async(error, { "no" })
    failing("error", r.get, r)
    failing("error", r.get, r)
    assert.is_false(r:successful())
  end)

  it("calls back in the owner, inside its calls", function()
    local pool <close> = mp.Pool(2)
    local got, failed, pid = {}, nil, nil
    local r = pool:apply_async(function(a) return a, 2 end, { 1 }, { callback = function(a, b) got = { a, b } pid = mp.getpid() end })
    r:wait()
    assert.same({ 1, 2 }, got)
    assert.equal(mp.getpid(), pid)
    pool:apply_async(error, { "boo" }, { error_callback = function(e) failed = e end }):wait()
    assert(mp.is_error(failed, "error"))
    local sum = 0
    pool:map_async(square, { 1, 2, 3 }, { callback = function(list) for i = 1, list.n do sum = sum + list[i] end end }):wait()
    assert.equal(14, sum)
  end)

  it("lets a callback use the pool", function()
    local pool <close> = mp.Pool(2)
    local inner
    pool:apply_async(square, { 2 }, { callback = function(x) inner = pool:apply(square, { x }) end }):wait()
    assert.equal(16, inner)
  end)

  it("refuses misuse at the caller's line, by name", function()
    local pool <close> = mp.Pool(1)
    misuse({ "pool_spec.lua", "Pool", "unknown option 'proceses'" }, mp.Pool, { proceses = 2 })
    misuse({ "Pool", "processes" }, mp.Pool, 0)
    misuse({ "Pool", "kind" }, mp.Pool, { kind = "fibre" })
    misuse({ "pool_spec.lua", "Pool", "unknown key 'memroy'" }, mp.Pool, { processes = 2, limits = { memroy = "1M" } })
    misuse({ "apply", "function" }, pool.apply, pool, 7)
    misuse({ "apply_async", "arguments" }, pool.apply_async, pool, square, 7)
    misuse({ "map", "list" }, pool.map, pool, square, 7)
    misuse({ "pool_spec.lua", "map", "a list expected, got mp.Queue" }, pool.map, pool, square, mp.Queue())
    misuse({ "map", "unknown option 'chunk'" }, pool.map, pool, square, {}, { chunk = 1 })
    misuse({ "map", "chunksize" }, pool.map, pool, square, {}, 0)
    misuse({ "starmap", "[2]" }, pool.starmap, pool, square, { {}, 2 })
    misuse({ "imap", "list" }, pool.imap, pool, square, 7)
    misuse({ "join", "open" }, pool.join, pool)
    misuse({ "no field 'foo'" }, function() return pool.foo end)
    misuse({ "no field 'foo'" }, function() return pool:apply_async(square, { 1 }).foo end)
    misuse({ "no field 'foo'" }, function() return pool:imap(square, { 1 }).foo end)
    failing("encode", pool.apply, pool, coroutine.wrap(function() end))
    failing("encode", pool.apply, pool, square, { coroutine.create(square) })
    failing("encode", pool.map, pool, square, { 1, { print, coroutine.create(square) } })
    for _, chunk in ipairs { 1, 2, 5 } do
      local e = failing("encode", pool.map, pool, square, { 1, 2, 3, { x = coroutine.create(square) }, 5 }, chunk)
      assert.equal("list[4].x", e.path)
      assert(e.message:find("list[4].x: a coroutine", 1, true))
    end
    failing("encode", function() mp.Queue():put(pool) end)
    failing("encode", function() mp.Queue():put(pool:apply_async(square, { 1 })) end)
    assert.equal(4, pool:apply(square, { 2 }))
    assert.equal("mp.Pool 1 workers running ", tostring(pool):sub(1, 26))
  end)

  it("drains when closed and joined, drops when terminated", function()
    local pool = mp.Pool(2)
    local q = mp.Queue()
    for i = 1, 20 do pool:apply_async(function(x) mp.sleep(0.005) q:put(x) end, { i }) end
    assert.is_true(pool:close())
    assert.is_true(pool:close())
    misuse({ "apply", "closed" }, pool.apply, pool, square, { 1 })
    assert.is_true(pool:join())
    assert.equal(20, q:qsize())
    assert.same({}, pool:pids())
    assert.is_true(pool:join())

    pool = mp.Pool(2)
    local r = pool:apply_async(nap, { 60 })
    local start = mp.now()
    pool:terminate()
    assert.is_true(pool:join())
    assert(mp.now() - start < 20)
    assert.same({ nil, "cancelled", n = 2 }, table.pack(r:get()))
  end)

  it("says timeout when joined for too short a time", function()
    local pool <close> = mp.Pool(1)
    pool:apply_async(nap, { 0.3 })
    pool:close()
    assert.same({ nil, "timeout", n = 2 }, table.pack(pool:join(0.01)))
    assert.is_true(pool:join(20 * slow))
  end)

  it("is terminated when its scope is left by an error, closed and joined otherwise", function()
    local q, start = mp.Queue(), mp.now()
    pcall(function()
      local pool <close> = mp.Pool(1)
      pool:apply_async(nap, { 60 })
      error "out"
    end)
    assert(mp.now() - start < 20)
    do
      local pool <close> = mp.Pool(1)
      pool:apply_async(function() mp.sleep(0.1) q:put "done" end)
    end
    assert.equal(1, q:qsize())
  end)

  it("goes on while its owner computes", function()
    local pool <close> = mp.Pool(2)
    local q = mp.Queue()
    for i = 1, 100 do pool:apply_async(function(x) q:put(x) end, { i }) end
    -- no call of the pool from here on
    assert.is_true(run.wait_until(function() return q:qsize() == 100 end, 20))
  end)

  it("keeps what was submitted when its workers die while its owner is elsewhere, and goes on at the next call", function()
    local pool <close> = mp.Pool(2)
    local busy, results = mp.Queue(), {}
    for i = 1, 50 do
      results[i] = pool:apply_async(function(x) if x <= 2 then busy:put(mp.getpid()) mp.sleep(60) end return x end, { i })
    end
    local function gone(pid) -- dead, and not reaped: its owner is elsewhere
      local f <close> = io.open("/proc/" .. pid .. "/stat")
      return not f or f:read "a":match "^%d+ %b() [ZX]" ~= nil
    end
    for _ = 1, 2 do -- each has one in hand
      local pid = busy:get(20 * slow)
      os.execute("kill -KILL " .. pid)
      assert.is_true(run.wait_until(function() return gone(pid) end, 20))
    end
    for i = 1, 50 do
      if i <= 2 then failing("died", results[i].get, results[i]) else assert.equal(i, results[i]:get(20 * slow)) end
    end
  end)

  it("may be used inside a worker", function()
    local pool <close> = mp.Pool(2)
    local r = pool:map(function(n)
      local inner <close> = mp.Pool(2)
      local sum = 0
      for _, x in ipairs(inner:map(function(x) return x * n end, { 1, 2, 3 })) do sum = sum + x end
      return sum
    end, { 1, 10 })
    assert.same({ 6, 60, n = 2 }, r)
  end)

  it("belongs to the process that made it", function()
    local pool <close> = mp.Pool(1)
    local p = mp.Process { target = function() return select(2, pcall(pool.apply, pool, square, { 1 })) end, start_method = "fork" }
    p:start()
    assert(p:result():find("belongs to process", 1, true))
    assert.equal(1, pool:apply(square, { 1 }))
  end)

  it("takes a hundred thousand calls without losing one", function()
    local pool <close> = mp.Pool(2)
    local n = run.mode == "release" and 100000 or 5000
    local results = {}
    for i = 1, n do results[i] = pool:apply_async(square, { i }) end
    for i = 1, n do if results[i]:get() ~= i * i then error("result " .. i) end end
  end)

  it("parts lists whose handles do not fit one message, where the size of chunks is its own choice", function()
    local pool <close> = mp.Pool(2)
    local n <const> = 1000
    local events = {}
    for i = 1, n do events[i] = mp.Event() end
    for i = 1, n, 7 do events[i]:set() end
    local function is_set(e) return e:is_set() end
    for _ = 1, 2 do -- the second time the pool knows how little it takes
      local r = pool:map(is_set, events)
      for i = 1, n do assert.equal(i % 7 == 1, r[i]) end
    end
    assert.equal(n, pool:map_async(is_set, events):get(20 * slow).n)
    local function made(i) -- a hole now and then
      if i % 3 == 0 then return nil end
      local e = require "mp".Event()
      if i % 2 == 0 then e:set() end
      return e
    end
    local r = pool:map_async(made, numbers(n)):get(20 * slow)
    for i = 1, n do
      if i % 3 == 0 then assert.is_nil(r[i]) else assert.equal(i % 2 == 0, r[i]:is_set()) end
    end
    local all = numbers(400)
    local it <close> = pool:imap(made, all, 400)
    for i in ipairs(all) do
      local e, at = it:next()
      assert.equal(i, at)
      assert.equal(i % 3 == 0, e == nil)
    end
  end)

  it("refuses what needs more descriptors than one message takes, at the call", function()
    local pool <close> = mp.Pool(2)
    local events = {}
    for i = 1, 200 do events[i] = mp.Event() end
    local function f(x) return x end
    local function made() -- in a worker
      local list = {}
      for i = 1, 200 do list[i] = require "mp".Event() end
      return list
    end
    local function holds() return #events end
    for _, e in ipairs {
      failing("encode", pool.apply, pool, f, { events }), failing("encode", pool.apply_async, pool, f, { events }),
      failing("encode", pool.map, pool, f, { 1, events }), failing("encode", pool.map, pool, f, events, 200),
      failing("encode", pool.imap, pool, f, events, 200), failing("encode", pool.starmap, pool, f, { { events } }),
      failing("encode", pool.apply, pool, holds), failing("encode", pool.map, pool, holds, { 1 }),
      failing("encode", pool.apply, pool, made), failing("encode", pool.map, pool, made, { 1, 2, 3 }),
    } do
      assert(e.message:find("250", 1, true) and e.message:find("descriptors", 1, true), e.message)
    end
    assert.equal(49, pool:apply(square, { 7 }))
  end)

  it("takes part in mp.wait", function()
    local pool <close> = mp.Pool(2)
    local a, b = pool:apply_async(nap, { 0.05 }), pool:apply_async(nap, { 30 })
    assert.same({}, mp.wait({ b }, 0))
    local ready = mp.wait({ a, b }, 20 * slow)
    assert.equal(1, #ready)
    assert.equal(a, ready[1])
    assert.is_true(b:cancel())
    assert.equal(2, #mp.wait({ a, b }, 20 * slow))
    local victim = pool:apply_async(function() os.execute("kill -9 " .. mp.getpid()) mp.sleep(20) end)
    assert.equal(1, #mp.wait({ victim }, 20 * slow))
    failing("died", victim.get, victim)
  end)

  it("gives its descriptors back when its scope is left, and is closed then", function()
    local listing = run.tmpdir() .. "/list"
    local function descriptors()
      os.execute("ls /proc/" .. mp.getpid() .. "/fd | wc -l >" .. listing) -- io.popen has an end of its pipe open for a moment, or not
      return tonumber(run.read(listing))
    end
    local kept, result
    do local pool <close> = mp.Pool(1) pool:apply(square, { 1 }) end -- what is made once is made now
    collectgarbage() -- what earlier cases left is not to go in the middle of this one
    collectgarbage()
    collectgarbage "stop"
    local before = descriptors()
    for _ = 1, 5 do -- more than the few that may go meanwhile: of children that earlier cases dropped, reaped only now
      local pool <close> = mp.Pool(3)
      kept, result = pool, pool:apply_async(square, { 5 })
    end
    local after = descriptors()
    collectgarbage "restart"
    assert(after <= before, ("%d descriptors, %d before"):format(after, before))
    assert.equal(25, result:get())
    assert.same({}, kept:pids())
    assert.is_true(kept:join())
    misuse({ "apply", "closed" }, kept.apply, kept, square, { 1 })
    misuse({ "stats", "closed" }, kept.stats, kept)
  end)

  it("takes part in mp.wait with more results than descriptors may be open", function()
    local dir = run.tmpdir()
    run.write(dir .. "/many.lua", [[
      local mp = require "mp"
      local pools, list = {}, {}
      for i = 1, tonumber(arg[1]) do pools[i] = mp.Pool(1) end
      for i = 1, 100 do
        list[i] = pools[i % #pools + 1]:apply_async(function(s) mp.sleep(s) return "done" end, { i <= #pools and 0.5 or 0 })
      end
      print(#mp.wait(list, 0.1), #mp.wait(list, 60) > 0, list[100]:get())
    ]])
    -- Two pools by turns have two hundred entries, for which the soft limit is raised; one pool has two, and there the hard one is 64, too.
    for pools, limit in ipairs { "ulimit -n 64", "ulimit -S -n 64" } do
      local r = run.command({ "sh", "-c", ("%s && exec %s %s/many.lua %d"):format(limit, run.quote(run.path), dir, pools) }, { timeout = 60 })
      assert.equal("", r.err)
      assert.equal("0\ttrue\tdone\n", r.out)
    end
  end)

  it("takes part in mp.wait while its workers are killed and start anew", function()
    local tries = mp.Value("i", 0)
    local pool <close> = mp.Pool { processes = 1, initializer = function() if tries:add(1) == 2 then os.exit(1) end end }
    local r = pool:apply_async(function() if tries.value == 1 then os.execute("kill -9 " .. mp.getpid()) mp.sleep(30) end return "at last" end, {},
      { retries = 1 })
    assert.equal(r, mp.wait({ r }, 20 * slow)[1])
    assert.equal("at last", r:get())
  end)

  it("retires workers after so many tasks", function()
    local pool <close> = mp.Pool { processes = 1, maxtasksperchild = 3 }
    local pids, count = {}, 0
    for _ = 1, 12 do
      local pid = pool:apply(mp.getpid)
      if not pids[pid] then count = count + 1 end
      pids[pid] = (pids[pid] or 0) + 1
    end
    assert.equal(4, count)
    for _, n in pairs(pids) do assert.equal(3, n) end
  end)

  it("runs the initializer in each worker first", function()
    local pool <close> = mp.Pool { processes = 2, initializer = function(a, b) _G.pool_spec_base = a + b end, initargs = { 40, 2 } }
    for _, v in ipairs(pool:map(function() return _G.pool_spec_base end, numbers(20), 1)) do assert.equal(42, v) end
  end)

  it("fails with the initializer's own message", function()
    local pool = mp.Pool { processes = 2, initializer = function() error "no licence" end }
    local e = failing("error", pool.apply, pool, square, { 1 })
    assert(e.message:find("no licence", 1, true))
    failing("error", pool.map, pool, square, { 1 })
    assert.is_true(pool:close())
    assert.is_true(pool:join(20 * slow))
    local other <close> = mp.Pool { processes = 1, initializer = function() error "no licence" end }
    failing("error", function() for _ in other:imap(square, { 1, 2 }) do end end)
  end)

  it("tells what its workers did", function()
    local pool <close> = mp.Pool(2)
    pool:map(nap, { 0.01, 0.02, 0.001, 0.03 }, 1)
    local s = pool:stats()
    assert.equal(2, #s.workers)
    assert.equal(4, s.workers[1].tasks + s.workers[2].tasks)
    assert(s.workers[1].work + s.workers[2].work > 0.05)
    assert(s.slowest[1].seconds >= 0.03)
    assert(s.slowest[1].seconds >= s.slowest[2].seconds)
    assert.equal(s.workers[1].start ~= nil or s.workers[2].start ~= nil, true)
  end)

  it("draws a bar on a terminal only, and leaves one line elsewhere", function()
    local r = run.script [[
      local mp = require "mp"
      local pool <close> = mp.Pool(2)
      pool:map(function(x) return x end, { 1, 2, 3, 4, 5 }, { progress = true, chunksize = 1 })
    ]]
    assert.equal(0, r.status)
    assert(r.err:match "^5/5 tasks in [%d.]+s, [%d.e+]+/s\n$", r.err)
  end)

  if os.execute "command -v script >/dev/null" then
    it("draws no line that a terminal's width would break, however narrow", function()
      local program = run.tmpdir() .. "/bar.lua"
      run.write(program, [[
        local mp = require "mp"
        local pool <close> = mp.Pool(2)
        local list = {}
        for i = 1, 8 do list[i] = i end
        pool:map(function() mp.sleep(0.15) end, list, { progress = true, chunksize = 1 })
      ]])
      for columns, bar in pairs { [20] = false, [60] = true, [200] = true } do
        local r = run.command { "script", "-qec", ("stty cols %d; %s %s"):format(columns, run.quote(run.path), run.quote(program)), "/dev/null" }
        assert.equal(0, r.status, r.both)
        local drawn = 0
        for line in r.out:gmatch "\r([^\r\n]*)\27%[K" do
          assert(#line < columns, line)
          if line ~= "" then drawn = drawn + 1 end
          if bar and line ~= "" then assert.matches("^%[#*%.*%] %d/8  ", line) end
        end
        assert(drawn > 0, r.out)
      end
    end)
  end
end)

describe("imap", function()
  it("gives results in order, over lists and over iterator functions", function()
    local pool <close> = mp.Pool(2)
    local got = {}
    for v, i in pool:imap(square, numbers(100)) do
      got[#got + 1] = v
      assert.equal(#got, i)
    end
    assert.equal(100, #got)
    for i = 1, 100 do assert.equal(i * i, got[i]) end
    local i = 0
    local function source() i = i + 1 if i <= 30 then return i end end
    local sum = 0
    for v in pool:imap(square, source, 4) do sum = sum + v end
    assert.equal(9455, sum)
  end)

  it("gives each result once, in any order, when unordered", function()
    local pool <close> = mp.Pool(2)
    local seen, n = {}, 0
    for v, i in pool:imap_unordered(square, numbers(200), { chunksize = 3 }) do
      assert.is_nil(seen[i])
      assert.equal(i * i, v)
      seen[i], n = true, n + 1
    end
    assert.equal(200, n)
    local first
    for v in pool:imap_unordered(nap, { 1.5, 0.01 }) do first = first or v if first then break end end
    assert.equal(0.01, first)
  end)

  it("looks ahead a bounded number of items, also in an endless source", function()
    local pool <close> = mp.Pool(2)
    local drawn = 0
    local taken = 0
    for v in pool:imap(square, function() drawn = drawn + 1 return drawn end) do
      taken = taken + 1
      assert.equal(taken * taken, v)
      assert(drawn <= taken + 64)
      if taken == 1000 then break end
    end
    assert.equal(4, pool:apply(square, { 2 }))
  end)

  it("raises the failure of an item in its place and goes on with the next", function()
    local pool <close> = mp.Pool(2)
    for _, chunk in ipairs { 1, 4 } do
      local it <close> = pool:imap(function(x) if x % 3 == 0 then error("three " .. x) end return x end, numbers(10), chunk)
      for i = 1, 10 do
        if i % 3 == 0 then
          local e = failing("error", it.next, it)
          assert(e.message:find("three " .. i, 1, true))
        else
          assert.equal(i, (it:next()))
        end
      end
      assert.is_nil(it:next())
    end
  end)

  it("that was dropped half-way is no burden", function()
    local pool <close> = mp.Pool(2)
    local function memory()
      collectgarbage()
      collectgarbage()
      return collectgarbage "count"
    end
    local function drop(n) for _ = 1, n do pool:imap(function(i) return ("x"):rep(i * 100) end, numbers(20)):next() end end
    drop(50)
    local before = memory()
    for _ = 1, 10 do drop(20) collectgarbage() end
    drop(1)
    assert(memory() < before + 40, memory() - before)
  end)

  it("gives false as it gives any other result", function()
    local pool <close> = mp.Pool(2)
    local n = 0
    for v in pool:imap(function(x) return x % 2 == 0 end, numbers(40)) do
      n = n + 1
      assert.equal(n % 2 == 0, v)
    end
    assert.equal(40, n)
    n = 0
    for v in pool:imap_unordered(function() return false end, numbers(40)) do n = n + (v == false and 1 or 0) end
    assert.equal(40, n)
  end)

  it("raises the error of its source, and what cannot be sent, in its place too", function()
    local pool <close> = mp.Pool(2)
    local i = 0
    local it <close> = pool:imap(square, function()
      i = i + 1
      return i <= 40 and i or error "no more paper"
    end)
    for k = 1, 40 do assert.equal(k * k, (it:next())) end
    misuse({ "no more paper" }, it.next, it)
    assert.is_nil(it:next())
    for _, chunk in ipairs { 1, 3 } do
      local list = numbers(200)
      list[150] = coroutine.create(square)
      local second <close> = pool:imap(square, list, chunk)
      for k = 1, 200 do
        if k == 150 then assert(failing("encode", second.next, second).message:find("a coroutine", 1, true))
        else assert.equal(k * k, (second:next())) end
      end
      assert.is_nil(second:next())
    end
    misuse({ "at once" }, pool.imap, pool, square, function() error "at once" end)
    failing("encode", pool.imap, pool, square, { coroutine.create(square) })
    assert.equal(4, pool:apply(square, { 2 }))
  end)

  it("has a timeout by next, and says that a nil would end the loop", function()
    local pool <close> = mp.Pool(1)
    local it <close> = pool:imap(nap, { 0.3 })
    assert.same({ nil, "timeout", n = 2 }, table.pack(it:next(0.01)))
    assert.same({ 0.3, 1, n = 2 }, table.pack(it:next(20 * slow)))
    misuse({ "task 1 is nil" }, function() for _ in pool:imap(function() end, { 1 }) do end end)
  end)
end)

describe("a task", function()
  it("that outlives its time is stopped, whatever it catches", function()
    local pool <close> = mp.Pool(2)
    local loops = {
      function() while true do end end,
      function() while true do pcall(function() while true do end end) end end,
      function() while true do pcall(mp.sleep, 60) end end,
      function() return (("a"):rep(40)):find(("a*"):rep(20) .. "b") end,
      function() local co = coroutine.wrap(function() while true do pcall(function() while true do end end) end end) co() end,
      function() setmetatable({}, { __gc = function() while true do end end }) collectgarbage() collectgarbage() end,
    }
    for _, f in ipairs(loops) do
      local start = mp.now()
      failing("timeout", pool.apply, pool, f, {}, { timeout = 0.1 })
      assert(mp.now() - start < 20 * slow)
      assert.equal(9, pool:apply(square, { 3 }))
    end
    assert.equal(0.01, pool:apply(nap, { 0.01 }, { timeout = 20 * slow }))
  end)

  it("is stopped in its time also while the owner is elsewhere", function()
    local pool <close> = mp.Pool(1)
    local q = mp.Queue()
    pool:apply_async(function() while true do end end, {}, { timeout = 0.1 })
    pool:apply_async(function() q:put "next" end)
    assert.equal("next", q:get(20 * slow))
  end)

  it("of a map has the time for itself, not the chunk", function()
    local pool <close> = mp.Pool(1)
    assert.equal(10, pool:map(nap, { 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1 }, { timeout = 0.5 * slow, chunksize = 10 }).n)
    failing("timeout", pool.map, pool, nap, { 0.01, 30 }, { timeout = 0.1, chunksize = 2 })
  end)

  it("can be cancelled while it waits and while it runs", function()
    local pool <close> = mp.Pool(1)
    local q = mp.Queue()
    local running = pool:apply_async(function() q:put(1) while true do pcall(mp.sleep, 60) end end)
    local queued = pool:apply_async(function() q:put(2) end)
    local last = pool:apply_async(square, { 3 })
    assert.equal(1, q:get(20 * slow))
    assert.is_true(queued:cancel())
    assert.is_true(running:cancel())
    assert.is_true(running:cancel())
    assert.same({ nil, "cancelled", n = 2 }, table.pack(running:get()))
    assert.same({ nil, "cancelled", n = 2 }, table.pack(queued:get()))
    assert.is_false(queued:successful())
    assert.equal(9, last:get(20 * slow))
    assert.is_false(last:cancel())
    assert.is_true(q:empty())
    local m = pool:map_async(nap, { 60, 60, 60, 60 }, 1)
    assert.is_true(m:cancel())
    assert.equal(16, pool:apply(square, { 4 }))
  end)
end)

describe("a pool's program", function()
  it("ends at once with a pool still open, says nothing and leaves nothing", function()
    local start = os.time()
    local r = run.script [[
      local mp = require "mp"
      local pool = mp.Pool(3)
      pool:apply_async(mp.sleep, { 60 })
      for i = 1, 100 do pool:apply_async(mp.sleep, { 60 }) end
      print(table.concat(pool:pids(), " "))
    ]]
    assert(os.time() - start < 15 * slow)
    assert.equal(0, r.status)
    assert.equal("", r.err)
    for pid in r.out:gmatch "%d+" do
      assert.is_true(run.wait_until(function() return not io.open("/proc/" .. pid .. "/stat") end, 5))
    end
  end)

  it("is interrupted in a map, with the pool in order", function()
    local r = run.script [[
      local mp = require "mp"
      local pool <close> = mp.Pool(2)
      local me = mp.getpid()
      local ok, e = pcall(pool.map, pool, function(x)
        if x == 1 then os.execute("kill -INT " .. me) end
        mp.sleep(30)
      end, { 1, 2, 3, 4 }, 1)
      print(ok, tostring(e):match "interrupted!")
      print(pool:apply(function(x) return x + 1 end, { 1 }))
    ]]
    assert.equal("false\tinterrupted!\n2\n", r.out)
    assert.equal("", r.err)
    assert.equal(0, r.status)
  end)
end)

for what, options in pairs { spawned = { processes = 2, start_method = "spawn" }, threads = { processes = 2, kind = "thread" } } do
  describe("a pool of " .. (what == "threads" and "threads" or "spawned processes"), function()
    it("does the same: calls, maps, failures, shared objects, initializer", function()
      local q = mp.Queue()
      options.initializer, options.initargs = function(x) _G.pool_spec_kind = x end, { what }
      local pool <close> = mp.Pool(options)
      assert.equal(what, pool:apply(function() return _G.pool_spec_kind end))
      local r = pool:map(square, numbers(500))
      for i = 1, 500 do assert.equal(i * i, r[i]) end
      pool:map(function(x) q:put(x) end, { 1, 2, 3 })
      assert.equal(3, q:qsize())
      failing("error", pool.apply, pool, error, { "boo" })
      failing("encode", pool.apply, pool, function() return coroutine.create(print) end)
      assert.equal(16, pool:apply(square, { 4 }))
      assert.equal(2, #pool:pids())
      local sum = 0
      for v in pool:imap(square, { 1, 2, 3 }) do sum = sum + v end
      assert.equal(14, sum)
      local other <close> = mp.Pool { processes = 1, kind = options.kind, start_method = options.start_method,
        initializer = function() error "no licence" end }
      assert(failing("error", other.apply, other, square, { 1 }).name:find "^Pool%a+%-1$")
    end)

    it("stops what outlives its time or is cancelled", function()
      local pool <close> = mp.Pool { processes = options.processes, kind = options.kind, start_method = options.start_method }
      for _, f in ipairs { function() while true do end end, function() while true do pcall(mp.sleep, 60) end end } do
        failing("timeout", pool.apply, pool, f, {}, { timeout = 0.1 })
        assert.equal(9, pool:apply(square, { 3 }))
      end
      local started = mp.Event()
      local r = pool:apply_async(function() started:set() while true do pcall(mp.sleep, 60) end end)
      assert.is_true(started:wait(20 * slow))
      assert.is_true(r:cancel())
      assert.same({ nil, "cancelled", n = 2 }, table.pack(r:get()))
      assert.equal(2, pool:map(square, { 1, 2 }, 1).n)
    end)

    it("says why a worker ended, whatever that worker was stopped for before", function()
      local pool <close> = mp.Pool { processes = 1, kind = options.kind, start_method = options.start_method }
      failing("timeout", pool.apply, pool, function() while true do end end, {}, { timeout = 0.1 })
      assert.equal(3, failing("died", pool.apply, pool, function() os.exit(3) end).exitcode)
      assert.equal(9, pool:apply(square, { 3 }))
    end)

    it("leaves no interruption of an abandoned iteration to other tasks", function()
      local pool <close> = mp.Pool { processes = 2, kind = options.kind, start_method = options.start_method }
      for _ = 1, 200 do
        local it = pool:imap(square, numbers(10))
        it:next()
        it:close()
        assert.same({ 1, 4, 9, n = 3 }, pool:map(square, { 1, 2, 3 }, 1))
      end
    end)

    it("is terminated while it computes", function()
      local pool = mp.Pool { processes = options.processes, kind = options.kind, start_method = options.start_method }
      local started = mp.Event()
      pool:apply_async(function() started:set() while true do end end)
      assert.is_true(started:wait(20 * slow))
      pool:terminate()
      assert.is_true(pool:join(20 * slow))
    end)
  end)
end

if mp.sandbox.available().ok then
  describe("a pool in a sandbox", function()
    it("works, is refused what was not granted, and says so to its owner", function()
      local pool <close> = mp.Pool { processes = 2, sandbox = "pure" }
      assert.equal(16, pool:apply(square, { 4 }))
      local f, why = pool:apply(function()
        local file, reason = io.open("/etc/passwd")
        return file ~= nil, reason
      end)
      assert.is_false(f)
      assert(why:find("not permitted", 1, true))
      assert.is_true(run.wait_until(function() return #pool.violations > 0 end, 5))
      assert.equal(1, #pool.violations)
      failing("timeout", pool.apply, pool, function() while true do end end, {}, { timeout = 0.1 })
      failing("encode", pool.apply, pool, function() return function() end end)
      assert.equal(1, #pool.violations)
      local r = pool:map(square, numbers(100))
      assert.equal(10000, r[100])
    end)

    it("survives a worker that uses up its limits", function()
      local pool <close> = mp.Pool { processes = 1, sandbox = "pure", limits = { memory = "64M", cpu = run.slow } }
      failing("memory", pool.apply, pool, function()
        local t = {}
        while true do t[#t + 1] = ("x"):rep(1000000) .. #t end
      end)
      failing("cpu", pool.apply, pool, function() while true do end end)
      assert.equal(16, pool:apply(square, { 4 }))
    end)
  end)
end
