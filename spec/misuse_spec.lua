-- What every constructor and method owes to a mistaken caller: an error at the caller's line that names what was called and what is
-- wrong with it. The modules' own specs say more about each; this one has what is alike in all of them.
local mp = require "mp"

local function refuses(words, f)
  local ok, e = pcall(f)
  assert.is_false(ok)
  e = tostring(e)
  for _, word in ipairs(words) do assert(e:find(word, 1, true), ("%q is not in %q"):format(word, e)) end
  assert(e:find("^spec/misuse_spec.lua:%d+: "), "no position of the caller: " .. e)
end

describe("misuse", function()
  it("of a constructor that takes nothing, or options, names the option", function()
    refuses({ "mp.Lock", "unknown option 'x'" }, function() mp.Lock { x = 1 } end)
    refuses({ "mp.RLock", "unknown option 'x'" }, function() mp.RLock { x = 1 } end)
    refuses({ "mp.Event", "unknown option 'x'" }, function() mp.Event { x = 1 } end)
    refuses({ "mp.Lock", "no argument", "string" }, function() mp.Lock("l") end)
    refuses({ "mp.Event", "no argument", "number" }, function() mp.Event(3) end)
    refuses({ "JoinableQueue", "unknown option 'x'" }, function() mp.JoinableQueue { x = 1 } end)
    refuses({ "SimpleQueue", "maxsize" }, function() mp.SimpleQueue { maxsize = -1 } end)
    refuses({ "Pipe", "unknown option 'dup'" }, function() mp.Pipe { dup = true } end)
    refuses({ "Pipe", "duplex" }, function() mp.Pipe { duplex = 1 } end)
    assert.is_false(mp.Pipe { duplex = false }.writable)
    assert.is_true(mp.Pipe { duplex = true }.writable)
    assert.is_false(mp.Lock {}:locked())
  end)

  it("of what takes a function asks for a function, and takes what can be called", function()
    local callable = setmetatable({}, { __call = function(_, v) return v end })
    for _, o in ipairs { mp.Lock(), mp.RLock(), mp.Semaphore(1), mp.Condition(), mp.Value("i"), mp.Array("i", 1), mp.Dict(), mp.List() } do
      refuses({ "with", "function expected, got no value" }, function() o:with() end)
      refuses({ "with", "function expected, got number" }, function() o:with(3) end)
      assert.is_true(pcall(o.with, o, callable))
    end
    local d = mp.Dict { a = 1 }
    refuses({ "update", "function expected, got no value" }, function() d:update("a") end)
    refuses({ "update", "function expected, got number" }, function() d:update("a", 3) end)
    assert.equal(1, d:update("a", callable))
  end)

  it("of a timeout is told where the call is", function()
    local p = mp.Process { target = mp.sleep, args = { 0 } }
    local t = mp.Thread { target = mp.sleep, args = { 0 } }
    refuses({ "terminate", "not started" }, function() t:terminate() end)
    refuses({ "interrupt", "not started" }, function() t:interrupt() end)
    p:start()
    t:start()
    for _, o in ipairs { p, t } do
      refuses({ "join", "timeout" }, function() o:join(0 / 0) end)
      refuses({ "join", "timeout" }, function() o:join("1") end)
      assert.is_true(o:join())
    end
  end)

  it("of a message, with more shared objects than one can carry, is an mp.Error as for all that cannot be sent", function()
    local q, many = mp.Queue(), {}
    local a, b = mp.Pipe()
    for i = 1, 251 do many[i] = mp.Lock() end
    for name, f in pairs {
      put = function() q:put(many) end,
      put_nowait = function() q:put_nowait(many) end,
      put_many = function() q:put_many { 1, many } end,
      send = function() a:send { many } end,
    } do
      local ok, e = pcall(f)
      assert.is_false(ok)
      assert.is_true(mp.is_error(e, "encode"))
      assert.matches("^spec/misuse_spec.lua:%d+: .*" .. name .. ": .*251 descriptors.* 250", e.message)
    end
    assert.is_true(q:empty())
    assert.is_false(b:poll())
    many[251] = nil
    assert.is_true(q:put(many))
    assert.equal(250, #q:get())
  end)

  it("of mp.wait names what was in the list", function()
    refuses({ "wait", "[1]", "mp.Lock" }, function() mp.wait { mp.Lock() } end)
    refuses({ "wait", "[2]", "string" }, function() mp.wait { mp.Event(), "x" } end)
  end)
end)
