-- Native code in a confined worker: a C module (raw.c) that makes any system call, against every tier. Each attack runs in a fresh worker.
-- Those whose control run fails on this machine are left out, aloud; see also runtime/sandbox/jail_test.c, which has the longer list.
local mp = require "mp"
local run = require "spec.support.run"

local EPERM <const>, EACCES <const>, ENOSYS <const> = 1, 13, 38
local dir, raw

setup(function()
  dir = run.tmpdir()
  os.execute("chmod 755 " .. dir .. " && mkdir " .. dir .. "/in " .. dir .. "/out")
  run.write(dir .. "/in/file", "text")
  run.write(dir .. "/secret", "secret")
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

for _, tier in ipairs { "pure", "read", "write", "net", "run" } do
  it("a worker with the tier " .. tier .. " is held", function()
    assert(raw.call("getpid") == mp.getpid()) -- the control: outside, the module's calls are the kernel's
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
    local p, ok = attack(policy, function() return require "raw".int80() end)
    assert.is_true(judge("F", p, ok), "int 0x80")
    p, ok = attack(policy, function() return require "raw".call(0x40000000 | 39) end)
    assert.is_true(judge("F", p, ok), "x32")
    assert.equal("secret", run.read(dir .. "/secret"))
    assert.equal("text", run.read(dir .. "/in/file"))
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
