-- leaks.lua -- makes and drops objects, processes and messages by the thousand: everything must be as it was.
--   mprun spec/stress/leaks.lua [SECONDS]
-- With fewer than ten seconds the numbers are a tenth.
local mp = require "mp"

local scale = (tonumber(arg[1]) or 10) < 10 and 0.1 or 1

local function lines(command)
  local f <close> = assert(io.popen(command))
  return f:read("n")
end

local function status(field)
  for l in io.lines("/proc/self/status") do
    local v = l:match("^" .. field .. ":%s+(%d+)")
    if v then return tonumber(v) end
  end
end

local function count(pattern)
  local n = 0
  for l in io.lines("/proc/self/maps") do if l:find(pattern, 1, true) then n = n + 1 end end
  return n
end

local function now()
  collectgarbage()
  collectgarbage()
  return { descriptors = lines("sleep 0.05; ls /proc/" .. mp.getpid() .. "/fd | wc -l"), mappings = count("memfd:"), KiB = status("VmRSS"),
           threads = status("Threads"), children = #mp.active_children() }
end

local function check(what, n, f)
  n = math.max(1, n * scale // 1 | 0)
  f(math.max(1, n // 20)) -- warm: caches and tables have their size
  local before = now()
  f(n)
  local after, deadline = now(), mp.now() + 10
  local function more(k) return after[k] > before[k] + (k == "KiB" and 4096 or 0) end
  for k, v in pairs(before) do
    -- What others hold for us, a manager that is ending, say, comes back in their time: a leak never does.
    while more(k) and mp.now() < deadline do after = now() end
    if more(k) then
      io.stderr:write(("leaks: %d %s: %d %s before, %d after\n"):format(n, what, v, k, after[k]))
      os.exit(1)
    end
  end
  print(("%-44s %6d: %d descriptors, %d KiB"):format(what, n, after.descriptors, after.KiB))
end

local makers = {
  function() return mp.Queue() end, function() return mp.Queue { redeliver = true } end, function() return mp.Pipe() end, mp.Lock, mp.RLock,
  function() return mp.Semaphore(2) end, function() return mp.Semaphore { 2, owned = true } end, mp.Condition, mp.Event,
  function() return mp.Barrier(2) end, function() return mp.Value("d", 1) end, function() return mp.Array("i", 10) end, mp.Dict, mp.List,
}

check("objects made and dropped", 10000, function(n)
  for i = 1, n do
    local o = makers[i % #makers + 1]()
    if i % 1000 == 0 then collectgarbage() end
    assert(o)
  end
end)

check("objects alive at once", 3000, function(n)
  local all = {}
  for i = 1, n do all[i] = makers[i % #makers + 1]() end
  assert(#all == n)
end)

check("processes started and joined", 5000, function(n)
  for _ = 1, n do
    local p = mp.Process { target = function() end }
    p:start()
    p:join()
  end
end)

check("handles sent and never received", 1000, function(n)
  for _ = 1, n / 50 do
    local q = mp.Queue()
    for _ = 1, 50 do q:put(mp.Lock()) end
  end
end)

check("handles sent and received", 2000, function(n)
  local q = mp.Queue()
  for _ = 1, n do
    q:put { mp.Event(), mp.Lock() }
    q:get()
  end
end)

check("processes that die with things in hand", 300, function(n)
  local q = mp.Queue { redeliver = true }
  for _ = 1, n do
    q:put { mp.Lock() }
    local p = mp.Process { target = function() q:get() os.exit(3) end }
    p:start()
    p:join()
    q:get()
    q:task_done()
  end
end)

check("results with objects in them", 300, function(n)
  for _ = 1, n do
    local p = mp.Process { target = function() return mp.Queue(), { mp.Event() } end }
    p:start()
    assert(p:result())
  end
end)

check("managers and their objects", 60, function(n)
  for _ = 1, n do
    local m <close> = mp.Manager()
    local d = m:dict()
    for i = 1, 20 do d[i] = m:list { i } end
    for i = 1, 20 do assert(#d[i] == 1) end
  end
end)
print("leaks: none")
