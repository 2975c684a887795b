-- Processes by fork: contract in docs/reference/process.md. What needs to be seen from outside runs a script of its own.
local mp = require "mp"
local run = require "spec.support.run"
local misuse = run.misuse

local function started(o)
  if type(o) == "function" then o = { target = o } end
  o.start_method = o.start_method or "fork"
  local p = mp.Process(o)
  p:start()
  return p
end

-- Runs f in a child whose stderr goes to a file: exit code, what it printed there.
local function printed(f, name)
  local file = run.tmpdir() .. "/err"
  local p = started { name = name, target = function(...)
    local r = run.command({ run.path, "-" }, { stdin = f .. "\n" })
    run.write(file, r.err)
    os.exit(r.status)
  end }
  p:join()
  return p.exitcode, run.read(file)
end

-- The misuse must be told at the line that made it.
describe("a process", function()
  it("runs its target with the arguments, holes and all, and the kwargs table last", function()
    local p = started { target = function(a, b, c, kw, ...)
      os.exit(a == 1 and b == nil and c == nil and kw.k == "v" and select("#", ...) == 0 and 7 or 8)
    end, args = { 1, nil, nil, n = 3 }, kwargs = { k = "v" } }
    assert.is_true(p:join())
    assert.equal(7, p.exitcode)
  end)

  it("is a copy: what it changes stays its own", function()
    local t, n = { 1 }, 1
    local p = started(function()
      n = n + 1
      t[#t + 1] = n
      os.exit(n + #t)
    end)
    p:join()
    assert.equal(4, p.exitcode)
    assert.equal(1, n)
    assert.same({ 1 }, t)
  end)

  it("tells exit codes: return, os.exit modulo 256, error, signal", function()
    local function code(f)
      local p = started(f)
      assert.is_true(p:join(20))
      return p.exitcode
    end
    assert.equal(0, code(function() end))
    assert.equal(0, code(function() return 5 end))
    assert.equal(0, code(function() os.exit(true) end))
    assert.equal(1, code(function() os.exit(false) end))
    assert.equal(3, code(function() os.exit(3) end))
    assert.equal(3, code(function() os.exit(256 + 3) end))
    assert.equal(4, code(function() os.exit(4, true) end))
    assert.equal(5, code(function() coroutine.wrap(function() os.exit(5) end)() end))
    assert.equal(-9, code(function() os.execute("kill -9 " .. mp.getpid()) end))
  end)

  it("has no exit code while it lives, and joins with a timeout", function()
    local p = started(function() mp.sleep(60) end)
    assert.is_nil(p.exitcode)
    assert.is_true(p:is_alive())
    assert.same({ n = 2, nil, "timeout" }, table.pack(p:join(0)))
    assert.same({ n = 2, nil, "timeout" }, table.pack(p:join(0.02)))
    assert.is_nil(p.error)
    assert.is_true(p:kill())
    assert.same({ n = 1, true }, table.pack(p:join()))
    assert.is_true(p:join(0))
    assert.is_false(p:is_alive())
    assert.equal(-9, p.exitcode)
    for _, name in ipairs { "terminate", "kill", "interrupt", "join" } do assert.is_true(p[name](p)) end
  end)

  it("is ended by terminate with SIGTERM", function()
    local p = started(function() while true do end end)
    assert.is_true(p:terminate())
    p:join()
    assert.equal(-15, p.exitcode)
  end)

  it("is interrupted in a computing loop, in a call that waits, and in a coroutine; and may catch it", function()
    for _, f in ipairs {
      function() while true do end end,
      function() mp.sleep(60) end,
      function() coroutine.wrap(function() mp.sleep(60) end)() end,
    } do
      local file = run.tmpdir() .. "/ready"
      local p = started(function()
        io.open(file, "w"):close()
        local ok, e = pcall(f)
        os.exit(not ok and tostring(e):find("interrupted!", 1, true) and 42 or 43)
      end)
      run.wait_until(function() return io.open(file) end, 10)
      mp.sleep(0.05)
      p:interrupt()
      assert.is_true(p:join(20))
      assert.equal(42, p.exitcode)
    end
  end)

  it("is interrupted in a coroutine that was made before it, under any interpreter; coroutines go on afterwards", function()
    local other = coroutine.wrap(function() for i = 1, 10 do coroutine.yield(i) end end)
    other()
    local ready = mp.Event()
    local loop = coroutine.wrap(function() ready:set() while true do end end)
    local p = started(function()
      for _ = 1, 1000 do coroutine.create(print) end
      local ok, e = pcall(loop)
      local sum = coroutine.wrap(function() local n = 0 for i = 1, 1000 do n = n + i end return n end)()
      return ok, e, other(), sum
    end)
    assert.is_true(ready:wait(20))
    p:interrupt()
    local ok, e, second, sum = p:result(20)
    assert.is_false(ok)
    assert.matches("interrupted!", e, 1, true)
    assert.same({ 2, 500500 }, { second, sum })
  end)

  it("that is interrupted as it begins ends, and never runs on in its parent's program", function()
    local code = [[local mp = require "mp"
      local me, told = mp.getpid(), 0
      for i = 1, 40 do
        local p = mp.Process { target = function() return 1 end, start_method = "fork" }
        local ok = pcall(function() p:start() p:interrupt() p:join() end)
        if mp.getpid() ~= me then print("escaped") os.exit(0) end
        assert(ok)
        if p.exitcode == 1 then
          assert(p.error.message:find("interrupted!", 1, true), p.error.message)
          told = told + 1
        else assert(p.exitcode == 0) end
      end
      print("done", told > 0)]]
    local r = run.command({ run.path, "-" }, { stdin = code })
    assert.equal("done\ttrue\n", r.out)
    assert.is_nil(r.err:find("could not go on", 1, true))
  end)

  it("that is interrupted and does not catch it ends with 1", function()
    local code, err = printed [[
      local p = mp.Process{ target = function() while true do end end, name = "loop" }
      p:start() mp.sleep(0.2) p:interrupt() p:join() os.exit(p.exitcode + 10)]]
    assert.equal(11, code)
    assert.matches("^loop: .*interrupted!", err)
  end)

  it("tells an uncaught error once, with name, line and traceback, and ends with 1", function()
    local code, err = printed [[
      local function inner() error("boom") end
      local p = mp.Process{ target = function() inner() end, name = "worker" }
      p:start() p:join() os.exit(p.exitcode + 20)]]
    assert.equal(21, code)
    assert.matches("^worker: stdin:1: boom\nstack traceback:\n", err)
    assert.matches("in upvalue 'inner'", err)
    assert.equal(1, select(2, err:gsub("boom", "")))
  end)

  it("survives an error value of any kind, and an error while the message is made", function()
    for _, text in ipairs { "error({})", "error(nil)", "error(setmetatable({}, {__tostring = error}))", "local function f() return f() + 1 end f()",
                            "error(setmetatable({}, {__tostring = function() return 'mine' end}))" } do
      local code = printed("local p = mp.Process{ target = function() " .. text .. " end } p:start() p:join() os.exit(p.exitcode)")
      assert.equal(1, code)
    end
  end)

  it("gives back functions and shared objects, as results and in errors, and tells which result cannot be sent", function()
    for _, method in ipairs { "fork", "spawn" } do
      local p = started { start_method = method, target = function() return function() return 7 end, print end }
      local f, same = p:result()
      assert.equal(7, f())
      assert.equal(print, same)
      p = started { start_method = method, target = function() error { f = function() return 8 end } end }
      p:join()
      assert.equal("error", p.error.kind)
      assert.equal(8, p.error.value.f())
      p = started { start_method = method, target = function() error(setmetatable({}, { __tostring = function() return "my text" end })) end }
      p:join()
      assert.equal("my text", p.error.message)
      assert.equal("my text", p.error.value) -- a metatable that nobody registered cannot be sent
      p = started { start_method = method, target = function() return 1, { x = coroutine.create(print) } end }
      local ok, e = pcall(p.result, p)
      assert.is_false(ok)
      assert.is_true(mp.is_error(e, "encode"))
      assert.equal("the result cannot be sent: result[2].x: a coroutine cannot be sent", e.message)
    end
  end)

  it("that reports nonsense, as a hostile one may, has failed in a way that can be told", function()
    for _, v in ipairs { { kind = "sandbox", message = 5, foo = 1 }, { kind = {}, value = { 1 } }, { kind = 0 / 0 }, 5, "x" } do
      local p = started(function()
        debug.getregistry()["mp.core"].report("error", v)
        os.exit(1, false)
      end)
      p:join()
      assert.is_true(p.error.kind == "error" or p.error.kind == "died")
      assert.equal("string", type(p.error.message))
      assert.equal(p.pid, p.error.pid)
    end
    for _, v in ipairs { 5, {}, { n = "x" }, { n = 1 << 40 }, { n = -4 }, setmetatable({ n = 2 }, { __name = "x" }) } do
      local p = started(function()
        debug.getregistry()["mp.core"].report("result", v)
        os.exit(0, false)
      end)
      local ok, e = pcall(p.result, p)
      assert.is_false(ok)
      assert(mp.is_error(e, "encode"), tostring(e))
      assert.matches("malformed", e.message)
    end
  end)

  it("reads nothing from the terminal: its standard input is empty", function()
    local r = run.script([[
      local p = mp.Process{ target = function() os.exit(io.read("a") == "" and 7 or 8) end }
      p:start() p:join() print(p.exitcode, io.read("l"))]], {}, { stdin = "mine\n" })
    assert.equal("7\tmine\n", r.out)
  end)

  it("writes what was buffered before it once", function()
    local r = run.script([[
      io.stdout:setvbuf("full")
      io.write("before ")
      local p = mp.Process{ target = function() io.write("child ") end }
      p:start() p:join()
      io.write("after\n")]])
    assert.equal("before child after\n", r.out)
  end)

  it("runs its target here by run()", function()
    local p = mp.Process { target = function(a, b) return a + b, mp.getpid() end, args = { 1, 2 } }
    assert.same({ 3, mp.getpid() }, { p:run() })
    assert.is_nil(mp.Process{}:run())
  end)

  it("knows itself, its parent and its children", function()
    assert.is_nil(mp.parent_process())
    assert.equal("MainProcess", mp.current_process().name)
    assert.equal(mp.getpid(), mp.current_process().pid)
    local main = mp.getpid()
    local p = started { name = "me", target = function()
      local me, parent = mp.current_process(), mp.parent_process()
      assert(me.name == "me" and me.pid == mp.getpid() and me:is_alive() and me.exitcode == nil)
      assert(parent.pid == main and parent.name == "MainProcess" and parent:is_alive())
      assert(select(2, parent:join(0.01)) == "timeout")
      assert(#mp.active_children() == 0)
    end }
    assert.same({ p }, mp.active_children())
    p:join()
    assert.equal(0, p.exitcode)
    assert.same({}, mp.active_children())
  end)

  -- A forked child becomes itself when it is asked for the first time (settle in lua/mp/process.lua): every way to ask is the first once.
  it("knows who it is, whatever it asks first, and from wherever", function()
    local sibling = started(function() mp.sleep(60) end)
    local p, main = nil, mp.getpid()
    local number = mp.Process {}.name:match "%d+"
    local asked
    local ask = {
      function() return p.pid == mp.getpid() end,
      function() return tostring(p):find("this process, pid " .. mp.getpid(), 1, true) end,
      function() return p:is_alive() and p.exitcode == nil end,
      function() return p.name == ("Process-%d"):format(number + asked) end,
      function() return mp.current_process() == p end,
      function() return mp.parent_process().pid == main end,
      function() return #mp.active_children() == 0 end,
      function() return mp.Process {}.name == ("Process-%d:1"):format(number + asked) end,
      function() return mp.Thread {}.name == ("Thread-%d:1"):format(number + asked) end,
      function() return not pcall(p.join, p) and select(2, pcall(p.join, p)):find "to itself" end,
      function() return select(2, pcall(mp.wait, { p })):find(p.name .. " cannot be waited for here", 1, true) end,
      function() return select(2, pcall(p.start, p)):find "was started before" end,
      function() return select(2, pcall(sibling.join, sibling)):find "not a child of this process" end,
      function() return sibling.pid ~= p.pid and tostring(sibling):find(("of process %d, pid %d"):format(main, sibling.pid), 1, true) end,
      function() p.name = "other" return mp.current_process().name == "other" and mp.Process {}.name == ("Process-%d:1"):format(number + asked) end,
      function() p.authkey = "k" return mp.current_process().authkey == "k" end,
      function() return mp.at_exit(function() end) and mp.current_process() == p end,
      function() return coroutine.wrap(function() return mp.current_process() == p and #mp.active_children() == 0 end)() end,
      function() -- a finalizer, perhaps in the middle of it
        for _ = 1, 100 do setmetatable({}, { __gc = function() if mp.current_process() ~= p then os.exit(9) end end }) end
        collectgarbage "step"
        return mp.current_process() == p
      end,
      function() -- a hook that raises does so before or after, not in the middle
        local raised = 0
        for n = 1, 200 do
          local ok, me = pcall(function()
            debug.sethook(function()
              debug.sethook()
              raised = raised + 1
              error "hook"
            end, "", n)
            local it = mp.current_process()
            debug.sethook()
            return it
          end)
          if ok and me ~= p or mp.parent_process().pid ~= main or #mp.active_children() ~= 0 then return false end
        end
        return raised > 0
      end,
    }
    for i = 1, #ask do
      asked = i
      p = mp.Process { start_method = "fork", target = function()
        os.exit(ask[i]() and mp.current_process() == p and mp.parent_process().name == "MainProcess" and 0 or 1)
      end }
      p:start()
      assert.is_true(p:join(60))
      assert.equal(0, p.exitcode, "question " .. i)
    end
    sibling:kill()
    sibling:join()
  end)

  it("that asks nothing runs no hooks of its parent, and its files are written", function()
    local file = run.tmpdir() .. "/out"
    local r = run.script(("local file = %q\n"):format(file) .. [[
      mp.at_exit(function() print "main" end)
      local p = mp.Process{ target = function() os.exit(3, true) end }
      p:start() p:join() print(p.exitcode)
      local f = io.open(file, "w")
      p = mp.Process{ target = function() f:write "from the child" end }
      p:start() p:join() print(p.exitcode)]])
    assert.equal("3\n0\nmain\n", r.out)
    assert.equal("from the child", run.read(file))
  end)

  it("knows who it is in its last finalizers, when its state is closed", function()
    local r = run.script [[
      last = setmetatable({}, { __gc = function() print(mp.current_process().name) end })
      io.stdout:setvbuf "no"
      for _, close in ipairs { true, false } do
        local p = mp.Process{ target = function() os.exit(4, close) end }
        p:start() p:join() print(p.exitcode)
      end]]
    assert.equal("Process-1\n4\n4\nMainProcess\n", r.out)
  end)

  it("can be started under a hook that asks who it is", function()
    local r = run.script [[
      local function try()
        debug.sethook(function() return mp.current_process().name end, "crl", 1)
        local p, q = mp.Process(function() return 5 end), mp.Process(function() error("x", 0) end)
        p:start() q:start() p:join() q:join()
        debug.sethook()
        print(p.exitcode, p:result()) print(q.exitcode, q.error.message)
      end
      try() coroutine.wrap(try)()]]
    assert.equal(("0\t5\n1\tx\n"):rep(2), r.out)
  end)

  it("runs what the program has put in the place of mp.Process.run", function()
    local r = run.script [[
      local before = mp.Process.run
      function mp.Process:run() return "mine", before(self) end
      local p = mp.Process(function() return 7 end)
      p:start() print(p:result())]]
    assert.equal("mine\t7\n", r.out)
  end)

  it("takes arguments whose number is odd by now, or that have a metatable, as table.unpack does", function()
    local function given(...) return select("#", ...), ... end
    local args = { 1, 2 }
    local p = mp.Process { target = given, args = args, start_method = "fork" }
    args.n = -3
    p:start()
    assert.equal(0, (p:result(60)))
    for len, want in pairs { [-5] = 0, [2] = 2, [1.5] = false } do
      p = started { target = given, args = setmetatable({}, { __len = function() return len end }) }
      local ok, n = pcall(p.result, p, 60)
      assert.same({ want and true or false, want or nil }, { ok, ok and n or nil })
    end
    local main = mp.getpid()
    p = started { target = given, args = setmetatable({ n = 1 }, { __index = function() return mp.getpid() ~= main end }) }
    assert.same({ 1, true }, { p:result(60) }) -- what the metatable says is asked in the child
  end)

  -- (What mprun's handler has set is copied, too; and an error may be raised only where somebody catches it.)
  it("is interrupted while it starts one: that one is not, and the interruption is not lost", function()
    local r = run.script [[
      math.randomseed(7)
      for _ = 1, 400 do
        local p = mp.Process(function()
          local child
          pcall(function()
            while true do
              child = mp.Process(function() end)
              child:start()
              child:join()
            end
          end)
          local ok, code = pcall(function() child:join() return child.exitcode end) -- or it was not started
          os.exit(ok and code ~= 0 and 99 or 0)
        end)
        p:start()
        mp.sleep(0.002 + math.random() * 0.001)
        p:interrupt()
        if not p:join(20) then print "lost" p:kill() end
        if p.exitcode == 99 then print "the child's child, too" end
      end]]
    assert.equal("", r.out)
  end)

  it("starts processes of its own from wherever it runs, and each gives its results", function()
    local function sum(depth)
      if depth == 0 then return 1, nil, nil end
      local one, two = started { target = sum, args = { depth - 1 } }, nil
      coroutine.wrap(function() two = started { target = sum, args = { depth - 1 } } end)()
      return one:result() + two:result(), nil, nil
    end
    local p = started { target = sum, args = { 3 } }
    assert.same({ n = 3, 8 }, table.pack(p:result(60)))
    local many = {}
    for i = 1, 150 do many[i] = i end -- more than are laid out before the fork
    p = started { target = function(...) return select("#", ...), (select(150, ...)) end, args = many, kwargs = {} }
    assert.same({ 151, 150 }, { p:result(60) })
  end)

  it("has a default name with its number; children of children add theirs; a named one uses up its number", function()
    local r = run.script [[
      local function name(o) return mp.Process(o).name end
      print(name{}, name{ name = "x" }, name{})
      local p = mp.Process{ target = function()
        print(mp.Process{}.name)
        local q = mp.Process{ target = function() print(mp.current_process().name, mp.Process{}.name) end }
        q:start() q:join()
      end }
      p:start() p:join()]]
    assert.equal("Process-1\tx\tProcess-3\nProcess-4:1\nProcess-4:2\tProcess-4:2:1\n", r.out)
  end)

  it("inherits daemon, start method and authkey", function()
    local r = run.script [[
      mp.set_start_method("fork")
      local key = mp.current_process().authkey
      local p = mp.Process{ daemon = true, target = function()
        print(mp.Process{}.daemon, mp.get_start_method(), mp.current_process().authkey == key, #key)
      end }
      p:start() p:join()]]
    assert.equal("true\tfork\ttrue\t32\n", r.out)
  end)

  it("says what it is", function()
    local p = mp.Process { name = "w", target = function() mp.sleep(60) end, start_method = "fork" }
    assert.equal("mp.Process w not started", tostring(p))
    p:start()
    assert.equal("mp.Process w running pid " .. p.pid, tostring(p))
    assert.is_true(p.sentinel > 2)
    p:kill() p:join()
    assert.equal("mp.Process w ended by signal 9", tostring(p))
    assert.is_true(p:close())
    assert.is_true(p:close())
    assert.equal("mp.Process w closed", tostring(p))
  end)

  it("is stopped within a budget, whatever it catches", function()
    local p = started(function() while true do pcall(mp.sleep, 60) end end)
    assert.is_true(p:stop(0.2))
    assert.is_false(p:is_alive())
    local q = started(function() mp.sleep(60) end)
    assert.is_true(q:stop(20))
    assert.equal(1, q.exitcode)
  end)

  it("runs its exit hooks, last registered first, whether it returns or fails; the main program at its end", function()
    local r = run.script [=[
      mp.at_exit(function() print "main" end)
      for _, how in ipairs{ "return", "fail" } do
        local p = mp.Process{ target = function()
          mp.at_exit(function() print "one" end)
          mp.at_exit(function() error "two" end)
          if how == "fail" then error "x" end
        end }
        p:start() p:join() print(p.exitcode)
      end]=]
    assert.equal("one\n0\none\n1\nmain\n", r.out)
    assert.matches("at_exit: .*two", r.err)
  end)

  it("is interruptible in join", function()
    local r = run.script [[
      local p = mp.Process{ target = function() mp.sleep(60) end, daemon = true }
      p:start()
      os.execute("(sleep 0.2; kill -INT " .. mp.getpid() .. ") &")
      print(pcall(p.join, p))
      print(p:is_alive())]]
    assert.matches("^false\t.*interrupted!\ntrue\n$", r.out)
  end)
end)

describe("misuse of a process", function()
  local function idle() mp.sleep(60) end

  it("in the constructor names the option", function()
    misuse({ "Process: target must be a function" }, function() mp.Process { target = 1 } end)
    misuse({ "Process: unknown option 'targt'" }, function() mp.Process { targt = print } end)
    misuse({ "Process: args must be a table" }, function() mp.Process { args = 1 } end)
    misuse({ "Process: args.n must be the number of arguments, not x" }, function() mp.Process { args = { n = "x" } } end)
    misuse({ "Process: args.n must be the number of arguments, not -1" }, function() mp.Process { args = { 1, n = -1 } } end)
    misuse({ "Process: args.n must be the number of arguments, not 1.5" }, function() mp.Process { args = { 1, n = 1.5 } } end)
    misuse({ "Process: kwargs must be a table" }, function() mp.Process { kwargs = 1 } end)
    misuse({ "Process: name must be a string" }, function() mp.Process { name = 1 } end)
    misuse({ "Process: daemon must be a boolean" }, function() mp.Process { daemon = 1 } end)
    misuse({ "Process: start_method must be" }, function() mp.Process { start_method = "thread" } end)
    misuse({ "Process: a table of options" }, function() mp.Process("x") end)
  end)

  it("before start", function()
    local p = mp.Process { target = idle }
    for _, name in ipairs { "join", "terminate", "kill", "interrupt", "result" } do
      misuse({ name .. ": ", "was not started" }, function() p[name](p) end)
    end
    misuse({ "sentinel: ", "was not started" }, function() return p.sentinel end)
    assert.is_nil(p.exitcode)
    assert.is_nil(p.pid)
    assert.is_false(p:is_alive())
  end)

  it("while it runs, and after close", function()
    local p = started { target = idle }
    misuse({ "start: ", "started before" }, function() p:start() end)
    misuse({ "mp.Process: daemon must be set before start" }, function() p.daemon = true end)
    misuse({ "close: ", "is running" }, function() p:close() end)
    misuse({ "join: timeout must be a number" }, function() p:join("x") end)
    misuse({ "result: timeout must be a number" }, function() p:result("x") end)
    misuse({ "result: timeout must be a number" }, function() p:result(0 / 0) end)
    p:kill() p:join()
    misuse({ "start: ", "started before" }, function() p:start() end)
    assert.is_true(p:close())
    for _, name in ipairs { "start", "join", "is_alive", "terminate", "kill", "run", "result" } do
      misuse({ name .. ": the process is closed" }, function() p[name](p) end)
    end
    misuse({ "exitcode: the process is closed" }, function() return p.exitcode end)
  end)

  it("of fields", function()
    local p = mp.Process { target = idle }
    misuse({ "mp.Process has no field 'foo'" }, function() return p.foo end)
    misuse({ "foo: " }, function() p.foo = 1 end)
    misuse({ "exitcode: cannot be set" }, function() p.exitcode = 1 end)
    misuse({ "mp.Process: name must be a string, not a number" }, function() p.name = 1 end)
    misuse({ "join: a process expected" }, function() p.join() end)
  end)

  it("in a process that is not its parent", function()
    local made, other = mp.Process { target = idle }, started { target = idle }
    local p = started(function()
      local ok1, e1 = pcall(made.start, made)
      local ok2, e2 = pcall(other.join, other)
      local ok3, e3 = pcall(other.kill, other)
      local me = mp.current_process()
      local ok4, e4 = pcall(me.join, me)
      os.exit(not ok1 and e1:find "start: .*made by another process" and not ok2 and e2:find "join: .*not a child of this process"
        and not ok3 and e3:find "kill: " and not ok4 and e4:find "to itself" and 7 or 8)
    end)
    p:join()
    assert.equal(7, p.exitcode)
    other:kill() other:join()
  end)

  it("of start methods", function()
    misuse({ "set_start_method: " }, function() mp.set_start_method("forkserver") end)
    local r = run.script [[
      print(mp.get_start_method())
      print(mp.set_start_method("fork"))
      print(pcall(mp.set_start_method, "fork"))
      print(mp.set_start_method("fork", true))]]
    assert.matches("^fork\ntrue\nfalse\t.*set_start_method: .*\ntrue\n$", r.out)
  end)
end)

describe("a class of processes", function()
  it("calls init when made and run in the child; instances have fields of their own", function()
    local W = mp.Process:extend("W")
    function W:init(n) self.n = n end
    function W:run() os.exit(self.n + (mp.current_process() == self and 1 or 0)) end
    local a, b = W(20), W(30)
    a:start() b:start()
    a:join() b:join()
    assert.equal(21, a.exitcode)
    assert.equal(31, b.exitcode)
    assert.matches("^W%-%d+$", a.name)
    a.n = 5
    assert.equal(5, a.n)
    assert.has_error(function() return a.nothing end)
  end)

  it("without init takes the options of Process, and can be extended again", function()
    local A = mp.Process:extend()
    local B = A:extend("B")
    function A:hello() return "hello " .. self.name end
    function B:init(o) o.name = "b" B.super.init(self, o) end
    local b = B { target = function(x) return x end, args = { 4 }, daemon = true }
    assert.equal("hello b", b:hello())
    assert.is_true(b.daemon)
    assert.equal(4, b:run())
    assert.matches("^Process%-%d+$", A().name)
  end)
end)
