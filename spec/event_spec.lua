-- Event: contract in docs/reference/event.md.
local mp = require "mp"
local run = require "spec.support.run"
local child, code = run.child, run.code
local process_it = run.processes(it)

local function waiters(e, n, timeout)
  local list, ready = {}, mp.Semaphore(0)
  for i = 1, n do
    list[i] = child(function()
      ready:release()
      local v, kind = e:wait(timeout or 20)
      os.exit(v == true and 1 or kind == "timeout" and 2 or 3)
    end)
  end
  for _ = 1, n do ready:acquire(10) end
  mp.sleep(0.05)
  return list
end

describe("an event", function()
  it("is clear when made, and set until cleared", function()
    local e = mp.Event()
    assert.is_false(e:is_set())
    assert.matches("^mp.Event clear 0x", tostring(e))
    assert.same({ nil, "timeout" }, { e:wait(0) })
    assert.is_true(e:set())
    assert.is_true(e:set())
    assert.is_true(e:is_set())
    assert.matches("^mp.Event set 0x", tostring(e))
    assert.is_true(e:wait())
    assert.is_true(e:wait(0))
    assert.is_true(e:clear())
    assert.is_true(e:clear())
    assert.is_false(e:is_set())
  end)

  it("times out after the time that was asked for", function()
    local e, t = mp.Event(), mp.now()
    assert.same({ nil, "timeout" }, { e:wait(0.05) })
    assert.is_true(mp.now() - t >= 0.05)
  end)

  it("set wakes everyone who was waiting, even if clear follows at once", function()
    local e = mp.Event()
    local list = waiters(e, 6)
    e:set()
    e:clear()
    for _, p in ipairs(list) do assert.equal(1, code(p)) end
    assert.is_false(e:is_set())
  end)

  process_it("a waiter that is killed costs the others nothing", function()
    local e = mp.Event()
    local list = waiters(e, 3)
    list[1]:kill()
    list[1]:join()
    e:set()
    assert.equal(1, code(list[2]))
    assert.equal(1, code(list[3]))
  end)

  it("set by a child is seen by its parent", function()
    local e = mp.Event()
    local p = child(function() e:set() end)
    assert.is_true(e:wait(20))
    assert.equal(0, code(p))
  end)

  it("an interrupted wait raises and changes nothing", function()
    local e, here, done = mp.Event(), mp.Event(), mp.Event()
    local p = child(function()
      here:set()
      local ok, err = pcall(e.wait, e)
      done:set()
      os.exit(not ok and tostring(err):find("interrupted!") and not e:is_set() and 5 or 6)
    end)
    here:wait()
    mp.sleep(0.05)
    p:interrupt()
    assert.is_true(done:wait(10))
    assert.equal(5, code(p))
    local list = waiters(e, 1)
    e:set()
    assert.equal(1, code(list[1]))
  end)

  it("refuses wrong arguments at the caller's line", function()
    local e = mp.Event()
    for words, f in pairs {
      ["timeout in seconds"] = function() e:wait("x") end,
      ["no field 'foo'"] = function() return e.foo end,
      ["mp.Event expected"] = function() e.set(mp.Lock()) end,
    } do
      local ok, err = pcall(f)
      assert.is_false(ok)
      assert.matches("event_spec.lua:%d+: ", err)
      assert(err:find(words, 1, true), err)
    end
  end)
end)
