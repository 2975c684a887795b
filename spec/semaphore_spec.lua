-- Semaphore and BoundedSemaphore: contract in docs/reference/semaphore.md.
local mp = require "mp"
local run = require "spec.support.run"
local child, code, misuse = run.child, run.code, run.misuse
local process_it = run.processes(it)

describe("a semaphore", function()
  it("has one permit unless told otherwise, and counts", function()
    assert.equal(1, mp.Semaphore():value())
    local s = mp.Semaphore(2)
    assert.is_true(s:acquire())
    assert.equal(1, s:value())
    assert.matches("^mp.Semaphore 1/2 0x", tostring(s))
    assert.is_true(s:acquire(0))
    assert.same({ nil, "timeout" }, { s:acquire(0) })
    local t = mp.now()
    assert.same({ nil, "timeout" }, { s:acquire(0.05) })
    assert.is_true(mp.now() - t >= 0.05)
    assert.is_true(s:release(3))
    assert.equal(3, s:value())
  end)

  it("lets another process release a permit", function()
    local s = mp.Semaphore(0)
    local p = child(function() s:release() end)
    assert.is_true(s:acquire(20))
    assert.equal(0, code(p))
  end)

  it("never lets more inside than it has permits", function()
    local s, inside = mp.Semaphore(3), mp.Semaphore(3)
    local list = {}
    for i = 1, 8 do
      list[i] = child(function()
        for _ = 1, 20 do
          s:acquire()
          if not inside:acquire(0) then os.exit(9) end
          mp.sleep(0.0005)
          inside:release()
          s:release()
        end
      end)
    end
    for i = 1, 8 do assert.equal(0, code(list[i])) end
    assert.equal(3, s:value())
  end)

  it("one release of several permits wakes several", function()
    local s, list = mp.Semaphore(0), {}
    for i = 1, 4 do list[i] = child(function() os.exit(s:acquire(20) and 0 or 1) end) end
    mp.sleep(0.05)
    s:release(4)
    for i = 1, 4 do assert.equal(0, code(list[i])) end
    assert.equal(0, s:value())
  end)

  it("is released at the end of a scope, and by with", function()
    local s = mp.Semaphore(1)
    do
      local _ <close> = s:guard()
      assert.equal(0, s:value())
    end
    assert.equal(1, s:value())
    assert.equal(0, s:with(function() return s:value() end))
    assert.is_false(pcall(s.with, s, error))
    assert.equal(1, s:value())
  end)

  it("an interrupted wait raises and takes no permit", function()
    for _, s in ipairs { mp.Semaphore(1), mp.Semaphore { 1, owned = true } } do
      local here, done = mp.Event(), mp.Event()
      s:acquire()
      local p = child(function()
        here:set()
        local ok, err = pcall(s.acquire, s)
        done:set()
        os.exit(not ok and tostring(err):find("interrupted!") and 5 or 6)
      end)
      here:wait()
      mp.sleep(0.05)
      p:interrupt()
      assert.is_true(done:wait(10))
      assert.equal(5, code(p))
      s:release()
      assert.equal(1, s:value())
    end
  end)

  process_it("killed waiters keep nothing from the living", function()
    local s, list = mp.Semaphore(0), {}
    for i = 1, 3 do list[i] = child(function() os.exit(s:acquire(20) and 0 or 1) end) end
    mp.sleep(0.05)
    list[1]:kill()
    list[1]:join()
    list[2]:kill()
    list[2]:join()
    s:release()
    assert.equal(0, code(list[3]))
  end)

  it("refuses wrong arguments at the caller's line", function()
    misuse({ "mp.Semaphore", "0 to 2147483647" }, function() mp.Semaphore(-1) end)
    misuse({ "mp.Semaphore", "integer" }, function() mp.Semaphore(1.5) end)
    misuse({ "Semaphore", "number of permits" }, function() mp.Semaphore("two") end)
    misuse({ "mp.Semaphore", "unknown option 'onwed'" }, function() mp.Semaphore { 2, onwed = true } end)
    misuse({ "mp.Semaphore", "'owned' must be a boolean" }, function() mp.Semaphore { 2, owned = 1 } end)
    misuse({ "mp.Semaphore", "1 to 4096" }, function() mp.Semaphore { 0, owned = true } end)
    local s = mp.Semaphore(1)
    misuse({ "release" }, function() s:release(0) end)
    misuse({ "release" }, function() s:release("x") end)
    misuse({ "release" }, function() s:release(2147483647) end)
    misuse({ "acquire", "timeout" }, function() s:acquire(true) end)
    assert.equal(1, s:value())
  end)
end)

describe("a bounded semaphore", function()
  it("refuses a release above its first value and is unchanged", function()
    local s = mp.BoundedSemaphore(2)
    misuse({ "release", "first value is 2" }, function() s:release() end)
    s:acquire()
    misuse({ "release" }, function() s:release(2) end)
    assert.equal(1, s:value())
    assert.is_true(s:release())
  end)
end)

describe("an owned semaphore", function()
  it("lets only the holder release", function()
    local s = mp.Semaphore { 2, owned = true }
    misuse({ "release", "no permit" }, function() s:release() end)
    s:acquire()
    local p = child(function()
      local ok = pcall(s.release, s)
      os.exit(not ok and s:value() == 1 and 5 or 6)
    end)
    assert.equal(5, code(p))
    misuse({ "release", "1" }, function() s:release(2) end)
    assert.is_true(s:release())
    assert.equal(2, s:value())
  end)

  process_it("gets its permits back when the holder is gone, however it went, and wakes who waits", function()
    for _, how in ipairs { "return", "exit", "kill" } do
      local s, here = mp.Semaphore { 2, owned = true }, mp.Event()
      local holder = child(function()
        s:acquire()
        s:acquire()
        here:set()
        mp.sleep(0.1)
        if how == "exit" then os.exit(true, false) elseif how == "kill" then mp.sleep(30) end
      end)
      here:wait()
      assert.equal(0, s:value())
      local list = {}
      for i = 1, 2 do list[i] = child(function() os.exit(s:acquire(20) and 0 or 1) end) end
      if how == "kill" then
        mp.sleep(0.05)
        holder:kill()
      end
      for i = 1, 2 do assert.equal(0, code(list[i])) end
      holder:join()
      assert.equal(2, s:value())
    end
  end)
end)
