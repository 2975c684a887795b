-- Nobody outlives the program, however it ends. Scripts of their own, watched from outside.
local run = require "spec.support.run"

local function running(pid) -- a zombie has ended
  local f = io.open(("/proc/%d/stat"):format(pid))
  if not f then return false end
  local text = f:read("a") or ""
  f:close()
  return not text:match("^%d+ %b() [ZX]")
end

local function gone(pids, seconds)
  return run.wait_until(function()
    for _, pid in ipairs(pids) do if running(pid) then return false end end
    return true
  end, seconds or 5)
end

-- Starts the script in the background; its processes write their pids into a file. Gives main's pid and the list of all, once there are n.
local function start(text, n, prefix)
  local dir = run.tmpdir()
  run.write(dir .. "/script.lua", [[
    local dir = ...
    local mp = require "mp"
    local function here(what)
      local f = io.open(dir .. "/pids", "a") f:write(mp.getpid(), " ", what or "x", "\n") f:close()
    end
    ]] .. text)
  run.write(dir .. "/pids", "")
  os.execute(("%s %s %s/script.lua %s >%s/out 2>%s/err </dev/null & echo $! >%s/shell"):format(prefix or "setsid",
    run.quote(run.program or run.path), dir, dir, dir, dir, dir))
  local pids
  local ok = run.wait_until(function()
    pids = {}
    for pid in run.read(dir .. "/pids"):gmatch("(%d+) %w+\n") do pids[#pids + 1] = math.tointeger(pid) end
    return #pids >= n
  end, 10)
  assert(ok, "the script did not get going: " .. run.read(dir .. "/err"))
  return { main = pids[1], pids = pids, dir = dir, err = function() return run.read(dir .. "/err") end,
           out = function() return run.read(dir .. "/out") end }
end

local TREE <const> = [[
  here()
  local function sleeper() here() while true do mp.sleep(60) end end
  local function parent()
    for i = 1, 2 do mp.Process{ target = sleeper, daemon = i == 1 }:start() end
    here()
    while true do pcall(mp.sleep, 60) end
  end
  for i = 1, 2 do mp.Process{ target = parent, daemon = i == 2 }:start() end
]]

for _, program in ipairs { "mprun", "lua5.4" } do
  if program == "mprun" or run.mode == "release" then
    describe("a tree of processes under " .. program, function()
      setup(function() run.program = program == "mprun" and run.path or "lua5.4" end)
      teardown(function() run.program = nil end)

      it("is gone when the program is killed", function()
        local s = start(TREE .. "mp.sleep(60)", 7)
        os.execute("kill -9 " .. s.main)
        assert.is_true(gone(s.pids))
      end)

      it("is gone when the program is terminated", function()
        local s = start(TREE .. "mp.sleep(60)", 7)
        os.execute("kill " .. s.main)
        assert.is_true(gone(s.pids))
      end)

      it("is gone within a second of Ctrl-C, with one message", function()
        local s = start([[
          here()
          local function sleeper() here() mp.sleep(60) end
          local function loop() here() while true do end end
          local function deaf() here() while true do pcall(mp.sleep, 60) end end
          for i = 1, 2 do mp.Process{ target = sleeper, daemon = i == 1 }:start() end
          for i = 1, 2 do mp.Process{ target = loop, daemon = i == 1 }:start() end
          mp.Process{ target = deaf }:start()
          mp.sleep(60)]], 6)
        os.execute("sleep 0.2; kill -INT -" .. s.main)
        assert.is_true(gone(s.pids, 2))
        assert.equal(1, select(2, s.err():gsub("interrupted!", "")), s.err())
      end)

      it("with threads is gone within a second of Ctrl-C, whatever they catch", function()
        local s = start([=[
          here()
          mp.Thread{ target = function() while true do pcall(function() while true do end end) end end }:start()
          mp.Thread{ target = function() while true do pcall(mp.sleep, 60) end end }:start()
          here()
          mp.sleep(60)]=], 2)
        os.execute("sleep 0.2; kill -INT -" .. s.main)
        assert.is_true(gone(s.pids, 2))
        assert.equal(1, select(2, s.err():gsub("interrupted!", "")), s.err())
      end)

      it("a daemon's children go with it when it is killed or terminated", function()
        local s = start([[
          here()
          local function sleeper() here() mp.sleep(60) end
          local function parent() mp.Process{ target = sleeper }:start() here() mp.sleep(60) end
          local a = mp.Process{ target = parent, daemon = true } a:start()
          local b = mp.Process{ target = parent, daemon = true } b:start()
          local go = dir .. "/go"
          while not io.open(go) do mp.sleep(0.01) end
          a:kill() b:terminate() a:join() b:join()
          print(a.exitcode, b.exitcode)
          mp.sleep(60)]], 5)
        run.write(s.dir .. "/go", "")
        local rest = table.move(s.pids, 2, 5, 1, {})
        assert.is_true(gone(rest))
        assert.is_true(running(s.main))
        os.execute("kill -9 " .. s.main)
        assert.is_true(gone(s.pids))
      end)

      local function ends(how, status)
        local s = run.command({ run.program, "-e", [[
          local mp = require "mp"
          mp.Process{ target = function() mp.sleep(60) end, daemon = true }:start()
          mp.Process{ target = function() mp.sleep(0.3) print "child done" end }:start()
          collectgarbage()
          print "main done"
          ]] .. how })
        assert.equal("main done\nchild done\n", s.out)
        assert.equal(status, s.status)
      end
      it("daemons end with the main program, others are joined: at its end", function() ends("", 0) end)
      it("daemons end with the main program, others are joined: at os.exit", function() ends("os.exit(3)", 3) end)
      it("daemons end with the main program, others are joined: at os.exit with close", function() ends("os.exit(4, true)", 4) end)
      it("daemons end with the main program, others are joined: at an error", function() ends("error 'x'", 1) end)
      it("daemons end with a child, its others are joined, by os.exit too", function()
        for _, how in ipairs { "", "os.exit(0)", "error 'x'" } do
          local r = run.command({ run.program, "-e", [[
            local mp = require "mp"
            local p = mp.Process{ target = function()
              local d = mp.Process{ target = function() mp.sleep(60) end, daemon = true } d:start()
              mp.Process{ target = function() mp.sleep(0.3) print "grandchild done" end }:start()
              io.stdout:setvbuf "full"
              io.write "unflushed\n"
              ]] .. how .. [[
            end }
            p:start() p:join()
            print(p.exitcode)]] })
          assert.equal("grandchild done\nunflushed\n" .. (how:find "error" and 1 or 0) .. "\n", r.out)
        end
      end)

      it("a finalizer of the parent's does not run in a child, and the state is closed once", function()
        local r = run.command({ run.program, "-e", [[
          local mp = require "mp"
          local x = setmetatable({}, { __gc = function() print "finalized" end })
          local p = mp.Process{ target = function() end } p:start() p:join()
          local p = mp.Process{ target = function() os.exit(0) end } p:start() p:join()]] })
        assert.equal("finalized\n", r.out)
      end)

      it("broken standard streams do not change how a child ends", function()
        local out = run.tmpdir() .. "/out"
        local r = run.command({ "sh", "-c", run.quote(run.program) .. [[ -e '
          local mp = require "mp"
          local p = mp.Process{ target = function() mp.sleep(0.2) error "x" end } p:start() p:join()
          local q = mp.Process{ target = function() io.write(1) end } q:start() q:join()
          local f = io.open(os.getenv "OUT", "w") f:write(p.exitcode, " ", q.exitcode) f:close() os.exit(0, false)
        ' 2>&1 | true; sleep 1; for i in 1 2 3 4 5 6 7 8 9; do test -s "$OUT" && break; sleep 0.2; done; cat "$OUT"]] }, { env = { OUT = out } })
        assert.equal("1 0", r.out)
      end)

      it("closed standard streams are not taken by shared memory", function()
        local out = run.tmpdir() .. "/out"
        run.command { "sh", "-c", run.quote(run.program) .. " -e " .. run.quote([=[
          local mp = require "mp"
          local p = mp.Process{ target = function() print(("x"):rep(1000)) return "kept" end } p:start()
          local _, v = pcall(p.result, p)
          local f = io.open("]=] .. out .. [=[", "w") f:write(tostring(v), " ", p.exitcode) f:close()]=]) .. " >&- 2>&- <&-" }
        assert.equal("kept 0", run.read(out))
      end)
    end)
  end
end
