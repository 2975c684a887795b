-- The module itself: what is in it, and that what is read late is as good as there.
local run = require "spec.support.run"

describe("the module", function()
  it("has every field that it announces, each from the file that is said to add it", function()
    local r = run.script [[
      local core = debug.getregistry()["mp.core"] or (mp.now and debug.getregistry()["mp.core"])
      local later = 0
      for _, name in ipairs { "Pool", "sandbox", "explain" } do
        assert(rawget(mp, name) == nil, name .. " is read too early")
        assert(mp[name] and rawget(mp, name) == mp[name], name)
        later = later + 1
      end
      core.load_all()
      for _, name in ipairs { "process_policy", "enter_jail", "mprun_sandbox", "progress" } do assert(rawget(core, name), name) end
      print(later, core.no_such_field, pcall(function() return mp.no_such_field end))]]
    assert.matches("^3\tnil\tfalse\t.*script.lua:10: mp has no field 'no_such_field'\n$", r.both)
  end)

  it("lists all its fields, what was not read before too", function()
    local r = run.command({ run.path, "-" }, { stdin = [[
      local seen = {}
      for k, v in pairs(mp) do assert(rawget(mp, k) == v) seen[k] = true end
      print(seen.Queue, seen.Pool, seen.sandbox, seen.explain, seen.Thread)]] })
    assert.equal("true\ttrue\ttrue\ttrue\ttrue\n", r.both)
  end)

  it("says what is in it, and is found again by require", function()
    for _, how in ipairs { "mp", "require 'mp'" } do
      local r = run.command { run.path, "-e", "print(tostring(" .. how .. "))" }
      assert.matches("^mp %d+%.%d+%.%d+\n  Array .* Value\n  active_children .* wait\n$", r.both)
      assert.matches(" Pool ", r.both)
    end
    local r = run.command { run.path, "-e", "package.loaded.mp = nil print(require 'mp' == mp, package.loaded.mp == mp, mp.now() > 0)" }
    assert.equal("true\ttrue\ttrue\n", r.both)
  end)

  it("is found by name where it was not read yet", function()
    local r = run.script [[
      local t = mp.Thread{ target = function(new, explain) return rawget(require "mp", "Pool") == nil, new == mp.Pool.work__, explain == mp.explain end,
                           args = { mp.Pool.work__, mp.explain } }
      t:start() print(t:result())]]
    assert.equal("false\ttrue\ttrue\n", r.both)
  end)

  it("is whole though its first use is interrupted", function()
    local r = run.script [[
      local told = 0
      for i = 1, 30 do
        local started = mp.Event()
        local t = mp.Thread{ target = function(e)
          local ok = pcall(function() e:set() for i = 1, 50 do local _ = mp.sandbox, mp.Pool end while true do end end)
          return ok, rawget(mp, "sandbox") and type(mp.sandbox.explain), rawget(mp, "Pool") and type(mp.Pool)
        end, args = { started } }
        t:start() started:wait()
        for _ = 1, i * 100 do local _ = i end
        t:interrupt()
        local ok, sandbox, pool = t:result()
        assert(not ok and (sandbox == nil or sandbox == "function") and (pool == nil or pool == "table"))
        told = told + 1
      end
      print(told)]]
    assert.equal("30\n", r.both)
  end)

  it("runs its Lua part from bytecode of this very Lua", function()
    assert.equal("true\n", run.command({ run.path, "-e", "local _ = mp.now print(debug.getregistry()['mp.core'].compiled)" }).both)
  end)
end)
