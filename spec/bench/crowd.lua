-- crowd.lua ROW -- ten pairs of processes on whatever processors there are: how long they take when who waits looks for a while before it
-- sleeps (as always), over how long they take when it sleeps at once (MP_SPIN=0). Prints the median of the ratios of neighbouring runs: 1 or
-- less says that looking costs a crowded machine nothing. The rows are in run.lua.
local mp = require "mp"

local PAIRS <const> = 10

local work = {
  crowd_pipe = { 1500, function(n)
    local a, b = mp.Pipe()
    return function() for i = 1, n do a:send(i) a:recv() end end, function() for _ = 1, n do b:send(b:recv()) end end
  end },
  crowd_queue = { 30000, function(n)
    local q = mp.Queue(100)
    return function() for i = 1, n do q:put(i) end end, function() for _ = 1, n do q:get() end end
  end },
  crowd_lock = { 30000, function(n)
    local v = mp.Value("q", 0)
    local l = v:get_lock()
    local function add()
      for _ = 1, n do
        l:acquire()
        v.value = v.value + 1
        l:release()
      end
    end
    return add, add
  end },
}

local row, inner = arg[1], arg[2] == "once"
local count, make = table.unpack(work[row])

if inner then
  local gate, list = mp.Event(), {}
  for _ = 1, PAIRS do
    for _, f in ipairs { make(count) } do
      local p = mp.Process { target = function() gate:wait() f() end }
      p:start()
      list[#list + 1] = p
    end
  end
  mp.sleep(0.05)
  local start = mp.now()
  gate:set()
  for _, p in ipairs(list) do
    p:join()
    assert(p.exitcode == 0)
  end
  io.write(mp.now() - start, "\n")
  return
end

local function once(spin)
  local p <close> = assert(io.popen(("MP_SPIN=%d '%s' '%s' %s once"):format(spin, arg[-1], arg[0], row)))
  return assert(tonumber(p:read "l"))
end

local ratios = {}
for i = 1, 7 do
  local looking, sleeping
  if i % 2 == 0 then looking, sleeping = once(1), once(0)
  else sleeping, looking = once(0), once(1) end
  ratios[i] = looking / sleeping
end
table.sort(ratios)
io.write(("%.4g\n"):format(ratios[4]))
