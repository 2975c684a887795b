-- Processes that use locks, semaphores, conditions, events and barriers are killed at random instants; the others go on, and what was
-- protected stays whole. Deaths at every single point are in the C tests (runtime/shm/*_test.c).
local mp = require "mp"
local run = require "spec.support.run"

local seed = tonumber(os.getenv "TEST_SEED") or os.time()
math.randomseed(seed)

local function child(f, ...)
  local p = mp.Process { target = f, args = table.pack(...), start_method = "fork", daemon = true }
  p:start()
  return p
end

-- n processes run f; for `seconds` one after the other is killed and replaced. Then stop is set, and all must end by themselves.
local function storm(n, seconds, f)
  local stop, kills = mp.Event(), 0
  local list = {}
  for i = 1, n do list[i] = child(f, stop) end
  local deadline = mp.now() + seconds
  while mp.now() < deadline do
    mp.sleep(math.random() * 0.01)
    local i = math.random(n)
    list[i]:kill()
    assert(list[i]:join(20 * run.slow), "a killed process did not end")
    kills = kills + 1
    list[i] = child(f, stop)
  end
  stop:set()
  for i = 1, n do
    assert(list[i]:join(30 * run.slow), ("a process hangs after %d kills, seed %d"):format(kills, seed))
    assert.equal(0, list[i].exitcode, ("after %d kills, seed %d"):format(kills, seed))
  end
  return kills
end

describe("under a storm of kills", function()
  for _, kind in ipairs { "Lock", "RLock" } do
    it("a " .. kind .. " keeps two files equal, and tells who inherits it that they may not be", function()
      local l, wrong = mp[kind](), mp.Semaphore(0)
      local dir = run.tmpdir()
      local function step(abandoned)
        local a, b = io.open(dir .. "/a", "rb"), io.open(dir .. "/b", "rb")
        local x, y = a and a:read("a") or "", b and b:read("a") or ""
        if a then a:close() end
        if b then b:close() end
        if x ~= y and not abandoned then wrong:release() end
        x = tostring(math.random(1000000))
        run.write(dir .. "/a", x)
        run.write(dir .. "/b", x)
      end
      storm(4, 1.5, function(stop)
        while not stop:is_set() do
          local _, how = l:acquire()
          step(how)
          l:release()
        end
      end)
      assert.equal(0, wrong:value())
      assert(l:acquire(10))
    end)
  end

  it("an owned semaphore has all its permits in the end, and never more", function()
    local s, guard, wrong = mp.Semaphore { 3, owned = true }, mp.Semaphore { 3, owned = true }, mp.Semaphore(0)
    storm(6, 1.5, function(stop)
      while not stop:is_set() do
        s:acquire()
        -- Who dies may have given back the first and not the second for a moment: both come back with it.
        if not guard:acquire(5) then wrong:release() else guard:release() end
        s:release()
      end
    end)
    assert.equal(0, wrong:value())
    assert.equal(3, s:value())
    assert.equal(3, guard:value())
  end)

  it("a semaphore loses at most the permits in the hands of the dead", function()
    local s = mp.Semaphore(50)
    local kills = storm(4, 1, function(stop)
      while not stop:is_set() do
        if s:acquire(0.2) then s:release() end
      end
    end)
    assert.is_true(s:value() <= 50)
    assert.is_true(s:value() >= math.max(0, 50 - kills))
    s:release()
    assert(s:acquire(10))
  end)

  it("a condition forgets nobody", function()
    local c = mp.Condition()
    local seen = mp.Semaphore(0)
    storm(5, 1.5, function(stop)
      local i = 0
      while not stop:is_set() do
        i = i + 1
        c:acquire()
        if (i + mp.getpid()) % 2 == 0 then
          if c:wait(0.02) then seen:release() end
        else
          c:notify(2)
        end
        c:release()
      end
    end)
    assert.is_true(seen:value() > 0)
    -- And it works as on the first day.
    local p = child(function()
      c:acquire()
      os.exit(c:wait(20) and 7 or 8)
    end)
    assert(run.wait_until(function() return tostring(c):find("1 waiting") end, 10))
    c:with(function() c:notify() end)
    assert(p:join(20))
    assert.equal(7, p.exitcode)
  end)

  it("an event wakes who waits, whoever died in set or wait", function()
    local ping, pong = mp.Event(), mp.Event()
    storm(6, 1.5, function(stop)
      while not stop:is_set() do
        if mp.getpid() % 2 == 0 then
          ping:set()
          ping:clear()
          pong:wait(0.01)
        else
          pong:set()
          pong:clear()
          ping:wait(0.01)
        end
      end
    end)
    local p = child(function() os.exit(ping:wait(20) and 7 or 8) end)
    mp.sleep(0.02)
    ping:set()
    assert(p:join(20))
    assert.equal(7, p.exitcode)
  end)

  it("a barrier breaks rather than hangs, and can be reset", function()
    local b = mp.Barrier(3)
    storm(6, 1.5, function(stop)
      while not stop:is_set() do
        local _, kind = b:wait(5)
        if kind == "broken" then b:reset() end
        if kind == "timeout" then os.exit(9) end -- the others were there all the time
      end
      b:abort()
    end)
    b:reset()
    local list = { child(function() os.exit(b:wait(20)) end), child(function() os.exit(b:wait(20)) end) }
    local sum = b:wait(20)
    for i = 1, 2 do
      assert(list[i]:join(20))
      sum = sum + list[i].exitcode
    end
    assert.equal(6, sum)
  end)
end)
