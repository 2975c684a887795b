-- The interpreter: its command line, its interactive mode, and SIGINT.

local run = require "spec.support.run"
local q = run.quote

-- The environment of the test's user must not matter.
local clean = { LUA_INIT = false, LUA_INIT_5_4 = false, LUA_PATH = false, LUA_PATH_5_4 = false, LUA_CPATH = false, LUA_CPATH_5_4 = false }

local function options(o)
  o = o or {}
  local env = {}
  for k, v in pairs(clean) do env[k] = v end
  for k, v in pairs(o.env or {}) do env[k] = v end
  return { stdin = o.stdin, cwd = o.cwd, merge = o.merge, timeout = o.timeout, env = env }
end

local function mprun(args, o) return run.mprun(args, options(o)) end

local function out_of(args, o)
  local r = mprun(args, o)
  assert.equal("", r.err)
  assert.equal(0, r.status)
  return r.out
end

local function file(name, text)
  local dir = run.tmpdir()
  run.write(dir .. "/" .. name, text)
  return dir .. "/" .. name, dir
end

local has_lua = os.execute("command -v lua5.4 >/dev/null")

describe("mprun's options", function()
  it("-e runs statements in their order, joined or as a word of their own", function()
    assert.equal("1\n3\n", out_of{ "-eprint(1)", "-ea=3", "-e", "print(a)" })
  end)

  it("-e needs an argument, which is no option", function()
    for _, args in ipairs{ { "-e" }, { "-e", "-v" } } do
      local r = mprun(args)
      assert.equal(1, r.status)
      assert.matches("'%-e' needs argument\nusage:", r.err)
    end
  end)

  it("-l requires a module into the global of its name, or into the one that is named", function()
    local _, dir = file("m.lua", "return { x = 15 }")
    assert.equal("15\n", out_of({ "-l", "m", "-e", "print(m.x)" }, { cwd = dir }))
    assert.equal("15\tnil\n", out_of({ "-lg=m", "-e", "print(g.x, m)" }, { cwd = dir }))
    assert.equal(1, mprun{ "-l", "no.such.module", "-e", "print(1)" }.status)
  end)

  it("-v says which Lua it is, and runs no stdin", function()
    local text = out_of({ "-v" }, { stdin = "print'not run'" })
    assert.matches("^Lua 5%.4.*PUC%-Rio\n$", text)
    assert.matches("PUC%-Rio\nhello\n$", out_of{ "-v", "-e", "print'hello'" })
  end)

  it("-W turns warnings on, which are off", function()
    local program = "warn('a ', 'warning')"
    assert.equal("", mprun({ "-e", program }).err)
    assert.equal("Lua warning: a warning\n", mprun({ "-W", "-e", program }).err)
    assert.equal("Lua warning: b\n", mprun({ "-e", "warn'a' warn'@on' warn'b'" }).err)
  end)

  it("-E ignores the environment", function()
    local env = { LUA_INIT = "error'not ignored'", LUA_PATH = "xxx", LUA_CPATH = "yyy" }
    assert.equal("false\tfalse\n", out_of({ "-E", "-e", "print(package.path == 'xxx', package.cpath == 'yyy')" }, { env = env }))
  end)

  it("-- and - end the options", function()
    local path, dir = file("-e", "print('a file called -e')")
    assert.equal("a file called -e\n", out_of({ "--", "-e" }, { cwd = dir }))
    assert.equal("-h\t-\n", out_of({ "-", "-h" }, { stdin = "print(arg[1], arg[0])" }))
    assert.truthy(path)
  end)

  it("refuses unknown ones with its usage and status 1", function()
    for _, option in ipairs{ "-h", "-vv", "-iv", "-Ex", "-Wx", "---", "--nonsense", "--sandboxes", "--help=x" } do
      local r = mprun{ option }
      assert.equal(1, r.status, option)
      assert.truthy(r.err:find("unrecognized option '" .. option .. "'\nusage: ", 1, true), option)
      assert.equal("", r.out)
    end
  end)

  it("--help and --version go to stdout and run nothing", function()
    local help = out_of{ "--help", "-e", "print'not run'" }
    for _, word in ipairs{ "-e stat", "-l g=mod", "--start-method=", "--sandbox=", "--sandbox-learn", "--version" } do
      assert.truthy(help:find(word, 1, true), word)
    end
    assert.falsy(help:find("not run"))
    assert.matches("^mprun %d+%.%d+%.%d+, Lua 5%.4%.%d\n$", out_of{ "--version" })
  end)

  it("--sandbox and --start-method need a value", function()
    for _, option in ipairs{ "--sandbox", "--sandbox=", "--start-method", "--start-method=" } do
      local r = mprun{ option, "-e", "print'not run'" }
      assert.equal(1, r.status, option)
      assert.truthy(r.err:find("'" .. option .. "' needs argument\n", 1, true), option)
      assert.equal("", r.out)
    end
  end)

  it("--sandbox is given once, and not together with --sandbox-learn", function()
    for _, pair in ipairs{ { "--sandbox=pure", "--sandbox={}" }, { "--sandbox-learn", "--sandbox=pure" }, { "--sandbox=pure", "--sandbox-learn" } } do
      local r = run.mprun{ pair[1], pair[2], "-e", "print 'ran'" }
      assert.equal(1, r.status)
      assert.matches("'" .. pair[2]:gsub("%p", "%%%0") .. "': ", r.err)
      assert.equal("", r.out)
    end
  end)

  it("--start-method refuses a name that is none", function()
    local r = mprun{ "--start-method=teleport", "-e", "print'not run'" }
    assert.equal(1, r.status)
    assert.equal("", r.out)
    assert.matches("^%S+: .+\n$", r.err)
  end)

  it("gives the module mp as a global and to require, and no other global", function()
    assert.equal("true\n", out_of{ "-e", "print(mp == require'mp' and type(mp) == 'table' and package.loaded.mp == mp)" })
    if not has_lua then return pending("no lua5.4 to compare with") end
    local list = "local t = {} for k in pairs(_G) do t[#t + 1] = k end table.sort(t) print(table.concat(t, ' '))"
    local stock = run.command({ "lua5.4", "-e", list }, options()).out
    assert.equal(stock:gsub("math ", "math mp ", 1), (out_of{ "-e", list }))
  end)

  it("opens mp when it is first touched, in whatever way", function()
    local whole = "return function() for _, k in ipairs{ 'sleep', 'now', '_VERSION' } do assert(rawget(mp, k) ~= nil, k) end print'open' end"
    for _, touch in ipairs{ "local x = mp.sleep", "mp.mine = 1 assert(mp.mine == 1)", "local n = 0 for k in pairs(mp) do n = n + 1 end assert(n > 3)",
                            "pcall(function() return mp.nosuch end)" } do
      assert.equal("open\n", out_of{ "-e", "local check = (function() " .. whole .. " end)() " .. touch .. " check()" })
    end
    assert.matches("^%S+: %(command line%):1: mp has no field 'nosuch'\n", mprun{ "-e", "local x = mp.nosuch" }.err)
  end)

  it("has the search paths of lua5.4", function()
    if not has_lua then return pending("no lua5.4 to compare with") end
    local list = "print(package.path) print(package.cpath) print(package.config)"
    assert.equal(run.command({ "lua5.4", "-e", list }, options()).out, out_of{ "-e", list })
  end)

  it("loads C modules of the distribution into its one Lua core", function()
    for _, name in ipairs{ "cjson", "socket.core", "lfs" } do
      local r = mprun{ "-e", "local m = require '" .. name .. "' print(type(m))" }
      if not r.err:find("not found", 1, true) then assert.equal("table\n", r.both, name) end
    end
  end)
end)

describe("mprun's script", function()
  it("gets its arguments, and the whole command line in arg", function()
    local path = file("s.lua", "print(...) print(#arg, arg[0], arg[-1], arg[-2], arg[-3], arg[-4], arg[4])")
    assert.equal("a\tb\tc\n3\t" .. path .. "\t--\t-e \t" .. run.path .. "\tnil\tnil\n", out_of{ "-e ", "--", path, "a", "b", "c" })
  end)

  it("sees what -e and LUA_INIT did to arg", function()
    assert.equal("100\n", out_of({ "-e", "arg[1] = 100", "-" }, { stdin = "print(...)" }))
    local r = mprun({ "-e", "arg = 1", "-" }, { stdin = "print'not run'" })
    assert.equal(1, r.status)
    assert.matches("'arg' is not a table", r.err)
    assert.equal("", r.out)
  end)

  it("is stdin when there is no other", function()
    assert.equal("10\n2\n", out_of({}, { stdin = "print(10)\nprint(2)\n" }))
    assert.equal("0\t" .. run.path .. "\n", out_of({}, { stdin = "print(#arg, arg[0])" }))
  end)

  it("may start with a comment for the shell", function()
    local path = file("s.lua", "#!/usr/bin/env mprun\nprint(debug.getinfo(1).currentline)")
    assert.equal("2\n", out_of{ path })
  end)

  it("that does not exist gives status 1", function()
    local r = mprun{ "/no/such/file.lua" }
    assert.equal(1, r.status)
    assert.equal(run.path .. ": cannot open /no/such/file.lua: No such file or directory\n", r.err)
  end)

  it("runs after LUA_INIT, of which the versioned one wins", function()
    local init, dir = file("init.lua", "X = 'from a file'")
    local cases = {
      { { LUA_INIT = "X = 1" }, "1\n" },
      { { LUA_INIT = "X = 1", LUA_INIT_5_4 = "X = 2" }, "2\n" },
      { { LUA_INIT = "@" .. init }, "from a file\n" },
      { { LUA_INIT = "X = arg[0]" }, dir .. "/s.lua\n" },
    }
    run.write(dir .. "/s.lua", "print(X)")
    for _, case in ipairs(cases) do assert.equal(case[2], out_of({ dir .. "/s.lua" }, { env = case[1] })) end
    local r = mprun({ "-e", "print'not run'" }, { env = { LUA_INIT = "error('msg')" } })
    assert.equal(1, r.status)
    assert.matches("LUA_INIT:1: msg", r.err)
    assert.equal("", r.out)
  end)

  it("ends with the status that os.exit says, else 0, or 1 after an error", function()
    for program, status in pairs{ ["os.exit(3)"] = 3, ["os.exit(true)"] = 0, ["os.exit(false)"] = 1, ["os.exit(7, true)"] = 7,
                                  ["return 5"] = 0, ["error'x'"] = 1, ["x ="] = 1, ["error()"] = 1 } do
      assert.equal(status, mprun({ "-" }, { stdin = program }).status, program)
    end
  end)

  it("is closed: finalizers and to-be-closed variables run", function()
    assert.equal("closed\n", out_of{ "-e", "X = setmetatable({}, { __gc = function() print'closed' end })" })
    assert.equal("var\n", out_of{ "-e", "local x <close> = setmetatable({}, { __close = function() print'var' end }) os.exit(true, true)" })
  end)

  it("that fails leaves a message with its traceback, after the program's name", function()
    local path = file("s.lua", "local function f() error'broken' end\nf()")
    local r = mprun{ path }
    assert.equal(1, r.status)
    assert.equal("", r.out)
    assert.equal(("%s: %s:1: broken\nstack traceback:\n\t[C]: in function 'error'\n\t%s:1: in local 'f'\n\t%s:2: in main chunk\n\t[C]: in ?\n")
      :format(run.path, path, path, path), r.err)
  end)

  it("may raise any value", function()
    local says = "error(setmetatable({}, { __tostring = function() return 'what I say' end }))"
    assert.equal(run.path .. ": what I say\n", mprun{ "-e", says }.err)
    assert.matches("^%S+: %(error object is a table value%)\nstack traceback:", mprun{ "-e", "error{}" }.err)
    assert.matches("^%S+: %(error object is a nil value%)\n", mprun{ "-e", "error()" }.err)
    assert.matches("^%S+: 42\nstack traceback:", mprun{ "-e", "error(42)" }.err)
  end)
end)

describe("mprun beside lua5.4", function()
  -- Whatever these print, on stdout and stderr, and their status, is the same but for the program's name.
  -- Lines typed are shorter than 79 characters: without TERM, the readline of lua5.4 scrolls longer ones sideways.
  local cases = {
    { { "-e", "local t = setmetatable({}, { __index = error }) print(t.x)" } },
    { { "-e", "print(#arg, arg[-1], arg[0], arg[1], arg[2])" } },
    { { "-e", "coroutine.wrap(function() error'inside' end)()" } },
    { { "-e", "print(pcall(string.rep, 'x', -1)) error(nil)" } },
    { { "-e", "x = = 1" } },
    { { "-l", "nosuchmodule" } },
    { { "-lstring", "-l", "m=math", "-e", "print(string.len'abc', m.pi)" } },
    { { "-W", "-e", "setmetatable({}, { __gc = function() error'in finalizer' end }) collectgarbage()" } },
    { { "-e", "print(collectgarbage('incremental'))" } },
    { { "-", "a", "b" }, "print(...) error'e'" },
    { { "-i" },
      "1+1\nx =\n= 2\nlocal y <const> = 1\nprint(y)\nerror'e'\nerror(setmetatable({}, {__tostring = function() return 'o' end}))\nfor i = 1, 2\ndo\nend\n" },
    { { "-i" }, "return 1, nil, 'x'\n=1\n=1,2\n\n-- nothing\nprint=nil\n1\n" },
    { { "-i" }, "_PROMPT = 'a> '\n_PROMPT2 = setmetatable({}, {__tostring = function() return 'b> ' end})\nx = [[\n\n]] return #x" },
    { { "-i" }, "os.exit(4)" },
    { { "-i", "-e", "print(...)" }, "os.exit(false, true)" },
    { { "-" }, "goto x" },
    { { "-e", "arg = nil", "-" }, "print(1)" },
    { { "." } },
    { { "-v", "-" }, "print(_VERSION)" },
    { { "-e", "os.exit(300)" } },
    { { "-e", "io.stdout:close() print(io.write('x'))" } },
    { { "-e", "debug.sethook(function() error'hook' end, 'l') local x = 1" } },
    { { "-e", "error(('x'):rep(1000))" } },
    { { "-e", "string.gsub('x', '.', error)" } },
    { { "-e", "load('error(1)', '=name')()" } },
    { { "-e", "warn('@on') warn('a') warn('b', 'c') warn('@off') warn('d')" } },
  }
  for i, case in ipairs(cases) do
    it("answers the same to " .. table.concat(case[1], " "):sub(1, 60) .. " (" .. i .. ")", function()
      if not has_lua then return pending("no lua5.4 to compare with") end
      local o = options{ stdin = case[2] }
      local theirs = run.command({ "lua5.4", table.unpack(case[1]) }, o)
      local ours = mprun(case[1], { stdin = case[2] })
      local function text(s, name) -- also tables and functions have other addresses
        return (s:gsub("0x%x+", "ADDRESS"):gsub(name:gsub("%p", "%%%0"), "NAME"))
      end
      assert.equal(text(theirs.out, "lua5.4"), text(ours.out, run.path))
      assert.equal(text(theirs.err, "lua5.4"), text(ours.err, run.path))
      assert.equal(theirs.status, ours.status)
    end)
  end
end)

-- A program at a terminal of its own (by script(1)): type(text), shows(pattern), close().
local function at_terminal(env, given)
  local dir = run.tmpdir()
  local screen = dir .. "/screen"
  run.write(screen, "")
  local words = { "TERM=xterm", "XDG_STATE_HOME=" .. q(dir .. "/state") }
  for _, w in ipairs(env or {}) do words[#words + 1] = w end
  local inner = ("exec env -u LUA_INIT -u LUA_INIT_5_4 %s %s %s"):format(table.concat(words, " "), q(run.path), given or "")
  local keyboard = io.popen(("timeout %g script -qec %s /dev/null >%s 2>&1; echo ended >>%s"):format(30 * run.slow, q(inner), q(screen), q(screen)), "w")
  keyboard:setvbuf("no")
  local t = { dir = dir }
  local seen = 1
  -- Waits until it stands on the screen after what was found before.
  function t.shows(text)
    local at, stop
    run.wait_until(function()
      at, stop = run.read(screen):find(text, seen, true)
      return at
    end, 8)
    assert(at, "not shown: " .. text .. "\n" .. run.read(screen))
    seen = stop + 1
  end
  function t.type(text) keyboard:write(text) end
  function t.prompt() t.shows("> ") end
  function t.close()
    keyboard:close()
    return run.read(screen)
  end
  return t
end

local has_script = os.execute("command -v script >/dev/null")

describe("mprun's interactive mode", function()
  local function terminal_it(name, f)
    it(name, function()
      if not has_script then return pending("no script(1)") end
      f()
    end)
  end

  terminal_it("starts at a terminal, with edited lines, and ends with control-D", function()
    local t = at_terminal()
    t.shows("PUC-Rio")
    t.prompt()
    t.type("x = 41 + 2\127" .. "1\r") -- rubs out a character
    t.prompt()
    t.type("'x='..x\r")
    t.shows("x=42")
    t.prompt()
    t.type("\4")
    t.shows("ended")
    t.close()
  end)

  terminal_it("takes statements of several lines", function()
    local t = at_terminal()
    t.prompt()
    t.type("for i = 1, 2 do\r")
    t.shows(">> ")
    t.type("print('it' .. i * 11) end\r")
    t.shows("it11")
    t.shows("it22")
    t.type("\4")
    t.close()
  end)

  terminal_it("keeps a history for the next session", function()
    local t = at_terminal()
    t.prompt()
    t.type("'first' .. 1\r")
    t.shows("first1")
    t.prompt()
    t.type("'sec\\\\ond' .. 2\r")
    t.shows("sec\\ond2")
    t.prompt()
    t.type("\4")
    t.shows("ended")
    t.close()
    assert.equal("'first' .. 1\n'sec\\\\\\\\ond' .. 2\n", run.read(t.dir .. "/state/mp/history"))
    local again = at_terminal{ "XDG_STATE_HOME=" .. q(t.dir .. "/state") }
    again.prompt()
    again.type("\27[A\27[A\r") -- twice up
    again.shows("\nfirst1")
    again.prompt()
    again.type("\4")
    again.close()
  end)

  terminal_it("does without a history that it cannot write", function()
    local t = at_terminal{ "XDG_STATE_HOME=/dev/null/x", "HOME=/dev/null" }
    t.prompt()
    t.type("'wor' .. 'ks'\r")
    t.shows("works")
    t.type("\4")
    local screen = t.close()
    assert.falsy(screen:find("history", 1, true))
  end)

  terminal_it("is there in a sandbox too, with plain lines", function()
    if run.mode ~= "release" or not require "mp".sandbox.available().ok then return pending("no sandbox here") end
    local t = at_terminal({}, "--sandbox=pure")
    t.prompt()
    t.type("print('in' .. 'side')\r")
    t.shows("inside")
    t.prompt()
    t.type("never()")
    t.shows("never()")
    t.type("\3")
    t.prompt()
    t.type("print('run' .. 'ning') while true do end\r")
    t.shows("running")
    t.type("\3")
    t.shows("interrupted!") -- before the prompt, or behind it: errors come by another way
    t.type("io.open('/etc/passwd')\r")
    t.shows("needs read")
    t.type("\4")
    t.shows("sandbox:")
    t.shows("ended")
    local screen = t.close()
    assert.falsy(screen:find("memfd", 1, true), screen)
    assert.falsy(screen:find("attempt to call", 1, true), screen)
  end)

  terminal_it("gives up the line, or the lines, at control-C", function()
    local t = at_terminal()
    t.prompt()
    t.type("print('never' .. 'run')")
    t.shows("'run')")
    t.type("\3")
    t.prompt()
    t.type("while true do\r")
    t.shows(">> ")
    t.type("\3")
    t.prompt()
    t.type("'still' .. 'here'\r")
    t.shows("stillhere")
    t.prompt()
    t.type("\4")
    local screen = t.close()
    assert.falsy(screen:find("neverrun", 1, true))
  end)

  terminal_it("stops what runs at control-C and goes on", function()
    local t = at_terminal()
    t.prompt()
    t.type("print('run' .. 'ning') while true do end\r")
    t.shows("running")
    t.type("\3")
    t.shows("interrupted!")
    t.prompt()
    t.type("'still' .. 'here'\r")
    t.shows("stillhere")
    t.prompt()
    t.type("\4")
    t.close()
  end)

  it("reads from a pipe too, showing what it reads, and goes on after errors", function()
    local r = mprun({ "-i" }, { stdin = "error'e'\n1 + 1\n" })
    assert.equal(0, r.status)
    assert.truthy(r.out:find("> error'e'\n> 1 + 1\n2\n> \n", 1, true), r.out)
    assert.equal("stdin:1: e\nstack traceback:\n\t[C]: in function 'error'\n\tstdin:1: in main chunk\n\t[C]: in ?\n", r.err)
  end)

  it("says what is missing when the input ends inside a statement", function()
    local r = mprun({ "-i" }, { stdin = "f(\n" })
    assert.matches("^stdin:1: unexpected symbol near <eof>\n$", r.err)
    assert.equal(0, r.status)
  end)

  it("follows the script with -i", function()
    local path = file("s.lua", "x = ...")
    assert.matches("seven\n> \n$", out_of({ "-i", path, "seven" }, { stdin = "x\n" }))
  end)
end)

describe("SIGINT in mprun", function()
  -- Runs a program, waits for its first line ("ready"), sends signals and gives the rest of what it printed, and its status.
  local function interrupted(program, o)
    o = o or {}
    local dir = run.tmpdir()
    run.write(dir .. "/p.lua", "io.stdout:setvbuf'no'\n" .. program)
    local sends = {}
    for i = 1, o.signals or 1 do sends[i] = "kill -INT $pid 2>/dev/null" end
    local script = ([[
      timeout --foreground -s KILL %g %s p.lua >out 2>&1 </dev/null & job=$!
      n=0; until grep -q ready out 2>/dev/null || [ $n = 1000 ]; do sleep 0.02; n=$((n + 1)); done
      pid=$(cat pid); %s
      wait $job; echo $? >status]]):format((o.timeout or 20) * run.slow, q(run.path), table.concat(sends, o.between or "\n"))
    run.write(dir .. "/run.sh", "cd " .. q(dir) .. "\n" .. script)
    run.write(dir .. "/p.lua", "io.stdout:setvbuf'no'\nlocal f = io.open'/proc/self/stat' local pid = f:read'n' f:close()\n" ..
      "f = io.open('pid', 'w') f:write(pid) f:close()\nlocal function ready() print'ready' end\n" .. program)
    os.execute("sh " .. q(dir .. "/run.sh"))
    local text = run.read(dir .. "/out")
    assert.matches("^ready\n", text)
    return text:sub(7), tonumber(run.read(dir .. "/status"))
  end

  it("ends a loop with one message and status 1", function()
    local text, status = interrupted("ready() while true do end")
    assert.equal(1, status)
    assert.matches("^%S+: interrupted!\nstack traceback:\n[^:]*p%.lua:%d+: in main chunk\n\t%[C%]: in %?\n$", text)
  end)

  it("is an error that pcall catches, once", function()
    local text, status = interrupted("print(pcall(function() ready() while true do end end)) print(debug.gethook())")
    assert.equal("false\tinterrupted!\nnil\n", text)
    assert.equal(0, status)
  end)

  it("is the same message wherever it comes", function()
    local text = interrupted([[
      local function loop() while true do end end
      local function called(f) f() return 1 end
      ready()
      print(pcall(called, loop))]])
    assert.equal("false\tinterrupted!\n", text)
  end)

  it("reaches a coroutine", function()
    local text = interrupted("local co = coroutine.create(function() ready() while true do end end) print(coroutine.resume(co))")
    assert.equal("false\tinterrupted!\n", text)
  end)

  it("reaches a coroutine that was made and resumed long before", function()
    local text = interrupted([[
      local co = coroutine.wrap(function() coroutine.yield() ready() while true do end end)
      co()
      for i = 1, 100 do coroutine.wrap(function() coroutine.yield(i) end)() end
      collectgarbage()
      print(pcall(co))]])
    assert.matches("^false\t.*interrupted!\n$", text)
  end)

  it("reaches a coroutine in a coroutine, and only it", function()
    local text = interrupted([[
      local outer = coroutine.wrap(function()
        local inner = coroutine.create(function() ready() while true do end end)
        print(coroutine.resume(inner))
        coroutine.yield("outer goes on")
        return "and on"
      end)
      print(outer()) print(outer())]])
    assert.equal("false\tinterrupted!\nouter goes on\nand on\n", text)
  end)

  it("reaches a loop that only switches between coroutines", function()
    local text = interrupted([[
      local co = coroutine.wrap(function() while true do coroutine.yield() end end)
      print(pcall(function() ready() while true do co() end end))]])
    assert.matches("^false\t.*interrupted!\n$", text)
  end)

  it("reaches a loop that makes coroutines", function()
    local text = interrupted([[
      print(pcall(function() ready() while true do coroutine.wrap(function() coroutine.yield() end)() end end))]])
    assert.matches("^false\t.*interrupted!\n$", text)
  end)

  it("reaches a coroutine that is being closed", function()
    local text = interrupted([[
      local co = coroutine.create(function()
        local x <close> = setmetatable({}, { __close = function() ready() while true do end end })
        coroutine.yield()
      end)
      coroutine.resume(co)
      print(coroutine.close(co))]])
    assert.equal("false\tinterrupted!\n", text)
  end)

  it("leaves the hooks that a script had set as they were, in coroutines too", function()
    local text = interrupted([[
      local n = 0
      local function hook() n = n + 1 end
      debug.sethook(hook, "", 1000)
      local co = coroutine.create(function() coroutine.yield() end)
      coroutine.resume(co)
      debug.sethook(co, hook, "r", 7)
      print(pcall(function() ready() while true do end end))
      local f, mask, count = debug.gethook()
      print(f == hook, mask, count)
      f, mask, count = debug.gethook(co)
      print(f == hook, mask, count)
      local before = n
      for i = 1, 1e5 do end
      print(n > before)]])
    assert.equal("false\tinterrupted!\ntrue\t\t1000\ntrue\tr\t7\ntrue\n", text)
  end)

  it("comes behind a finalizer that waits, which sleeps on", function()
    local text = interrupted([[
      print(pcall(function()
        setmetatable({}, { __gc = function()
          local used = os.clock()
          ready()
          mp.sleep(1)
          print(os.clock() - used < 0.3)
        end })
        collectgarbage()
        while true do end
      end))]])
    assert.equal("true\nfalse\tinterrupted!\n", text)
  end)

  it("comes to one error when it comes twice at once", function()
    local text, status = interrupted([[
      local ok, message = pcall(function() ready() while true do end end)
      print(ok, message)
      pcall(mp.sleep, 0.5)]], { signals = 2, between = " & \n" })
    -- The second may arrive after the first was handled: then it is an error of its own, never the end by a signal.
    assert.truthy(status == 0 or status == 1)
    assert.matches("interrupted!", text)
  end)

  it("can be caught again and again", function()
    local text, status = interrupted([[
      ready()
      for i = 1, 3 do print(pcall(function() while true do end end)) end]], { signals = 3, between = "\nsleep 0.3\n" })
    assert.equal(("false\tinterrupted!\n"):rep(3), text)
    assert.equal(0, status)
  end)

  it("ends code in which hooks do not run, if it comes again a while later", function()
    local _, status = interrupted("debug.sethook(function() ready() while true do end end, 'l')\nlocal x = 1", { signals = 2, between = "\nsleep 1.5\n" })
    assert.equal(130, status)
  end)

  it("ends a blocking read", function()
    local text, status = interrupted([[
      local p = io.popen("sleep 60 & echo $!; wait")
      local child = p:read("l")
      ready()
      print(pcall(p.read, p))
      os.execute("kill " .. child)]])
    assert.matches("^false\t.*interrupted!\n$", text)
    assert.equal(0, status)
  end)

  it("ends a sleep of mp, in a coroutine too", function()
    assert.matches("interrupted!", (interrupted("ready() mp.sleep(30)")))
    local text = interrupted("coroutine.wrap(function() print(pcall(function() ready() mp.sleep(30) end)) end)() print'on'")
    assert.matches("^false\t.*interrupted!\non\n$", text)
  end)
end)
