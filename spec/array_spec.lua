-- mp.Array: contract in docs/reference/array.md.
local mp = require "mp"
local run = require "spec.support.run"
local misuse = run.misuse

describe("an array", function()
  it("is made from a size or a list", function()
    local a = mp.Array("i", 3)
    assert.equal(3, #a)
    assert.same({ 0, 0, 0 }, a:get(1, 3))
    local b = mp.Array("d", { 1, 2.5, -3 })
    assert.equal(3, #b)
    assert.same({ 1.0, 2.5, -3.0 }, b:get(1, #b))
    misuse({ "at least" }, function() mp.Array("i", 0) end)
    misuse({ "at least" }, function() mp.Array("i", {}) end)
    misuse({ "at least" }, function() mp.Array("i", -1) end)
    misuse({ "out of range" }, function() mp.Array("b", { 1, 300 }) end)
    misuse({ "size or list" }, function() mp.Array("i", "abc") end)
    misuse({ "size or list" }, function() mp.Array("i") end)
    misuse({ "fit" }, function() mp.Array("d", math.maxinteger) end)
  end)

  it("reads nil one past the end, and refuses any other index", function()
    local a = mp.Array("i", { 10, 20, 30 })
    local seen = {}
    for i, x in ipairs(a) do seen[i] = x end
    assert.same({ 10, 20, 30 }, seen)
    assert.is_nil(a[4])
    assert.is_nil(a:get(4))
    assert.equal(20, a[2.0])
    for _, i in ipairs { 0, -1, 5, 1.5, math.mininteger, math.maxinteger } do
      misuse({ "mp.Array" }, function() return a[i] end)
      misuse({ "get" }, function() return a:get(i) end)
      misuse({ "mp.Array" }, function() a[i] = 1 end)
    end
    misuse({ "index 4" }, function() a[4] = 1 end)
    misuse({ "add", "index 4" }, function() a:add(4, 1) end)
    misuse({ "no field 'foo'" }, function() return a.foo end)
    misuse({ "'foo'" }, function() a.foo = 1 end)
    assert.same({ 10, 20, 30 }, a:get(1, 3))
  end)

  it("reads and writes slices, whole or not at all", function()
    local a = mp.Array("b", { 1, 2, 3, 4, 5 })
    assert.same({ 2, 3, 4 }, a:get(2, 4))
    assert.same({}, a:get(1, 0))
    assert.same({}, a:get(6, 5))
    misuse({ "get" }, function() a:get(2, 6) end)
    misuse({ "get" }, function() a:get(4, 2) end)
    assert.is_true(a:set(4, { -4, -5 }))
    assert.same({ 1, 2, 3, -4, -5 }, a:get(1, 5))
    misuse({ "set", "do not fit" }, function() a:set(4, { 1, 2, 3 }) end)
    misuse({ "set", "out of range" }, function() a:set(1, { 9, 9, 999 }) end)
    misuse({ "set", "integers" }, function() a:set(1, { 9, "x" }) end)
    assert.same({ 1, 2, 3, -4, -5 }, a:get(1, 5))
    a:set(2, 77)
    assert.equal(77, a[2])
    assert.is_true(a:fill(6))
    assert.same({ 6, 6, 6, 6, 6 }, a:get(1, 5))
    misuse({ "fill", "out of range" }, function() a:fill(128) end)
    assert.same({ 6, 6, 6, 6, 6 }, a:get(1, 5))
  end)

  it("adds to an element, and compares and swaps it", function()
    local a = mp.Array("H", { 65535, 1 })
    misuse({ "add", "out of range" }, function() a:add(1, 1) end)
    assert.equal(65530, a:add(1, -5))
    assert.is_true(a:cas(2, 1, 5))
    assert.same({ false, 5 }, { a:cas(2, 1, 7) })
    assert.same({ 65530, 5 }, a:get(1, 2))
  end)

  it("of bytes is a string too", function()
    local a = mp.Array("c", "hello")
    assert.equal(5, #a)
    assert.equal("h", a[1])
    assert.equal("hello", a:tostring())
    assert.equal("ell", a:tostring(2, 4))
    assert.equal("lo", a:tostring(4))
    assert.equal("", a:tostring(6))
    a:set(2, "EL")
    assert.equal("hELlo", a:tostring())
    misuse({ "set" }, function() a:set(4, "abc") end)
    local b = mp.Array("B", { 0, 255, 65 })
    assert.equal("\0\255A", b:tostring())
    misuse({ "tostring", "'i'" }, function() mp.Array("i", 1):tostring() end)
  end)

  it("is not made from a list with more in it than a list has", function()
    misuse({ "mp.Array", "'x'" }, function() mp.Array("i", { 1, 2, x = 3 }) end)
    misuse({ "mp.Array", "'9'" }, function() mp.Array("i", { 1, 2, [9] = 3 }) end)
    misuse({ "mp.Array", "'1.5'" }, function() mp.Array("i", { 1, 2, [1.5] = 3 }) end)
    misuse({ "mp.Array", "nil" }, function() mp.Array("i", table.pack(1, nil, 3)) end)
    assert.same({ 1, 2 }, mp.Array("i", table.pack(1, 2)):get(1, 2))
  end)

  it("says what it is", function()
    assert(tostring(mp.Array("d", 12)):find "^mp%.Array d 12 0x")
  end)

  it("has a lock, another's lock or none", function()
    local a, lock = mp.Array("i", 1), mp.RLock()
    assert(a:get_lock())
    assert.equal(1, a:with(function(b) return #b end))
    assert.equal(lock, mp.Array("i", 1, { lock = lock }):get_lock())
    assert.is_nil(mp.Array("i", 1, { lock = false }):get_lock())
    misuse({ "with" }, function() mp.Array("i", 1, { lock = false }):with(print) end)
  end)

  it("takes memory only for what was written", function()
    local a = mp.Array("d", 1 << 28) -- 2 GiB
    a[1 << 28] = 2.5
    assert.equal(2.5, a[1 << 28])
    assert.equal(0.0, a[1 << 27])
  end)

  it("is shared with children and with who receives it", function()
    local a, q = mp.Array("i", 4), mp.Queue()
    local ps = {}
    for i = 1, 4 do
      ps[i] = mp.Process { start_method = "fork", target = function()
        local b = q:get()
        for _ = 1, 500 do b:add(1, 1) b:add(i, 1) end
      end }
      ps[i]:start()
    end
    for _ = 1, 4 do q:put(a) end
    for _, p in ipairs(ps) do p:join() assert.equal(0, p.exitcode) end
    assert.same({ 2500, 500, 500, 500 }, a:get(1, 4))
  end)
end)
