-- What a program inherits from whoever started it, and what must not depend on that: signals that are ignored or blocked, limits.
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

  -- A sanitized program needs terabytes of address space.
  if run.mode == "release" then
    it("makes do with little address space: objects are smaller, and what does not fit is told", function()
      local name = run.tmpdir() .. "/program.lua"
      run.write(name, [[
        local mp = require "mp"
        local q, d, l, a, b = mp.Queue(), mp.Dict { n = 0 }, mp.List(), mp.Pipe()
        local function work(q, d, l, b)
          for i = 1, 100 do q:put(("x"):rep(10000)) d:incr("n") l:append(i) end
          b:send(("y"):rep(1000000))
          return #l
        end
        for _, method in ipairs { "fork", "spawn" } do
          local p = mp.Process { target = work, args = { q, d, l, b }, start_method = method }
          p:start()
          local bytes = #a:recv(20)
          for _ = 1, 100 do bytes = bytes + #q:get(20) end
          print(method, bytes, p:result(20))
        end
        print(d.n, q:empty(), a:poll())
        print(select(2, pcall(q.put, q, ("z"):rep(100000000))))
        print(select(2, pcall(mp.Queue, { maxbytes = 1 << 33 })))
        local pool <close> = mp.Pool(2)
        print(pool:map(function(x) return x * x end, { 1, 2, 3 })[3])]])
      local r = run.command({ "sh", "-c", "ulimit -v 2000000 && exec " .. run.quote(run.path) .. " " .. name }, { timeout = 60 })
      assert.equal("", r.err)
      local line = r.out:gmatch "[^\n]*"
      assert.equal("fork\t2000000\t100", line())
      assert.equal("spawn\t2000000\t200", line())
      assert.equal("200\ttrue\tfalse", line())
      assert.matches("put: a message of %d+ bytes is larger than the limit of %d+$", line())
      assert.matches("Queue: not enough address space for an object of %d+ MiB %(the limit is %d+ MiB: ulimit %-v%)$", line())
      assert.equal("9", line())
    end)

    it("does its work where no /proc is mounted", function()
      local here = "unshare -m sh -c 'umount -l /proc && exec \"$0\" \"$@\"' "
      if not os.execute(here .. "true 2>/dev/null") then return pending "this user may not unmount /proc" end
      local name = run.tmpdir() .. "/program.lua"
      run.write(name, [[
        local mp = require "mp"
        local q = mp.Queue()
        local p = mp.Process { target = function() q:put(mp.current_process().name) end }
        p:start()
        print(mp.get_start_method(), q:get(20), p:join(20), p.exitcode, mp.cpu_count() > 0)
        local t = mp.Thread { target = function(n) return n + 1 end, args = { 1 } }
        t:start()
        print(t:result(20))]])
      local r = run.command({ "sh", "-c", here .. run.quote(run.path) .. " " .. name }, { timeout = 60 })
      assert.equal("fork\tProcess-1\ttrue\t0\ttrue\n2\n", r.both)
    end)
  end
end)
