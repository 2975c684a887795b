-- Pools and deaths: whatever kills a worker, wherever it is, fails the one task that it had in hand.
local mp = require "mp"
local run = require "spec.support.run"

local slow <const> = run.slow
local owner <const> = mp.getpid()

local function square(x) return x * x end

-- The address sanitizer makes an exit of a SIGSEGV.
local CRASH <const> = run.mode == "asan" and 6 or 11

-- What can go wrong, in a worker.
local ways = {
  error = function() error "it failed" end,
  exit = function() os.exit(3) end,
  segv = function() os.execute("kill -" .. CRASH .. " " .. mp.getpid()) mp.sleep(30) end,
  kill = function() os.execute("kill -KILL " .. mp.getpid()) mp.sleep(30) end,
  unsendable = function() return coroutine.create(square) end,
  memory = function() return ("x"):rep(1 << 45) end,
  unloadable = function() error "it cannot be loaded" end,
}

-- Travels by its fields, and does its worst on the way.
local Bomb = { __name = "PoolCrashBomb" }
Bomb.__index = Bomb
mp.register("PoolCrashBomb", Bomb, {
  dump = function(o)
    if o.where == "encode" and mp.getpid() ~= owner then return { where = o.where, how = o.how, value = ways[o.how]() } end
    return { where = o.where, how = o.how }
  end,
  load = function(t)
    if t.where == "decode" and mp.getpid() ~= owner then ways[t.how]() end
    return setmetatable(t, Bomb)
  end,
})
local function bomb(where, how) return setmetatable({ where = where, how = how }, Bomb) end

local KINDS <const> = { error = { error = true, encode = true }, exit = { died = true }, segv = { died = true }, kill = { died = true },
  unsendable = { encode = true }, memory = { memory = true, encode = true, error = true }, unloadable = { error = true, encode = true } }

local function check(e, how, pool)
  assert(mp.is_error(e), tostring(e))
  assert(KINDS[how][e.kind], ("%s gave kind %s: %s"):format(how, e.kind, tostring(e)))
  if e.kind == "died" then
    assert(math.type(e.pid) == "integer")
    if how == "exit" then assert.equal(3, e.exitcode)
    else assert.equal(how == "kill" and 9 or CRASH, e.signal) end
  end
  if pool then assert.equal(49, pool:apply(square, { 7 })) end
end

local function fails(f, ...)
  local start = mp.now()
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert(mp.now() - start < 10 * slow)
  return e
end

describe("of a worker that", function()
  for how, f in pairs(ways) do
    it("meets " .. how .. " while it runs a task, only the task fails", function()
      local pool <close> = mp.Pool(2)
      local good = pool:map_async(square, { 1, 2, 3 }, 1)
      check(fails(pool.apply, pool, f), how, pool)
      if how ~= "unloadable" then check(fails(pool.map, pool, function(x) if x == 3 then return f() end return x end, { 1, 2, 3, 4 }), how, pool) end
      assert.same({ 1, 4, 9, n = 3 }, good:get())
    end)
    if how ~= "unsendable" then
      it("meets " .. how .. " while it receives a task, only the task fails", function()
        local pool <close> = mp.Pool(2)
        check(fails(pool.apply, pool, square, { bomb("decode", how) }), how, pool)
        check(fails(pool.map, pool, square, { bomb("decode", how) }), how, pool)
      end)
    end
    it("meets " .. how .. " while it sends a result, only the task fails", function()
      local pool <close> = mp.Pool(2)
      check(fails(pool.apply, pool, function(b) return b end, { bomb("encode", how) }), how, pool)
    end)
    it("meets " .. how .. " in the initializer, the pool fails and ends", function()
      local pool = mp.Pool { processes = 2, initializer = f }
      if how == "unsendable" then -- its value is of no interest
        assert.equal(49, pool:apply(square, { 7 }))
      else
        local e = fails(pool.apply, pool, square, { 7 })
        assert(mp.is_error(e) and KINDS[how][e.kind], tostring(e))
        assert.is_false((pcall(pool.apply, pool, square, { 7 })))
      end
      pool:close()
      assert.is_true(pool:join(20 * slow))
    end)
  end

  it("cannot receive a result's class, only the task fails", function()
    local pool <close> = mp.Pool { processes = 1, initializer = function()
      mp.register("PoolCrashUnknown", { __name = "PoolCrashUnknown" })
    end }
    local e = fails(pool.apply, pool, function()
      local mt = { __name = "PoolCrashOther" }
      mp.register("PoolCrashOther", mt)
      return setmetatable({}, mt)
    end)
    assert(mp.is_error(e))
    assert.equal(49, pool:apply(square, { 7 }))
  end)
end)

local function kill(pid, signal) os.execute(("kill -%s %d 2>/dev/null"):format(signal or "KILL", pid)) end

describe("a pool", function()
  it("replaces workers that are killed while idle, one or all", function()
    local pool <close> = mp.Pool(3)
    assert.equal(4, pool:apply(square, { 2 }))
    for n = 1, 3 do
      local pids = pool:pids()
      for i = 1, n do kill(pids[i]) end
      local r = pool:map(square, { 1, 2, 3, 4 }, 1)
      assert.equal(16, r[4])
      -- one that is killed before it was ready is replaced after a pause
      assert.is_true(run.wait_until(function() return #pool:pids() == 3 end, 5))
    end
  end)

  it("fails the victim's task only: of a hundred, exactly one", function()
    local pool <close> = mp.Pool(2)
    local results = {}
    for i = 1, 100 do
      results[i] = pool:apply_async(function(x)
        if x == 50 then os.execute("kill -KILL " .. mp.getpid()) mp.sleep(30) end
        return x
      end, { i })
    end
    for i = 1, 100 do
      if i == 50 then assert(mp.is_error(select(2, pcall(results[i].get, results[i])), "died"))
      else assert.equal(i, results[i]:get()) end
    end
  end)

  it("gives up the one item of a chunk that killed, in imap", function()
    local pool <close> = mp.Pool(2)
    local it <close> = pool:imap(function(x) if x == 5 then os.exit(9) end return x end, { 1, 2, 3, 4, 5, 6, 7, 8 }, 4)
    for i = 1, 8 do
      if i == 5 then
        local e = select(2, pcall(it.next, it))
        assert(mp.is_error(e, "died"))
        assert.equal(9, e.exitcode)
      else
        assert.equal(i, (it:next()))
      end
    end
  end)

  it("runs a task again that killed its worker, while retries last", function()
    local pool <close> = mp.Pool(2)
    local tries = mp.Value("i", 0)
    local function flaky(good) if tries:add(1) < good then os.exit(1) end return tries.value end
    assert.equal(3, pool:apply(flaky, { 3 }, { retries = 2 }))
    tries.value = 0
    assert(mp.is_error(select(2, pcall(pool.apply, pool, flaky, { 10 }, { retries = 2 })), "died"))
    assert.equal(3, tries.value)
  end)

  for _, chunk in ipairs { 1, 100, false } do
    it("gets a map right in a storm of kills, in chunks of " .. (chunk and chunk or "its own choice"), function()
      local n = run.mode == "release" and 100000 or 3000
      local pool <close> = mp.Pool(3)
      local stop = mp.Event()
      local pids = mp.Queue()
      local storm = mp.Process { daemon = true, start_method = "fork", target = function()
        local list
        while not stop:wait(0.01) do
          repeat local l = pids:get(list and 0 or nil) list = l or list until not l
          kill(list[math.random(#list)])
        end
      end }
      storm:start()
      pids:put(pool:pids())
      local list = {}
      for i = 1, n do list[i] = i end
      local turns, deaths = 0, 0
      local start = mp.now()
      repeat
        local r = pool:map(square, list, { retries = 1000, chunksize = chunk or nil })
        turns = turns + 1
        for i = 1, n do if r[i] ~= i * i then error(("item %d is %s"):format(i, tostring(r[i]))) end end
        pids:put(pool:pids())
      until mp.now() - start > 2
      for _, w in ipairs(pool:stats().workers) do deaths = deaths + w.starts - 1 end
      stop:set()
      assert.is_true(storm:join(20 * slow))
      assert(turns > 0 and deaths > 0)
    end)
  end

  it("leaves nothing behind when its owner is killed", function()
    local r = run.script [[
      local mp = require "mp"
      local pool = mp.Pool(2)
      for i = 1, 50 do pool:apply_async(mp.sleep, { 60 }) end
      print(table.concat(pool:pids(), " "))
      io.stdout:flush()
      os.execute("kill -KILL " .. mp.getpid())
      mp.sleep(30)
    ]]
    assert.equal(9, r.signal)
    local n = 0
    for pid in r.out:gmatch "%d+" do
      n = n + 1
      assert.is_true(run.wait_until(function()
        local f = io.open("/proc/" .. pid .. "/stat")
        if not f then return true end
        local text = f:read "a" or ""
        f:close()
        return text:match "^%d+ %b() [ZX]" ~= nil
      end, 5))
    end
    assert.equal(2, n)
  end)
end)
