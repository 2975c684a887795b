-- mp.Error (docs/reference/errors.md).
local mp = require "mp"
local _ = mp.now -- mprun opens the module when it is first touched
local core = debug.getregistry()["mp.core"]

describe("mp.Error", function()
  it("has the fields it was given; others of its fields are nil", function()
    local e = mp.Error { kind = "died", message = "gone", pid = 12, signal = 9 }
    assert.same({ "died", "gone", 12, 9 }, { e.kind, e.message, e.pid, e.signal })
    assert.is_nil(e.traceback)
    assert.is_nil(e.exitcode)
    assert.is_nil(e.value)
  end)

  it("is made from a kind and a message too", function()
    local e = mp.Error("memory", "too much")
    assert.same({ "memory", "too much" }, { e.kind, e.message })
  end)

  it("names an unknown field, when it is read, set, or given", function()
    local e = mp.Error("error", "m")
    local _, text = pcall(function() return e.massage end)
    assert.matches("errors_spec.lua:%d+: mp.Error has no field 'massage'", text)
    assert.error_matches(function() e.massage = 1 end, "no field 'massage'")
    assert.error_matches(function() mp.Error { massage = 1 } end, "unknown option 'massage'")
    assert.error_matches(function() mp.Error { message = 1 } end, "message must be a string")
  end)

  it("reads well: message, process, remote traceback", function()
    local e = mp.Error { message = "a.lua:3: boom", name = "Process-1", pid = 12, traceback = "stack traceback:\n\ta.lua:3: in main chunk" }
    assert.equal("a.lua:3: boom\n  in Process-1 (pid 12)\nstack traceback:\n\ta.lua:3: in main chunk", tostring(e))
    assert.equal("error: a.lua:3: boom", "error: " .. mp.Error("error", "a.lua:3: boom"))
  end)

  it("is of one of the kinds that there are: others are misuse, so that a typing error is not a silent no", function()
    for _, kind in ipairs { "error", "died", "timeout", "encode", "sandbox", "memory", "cpu", "wall" } do
      assert.is_true(mp.is_error(mp.Error(kind, "m"), kind))
    end
    local _, text = pcall(function() mp.Error("nonsense") end)
    assert.matches("errors_spec.lua:%d+: mp.Error: there is no kind 'nonsense'", text)
    assert.error_matches(function() mp.Error { kind = "dead", message = "m" } end, "no kind 'dead'")
    assert.error_matches(function() mp.Error(3) end, "kind must be a string, not a number")
    assert.error_matches(function() mp.Error({ message = "m" }, "n") end, "or one table")
    assert.error_matches(function() mp.is_error(mp.Error("died"), "dead") end, "is_error: there is no kind 'dead'")
    assert.error_matches(function() mp.is_error(1, 3) end, "string expected, got number")
  end)

  it("is recognised by mp.is_error, with or without a kind", function()
    local e = mp.Error("timeout", "late")
    assert.is_true(mp.is_error(e))
    assert.is_true(mp.is_error(e, "timeout"))
    assert.is_false(mp.is_error(e, "died"))
    for _, v in ipairs { "timeout", 1, {}, setmetatable({ kind = "timeout" }, { __name = "mp.Error" }), print } do assert.is_false(mp.is_error(v)) end
    assert.is_false(mp.is_error(nil))
  end)

  it("travels whole, with its value", function()
    local e = mp.Error { kind = "error", message = "m", traceback = "t", name = "n", pid = 1, exitcode = 2, signal = 3, value = { code = 7 } }
    local r = core.decode(core.encode(e), false)
    assert.is_true(mp.is_error(r, "error"))
    assert.same({ "m", "t", "n", 1, 2, 3, 7 }, { r.message, r.traceback, r.name, r.pid, r.exitcode, r.signal, r.value.code })
  end)

  it("may hold an error that holds it", function()
    local a, b = mp.Error("error", "a"), mp.Error("error", "b")
    a.value, b.value = b, a
    local r = core.decode(core.encode(a), false)
    assert.equal("b", r.value.message)
    assert.equal(r, r.value.value)
  end)

  it("whose value cannot be sent has that value's text instead, in nested errors too", function()
    local inner = mp.Error { message = "inner", value = coroutine.create(print) }
    local outer = mp.Error { message = "outer", value = { inner, "kept" } }
    local r = core.decode(core.encode(outer), false)
    assert.matches("^thread: ", r.value[1].value)
    assert.equal("kept", r.value[2])
    outer.value = setmetatable({}, { __tostring = function() error("no") end })
    assert.equal("?", core.decode(core.encode(outer), false).value)
  end)

  it("from an untrusted peer has fields of the right types or is refused", function()
    assert.is_false((pcall(core.decode, "\xc7\x08\x0a\x81\xa4kind\x01", false)))
    local s = core.encode(mp.Error("error", "m"))
    assert.is_true((pcall(core.decode, s, false)))
    assert.is_false((pcall(core.decode, (s:gsub("\xa1m", "\xd0\x05")), false)))
  end)
end)
