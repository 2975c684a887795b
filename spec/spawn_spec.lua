-- Processes by spawn: nothing of the caller's memory; everything else as by fork.
local mp = require "mp"
local run = require "spec.support.run"
local _ = mp.now -- mprun opens the module when it is first touched
local core = debug.getregistry()["mp.core"] -- private: the zygote's pid

local function spawned(o)
  if type(o) == "function" then o = { target = o } end
  o.start_method = "spawn"
  local p = mp.Process(o)
  p:start()
  return p
end

describe("a spawned process", function()
  it("gets its arguments and gives its results, closures and shared objects among them", function()
    local q, n, t = mp.Queue(), 5, { 1, 2 }
    local function helper(x) return x + n end
    local p = spawned { target = function(a, b, c, kw)
      q:put(helper(a))
      t[1] = 99
      return b, c, kw.k, t, q
    end, args = { 1, nil, 3, n = 3 }, kwargs = { k = "v" } }
    local r = table.pack(p:result(20))
    assert.same({ n = 5, nil, 3, "v", { 99, 2 }, q }, r)
    assert.same({ 1, 2 }, t)
    assert.equal(6, q:get(1))
    assert.equal(0, p.exitcode)
  end)

  it("shares no memory with the caller: its globals are its own", function()
    _G.SPAWN_SPEC_SECRET = "secret"
    local p = spawned(function() return _G.SPAWN_SPEC_SECRET, package.loaded.busted end)
    assert.same({ n = 2 }, table.pack(p:result(20)))
    _G.SPAWN_SPEC_SECRET = nil
  end)

  it("tells exit codes, errors and signals as a forked one", function()
    local function ended(f)
      local p = spawned(f)
      p:join(20)
      return p.exitcode, p.error
    end
    assert.equal(0, (ended(function() end)))
    assert.equal(3, (ended(function() os.exit(259) end)))
    assert.equal(-9, (ended(function() os.execute("kill -9 " .. require "mp".getpid()) end)))
    local r = run.script [[
      local p = mp.Process{ start_method = "spawn", name = "w", target = function() error("boom") end }
      p:start() p:join() print(p.exitcode, p.error.kind, p.error.message, p.error.name == "w", p.error.pid == p.pid, p.error.traceback ~= nil)]]
    assert.matches("^1\terror\t.*script.lua:1: boom\ttrue\ttrue\ttrue\n$", r.out)
    assert.matches("^w: .*script.lua:1: boom\nstack traceback:\n", r.err)
  end)

  it("is interrupted in a loop, in a waiting call, and in a coroutine", function()
    for _, f in ipairs {
      function(ready) ready:set() while true do end end,
      function(ready) ready:set() mp.sleep(60) end,
      function(ready) local co = coroutine.wrap(function() while true do end end) ready:set() co() end,
    } do
      local ready = mp.Event()
      local p = spawned { target = function(r)
        local ok, e = pcall(f, r)
        return not ok and tostring(e):find("interrupted!", 1, true) ~= nil
      end, args = { ready } }
      assert.is_true(ready:wait(20))
      p:interrupt()
      assert.is_true(p:result(20))
    end
  end)

  it("has the caller's directory, environment, arg and module paths", function()
    local dir = run.tmpdir()
    run.write(dir .. "/own.lua", "return { answer = 42 }")
    local r = run.command({ "sh", "-c", "cd " .. run.quote(dir) .. " && OWN=x " .. run.quote(run.path) .. " - a b" }, { stdin = [[
      package.path = "./own.lua;?.lua"
      local p = mp.Process{ start_method = "spawn", target = function()
        local f = io.open("own.lua")
        return f ~= nil, os.getenv("OWN"), arg[2], require "own".answer, package.path
      end }
      p:start() print(p:result())]] })
    assert.equal("true\tx\tb\t42\t./own.lua;?.lua\n", r.out)
  end)

  it("starts where there is no directory any more, no environment, no standard streams, few descriptors", function()
    local dir = run.tmpdir()
    local code = "local p = mp.Process{ start_method = 'spawn', target = function() return 42 end } p:start() os.exit(p:result())"
    local program = run.quote(run.path) .. " -e " .. run.quote(code)
    for name, command in pairs {
      directory = ("mkdir %s/gone && cd %s/gone && rmdir %s/gone && %s"):format(dir, dir, dir, program),
      environment = "env -i " .. (run.mode == "asan" and "ASAN_OPTIONS=\"$ASAN_OPTIONS\" " or "") .. program,
      streams = program .. " <&- >&- 2>&-",
      full = program .. " >/dev/full",
      descriptors = "ulimit -n 16; " .. program,
    } do
      local r = run.command { "sh", "-c", command }
      assert.equal(42, r.status, name .. ": " .. r.both)
    end
  end)

  it("starts although the program's file is gone", function()
    local copy = run.tmpdir() .. "/mprun"
    assert(os.execute(("cp %s %s"):format(run.quote(run.path), copy)))
    local r = run.command({ copy, "-" }, { stdin = ([[
      os.remove "%s"
      local p = mp.Process{ start_method = "spawn", target = function() return 42 end } p:start() print(p:result())]]):format(copy) })
    assert.equal("42\n", r.both)
  end)

  it("never runs the main script again, and needs no main guard", function()
    local r = run.script [[
      print "main"
      mp.set_start_method("spawn")
      local p = mp.Process{ target = function() print "child" end }
      p:start() p:join()]]
    assert.equal("main\nchild\n", r.out)
  end)

  it("can itself spawn and fork; names and start method are inherited", function()
    local r = run.script [[
      mp.set_start_method("spawn")
      local p = mp.Process{ target = function()
        print(mp.current_process().name, mp.get_start_method(), mp.parent_process().name)
        for _, m in ipairs{ "spawn", "fork" } do
          local q = mp.Process{ start_method = m, target = function() print(mp.current_process().name, mp.parent_process().name) end }
          q:start() q:join()
        end
      end }
      p:start() p:join()]]
    assert.equal("Process-1\tspawn\tMainProcess\nProcess-1:1\tProcess-1\nProcess-1:2\tProcess-1\n", r.out)
    assert.equal("", r.err)
  end)

  it("makes an instance of its class again, with methods, ancestors and fields", function()
    local A = mp.Process:extend("A")
    function A:add(x) return self.n + x end
    local B = A:extend("B")
    function B:init(n) self.n, self.start_method_ = n, "x" end
    function B:run() return self:add(1), self.name, self.super ~= nil end
    mp.set_start_method("spawn", true)
    local b = B(41)
    b:start()
    mp.set_start_method("fork", true)
    local x, name, super = b:result(20)
    assert.equal(42, x)
    assert.equal(b.name, name)
    assert.is_true(super)
  end)

  it("refuses at start what cannot be sent, with its place, and starts nothing", function()
    local p = mp.Process { start_method = "spawn", target = function() end, args = { { handler = coroutine.create(print) } } }
    local ok, e = pcall(p.start, p)
    assert.is_false(ok)
    assert.is_true(mp.is_error(e, "encode"))
    assert.matches("args%[1%]%.handler: a coroutine cannot be sent", tostring(e))
    assert.is_nil(p.pid)
    assert.is_false(p:is_alive())
  end)

  it("draws random numbers of its own", function()
    local a, b = spawned(function() return math.random(1 << 50) end), spawned(function() return math.random(1 << 50) end)
    assert.not_equal(a:result(20), b:result(20))
  end)

  it("reports a real exit code though its zygote is killed, which is replaced", function()
    local go = mp.Event()
    local function work(e) e:wait(20) os.exit(7) end
    local p = spawned { target = work, args = { go } }
    local zygote = core.zygote()
    assert.is_true(zygote > 0)
    os.execute("kill -9 " .. zygote)
    local q = spawned { target = work, args = { go } }
    assert.not_equal(zygote, core.zygote())
    assert.is_true(p:is_alive())
    go:set()
    assert.is_true(p:join(20))
    assert.is_true(q:join(20))
    assert.equal(7, p.exitcode)
    assert.equal(7, q.exitcode)
  end)

  it("starts although its zygote has been stopped", function()
    spawned(function() end):join()
    local zygote = core.zygote()
    os.execute("kill -STOP " .. zygote)
    assert.equal(7, spawned(function() return 7 end):result(20))
    assert.equal(zygote, core.zygote())
  end)

  it("starts each process once while its zygote is killed again and again", function()
    local zygote, seen = mp.Value("q", 0), mp.Value("q", 0)
    local killer = mp.Thread { daemon = true, target = function(z)
      while true do
        mp.sleep(0.001 + math.random() * 0.004)
        if z.value > 0 then os.execute("kill -9 " .. z.value .. " 2>/dev/null") end
      end
    end, args = { zygote } }
    killer:start()
    for i = 1, 100 do
      local p = spawned { target = function(n, s) s:add(1) return n * 2 end, args = { i, seen } }
      zygote.value = core.zygote()
      assert.equal(i * 2, p:result(20))
    end
    killer:terminate()
    killer:join()
    assert.equal(100, seen.value)
    spawned(function() end):join() -- buries the last one
    local zombies = 0
    for line in io.popen("cat /proc/[0-9]*/stat 2>/dev/null"):lines() do
      local state, ppid = line:match("^%d+ %b() (%a) (%d+)")
      if state == "Z" and math.tointeger(ppid) == mp.getpid() then zombies = zombies + 1 end
    end
    assert.equal(0, zombies)
  end)

  it("returns hundreds of shared objects, and large results", function()
    local p = spawned(function()
      local t = {}
      for i = 1, 300 do t[i] = mp.Event() end
      return t, ("x"):rep(300000)
    end)
    local t, s = p:result(20)
    assert.equal(300, #t)
    assert.is_false(t[300]:is_set())
    assert.equal(300000, #s)
    local list = {}
    for i = 1, 300 do list[i] = mp.Event() end
    local q = spawned { target = function(l) l[300]:set() return #l end, args = { list } }
    assert.equal(300, q:result(20))
    assert.is_true(list[300]:is_set())
  end)

  it("leaves no descriptor behind, in hundreds of cycles", function()
    local function count()
      local n = 0
      for _ in io.popen("ls /proc/" .. mp.getpid() .. "/fd"):lines() do n = n + 1 end
      return n
    end
    local function cycles(n)
      for _ = 1, n do spawned(function() return 1 end):join() end
      collectgarbage() collectgarbage()
    end
    cycles(5)
    local before = count()
    cycles(100)
    assert.is_true(count() <= before + 1)
  end)
end)

-- The rules of a program's end, with spawned processes.
describe("a tree of spawned processes", function()
  local function running(pid)
    local f = io.open(("/proc/%d/stat"):format(pid))
    if not f then return false end
    local text = f:read("a") or ""
    f:close()
    return not text:match("^%d+ %b() [ZX]")
  end

  for how, command in pairs { ["killed"] = "kill -9 %d", ["interrupted"] = "kill -INT -%d" } do
    it("is gone when the program is " .. how, function()
      local dir = run.tmpdir()
      run.write(dir .. "/script.lua", [[
        local dir = ...
        mp.set_start_method("spawn")
        local function here(d) local f = io.open(d .. "/pids", "a") f:write(mp.getpid(), "\n") f:close() end
        local function leaf(d) here(d) mp.sleep(60) end
        local function node(d, leaf) mp.Process{ target = leaf, args = { d } }:start() here(d) mp.sleep(60) end
        here(dir)
        for i = 1, 2 do mp.Process{ target = node, args = { dir, leaf }, daemon = i == 2 }:start() end
        mp.sleep(60)]])
      run.write(dir .. "/pids", "")
      os.execute(("setsid %s %s/script.lua %s >%s/out 2>%s/err </dev/null &"):format(run.quote(run.path), dir, dir, dir, dir))
      local pids
      assert(run.wait_until(function()
        pids = {}
        for pid in run.read(dir .. "/pids"):gmatch("(%d+)\n") do pids[#pids + 1] = math.tointeger(pid) end
        return #pids == 5
      end, 10), run.read(dir .. "/err"))
      os.execute("sleep 0.2; " .. command:format(pids[1]))
      assert(run.wait_until(function()
        for _, pid in ipairs(pids) do if running(pid) then return false end end
        return true
      end, 5))
      if how == "interrupted" then assert.equal(1, select(2, run.read(dir .. "/err"):gsub("interrupted!", "")), run.read(dir .. "/err")) end
    end)
  end

  it("ends by the exit rules: daemons ended, others joined", function()
    local r = run.script [[
      mp.set_start_method("spawn")
      mp.Process{ target = function() mp.sleep(60) end, daemon = true }:start()
      mp.Process{ target = function() mp.sleep(0.3) print "child done" end }:start()
      print "main done"]]
    assert.equal("main done\nchild done\n", r.out)
    assert.equal(0, r.status)
  end)
end)

describe("what is begun in a fresh state", function()
  local function each(f)
    f(function(o) o.start_method = "spawn" return mp.Process(o) end)
    f(mp.Thread)
  end

  it("finds modules where its maker finds them, before it reads what comes from them", function()
    local dir = run.tmpdir()
    run.write(dir .. "/mp_spec_module.lua", "return { twice = function(x) return 2 * x end }")
    local before = package.path
    finally(function() package.path, package.loaded.mp_spec_module = before, nil end)
    package.path = dir .. "/?.lua;" .. package.path
    local module = require "mp_spec_module"
    each(function(make)
      local p = make { target = module.twice, args = { 21 } }
      p:start()
      assert.equal(42, p:result(20))
      p = make { target = function() return module.twice(4), package.path end }
      p:start()
      assert.same({ 8, package.path }, { p:result(20) })
    end)
    local q = mp.Queue()
    q:put(module.twice)
    assert.equal(module.twice, q:get())
  end)

  it("is interrupted even as it begins", function()
    for _ = 1, 10 do
      local p = mp.Process { target = function() while true do end end, start_method = "spawn" }
      p:start()
      p:interrupt()
      assert.is_true(p:join(20))
      assert.matches("interrupted!", p.error.message, 1, true)
    end
  end)

  it("tells its maker why it could not begin", function()
    local Class = {}
    mp.register("spawn_spec.Class", Class)
    each(function(make)
      local p = make { target = function() end, args = { setmetatable({}, Class) } }
      p:start()
      assert.is_true(p:join(20))
      assert.equal(1, p.exitcode)
      assert.is_true(mp.is_error(p.error, "encode"))
      assert.matches("spawn_spec.Class", p.error.message, 1, true)
    end)
  end)
end)
