-- Barrier: contract in docs/reference/barrier.md.
local mp = require "mp"
local run = require "spec.support.run"
local child, code, misuse = run.child, run.code, run.misuse
local process_it = run.processes(it)

-- Exit codes of a party: its rank, or
local BROKEN, TIMEOUT, RAISED = 101, 102, 103
local function party(b, timeout)
  return child(function()
    local ok, v, kind = pcall(b.wait, b, timeout)
    os.exit(not ok and RAISED or v or kind == "broken" and BROKEN or kind == "timeout" and TIMEOUT or 104)
  end)
end

local function waiting_party(b, timeout)
  local before = b.n_waiting
  local p = party(b, timeout)
  assert(run.wait_until(function() return b.n_waiting == before + 1 end, 10))
  return p
end

describe("a barrier", function()
  it("lets nobody go before the last has come, and gives each rank once", function()
    local b = mp.Barrier(4)
    assert.equal(4, b.parties)
    assert.equal(0, b.n_waiting)
    assert.is_false(b.broken)
    local list, ranks = {}, {}
    for i = 1, 3 do list[i] = waiting_party(b) end
    assert.equal(3, b.n_waiting)
    assert.matches("^mp.Barrier 3/4 0x", tostring(b))
    for i = 1, 3 do assert.is_true(list[i]:is_alive()) end
    ranks[b:wait(20)] = true
    for i = 1, 3 do ranks[code(list[i])] = true end
    assert.same({ true, true, true, true }, ranks)
    assert.equal(0, b.n_waiting)
  end)

  it("is used again and again", function()
    local b, sum = mp.Barrier(3), mp.Semaphore(0)
    local list = {}
    for i = 1, 3 do
      list[i] = child(function()
        for _ = 1, 50 do sum:release(b:wait(20)) end
      end)
    end
    for i = 1, 3 do assert.equal(0, code(list[i])) end
    assert.equal(50 * 6, sum:value())
    assert.is_false(b.broken)
  end)

  it("a timeout is the party's own; the others get broken, until reset", function()
    local b = mp.Barrier(3)
    local a = waiting_party(b)
    local t = mp.now()
    assert.same({ nil, "timeout" }, { b:wait(0.05) })
    assert.is_true(mp.now() - t >= 0.05)
    assert.equal(BROKEN, code(a))
    assert.is_true(b.broken)
    assert.matches("^mp.Barrier broken 0x", tostring(b))
    assert.same({ nil, "broken" }, { b:wait() })
    assert.is_true(b:reset())
    assert.is_false(b.broken)
    local list = { waiting_party(b), waiting_party(b) }
    assert.equal(3, b:wait(20))
    for i = 1, 2 do code(list[i]) end
  end)

  it("has a default timeout if it was given one", function()
    local t = mp.now()
    assert.same({ nil, "timeout" }, { mp.Barrier(2, { timeout = 0.05 }):wait() })
    assert.is_true(mp.now() - t >= 0.05)
    assert.same({ nil, "timeout" }, { mp.Barrier { 2, timeout = 0 }:wait() })
    assert.same({ nil, "timeout" }, { mp.Barrier(2, { timeout = 100 }):wait(0) })
  end)

  it("abort and reset break who waits; abort lasts", function()
    local b = mp.Barrier(3)
    local list = { waiting_party(b), waiting_party(b) }
    assert.is_true(b:reset())
    for i = 1, 2 do assert.equal(BROKEN, code(list[i])) end
    assert.is_false(b.broken)
    local a = waiting_party(b)
    assert.is_true(b:abort())
    assert.equal(BROKEN, code(a))
    assert.is_true(b.broken)
    assert.same({ nil, "broken" }, { b:wait(5) })
  end)

  process_it("the death of a waiting party breaks it for the others and for who comes", function()
    for victim = 1, 3 do
      local b = mp.Barrier(4)
      local list = {}
      for i = 1, 3 do list[i] = waiting_party(b) end
      list[victim]:kill()
      for i = 1, 3 do assert.equal(i == victim and -9 or BROKEN, code(list[i])) end
      assert.same({ nil, "broken" }, { b:wait(5) })
    end
    local b = mp.Barrier(2)
    local a = waiting_party(b)
    a:kill()
    a:join()
    assert.is_true(b.broken)
    assert.same({ nil, "broken" }, { b:wait(5) })
  end)

  it("an interrupted party gets its interruption, the others broken", function()
    local b, done = mp.Barrier(3), mp.Event()
    local a = waiting_party(b)
    local p = child(function()
      local ok, e = pcall(b.wait, b)
      done:set()
      os.exit(not ok and tostring(e):find("interrupted!") and 5 or 6)
    end)
    assert(run.wait_until(function() return b.n_waiting == 2 end, 10))
    p:interrupt()
    assert.is_true(done:wait(10))
    assert.equal(5, code(p))
    assert.equal(BROKEN, code(a))
  end)

  it("runs the action in the last to arrive, before anyone is released", function()
    local acted = mp.Semaphore(0)
    local b = mp.Barrier(3, { action = function()
      mp.sleep(0.05)
      acted:release()
    end })
    local list = {}
    for i = 1, 3 do
      list[i] = child(function()
        b:wait(20)
        os.exit(acted:value())
      end)
    end
    for i = 1, 3 do assert.equal(1, code(list[i])) end
  end)

  it("travels with its action, to a process that shares nothing else", function()
    local q = mp.Queue()
    local b = mp.Barrier(2, { action = function() q:put(mp.getpid()) end })
    local p = mp.Process { start_method = "spawn", target = function(barrier) os.exit(barrier:wait(20)) end, args = { b } }
    p:start()
    assert(run.wait_until(function() return b.n_waiting == 1 or p.exitcode end, 20))
    assert.equal(2, b:wait(20))
    assert.equal(1, code(p))
    assert.equal(mp.getpid(), q:get(20))
    p = mp.Process { start_method = "spawn", target = function(barrier) os.exit(barrier:wait(20)) end, args = { b } }
    local a = waiting_party(b)
    p:start()
    assert.equal(2, code(p))
    assert.equal(1, code(a))
    assert.equal(p.pid, q:get(20))
  end)

  it("an action that fails gives its error to the last and broken to the others", function()
    local b = mp.Barrier(2, { action = function() error("no luck") end })
    local a = waiting_party(b)
    misuse({ "no luck" }, function() b:wait(20) end)
    assert.equal(BROKEN, code(a))
    assert.is_true(b.broken)
  end)

  process_it("the death of who runs the action breaks it for the others", function()
    local acting = mp.Event()
    local b = mp.Barrier(2, { action = function()
      acting:set()
      mp.sleep(30)
    end })
    local a = waiting_party(b)
    local runner = party(b)
    assert.is_true(acting:wait(20))
    runner:kill()
    assert.equal(BROKEN, code(a))
    runner:join()
    assert.same({ nil, "broken" }, { b:wait(5) })
  end)

  it("the action may yield when the barrier is waited for in a coroutine", function()
    local b = mp.Barrier(1, { action = function() coroutine.yield("acting") end })
    local co = coroutine.wrap(function() return b:wait() end)
    assert.equal("acting", co())
    assert.equal(1, co())
  end)

  it("an abort while the action runs breaks it for the one who runs it too", function()
    local b
    b = mp.Barrier(1, { action = function() b:abort() end })
    assert.same({ nil, "broken" }, { b:wait() })
  end)

  it("refuses wrong arguments at the caller's line", function()
    misuse({ "Barrier", "1 to 4096" }, function() mp.Barrier(0) end)
    misuse({ "Barrier", "1 to 4096" }, function() mp.Barrier { action = print } end)
    misuse({ "Barrier", "number of parties" }, function() mp.Barrier() end)
    misuse({ "Barrier", "'action' must be a function" }, function() mp.Barrier(2, { action = 1 }) end)
    misuse({ "Barrier", "'timeout' must be a number" }, function() mp.Barrier(2, { timeout = "1" }) end)
    misuse({ "Barrier", "unknown option 'tiemout'" }, function() mp.Barrier(2, { tiemout = 1 }) end)
    local b = mp.Barrier(2)
    misuse({ "wait", "timeout" }, function() b:wait("x") end)
    misuse({ "no field 'foo'" }, function() return b.foo end)
    misuse({ "cannot be set" }, function() b.broken = true end)
  end)
end)
