-- Managers: contract in docs/reference/manager.md.
local mp = require "mp"
local run = require "spec.support.run"

local slow <const> = run.slow

local function child(f, ...)
  local p = mp.Process { target = f, args = table.pack(...), start_method = "fork" }
  p:start()
  return p
end

local function ends_well(p)
  assert.is_true(p:join(20 * slow))
  if p.exitcode ~= 0 then error(tostring(p.error)) end
end

local function misuse(words, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert.equal("string", type(e), tostring(e))
  for _, word in ipairs(words) do assert(e:find(word, 1, true), ("%q is not in %q"):format(word, e)) end
  assert(e:find("^spec/manager_spec.lua:%d+: "), "no position of the caller: " .. e)
end

local function failing(kind, f, ...)
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  assert(mp.is_error(e, kind), "not an mp.Error of kind " .. kind .. ": " .. tostring(e))
  return e
end

local function collect()
  for _ = 1, 3 do collectgarbage() end
end

local function running(pid) -- a zombie has ended
  local f = io.open(("/proc/%d/stat"):format(pid))
  if not f then return false end
  local text = f:read("a") or ""
  f:close()
  return not text:match("^%d+ %b() [ZX]")
end

-- How many objects the server has given out, from a spy that is one of them.
local function spy(m)
  m:register("descriptors", function()
    return { count = function()
      collectgarbage()
      collectgarbage()
      local n = 0
      for fd = 0, 1023 do
        local f = io.open("/proc/self/fdinfo/" .. fd)
        if f then
          f:close()
          n = n + 1
        end
      end
      return n
    end }
  end)
  local d = m:descriptors()
  return function() return d:count() end
end

describe("a manager's dict", function()
  it("does what mp.Dict does", function()
    local m <close> = mp.Manager()
    local d = m:dict { a = 1, [2] = "two", [true] = { x = { 1 } } }
    assert.equal(1, d.a)
    assert.equal("two", d[2])
    assert.same({ x = { 1 } }, d[true])
    assert.is_nil(d.b)
    assert.equal("none", d:get("b", "none"))
    d.b, d.get = 2, "hidden"
    assert.equal("hidden", d:get "get")
    assert.equal(5, #d)
    assert.equal(3, d:incr("b"))
    assert.equal(13, d:incr("b", 10))
    assert.equal(1, d:incr "new")
    assert.equal(13, d:setdefault("b", 0))
    assert.equal(0, d:setdefault("c", 0))
    assert.equal(0, d:pop "c")
    assert.is_nil(d:pop "c")
    assert.equal("default", d:pop("c", "default"))
    assert.equal(26, d:update("b", function(n) return n * 2 end))
    assert.is_nil(d:update("b", function() return nil end))
    assert.same({ a = 1, [2] = "two", [true] = { x = { 1 } }, new = 1, get = "hidden" }, d:copy())
    local copy = {}
    for k, v in pairs(d) do copy[k] = v end
    assert.same(d:copy(), copy)
    copy = {}
    for k, v in d:items() do copy[k] = v end
    assert.same(d:copy(), copy)
    assert.equal(5, #d:keys())
    assert.equal(5, #d:values())
    assert.is_true(d:clear())
    assert.equal(0, #d)
    d.x = nil
    assert.equal(0, #d)
  end)

  it("copies plain tables in and out", function()
    local m <close> = mp.Manager()
    local t = { 1, 2 }
    local d = m:dict { t = t }
    t[1] = "changed"
    d.t[2] = "lost"
    assert.same({ 1, 2 }, d.t)
    d:update("t", function(v) v[2] = "kept" return v end)
    assert.same({ 1, "kept" }, d.t)
  end)

  it("holds shared objects, which pass as themselves", function()
    local m <close> = mp.Manager()
    local q, d = mp.Queue(), m:dict()
    d.q = q
    assert.is_true(d.q == q)
    d.q:put(5)
    assert.equal(5, q:get(20 * slow))
    local l = mp.Lock()
    d[l] = "by lock"
    assert.equal("by lock", d[l])
  end)

  it("names the function and the argument of a mistake, at the caller's line", function()
    local m <close> = mp.Manager()
    local d = m:dict { s = "x", top = math.maxinteger }
    misuse({ "incr", "string" }, function() d:incr("s") end)
    misuse({ "incr", "range" }, function() d:incr("top") end)
    misuse({ "incr", "number expected" }, function() d:incr("n", "1") end)
    misuse({ "set", "nil" }, function() d:set(nil, 1) end)
    misuse({ "newindex", "nan" }, function() d[0 / 0] = 1 end)
    misuse({ "set", "key", "table" }, function() d:set({}, 1) end)
    misuse({ "update", "function expected" }, function() d:update("s") end)
    misuse({ "with", "function expected" }, function() d:with(3) end)
    misuse({ "get", "dict of a manager expected" }, function() d.get(3, 4) end)
    misuse({ "dict", "table expected" }, function() m:dict(3) end)
    assert.is_nil(d[nil])
    local e = failing("encode", function() d.x = { deep = { coroutine.create(print) } } end)
    assert.equal("deep[1]", e.path:gsub("^%.", ""))
    assert.matches("coroutine cannot be sent", e.message)
    assert.same({ s = "x", top = math.maxinteger }, d:copy())
  end)

  it("updates for many processes at once, none lost", function()
    local m <close> = mp.Manager()
    local d, ps = m:dict { n = 0, u = 0, w = 0 }, {}
    for i = 1, 8 do
      ps[i] = child(function()
        for _ = 1, 20 do
          d:incr "n"
          d:update("u", function(u) return u + 1 end)
          d:with(function(c) c.w = c.w + 1 end)
        end
      end)
    end
    for _, p in ipairs(ps) do ends_well(p) end
    assert.same({ n = 160, u = 160, w = 160 }, d:copy())
  end)

  it("is held by with: others wait, the holder's calls pass, and an error lets go", function()
    local m <close> = mp.Manager()
    local d, started = m:dict { n = 1 }, mp.Event()
    local p
    local r = table.pack(d:with(function(c, x)
      p = child(function()
        started:set()
        d.n = d.n * 10
      end)
      started:wait()
      for _ = 1, 20 do mp.sleep(0.001) assert.equal(1, c.n) end
      c:with(function() c.n = 2 end)
      return x, nil, c.n
    end, "arg"))
    ends_well(p)
    assert.same({ "arg", nil, 2, n = 3 }, r)
    assert.equal(20, d.n)
    assert.has_error(function() d:with(function() error("mine", 0) end) end, "mine")
    assert.has_error(function() d:update("n", function() error("mine", 0) end) end, "mine")
    failing("encode", d.update, d, "n", function() return coroutine.create(print) end)
    ends_well(child(function() d.n = 5 end))
    assert.equal(5, d.n)
  end)

  it("is let go when its holder is killed, and what it had done stays", function()
    local m <close> = mp.Manager()
    local d, held = m:dict { n = 1 }, mp.Event()
    local p = child(function()
      d:with(function()
        d.n = 2
        held:set()
        mp.sleep(60)
      end)
    end)
    assert.is_true(held:wait(10 * slow))
    local other = child(function() d.seen = d.n end)
    p:kill()
    ends_well(other)
    assert.equal(2, d.seen)
  end)
end)

describe("a manager's list", function()
  it("does what mp.List does", function()
    local m <close> = mp.Manager()
    local l = m:list { 3, 1, 2 }
    assert.equal(3, #l)
    assert.equal(3, l[1])
    assert.is_nil(l[4])
    l[4] = "x"
    l[#l + 1] = "y"
    assert.is_true(l:append(7))
    assert.is_true(l:extend { 8, 9 })
    assert.is_true(l:extend(m:list { 10 }))
    assert.is_true(l:extend(mp.List { 11 }))
    assert.same({ 3, 1, 2, "x", "y", 7, 8, 9, 10, 11 }, l:copy())
    assert.equal(11, l:pop())
    assert.equal("x", l:pop(4))
    assert.is_true(l:insert(1, { 1, { 2 } }))
    assert.equal(1, l:index { 1, { 2 } })
    assert.is_nil(l:index "nothing")
    assert.is_true(l:remove { 1, { 2 } })
    assert.is_false(l:remove "nothing")
    assert.is_true(l:remove "y")
    assert.is_true(l:reverse())
    assert.same({ 10, 9, 8, 7, 2, 1, 3 }, l:copy())
    assert.is_true(l:sort())
    assert.same({ 1, 2, 3, 7, 8, 9, 10 }, l:copy())
    assert.is_true(l:sort(function(a, b) return a > b end))
    local n = 0
    for i, v in ipairs(l) do n = n + 1 assert.equal(l[i], v) end
    for i, v in pairs(l) do n = n + 1 assert.equal(l[i], v) end
    assert.equal(14, n)
    assert.equal("held", l:with(function(c) return c == l and "held" end))
    assert.is_true(l:clear())
    assert.is_nil(l:pop())
    assert.equal(0, #l)
  end)

  it("sorts stably, and keeps the order when the comparison fails", function()
    local m <close> = mp.Manager()
    local l = m:list()
    for i = 1, 40 do l:append { key = i % 3, i = i } end
    l:sort(function(a, b) return a.key < b.key end)
    local last
    for _, v in ipairs(l:copy()) do
      if last and last.key == v.key then assert.is_true(last.i < v.i) end
      last = v
    end
    local before = l:copy()
    assert.has_error(function() l:sort(function() error("mine", 0) end) end, "mine")
    misuse({ "sort", "compare" }, function() l:sort() end)
    assert.same(before, l:copy())
    ends_well(child(function() l:append(1) end)) -- it is not held
  end)

  it("names what is out of range", function()
    local m <close> = mp.Manager()
    local l = m:list { 1, 2 }
    misuse({ "index", "position 4 is out of range" }, function() return l[4] end)
    misuse({ "index", "position 0 is out of range" }, function() return l[0] end)
    misuse({ "newindex", "position 4" }, function() l[4] = 1 end)
    misuse({ "insert", "position 9" }, function() l:insert(9, 1) end)
    misuse({ "append", "no nil" }, function() l:append(nil) end)
    misuse({ "pop", "position 3" }, function() l:pop(3) end)
    misuse({ "get", "1.5" }, function() l:get(1.5) end)
    misuse({ "mp.ListProxy has no field 'foo'" }, function() return l.foo end)
    misuse({ "extend", "table" }, function() l:extend(3) end)
    assert.same({ 1, 2 }, l:copy())
  end)
end)

describe("a manager's namespace", function()
  it("is a record of fields", function()
    local m <close> = mp.Manager()
    local ns = m:Namespace { a = 1 }
    ns.b, ns.get = "two", "a field, too"
    ends_well(child(function() ns.a = ns.a + 1 end))
    assert.equal(2, ns.a)
    assert.equal("a field, too", ns.get)
    assert.is_nil(ns.c)
    local copy = {}
    for k, v in pairs(ns) do copy[k] = v end
    assert.same({ a = 2, b = "two", get = "a field, too" }, copy)
  end)
end)

describe("a manager's shared objects", function()
  it("are those of mp", function()
    local m <close> = mp.Manager()
    assert.equal(3, m:Value("i", 3).value)
    assert.equal(2, #m:Array("d", { 1, 2 }))
    assert.equal("mp.Queue", getmetatable(m:Queue(3)))
    local q = m:JoinableQueue()
    q:put(1)
    q:get()
    q:task_done()
    assert.is_true(q:join(1))
    for _, lock in ipairs { m:Lock(), m:RLock(), m:Semaphore(1), m:Condition() } do
      assert.is_true(lock:acquire(1))
      lock:release()
    end
    assert.is_false(m:Event():is_set())
    assert.equal(3, m:Barrier(3).parties)
    misuse({ "Value" }, function() m:Value("nonsense") end)
  end)
end)

describe("a manager's pool", function()
  it("works in the server, for whoever has its proxy", function()
    local m <close> = mp.Manager()
    local pool = m:Pool(2)
    assert.equal(2, pool.processes)
    assert.equal(5, pool:apply(math.max, { 1, 5, 3 }))
    assert.same({ 1, 4, 9, n = 3 }, pool:map(function(x) return x * x end, { 1, 2, 3 }))
    assert.same({ 3, 7, n = 2 }, pool:starmap(function(a, b) return a + b end, { { 1, 2 }, { 3, 4 } }))
    local r = pool:apply_async(function() return "later", 2 end)
    assert.same({ "later", 2, n = 2 }, table.pack(r:get(20 * slow)))
    assert.is_true(r:ready())
    assert.is_true(r:successful())
    local d = m:dict()
    local p = child(function() d.sum = pool:apply(function(a, b) return a + b end, { 40, 2 }) end)
    ends_well(p)
    assert.equal(42, d.sum)
    assert.equal("bad", failing("error", pool.apply, pool, function() error("bad", 0) end).value)
    local slow_one = pool:apply_async(mp.sleep, { 60 })
    assert.same({ nil, "timeout", n = 2 }, table.pack(slow_one:get(0.01)))
    assert.same({ nil, "timeout", n = 2 }, table.pack(slow_one:wait(0)))
    assert.is_true(slow_one:cancel())
    misuse({ "map", "callback" }, function() pool:map(print, {}, { callback = print }) end)
    misuse({ "apply", "function expected" }, function() pool:apply(3) end)
    misuse({ "mp.PoolProxy has no field 'x'" }, function() return pool.x end)
    assert.is_true(pool:close())
    assert.is_true(pool:join(20 * slow))
    misuse({ "apply", "closed" }, function() pool:apply(print) end)
  end)

  it("keeps nobody waiting but who asked", function()
    local m <close> = mp.Manager()
    local pool, d, go = m:Pool(1), m:dict { n = 0 }, mp.Event()
    local p = child(function() d.result = pool:apply(function() go:wait() return "done" end) end)
    for _ = 1, 50 do d:incr "n" end -- served meanwhile
    go:set()
    ends_well(p)
    assert.same({ n = 50, result = "done" }, d:copy())
  end)
end)

local Counter = {}
Counter.__index = Counter
function Counter:add(n) self.n = self.n + n return self.n, "n is", self.n end
function Counter:fail() error("no way") end
function Counter:fail_with(v) error(v) end
function Counter:me() return self end
function Counter:twin() return setmetatable({ n = self.n }, Counter) end
function Counter:many(...) return select("#", ...), ... end
function Counter:unsendable() return { coroutine.create(print) } end
Counter.__len = function(self) return self.n end
Counter.__call = function(self, x) return self.n .. x end

describe("a registered constructor", function()
  it("gives objects by proxy: methods, fields, results", function()
    local m <close> = mp.Manager()
    assert.is_true(m:register("Counter", function(n) return setmetatable({ n = n or 0 }, Counter) end))
    local c = m:Counter(5)
    assert.same({ 8, "n is", 8, n = 3 }, table.pack(c:add(3)))
    assert.equal(8, c.n)
    c.n = 20
    assert.equal(20, c.n)
    assert.equal(20, #c)
    assert.equal("20!", c("!"))
    assert.is_nil(c.nothing)
    assert.is_true(c:me() == c)
    local twin = c:twin()
    twin:add(1)
    assert.equal(21, twin.n)
    assert.equal(20, c.n)
    assert.same({ 3, nil, nil, nil, n = 4 }, table.pack(c:many(nil, nil, nil)))
    assert.same({ 0, n = 1 }, table.pack(c:many()))
    ends_well(child(function() c:add(1) end))
    assert.equal(21, c.n)
    local seen = {}
    for k, v in pairs(c) do seen[k] = v end
    assert.same({ n = 21 }, seen)
  end)

  it("may give several things, plain tables and functions too", function()
    local m <close> = mp.Manager()
    m:register("things", function()
      local n = 0
      return function(k) n = n + k return n end, { x = 1 }, 7, "s", nil, mp.Value("i", 3)
    end)
    local f, t, n, s, none, v = m:things()
    assert.equal(2, f(2))
    assert.equal(5, f(3))
    t.y = 2
    assert.equal(3, t.x + t.y)
    assert.same({ 7, "s" }, { n, s })
    assert.is_nil(none)
    assert.equal(3, v.value)
  end)

  it("get and give what was given, scalars or not, nils among them, and any number", function()
    local m <close> = mp.Manager()
    m:register("echo", function() return function(...) return ... end end)
    local echo = m:echo()
    local function same(...)
      local want, got = table.pack(...), table.pack(echo(...))
      assert.same(want, got)
      for i = 1, want.n do assert.equal(math.type(want[i]), math.type(got[i])) end
    end
    same()
    same(nil)
    same(1, nil, 2, nil)
    same(nil, {}, nil)
    same(true, false, 0, -1, 127, 128, -33, 65536, math.mininteger, math.maxinteger, 0.0, 1.5, -math.huge, 2 ^ 53)
    same({ "a table" }, "and", 1, nil)
    for _, n in ipairs { 0, 1, 31, 32, 255, 256, 480, 490, 500, 510, 520, 70000 } do same(("x"):rep(n), "behind") end
    for _, n in ipairs { 14, 15, 16, 240, 247, 248, 249, 250, 251, 252, 300, 2000 } do
      local t = {}
      for i = 1, n do t[i] = i end
      same(table.unpack(t))
      same(table.unpack(t, 1, n + 3))
    end
  end)

  it("arrive whole when finalizers receive messages meanwhile, at either end", function()
    local function churn() -- makes garbage whose finalizer uses the codec
      local q = mp.Queue()
      return function()
        setmetatable({}, { __gc = function()
          q:put(("z"):rep(300))
          q:get(1)
        end })
      end
    end
    local m <close> = mp.Manager()
    m:register("echo", function()
      local make = churn()
      return function(...)
        for _ = 1, 3 do make() end
        return ...
      end
    end)
    local echo, make = m:echo(), churn()
    for i = 1, 3000 do
      make()
      local t = {}
      for k = 1, 4 do t[k] = string.char(96 + k):rep(50 + 10 * k) .. i end
      assert.same(t, { echo(table.unpack(t)) })
    end
  end)

  it("passes an error in a method on as that error, with its traceback", function()
    local m <close> = mp.Manager()
    m:register("Counter", function(n) return setmetatable({ n = n or 0 }, Counter) end)
    m:register("broken", function() error("cannot be made", 0) end)
    local c = m:Counter()
    local e = failing("error", c.fail, c)
    assert.matches("manager_spec.lua:%d+: no way$", e.message)
    assert.matches("manager_spec.lua:%d+: in ", e.traceback)
    assert.is_nil(e.traceback:find("server.lua", 1, true))
    assert.equal("Manager-", e.name:match "^Manager%-")
    assert.same({ code = 3 }, failing("error", c.fail_with, c, { code = 3 }).value)
    assert.equal("timeout", failing("timeout", c.fail_with, c, mp.Error("timeout", "mine")).kind)
    assert.equal("cannot be made", failing("error", function() m:broken() end).message)
    assert.matches("result cannot be sent", failing("encode", c.unsendable, c).message)
    misuse({ "nothing", "no method" }, function()
      c.add = nil -- the class has it still
      c.nothing = print
      local f = c.nothing
      c.nothing = nil
      f(c)
    end)
    assert.equal(1, (c:add(1)))
  end)

  it("must be registered, under a name that is free", function()
    local m <close> = mp.Manager()
    misuse({ "mp.Manager has no field 'missing'" }, function() m:missing() end)
    misuse({ "register", "'dict' is taken" }, function() m:register("dict", print) end)
    misuse({ "register", "'address' is taken" }, function() m:register("address", print) end)
    misuse({ "register", "name expected" }, function() m:register(3, print) end)
    misuse({ "register", "function expected" }, function() m:register("x") end)
  end)

  it("may use other objects of the manager, directly", function()
    local m <close> = mp.Manager()
    local scores = m:dict { Anna = 5 }
    m:register("scores", function() return scores end)
    m:register("sum", function()
      local n = 0
      for _, v in pairs(scores) do n = n + v end
      scores:update("sum", function() return n end)
      return #scores, scores.sum, pcall(scores.incr, scores, "Anna", "x")
    end)
    assert.is_true(m:scores() == scores)
    local n, sum, ok, e = m:sum()
    assert.same({ 2, 5, false }, { n, sum, ok })
    assert.matches("number expected", e)
  end)
end)

describe("proxies", function()
  it("nest: a proxy inside is a reference", function()
    local m <close> = mp.Manager()
    local d, l = m:dict(), m:list { 1 }
    d.l, d.t = l, { inner = { l } }
    l:append(2)
    assert.same({ 1, 2 }, d.l:copy())
    assert.is_true(d.l == l and d.t.inner[1] == l)
    d.d = d
    assert.is_true(d.d.d.d == d)
  end)

  it("travel: in queues, arguments, pools, by fork and by spawn, to threads", function()
    local m <close> = mp.Manager()
    local d, q = m:dict { n = 0 }, mp.Queue()
    q:put { d, { m } }
    local got = q:get()
    assert.is_true(got[1] == d and got[2][1] == m)
    local function work(x, mm)
      x:incr "n"
      x[#x + 1] = mm:list { "made there" }
    end
    for _, method in ipairs { "fork", "spawn" } do
      local p = mp.Process { target = work, args = { d, m }, start_method = method }
      p:start()
      ends_well(p)
    end
    local t = mp.Thread { target = work, args = { d, m } }
    t:start()
    assert.is_true(t:join(20 * slow))
    assert.is_nil(t.error)
    local pool <close> = mp.Pool(2)
    pool:map(function() d:incr "n" end, { 1, 2, 3 })
    assert.equal(6, d.n)
    for k, v in pairs(d) do
      if k ~= "n" then assert.same({ "made there" }, v:copy()) end
    end
  end)

  it("keep their object while they are on their way, and no longer than anybody has them", function()
    local m <close> = mp.Manager()
    local count = spy(m)
    local q = mp.Queue()
    local d = m:dict { x = 1 }
    q:put(d)
    d = nil -- luacheck: ignore
    collect()
    count()
    d = q:get()
    assert.equal(1, d.x)
    local before = count()
    local many = {}
    for i = 1, 30 do many[i] = m:list() end
    assert.is_true(count() >= before + #many)
    many = nil -- luacheck: ignore
    assert.is_truthy(run.wait_until(function()
      collect()
      return count() <= before
    end, 15))
  end)

  it("are let go of by what carries them, as soon as it is on its way", function()
    local m <close> = mp.Manager()
    local pool <close> = mp.Pool(1)
    local function check(what, carry)
      local token = setmetatable({}, { __mode = "k" })
      do
        local d = m:dict { x = 1 }
        token[debug.getuservalue(d, 1).token] = true
        carry(d)
      end
      collect()
      assert.is_nil(next(token), what .. " keeps it")
    end
    local function start(x)
      x:start()
      assert.equal(1, x:result())
    end
    local function target(d) return d.x end
    check("a put", function(d)
      local q = mp.Queue()
      q:put(d)
      assert.equal(d, q:get())
    end)
    check("a place in another", function(d) m:dict().d = d end)
    check("a fork", function(d) start(mp.Process { target = target, args = { d }, start_method = "fork" }) end)
    check("a spawn", function(d) start(mp.Process { target = target, args = { d }, start_method = "spawn" }) end)
    check("a thread", function(d) start(mp.Thread { target = target, args = { d } }) end)
    check("a task", function(d) assert.equal(1, pool:apply(target, { d })) end)
  end)

  it("let go with the client that had them, however it ended", function()
    local m <close> = mp.Manager()
    local count = spy(m)
    local before = count()
    local ready = mp.Queue()
    local p = child(function()
      local many = {}
      for i = 1, 30 do many[i] = m:list() end
      ready:put(#many)
      mp.sleep(60)
    end)
    assert.equal(30, ready:get(20 * slow))
    assert.is_true(count() >= before + 30)
    p:kill()
    assert.is_truthy(run.wait_until(function() return count() <= before end, 15))
  end)

  it("let go of their object at the end of a scope, for this handle only", function()
    local m <close> = mp.Manager()
    local count = spy(m)
    local keep, q = m:dict { x = 1 }, mp.Queue()
    keep.me = keep
    q:put(keep)
    local before = count()
    local seen
    do
      local d <close> = m:list { 1 }
      seen = d
      assert.equal(1, #d)
      assert.is_true(count() > before)
    end
    misuse({ "copy", "handle is closed" }, function() seen:copy() end)
    misuse({ "handle is closed" }, function() return seen[1] end)
    misuse({ "handle is closed" }, function() seen[1] = 2 end)
    assert.matches("closed", tostring(seen))
    assert.has_error(function() q:put(seen) end)
    assert.is_truthy(run.wait_until(function() return count() <= before end, 15))
    do local _ <close> = keep end
    assert.equal(1, q:get().x) -- another copy
  end)

  it("say what they are", function()
    local m <close> = mp.Manager()
    local d = m:dict()
    m:register("thing", function() return {} end)
    assert.matches("^mp.DictProxy #%d+ of Manager%-%d+$", tostring(d))
    assert.matches("^mp.ListProxy #%d+ of", tostring(m:list()))
    assert.matches("^mp.Proxy thing #%d+ of", tostring(m:thing()))
    assert.matches("^mp.Manager Manager%-%d+ pid %d+$", tostring(m))
    assert.is_false(d == m:dict())
    assert.equal("mp.Proxy", getmetatable(d))
    assert.is_nil(m.address)
  end)

  it("of classes travel as the class is registered in the server", function()
    local Point = { __name = "Point" }
    mp.register("manager_spec.Point", Point, { dump = function(p) return p.x end, load = function(x) return setmetatable({ x = x }, Point) end })
    local m <close> = mp.Manager()
    local d = m:dict()
    local e = failing("encode", function() d.p = setmetatable({ x = 1 }, Point) end)
    assert.matches("could not be received.*manager_spec.Point", e.message)
    d.q = 1 -- the server goes on
    local m2 <close> = mp.Manager {
      initializer = function()
        local P = { __name = "Point" }
        mp.register("manager_spec.Point", P, { dump = function(p) return p.x end, load = function(x) return setmetatable({ x = x }, P) end })
      end,
    }
    local d2 = m2:dict()
    d2.p = setmetatable({ x = 7 }, Point)
    assert.equal(7, d2.p.x)
    assert.equal(Point, getmetatable(d2.p))
  end)
end)

describe("a manager", function()
  it("refuses what it does not know", function()
    misuse({ "Manager", "unknown option 'port'" }, function() mp.Manager { port = 3 } end)
    misuse({ "Manager", "table of options" }, function() mp.Manager("x") end)
    misuse({ "Manager", "initializer must be a function" }, function() mp.Manager { initializer = 3 } end)
    misuse({ "Manager", "authkey must be a string" }, function() mp.Manager { authkey = 3 } end)
    misuse({ "Manager", "authkey must not be empty" }, function() mp.Manager { authkey = "" } end)
  end)

  it("begins with its initializer, and raises what that raises", function()
    local e = failing("error", mp.Manager, { initializer = function() error("not today", 0) end })
    assert.equal("not today", e.message)
    local m <close> = mp.Manager { initializer = function() Marked = 17 end } -- luacheck: ignore
    m:register("marked", function() return Marked end) -- luacheck: ignore
    assert.equal(17, m:marked())
  end)

  it("is misused after shutdown, and shut down but once", function()
    local m = mp.Manager()
    local d = m:dict { x = 1 }
    local lock = m:Lock()
    assert.is_true(m:shutdown())
    assert.is_true(m:shutdown())
    misuse({ "shut down" }, function() return d.x end)
    misuse({ "get", "shut down" }, function() d:get "x" end)
    misuse({ "list", "shut down" }, function() m:list() end)
    misuse({ "Lock", "shut down" }, function() m:Lock() end)
    assert.is_true(lock:acquire(1)) -- has no need of a server
    assert.matches("shut down", tostring(m))
    assert.has_error(function() mp.Queue():put(d) end)
  end)

  it("is shut down by the end of its scope, and by its maker only", function()
    local d
    do
      local m <close> = mp.Manager()
      d = m:dict { x = 1 }
      local q = mp.Queue()
      ends_well(child(function()
        local ok, e = pcall(m.shutdown, m)
        q:put { ok, e }
        do local _ <close> = m end
      end))
      local r = q:get(20 * slow)
      assert.is_false(r[1])
      assert.matches("only the process that made the manager", r[2])
      assert.equal(1, d.x)
    end
    misuse({ "shut down" }, function() return d.x end)
  end)

  it("that is killed leaves an mp.Error of kind died to every caller, also to those who wait", function()
    local m = mp.Manager()
    local d, q = m:dict { x = 1 }, mp.Queue()
    m:register("pid", function() return mp.getpid() end)
    local pid = m:pid()
    local held = mp.Event()
    local p = child(function()
      held:wait()
      local ok, e = pcall(function() return d.x end) -- blocks: it is held
      q:put { ok, mp.is_error(e, "died"), tostring(e) }
    end)
    pcall(d.with, d, function()
      held:set()
      mp.sleep(0.05)
      os.execute("kill -9 " .. pid)
    end)
    ends_well(p)
    local r = q:get(20 * slow)
    assert.same({ false, true }, { r[1], r[2] }, r[3])
    local e = failing("died", function() return d.x end)
    assert.equal(pid, e.pid)
    failing("died", m.list, m)
    assert.is_true(m:shutdown())
  end)

  it("ends with its program, however that ends, and when nobody can ask it any more", function()
    for _, ending in ipairs { "", "os.exit(3)", "error 'x'", "os.execute('kill -9 ' .. mp.getpid())" } do
      local r = run.script([[
        local mp = require "mp"
        local m = mp.Manager()
        m:register("pid", function() return mp.getpid() end)
        print(m:pid())
        io.stdout:flush()
      ]] .. ending)
      local pid = assert(tonumber(r.out:match "%d+"), r.both)
      assert.is_truthy(run.wait_until(function() return not running(pid) end, 15), ending)
    end
    local m = mp.Manager()
    m:register("pid", function() return mp.getpid() end)
    local pid = m:pid()
    m = nil -- luacheck: ignore
    assert.is_truthy(run.wait_until(function()
      collect()
      local ended = true
      for _, p in ipairs(mp.active_children()) do ended = ended and p.pid ~= pid end
      return ended
    end, 15))
  end)

  it("serves the processes that the end of the program waits for", function()
    local r = run.script([[
      local mp = require "mp"
      local m = mp.Manager{ address = "unix:" .. arg[1] .. "/socket" }
      local d, go = m:dict{ n = 1 }, mp.Event()
      mp.Process{ target = function()
        go:wait(0.1) -- nobody sets it: the main program ends meanwhile
        d.n = d.n + 1
        print(d.n, m.address ~= nil)
      end }:start()
    ]], { run.tmpdir() })
    assert.equal("2\ttrue\n", r.both)
  end)

  it("cannot be called by a confined process, which is told so", function()
    local m <close> = mp.Manager()
    local d = m:dict { n = 1 }
    local p = mp.Process { target = function() return pcall(function() return d.n end) end, sandbox = "pure" }
    p:start()
    local ok, e = p:result(20 * slow)
    assert.is_false(ok)
    assert.matches("a manager cannot be called from here", e)
    assert.equal(1, d.n) -- it goes on, and takes data only
    failing("encode", m.register, m, "x", function() end)
  end)

  it("lets a waiting call be interrupted, and goes on", function()
    local r = run.script([[
      local mp = require "mp"
      local m = mp.Manager()
      local d, held, done = m:dict{ n = 1 }, mp.Event(), mp.Event()
      local main = mp.getpid()
      local p = mp.Process{ target = function()
        d:with(function()
          held:set()
          mp.sleep(0.1)
          os.execute("kill -INT " .. main)
          done:wait()
        end)
      end }
      p:start()
      local ok, e = pcall(function()
        held:wait()
        return d.n
      end)
      print(ok, (tostring(e):gsub("^.*: ", "")))
      done:set()
      d:with(function() d.n = d.n + 1 end)
      p:join()
      print(d.n)
      d:with(function() d.n = d.n + 1 end)
      print(d.n)
    ]])
    assert.equal("false\tinterrupted!\n2\n3\n", r.out, r.both)
  end)

  it("drops what is no request, and answers what it cannot do", function()
    local m <close> = mp.Manager()
    local l = m:list { 1, 2 }
    assert.equal(2, #l)
    local s = debug.getuservalue(l, 1).server -- what a confined client could write to
    local q, me = s.requests, s.conn.number
    for _, bad in ipairs { 1, "x", { me }, { me, 1 }, { me, "x", "len", 2 }, { 0, 0, "connect" }, { 0, 0, "gone", "x" }, { 0, 0, {}, {} },
                           { 12345, 1, "len", 2 }, { me, -1, "len" },
                           { me, -1, "len", {} }, { me, -1, "len", 99 }, { me, -1, "no", 2 }, { me, -1, {}, 2 }, { me, -1, 7, 2 },
                           { me, -1, "make", 1, "list", 999999 }, { me, -1, "make", 1, "list", {} }, { me, -1, "make", 1, "list", -1 },
                           { me, -1, "get", 2, 1, [900000] = 2 }, { me, -1, "forget" }, { me, -1, "release", 2 }, {}, { [3] = "len" } } do
      q:put(bad)
    end
    assert.equal(2, #l)
    assert.equal(3, m:list { 1, 2, 3 }[3])
  end)

  it("serves many clients, each in order", function()
    local m <close> = mp.Manager()
    local l, ps = m:list(), {}
    for i = 1, 30 do
      ps[i] = child(function() for k = 1, 20 do l:append { i, k } end end)
    end
    for _, p in ipairs(ps) do ends_well(p) end
    assert.equal(600, #l)
    local last = {}
    for _, v in ipairs(l:copy()) do
      assert.equal((last[v[1]] or 0) + 1, v[2])
      last[v[1]] = v[2]
    end
  end)
end)
