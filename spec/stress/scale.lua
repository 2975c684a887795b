-- scale.lua -- large numbers: waiters, backlogs, messages, objects.
--   mprun spec/stress/scale.lua [SECONDS]
-- With fewer than sixty seconds the numbers are smaller. Times are printed, not judged; what is judged is that all are served, that memory goes
-- back, and that sleeping costs nothing.
local mp = require "mp"

local full = (tonumber(arg[1]) or 60) >= 60

local function must(ok, fmt, ...)
  if ok then return end
  io.stderr:write("scale: " .. fmt:format(...) .. "\n")
  os.exit(1)
end

local function shmem()
  for l in io.lines("/proc/meminfo") do
    local v = l:match("^Shmem:%s+(%d+)")
    if v then return tonumber(v) // 1024 end
  end
end


do
  local n, rest = full and 1000 or 100, full and 5 or 1
  local q, done = mp.Queue(), mp.Queue()
  local ps = {}
  for i = 1, n do
    ps[i] = mp.Process { target = function()
      local c = os.clock()
      local v = q:get()
      done:put { v, os.clock() - c }
    end }
    ps[i]:start()
  end
  mp.sleep(rest)
  for i = 1, n do q:put(i) end
  local sum, cpu = 0, 0
  for _ = 1, n do
    local t = done:get(60)
    must(t, "a waiter was not served")
    sum, cpu = sum + t[1], cpu + t[2]
  end
  must(sum == n * (n + 1) // 2, "messages got lost among %d waiters", n)
  for i = 1, n do must(ps[i]:join(60), "a waiter hangs") end
  print(("%d processes blocked on one queue for %d s: all served, %.2f ms of processor each in all"):format(n, rest, cpu / n * 1000))
  must(cpu / n < 0.05, "waiting cost %.3f s of processor a process", cpu / n)
end

do
  local q, before = mp.Queue(), shmem()
  for _, n in ipairs(full and { 1000, 100000, 1000000, 10000000 } or { 1000, 100000, 1000000 }) do
    local c = os.clock()
    for i = 1, n do q:put(i) end
    local c1 = os.clock()
    for i = 1, n do must(q:get() == i, "message %d is not what was put", i) end
    print(("backlog of %8d: put %4.0f ns, get %4.0f ns of processor"):format(n, (c1 - c) / n * 1e9, (os.clock() - c1) / n * 1e9))
  end
  must(shmem() - before < 64, "%d MiB of shared memory are left after the backlog", shmem() - before)
end

do
  local q, n = mp.Queue(), 1000000
  local t, m = {}, {}
  for i = 1, n do t[i], m["key" .. i] = i, i end
  q:put(t)
  local u = q:get()
  must(#u == n and u[n] == n, "a long table arrived otherwise")
  q:put(m)
  u = q:get()
  must(u.key77 == 77 and u["key" .. n] == n, "a large map arrived otherwise")
  print(("tables of %d entries as one message: whole"):format(n))
end

do
  local size = full and 1 << 30 or 1 << 26
  local a, b = mp.Pipe()
  local q = mp.Queue()
  local s = ("0123456789abcdef"):rep(size // 16)
  q:put(s)
  must(q:get() == s, "a large string arrived otherwise")
  a:send(s)
  must(b:recv() == s, "a large string arrived otherwise by the pipe")
  print(("a string of %d MiB as one message: whole"):format(size >> 20))
end

do
  local n, all = full and 10000 or 1000, {}
  local ok, why = pcall(function() for i = 1, n do all[i] = mp.Lock() end end)
  if ok then
    for i = 1, n, 97 do all[i]:acquire() all[i]:release() end
    print(("%d objects alive at once"):format(n))
  else
    must(tostring(why):find("ulimit -n", 1, true), "a limit without a sentence: %s", why)
    print(("%d objects, then: %s"):format(#all, why))
  end
end

do
  local f <close> = assert(io.popen("ulimit -n 64; exec " .. (os.getenv("MPRUN") or arg[-1]) .. [[ -e '
    for i = 1, 100 do mp.Lock() end -- garbage
    local some = {}
    local ok, why = pcall(function() for i = 1, 100 do some[i] = mp.Lock() end end)
    print(ok, #some > 40, why)
    some = nil
    print(mp.Lock():acquire())' 2>&1]]))
  local text = f:read("a")
  must(text:find("^false\ttrue\t.*ulimit %-n.*\ntrue\n"), "under ulimit -n 64: %s", text)
  print "under ulimit -n 64: as many as fit, then a sentence, then on"
end
print "scale: well"
