-- Threads with Lua states of their own: the interface of processes.
local mp = require "mp"
local run = require "spec.support.run"
local misuse = run.misuse

local function started(o)
  if type(o) == "function" then o = { target = o } end
  local t = mp.Thread(o)
  t:start()
  return t
end

describe("a thread", function()
  it("runs its target in this process, with a state of its own", function()
    _G.THREAD_SPEC = 1
    local n, t = 5, { 1 }
    local th = started { target = function(a, b, c, kw)
      t[1] = 2
      return a + n, b, c, kw.k, _G.THREAD_SPEC, mp.getpid(), t
    end, args = { 1, nil, 3, n = 3 }, kwargs = { k = "v" } }
    local r = table.pack(th:result(20))
    assert.same({ n = 7, 6, nil, 3, "v", nil, mp.getpid(), { 2 } }, r)
    assert.same({ 1 }, t)
    assert.equal(0, th.exitcode)
    assert.is_nil(th.error)
    assert.is_false(th:is_alive())
    _G.THREAD_SPEC = nil
  end)

  it("shares objects with its maker: queues, locks, events", function()
    local q, lock, go = mp.Queue(), mp.Lock(), mp.Event()
    assert.is_true(lock:acquire())
    local th = started { target = function(x)
      x:put(lock:acquire(0.01) or "held")
      go:set()
      return lock:acquire(10)
    end, args = { q } }
    assert.is_true(go:wait(20))
    assert.equal("held", q:get(1))
    lock:release()
    assert.is_true(th:result(20))
  end)

  it("fails as a process does: message once on stderr, mp.Error for its maker", function()
    local r = run.script [[
      local t = mp.Thread{ name = "w", target = function() error("boom") end }
      t:start() t:join() print(t.exitcode, t.error.kind, t.error.name, t.error.message)
      print(select(2, pcall(t.result, t)) == t.error)]]
    assert.matches("^1\terror\tw\t.*script.lua:1: boom\ntrue\n$", r.out)
    assert.matches("^w: .*script.lua:1: boom\nstack traceback:\n", r.err)
    assert.equal(1, select(2, r.err:gsub("boom", "")))
  end)

  it("is interrupted in a loop, in a waiting call, in a coroutine made before; and may catch it", function()
    for _, f in ipairs {
      function(ready) ready:set() while true do end end,
      function(ready) ready:set() mp.sleep(60) end,
      function(ready) local co = coroutine.wrap(function() while true do end end) ready:set() co() end,
      function(ready) local co = coroutine.wrap(function() mp.sleep(60) end) ready:set() co() end,
    } do
      local ready = mp.Event()
      local th = started { target = function(r)
        local ok, e = pcall(f, r)
        return not ok and tostring(e):find("interrupted!", 1, true) ~= nil
      end, args = { ready } }
      assert.is_true(ready:wait(20))
      mp.sleep(0.02)
      assert.is_true(th:interrupt())
      assert.is_true(th:result(20))
    end
  end)

  it("that is interrupted or ended before it begins is told so by what it was to run", function()
    for _ = 1, 20 do
      local th = started(function() while true do end end)
      th:interrupt()
      assert.is_true(th:join(20))
      assert.equal(1, th.exitcode)
      assert.equal("error", th.error.kind)
      assert.matches("interrupted!", th.error.message, 1, true)
      th = started(function() while true do pcall(mp.sleep, 60) end end)
      th:terminate()
      assert.is_true(th:join(20))
      assert.equal(-15, th.exitcode)
      assert.equal("thread " .. th.name .. " was stopped", th.error.message)
    end
  end)

  it("is stopped by terminate though it catches everything", function()
    local ready = mp.Event()
    local th = started { target = function(r)
      r:set()
      while true do
        pcall(function() coroutine.wrap(function() while true do pcall(error, 1) end end)() end)
      end
    end, args = { ready } }
    assert.is_true(ready:wait(20))
    assert.is_true(th:terminate())
    assert.is_true(th:join(20))
    assert.equal(-15, th.exitcode)
    assert.equal("died", th.error.kind)
    assert.is_true(th:terminate())
  end)

  it("ends by os.exit, alone, whatever it catches", function()
    local th = started(function() pcall(os.exit, 5) return "not reached" end)
    assert.is_true(th:join(20))
    assert.equal(5, th.exitcode)
    local u = started(function() os.exit(true) end)
    assert.is_true(u:join(20))
    assert.equal(0, u.exitcode)
  end)

  it("has no pid and no kill; misuse is told at the caller's line", function()
    local th = mp.Thread { target = function() mp.sleep(60) end, name = "t" }
    assert.is_nil(th.pid)
    misuse({ "mp.Thread has no field 'kill'" }, function() th:kill() end)
    misuse({ "join: thread t was not started" }, function() th:join() end)
    misuse({ "Thread: unknown option 'sandbox'" }, function() mp.Thread { sandbox = "pure" } end)
    misuse({ "Thread: target must be a function" }, function() mp.Thread { target = 1 } end)
    th:start()
    misuse({ "start: thread t was started before" }, function() th:start() end)
    misuse({ "close: thread t is running" }, function() th:close() end)
    assert.equal("mp.Thread t running", tostring(th))
    th:terminate() th:join()
    assert.is_true(th:close())
    misuse({ "join: the thread is closed" }, function() th:join() end)
    misuse({ "interrupt: the thread is closed" }, function() th:interrupt() end)
    misuse({ "terminate: the thread is closed" }, function() th:terminate() end)
    misuse({ "interrupt: a process expected, got number" }, function() th.interrupt(3) end)
  end)

  it("refuses what cannot be sent, with its place", function()
    local th = mp.Thread { target = print, args = { coroutine.create(print) } }
    local ok, e = pcall(th.start, th)
    assert.is_false(ok)
    assert.matches("args%[1%]: a coroutine cannot be sent", tostring(e))
  end)

  it("may be of a class", function()
    local T = mp.Thread:extend("Counter")
    function T:init(n) self.n = n end
    function T:twice() return self.n * 2 end
    function T:run() return self:twice() end
    local th = T(21)
    assert.matches("^Counter%-", th.name)
    th:start()
    assert.equal(42, th:result(20))
  end)

  it("can be waited for with everything else", function()
    local th = started(function() mp.sleep(0.05) end)
    assert.same({ th }, mp.wait({ th, mp.Event() }, 20))
    assert.same({ th }, mp.wait({ th }, 0))
  end)

  it("starts processes of its own, which outlive neither it nor the program", function()
    local th = started(function()
      local p = mp.Process { target = function() return mp.current_process().name end }
      p:start()
      return p:result(20), mp.get_start_method()
    end)
    local name, method = th:result(20)
    assert.matches("^Process%-%d+$", name)
    assert.equal("spawn", method)
    -- forked by a thread and not joined by it: the thread's end waits for it
    local q = mp.Queue()
    local u = started { target = function(x)
      mp.Process { start_method = "fork", target = function() mp.sleep(0.2) x:put("done") end }:start()
    end, args = { q } }
    assert.is_true(u:join(20))
    assert.equal("done", q:get(0))
  end)

  it("makes spawn the default while it runs", function()
    local r = run.script [[
      local e = mp.Event()
      print(mp.get_start_method())
      local t = mp.Thread{ target = function() e:wait() end } t:start()
      print(mp.get_start_method())
      local p = mp.Process{ target = function() return 7 end, start_method = "fork" } p:start() print(p:result())
      e:set() t:join()]]
    assert.equal("fork\nspawn\n7\n", r.out)
  end)

  it("is joined at the program's end, unless it is a daemon", function()
    local r = run.script [[
      mp.Thread{ target = function() mp.sleep(60) end, daemon = true }:start()
      mp.Thread{ target = function() while true do pcall(mp.sleep, 60) end end, daemon = true }:start()
      mp.Thread{ target = function() mp.sleep(0.2) print "thread done" end }:start()
      print "main done"]]
    assert.equal("main done\nthread done\n", r.out)
    assert.equal(0, r.status)
  end)

  it("leaves nothing behind, in hundreds of cycles", function()
    local function count(what)
      local n = 0
      for _ in io.popen("ls /proc/" .. mp.getpid() .. "/" .. what):lines() do n = n + 1 end
      return n
    end
    local function cycles(n)
      for _ = 1, n do started(function() return mp.Event() end):join() end
      collectgarbage() collectgarbage()
    end
    cycles(3)
    local fds = count("fd")
    cycles(60)
    assert.is_truthy(run.wait_until(function() return count("fd") <= fds + 1 end, 5)) -- a thread closes its state after it has told of its end
    assert.is_truthy(run.wait_until(function() return count("task") <= 2 end, 5))
  end)
end)
