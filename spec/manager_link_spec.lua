-- Managers with an address: contract in docs/reference/manager.md. Clients are in this process where that is enough, and programs of
-- their own where it matters.
local mp = require "mp"
local run = require "spec.support.run"
local socket = require "socket"
pcall(require, "socket.unix")

local slow <const> = run.slow
local KEY <const> = "a key that both know"
mp.now() -- the module is open: its private functions are there
local core = debug.getregistry()["mp.core"]

local function misuse(words, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert.equal("string", type(e), tostring(e))
  for _, word in ipairs(words) do assert(e:find(word, 1, true), ("%q is not in %q"):format(word, e)) end
end

local function failing(kind, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert(mp.is_error(e, kind), "not an mp.Error of kind " .. kind .. ": " .. tostring(e))
  return e
end

local function child(f, ...)
  local p = mp.Process { target = f, args = table.pack(...), start_method = "fork" }
  p:start()
  return p
end

local function ends_well(p)
  assert.is_true(p:join(20 * slow))
  if p.exitcode ~= 0 then error(tostring(p.error)) end
end

local function open(options)
  options = options or {}
  return mp.Manager { address = options.address or "tcp://127.0.0.1:0", authkey = options.authkey or KEY }
end

-- Another program: a script that is told address and key.
local function program(m, text, key, options)
  return run.script("local mp = require 'mp'\nlocal m <close> = mp.connect(arg[1], arg[2])\n" .. text, { m.address, key or KEY }, options)
end

local function exists(path)
  return os.execute("test -e " .. run.quote(path)) == true
end

local function port_of(m) return tonumber(m.address:match ":(%d+)$") end

local function dial(m)
  local s = assert(socket.tcp())
  s:settimeout(20 * slow)
  assert(s:connect("127.0.0.1", port_of(m)))
  return s
end

-- Whether the other side hangs up within some seconds, whatever it says before.
local function is_hung_up(s)
  s:settimeout(20 * slow)
  repeat
    local data, why, part = s:receive(1000)
    if why == "timeout" then return false end
  until not data and why == "closed" and part ~= nil
  s:close()
  return true
end

describe("a manager with an address", function()
  it("is reached by an independent program, over tcp and over a socket file", function()
    for _, address in ipairs { "tcp://127.0.0.1:0", "tcp://localhost:0", "unix:" .. run.tmpdir() .. "/socket" } do
      local m <close> = open { address = address }
      local scores, values = m:dict { Anna = 5 }, m:Queue()
      m:register("scores", function() return scores end)
      m:register("values", function() return values end)
      if address:match "^unix" then assert.equal(address, m.address) else assert.is_true(port_of(m) > 0) end
      local r = program(m, [[
        local s = m:scores()
        s.Bert = s.Anna + 2
        s:update("Anna", function(n) return n * 10 end)
        m:values():put{ "from afar", { 1, 2 } }
        print(#s, tostring(m), mp.getpid())
      ]])
      assert.equal(0, r.status, r.both)
      assert.equal("", r.err)
      assert.equal("2\tmp.Manager " .. m.address, r.out:match "^(.*)\t%d+\n$")
      assert.same({ Anna = 50, Bert = 7 }, scores:copy())
      assert.same({ "from afar", { 1, 2 } }, values:get(20 * slow))
    end
  end)

  it("refuses another key, and the default one, and is not disturbed", function()
    local m <close> = open()
    local d = m:dict { x = 1 }
    m:register("d", function() return d end)
    for _, key in ipairs { "a guess", KEY .. " ", KEY:sub(1, -2), "\0" } do
      local start = mp.now()
      local e = failing("error", mp.connect, m.address, key)
      assert.matches("refused", e.message)
      assert.is_true(mp.now() - start < 10 * slow)
      assert.is_nil(e.message:find(key, 1, true))
    end
    failing("error", mp.connect, m.address) -- this program's own key
    local c <close> = mp.connect(m.address, KEY)
    assert.equal(1, c:d().x)
  end)

  it("has by default this program's key, which its children know", function()
    local m <close> = mp.Manager { address = "tcp://127.0.0.1:0" }
    local address = m.address
    m:register("answer", function() return 42 end)
    local d = m:dict()
    for _, method in ipairs { "fork", "spawn" } do
      local p = mp.Process { target = function(a, r)
        local mm = require "mp"
        local c <close> = mm.connect(a)
        r[#r + 1] = c:answer()
      end, args = { address, d }, start_method = method }
      p:start()
      ends_well(p)
      assert.equal(42, d[1])
      d:clear()
    end
    local r = run.script("local mp = require 'mp'\nprint(pcall(mp.connect, arg[1]))", { address })
    assert.matches("^false.*refused", r.out)
  end)

  it("hangs up on garbage, and on who says nothing, in about a second", function()
    local m <close> = open()
    local d = m:dict { x = 1 }
    m:register("d", function() return d end)
    local c <close> = mp.connect(m.address, KEY)
    local far = c:d()
    local sockets = {}
    for i, text in ipairs { "", "GET / HTTP/1.0\r\n\r\n", "\22\3\1\2\0\1\0\1\252\3\3", ("\0"):rep(70000), "\22\3\3\255\255" .. ("x"):rep(5000) } do
      sockets[i] = dial(m)
      sockets[i]:send(text)
    end
    for seed = 1, 20 do
      local bytes = {}
      for k = 1, 300 do bytes[k] = string.char((seed * 7919 + k * k * 31 + k * seed) % 256) end
      bytes[1] = seed % 2 == 0 and "\22" or bytes[1]
      sockets[#sockets + 1] = dial(m)
      sockets[#sockets]:send(table.concat(bytes))
    end
    far.x = 2 -- meanwhile
    for _, s in ipairs(sockets) do assert.is_true(is_hung_up(s)) end
    assert.equal(2, d.x)
    assert.equal(2, far.x)
  end)

  it("serves who knows the key beside a thousand connections that do not prove it", function()
    local m <close> = open()
    local d = m:dict { n = 0 }
    m:register("d", function() return d end)
    for _ = 1, 5 do
      local sockets = {}
      for i = 1, 200 do
        sockets[i] = dial(m)
        if i % 3 == 0 then sockets[i]:send(i % 2 == 0 and "\22\3\1" or "x") end
      end
      do
        local c <close> = mp.connect(m.address, KEY)
        c:d():incr "n"
      end
      for _, s in ipairs(sockets) do s:close() end
    end
    assert.equal(5, d.n)
  end)

  it("is not crashed by one who knows the key and sends garbage", function()
    local m <close> = open()
    local d = m:dict { x = 1 }
    m:register("d", function() return d end)
    local whole = core.link_encode { 1, {}, "make", 1, "d", 0 }
    local messages = { "", "\0", "\193", ("\255"):rep(1000), core.link_encode(7), core.link_encode { "x" }, core.link_encode { 1 },
      core.link_encode { 0, {}, "get", 2, "x" }, core.link_encode { 1, 3, "get", {}, "x" }, core.link_encode { 1, {}, "nothing", 1 },
      core.link_encode { 1, {}, "get", 1 << 40 }, core.link_encode { 1, {}, "make", 1, "d", -5 }, core.link_encode { 1, {}, "make", 1, "d", 1 << 40 },
      core.link_encode { 1, {}, "register", 1, "x", 1 }, core.link_encode { 1, {}, "shutdown", 1 }, core.link_encode { 1, {}, "import", 1, 1 },
      core.link_encode { 1, { 1, 2, "x" }, "hello", 1, "old" }, core.link_encode { 1, {}, 5, 1 }, core.link_encode { 1, {}, "forget", 1 },
      core.link_encode { 1, {}, "release", 2 }, core.link_encode { 1, {}, "set", 2, nil, nil, 3 } }
    for i = 1, #whole do
      messages[#messages + 1] = whole:sub(1, i - 1)
      messages[#messages + 1] = whole:sub(1, i - 1) .. "\255" .. whole:sub(i + 1)
    end
    local wire
    for _, text in ipairs(messages) do
      if not wire then wire = assert(core.link_open(m.address, KEY, 10 * slow)) end
      if not core.link_send(wire, text) or not core.link_receive(wire) then wire = nil end -- an answer, or it hangs up
    end
    for _, n in ipairs { 1, 0, 0x7fffffff } do
      local w = assert(core.link_open(m.address, KEY, 10 * slow))
      core.link_forget(w, n)
    end
    local c <close> = mp.connect(m.address, KEY)
    assert.equal(1, c:d().x)
  end)

  it("lets a linked program have only what it was given", function()
    local m <close> = open()
    local secret, given = m:dict { word = "swordfish" }, m:dict { word = "hello" }
    m:register("given", function() return given end)
    local wire = assert(core.link_open(m.address, KEY, 10 * slow))
    local function ask(op, id, ...)
      assert(core.link_send(wire, core.link_encode { 1, {}, op, id, ... }))
      return assert(core.link_receive(wire))
    end
    for id = 2, 10 do
      assert.is_nil(ask("get", id, "word"):find("swordfish", 1, true))
      assert.is_nil(ask("get", id, "word"):find("hello", 1, true))
      for _, op in ipairs { "import", "export", "register", "shutdown" } do assert.is_nil(ask(op, 1, id):find("swordfish", 1, true)) end
    end
    local c <close> = mp.connect(m.address, KEY)
    assert.equal("hello", c:given().word)
    local found = false
    for id = 2, 10 do
      local answer = ask("get", id, "word")
      found = found or answer:find("hello", 1, true) ~= nil
      assert.is_nil(answer:find("swordfish", 1, true))
    end
    assert.is_true(found) -- by its number, as other processes of a linked program do
    assert.equal("swordfish", secret.word)
  end)

  it("tells nobody the key", function()
    local m <close> = open()
    local c <close> = mp.connect(m.address, KEY)
    assert.is_nil(tostring(m):find(KEY, 1, true))
    assert.is_nil(tostring(c):find(KEY, 1, true))
    for _, p in ipairs(mp.active_children()) do
      assert.is_nil(tostring(p):find(KEY, 1, true))
      for _, file in ipairs { "cmdline", "environ" } do
        local f = io.open(("/proc/%d/%s"):format(p.pid, file))
        if f then
          assert.is_nil(f:read("a"):find(KEY, 1, true))
          f:close()
        end
      end
    end
  end)

  it("refuses addresses that are none, or taken", function()
    local m <close> = open()
    misuse({ "Manager", "in use" }, mp.Manager, { address = m.address, authkey = KEY })
    misuse({ "Manager", "tcp://host:port" }, mp.Manager, { address = "localhost" })
    for _, address in ipairs { "", "tcp://", "tcp://h", "tcp://h:", "tcp://h:x", "tcp://h:70000", "tcp://a:b:1", "unix:relative", "unix:", "http://h:1",
                               "unix:/" .. ("x"):rep(200) } do
      misuse({ "connect" }, mp.connect, address, KEY)
    end
    misuse({ "connect", "authkey" }, mp.connect, m.address, "")
    misuse({ "connect", "authkey" }, mp.connect, m.address, 3)
    misuse({ "connect", "address must be a string" }, mp.connect)
    misuse({ "Manager" }, mp.Manager, { address = "unix:/nowhere/at/all", authkey = KEY })
    failing("died", mp.connect, "tcp://127.0.0.1:1", KEY)
    failing("died", mp.connect, "unix:" .. run.tmpdir() .. "/nothing", KEY)
  end)
end)

describe("the socket file", function()
  it("is its user's alone, and goes with the server, however that ends", function()
    local path = run.tmpdir() .. "/socket"
    for _, ending in ipairs { "m:shutdown()", "do local _ <close> = m end", "", "os.exit(3)", "error 'x'",
                              "os.execute('kill -9 ' .. mp.getpid()) mp.sleep(60)", "os.execute('kill -9 ' .. m:pid()) m:shutdown()" } do
      local r = run.script([[
        local mp = require "mp"
        local m = mp.Manager{ address = "unix:" .. arg[1] }
        m:register("pid", function() return mp.getpid() end)
        os.execute("stat -c %a " .. arg[1])
        io.stdout:flush()
      ]] .. ending, { path })
      assert.equal("600\n", r.out, r.both)
      assert.is_truthy(run.wait_until(function() return not exists(path) end, 15), ending)
    end
  end)

  it("that a killed gate has left is replaced; no other file is, nor one in use", function()
    local path = run.tmpdir() .. "/socket"
    local address <const> = "unix:" .. path
    local m = open { address = address }
    misuse({ "in use" }, mp.Manager, { address = address, authkey = KEY })
    local gate
    for _, p in ipairs(mp.active_children()) do
      if p.name:match "gate$" then gate = p end
    end
    gate:kill()
    gate:join()
    assert.is_true(exists(path))
    assert.equal("made", m:dict { x = "made" }.x) -- local clients do not notice
    local m2 = open { address = address }
    local c <close> = mp.connect(address, KEY)
    c:dict()
    m:shutdown() -- leaves the other's file
    c:dict()
    m2:shutdown()
    assert.is_false(exists(path))
    run.write(path, "precious")
    misuse({ "in use" }, mp.Manager, { address = address, authkey = KEY })
    assert.equal("precious", run.read(path))
  end)
end)

describe("over a link", function()
  it("every kind of object can be made and used", function()
    local m <close> = open()
    local c <close> = mp.connect(m.address, KEY)
    local d, l, ns = c:dict { x = 1 }, c:list { 3, 1, 2 }, c:Namespace { a = 1 }
    d.l = l
    assert.is_true(d.l == l)
    assert.equal(3, d:update("x", function(n) return n + 2 end))
    l:sort(function(a, b) return a > b end)
    assert.same({ 3, 2, 1 }, l:copy())
    assert.equal(3, #l)
    ns.b = d
    assert.equal(3, ns.b.x)
    local v, a = c:Value("i", 5), c:Array("d", { 1, 2 })
    v.value = v.value + 1
    assert.equal(8, v:add(2))
    assert.equal(8, v:with(function(w) return w.value end))
    a[2] = 7
    assert.same({ 1.0, 7.0 }, a:get(1, 2))
    assert.equal(2, #a)
    local q = c:JoinableQueue(2)
    assert.is_true(q:put { l, "x" })
    assert.is_true(q:put(nil))
    assert.same({ nil, "timeout", n = 2 }, table.pack(q:put(3, 0.01)))
    local got = q:get()
    assert.is_true(got[1] == l)
    assert.same({ nil, n = 1 }, table.pack(q:get()))
    q:task_done()
    q:task_done()
    assert.is_true(q:join())
    for _, lock in ipairs { c:Lock(), c:RLock(), c:Semaphore(1), c:BoundedSemaphore(1), c:Condition() } do
      assert.is_true(lock:acquire())
      assert.is_true(lock:release())
      assert.equal("in", lock:with(function(x) return x end, "in"))
      do local _ <close> = lock:guard() end
      assert.is_true(lock:acquire(0))
      assert.is_true(lock:release())
    end
    local e = c:Event()
    e:set()
    assert.is_true(e:is_set() and e:wait(1))
    assert.equal(1, c:Barrier(1):wait())
    local cond = c:Condition()
    assert.equal("yes", cond:with(function() return cond:wait_for(function() return "yes" end) end))
    assert.same({ nil, "timeout", n = 2 }, table.pack(cond:with(function() return cond:wait_for(function() return false end, 0.01) end)))
    assert.matches("^mp.Proxy mp.Lock #%d+ of tcp:", tostring(c:Lock()))
    misuse({ "release" }, function() c:Lock():release() end)
    misuse({ "mp.Value has no field 'x'" }, function() return v.x end)
    misuse({ "Value" }, function() c:Value("nonsense") end)
  end)

  it("objects are those of the server's program, and the same for all clients", function()
    local m <close> = open()
    local lock, q, d = mp.Lock(), mp.Queue(), m:dict { n = 0 }
    m:register("lock", function() return lock end)
    m:register("q", function() return q end)
    m:register("d", function() return d end)
    local one <close> = mp.connect(m.address, KEY)
    local far = one:lock()
    assert.is_true(far:acquire())
    assert.is_true(lock:locked())
    assert.same({ nil, "timeout", n = 2 }, table.pack(lock:acquire(0)))
    far:release()
    one:q():put { one:d(), far }
    local got = q:get(20 * slow)
    assert.is_true(got[1] == d and got[2] == lock)
    local two = program(m, "local d, l = m:d(), m:lock() l:with(function() d.n = d.n + 1 end) print(m:d() == d, m:lock() == l)")
    assert.equal("true\ttrue\n", two.both)
    assert.equal(1, d.n)
  end)

  it("errors come back as those errors", function()
    local m <close> = open()
    m:register("thing", function()
      return { fail = function() error { code = 7 } end, text = function() error("no way", 0) end, me = function(t) return t end }
    end)
    local c <close> = mp.connect(m.address, KEY)
    local t = c:thing()
    assert.equal(7, failing("error", t.fail, t).value.code)
    local e = failing("error", t.text, t)
    assert.equal("no way", e.message)
    assert.matches("manager_link_spec", e.traceback)
    assert.is_true(t:me() == t)
    misuse({ "incr", "number" }, function() c:dict { s = "x" }:incr "s" end)
    misuse({ "has no field 'missing'" }, function() c:missing() end)
    misuse({ "register", "only the program" }, c.register, c, "x", print)
    misuse({ "shutdown", "only the program" }, c.shutdown, c)
  end)

  it("only data goes: no functions, no descriptors, no shared objects of one's own", function()
    local m <close> = open()
    local c <close> = mp.connect(m.address, KEY)
    local d = c:dict()
    for _, v in ipairs { print, function() end, mp.Queue(), mp.Fd(1), m, coroutine.create(print) } do
      local ok, e = pcall(function() d.x = { deep = v } end)
      assert.is_false(ok)
      assert(mp.is_error(e, "encode"), tostring(e))
    end
    assert.equal(0, #d)
    m:register("f", function() return { g = function() return print end } end)
    failing("encode", function() c:f():g() end)
  end)

  it("large messages pass, and many small ones", function()
    local m <close> = open()
    local c <close> = mp.connect(m.address, KEY)
    local d = c:dict()
    local big = ("0123456789abcdef"):rep(5 << 16)
    d.big = big
    assert.is_true(d.big == big)
    for i = 1, 500 do d[i] = i end
    assert.equal(501, #d)
  end)

  it("proxies travel to other processes of the program, which connect for themselves", function()
    local m <close> = open()
    local r = program(m, [[
      local d, l, q = m:dict{ n = 0 }, m:Lock(), m:Queue()
      local local_queue = mp.Queue()
      local ps = {}
      for i = 1, 4 do
        ps[i] = mp.Process{ target = function(dd, ll)
          for _ = 1, 5 do ll:with(function() dd.n = dd.n + 1 end) end
          q:put(i)
        end, args = { d, l }, start_method = i % 2 == 0 and "fork" or "spawn" }
        ps[i]:start()
      end
      for i = 1, 4 do ps[i]:join() end
      local_queue:put{ d }
      print(d.n, q:qsize(), local_queue:get()[1] == d)
    ]], nil, { timeout = 60 })
    assert.equal("20\t4\ttrue\n", r.both)
  end)

  it("a program that is killed lets go of what it held, and takes nothing more", function()
    local m <close> = open()
    local lock, d, q, ready = mp.Lock(), m:dict { n = 1 }, mp.Queue(), mp.Event()
    m:register("lock", function() return lock end)
    m:register("d", function() return d end)
    m:register("q", function() return q end)
    m:register("ready", function() return ready end)
    local p = child(function()
      program(m, [[
        m:lock():acquire()
        m:d():with(function(d)
          d.n = 2
          m:ready():set()
          m:q():get() -- for ever
        end)
      ]])
    end)
    assert.is_true(ready:wait(20 * slow))
    local pid = run.wait_until(function() -- the mprun among those who have the address in their command
      local f <close> = assert(io.popen("grep -lsaF " .. run.quote(m.address) .. " /proc/[0-9]*/cmdline"))
      for n in f:read "a":gmatch "/proc/(%d+)/" do
        local c <close> = io.open("/proc/" .. n .. "/comm")
        if c and c:read "l" == "mprun" then return n end
      end
    end, 15)
    os.execute("kill -9 " .. assert(pid))
    ends_well(p)
    assert.same({ true, "abandoned", n = 2 }, table.pack(lock:acquire(20 * slow)))
    assert.equal(2, d.n)
    q:put "for the living"
    assert.equal("for the living", q:get(20 * slow))
  end)

  it("a waiting call can be interrupted, and the connection goes on", function()
    local m <close> = open()
    local q, l = mp.Queue(), mp.Lock()
    m:register("q", function() return q end)
    m:register("l", function() return l end)
    local r = program(m, [[
      local q, l = m:q(), m:l()
      l:acquire()
      for _ = 1, 3 do
        local ok, e = pcall(function()
          os.execute("(sleep 0.2; kill -INT " .. mp.getpid() .. ") &")
          return q:get()
        end)
        print(ok, (tostring(e):gsub("^.*: ", "")))
      end
      q:put(7)
      print(q:get(), l:release())
    ]])
    assert.equal(("false\tinterrupted!\n"):rep(3) .. "7\ttrue\n", r.both)
    assert.is_true(q:empty())
    assert.is_true(l:acquire(5))
  end)

  it("closing disconnects only", function()
    local m <close> = open()
    local d = m:dict { x = 1 }
    m:register("d", function() return d end)
    local far
    do
      local c <close> = mp.connect(m.address, KEY)
      far = c:d()
      assert.equal(1, far.x)
    end
    misuse({ "connection was closed" }, function() return far.x end)
    assert.equal(1, d.x)
    local again <close> = mp.connect(m.address, KEY)
    assert.equal(1, again:d().x)
  end)

  it("the end of a scope lets go of a handle", function()
    local m <close> = open()
    local c <close> = mp.connect(m.address, KEY)
    local keep = c:dict { x = 1 }
    do
      local d <close> = c:dict()
      keep.d = d
    end
    keep.d.y = 2
    do local _ <close> = keep.d end
    assert.equal(2, keep.d.y)
  end)

  it("a call on a server that is gone is an mp.Error of kind died", function()
    local m = open()
    m:register("pid", function() return mp.getpid() end)
    local c = mp.connect(m.address, KEY)
    local d = c:dict { x = 1 }
    os.execute("kill -9 " .. m:pid())
    failing("died", function()
      for _ = 1, 200 * slow do
        local _ = d.x
        mp.sleep(0.05)
      end
    end)
    failing("died", function() return d.x end)
    m:shutdown()
    local path = "unix:" .. run.tmpdir() .. "/socket"
    local first = open { address = path }
    local old = mp.connect(path, KEY):dict { x = "old" }
    first:shutdown()
    local second <close> = open { address = path }
    local new = mp.connect(path, KEY):dict { x = "new" }
    assert.matches("another manager", failing("died", function() return old.x end).message)
    assert.equal("new", new.x)
    assert.equal(path, second.address)
    local m2 = open()
    local c2 = mp.connect(m2.address, KEY)
    local e = c2:Event()
    m2:shutdown()
    failing("died", function() e:wait() end)
  end)
end)
