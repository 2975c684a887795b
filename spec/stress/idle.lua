-- idle.lua -- who waits costs nothing: a hundred waiters of every kind, and the processor's time that they take while nothing happens.
--   mprun spec/stress/idle.lua [SECONDS]
-- With fewer than sixty seconds there are ten of each kind, watched for some seconds. Processor time is read from the kernel's accounting of each
-- process (/proc/PID/schedstat), so other load on the machine does not count. A minute of a hundred may cost ten milliseconds; a short run is
-- judged by the same measure for each waiter and wake-up: it sees the first looks, which come close together.
local mp = require "mp"

local seconds = tonumber(arg[1]) or 60
local full = seconds >= 60
local each = full and 100 or 10
local rest = full and 60 or math.max(2, math.min(seconds, 20))
local bound = 0.010 -- seconds of processor for all waiters of a kind

local function must(ok, fmt, ...)
  if ok then return end
  io.stderr:write("idle: " .. fmt:format(...) .. "\n")
  os.exit(1)
end

local function cpu(pid)
  local f <close> = io.open(("/proc/%d/schedstat"):format(pid))
  return f and tonumber(f:read "a":match "^%d+") / 1e9
end

local here = mp.Value("q", 0)
local stop = mp.Event()
local kinds = {}

-- What `wait` does is called in each process, with what `prepare` gave there, and must not return before `free` has been called, once, by us.
local function kind(name, wait, free, prepare) kinds[#kinds + 1] = { name = name, wait = wait, free = free, prepare = prepare } end

do
  local q = mp.Queue()
  kind("queue:get", function() q:get() end, function() for i = 1, each do q:put(i) end end)
end
do
  local q = mp.Queue(1)
  q:put(0)
  kind("queue:put, full", function() q:put(1) end, function() for _ = 1, each + 1 do q:get(60) end end)
end
do
  local a, b = mp.Pipe()
  kind("pipe:recv", function() b:recv() end, function() for i = 1, each do a:send(i) end end)
end
do
  local l = mp.Lock()
  l:acquire()
  kind("lock", function() l:acquire() l:release() end, function() l:release() end)
end
do
  local s = mp.Semaphore(0)
  kind("semaphore", function() s:acquire() end, function() for _ = 1, each do s:release() end end)
end
do
  local c, go = mp.Condition(), mp.Value("i", 0)
  kind("condition", function()
    c:with(function() c:wait_for(function() return go.value == 1 end) end)
  end, function()
    c:with(function() go.value = 1 c:notify_all() end)
  end)
end
do
  local e = mp.Event()
  kind("event", function() e:wait() end, function() e:set() end)
end
do
  local b = mp.Barrier(each + 1)
  kind("barrier", function() b:wait() end, function() b:wait(60) end)
end
do
  local q, e = mp.Queue(), mp.Event()
  kind("mp.wait", function() mp.wait { q, e } end, function() e:set() end)
end
do
  kind("join", function(p) p:join() end, function() stop:set() end, function()
    local p = mp.Process { target = function() stop:wait() end }
    p:start()
    return p
  end)
end
do
  local d, held, go = mp.Dict(), mp.Event(), mp.Event()
  local holder = mp.Process { target = function() d:with(function() held:set() go:wait() end) end, daemon = true }
  kind("dict:with", function() d:with(function() end) end, function() go:set() end)
  kinds[#kinds].before = function()
    holder:start()
    held:wait()
  end
end
do
  local l = mp.List()
  local held, go = mp.Event(), mp.Event()
  local holder = mp.Process { target = function() l:with(function() held:set() go:wait() end) end, daemon = true }
  kind("list:append", function() l:append(1) end, function() go:set() end)
  kinds[#kinds].before = function()
    holder:start()
    held:wait()
  end
end

for _, k in ipairs(kinds) do
  if k.before then k.before() end
  k.processes = {}
  for i = 1, each do
    local p = mp.Process { target = function()
      local x = k.prepare and k.prepare()
      here:add(1)
      k.wait(x)
    end }
    p:start()
    k.processes[i] = p
  end
end
local limit = mp.now() + 60
while here.value < each * #kinds do
  must(mp.now() < limit, "only %d of %d waiters have begun", here.value, each * #kinds)
  mp.sleep(0.01)
end

-- They wait from now on, as soon as they have stopped looking.
local function asleep(pid)
  local f <close> = io.open(("/proc/%d/stat"):format(pid))
  return f and f:read "a":match "^.*%) (%a)" == "S"
end
for _, k in ipairs(kinds) do
  for _, p in ipairs(k.processes) do
    while not asleep(p.pid) do
      must(mp.now() < limit, "%s: a waiter does not sleep", k.name)
      mp.sleep(0.01)
    end
  end
end

local function total(k)
  local sum = 0
  for _, p in ipairs(k.processes) do
    local c = cpu(p.pid)
    must(c, "%s: a waiter is gone", k.name)
    sum = sum + c
  end
  return sum
end
mp.sleep(0.3)
local before, sum = {}, 0
for i, k in ipairs(kinds) do before[i] = total(k) end
mp.sleep(rest)
for i, k in ipairs(kinds) do
  k.cost = total(k) - before[i]
  sum = sum + k.cost
end
for _, k in ipairs(kinds) do print(("%-18s %4d waiters, %d s: %7.3f ms of processor"):format(k.name, each, rest, k.cost * 1000)) end
print(("idle: all %d waiters together: %.3f ms in %d s"):format(each * #kinds, sum * 1000, rest))
for _, k in ipairs(kinds) do
  k.free()
  for _, p in ipairs(k.processes) do must(p:join(60), "%s: a waiter hangs", k.name) end
end
for _, k in ipairs(kinds) do must(k.cost < bound, "%s: waiting cost %.3f ms of processor", k.name, k.cost * 1000) end
