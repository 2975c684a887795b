-- mp.Dict: contract in docs/reference/dict.md.
local mp = require "mp"
local run = require "spec.support.run"
local child, misuse = run.child, run.misuse

local function refused(words, f)
  local ok, e = pcall(f)
  assert.is_false(ok)
  assert.is_true(mp.is_error(e, "encode"))
  for _, word in ipairs(words) do assert(tostring(e):find(word, 1, true), tostring(e)) end
end

describe("a dict", function()
  it("keeps values under keys", function()
    local d = mp.Dict { a = 1, [1] = "one", [2.5] = true, [false] = { x = { 1, 2 } } }
    assert.equal(4, #d)
    assert.equal(1, d.a)
    assert.equal("one", d[1])
    assert.is_true(d[2.5])
    assert.same({ x = { 1, 2 } }, d[false])
    assert.is_nil(d.b)
    d.b = "x"
    d.a = nil
    assert.equal("x", d.b)
    assert.is_nil(d.a)
    assert.equal(4, #d)
    d.a = nil
    assert.equal(4, #d)
    assert.equal(0, #mp.Dict())
  end)

  it("gives back values as they were: subtype, bytes, size", function()
    local d = mp.Dict()
    local big = ("\0\255x"):rep(200000)
    for i, v in ipairs { 1, 1.0, -0.0, math.mininteger, math.huge, "", "\0", big, true, false } do
      d.k = v
      assert.equal(v, d.k, "value " .. i)
      assert.equal(math.type(v), math.type(d.k))
    end
    d.n = 0 / 0
    assert(d.n ~= d.n)
    local t = {}
    for i = 1, 5000 do t[i] = { i = i, s = ("x"):rep(i % 50) } end
    d.t = t
    assert.same(t, d.t)
    local cyclic = { 1 }
    cyclic.self = cyclic
    d.c = cyclic
    assert.equal(d.c.self.self[1], 1)
  end)

  it("takes equal numbers as one key, and nothing but plain keys", function()
    local d = mp.Dict()
    d[1] = "a"
    d[1.0] = "b"
    d["1"] = "c"
    assert.equal(2, #d)
    assert.equal("b", d[1])
    d[0] = "zero"
    assert.equal("zero", d[-0.0])
    d[2 ^ 53] = "big"
    assert.equal("big", d[1 << 53])
    d[math.huge] = "inf"
    assert.equal("inf", d[math.huge])
    assert.is_nil(d[nil])
    assert.is_nil(d[0 / 0])
    misuse({ "nil" }, function() d[nil] = 1 end)
    misuse({ "nan" }, function() d[0 / 0] = 1 end)
    misuse({ "key", "table" }, function() d[{}] = 1 end)
    misuse({ "key", "table" }, function() return d[{}] end)
    misuse({ "get", "function" }, function() return d:get(print) end)
    misuse({ "mp.Dict", "table" }, function() mp.Dict { [{}] = 1 } end)
  end)

  it("hides keys behind its methods in d.key only", function()
    local d = mp.Dict { get = 5 }
    assert.equal("function", type(d.get))
    assert.equal(5, d:get "get")
    d.keys = 6
    assert.equal(6, d:get "keys")
    assert.is_true(d:set("pop", 7))
    assert.equal(7, d:get "pop")
    d:set("pop", nil)
    assert.is_nil(d:get "pop")
  end)

  it("has defaults", function()
    local d = mp.Dict { f = false }
    assert.equal(9, d:get("x", 9))
    assert.is_false(d:get("f", 9))
    assert.is_nil(d:get "x")
    assert.equal(3, d:setdefault("x", 3))
    assert.equal(3, d:setdefault("x", 4))
    assert.same({ 1 }, d:setdefault("t", { 1 }))
    assert.same({ 1 }, d:setdefault("t", { 2 }))
    local big = {}
    for i = 1, 1000 do big[i] = i end
    assert.same(big, d:setdefault("big", big))
    assert.same(big, d:setdefault("big", { 1 }))
    assert.is_false(d:setdefault("f", 1))
    misuse({ "setdefault" }, function() d:setdefault("y", nil) end)
  end)

  it("pops", function()
    local d = mp.Dict { a = { 1, 2 }, s = ("x"):rep(5000) }
    assert.same({ 1, 2 }, d:pop "a")
    assert.is_nil(d:pop "a")
    assert.equal("none", d:pop("a", "none"))
    assert.equal(5000, #d:pop "s")
    assert.equal(0, #d)
  end)

  it("updates in one step", function()
    local d = mp.Dict { n = 1, t = { 1 } }
    assert.equal(2, d:update("n", function(n) return n + 1 end))
    assert.equal(2, d.n)
    assert.same({ 1, 2 }, d:update("t", function(t) t[2] = 2 return t end))
    assert.same({ 1, 2 }, d.t)
    assert.equal("new", d:update("x", function(v) assert(v == nil) return "new" end))
    assert.is_nil(d:update("x", function() return nil end))
    assert.equal(2, #d)
    local s = ("x"):rep(5000)
    d.s = s
    assert.equal(s .. s, d:update("s", function(v) return v .. v end))
    -- An error changes nothing and lets go.
    local ok, e = pcall(d.update, d, "n", function() error({ code = 5 }) end)
    assert.is_false(ok)
    assert.equal(5, e.code)
    refused({ "function" }, function() d:update("n", function() return print end) end)
    assert.equal(2, d.n)
    local p = child(function() os.exit(d:incr("n") == 3 and 0 or 1) end)
    p:join(10)
    assert.equal(0, p.exitcode)
    misuse({ "update", "#2" }, function() d:update("n") end)
  end)

  it("counts", function()
    local d = mp.Dict()
    assert.equal(1, d:incr "n")
    assert.equal(6, d:incr("n", 5))
    assert.equal("integer", math.type(d.n))
    assert.equal(6.5, d:incr("n", 0.5))
    assert.equal(5.5, d:incr("n", -1))
    d.m = math.maxinteger
    misuse({ "incr", "fit" }, function() d:incr "m" end)
    assert.equal(math.maxinteger, d.m)
    d.s = "5"
    misuse({ "incr", "number" }, function() d:incr "s" end)
    misuse({ "incr", "number" }, function() d:incr("n", "1") end)
    assert.equal("5", d.s)
  end)

  it("lists and iterates over a snapshot", function()
    local t = { a = 1, b = { 2 }, [3] = "c", [4.5] = false }
    local d = mp.Dict(t)
    assert.same(t, d:copy())
    local keys, seen = {}, {}
    for _, k in ipairs(d:keys()) do keys[k] = true end
    assert.same({ a = true, b = true, [3] = true, [4.5] = true }, keys)
    assert.equal(4, #d:values())
    for k, v in pairs(d) do
      seen[k] = v
      d[k] = nil
      d["new " .. tostring(k)] = 1
    end
    assert.same(t, seen)
    assert.equal(4, #d)
    d:clear()
    d.x, d.y = 1, 2
    seen = {}
    for k, v in d:items() do seen[k] = v end
    assert.same({ x = 1, y = 2 }, seen)
    seen = {}
    for _, kv in ipairs(d:items()) do seen[kv[1]] = kv[2] end
    assert.same({ x = 1, y = 2 }, seen)
    for _ in pairs(mp.Dict()) do error "empty" end
    assert.same({}, mp.Dict():keys())
  end)

  it("is held by with, once and again, and let go also by an error", function()
    local d = mp.Dict { n = 0 }
    local r = { d:with(function(e, x)
      assert.equal(d, e)
      e.n = e.n + 1
      e:with(function() e:incr "n" end)
      local p = child(function() d.other = true end)
      assert.same({ nil, "timeout" }, { p:join(0.1) })
      assert.is_nil(d.other)
      return x, p
    end, "x") }
    assert.equal("x", r[1])
    assert.is_true(r[2]:join(10))
    assert.equal(2, d.n)
    assert.is_true(d.other)
    assert.is_false(pcall(d.with, d, error))
    local p = child(function() d.n = 9 end)
    assert.is_true(p:join(10))
    assert.equal(9, d.n)
    misuse({ "with", "function" }, function() d:with(5) end)
  end)

  it("holds plain data only, and points to managers", function()
    local d = mp.Dict { k = "old" }
    refused({ "manager" }, function() d.k = mp.Queue() end)
    refused({ "manager", "x" }, function() d.k = { x = mp.Dict() } end)
    refused({ "manager" }, function() d.k = d end)
    refused({ "function" }, function() d.k = function() end end)
    refused({ "function", "[2].g" }, function() d.k = { 1, { g = function() end } } end)
    refused({ "coroutine" }, function() d:set("k", coroutine.create(print)) end)
    refused({ "function" }, function() d:setdefault("new", print) end)
    assert.equal("old", d.k)
    assert.equal(1, #d)
  end)

  it("names misuse", function()
    local d = mp.Dict()
    misuse({ "Dict", "table" }, function() mp.Dict(5) end)
    misuse({ "get" }, function() d:get() end)
    misuse({ "bad argument #1 to 'update' (value expected)" }, function() d:update() end)
    misuse({ "set" }, function() d:set("k") end)
  end)

  it("says what it is, and is equal to itself however it came", function()
    local d, q = mp.Dict { 1, 2, 3 }, mp.Queue()
    assert(tostring(d):find "^mp%.Dict 3 0x")
    q:put { d }
    assert.equal(d, q:get()[1])
  end)

  it("is clear after clear, and usable", function()
    local d = mp.Dict()
    for i = 1, 1000 do d[i] = ("x"):rep(100) end
    assert.is_true(d:clear())
    assert.equal(0, #d)
    assert.is_nil(d[1])
    d[1] = 2
    assert.same({ [1] = 2 }, d:copy())
  end)

  it("holds a hundred thousand entries", function()
    local d = mp.Dict()
    for i = 1, 100000 do d[i] = i * 2 end
    assert.equal(100000, #d)
    for i = 1, 100000, 997 do assert.equal(i * 2, d[i]) end
    local n, sum = 0, 0
    for _, v in pairs(d) do n, sum = n + 1, sum + v end
    assert.equal(100000, n)
    assert.equal(100000 * 100001, sum)
    for i = 1, 100000 do d[i] = nil end
    assert.equal(0, #d)
  end)

  it("that a confined process keeps held gives an error after a while", function()
    if (os.getenv "MP_MODE" or ""):find "san$" then return pending "sandboxes and sanitizers do not mix" end
    local d, inside = mp.Dict { a = 1 }, mp.Value("i", 0, { lock = false })
    local p = mp.Process { sandbox = "pure", args = { d, inside }, target = function(e, v)
      e:with(function()
        e.x = 2
        v.value = 1
        while true do end
      end)
    end }
    p:start()
    local late = mp.now() + 20
    while inside.value == 0 and p:is_alive() and mp.now() < late do mp.sleep(0.01) end
    assert.equal(1, inside.value)
    misuse({ "held", "confined" }, function() return d.a end)
    p:kill()
    p:join()
    assert.equal(1, d.a)
    assert.equal(2, d.x)
  end)

  it("loses no change of several processes", function()
    local d, q = mp.Dict { u = 0 }, mp.Queue()
    local ps = {}
    for i = 1, 4 do
      ps[i] = child(function()
        local e = q:get()
        for k = 1, 300 do
          e:incr "n"
          e:update("u", function(v) return v + 1 end)
          e:with(function() e.w = (e.w or 0) + 1 end)
          e[i * 1000 + k] = { i, k }
        end
      end)
    end
    for _ = 1, 4 do q:put(d) end
    for _, p in ipairs(ps) do p:join() assert.equal(0, p.exitcode) end
    assert.equal(1200, d.n)
    assert.equal(1200, d.u)
    assert.equal(1200, d.w)
    assert.equal(1203, #d)
    assert.same({ 3, 77 }, d[3077])
  end)
end)
