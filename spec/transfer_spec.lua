-- What can be sent (docs/reference/transfer.md), seen through the codec alone: core.encode and core.decode are private, and reached by the
-- registry. Through queues and processes the same is seen in their specs.
local mp = require "mp"
local _ = mp.now -- mprun opens the module when it is first touched
local core = debug.getregistry()["mp.core"]

local function through(v, trusted) return core.decode(core.encode(v), trusted ~= false) end

-- The mp.Error that encoding raises.
local function refused(v, root)
  local ok, e = pcall(function() return core.encode(v, root) end)
  assert.is_false(ok)
  assert(mp.is_error(e, "encode"), tostring(e))
  return e
end

local function unreadable(s, trusted)
  local ok, e = pcall(core.decode, s, trusted)
  assert.is_false(ok)
  assert(mp.is_error(e, "encode"), tostring(e))
  return e
end

local function hex(s) return (s:gsub("%X", ""):gsub("%x%x", function(h) return string.char(tonumber(h, 16)) end)) end

describe("plain data", function()
  it("is ordinary MessagePack", function()
    assert.equal(hex "07", core.encode(7))
    assert.equal(hex "ff", core.encode(-1))
    assert.equal(hex "cd 0100", core.encode(256))
    assert.equal(hex "cb 3ff8000000000000", core.encode(1.5))
    assert.equal(hex "a3 666f6f", core.encode "foo")
    assert.equal(hex "c0", core.encode(nil))
    assert.equal(hex "c3", core.encode(true))
    assert.equal(hex "93 01 02 c2", core.encode { 1, 2, false })
    assert.equal(hex "81 a1 61 93 01 02 03", core.encode { a = { 1, 2, 3 } })
    assert.equal(hex "dc 0010" .. ("\1"):rep(16), core.encode(table.move({ 1 }, 1, 1, 1, (function()
      local t = {}
      for i = 1, 16 do t[i] = 1 end
      return t
    end)())))
  end)

  it("is read in every form that other programs write", function()
    assert.same({ 5, 5, 5, 5, -5, -5, -5, -5 }, core.decode(hex "98 cc05 cd0005 ce00000005 cf0000000000000005 d0fb d1fffb d2fffffffb d3fffffffffffffffb"))
    assert.same({ "ab", "ab", "ab", "ab", "ab", "ab", "ab" },
      core.decode(hex "97 a26162 d9026162 da00026162 db000000026162 c4026162 c500026162 c6000000026162"))
    assert.equal(0.5, core.decode(hex "ca 3f000000"))
    assert.same({ a = { 1 } }, core.decode(hex "df00000001 a161 dd00000001 01"))
    assert.same({ a = { 1 } }, core.decode(hex "de0001 a161 dc0001 01"))
  end)

  it("keeps every kind of number: subtype, limits, minus zero, infinities, nan", function()
    for _, n in ipairs { 0, 1, -1, 31, 32, 127, 128, 255, 256, 65535, 65536, -32, -33, -128, -129, -32768, -32769, 2 ^ 31 | 0, -(2 ^ 31) | 0,
      1 << 32, math.maxinteger, math.mininteger, 1.0, 0.1, 2.0 ^ 53, -1e308, 1 / 0, -1 / 0, 5e-324 } do
      local r = through(n)
      assert.equal(n, r)
      assert.equal(math.type(n), math.type(r))
    end
    assert.equal(-1 / 0, 1 / through(-0.0))
    local nan = through(0 / 0)
    assert.is_true(nan ~= nan)
  end)

  it("keeps strings of any bytes and any length", function()
    for _, n in ipairs { 0, 1, 31, 32, 255, 256, 65535, 65536, 1 << 20 } do
      local s = ("\0\xff\xc0a"):rep(n // 4 + 1):sub(1, n)
      assert.is_true(s == through(s))
    end
  end)

  it("keeps keys of every type, holes and mixed tables, exactly", function()
    local cases = { { 1, nil, 3 }, { nil, nil, 1 }, { 1, 2, x = 3 }, { [0] = 0, 1 }, { [1.5] = 1, [-1] = 2, [true] = 3, [false] = 4 },
      { [math.mininteger] = 1, [2 ^ 53] = 2 }, { { { {} } } }, { [10] = 1, [20] = 2 }, { "a", { "b", c = {} }, d = {} } }
    for _, t in ipairs(cases) do assert.same(t, through(t)) end
    local t = through { [{ 1 }] = { 2 } }
    local k, v = next(t)
    assert.same({ { 1 }, { 2 } }, { k, v })
    local n = 0
    for _ in pairs(through { 1, nil, nil, 4 }) do n = n + 1 end
    assert.equal(2, n)
  end)

  it("of any size is told apart as list or map, with children or without", function()
    for _, n in ipairs { 1, 14, 15, 16, 17, 100, 65535, 65536 } do
      local list, map, lists, maps, odd = {}, {}, {}, {}, {}
      for i = 1, n do
        list[i] = i
        map["k" .. i] = i
        if n < 1000 then lists[i], maps["k" .. i] = { i }, { i } end
        odd[i] = i
      end
      odd.x = 1
      assert.same(list, through(list))
      assert.same(map, through(map))
      assert.same(lists, through(lists))
      assert.same(maps, through(maps))
      assert.same(odd, through(odd))
    end
  end)

  it("with a million entries arrives", function()
    local t = {}
    for i = 1, 1000000 do t[i] = i end
    local r = through(t)
    assert.equal(1000000, #r)
    assert.equal(777777, r[777777])
  end)
end)

describe("identity", function()
  it("of shared parts is kept within a message", function()
    local shared = { 1 }
    local r = through { a = shared, b = shared, c = { 1 } }
    assert.equal(r.a, r.b)
    assert.not_equal(r.a, r.c)
  end)

  it("is kept through cycles, also as keys", function()
    local t = { 1, 2 }
    t.me, t[t] = t, t
    local r = through(t)
    assert.equal(r, r.me)
    assert.equal(r, r[r])
    assert.is_nil(r[t])
  end)

  it("is not carried from one message to the next", function()
    local t = {}
    assert.not_equal(through(t), through(t))
  end)

  it("is kept when thousands of things are shared", function()
    local list = {}
    for i = 1, 5000 do list[i] = { i } end
    for i = 1, 5000 do list[5000 + i] = list[i] end
    local r = through(list)
    for i = 1, 5000 do assert(r[i] == r[5000 + i] and r[i][1] == i) end
  end)
end)

-- Is b the same graph as a? Keys are no tables. `known` maps what has been paired.
local function same_graph(a, b, known)
  if type(a) ~= "table" then
    return math.type(a) == math.type(b) and (a == b and (a ~= 0 or 1 / a == 1 / b) or a ~= a and b ~= b)
  end
  if known[a] or known[b] then return known[a] == b and known[b] == a end
  if type(b) ~= "table" then return false end
  known[a], known[b] = b, a
  local n, m = 0, 0
  for k, v in pairs(a) do
    n = n + 1
    if not same_graph(v, b[k], known) then return false end
  end
  for _ in pairs(b) do m = m + 1 end
  return n == m
end

describe("any graph of tables", function()
  it("arrives as the same graph", function()
    math.randomseed(20)
    local scalars = { 0, 1, -1, 127, 128, -32, -33, 1 << 40, math.mininteger, 0.5, -0.0, 1e300, "", "key", ("x"):rep(40), true, false }
    local function graph()
      local tables, root = {}, {}
      local function grow(t, depth)
        tables[#tables + 1] = t
        local style = math.random(4)
        for i = 1, math.random(0, math.random(2) == 1 and 4 or 20) do
          local v
          local dice = math.random(10)
          if dice <= 2 and depth < 6 then v = {}
          elseif dice == 3 then v = tables[math.random(#tables)]
          else v = scalars[math.random(#scalars)] end
          local k = i
          if style == 2 then k = "k" .. math.random(30)
          elseif style == 3 then k = math.random(40)
          elseif style == 4 then k = ({ i, "k" .. i, i + 0.5, -i, i % 2 == 0 })[math.random(5)] end
          local fresh = type(v) == "table" and not next(v) and v ~= root
          t[k] = v
          if fresh and t[k] == v then grow(v, depth + 1) end
        end
      end
      grow(root, 1)
      return root
    end
    for _ = 1, 1500 do
      local g = graph()
      assert(same_graph(g, through(g, false), {}))
    end
  end)
end)

describe("a function", function()
  it("travels with its upvalues", function()
    local k, t = 5, { 1 }
    local f = through(function(x) return x + k + t[1] end)
    assert.equal(9, f(3))
  end)

  it("may be recursive, and two may call each other", function()
    local function fact(n) return n < 2 and 1 or n * fact(n - 1) end
    assert.equal(120, through(fact)(5))
    local odd
    local function even(n) if n == 0 then return true end return odd(n - 1) end
    function odd(n) if n == 0 then return false end return even(n - 1) end
    assert.is_true(through(even)(10))
    assert.is_true(through(odd)(7))
  end)

  it("may have as many upvalues as Lua allows", function()
    local text = {}
    for i = 1, 150 do text[#text + 1] = ("local a%d = %d"):format(i, i) end
    text[#text + 1] = "return (function()"
    for i = 1, 105 do text[#text + 1] = ("local b%d = %d"):format(i, 1000 * i) end
    text[#text + 1] = "return function() return 0"
    for i = 1, 150 do text[#text + 1] = "+ a" .. i end
    for i = 1, 105 do text[#text + 1] = "+ b" .. i end
    text[#text + 1] = "end end)()"
    local f = assert(load(table.concat(text, " ")))()
    assert.equal(255, debug.getinfo(f, "u").nups)
    assert.equal(150 * 151 // 2 + 1000 * 105 * 106 // 2, through(f)())
  end)

  it("keeps what its code can do: jumps, variable arguments, loops at the limits, scopes that close, an _ENV of its own", function()
    local function f(...)
      local n, i, out = select("#", ...), 0, {}
      ::top::
      i = i + 1
      if i < n then goto top end
      for k = math.maxinteger - 1, math.maxinteger do out[#out + 1] = k end
      for x = 1.0, 2 do out[#out + 1] = x end
      do local _ <close> = setmetatable({}, { __close = function() out[#out + 1] = "closed" end }) end
      do local _ENV <const> = { own = 7 } out[#out + 1] = own end -- luacheck: ignore
      return i, out, ...
    end
    local a, b = table.pack(f(1, nil, nil)), table.pack(through(f)(1, nil, nil))
    assert.same(a, b)
    for k, v in ipairs(a[2]) do assert.equal(math.type(v), math.type(b[2][k])) end
  end)

  it("stripped of its names still has its upvalues in their places", function()
    local f = assert(load "local k = 5 return function(x) return tostring(x + k) end")()
    local g = load(string.dump(f, true))
    for i = 1, 2 do debug.setupvalue(g, i, select(2, debug.getupvalue(f, i))) end
    assert.equal("6", g(1))
    assert.equal("6", through(g)(1))
  end)

  it("and what it holds may hold each other, through upvalues, keys and values", function()
    local t, n = {}, 0
    local function f() n = n + 1 return t end
    local function g() n = n + 10 return f, n end
    t.f, t[g], t.t = f, g, t
    local r = through(t)
    local h
    for key, v in pairs(r) do
      if type(key) == "function" then h = key assert.equal(key, v) end
    end
    assert.equal(r, r.f())
    local same, sum = h()
    assert.equal(r.f, same)
    assert.equal(11, sum)
    assert.equal(0, n)
  end)

  it("sees the receiver's globals", function()
    local chunk = assert(load "return function() return transfer_spec_global end")
    local f = through(chunk())
    rawset(_G, "transfer_spec_global", 42)
    local got = f()
    rawset(_G, "transfer_spec_global", nil)
    assert.equal(42, got)
  end)

  it("of a library is the receiver's own, by name", function()
    for _, f in ipairs { print, string.format, math, string, package.loaded, _G, mp, mp.explain, mp.now } do assert.equal(f, through(f)) end
    local busted = require "busted.core"
    assert.equal(busted, through(busted))
  end)

  it("and a module's table with a metatable, have their names also when they come first", function()
    local script = [[
      local mp = require "mp"
      local _ = mp.now
      local core = debug.getregistry()["mp.core"]
      package.loaded.mod = setmetatable({}, { __index = string })
      for _, v in ipairs { mp.Process, package.loaded.mod, mp.Pool } do assert(core.decode(core.encode(v), true) == v) end
      assert(not pcall(core.encode, setmetatable({}, { __index = string })))
      print "ok"]]
    local run = require "spec.support.run"
    assert.equal("ok\n", run.command({ run.path, "-" }, { stdin = script }).both)
  end)

  it("written in C is found in a module that is loaded after a first look", function()
    core.encode { print }
    package.loaded.transfer_spec_module = { now = mp.sleep, late = coroutine.wrap(function() end) }
    local f = package.loaded.transfer_spec_module.late
    local r = through { f }
    assert.equal(f, r[1])
    package.loaded.transfer_spec_module.late = nil
    assert.matches("a C function that no loaded module has", refused { f }.reason)
    package.loaded.transfer_spec_module = nil
  end)

  it("that the script put into a library or a global travels by value", function()
    local script = [[
      local mp = require "mp"
      local _ = mp.now
      local core = debug.getregistry()["mp.core"]
      function string.shout(s) return s:upper() .. "!" end
      function helper() return 1 end
      local f, g = core.decode(core.encode(string.shout), true), core.decode(core.encode(helper), true)
      assert(f ~= string.shout and f "a" == "A!")
      assert(g ~= helper and g() == 1)
      print "ok"]]
    local r = require "spec.support.run".command({ require "spec.support.run".path, "-" }, { stdin = script })
    assert.equal("ok\n", r.both)
  end)

  it("may be nested twenty thousand closures deep", function()
    local f = function() return "end" end
    for _ = 1, 20000 do
      local g = f
      f = function() return g end
    end
    local r = through(f)
    for _ = 1, 20000 do r = r() end
    assert.equal("end", r())
  end)

  it("is refused from a peer that is not trusted, and so is a module's", function()
    for _, v in ipairs { function() end, print, string, _G } do
      assert.matches("not trusted", unreadable(core.encode { v }, false).reason)
    end
  end)
end)

-- What goes wrong in most hand-made transfers of Lua values; each in a test of its own.
describe("the ten failures of naive transfer:", function()
  it("1. upvalues keep their names, whatever order the receiver's compiler or _ENV's place gives", function()
    local a, b, c = 1, 2, 3
    local f = through(function() return tostring(c), a, math.type(b), c, b end)
    assert.same({ "3", 1, "integer", 3, 2 }, { f() })
    local g = through(assert(load("local x, y = 10, 20; return function() return y, print, x end"))())
    assert.same({ 20, print, 10 }, { g() })
  end)

  it("2. closures that share an upvalue share it after the journey", function()
    local n = 0
    local r = through { inc = function() n = n + 1 end, get = function() return n end }
    r.inc()
    r.inc()
    assert.equal(2, r.get())
    assert.equal(0, n)
  end)

  it("3. line numbers and names survive: an error tells the line of the script", function()
    local f = through(function() error("boom") end)
    local line = debug.getinfo(1, "l").currentline - 1
    local _, e = pcall(f)
    assert.matches("transfer_spec.lua:" .. line .. ": boom", e)
    assert.same("n", (debug.getlocal(through(function(n) return n end), 1)))
  end)

  it("4. a number keeps its type", function()
    local r = through { 3, 3.0, 1e15, [2 ^ 53] = 1 }
    assert.same({ "integer", "float", "float" }, { math.type(r[1]), math.type(r[2]), math.type(r[3]) })
    assert.equal("integer", math.type(next({ [2 ^ 53] = 1 })))
  end)

  it("5. no argument is dropped: nils in the middle and at the end stay", function()
    local r = through(table.pack(1, nil, 3, nil, nil))
    assert.equal(5, r.n)
    assert.equal(3, select("#", table.unpack(r, 1, 3)))
    assert.equal(3, r[3])
  end)

  it("6. no address of C ever travels: userdata, light userdata and unknown C functions are refused by path", function()
    local e = refused({ cfg = { out = io.stdout } }, "args")
    assert.equal("args.cfg.out", e.path)
    assert.matches("userdata %(FILE%*%) cannot be sent", e.reason)
    assert.matches("coroutine cannot be sent", refused { { coroutine.create(print) } }.reason)
    assert.matches("C function", refused { coroutine.wrap(print) }.reason)
  end)

  it("7. what is changed after it was sent does not change what arrives", function()
    local q, t = mp.Queue(), { 1, { 2 } }
    q:put(t)
    t[1], t[2][1] = 9, 9
    assert.same({ 1, { 2 } }, q:get())
  end)

  it("8. an error value that cannot be rebuilt arrives as its text", function()
    local e = mp.Error { kind = "error", message = "m", value = { co = coroutine.create(print) }, pid = 5 }
    local r = through { before = e, e, 7 }
    assert.is_true(mp.is_error(r[1], "error"))
    assert.equal(r[1], r.before)
    assert.matches("^table: ", r[1].value)
    assert.equal(5, r[1].pid)
    assert.equal(7, r[2])
  end)

  it("9. after a refusal nothing is left of it: the next message is whole", function()
    local q, shared = mp.Queue(), {}
    for _ = 1, 3 do
      assert.is_false((pcall(q.put, q, { shared, { shared, coroutine.create(print) } })))
      assert.equal(0, q:qsize())
      q:put { shared, shared }
      local r = q:get()
      assert.equal(r[1], r[2])
      assert.is_false((pcall(core.decode, "\x93\x01\x91")))
      assert.same({ 1 }, through { 1 })
    end
  end)

  it("10. depth costs memory, not the C stack", function()
    local t = {}
    for i = 1, 100000 do t = i % 2 == 0 and { t } or { next = t } end
    local r = through(t)
    local depth = 0
    while next(r) do r, depth = r[1] or r.next, depth + 1 end
    assert.equal(100000, depth)
    for _ = 1, 100000 do t = { t } end
    assert.matches("deep", refused(t).reason)
    assert.matches("deep", unreadable(("\x91"):rep(1000000), true).reason)
    assert.matches("deep", unreadable(("\x91"):rep(20000) .. "\1", false).reason)
    local keys = 1
    for _ = 1, 50000 do keys = { [{ keys }] = 1 } end
    assert.equal("table", type(through(keys)))
  end)
end)

describe("a refusal", function()
  it("names the function, the place in the script and the path in the value", function()
    local q = mp.Queue()
    local ok, e = pcall(function() q:put { { cfg = { handler = coroutine.create(print) } } } end)
    local line = debug.getinfo(1, "l").currentline - 1
    assert.is_false(ok)
    assert.equal("[1].cfg.handler", e.path)
    assert.matches("transfer_spec.lua:" .. line .. ": queue:put: %[1%]%.cfg%.handler: a coroutine cannot be sent$", tostring(e))
  end)

  it("shows every kind of key in a path", function()
    local co = coroutine.create(print)
    assert.equal([=[args[2]["a b"][1.5][true].x_1]=], refused({ 1, { ["a b"] = { [1.5] = { [true] = { x_1 = co } } } } }, "args").path)
    assert.equal("[1](a key)", refused { { [co] = 1 } }.path)
    assert.equal("f(upvalue co)", refused { f = function() return co end }.path)
    assert.equal("", refused(co).path)
  end)

  it("of something deep has a path of bounded length", function()
    local t = coroutine.create(print)
    for _ = 1, 1000 do t = { key = t } end
    local e = refused(t)
    assert.matches("%.%.%.", e.path)
    assert(#e.path < 700)
  end)
end)

describe("a class", function()
  local Point = { __name = "Point" }
  Point.__index = Point
  function Point:len() return math.sqrt(self.x ^ 2 + self.y ^ 2) end

  it("that is not registered is refused by its name", function()
    local e = refused { p = setmetatable({}, { __index = {}, __name = "Stranger" }) }
    assert.equal("p", e.path)
    assert.matches("Stranger", e.reason)
    assert.matches("mp.register", e.reason)
  end)

  it("comes back with its metatable, cycles included", function()
    mp.register("Point", Point)
    local p = setmetatable({ x = 3, y = 4 }, Point)
    p.self = p
    local r = through { p, p }
    assert.equal(Point, getmetatable(r[1]))
    assert.equal(5, r[1]:len())
    assert.equal(r[1], r[2])
    assert.equal(r[1], r[1].self)
  end)

  it("may say itself what is sent, by dump and load", function()
    local Temp = { __name = "Temp" }
    local made = 0
    mp.register("Temp", Temp, { dump = function(t) return t.celsius end, load = function(c)
      made = made + 1
      return setmetatable({ celsius = c }, Temp)
    end })
    local t = setmetatable({ celsius = 20, cache = print, co = coroutine.create(print) }, Temp)
    local r = through { t, t }
    assert.equal(r[1], r[2])
    assert.equal(1, made)
    assert.same({ celsius = 20 }, r[1])
    assert.equal(20, through({ t }, false)[1].celsius)
  end)

  it("whose dump leads back to the object is refused, and so is one whose dump fails", function()
    local Loop, Bad = { __name = "Loop" }, { __name = "Bad" }
    mp.register("Loop", Loop, { dump = function(t) return { t } end, load = function(t) return t[1] end })
    mp.register("Bad", Bad, { dump = function() error("no way", 0) end, load = function() end })
    assert.matches("leads back", refused(setmetatable({}, Loop)).reason)
    local e = refused { x = setmetatable({}, Bad) }
    assert.equal("x", e.path)
    assert.matches("dump of class 'Bad': no way", e.reason)
  end)

  it("that the receiver lacks is an error that names it", function()
    local s = core.encode { setmetatable({ x = 1, y = 2 }, Point) }
    assert.matches("class 'Qoint' is not registered here", unreadable((s:gsub("Point", "Qoint")), true).reason)
  end)

  it("without load is not made for an untrusted peer", function()
    assert.matches("not trusted", unreadable(core.encode(setmetatable({ x = 1, y = 2 }, Point)), false).reason)
  end)

  it("with nothing but a __name needs no registration", function()
    local r = through { setmetatable({ 1 }, { __name = "tag" }), setmetatable({ 2 }, { __name = "tag" }) }
    assert.equal("tag", getmetatable(r[1]).__name)
    assert.equal(getmetatable(r[1]), getmetatable(r[2]))
    assert.equal(2, r[2][1])
  end)

  it("is registered with checked arguments", function()
    assert.has_error(function() mp.register(1, {}) end)
    assert.has_error(function() mp.register("x") end)
    assert.error_matches(function() mp.register("x", {}, { dmp = print }) end, "unknown option 'dmp'")
    assert.error_matches(function() mp.register("x", {}, { dump = 1 }) end, "'dump' must be a function")
  end)

  it("whose dump sends an object whose dump sends ... ends in an error, and all is well after it", function()
    local Endless = { __name = "Endless" }
    mp.register("Endless", Endless, { dump = function() return core.encode(setmetatable({}, Endless)) end, load = function(v) return v end })
    for _ = 1, 3 do
      refused(setmetatable({}, Endless))
      assert.same({ 1, { 2 } }, through { 1, { 2 } })
    end
  end)

  it("whose metamethods fail is sent all the same: they are not asked", function()
    local function no() error "asked" end
    local Touchy = { __name = "Touchy", __index = no, __pairs = no, __len = no, __eq = no, __newindex = no }
    mp.register("Touchy", Touchy)
    local r = through(setmetatable({ 1, 2, inner = { setmetatable({}, Touchy) } }, Touchy))
    assert.equal(2, rawget(r, 2))
    assert.equal(Touchy, getmetatable(rawget(r, "inner")[1]))
  end)

  it("whose dump changes a table that is being sent is refused", function()
    local list = { 1, false, 3 }
    local Meddler = { __name = "Meddler" }
    mp.register("Meddler", Meddler, { dump = function() list[3] = nil return 1 end, load = function(v) return v end })
    list[2] = setmetatable({}, Meddler)
    assert.matches("changed while it was being sent", refused(list).reason)
  end)

  it("is let go of by its message as soon as that is sent: what dump gave, too", function()
    local Held, kept = {}, setmetatable({}, { __mode = "k" })
    local function dump()
      local t = { lock = mp.Lock() }
      kept[t] = true
      return t
    end
    mp.register("Held", Held, { dump = dump, load = function(t) return t end })
    local function gone(what)
      for _ = 1, 3 do collectgarbage() end
      assert.is_nil(next(kept), what .. " keeps it")
    end
    local function held() return setmetatable({}, Held) end
    local q, a, b = mp.Queue(1), mp.Pipe()
    q:put(held())
    gone "a put"
    assert.is_false(not not q:put(held(), 0))
    gone "a put that failed"
    a:send(held())
    gone "a send"
    assert.is_true(pcall(function() return q:get().lock:acquire() and b:recv().lock:acquire() end))
  end)

  it("that gives a fresh handle for each of a list has its own in each message", function()
    local Box = {}
    mp.register("Box", Box, { dump = function(b)
      collectgarbage() -- what the one before gave must be alive all the same
      collectgarbage()
      local e = mp.Event()
      if b.set then e:set() end
      return e
    end, load = function(e) return e end })
    local q, list = mp.Queue(), {}
    for i = 1, 4 do list[i] = setmetatable({ set = i % 2 == 0 }, Box) end
    assert.equal(4, q:put_many(list))
    for i = 1, 4 do assert.equal(i % 2 == 0, q:get(5):is_set()) end
  end)

  it("may send and receive messages itself while it is dumped and loaded", function()
    local q = mp.Queue()
    local Chatty = { __name = "Chatty" }
    mp.register("Chatty", Chatty, {
      dump = function(t) q:put { "inner", t.n } return { q:get()[2], core.decode(core.encode { t.n })[1] } end,
      load = function(t) q:put { t[1] } return setmetatable({ n = q:get()[1] }, Chatty) end,
    })
    local list = {}
    for i = 1, 50 do list[i] = setmetatable({ n = i }, Chatty) end
    local r = through(list)
    for i = 1, 50 do assert.equal(i, r[i].n) end
  end)
end)

describe("a shared object", function()
  it("in a message is one object however often it appears", function()
    local q, box = mp.Queue(), mp.Queue()
    q:put { box, { box }, [box] = 1 }
    local r = q:get()
    assert.equal(box, r[1])
    assert.equal(r[1], r[2][1])
    assert.equal(1, r[r[1]])
  end)

  it("can be an upvalue", function()
    local q, box = mp.Queue(), mp.Queue()
    q:put(function(v) box:put(v) end)
    q:get()(5)
    assert.equal(5, box:get())
  end)

  it("that is closed is refused", function()
    local box = mp.Queue()
    getmetatable(box) -- hidden; the handle is closed by its scope
    do local _ <close> = box end
    assert.matches("a closed mp.Queue cannot be sent", refused { box }.reason)
  end)

  it("that belongs to its maker is refused", function()
    local p = mp.Process { target = print }
    assert.matches("process", refused({ p }, "args").reason:lower())
  end)
end)

describe("the decoder", function()
  it("refuses what is cut off, at every byte", function()
    local q = { 1, -5, 1 << 40, 2.5, "text", ("long"):rep(100), { a = { b = { 1, 2, 3 } } }, true, function() return mp end }
    q.me = q
    local s = core.encode(q)
    for i = 0, #s - 1 do unreadable(s:sub(1, i), true) end
  end)

  it("refuses trailing bytes, unknown extensions, nan and nil keys, and integers beyond Lua's", function()
    unreadable(hex "01 01")
    unreadable(hex "d4 63 00")
    unreadable(hex "c1")
    unreadable(hex "81 cb7ff8000000000000 01")
    unreadable(hex "81 c0 01")
    unreadable(hex "cf ffffffffffffffff")
    unreadable("")
  end)

  it("refuses references to nothing, to what comes later, and to upvalues", function()
    unreadable(hex "d4 02 01")
    unreadable(hex "91 d4 02 01")
    unreadable(hex "d4 01 02 91 d4 02 02")
    unreadable(hex "d4 01 05 91 01")
    unreadable(hex "d4 01 01 92 90 90")
  end)

  it("allocates no more than a message's size warrants", function()
    collectgarbage()
    local before = collectgarbage "count"
    unreadable(hex "dd ffffffff 01")
    unreadable(hex "df ffffffff 01")
    unreadable(hex "db ffffffff 01")
    unreadable((hex "dd 0000c000"):rep(10000)) -- each claims what is left
    assert(collectgarbage "count" - before < 20000, "more than 20 MB for 50 kB")
  end)

  it("survives messages with bytes changed at random", function()
    math.randomseed(7)
    local shared = { 1, "x" }
    local s = core.encode { shared, shared, setmetatable({ 1 }, { __name = "n" }), mp.Error("error", "m"), { [{}] = 2.5 }, "text", -1, 1 << 33 }
    for _ = 1, 20000 do
      local b = { s:byte(1, -1) }
      for _ = 1, math.random(3) do b[math.random(#b)] = math.random(0, 255) end
      pcall(core.decode, string.char(table.unpack(b)), false)
    end
    assert.same({ 1 }, through { 1 })
  end)
end)

describe("mp.explain", function()
  it("says how large a message is", function()
    local r = mp.explain { 1, { 2, 3 }, "x" }
    assert.is_true(r.sendable)
    assert.equal(6, r.items)
    assert.equal(#core.encode { 1, { 2, 3 }, "x" }, r.bytes)
    assert.matches("can be sent: 7 bytes, 6 items", tostring(r))
  end)

  it("says what is in the way and where", function()
    local r = mp.explain { cfg = { coroutine.create(print) } }
    assert.is_false(r.sendable)
    assert.equal("cfg[1]", r.path)
    assert.equal("a coroutine cannot be sent", r.reason)
    assert.matches("cannot be sent: at cfg%[1%]: a coroutine", tostring(r))
  end)
end)
