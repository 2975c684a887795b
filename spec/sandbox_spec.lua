-- luacheck: ignore 122 (a guest breaks its own libraries)
-- Workers under a policy: what is granted works, what is not is refused and told, and limits cannot be caught.
local mp = require "mp"
local run = require "spec.support.run"

local dir

-- Sanitizers look for leaks at the end with a process of their own, and their allocator dies of the limit that Lua's lives with.
local unsanitized = (run.mode == "asan" or run.mode == "tsan") and function() end or it

local function put(name, text)
  local f = assert(io.open(name, "w"))
  f:write(text)
  f:close()
  return name
end

-- Starts and joins; the process, whether it succeeded, and its results or error.
local function confined(target, sandbox, o)
  o = o or {}
  o.target, o.sandbox = target, sandbox
  local p = mp.Process(o)
  p:start()
  assert.is_true(p:join(30))
  return p, pcall(p.result, p)
end

-- The same for what must succeed: the results.
local function inside(sandbox, target, o)
  local r = table.pack(confined(target, sandbox, o))
  if not r[2] then error(tostring(r[3]), 0) end
  return table.unpack(r, 3, r.n)
end

local function misuse(words, f)
  local ok, e = pcall(f)
  assert.is_false(ok)
  e = tostring(e)
  for _, word in ipairs(words) do assert(e:find(word, 1, true), ("%q is not in %q"):format(word, e)) end
  assert(e:find("sandbox_spec.lua:%d+: "), "no position of the caller: " .. e)
end

setup(function()
  dir = os.tmpname()
  os.remove(dir)
  assert(os.execute("mkdir -p " .. dir .. "/in " .. dir .. "/out"))
  put(dir .. "/in/file", "readable")
  put(dir .. "/secret", "secret")
end)

teardown(function() os.execute("rm -rf " .. dir) end)

describe("a pure worker", function()
  it("computes with what it is given, and gives results", function()
    local n = 5
    assert.same({ 12, { "x" } }, { inside("pure", function(a, t) return a + n, t end, { args = { 7, { "x" } } }) })
    assert.equal(12, inside({}, function() return n + 7 end))
  end)

  it("uses the objects that were passed: queues, locks, values, events", function()
    local q, lock, v, e = mp.Queue(), mp.Lock(), mp.Value("i", 1), mp.Event()
    local r = inside("pure", function(a, l, x, ev)
      a:put { "from inside" }
      l:with(function() x:add(41) end)
      ev:set()
      return a:qsize()
    end, { args = { q, lock, v, e } })
    assert.equal(1, r)
    assert.same({ "from inside" }, q:get(5))
    assert.equal(42, v.value)
    assert.is_true(e:is_set())
  end)

  it("may receive further objects later, through those it has", function()
    local q, other = mp.Queue(), mp.Queue()
    local p = mp.Process { target = function(a) a:get(10):put "hello" end, args = { q }, sandbox = "pure" }
    p:start()
    q:put(other)
    assert.equal("hello", other:get(10))
    p:join(10)
    assert.equal(0, p.exitcode)
  end)

  it("prints, also just before its end", function()
    local out = run.script([[
      local p = mp.Process { target = function() print "out" io.stderr:write "err\n" io.write "end" end, sandbox = "pure" }
      p:start() p:join()
    ]])
    assert.equal("out\nend", out.out)
    assert(out.err:find "err")
  end)

  it("opens no file, and says which grant would allow it", function()
    local p, ok, f, why, code = confined(function() return io.open("/etc/passwd") end, "pure")
    assert.is_true(ok)
    assert.is_nil(f)
    assert(why:find "not permitted", why)
    assert(why:find "needs read", why)
    assert.equal(1, code)
    local v = p.violations
    assert.equal(1, #v)
    assert.equal("openat", v[1].call)
    assert.equal("/etc/passwd", v[1].target)
    assert.equal("read", v[1].need)
    assert.equal('read = {"/etc/passwd"}', v[1].fix)
    assert(v[1].where:find "sandbox_spec.lua:%d+", v[1].where)
    assert.equal(1, v[1].count)
    assert(tostring(v[1]):find "not permitted")
  end)

  it("tells the line also where mp, a module's object, a search or a finaliser is refused", function()
    local function line_of(f, policy)
      local p, ok, e = confined(f, policy or "pure")
      assert.is_true(ok, tostring(e))
      assert(#p.violations > 0)
      for _, v in ipairs(p.violations) do assert(v.where:find "sandbox_spec.lua:%d+", ("%s %s has no line"):format(v.call, v.target)) end
    end
    line_of(function() return (pcall(mp.Queue)) end)
    line_of(function() return (pcall(mp.Pool, 1)) end)
    line_of(function()
      local t = mp.Thread { target = print }
      return (pcall(t.start, t))
    end)
    line_of(function() coroutine.wrap(function() io.open "/etc/passwd" end)() end)
    line_of(function()
      setmetatable({}, { __gc = function() io.open "/etc/passwd" end })
      collectgarbage()
    end)
    line_of(function() package.searchpath("passwd", "/etc/?") end, { read = dir .. "/in" })
    line_of(function() require "socket".tcp():connect("127.0.0.1", 80) end, { modules = { "socket" }, net = { connect = { 443 } } })
  end)

  it("is told its mistakes as outside: with the function's name and its own line", function()
    local list = inside("pure", function()
      local found = {}
      for i, f in ipairs {
        function() mp.Queue("x") end, function() io.open() end, function() io.open("x", "q") end, function() io.lines "/etc/passwd" end,
        function() os.remove() end, function() mp.Queue { nonsense = 1 } end, function() mp.Queue() end, function() mp.Pool("x") end,
      } do found[i] = select(2, pcall(f)) end
      return found
    end)
    for i, words in ipairs { "to 'Queue'", "to 'open'", "to 'open'", "Operation not permitted", "to 'remove'", "Queue: unknown option", "Queue: ",
                             "Pool: " } do
      assert(tostring(list[i]):find("^[^:]*sandbox_spec.lua:%d+: "), tostring(list[i]))
      assert(tostring(list[i]):find(words, 1, true), tostring(list[i]))
    end
  end)

  it("counts repeated refusals", function()
    local p = confined(function() for _ = 1, 5 do io.open "/etc/passwd" end end, "pure")
    assert.equal(1, #p.violations)
    assert.equal(5, p.violations[1].count)
  end)

  it("starts no program and stays alive", function()
    local p, ok, a, why, code, pipe = confined(function()
      local x, y, z = os.execute "true"
      return x, y, z, (select(2, io.popen "true"))
    end, "pure")
    assert.is_true(ok)
    assert.is_nil(a)
    assert(why:find "not permitted" and why:find "sandbox: needs run", why)
    assert.equal(1, code)
    assert(pipe:find "not permitted", pipe)
    assert.equal("run", p.violations[1].need)
  end)

  it("removes, renames and makes nothing", function()
    local r = { inside("pure", function(d)
      return select(2, os.remove(d .. "/secret")), select(2, os.rename(d .. "/secret", d .. "/x")), select(2, io.open(d .. "/new", "w")),
        pcall(os.tmpname)
    end, { args = { dir } }) }
    for i = 1, 3 do assert(r[i]:find "not permitted", r[i]) end
    assert.is_false(r[4])
    assert.equal("secret", io.open(dir .. "/secret"):read "a")
  end)

  it("has nothing of the caller: environment, globals, descriptors, processes", function()
    _G.SECRET_OF_SPEC = "secret"
    local env, global, path, authkey, start = inside("pure", function()
      local p = mp.Process { target = print }
      return os.getenv "LUA_PATH" or os.getenv "LUA_CPATH" or os.getenv "MPRUN", rawget(_G, "SECRET_OF_SPEC"), os.getenv "PATH",
        mp.current_process().authkey, select(2, pcall(p.start, p))
    end)
    _G.SECRET_OF_SPEC = nil
    assert.is_nil(env)
    assert.is_nil(global)
    assert(path)
    assert.are_not.equal(mp.current_process().authkey, authkey)
    assert(start:find "no processes of its own", start)
  end)

  it("is an ordinary process to its owner: name, exit code, errors with their line", function()
    local p, ok, e = confined(function() error "oops" end, "pure", { name = "guest" })
    assert.is_false(ok)
    assert.equal(1, p.exitcode)
    assert.equal("error", e.kind)
    assert(e.message:find "sandbox_spec.lua:%d+: oops", e.message)
    p = confined(function() os.exit(7) end, "pure")
    assert.equal(7, p.exitcode)
    assert.equal("died", p.error.kind)
  end)

  it("is terminated, killed and interrupted like any other", function()
    for how, code in pairs { terminate = -15, kill = -9 } do
      local ready = mp.Event()
      local p = mp.Process { target = function(r) r:set() mp.sleep(100) end, args = { ready }, sandbox = "pure" }
      p:start()
      assert.is_true(ready:wait(20))
      p[how](p)
      assert.is_true(p:join(10))
      assert.equal(code, p.exitcode)
    end
    local ready = mp.Event()
    local p = mp.Process { target = function(r) r:set() while true do end end, args = { ready }, sandbox = "pure" }
    p:start()
    assert.is_true(ready:wait(20))
    p:interrupt()
    assert.is_true(p:join(10))
    assert.equal(1, p.exitcode)
  end)

  it("gives back large results", function()
    assert.equal(300000, #inside("pure", function() return ("x"):rep(300000) end))
  end)

  it("sends data, not code: functions are refused by the receiver", function()
    local q = mp.Queue()
    local p = mp.Process { target = function(a) a:put(function() end) a:put "data" return function() end end, args = { q }, sandbox = "pure" }
    p:start()
    assert.is_true(p:join(20))
    local ok, e = pcall(q.get, q, 5)
    assert.is_false(ok)
    assert(tostring(e):find "not trusted", tostring(e))
    assert.equal("data", q:get(5))
    assert.is_false(pcall(p.result, p))
    q:put(function() return 1 end) -- what anybody puts there, for anybody could have
    assert.is_false(pcall(q.get, q, 5))
  end)

  it("takes functions from its owner", function()
    local q = mp.Queue()
    q:put(function() return 3 end)
    assert.equal(3, inside("pure", function(a) return a:get(5)() end, { args = { q } }))
  end)
end)

describe("grants", function()
  it("read: below the path and not beside it, not through .. or a link", function()
    os.execute(("ln -sf %s/secret %s/in/link"):format(dir, dir))
    local p, ok, text, beside, dots, link, write = confined(function(d)
      local f = assert(io.open(d .. "/in/file"))
      return f:read "a", select(2, io.open(d .. "/secret")), select(2, io.open(d .. "/in/../secret")), select(2, io.open(d .. "/in/link")),
        select(2, io.open(d .. "/in/file", "w"))
    end, { read = { dir .. "/in" } }, { args = { dir } })
    assert.is_true(ok, tostring(text))
    assert.equal("readable", text)
    for _, why in ipairs { beside, dots, link, write } do assert(why:find "not permitted", why) end
    assert(#p.violations >= 3)
    assert.equal("readable", io.open(dir .. "/in/file"):read "a")
  end)

  it("write: makes, renames and removes there, and only there", function()
    local a, b = inside({ write = { dir .. "/out" } }, function(d)
      local f = assert(io.open(d .. "/out/x", "w"))
      f:write "hi"
      f:close()
      assert(os.rename(d .. "/out/x", d .. "/out/y"))
      assert(io.open(d .. "/out/y")):close()
      assert(os.remove(d .. "/out/y"))
      io.open(d .. "/out/left", "w"):close()
      return select(2, io.open(d .. "/in/new", "w")), select(2, os.rename(d .. "/out/left", d .. "/in/left"))
    end, { args = { dir } })
    assert(a:find "not permitted", a)
    assert(b:find "not permitted", b)
    assert(io.open(dir .. "/out/left"))
  end)

  it("run: listed programs, through sh, and no others", function()
    local out, other = inside({ run = { "/usr/bin/sort" } }, function()
      local f = io.popen "printf 'b\\na\\n' | /usr/bin/sort"
      local text = f:read "a"
      f:close()
      return text, (os.execute "/bin/cat /etc/passwd > /dev/null 2>&1")
    end)
    assert.equal("a\nb\n", out)
    assert.is_nil(other)
  end)

  it("modules: C modules by name, and none beyond", function()
    local json, no, loadlib, cpath = inside({ modules = { "cjson" } }, function()
      return require "cjson".encode { 1, 2 }, select(2, pcall(require, "socket")), package.loadlib, package.cpath
    end)
    assert.equal("[1,2]", json)
    assert(no:find "not found", no)
    assert.is_nil(loadlib)
    assert.equal("", cpath)
  end)

  it("modules: tells what is wrong with one", function()
    misuse({ "Process", "modules", "no module 'cjzon'" }, function() mp.Process { target = print, sandbox = { modules = { "cjzon" } } } end)
    misuse({ "explain", "no module 'cjzon'" }, function() mp.sandbox.explain { modules = { "cjzon" } } end)
    put(dir .. "/sandbox_spec_broken.lua", "error 'not today'")
    local path <const> = package.path
    package.path = dir .. "/?.lua;" .. path
    local p, ok, e = confined(function() return 1 end, { modules = { "sandbox_spec_broken" } })
    local in_pool, why = pcall(function()
      local pool <close> = mp.Pool { processes = 1, sandbox = { modules = { "sandbox_spec_broken" } } }
      return pool:apply(math.max, { 1 })
    end)
    package.path = path
    assert.is_false(ok)
    assert.equal(1, p.exitcode)
    assert.equal("error", e.kind)
    assert.matches("not today", e.message)
    assert.is_false(in_pool)
    assert.matches("not today", why.message)
  end)

  it("net: connects to the listed port and to no other", function()
    local socket = require "socket"
    local yes, no = assert(socket.bind("127.0.0.1", 0)), assert(socket.bind("127.0.0.1", 0))
    local _, good = yes:getsockname()
    local _, bad = no:getsockname()
    local p, ok, a, b = confined(function(x, y)
      local s = require "socket"
      local first = s.tcp()
      local r = first:connect("127.0.0.1", x)
      return r, select(2, s.tcp():connect("127.0.0.1", y))
    end, { net = { connect = { tonumber(good) } }, modules = { "socket" } }, { args = { tonumber(good), tonumber(bad) } })
    assert.is_true(ok, tostring(a))
    assert.equal(1, a)
    assert(tostring(b):lower():find "permi", b)
    yes:settimeout(5)
    no:settimeout(0)
    assert(yes:accept())
    assert.is_nil((no:accept()))
    local v
    for _, x in ipairs(p.violations) do if x.call == "connect" then v = x end end
    assert.equal("127.0.0.1:" .. bad, v.target)
    assert.equal(("net = { connect = {%d} }"):format(bad), v.fix)
    yes:close()
    no:close()
  end)

  it("are checked when the policy is made, with the caller's line", function()
    local function made(sandbox, limits) return function() mp.Process { target = print, sandbox = sandbox, limits = limits } end end
    misuse({ "no such file or directory: /no/such" }, made { read = { "/no/such" } })
    misuse({ "unknown key 'reed'" }, made { reed = {} })
    misuse({ "read: ", "hole before [3]" }, made { read = { "/usr", nil, "/etc" } })
    misuse({ "read[1]: a path with a zero byte" }, made { read = "/usr\0/share" })
    misuse({ "write[2]: a path expected, got number" }, made { write = { dir .. "/out", 1 } })
    misuse({ "limits.threads" }, made("pure", { threads = "2" }))
    misuse({ "net: a table expected" }, made { net = true })
    misuse({ "net.connect[1]: a port expected" }, made { net = { connect = 443.5 } })
    misuse({ "limits are given twice" }, made({ limits = {} }, {}))
    misuse({ "net: unknown key 'conect'" }, made { net = { conect = { 1 } } })
    misuse({ "no policy is called \"pur\"" }, made "pur")
    misuse({ "/proc", "cannot be granted" }, made { read = { "/proc" } })
    misuse({ "cannot be granted" }, made { write = { "/" } })
    misuse({ "cannot be granted" }, made { write = { "/dev" } })
    misuse({ "70000 is not a port" }, made { net = { connect = { 70000 } } })
    misuse({ "on_violation" }, made { on_violation = "ignore" })
    misuse({ "limits.memory" }, made("pure", { memory = "64X" }))
    misuse({ "unknown key 'memry'" }, made("pure", { memry = 1 }))
    misuse({ "limits.cpu" }, made("pure", { cpu = 0 }))
    misuse({ "gains privileges" }, made { run = { "/usr/bin/passwd" } })
    misuse({ "spawned" }, function() mp.Process { target = print, sandbox = "pure", start_method = "fork" } end)
  end)

  it("with on_violation = \"kill\" the first refusal ends it", function()
    local p, ok, e = confined(function() pcall(io.open, "/etc/passwd") return "went on" end, { on_violation = "kill" })
    assert.is_false(ok)
    assert.equal("sandbox", e.kind)
    assert.equal(-9, p.exitcode)
    assert(e.message:find("/etc/passwd", 1, true), e.message)
    assert.is_true(p.violations[1].fatal)
  end)
end)

describe("limits", function()
  local function ends_with(kind, limits, target)
    local p, ok, e = confined(target, "pure", { limits = limits })
    assert.is_false(ok)
    assert.equal(kind, e.kind, tostring(e))
    assert.equal(kind, p.error.kind)
  end

  it("of processor time cannot be caught", function()
    ends_with("cpu", { cpu = 0.2 }, function() while true do end end)
    ends_with("cpu", { cpu = 0.2 }, function() while true do pcall(function() while true do end end) end end)
    ends_with("cpu", { cpu = 0.2 }, function() coroutine.wrap(function() while true do end end)() end)
    ends_with("cpu", { cpu = 0.2 }, function() setmetatable({}, { __gc = function() while true do end end }) collectgarbage() end)
    ends_with("cpu", { cpu = 0.2 }, function() local _ <close> = setmetatable({}, { __close = function() while true do end end }) end)
    ends_with("cpu", { cpu = 0.2 }, function() xpcall(error, function() while true do end end) end)
    ends_with("cpu", { cpu = 0.2 }, function() return (("a"):rep(40)):find(("a*"):rep(30) .. "b") end)
    ends_with("cpu", { cpu = 0.2 }, function() table.sort({ 1, 2, 3 }, function() while true do end end) end)
  end)

  it("of time end a sleeper", function()
    ends_with("wall", { wall = 0.2 }, function() mp.sleep(100) end)
    ends_with("wall", { wall = 0.2 }, function() while true do pcall(mp.sleep, 100) end end)
  end)

  unsanitized("of memory are an error that can be caught, before they are a death", function()
    assert.same({ false, "not enough memory", true }, { inside("pure", function()
      local ok, e = pcall(function() local t = {} while true do t[#t + 1] = ("x"):rep(100000) .. #t end end)
      collectgarbage()
      return ok, e, #("y"):rep(100000) == 100000
    end, { limits = { memory = "16M" } }) })
    ends_with("memory", { memory = "16M" }, function() local t = {} while true do t[#t + 1] = ("x"):rep(100000) .. #t end end)
    ends_with("memory", { memory = "16M" }, function() local s = "x" while true do s = s .. s end end)
    ends_with("memory", { memory = "16M" }, function() return ("x"):rep(1 << 30) end)
    ends_with("memory", { memory = "16M" }, function()
      local t = {}
      for i = 1, 1000000 do t[i] = coroutine.create(print) end
      return t
    end)
  end)

  it("of output drop what is more, and say so", function()
    local out = run.script([[
      local p = mp.Process { target = function() for i = 1, 10000 do print(i) end return "done" end, sandbox = "pure", limits = { output = 100 } }
      p:start()
      io.stderr:write(p:result(), " ", p.violations[1].need)
    ]])
    assert.equal(100, #out.out)
    assert(out.err:find "done limits.output", out.err)
  end)

  it("without a sandbox limit and refuse nothing", function()
    local p, ok, e = confined(function() io.open("/etc/passwd"):close() while true do end end, nil, { limits = { cpu = 0.2 } })
    assert.is_false(ok)
    assert.equal("cpu", e.kind)
    assert.same({}, p.violations)
  end)

  it("of threads and files are the kernel's", function()
    local _, ok, r = confined(function()
      local n = 0
      local t = {}
      while n < 1000 do
        local f = io.open "/usr/share/doc"
        if not f then break end
        n = n + 1
        t[n] = f
      end
      return n, #t
    end, { read = { "/usr/share/doc" } }, { limits = { files = 10 } })
    assert.is_true(ok)
    assert(r <= 10, r)
  end)
end)

describe("the Lua inside", function()
  it("has no bytecode", function()
    assert.same({ true, true, true, true, true }, { inside("pure", function()
      return load("\27Lua") == nil, load("\27Lua", "x", "b") == nil, load("return 1", "x", "b") == nil, string.dump == nil, load("return 1")() == 1
    end) })
  end)

  it("has no debug but the traceback", function()
    assert.same({ "traceback" }, { inside("pure", function()
      local names = {}
      for k in pairs(debug) do names[#names + 1] = k end
      return table.unpack(names)
    end) })
  end)

  unsanitized("is as bare in its threads, of which there are as many as were granted", function()
    local function threaded()
      local t = mp.Thread { target = function() return debug.sethook == nil, string.dump == nil, load("\27Lua") == nil, io.open("/etc/passwd") == nil end }
      t:start()
      return t:result(20)
    end
    assert.same({ true, true, true, true }, { inside("pure", threaded, { limits = { threads = 1, memory = "32M" } }) })
    local p, ok = confined(threaded, "pure")
    assert.is_false(ok)
    assert(#p.violations > 0)
  end)

  it("survives what breaks parsers and stacks", function()
    assert.same({ true, false, false }, { inside("pure", function()
      local deep = load("return " .. ("("):rep(100000) .. "1" .. (")"):rep(100000))
      local function f() return 1 + f() end
      local t = setmetatable({}, {})
      getmetatable(t).__index = function(x, k) return x[k .. "x"] end
      return deep == nil, (pcall(f)), (pcall(function() return t.x end))
    end) })
  end)

  it("changes nothing of its owner's", function()
    inside("pure", function() getmetatable("").__index = nil string.format = nil _G.print = nil end)
    assert.equal("1", ("%d"):format(1))
    assert(print)
  end)
end)

describe("a pool of confined workers", function()
  it("maps, refuses, replaces who is ended, and takes data only", function()
    local pool <close> = mp.Pool { processes = 2, sandbox = "pure", limits = { memory = "64M" } }
    assert.same({ 1, 4, 9 }, { table.unpack(pool:map(function(x) return x * x end, { 1, 2, 3 })) })
    assert(pool:apply(function() return (select(2, io.open "/etc/passwd")) end):find "needs read")
    assert.is_false(pcall(pool.apply, pool, function() return print end) and pcall(pool.apply, pool, function() return function() end end))
    local late = pool:apply_async(function() while true do end end, {}, { timeout = 0.3 })
    assert.equal(late, mp.wait({ late }, 30)[1]) -- who waits for anything looks at the time of the pool's tasks
    local r = pool:apply_async(function() while true do end end, {}, { timeout = 0.3 })
    local ok, e = pcall(r.get, r, 20)
    assert.is_false(ok)
    assert.equal("timeout", e.kind)
    assert.equal(2, pool:apply(function() return 2 end))
  end)
end)

-- Builds with fault points can be told that the kernel has less than it has.
if run.mode == "asan" then
  describe("on a kernel that lacks a part", function()
    local script = [[
      local mp = require "mp"
      local grants = {
        { "read", { read = "/usr/share" } }, { "write", { write = "/tmp" } }, { "run", { run = "/usr/bin/sort" } }, { "net", { net = { connect = { 443 } } } },
        { "bind", { net = { bind = { 0 } } } }, { "dns", { net = { dns = true } } }, { "pure", "pure" }, { "threads", { limits = { threads = 1 } } },
      }
      for _, g in ipairs(grants) do
        for _, how in ipairs { function() return mp.Process { target = print, sandbox = g[2] } end, function() return mp.sandbox.explain(g[2]) end } do
          local ok, why = pcall(how)
          print(g[1], ok and "made" or tostring(why):match "cannot be enforced.*" or tostring(why):match "this kernel.*" or why)
        end
      end
    ]]

    it("a policy that needs Landlock is refused with a sentence, and no other", function()
      local out = run.script(script, {}, { env = { MP_LANDLOCK_ABI = "0" } }).out
      for _, grant in ipairs { "read", "write", "run", "net", "bind", "dns" } do
        assert.equal(2, select(2, out:gsub("%f[%w]" .. grant .. "\tcannot be enforced: this kernel has no Landlock", "")), out)
      end
      for _, grant in ipairs { "pure", "threads" } do assert.equal(2, select(2, out:gsub("%f[%w]" .. grant .. "\tmade", "")), out) end
    end)

    it("so is one for the network where Landlock knows files only", function()
      local out = run.script(script, {}, { env = { MP_LANDLOCK_ABI = "3" } }).out
      for _, grant in ipairs { "net", "bind", "dns" } do
        assert.equal(2, select(2, out:gsub("%f[%w]" .. grant .. "\tcannot be enforced: [^\n]* version 3 and version 4 is needed", "")), out)
      end
      for _, grant in ipairs { "read", "write", "run", "pure" } do assert.equal(2, select(2, out:gsub("%f[%w]" .. grant .. "\tmade", "")), out) end
    end)

    it("without system-call filters there is no sandbox at all", function()
      local out = run.script(script, {}, { env = { MP_NO_SECCOMP = "1" } }).out
      assert.equal(16, select(2, out:gsub("no system%-call filters with notifications", "")), out)
      assert.is_nil(out:find "made", out)
    end)
  end)
end

describe("mp.sandbox", function()
  it("available says what the kernel gives", function()
    local a = mp.sandbox.available()
    assert.is_true(a.seccomp)
    assert(a.landlock == false or a.landlock >= 1)
  end)

  it("explain lists grants, refusals and their layers", function()
    local e = mp.sandbox.explain { read = { "/usr/share" }, net = { connect = { 443 }, dns = true }, limits = { wall = 5 } }
    local text = tostring(e)
    for _, word in ipairs { "read /usr/share", "port 443", "UDP", "wall 5 s", "Landlock", "seccomp", "other files" } do
      assert(text:find(word, 1, true), word .. " is not in\n" .. text)
    end
    assert(#e.granted == 3 and #e.refused > 5 and #e.limits == 1)
    misuse({ "sandbox.explain", "unknown key" }, function() mp.sandbox.explain { foo = 1 } end)
  end)

  unsanitized("selftest says nothing by itself", function()
    local r = run.mprun({ "-e", "print(mp.sandbox.selftest().ok)" }, { timeout = 60 })
    assert.equal("true\n", r.out)
    assert.equal("", r.err)
  end)

  it("selftest contains every attack it knows", function()
    local t = mp.sandbox.selftest()
    assert.is_true(t.ok, tostring(t))
    assert(#t >= 8)
  end)

  it("apply confines the calling process for ever", function()
    local p = mp.Process { target = function(d)
      local before = io.open(d .. "/secret") ~= nil
      mp.sandbox.apply { read = { d .. "/in" } }
      return before, (select(2, io.open(d .. "/secret"))), io.open(d .. "/in/file"):read "a", (select(2, os.execute "true"))
    end, args = { dir }, start_method = "fork" }
    p:start()
    local before, secret, text, exec = p:result(20)
    assert.is_true(before)
    assert(secret:find "ermi", secret)
    assert.equal("readable", text)
    assert(exec:find "not permitted", exec)
    misuse({ "sandbox.apply", "needs a supervisor" }, function() mp.sandbox.apply { limits = { wall = 1 } } end)
  end)
end)

describe("after mp.sandbox.apply", function()
  it("a process is trusted as before: it was its owner's, and is told apart from nobody", function()
    local p = mp.Process { target = function() mp.sandbox.apply "pure" return function() return 7 end end, start_method = "fork" }
    p:start()
    assert.equal(7, p:result(20)())
  end)

  it("keeps its memory and its descriptors, and loses its environment", function()
    local name = dir .. "/secret"
    local p = mp.Process { target = function()
      local f, before = assert(io.open(name)), "in memory"
      mp.sandbox.apply "pure"
      return f:read "a", before, os.getenv "LUA_PATH" or os.getenv "USER" or os.getenv "MPRUN", (select(2, io.open(name)))
    end, start_method = "fork" }
    p:start()
    local text, before, env, why = p:result(20)
    assert.same({ "secret", "in memory" }, { text, before })
    assert.is_nil(env)
    assert(why:find "not permitted", why)
  end)
end)

describe("a process killed with its worker inside", function()
  it("leaves nothing: the owner killed, the worker is gone", function()
    local out = run.script([[
      local q = mp.Queue()
      local p = mp.Process { target = function(a) a:put(mp.getpid()) mp.sleep(100) end, args = { q }, sandbox = "pure" }
      p:start()
      print(q:get(20), p.pid)
      io.stdout:flush()
      os.execute("kill -9 " .. mp.getpid())
    ]])
    for pid in out.out:gmatch "%d+" do
      local gone
      for _ = 1, 200 do
        local f = io.open("/proc/" .. pid .. "/stat")
        local stat = f and f:read "a"
        if f then f:close() end
        gone = not stat or stat:find("%) Z ") ~= nil
        if gone then break end
        mp.sleep(0.01)
      end
      assert.is_true(gone, "process " .. pid .. " lives")
    end
  end)
end)

describe("mprun", function()
  local script

  local function mprun(line) return run.command { "sh", "-c", run.quote(run.path) .. " " .. line } end

  setup(function()
    script = put(dir .. "/script.lua", [[
      print("args", ...)
      local f, why = io.open(arg[1])
      print(f and f:read "a" or why)
    ]])
  end)

  unsanitized("--sandbox runs a script inside and tells what was refused", function()
    local out = mprun("--sandbox=pure " .. script .. " " .. dir .. "/secret")
    assert.equal(0, out.status)
    assert(out.out:find "not permitted", out.out)
    assert(out.err:find('read = {"' .. dir .. '/secret"}', 1, true), out.err)
    out = mprun(("--sandbox='{read={%q}}' %s %s"):format(dir .. "/secret", script, dir .. "/secret"))
    assert(out.out:find("secret\n", 1, true), out.out)
    assert.equal("", out.err)
    put(dir .. "/policy.lua", ("return { read = { %q } }"):format(dir .. "/secret"))
    out = mprun(("--sandbox=%s/policy.lua %s %s"):format(dir, script, dir .. "/secret"))
    assert(out.out:find("secret\n", 1, true), out.out)
    out = mprun("--sandbox='{reed={}}' " .. script)
    assert.equal(1, out.status)
    assert(out.err:find "unknown key 'reed'", out.err)
    out = mprun("--sandbox='{limits={cpu=0.2}}' -e 'while true do end'")
    assert.equal(137, out.status)
    assert(out.err:find "processor time", out.err)
    out = mprun("--sandbox=pure -e 'os.exit(5)'")
    assert.equal(5, out.status)
  end)

  unsanitized("--sandbox-learn prints the policy that a script needs, with its lines, under which it then runs", function()
    local out = mprun("--sandbox-learn " .. script .. " " .. dir .. "/secret")
    assert.equal(0, out.status)
    assert(out.out:find("secret\n", 1, true))
    assert(out.err:find(dir .. "/secret", 1, true), out.err)
    assert(out.err:find "script.lua:2", out.err)
    local policy = put(dir .. "/learnt", out.err)
    out = mprun(("--sandbox=%s %s %s"):format(policy, script, dir .. "/secret"))
    assert(out.out:find("secret\n", 1, true), out.out .. out.err)
    assert.equal("", out.err)
    out = mprun "--sandbox-learn -e 'print(1)'"
    assert.equal('"pure"\n', out.err)
  end)
end)
