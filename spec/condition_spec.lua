-- Condition: contract in docs/reference/condition.md.
local mp = require "mp"
local run = require "spec.support.run"

local function child(f, ...)
  local p = mp.Process { target = f, args = table.pack(...), start_method = "fork" }
  p:start()
  return p
end

local function code(p)
  assert.is_true(p:join(20 * run.slow))
  return p.exitcode
end

local function misuse(words, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  e = tostring(e)
  for _, word in ipairs(words) do assert(e:find(word, 1, true), ("%q is not in %q"):format(word, e)) end
  assert(e:find("condition_spec.lua:%d+: "), "no position of the caller: " .. e)
end

-- A child that waits on c; returns once it does (it has the lock until its wait gives it up).
local function waiter(c, timeout)
  local before = tonumber(tostring(c):match "(%d+) waiting")
  local p = child(function()
    c:acquire()
    local v, kind = c:wait(timeout or 20)
    c:release() -- misuse, and so exit code 1, unless the lock is held again
    os.exit(v and 3 or kind == "timeout" and 4 or 5)
  end)
  assert(run.wait_until(function() return tonumber(tostring(c):match "(%d+) waiting") == before + 1 end, 10))
  return p
end

describe("a condition", function()
  it("has an RLock unless it is given a lock", function()
    local c = mp.Condition()
    assert.is_true(c:acquire())
    assert.is_true(c:acquire(0))
    assert.is_true(c:release())
    assert.is_true(c:release())
    misuse({ "release", "not held" }, function() c:release() end)
    local l = mp.Lock()
    for _, d in ipairs { mp.Condition(l), mp.Condition { lock = l } } do
      d:acquire()
      assert.is_true(l:locked())
      assert.is_true(l:release())
    end
    misuse({ "Condition", "mp.Lock or mp.RLock" }, function() mp.Condition(3) end)
    misuse({ "Condition", "mp.Lock or mp.RLock" }, function() mp.Condition(mp.Event()) end)
    misuse({ "Condition", "unknown option 'lok'" }, function() mp.Condition { lok = l } end)
  end)

  it("needs its lock for wait, wait_for and notify", function()
    local c = mp.Condition()
    misuse({ "wait", "lock is not held" }, function() c:wait() end)
    misuse({ "wait_for", "lock is not held" }, function() c:wait_for(function() return true end) end)
    misuse({ "notify", "lock is not held" }, function() c:notify() end)
    misuse({ "notify_all", "lock is not held" }, function() c:notify_all() end)
    c:acquire()
    misuse({ "wait", "timeout" }, function() c:wait("x") end)
    misuse({ "wait_for", "function" }, function() c:wait_for(1) end)
    misuse({ "notify" }, function() c:notify(-1) end)
    assert.is_true(c:notify())
    assert.is_true(c:notify_all())
    c:release()
  end)

  it("wait times out with the lock held again, at its former depth", function()
    local l = mp.RLock()
    local c = mp.Condition(l)
    l:acquire()
    l:acquire()
    local t = mp.now()
    assert.same({ nil, "timeout" }, { c:wait(0.05) })
    assert.is_true(mp.now() - t >= 0.05)
    assert.same({ nil, "timeout" }, { c:wait(0) })
    l:release()
    assert.is_true(l:locked())
    l:release()
    assert.is_false(l:locked())
  end)

  it("notify wakes one, or as many as it says; notify_all everybody", function()
    local c = mp.Condition()
    local list = {}
    for i = 1, 5 do list[i] = waiter(c) end
    c:with(function() c:notify() end)
    assert.equal(3, code(list[1]))
    assert.matches("4 waiting", tostring(c))
    c:with(function() c:notify(2) end)
    assert.equal(3, code(list[2]))
    assert.equal(3, code(list[3]))
    assert.matches("2 waiting", tostring(c))
    c:with(function() c:notify_all() end)
    assert.equal(3, code(list[4]))
    assert.equal(3, code(list[5]))
  end)

  it("a notification that finds nobody is not kept", function()
    local c = mp.Condition()
    c:with(function()
      c:notify(5)
      assert.same({ nil, "timeout" }, { c:wait(0.01) })
    end)
  end)

  it("wait_for gives the predicate's value, or times out", function()
    local c, v = mp.Condition(), mp.Event()
    c:acquire()
    assert.equal("now", c:wait_for(function() return "now" end))
    local t, n = mp.now(), 0
    assert.same({ nil, "timeout" }, { c:wait_for(function() n = n + 1 return false end, 0.05) })
    assert.is_true(mp.now() - t >= 0.05)
    assert.is_true(n >= 2)
    local p = child(function()
      for _ = 1, 3 do
        mp.sleep(0.01)
        c:with(function() c:notify_all() end)
      end
      v:set()
      c:with(function() c:notify_all() end)
    end)
    assert.equal(7, c:wait_for(function() return v:is_set() and 7 end, 20))
    c:release()
    assert.equal(0, code(p))
  end)

  it("the predicate may yield, and its error leaves the lock held", function()
    local c = mp.Condition()
    c:acquire()
    local co = coroutine.wrap(function() return c:wait_for(function() return coroutine.yield("asked") end) end)
    assert.equal("asked", co())
    assert.equal("answer", co("answer"))
    misuse({ "bad predicate" }, function() c:wait_for(function() error "bad predicate" end) end)
    assert.is_true(c:release())
  end)

  it("a waiter that is killed costs nobody a wake-up, before it is notified and after", function()
    local c = mp.Condition()
    local a, b = waiter(c), waiter(c)
    a:kill()
    a:join()
    c:with(function() c:notify() end)
    assert.equal(3, code(b))
    a, b = waiter(c), waiter(c)
    c:acquire()
    c:notify()
    mp.sleep(0.05) -- a is notified, and waits for the lock
    a:kill()
    a:join()
    c:release()
    assert.equal(3, code(b))
  end)

  it("a notifier that is killed leaves a condition that works", function()
    local c = mp.Condition()
    local a = waiter(c)
    local p = child(function()
      c:acquire()
      c:notify()
      os.execute("kill -KILL " .. mp.getpid())
    end)
    p:join()
    assert.equal(3, code(a))
    c:acquire()
    assert.same({ nil, "timeout" }, { c:wait(0.01) })
    c:release()
  end)

  it("an interrupted wait raises with the lock held and loses no notification", function()
    local c, done = mp.Condition(), mp.Event()
    local p = child(function()
      c:acquire()
      local ok, e = pcall(c.wait, c)
      local held = pcall(c.release, c)
      done:set()
      os.exit(not ok and tostring(e):find("interrupted!") and held and 5 or 6)
    end)
    assert(run.wait_until(function() return tostring(c):find("1 waiting") end, 10))
    local b = waiter(c)
    p:interrupt()
    assert.is_true(done:wait(10))
    assert.equal(5, code(p))
    c:with(function() c:notify() end)
    assert.equal(3, code(b))
  end)

  it("travels with its lock, to a process that shares nothing else", function()
    local l, q = mp.Lock(), mp.Queue()
    local c = mp.Condition(l)
    local p = mp.Process { start_method = "spawn", target = function(queue)
      local cond, lock = queue:get(20), queue:get(20)
      cond:acquire()
      local free = not lock:locked()
      queue:put(free)
      os.exit(not free and cond:wait(20) and pcall(lock.release, lock) and 7 or 8)
    end, args = { q } }
    p:start()
    q:put(c)
    q:put(l)
    assert(run.wait_until(function() return tostring(c):find("1 waiting") end, 20))
    c:with(function() c:notify() end)
    assert.equal(7, code(p))
    assert.is_false(q:get())
  end)

  it("hands over what processes make to processes that take", function()
    local c, full = mp.Condition(mp.Lock()), mp.Semaphore(0)
    local takers, makers = {}, {}
    for i = 1, 3 do
      takers[i] = child(function()
        for _ = 1, 40 do
          c:with(function() c:wait_for(function() return full:acquire(0) end) end)
        end
      end)
    end
    for i = 1, 2 do
      makers[i] = child(function()
        for _ = 1, 60 do
          c:with(function()
            full:release()
            c:notify()
          end)
        end
      end)
    end
    for i = 1, 2 do assert.equal(0, code(makers[i])) end
    for i = 1, 3 do assert.equal(0, code(takers[i])) end
    assert.equal(0, full:value())
  end)
end)
