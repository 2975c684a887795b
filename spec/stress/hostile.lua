-- hostile.lua -- a trusted owner uses a shared object through its whole interface while native code of a peer overwrites that object's memory.
--   mprun spec/stress/hostile.lua [SECONDS] [SEED] [KIND]
-- Each round takes one kind of object. An owner process (two threads of it) makes one, tells the runtime that it is in a stranger's hands, and uses it;
-- a peer process scribbles over it (spec/sandbox/scribble.c): free to make any system call, or confined. This program looks on: the owner
-- must come back from every call by the call's deadline and a grace, must not die, must not grow, and another object of that kind that
-- it shares with an honest peer must go on giving right answers. Ends with status 1 at the first thing that is not as it must be.
-- Environment: HOSTILE_GRACE, seconds beyond a deadline (2 tells most on a quiet machine; the default is for a busy one); HOSTILE_KEEP=1 leaves an owner
-- that hangs alive; HOSTILE_ONLY, names of ways to scribble, separated by commas.
local mp = require "mp"

local seconds = tonumber(arg[1]) or 10
local seed = tonumber(arg[2]) or os.time() * 1000003 % (1 << 31)
local only = arg[3]
local grace <const> = tonumber(os.getenv "HOSTILE_GRACE" or "20")
local COUNTERS <const> = 0x636f756e74 -- the mark of the array that counts what was overwritten
local GATE <const> = 25 -- calls without a deadline of their own: they give up after 10 s at each of two doors
math.randomseed(seed)
print(("hostile: seed %d, %g seconds"):format(seed, seconds))
io.stdout:setvbuf "line"

-- ---- the native module ----

local dir = io.popen "mktemp -d \"${TMPDIR:-/tmp}/mp-hostile.XXXXXX\"":read "l"
do
  local inc = io.popen "pkg-config --cflags lua5.4 2>/dev/null":read "a":gsub("%s+$", "")
  if inc == "" then inc = "-I/usr/include/lua5.4" end
  if not os.execute(("${CC:-cc} -shared -fPIC -O1 -pthread %s -o %s/scribble.so spec/sandbox/scribble.c"):format(inc, dir)) then
    io.stderr:write "hostile: the native module does not build\n"
    os.execute("rm -rf " .. dir)
    os.exit(1)
  end
  package.cpath = dir .. "/?.so;" .. package.cpath
end
local scribble = require "scribble"

local function die(fmt, ...)
  io.stderr:write(("hostile: seed %d: %s\n"):format(seed, fmt:format(...)))
  os.execute("rm -rf " .. dir)
  os.exit(1)
end

-- ---- what is done with an object ----
-- ops[kind](x, r) -> list of { name, seconds until its deadline (nil: it has none of its own), function }. r: random numbers.

local function value(r, depth)
  local k = r(depth and 7 or 5)
  if k == 1 then return r(1 << 40) end
  if k == 2 then return ("v"):rep(r(200)) end
  if k == 3 then return ("w"):rep(r(60000)) end
  if k == 4 then return r(2) == 1 end
  if k == 5 then return r(1000) / 7 end
  if k == 6 then return { value(r), value(r), x = value(r) } end
  return { mp.Event(), mp.Value("i", 7) }
end

local function timeout(r) return ({ 0, 0.0001, 0.002, 0.02, 0.1 })[r(5)] end

local T <const> = 0.1 -- the longest of these

local ops = {}

local function queue_ops(q, r)
  return {
    { "put", T, function() return q:put(value(r, true), timeout(r)) end },
    { "put", T, function() return q:put(value(r, true), timeout(r)) end },
    { "put_nowait", 0, function() return q:put_nowait(value(r, true)) end },
    { "get", T, function() return q:get(timeout(r)) end },
    { "get", T, function() return q:get(timeout(r)) end },
    { "get_nowait", 0, function() return q:get_nowait() end },
    { "put_many", T, function()
      local l = {}
      for i = 1, r(20) do l[i] = value(r, true) end
      return q:put_many(l, timeout(r))
    end },
    { "get_many", T, function() return q:get_many(r(20), timeout(r)) end },
    { "qsize", 0, function() return q:qsize(), q:empty(), q:full() end },
    { "task_done", nil, function() return q:task_done() end },
    { "join", T, function() return q:join(timeout(r)) end },
    { "close", nil, function()
      if r(100) == 1 then return q:close(r(2) == 1) end
      return q:is_closed()
    end },
    { "wait", T, function() return mp.wait({ q }, timeout(r)) end },
    { "items", T * 4, function()
      local n = 0
      for _ in q:items(T) do
        n = n + 1
        if n == 3 then break end
      end
    end },
  }
end
ops.queue, ops.bounded, ops.redeliver = queue_ops, queue_ops, queue_ops

function ops.pipe(x, r)
  local function end_() return x[r(2)] end
  return {
    { "send", T, function() return end_():send(value(r, true), timeout(r)) end },
    { "send", T, function() return end_():send(value(r, true), timeout(r)) end },
    { "recv", T, function() return end_():recv(timeout(r)) end },
    { "recv", T, function() return end_():recv(timeout(r)) end },
    { "recv_bytes", T, function() return end_():recv_bytes(r(5000), timeout(r)) end },
    { "poll", T, function() return end_():poll(timeout(r)) end },
    { "fileno", nil, function() return end_():fileno() end },
    { "wait", T, function() return mp.wait({ x[1], x[2] }, timeout(r)) end },
  }
end

local function lock_ops(l, r)
  return {
    { "acquire", T, function() return l:acquire(timeout(r)) end },
    { "acquire", T, function() return l:acquire(timeout(r)) end },
    { "release", nil, function() return l:release() end },
    { "release", nil, function() return l:release() end },
    { "locked", 0, function() return l:locked(), l:owner() end },
    { "both", T, function()
      local ok = l:acquire(timeout(r))
      if ok then l:release() end
      return ok
    end },
  }
end
ops.lock, ops.rlock = lock_ops, lock_ops

local function semaphore_ops(s, r)
  return {
    { "acquire", T, function() return s:acquire(timeout(r)) end },
    { "acquire", T, function() return s:acquire(timeout(r)) end },
    { "release", nil, function() return s:release() end },
    { "release", nil, function() return s:release(r(3)) end },
    { "value", 0, function() return s:value() end },
  }
end
ops.semaphore, ops.semaphore_bounded, ops.semaphore_owned = semaphore_ops, semaphore_ops, semaphore_ops

function ops.condition(c, r)
  return {
    { "acquire", T, function() return c:acquire(timeout(r)) end },
    { "release", nil, function() return c:release() end },
    { "wait", T + 6, function()
      if not c:acquire(timeout(r)) then return nil, "timeout" end
      local ok, why = c:wait(timeout(r))
      c:release()
      return ok, why
    end },
    { "wait_for", T + 6, function()
      if not c:acquire(timeout(r)) then return nil, "timeout" end
      local ok, why = c:wait_for(function() return r(4) == 1 end, timeout(r))
      c:release()
      return ok, why
    end },
    { "notify", nil, function()
      if not c:acquire(timeout(r)) then return nil, "timeout" end
      if r(2) == 1 then c:notify(r(3)) else c:notify_all() end
      return c:release()
    end },
  }
end

function ops.event(e, r)
  return {
    { "set", nil, function() return e:set() end },
    { "clear", nil, function() return e:clear() end },
    { "is_set", 0, function() return e:is_set() end },
    { "wait", T, function() return e:wait(timeout(r)) end },
    { "mp.wait", T + GATE, function() return mp.wait({ e }, timeout(r)) end },
  }
end

local function barrier_ops(b, r)
  return {
    { "wait", T, function() return b:wait(timeout(r)) end },
    { "wait", T, function() return b:wait(timeout(r)) end },
    { "reset", nil, function() return b:reset() end },
    { "abort", nil, function()
      if r(4) == 1 then b:abort() end
      return b:reset()
    end },
    { "look", nil, function() return b.parties, b.n_waiting, b.broken end },
  }
end
ops.barrier, ops.barrier_action = barrier_ops, barrier_ops

function ops.value(list, r)
  local function v() return list[r(#list)] end
  return {
    { "get", 0, function() return v().value end },
    { "set", 0, function() v().value = r(100) end },
    { "add", 0, function() return v():add(r(3) - 2) end },
    { "cas", 0, function()
      local x = v()
      return x:cas(x.value, x.value)
    end },
  }
end

function ops.array(list, r)
  local function a() return list[r(#list)] end
  return {
    { "read", 0, function() return a()[r(200)] end },
    { "write", 0, function() a()[r(200)] = r(100) end },
    { "get", 0, function() return a():get(r(100), 100 + r(100)) end },
    { "set", 0, function() return a():set(r(100), { r(9), r(9), r(9) }) end },
    { "fill", 0, function() return a():fill(r(9)) end },
    { "add", 0, function() return a():add(r(200), r(3) - 2) end },
    { "tostring", 0, function() return a():tostring() end },
    { "length", 0, function() return #a() end },
  }
end

-- Operations of containers have no timeout: they give up after 5 s where a stranger has the container too.
local C <const> = 6

function ops.dict(d, r)
  local function key()
    local k = r(4)
    if k == 1 then return r(50) end
    if k == 2 then return ("k"):rep(r(300)) end
    return "key " .. r(40)
  end
  local function item()
    local v = value(r)
    return r(8) == 1 and { v, v } or v
  end
  return {
    { "set", C, function() d[key()] = item() end },
    { "set", C, function() return d:set(key(), item()) end },
    { "get", C, function() return d:get(key(), 1) end },
    { "remove", C, function() d[key()] = nil end },
    { "update", C * 2, function() return d:update(key(), function() return item() end) end },
    { "incr", C, function() return d:incr("n" .. r(9), r(3)) end },
    { "setdefault", C, function() return d:setdefault(key(), item()) end },
    { "pop", C, function() return d:pop(key()) end },
    { "keys", C, function() return d:keys() end },
    { "values", C, function() return d:values() end },
    { "pairs", C, function() return pairs(d) end },
    { "length", C, function() return #d end },
    { "copy", C, function() return d:copy() end },
    { "clear", C, function() if r(10) == 1 then d:clear() end end },
    { "with", C * 3, function() return d:with(function() d[key()] = item() return d[key()] end) end },
  }
end

function ops.list(l, r)
  local function item() return value(r) end
  return {
    { "append", C, function() return l:append(item()) end },
    { "extend", C, function() return l:extend { item(), item(), item() } end },
    { "read", C, function() return l[r(30)] end },
    { "write", C, function() l[r(10)] = item() end },
    { "insert", C, function() return l:insert(r(5), item()) end },
    { "pop", C, function() return l:pop() end },
    { "pop at", C, function() return l:pop(r(4)) end },
    { "remove", C, function() return l:remove(item()) end },
    { "index", C, function() return l:index(item()) end },
    { "sort", C * 4, function() return l:sort(function(a, b) return tostring(a) < tostring(b) end) end },
    { "reverse", C, function() return l:reverse() end },
    { "copy", C, function() return l:copy() end },
    { "length", C, function() return #l end },
    { "ipairs", C * 4, function() for i in ipairs(l) do if i == 3 then break end end end },
    { "with", C * 3, function() return l:with(function() l[1] = item() return l[1] end) end },
  }
end

local CODES <const> = { "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "f", "d" }

local make = {
  queue = function() return mp.Queue { maxbytes = 1 << 22 } end,
  bounded = function() return mp.Queue { maxsize = 5, maxbytes = 1 << 22 } end,
  redeliver = function() return mp.Queue { redeliver = true, maxsize = 20, maxbytes = 1 << 22 } end,
  pipe = function() return table.pack(mp.Pipe()) end,
  lock = function() return mp.Lock() end,
  rlock = function() return mp.RLock() end,
  semaphore = function() return mp.Semaphore(2) end,
  semaphore_bounded = function() return mp.BoundedSemaphore(2) end,
  semaphore_owned = function() return mp.Semaphore { 3, owned = true } end,
  condition = function() return mp.Condition() end,
  event = function() return mp.Event() end,
  barrier = function() return mp.Barrier(2) end,
  barrier_action = function() return mp.Barrier(2, { action = function() end }) end,
  value = function()
    local l = {}
    for i, c in ipairs(CODES) do l[i] = mp.Value(c, 1) end
    return l
  end,
  array = function()
    local l = {}
    for i, c in ipairs(CODES) do l[i] = mp.Array(c, 200) end
    return l
  end,
  dict = function() return mp.Dict { a = 1, b = "two", c = { 3 } } end,
  list = function() return mp.List { 1, "two", { 3 } } end,
}

local kinds = {}
for k in pairs(make) do kinds[#kinds + 1] = k end
table.sort(kinds)

-- Uses x until told to stop. hb: what the onlooker sees: hb[at] when the call must be over (0: none runs), hb[at + 1] which, hb[at + 2] calls. Gives the
-- outcomes counted by name.
local function use(kind, x, seed_, hb, at, stop, check)
  math.randomseed(seed_)
  local r, seen, calls = math.random, {}, 0
  local list = ops[kind](x, r)
  list[#list + 1] = { "tostring", GATE, function() return tostring(kind == "pipe" and x[1] or x) end }
  while not stop:is_set() do
    local i = r(#list)
    local op = list[i]
    hb[at + 1] = i
    hb[at] = mp.now() + (op[2] or GATE)
    local ok, a, b = pcall(op[3])
    hb[at] = 0
    calls = calls + 1
    hb[at + 2] = calls
    local what = ok and (a == nil and type(b) == "string" and b or "ok") or tostring(a)
    if not ok then
      if what:find "attempt to" or what:find "not enough memory" then error(kind .. "." .. op[1] .. ": " .. what, 0) end
      what = what:gsub("^.-:%d+: ", ""):gsub("0x%x+", "N"):gsub("%-?%d[%d%.e+-]*", "N"):sub(1, 90)
    end
    what = op[1] .. ": " .. what
    seen[what] = (seen[what] or 0) + 1
    if check and calls % 64 == 0 then check() end
  end
  return seen
end

-- ---- the honest pair ----
-- honest[kind](y) -> function of the peer (run in its process until it is killed), check function of the owner. Numbers under `y` are kept in an
-- array of their own, which nobody scribbles over.

local function must(ok, fmt, ...) if not ok then error("the other object: " .. fmt:format(...), 0) end end

local PATIENCE <const> = 60

local function echo(put, get, back, answer)
  local n = 0
  return function()
    while true do
      local v = get()
      back({ v[1] + 1, v[2] })
    end
  end, function()
    n = n + 1
    put({ n, ("e"):rep(n % 700) })
    local v = answer()
    must(type(v) == "table" and v[1] == n + 1 and v[2] == ("e"):rep(n % 700), "a wrong answer")
  end
end

local function queue_pair(options)
  return function()
    local q, back = mp.Queue(options), mp.Queue()
    return echo(function(v) q:put(v, PATIENCE) end, function()
      local v = q:get()
      q:task_done()
      return v
    end, function(v) back:put(v, PATIENCE) end, function() return (back:get(PATIENCE)) end)
  end
end

local function guarded(acquire, release)
  local a = mp.Array("q", 2)
  local function turn()
    must(acquire(), "it cannot be taken")
    local x, y = a[1], a[2]
    must(x == y, "%d and %d", x, y)
    a[1] = x + 1
    a[2] = y + 1
    release()
  end
  return function() while true do turn() mp.sleep(0.0005) end end, turn
end

local honest = {
  queue = queue_pair {}, bounded = queue_pair { maxsize = 2 }, redeliver = queue_pair { redeliver = true },
  pipe = function()
    local a, b = mp.Pipe()
    return echo(function(v) a:send(v, PATIENCE) end, function() return (b:recv()) end, function(v) b:send(v, PATIENCE) end,
      function() return (a:recv(PATIENCE)) end)
  end,
  event = function()
    local there, back = mp.Event(), mp.Event()
    return function()
      while true do
        there:wait()
        there:clear()
        back:set()
      end
    end, function()
      there:set()
      must(back:wait(PATIENCE), "no answer")
      back:clear()
    end
  end,
  barrier = function()
    local b = mp.Barrier(2)
    return function() while true do b:wait() end end, function()
      local rank = b:wait(PATIENCE)
      must(rank == 1 or rank == 2, "no rank")
    end
  end,
  condition = function()
    local c, v = mp.Condition(), mp.Value("q", 0)
    return function()
      while true do
        c:acquire()
        c:wait_for(function() return v.value % 2 == 1 end)
        v:add(1)
        c:notify_all()
        c:release()
      end
    end, function()
      must(c:acquire(PATIENCE), "it cannot be taken")
      local n = v:add(1)
      c:notify_all()
      must(c:wait_for(function() return v.value == n + 1 end, PATIENCE), "no answer")
      c:release()
    end
  end,
  value = function()
    local v, asked, n = mp.Value("q", 0), mp.Value("q", 0), 0
    return function()
      while true do
        if asked.value > v.value then v:add(1) end
        mp.sleep(0.0002)
      end
    end, function()
      n = n + 1
      asked.value = n
      local limit = mp.now() + PATIENCE
      while v.value ~= n do
        must(mp.now() < limit, "it stays at %d", v.value)
        mp.sleep(0.0002)
      end
    end
  end,
  dict = function()
    local d = mp.Dict()
    return function() while true do d:incr("sum") d[("k"):rep(math.random(40))] = { math.random() } mp.sleep(0.0005) end end, function()
      local before = d:get("sum", 0)
      must(d:incr("mine") >= 1 and d:get("sum", 0) >= before, "sums go back")
      for k, v in pairs(d) do
        if k ~= "sum" and k ~= "mine" then must(type(v) == "table" and type(v[1]) == "number", "a foreign value") end
      end
    end
  end,
  list = function()
    local l = mp.List()
    return function()
      local n = 0
      while true do
        n = n + 1
        l:append { n, ("z"):rep(n % 90) }
        mp.sleep(0.0005)
      end
    end, function()
      local v = l:pop(1)
      if v then must(("z"):rep(v[1] % 90) == v[2], "a foreign value") end
    end
  end,
}
honest.barrier_action, honest.array = honest.barrier, honest.value

local function lock_pair(new)
  return function()
    local l = new()
    return guarded(function() return l:acquire(PATIENCE) end, function() l:release() end)
  end
end
honest.lock, honest.rlock = lock_pair(mp.Lock), lock_pair(mp.RLock)
honest.semaphore = lock_pair(function() return mp.Semaphore(1) end)
honest.semaphore_bounded = lock_pair(function() return mp.BoundedSemaphore(1) end)
honest.semaphore_owned = lock_pair(function() return mp.Semaphore { 1, owned = true } end)

-- ---- a round ----

local function resident() -- KiB that are nobody else's
  for line in io.lines "/proc/self/status" do
    local n = line:match "^RssAnon:%s+(%d+)"
    if n then return tonumber(n) end
  end
end

local scribblings = {}
for name, i in pairs(scribble.kinds) do scribblings[i + 1] = name end

local function mask(confined)
  local m, wanted = 0, os.getenv "HOSTILE_ONLY"
  for name, i in pairs(scribble.kinds) do
    local able = not confined or (name ~= "punch" and name ~= "junk") -- the filter would count these, and end the process
    if able and (not wanted or ("," .. wanted .. ","):find("," .. name .. ",", 1, true)) then m = m | 1 << i end
  end
  return m
end

-- In a process of its own, with nothing of the owner's but what it was passed: finds the objects by their marks.
local function scribble_confined(x, stop, counters, first, last, seed_, kinds_, _)
  local s = require "scribble"
  local count
  for _, seg in ipairs(s.segments()) do if seg.cookie == COUNTERS then count = seg.fd end end
  for _, seg in ipairs(s.segments()) do
    if seg.cookie >= first and seg.cookie <= last then s.target { fd = seg.fd, tids = { mp.getpid() }, counters = count } end
  end
  for i = 1, 1 << 30 do
    s.burst(seed_ + i, 20000, kinds_)
    if stop:is_set() then return x, counters end
  end
end

local function owner(kind, seed_, length, hb, counters, confined)
  math.randomseed(seed_)
  local before = scribble.descriptors()
  local x = make[kind]()
  local fds, tids = {}, { mp.getpid() }
  for fd in pairs(scribble.descriptors()) do if not before[fd] then fds[#fds + 1] = fd end end
  local first = seed_ << 8
  local last = first - 1
  local segs = {}
  for _, s in ipairs(scribble.segments()) do
    if not before[s.fd] then
      if #segs < 8 then
        last = last + 1
        scribble.mark(s.fd, last)
        segs[#segs + 1] = s.fd
      end
    end
  end
  local sockets = {}
  for _, fd in ipairs(fds) do
    local segment = false
    for _, s in ipairs(scribble.segments()) do segment = segment or s.fd == fd end
    if not segment and #sockets < 16 then sockets[#sockets + 1] = fd end
  end
  local turn, check = honest[kind]()
  local stop = mp.Event()
  local peer = mp.Process { daemon = true, start_method = "fork", target = function() turn() end }
  peer:start()
  -- A process under a policy has it: from now on what comes out of it is a stranger's.
  local stranger = mp.Process { daemon = true, sandbox = { modules = confined and { "scribble" } or nil }, args = confined and
    { x, stop, counters, first, last, seed_, mask(true), nil } or { x }, target = confined and scribble_confined or function() end }
  local cpath = package.cpath
  stranger:start()
  package.cpath = cpath
  local foe
  if not confined then
    stranger:join(30)
    foe = mp.Process { daemon = true, start_method = "fork", target = function()
      tids[#tids + 1] = mp.getpid()
      local count
      for _, s in ipairs(scribble.segments()) do if s.cookie == COUNTERS then count = s.fd end end
      local pid = mp.parent_process().pid
      for i, fd in ipairs(segs) do
        scribble.target { fd = fd, fds = i == 1 and sockets or {}, tids = tids, owner = pid, counters = count }
      end
      scribble.thread(seed_, mask(false))
      use(kind, x, seed_ + 3, mp.Array("d", 3), 1, stop)
    end }
    foe:start()
  end
  collectgarbage()
  local small = resident()
  local _, few = scribble.descriptors()
  local other = mp.Thread { target = use, args = { kind, x, seed_ + 2, hb, 4, stop } }
  local ending = mp.Thread { target = function(e, s) mp.sleep(s) e:set() end, args = { stop, length } }
  other:start()
  ending:start()
  local seen = use(kind, x, seed_ + 1, hb, 1, stop, check)
  check()
  hb[1] = mp.now() + PATIENCE -- what follows is no call, but may hang as well
  if foe then foe:kill() foe:join() end
  must(not confined or stranger:is_alive() or stranger.exitcode == 0, "the confined peer has ended by itself, with %s", stranger.exitcode)
  stranger:kill()
  stranger:join()
  stranger:close() -- with the handles in what it returned, if it came to that
  other:join()
  local theirs = other:result()
  ending:join()
  for k, v in pairs(theirs) do seen[k] = (seen[k] or 0) + v end
  peer:kill()
  peer:join()
  collectgarbage()
  collectgarbage()
  local grown = resident() - small
  local _, many = scribble.descriptors()
  must(grown < 700000, "this process has grown by %d KiB", grown)
  if os.getenv "HOSTILE_VERBOSE" then io.stderr:write(("%s: %d descriptors more, %d KiB\n"):format(kind, many - few, grown)) end
  if many > few + 24 then os.execute("ls -l /proc/" .. mp.getpid() .. "/fd >&2") end
  must(many <= few + 24, "there were %d descriptors, there are %d", few, many)
  hb[1] = 0
  return seen, grown
end

local counters = mp.Array("q", #scribblings)
for _, s in ipairs(scribble.segments()) do if s.type == 10 then scribble.mark(s.fd, COUNTERS) end end -- the only array so far
local total, outcomes, rounds, cut = 0, {}, 0, 0
local per_kind = {}

local function judge_hang(p, kind, confined, at, hb)
  local list = ops[kind](nil, math.random)
  local i = math.tointeger(hb[at + 1])
  if os.getenv "HOSTILE_GDB" then
    os.execute(("gdb -p %d -batch -ex 'thread apply all bt 14' 2>/dev/null | grep -v '^\\[New\\|^warning' >&2"):format(p.pid))
  end
  if os.getenv "HOSTILE_KEEP" then
    io.stderr:write(("hostile: %d is kept\n"):format(p.pid))
    mp.sleep(100000)
  end
  p:kill()
  die("%s%s: '%s' is %.1f s late", kind, confined and ", confined peer" or "", list[i] and list[i][1] or "tostring", mp.now() - hb[at])
end

local function round(kind, length, confined)
  local hb = mp.Array("d", 6)
  local s = math.random(1 << 30)
  local p = mp.Process { name = kind, target = owner, args = { kind, s, length, hb, counters, confined }, start_method = "fork" }
  p:start()
  local limit = mp.now() + length + grace + 20
  while not p:join(0.05) do
    local now = mp.now()
    for at = 1, 4, 3 do
      local late = hb[at]
      if late ~= 0 and now > late + grace and hb[at] == late then judge_hang(p, kind, confined, at, hb) end
    end
    if now > limit then -- inside its bounds, but these are long
      cut = cut + 1
      p:kill()
      p:join()
      break
    end
  end
  rounds = rounds + 1
  total = total + math.tointeger(hb[3] + hb[6])
  per_kind[kind] = (per_kind[kind] or 0) + math.tointeger(hb[3] + hb[6])
  if p.exitcode == -9 then return end
  local ok, seen = pcall(p.result, p)
  if not ok or p.exitcode ~= 0 then
    die("%s%s, round seed %d: the owner ended with %s: %s", kind, confined and ", confined peer" or "", s, p.exitcode, tostring(seen))
  end
  for what, n in pairs(seen) do
    local key = kind .. " " .. what
    outcomes[key] = (outcomes[key] or 0) + n
  end
end

local chosen = only and { only } or kinds
local length = math.max(0.12, math.min(1, seconds / #chosen * 0.6))
local finish = mp.now() + seconds
local turn = 0
repeat
  for _, kind in ipairs(chosen) do
    turn = turn + 1
    if not make[kind] then die("no such kind: %s", kind) end
    round(kind, length, turn % 4 == 0)
    if mp.now() > finish and turn >= #chosen then break end
  end
until mp.now() > finish

if os.getenv "HOSTILE_VERBOSE" then
  local names = {}
  for k in pairs(outcomes) do names[#names + 1] = k end
  table.sort(names)
  for _, k in ipairs(names) do print(("%8d  %s"):format(outcomes[k], k)) end
end
local done = {}
for i, name in ipairs(scribblings) do done[i] = ("%s %d"):format(name, counters[i]) end
print("hostile: overwrites: " .. table.concat(done, ", "))
done = {}
for _, k in ipairs(chosen) do done[#done + 1] = ("%s %d"):format(k, per_kind[k] or 0) end
print("hostile: calls: " .. table.concat(done, ", "))
os.execute("rm -rf " .. dir)
print(("hostile: clean, %d rounds, %d calls%s"):format(rounds, total, cut > 0 and (", %d rounds cut short"):format(cut) or ""))
