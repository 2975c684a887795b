-- mp.List: contract in docs/reference/list.md.
local mp = require "mp"
local run = require "spec.support.run"
local child, misuse = run.child, run.misuse

describe("a list", function()
  it("keeps values in order", function()
    local l = mp.List { 10, "x", { 1, 2 }, false, 2.5 }
    assert.equal(5, #l)
    assert.same({ 10, "x", { 1, 2 }, false, 2.5 }, l:copy())
    l[2] = "a longer string than before"
    l[#l + 1] = "end"
    assert.equal("end", l[6])
    assert.is_true(l:append(7))
    assert.is_nil(l[8])
    assert.same({ 10, "a longer string than before", { 1, 2 }, false, 2.5, "end", 7 }, l:copy())
    assert.equal(0, #mp.List())
    local big = ("x"):rep(100000)
    l[1] = big
    assert.equal(big, l[1])
    assert.equal(big, l:pop(1))
  end)

  it("reads nil one past the end, and refuses any other position", function()
    local l = mp.List { 1, 2 }
    assert.is_nil(l[3])
    assert.equal(2, l[2.0])
    for _, i in ipairs { 0, -1, 4, 1.5, math.mininteger } do
      misuse({ "mp.List" }, function() return l[i] end)
      misuse({ "mp.List" }, function() l[i] = 1 end)
      misuse({ "pop" }, function() l:pop(i) end)
      misuse({ "insert" }, function() l:insert(i, 1) end)
      misuse({ "get" }, function() l:get(i) end)
    end
    misuse({ "no field 'foo'" }, function() return l.foo end)
    misuse({ "'foo'" }, function() l.foo = 1 end)
    misuse({ "nil" }, function() l[1] = nil end)
    misuse({ "nil" }, function() l:append(nil) end)
    misuse({ "nil" }, function() l:insert(1, nil) end)
    misuse({ "List", "table" }, function() mp.List(5) end)
    assert.same({ 1, 2 }, l:copy())
  end)

  it("inserts and pops anywhere", function()
    local l = mp.List()
    assert.is_nil(l:pop())
    l:insert(1, "b")
    l:insert(1, "a")
    assert.is_true(l:insert(3, "d"))
    l:insert(3, { "c" })
    assert.same({ "a", "b", { "c" }, "d" }, l:copy())
    assert.equal("d", l:pop())
    assert.equal("a", l:pop(1))
    assert.same({ "c" }, l:pop(2))
    assert.equal("b", l:pop())
    assert.equal(0, #l)
  end)

  it("extends by tables and lists, whole or not at all", function()
    local l = mp.List { 1 }
    assert.is_true(l:extend { 2, 3 })
    l:extend {}
    l:extend(l)
    l:extend(mp.List { "x" })
    assert.same({ 1, 2, 3, 1, 2, 3, "x" }, l:copy())
    local ok, e = pcall(l.extend, l, { 4, 5, print })
    assert.is_false(ok)
    assert.is_true(mp.is_error(e, "encode"))
    assert.equal(7, #l)
    misuse({ "extend" }, function() l:extend(5) end)
    misuse({ "mp.List", "no key 'x'" }, function() mp.List { 1, x = 2 } end)
    misuse({ "mp.List", "no key '1.5'" }, function() mp.List { 1, [1.5] = 2 } end)
    misuse({ "extend", "no key '9'" }, function() l:extend { 1, [9] = 2 } end)
    assert.same({ 1, 2 }, mp.List(table.pack(1, 2)):copy())
    local t = {}
    for i = 1, 20000 do t[i] = { i } end
    l:extend(t)
    assert.equal(20007, #l)
    assert.same({ 20000 }, l[20007])
  end)

  it("finds and removes what is equal", function()
    local l = mp.List { 1, "1", { a = 1 }, 2.0, true, 1 }
    assert.equal(1, l:index(1.0))
    assert.equal(2, l:index "1")
    assert.equal(3, l:index { a = 1 })
    assert.equal(4, l:index(2))
    assert.equal(5, l:index(true))
    assert.is_nil(l:index(false))
    assert.is_nil(l:index { a = 2 })
    assert.is_nil(l:index(nil))
    assert.is_true(l:remove(1))
    assert.is_true(l:remove { a = 1 })
    assert.is_false(l:remove { a = 1 })
    assert.same({ "1", 2.0, true, 1 }, l:copy())
  end)

  it("finds tables by what they hold, however they were filled", function()
    local function filled(...)
      local t = {}
      for _, k in ipairs { ... } do t[k] = #k end
      return t
    end
    local l = mp.List { 0, filled("id", "name", "done", "kind", "at"), { { 1, 2 }, x = { y = "z" } } }
    local other = filled("at", "x1", "x2", "kind", "done", "name", "id", "x3", "x4")
    other.x1, other.x2, other.x3, other.x4 = nil, nil, nil, nil
    assert.equal(2, l:index(other))
    for i = 1, 300 do -- what came out has an order of its own
      local t = {}
      for k = 1, i % 13 do t["k" .. (k * i * 7919) % 1009] = k end
      local one = mp.List { t }
      assert.equal(1, one:index(one[1]))
      assert.is_true(one:remove(one[1]))
    end
    assert.equal(3, l:index { { 1, 2.0 }, x = { y = "z" } })
    assert.is_nil(l:index { { 1, 2, 3 }, x = { y = "z" } })
    assert.is_nil(l:index { { 1 }, x = { y = "z" } })
    assert.is_nil(l:index { { 1, 2 }, x = { y = "z" }, more = 1 })
    assert.is_nil(l:index { { 1, 2 }, x = { y = "y" } })
    local a, b, c = {}, {}, {}
    a.next, b.next, c.next = a, c, b -- the same without end
    l:append(a)
    assert.equal(4, l:index(b))
    local s = {}
    assert.is_nil(l:index { s, s })
    l:append { {}, {} }
    assert.equal(5, l:index { s, s })
    misuse({ "index", "[1]", "coroutine" }, function() l:index { coroutine.create(print) } end)
    local p = child(function() l:append(0) end) -- it is free
    assert.is_true(p:join(10))
    assert.equal(6, #l)
  end)

  it("takes nothing that is nested too deep to come out again", function()
    local l, d = mp.List(), mp.Dict()
    local function nested(n)
      local t = {}
      for _ = 1, n do t = { x = t } end
      return t
    end
    l:append(nested(9000))
    assert.equal(1, l:index(nested(9000)))
    d.x = l[1]
    assert.truthy(d.x.x)
    misuse({ "append", "nested" }, function() l:append(nested(10000)) end)
    misuse({ "Dict", "nested" }, function() d.y = nested(10000) end)
    assert.equal(1, #l)
    assert.equal(1, #d)
  end)

  it("sorts stably and reverses", function()
    local l = mp.List { 3, 1, 2.5, -7, 1 }
    assert.is_true(l:sort())
    assert.same({ -7, 1, 1, 2.5, 3 }, l:copy())
    l:sort(function(a, b) return a > b end)
    assert.same({ 3, 2.5, 1, 1, -7 }, l:copy())
    assert.is_true(l:reverse())
    assert.same({ -7, 1, 1, 2.5, 3 }, l:copy())
    local t, want = {}, {}
    for i = 1, 500 do t[i] = { k = (i * 37) % 10, i = i } end
    local records = mp.List(t)
    records:sort(function(a, b) return a.k < b.k end)
    for k = 0, 9 do for i = 1, 500 do if t[i].k == k then want[#want + 1] = t[i] end end end
    assert.same(want, records:copy())
    mp.List():sort()
  end)

  it("is unchanged and free when sorting fails", function()
    local l = mp.List { 3, "x", 1 }
    misuse({ "sort", "cannot compare a string with a number" }, function() l:sort() end)
    misuse({ "sort", "cannot compare a table with a table" }, function() mp.List({ {}, {} }):sort() end)
    local ok, e = pcall(l.sort, l, function() error({ code = 1 }) end)
    assert.is_false(ok)
    assert.equal(1, e.code)
    local numbers = mp.List { 3, 1, 2 }
    misuse({ "sort", "changed" }, function() numbers:sort(function(a, b) numbers:append(1) return a < b end) end)
    assert.same({ 3, 1, 2 }, numbers:get(1) and { numbers[1], numbers[2], numbers[3] })
    assert.same({ 3, "x", 1 }, l:copy())
    local p = child(function() l:append(0) end)
    assert.is_true(p:join(10))
    assert.equal(4, #l)
  end)

  it("iterates", function()
    local l, seen = mp.List { "a", "b", "c" }, {}
    for i, v in ipairs(l) do seen[i] = v end
    assert.same({ "a", "b", "c" }, seen)
    seen = {}
    for i, v in pairs(l) do
      seen[i] = v
      l:pop() -- pairs is over a snapshot
    end
    assert.same({ "a", "b", "c" }, seen)
    assert.equal(0, #l)
  end)

  it("holds plain data only, and points to managers", function()
    local l = mp.List { 1 }
    for _, v in ipairs { mp.Queue(), { mp.List() }, print } do
      for _, f in ipairs { l.append, function(x, y) x:insert(1, y) end, function(x, y) x[1] = y end, function(x, y) x:extend { y } end } do
        local ok, e = pcall(f, l, v)
        assert.is_false(ok)
        assert.is_true(mp.is_error(e, "encode"))
        if v ~= print then assert(tostring(e):find("manager", 1, true), tostring(e)) end
      end
    end
    assert.same({ 1 }, l:copy())
  end)

  it("is held by with", function()
    local l = mp.List()
    assert.equal("r", l:with(function(m)
      m:append(1)
      local p = child(function() l:append(2) end)
      assert.same({ nil, "timeout" }, { p:join(0.1) })
      m:append(3)
      return "r"
    end))
    assert.same(1, l[1])
    assert.same(3, l[2])
    assert.is_false(pcall(l.with, l, error))
  end)

  it("says what it is, and is equal to itself however it came", function()
    local l, q = mp.List { 1, 2 }, mp.Queue()
    assert(tostring(l):find "^mp%.List 2 0x")
    q:put { l }
    assert.equal(l, q:get()[1])
  end)

  it("loses nothing that several processes append", function()
    local l = mp.List()
    local ps = {}
    for i = 1, 4 do
      ps[i] = child(function()
        for k = 1, 300 do
          l:append { i, k }
          if k % 3 == 0 then assert(l:pop()) end
        end
      end)
    end
    for _, p in ipairs(ps) do p:join() assert.equal(0, p.exitcode) end
    assert.equal(800, #l)
    for _, v in ipairs(l:copy()) do assert(v[1] >= 1 and v[1] <= 4 and v[2] <= 300) end
  end)
end)
