-- Lock and RLock: contract in docs/reference/lock.md.
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
  assert(e:find("lock_spec.lua:%d+: "), "no position of the caller: " .. e)
end

for _, kind in ipairs { "Lock", "RLock" } do
  describe("a " .. kind, function()
    local new = mp[kind]

    it("is acquired and released, and says so", function()
      local l = new()
      assert.is_false(l:locked())
      assert.is_nil(l:owner())
      assert.matches("^mp." .. kind .. " free 0x", tostring(l))
      assert.is_true(l:acquire())
      assert.is_true(l:locked())
      assert.equal(mp.getpid(), l:owner())
      assert.matches("held by " .. mp.getpid(), tostring(l))
      assert.is_true(l:release())
      assert.is_false(l:locked())
    end)

    it("belongs to one process at a time", function()
      local l = new()
      l:acquire()
      local p = child(function()
        local t = mp.now()
        local v, kind_of = l:acquire(0.05)
        local w, kind_of_poll = l:acquire(0)
        os.exit(v == nil and kind_of == "timeout" and mp.now() - t >= 0.05 and w == nil and kind_of_poll == "timeout"
          and l:owner() == mp.parent_process().pid and 5 or 6)
      end)
      assert.equal(5, code(p))
      assert.is_true(l:release())
      assert.equal(5, code(child(function() os.exit(l:acquire(5) and l:release() and 5 or 6) end)))
    end)

    it("refuses a release by anybody but its holder, and names who holds it", function()
      local l = new()
      misuse({ "release", "not held" }, function() l:release() end)
      local here = mp.Event()
      local p = child(function()
        l:acquire()
        here:set()
        mp.sleep(30)
      end)
      assert.is_true(here:wait(10))
      misuse({ "release", "held by process " .. p.pid }, function() l:release() end)
      p:kill()
      p:join()
    end)

    it("tells the next one, once, that its holder died", function()
      local l = new()
      for _, how in ipairs { "kill", "exit" } do
        local p = child(function()
          l:acquire()
          if how == "kill" then os.execute("kill -KILL " .. mp.getpid()) end
          os.exit(true, false)
        end)
        p:join()
        assert.same({ true, "abandoned" }, { l:acquire(5) })
        assert.is_true(l:release())
        assert.same({ true }, { l:acquire() })
        assert.is_true(l:release())
      end
    end)

    it("wakes who waits when its holder is killed", function()
      local l, here = new(), mp.Event()
      local holder = child(function()
        l:acquire()
        here:set()
        mp.sleep(30)
      end)
      here:wait()
      local waiter = child(function()
        local v, how = l:acquire(20)
        os.exit(v and how == "abandoned" and 3 or 4)
      end)
      mp.sleep(0.05)
      holder:kill()
      assert.equal(3, code(waiter))
    end)

    it("is released at the end of a scope by a guard, and by with, also on error", function()
      local l = new()
      do
        local _ <close> = l:guard()
        assert.is_true(l:locked())
      end
      assert.is_false(l:locked())
      assert.same({ 1, nil, 3, n = 3 }, table.pack(l:with(function(...)
        assert.is_true(l:locked())
        return ...
      end, 1, nil, 3)))
      local ok, e = pcall(l.with, l, function() error({ 1 }) end)
      assert.is_false(ok)
      assert.same({ 1 }, e)
      assert.is_false(l:locked())
      assert.is_false(pcall(function()
        local _ <close> = l:guard()
        error "x"
      end))
      assert.is_false(l:locked())
    end)

    it("tells a guard that its last holder died, once", function()
      local l = new()
      code(child(function() l:acquire() os.exit(0) end))
      do
        local _ <close>, how = l:guard()
        assert.equal("abandoned", how)
      end
      assert.equal(1, select("#", l:guard()))
      l:release()
    end)

    it("with keeps the traceback of an error and may yield", function()
      local l = new()
      local _, trace = xpcall(l.with, debug.traceback, l, function() error "deep" end)
      assert.matches("lock_spec.lua:%d+: deep.*lock_spec.lua:%d+: in function", trace)
      local co = coroutine.wrap(function() return l:with(function() return 1 + coroutine.yield("inside") end) end)
      assert.equal("inside", co())
      assert.is_true(l:locked())
      assert.equal(42, co(41))
      assert.is_false(l:locked())
    end)

    it("refuses wrong arguments at the caller's line", function()
      local l = new()
      misuse({ "acquire", "timeout", "string" }, function() l:acquire("soon") end)
      misuse({ "acquire", "nan" }, function() l:acquire(0 / 0) end)
      misuse({ "with", "function" }, function() l:with(3) end)
      misuse({ "no field 'foo'" }, function() return l.foo end)
      misuse({ "cannot be set" }, function() l.foo = 1 end)
      assert.is_false(l:locked())
    end)

    it("is closed as a handle only", function()
      local l = new()
      do local _ <close> = l end
      assert.matches("closed", tostring(l))
      misuse({ "acquire", "closed" }, function() l:acquire() end)
    end)

    it("an interruption of a wait raises and leaves it as it was", function()
      local l, here, done = new(), mp.Event(), mp.Event()
      l:acquire()
      local p = child(function()
        here:set()
        local ok, e = pcall(l.acquire, l)
        done:set()
        local l2, kind_of = l:acquire(0)
        os.exit(not ok and tostring(e):find("interrupted!") and l2 == nil and kind_of == "timeout" and 5 or 6)
      end)
      here:wait()
      mp.sleep(0.05)
      local t = mp.now()
      p:interrupt()
      assert.is_true(done:wait(10))
      assert.is_true(mp.now() - t < 2 * run.slow)
      assert.equal(5, code(p))
      assert.is_true(l:release())
      assert.is_true(l:acquire(0))
    end)

    it("keeps a sum right that processes add to", function()
      local l = new()
      local file = run.tmpdir() .. "/sum"
      run.write(file, "0")
      local list = {}
      for i = 1, 4 do
        list[i] = child(function()
          for _ = 1, 50 do
            l:with(function() run.write(file, tostring(tonumber(run.read(file)) + 1)) end)
          end
        end)
      end
      for i = 1, 4 do assert.equal(0, code(list[i])) end
      assert.equal("200", run.read(file))
    end)
  end)
end

describe("a Lock", function()
  it("that its holder acquires again is misuse without a timeout, and times out with one", function()
    local l = mp.Lock()
    l:acquire()
    misuse({ "acquire", "holds this lock already" }, function() l:acquire() end)
    misuse({ "guard", "holds this lock already" }, function() l:guard() end)
    misuse({ "with", "holds this lock already" }, function() l:with(print) end)
    assert.same({ nil, "timeout" }, { l:acquire(0) })
    local t = mp.now()
    assert.same({ nil, "timeout" }, { l:acquire(0.05) })
    assert.is_true(mp.now() - t >= 0.05)
    assert.is_true(l:locked())
  end)
end)

describe("an RLock", function()
  it("is free after as many releases as it was acquired", function()
    local l = mp.RLock()
    for _ = 1, 3 do assert.is_true(l:acquire()) end
    for _ = 1, 3 do
      assert.is_true(l:locked())
      assert.is_true(l:release())
    end
    assert.is_false(l:locked())
    misuse({ "release", "not held" }, function() l:release() end)
  end)

  it("of a dead holder starts anew at depth one", function()
    local l = mp.RLock()
    local p = child(function()
      l:acquire()
      l:acquire()
      os.exit(true, false)
    end)
    p:join()
    assert.same({ true, "abandoned" }, { l:acquire() })
    l:release()
    assert.is_false(l:locked())
  end)
end)
