-- Attacks on confined workers, from Lua and by native code: a C module (raw.c) that makes any system call. Each runs in a fresh worker; under
-- root the calls are tried once more from a program that an ordinary user has started. docs/internals/attacks.md is the list of all attacks and
-- says where each is tried; most of the system calls, with a control run outside for each, are in runtime/sandbox/jail_test.c.
local mp = require "mp"
local run = require "spec.support.run"

local EPERM <const>, EACCES <const>, ENOSYS <const> = 1, 13, 38
local dir, raw

-- Sanitizers watch who reads where, and have memory of their own.
local unsanitized = (run.mode == "asan" or run.mode == "tsan") and function() end or it

setup(function()
  dir = run.tmpdir()
  os.execute(("chmod 755 %s && mkdir -m 755 %s/in && mkdir -m 777 %s/out"):format(dir, dir, dir))
  run.write(dir .. "/in/file", "text")
  run.write(dir .. "/secret", "secret")
  os.execute(("chmod 644 %s/in/file %s/secret"):format(dir, dir))
  local inc = io.popen("pkg-config --cflags lua5.4 2>/dev/null"):read "a":gsub("%s+$", "")
  if inc == "" then inc = "-I/usr/include/lua5.4" end
  local r = run.command { "sh", "-c", ("${CC:-cc} -shared -fPIC -O1 %s -o %s/raw.so spec/sandbox/raw.c"):format(inc, dir) }
  assert(r.status == 0, r.err)
  package.cpath = dir .. "/?.so;" .. package.cpath
  raw = require "raw"
end)

local function tiers()
  return {
    pure = { modules = { "raw" } },
    read = { modules = { "raw" }, read = { dir .. "/in" } },
    write = { modules = { "raw" }, write = { dir .. "/out" } },
    net = { modules = { "raw" }, net = { connect = { 443 } } },
    run = { modules = { "raw" }, run = { "/usr/bin/sort" } },
  }
end

-- expected: "E" a refusal with one record; "N" ENOSYS, no record; "K" ended with a record; "F" ended by the filter; "S" refused silently
local CWD <const> = -100
local function attacks()
  local me, secret, file = mp.getpid(), dir .. "/secret", dir .. "/in/file"
  local zeros = ("\0"):rep(256)
  return {
    { "E", "openat", CWD, "/etc/passwd", 0 },
    { "E", "openat", CWD, secret, 0 },
    { "E", "openat", CWD, file, 0x200 }, -- O_TRUNC
    { "E", "openat", CWD, file, 0x200000 }, -- O_PATH
    { "E", "openat", CWD, "/proc/self/mem", 2 },
    { "E", "openat", CWD, "/proc/" .. me .. "/environ", 0 },
    { "N", "openat2", CWD, "/etc/passwd", zeros, 24 },
    { "E", "linkat", CWD, file, CWD, dir .. "/out/hard", 0 },
    { "E", "symlinkat", "/etc/passwd", CWD, dir .. "/out/sym" },
    { "E", "fchmodat", CWD, file, 511 },
    { "E", "truncate", file, 0 },
    { "E", "mknodat", CWD, dir .. "/out/fifo", 0x1180, 0 },
    { "K", "ptrace", 0x4206, me, 0, 0 },
    { "K", "process_vm_readv", me, zeros, 0, zeros, 0, 0 },
    { "E", "kill", me, 0 }, { "E", "kill", -1, 0 }, { "E", "tkill", me, 0 }, { "E", "tgkill", me, me, 0 },
    { "N", "pidfd_open", me, 0 },
    { "E", "prctl", 4, 1 }, -- PR_SET_DUMPABLE
    { "E", "prlimit64", me, 4, 0, zeros },
    { "E", "setpriority", 0, me, 0 },
    { "N", "clone3", zeros, 88 },
    { "E", "clone", 0x10000000 | 17 }, -- CLONE_NEWUSER
    { "E", "clone", 0x8000 | 17 }, -- CLONE_PARENT
    { "E", "execve", "/bin/true", 0, 0 },
    { "E", "ioctl", 1, 0x5412, "x" }, { "E", "ioctl", 1, 0x5412 | 1 << 32, "x" }, -- TIOCSTI
    { "K", "bpf", 0, zeros, 128 }, { "K", "io_uring_setup", 4, zeros }, { "K", "userfaultfd", 1 }, { "K", "keyctl", 0, -3, 1 },
    { "K", "unshare", 0x10000000 }, { "K", "setns", 0, 0 }, { "K", "mount", "none", "/none", "tmpfs", 0, 0 }, { "K", "chroot", "/" },
    { "K", "personality", 0x40000 },
    { "E", "mmap", 0, 4096, 7, 0x22, -1, 0 },
    { "E", "socket", 1, 1, 0 }, { "E", "socket", 16, 3, 0 }, { "E", "socket", 2, 1, 262 },
    { "E", "shmget", 0, 4096, 384 },
    { "E", "rt_sigaction", 31, zeros, 0, 8, except = "run" },
    { "E", "memfd_create", "x", 0, except = "run" },
    { "N", 500 }, { "N", 0x7fffffff }, { "N", -1 },
  }
end

local function judge(expected, p, ok, r, errno)
  if not ok then
    if expected == "F" then return p.exitcode == -31 and p.error.kind == "sandbox" end
    return expected == "K" and p.error.kind == "sandbox" and p.exitcode == -9 and #p.violations == 1
  end
  if r ~= nil then return false end
  if expected == "N" then return errno == ENOSYS and #p.violations == 0 end
  return expected == "E" and (errno == EPERM or errno == EACCES) and #p.violations == 1
end

local function attack(policy, f, args)
  local p = mp.Process { target = f, args = args, sandbox = policy }
  p:start()
  assert.is_true(p:join(30))
  return p, pcall(p.result, p)
end

-- Has the kernel an entry for 32-bit programs? Where it has none, int 0x80 ends a process by SIGSEGV, outside a sandbox too.
local int80_outside
setup(function()
  run.write(dir .. "/int80.c", 'int main(void) { long r; ' ..
    '__asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory", "r8", "r9", "r10", "r11"); return r <= 0; }')
  local r = run.command { "sh", "-c", ("${CC:-cc} -o %s/int80 %s/int80.c && exec %s/int80"):format(dir, dir, dir) }
  int80_outside = r.status == 0
end)

-- Tries all of them; the control: outside, the module's calls are the kernel's.
local function try_all(tier)
  assert(raw.call("getpid") == mp.getpid())
  assert(raw.call("openat", CWD, "/etc/passwd", 0))
  local policy = tiers()[tier]
  for _, a in ipairs(attacks()) do
    if a.except ~= tier then
      local args = table.pack(table.unpack(a, 2))
      local p, ok, r, errno = attack(policy, function(...) return require "raw".call(...) end, args)
      if not judge(a[1], p, ok, r, errno) then
        error(("%s %s %s: got %s, errno %s, exit %s, %d records %s; wanted %s"):format(
          a[2], tostring(a[3]), tostring(a[4]), tostring(r), tostring(errno), tostring(p.exitcode), #p.violations, tostring(p.violations[1]), a[1]))
      end
    end
  end
  local p, ok
  if int80_outside then
    p, ok = attack(policy, function() return require "raw".int80() end)
    assert(judge("F", p, ok), "int 0x80")
  elseif run.slow == 1 then -- a sanitizer makes a report of the signal
    p = attack(policy, function() return require "raw".int80() end)
    assert.equal(-11, p.exitcode)
  end
  p, ok = attack(policy, function() return require "raw".call(0x40000000 | 39) end)
  assert(judge("F", p, ok), "x32")
  assert(run.read(dir .. "/secret") == "secret")
  assert(run.read(dir .. "/in/file") == "text")
  return true
end

-- In a program of an ordinary user: `f`'s results, or "out of reach" if such a user cannot start this build.
local NOBODY <const> = 65534
local function as_a_user(f, ...)
  local p = mp.Process { target = function(...)
    assert(raw.call("setgroups", 0, 0) and raw.call("setresgid", NOBODY, NOBODY, NOBODY) and raw.call("setresuid", NOBODY, NOBODY, NOBODY))
    local there = io.open(run.path, "rb")
    if not there then return "out of reach" end
    there:close()
    return f(...)
  end, args = table.pack(...), start_method = "fork" }
  p:start()
  assert.is_true(p:join(120))
  return p:result()
end

for _, tier in ipairs { "pure", "read", "write", "net", "run" } do
  it("a worker with the tier " .. tier .. " is held", function() assert.is_true(try_all(tier)) end)
  it("a worker with the tier " .. tier .. " is held, of a program that a user has started", function()
    if not mp.sandbox.available().root then return pending "root tries it; the test above was by a user" end
    local r = as_a_user(try_all, tier)
    if r == "out of reach" then return pending "a user cannot start this build where it is" end
    assert.is_true(r)
  end)
end

it("only the granted descriptors exist", function()
  local q = mp.Queue()
  local p, ok, list = attack({ modules = { "raw" } }, function(_)
    local found = {}
    for fd = 0, 1023 do
      if require "raw".call("fcntl", fd, 1, 0) then found[#found + 1] = fd end
    end
    return found
  end, { q })
  assert.is_true(ok, tostring(list))
  assert.equal(0, p.exitcode)
  assert(#list <= 11, table.concat(list, " ")) -- standard, two for the result, a page of its own, the queue's five
end)

local function confined_raw(more)
  local policy = { modules = { "raw" } }
  for k, v in pairs(more or {}) do policy[k] = v end
  return policy
end

-- The results of what must succeed in there.
local function inside(policy, f, ...)
  local r = table.pack(attack(policy, f, table.pack(...)))
  if not r[2] then error(tostring(r[3]), 2) end
  return table.unpack(r, 3, r.n)
end

local function descriptors()
  local n = 0
  for fd = 0, 1023 do if raw.call("fcntl", fd, 1, 0) then n = n + 1 end end
  return n
end

it("a link that is swapped while it is opened leads nowhere else", function()
  local begun, done = mp.Event(), mp.Event()
  local p = mp.Process { target = function(name, b, d)
    local text, refused = 0, 0
    b:set()
    for _ = 1, 20000 do
      local f = io.open(name)
      if f then
        local s = f:read "a"
        f:close()
        if s ~= "text" then d:set() return "escaped: " .. s end
        text = text + 1
      else
        refused = refused + 1
      end
      if text >= 50 and refused >= 50 then break end
    end
    d:set()
    return text, refused
  end, args = { dir .. "/in/swapped", begun, done }, sandbox = { read = { dir .. "/in" } } }
  assert(raw.call("symlinkat", "file", CWD, dir .. "/in/swapped"))
  p:start()
  assert.is_true(begun:wait(20))
  for i = 1, math.huge do -- outside, by who may
    if done:is_set() or not p:is_alive() then break end
    assert(raw.call("symlinkat", i % 2 == 1 and dir .. "/secret" or "file", CWD, dir .. "/in/next"))
    assert(os.rename(dir .. "/in/next", dir .. "/in/swapped"))
    if i % 50 == 0 then mp.sleep(0.001) end
  end
  assert.is_true(p:join(60))
  local text, refused = p:result()
  os.remove(dir .. "/in/swapped")
  assert.is_number(text, text)
  assert(text > 0 and refused > 0, ("never both: read %s, refused %s"):format(text, refused))
end)

it("a fellow worker cannot be signalled", function()
  local ready = mp.Event()
  local fellow = mp.Process { target = function(e) e:set() mp.sleep(100) end, args = { ready }, sandbox = "pure" }
  fellow:start()
  assert.is_true(ready:wait(20))
  for _, pid in ipairs { fellow.pid, -1, 0 } do
    local p, ok, r, errno = attack(confined_raw(), function(n) return require "raw".call("kill", n, 15) end, { pid })
    assert.is_true(judge("E", p, ok, r, errno), tostring(p.violations[1]))
  end
  assert.is_true(fellow:is_alive())
  fellow:kill()
  fellow:join(10)
end)

-- Sends copies of its standard output into whatever takes them; `sent` counts (a record that is none spoils the result).
local function press(_, sent, n)
  for _, text in ipairs { "x", ("\0"):rep(100), "MPRP\1\0\0\0" .. ("\255"):rep(40) } do
    for fd = 3, 40 do -- the socket for results, those of the queue, whatever there is
      for _ = 1, 3 do if require "raw".send_fds(fd, n, text) then sent:add(1) end end
    end
  end
end

it("descriptors that are pressed upon the owner are closed", function()
  local function round(n)
    local q, sent = mp.Queue(), mp.Value("i", 0)
    local p = attack(confined_raw(), press, { q, sent, n })
    assert.is_true(p:join(0))
    assert(sent.value > 0)
    pcall(q.get, q, 0)
    pcall(q.get, q, 0)
    q:close()
  end
  round(1)
  for _, n in ipairs { 1, 253 } do
    collectgarbage()
    collectgarbage()
    local before = descriptors()
    round(n)
    collectgarbage()
    collectgarbage()
    assert.equal(before, descriptors())
  end
end)

unsanitized("the owner's memory is not there", function()
  local secret = "a secret of the owner, " .. tostring(os.time())
  local _, ok, r = attack(confined_raw(), function(at, n) return require "raw".peek(at, n) end, { raw.address(secret), #secret })
  assert.equal(secret, raw.peek(raw.address(secret), #secret))
  assert(not ok or r ~= secret)
end)

unsanitized("the owner's environment and arguments are not there, nor what of them lies on the stack", function()
  local out = run.script(([[
    package.cpath = %q
    local mp = require "mp"
    local function look() local raw = require "raw" return raw.environ(), raw.stack_top(), arg end
    for _, sandbox in ipairs { { modules = { "raw" } }, false } do
      local p = mp.Process { target = look, sandbox = sandbox or nil, start_method = "spawn" }
      p:start()
      local environ, stack, a = p:result()
      table.sort(environ)
      print(sandbox and "confined" or "free", stack:find("s3cr3t", 1, true) and "on the stack" or "clean", a and a[1] or "no arguments")
      if sandbox then print(table.concat(environ, " ")) end
    end
  ]]):format(package.cpath), { "argument" }, {
    env = { SECRET = "s3cr3t", LUA_PATH = "/s3cr3t/?.lua;;", GLIBC_TUNABLES = "", LUA_INIT = "X = 1" },
  })
  assert.equal("", out.err)
  assert.equal("confined\tclean\tno arguments\nHOME=/ PATH=/usr/local/bin:/usr/bin:/bin TZ=:/etc/localtime\nfree\ton the stack\targument\n", out.out)
end)

it("the owner's output stream keeps its flags and its place", function()
  local out = run.script(([[
    package.cpath = %q
    local mp = require "mp"
    local function state()
      local f <close> = assert(io.open "/proc/self/fdinfo/1")
      return (f:read "a":gsub("mnt_id.*", ""))
    end
    print "first line"
    io.stdout:flush()
    local before = state()
    local p = mp.Process { target = function()
      local raw = require "raw"
      return raw.call("fcntl", 1, 4, 2048), raw.call("lseek", 1, 0, 0)
    end, sandbox = { modules = { "raw" }, write = %q } }
    p:start()
    local set = p:result()
    io.stderr:write(set == 0 and "set " or "not set ", before == state() and "same" or "changed")
  ]]):format(package.cpath, dir .. "/out"))
  assert.equal("set same", out.err) -- it could, on a pipe of its own
  assert.equal("first line\n", out.out)
end)

it("granted memory becomes no code, nor does a library that was written", function()
  local q = mp.Queue()
  local found, got = inside(confined_raw(), function(_)
    local n, through = 0, 0
    for fd = 3, 40 do
      if require "raw".call("fcntl", fd, 1, 0) then
        n = n + 1
        for flags = 1, 2 do if require "raw".call("mmap", 0, 4096, 5, flags, fd, 0) then through = through + 1 end end
      end
    end
    return n, through
  end, q)
  assert(found > 0)
  assert.equal(0, got)
  os.execute(("cp %s/raw.so %s/out/native.so"):format(dir, dir))
  assert.is_true(raw.dlopen(dir .. "/out/native.so"))
  local r, why = inside(confined_raw { write = dir .. "/out" }, function(name) return require "raw".dlopen(name) end, dir .. "/out/native.so")
  assert.is_nil(r)
  assert(why:find "ermi" or why:find "map", why)
end)

unsanitized("memory ends at its limit for native code too", function()
  local got = inside(confined_raw { limits = { memory = "16M" } }, function() return require "raw".hog(1 << 30) end)
  assert(got < 64 << 20, got)
  assert(got >= 8 << 20, got)
end)

describe("the Lua level:", function()
  it("bytecode is not loaded from a file either", function()
    run.write(dir .. "/in/code", string.dump(function() return 1 end))
    os.execute(("chmod 644 %s/in/code"):format(dir))
    assert(loadfile(dir .. "/in/code"))
    local r = { inside({ read = dir .. "/in" }, function(name)
      return loadfile(name) == nil, loadfile(name, "b") == nil, loadfile(name, "bt") == nil, (pcall(dofile, name)),
        load(function() return nil end, "x", "b") == nil, string.dump == nil
    end, dir .. "/in/code") }
    assert.same({ true, true, true, false, true, true }, r)
  end)

  it("no function of the libraries leads to the debug library, C modules or the registry", function()
    local r = inside("pure", function()
      local seen, found = {}, {}
      local wanted = { getregistry = true, sethook = true, setupvalue = true, upvaluejoin = true, loadlib = true, dump = true }
      local function look(name, t)
        if seen[t] then return end
        seen[t] = true
        for k, v in pairs(t) do
          local full = name .. "." .. tostring(k)
          if wanted[k] and v then found[#found + 1] = full end
          if type(v) == "table" then look(full, v) end
          local m = type(v) ~= "function" and getmetatable(v)
          if type(m) == "table" then look(full .. "<meta>", m) end
        end
      end
      look("_G", _G)
      return found
    end)
    assert.same({}, r)
  end)

  it("a C module that was not granted is not found, whatever the paths say", function()
    local r = { inside({ read = dir, modules = {} }, function(d)
      package.cpath, package.path = d .. "/?.so", d .. "/?.so;" .. d .. "/?.lua"
      return (pcall(require, "raw")), package.loadlib == nil, #package.searchers
    end, dir) }
    assert.same({ false, true, 2 }, r)
  end)

  it("limits hold for whoever sorts, replaces and finalises without an end", function()
    for _, f in ipairs {
      function() table.sort({ 1, 2, 3, 4, 5 }, function() while true do end end) end,
      function() return (("x"):rep(1 << 20)):gsub(".-b", "") end,
      function() while true do setmetatable({}, { __gc = function() while true do end end }) end end,
      function() collectgarbage "stop" while true do pcall(string.rep, "x", 1000) end end,
      function() local t = setmetatable({}, { __index = function(t, k) return t[k] end }) while true do pcall(function() return t.x end) end end,
    } do
      local p = mp.Process { target = f, sandbox = "pure", limits = { cpu = 0.2 } }
      p:start()
      assert.is_true(p:join(30))
      assert.equal("cpu", p.error and p.error.kind)
    end
  end)

  it("what ends, ends as an error, and the worker lives", function()
    local r = { inside("pure", function()
      local deep = setmetatable({}, {})
      getmetatable(deep).__index = function(t, k) return t[k] end
      local function f() return (pcall(f)) end
      return (pcall(string.rep, "x", 1 << 40)), (pcall(function() return deep.x end)), type(f()),
        (pcall(string.find, ("a"):rep(300000), (".-"):rep(300000) .. "b")), (load("x = " .. ("{"):rep(100000))) == nil,
        (pcall(string.format, "%99999d", 1)), (pcall(table.concat, setmetatable({}, { __len = function() return 1 << 40 end })))
    end) }
    assert.same({ false, false, "boolean", false, true, false, false }, r)
  end)

  it("standard input is empty, the locale and the collector are its own", function()
    local before = os.setlocale()
    local r = { inside("pure", function()
      collectgarbage "stop"
      return io.stdin:read "a", os.setlocale("C", "all") ~= nil, collectgarbage "isrunning"
    end) }
    assert.same({ "", true, false }, r)
    assert.equal(before, os.setlocale())
    assert.is_true(collectgarbage "isrunning")
  end)
end)
