-- sandbox.lua ROW -- what a sandbox costs, beside the same without one. Prints one number, in the unit of the row (run.lua).
local mp = require "mp"

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

-- From start() to the first message from a new process, in ms; it has ended before the next one begins.
local function ready(options)
  return function()
    local q, list = mp.Queue(), {}
    for i = 1, 41 do
      local o = { target = function(a) a:put(true) end, args = { q } }
      for k, v in pairs(options) do o[k] = v end
      local p = mp.Process(o)
      local begin = mp.now()
      p:start()
      assert(q:get(10))
      list[i] = (mp.now() - begin) * 1e3
      p:join()
      assert(p.exitcode == 0)
      mp.sleep(0.002)
    end
    return median(list)
  end
end

-- A message from a process to its maker, in ns.
local function message(options)
  return function()
    local n <const> = 200000
    local q, gate = mp.Queue(), mp.Event()
    local o = { target = function(a, g)
      g:wait()
      for i = 1, n do a:put(i) end
    end, args = { q, gate }, start_method = "spawn" }
    for k, v in pairs(options) do o[k] = v end
    local p = mp.Process(o)
    p:start()
    mp.sleep(0.05)
    local begin = mp.now()
    gate:set()
    for _ = 1, n do q:get() end
    local took = mp.now() - begin
    p:join()
    assert(p.exitcode == 0)
    return took / n * 1e9
  end
end

-- Put and get by one process, which never sleeps, in ns for both.
local function pair(options)
  return function()
    local o = { target = function(a)
      local n <const> = 300000
      local begin = mp.now()
      for i = 1, n do
        a:put(i)
        a:get()
      end
      return (mp.now() - begin) / n * 1e9
    end, args = { mp.Queue() }, start_method = "spawn" }
    for k, v in pairs(options) do o[k] = v end
    local p = mp.Process(o)
    p:start()
    return p:result(20)
  end
end

local confined <const> = { sandbox = "pure" }
local rows <const> = {
  ready_fork = ready { start_method = "fork" }, ready_spawn = ready { start_method = "spawn" }, ready_pure = ready(confined),
  pair_free = pair {}, pair_pure = pair(confined), message_free = message {}, message_pure = message(confined),
}

local row = rows[arg[1]] or error("no row is called " .. tostring(arg[1]))
if arg[1]:find "pure" and not mp.sandbox.available().ok then
  io.stderr:write "no sandbox on this kernel\n"
  os.exit(3)
end
print(row())
