-- What a program inherits from whoever started it, and what must not depend on that: signals that are ignored or blocked.
local run = require "spec.support.run"

local program = [[
local mp = require "mp"
local function ended(target, method, act)
  local ready = mp.Event()
  local p = mp.Process { target = function(...) ready:set() return target(...) end, start_method = method }
  p:start()
  assert(ready:wait(20))
  if act then p[act](p) end
  assert(p:join(20), "it does not end")
  return p.exitcode, p
end
local function wait() require "mp".sleep(60) end
for _, method in ipairs { "fork", "spawn" } do
  print(method, (ended(function() os.exit(7) end, method)), (ended(wait, method, "kill")), (ended(wait, method, "terminate")))
  print(method, (ended(wait, method, "interrupt")), select(2, ended(function() return "result" end, method)):result())
end
]]

describe("a program", function()
  local function same(signals)
    local name = run.tmpdir() .. "/program.lua"
    run.write(name, program)
    local args = { "env" }
    table.move(signals, 1, #signals, 2, args)
    args[#args + 1] = run.path
    args[#args + 1] = name
    local r = run.command(args, { timeout = 100 })
    assert.equal("fork\t7\t-9\t-15\nfork\t1\tresult\nspawn\t7\t-9\t-15\nspawn\t1\tresult\n", r.out)
    assert.equal(0, r.status)
  end

  it("learns exit codes and results although SIGCHLD is ignored where it comes from", function() same { "--ignore-signal=CHLD" } end)

  it("ends its processes although the signals for that are ignored where it comes from", function()
    same { "--ignore-signal=TERM", "--ignore-signal=INT", "--ignore-signal=PIPE" }
  end)

  it("ends its processes although the signals for that are blocked where it comes from", function()
    same { "--block-signal=TERM", "--block-signal=INT", "--block-signal=CHLD" }
  end)
end)
