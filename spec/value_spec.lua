-- mp.Value: contract in docs/reference/value.md.
local mp = require "mp"
local run = require "spec.support.run"
local child, misuse = run.child, run.misuse

-- The misuse must be told at the line that made it.
describe("a value", function()
  it("is zero at first, and what it was made with or set to after", function()
    assert.equal(0, mp.Value("i").value)
    assert.equal(0.0, mp.Value("d").value)
    assert.equal("float", math.type(mp.Value("f").value))
    assert.is_false(mp.Value("?").value)
    assert.equal("\0", mp.Value("c").value)
    local v = mp.Value("d", 1.5)
    assert.equal(1.5, v.value)
    v.value = 2
    assert.equal(2.0, v:get())
    assert.equal("float", math.type(v.value))
    assert.is_true(v:set(-3))
    assert.equal(-3.0, v.value)
  end)

  it("keeps each type's limits and refuses what is beyond, unchanged", function()
    local limits = {
      b = { -128, 127 }, B = { 0, 255 }, h = { -32768, 32767 }, H = { 0, 65535 }, i = { -2 ^ 31, 2 ^ 31 - 1 }, I = { 0, 2 ^ 32 - 1 },
      l = { math.mininteger, math.maxinteger }, L = { 0, math.maxinteger }, q = { math.mininteger, math.maxinteger }, Q = { 0, math.maxinteger },
    }
    for code, lim in pairs(limits) do
      local low, high = math.tointeger(lim[1]), math.tointeger(lim[2])
      local v = mp.Value(code, low)
      assert.equal(low, v.value)
      v.value = high
      assert.equal(high, v.value)
      assert.equal("integer", math.type(v.value))
      misuse({ "add", "out of range", "'" .. code .. "'" }, function() v:add(1) end)
      if high < math.maxinteger then misuse({ "out of range" }, function() v.value = high + 1 end) end
      if low > math.mininteger then misuse({ "out of range" }, function() v.value = low - 1 end) end
      assert.equal(high, v.value)
    end
  end)

  it("takes a float with an integer value as an integer", function()
    local v = mp.Value("h", 7.0)
    assert.equal("integer", math.type(v.value))
    assert.equal(9, v:add(2.0))
    misuse({ "set", "1.5" }, function() v:set(1.5) end)
    misuse({ "add" }, function() v:add(0.5) end)
    misuse({ "out of range" }, function() v.value = math.huge end)
    misuse({ "out of range" }, function() v.value = 2 ^ 63 end)
    assert.equal(9, v.value)
  end)

  it("keeps infinities and nan as floats", function()
    for code in ("fd"):gmatch "." do
      local v = mp.Value(code, math.huge)
      assert.equal(math.huge, v.value)
      v.value = -math.huge
      assert.equal(-math.huge, v.value)
      v.value = 0 / 0
      assert(v.value ~= v.value)
    end
    local v = mp.Value("f", 1e38)
    misuse({ "out of range" }, function() v.value = 1e39 end)
    misuse({ "add", "out of range" }, function() v:add(3e38) end)
    assert(math.abs(v.value / 1e38 - 1) < 1e-6)
  end)

  it("refuses other types", function()
    misuse({ "integers", "string" }, function() mp.Value("i").value = "1" end)
    misuse({ "integers", "boolean" }, function() mp.Value("i", true) end)
    misuse({ "booleans", "number" }, function() mp.Value("?").value = 1 end)
    misuse({ "one byte" }, function() mp.Value("c").value = "ab" end)
    misuse({ "one byte" }, function() mp.Value("c").value = "" end)
    misuse({ "one byte", "number" }, function() mp.Value("c").value = 65 end)
    misuse({ "numbers", "nil" }, function() mp.Value("d").value = nil end)
    misuse({ "add", "'?'" }, function() mp.Value("?"):add(1) end)
    misuse({ "add", "'c'" }, function() mp.Value("c"):add(1) end)
    misuse({ "type code" }, function() mp.Value("x") end)
    misuse({ "type code" }, function() mp.Value("ii") end)
  end)

  it("adds and swaps", function()
    local v = mp.Value("i", 5)
    assert.equal(8, v:add(3))
    assert.equal(-2, v:add(-10))
    assert.is_true(v:cas(-2, 4))
    assert.same({ false, 4 }, { v:cas(-2, 9) })
    assert.equal(4, v.value)
    misuse({ "cas", "out of range" }, function() v:cas(4, 2 ^ 40) end)
    misuse({ "cas" }, function() v:cas("4", 1) end)
    local b = mp.Value("?", true)
    assert.is_true(b:cas(true, false))
    assert.same({ false, false }, { b:cas(true, false) })
    local c = mp.Value("c", "a")
    assert.is_true(c:cas("a", "\255"))
    assert.equal("\255", c.value)
  end)

  it("names an unknown field or option", function()
    local v = mp.Value("i")
    misuse({ "mp.Value has no field 'foo'" }, function() return v.foo end)
    misuse({ "'foo'" }, function() v.foo = 1 end)
    misuse({ "unknown option 'lok'" }, function() mp.Value("i", 0, { lok = false }) end)
    misuse({ "'lock'" }, function() mp.Value("i", 0, { lock = 5 }) end)
  end)

  it("says what it is", function()
    assert(tostring(mp.Value("i", 7)):find "^mp%.Value i 7 0x")
    assert(tostring(mp.Value("?", true)):find "^mp%.Value %? true 0x")
    assert(tostring(mp.Value("c", "A")):find "^mp%.Value c 'A' 0x")
    assert(tostring(mp.Value("c", "\n")):find "^mp%.Value c 10 0x")
  end)

  it("has a lock that its own calls do not take", function()
    local v = mp.Value("i", 1)
    local lock = v:get_lock()
    assert.equal(lock, v:get_lock())
    local r = { v:with(function(w, ...)
      assert.is_true(lock:locked())
      assert.is_true(v:with(function() return true end)) -- again, by its holder
      w:add(1)
      return v.value, ...
    end, "x") }
    assert.same({ 2, "x" }, r)
    assert.is_false(lock:locked())
    assert.is_false(pcall(v.with, v, error))
    assert.is_false(lock:locked())
    lock:acquire()
    local p = child(function() v.value = 50 os.exit(v:get_lock():acquire(0) and 1 or 0) end)
    p:join()
    assert.equal(0, p.exitcode)
    assert.equal(50, v.value)
    lock:release()
  end)

  it("uses the lock that it is given, or none", function()
    local lock = mp.Lock()
    local v = mp.Value("i", 0, { lock = lock })
    assert.equal(lock, v:get_lock())
    v:with(function() assert.is_true(lock:locked()) end)
    local n = mp.Value("i", 3, { lock = false })
    assert.is_nil(n:get_lock())
    misuse({ "with", "lock = false" }, function() n:with(print) end)
    assert.equal(3, n.value)
  end)

  it("is the same for every process", function()
    local v, d = mp.Value("i", 0), mp.Value("d", 0.0)
    local ps = {}
    for i = 1, 4 do
      ps[i] = child(function()
        for _ = 1, 1000 do v:add(1) d:add(0.5) end
      end)
    end
    for _, p in ipairs(ps) do p:join() assert.equal(0, p.exitcode) end
    assert.equal(4000, v.value)
    assert.equal(2000.0, d.value)
  end)

  it("travels, with its lock", function()
    local q = mp.Queue()
    local v = mp.Value("i", 7)
    q:put { v = v }
    local got = q:get().v
    assert.equal(v, got)
    assert.equal(v:get_lock(), got:get_lock())
    local answers = mp.Queue()
    local p = mp.Process { start_method = "fork", target = function()
      local w = q:get()
      w:with(function() w.value = w.value + 1 end)
      answers:put(w:get_lock():locked())
    end }
    p:start()
    q:put(v)
    assert.is_false(answers:get(10))
    p:join()
    assert.equal(8, v.value)
  end)
end)
