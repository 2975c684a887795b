-- run.lua -- `make bench`: one table of speeds. Needs no mp itself, so that a broken build still gets the other columns.
--   ROW=name[,name]  only these rows       RUNS=n  how many interleaved runs (3)
-- Every row is run by mp, by CPython's multiprocessing and by plain C, turn by turn on the same machine; each figure
-- is the median of its runs. The table also goes to bench.tsv beside mprun, which plot.lua draws.
local common = dofile(((arg[0] or "spec/bench/run.lua"):match "^(.*)/" or ".") .. "/common.lua")
local folder, mprun, python, raw, runs = common.folder, common.mprun, common.python, common.raw, common.runs
local quote, run, median, show = common.quote, common.run, common.median, common.show

-- name, unit, what is done, and what to reach (`python` and `raw` are the other columns)
local rows = {
  { "queue_int", "ns", "queue, 1 putter, 1 getter, integers", "40 x Python" },
  { "queue_table", "ns", 'the same, {id=1, name="food", n=3.5}', "15 x Python" },
  { "queue_1m", "GB/s", "queue of 8, strings of 1 MiB", "10 x Python", more = true },
  { "queue_4_4", "ns", "queue, 4 putters, 4 getters, integers", "15 x Python" },
  { "queue_many", "ns", "put_many, get_many in hundreds", "60 x Python" },
  { "round_trip", "us", "round trip over a pipe, both running", "80 x Python" },
  { "wake", "us", "message to a sleeping getter, one way", "1.5 x raw" },
  { "lock", "ns", "lock, acquire and release", "40 ns" },
  { "counter", "ns", "2 processes increment under a lock", "5 x Python" },
  { "value", "ns", "shared value, read", "40 ns" },
  { "process", "us", "process, start and join", "1.4 x raw" },
  { "process_spawn", "us", "the same by spawn", "10 x Python" },
  { "thread", "us", "thread with an interpreter, start and join", "10 x Python" },
  { "closure", "ns", "queue, closures with two upvalues", "" },
  { "table_3", "ns", "queue, lists of 3 integers", "15 x Python" },
  { "table_100", "us", "queue, lists of 100 integers", "1 x Python" },
  { "table_100k", "ms", "queue, lists of 100 000 integers", "1 x Python" },
  { "pool_map_1", "us", "pool of 2, map, chunks of 1, a task", "10 x Python" },
  { "pool_map", "ns", "pool of 2, map, automatic chunks, a task", "1 x Python" },
  { "pool_apply", "us", "pool of 2, apply", "20 x Python" },
  { "computing", "x", "pool of 2 over pool of 1, Mandelbrot", "1.9", more = true },
  { "dict_set", "ns", "dict of 1000 keys, set", "100 x Python" },
  { "dict_get", "ns", "dict of 1000 keys, get", "100 x Python" },
  { "manager", "us", "manager, one call", "10 x Python" },
  { "memory", "MB", "private memory of an idle child", "0.6 MB" },
  { "start", "ms", 'start and end of mprun -e "" (raw: lua5.4)', "1.5 x raw" },
  -- what a sandbox costs: sandbox.lua. Nobody else has one, so each stands beside the same without it.
  { "ready_fork", "ms", "a forked process, until its first message", "", alone = "sandbox.lua" },
  { "ready_spawn", "ms", "a spawned process, until its first message", "", alone = "sandbox.lua" },
  { "ready_pure", "ms", 'the same with sandbox = "pure"', "3 x ready_spawn", alone = "sandbox.lua" },
  { "pair_free", "ns", "put and get by one spawned process", "", alone = "sandbox.lua" },
  { "pair_pure", "ns", 'the same with sandbox = "pure"', "1.1 x pair_free", alone = "sandbox.lua" },
  { "message_free", "ns", "a spawned process puts, its maker gets", "", alone = "sandbox.lua" },
  { "message_pure", "ns", 'the same with sandbox = "pure"', "1.1 x message_free", alone = "sandbox.lua" },
  -- ten pairs of processes: with a look before each sleep over without (crowd.lua)
  { "crowd_pipe", "x", "10 pairs on a pipe: looking over sleeping", "1.05", alone = "crowd.lua" },
  { "crowd_queue", "x", "10 pairs on a queue: looking over sleeping", "1.05", alone = "crowd.lua" },
  { "crowd_lock", "x", "10 pairs on a lock: looking over sleeping", "1.05", alone = "crowd.lua" },
}

local alone = {}
for _, row in ipairs(rows) do alone[row[1]] = row.alone end

local function commands(name)
  if alone[name] then return { mp = mprun and ("%s %s %s"):format(quote(mprun), quote(folder .. "/" .. alone[name]), name) } end
  if name == "start" then
    local start = quote(raw) .. " start 60 "
    return {
      mp = mprun and start .. quote(mprun) .. " -e ''",
      python = python and quote(raw) .. " start 10 " .. quote(python) .. " -c 'import multiprocessing'",
      raw = start .. "lua5.4 -e ''",
    }
  end
  return {
    mp = mprun and ("%s %s %s"):format(quote(mprun), quote(folder .. "/mp.lua"), name),
    python = python and ("%s %s %s"):format(quote(python), quote(folder .. "/python.py"), name),
    raw = ("%s %s"):format(quote(raw), name),
  }
end

local sides = { "mp", "python", "raw" }
-- Plain C has no chunks to choose, and nothing to encode; Python sends no closures.
local nothing_raw = { raw = true }
local without = { pool_map = nothing_raw, thread = nothing_raw, process_spawn = nothing_raw, closure = { raw = true, python = true }, table_3 = nothing_raw,
                  table_100 = nothing_raw, table_100k = nothing_raw }

-- Rows that Node's worker threads do as well, where node is installed (node.js): a line below the row.
local by_node = { queue_int = true, queue_table = true, round_trip = true }

local function measure(name)
  local figures, why, command = { mp = {}, python = {}, raw = {} }, {}, commands(name)
  local node = {}
  for _ = 1, runs do
    if common.node and by_node[name] then node[#node + 1] = run(("%s %s %s"):format(quote(common.node), quote(folder .. "/node.js"), name)) end
    for _, side in ipairs(sides) do
      if command[side] and not why[side] and not (without[name] or {})[side] then
        local x, problem = run(command[side])
        if x then table.insert(figures[side], x) else why[side] = problem end
      end
    end
  end
  return median(figures.mp), median(figures.python), median(figures.raw), why, median(node)
end

local wanted
for name in (os.getenv "ROW" or ""):gmatch "[%w_]+" do wanted = wanted or {}; wanted[name] = true end

print(common.machine)
print(common.runs_of .. "\n")
local form = "%-12s %-42s %5s %10s %10s %10s %9s %8s  %s"
print(form:format("row", "", "unit", "mp", "Python", "raw C", "Python/mp", "mp/raw", "to reach"))

local tsv = { "# " .. common.machine .. "; " .. common.runs_of, "row\twhat\tunit\tmore_is_better\tmp\tpython\traw\tto_reach\tnode" }
local failed
for _, row in ipairs(rows) do
  local name, unit, what, target = table.unpack(row)
  if not wanted or wanted[name] then
    local m, p, r, why, node = measure(name)
    local gain = m and p and (row.more and m / p or p / m)
    local cost = m and r and (row.more and r / m or m / r)
    print(form:format(name, what, unit, show(m), show(p), show(r), show(gain), show(cost), target))
    if node then print(("%-12s   Node, two threads: %s %s"):format("", show(node), unit)) end
    for _, side in ipairs(sides) do
      if why[side] then print(("%-12s   %s: %s"):format("", side, why[side])) end
      if why[side] and not why[side]:find "^no mp%." then failed = true end
    end
    if not mprun then failed = true end
    io.stdout:flush()
    tsv[#tsv + 1] = table.concat({ name, what, unit, tostring(row.more or false), m and ("%.6g"):format(m) or "",
      p and ("%.6g"):format(p) or "", r and ("%.6g"):format(r) or "", target, node and ("%.6g"):format(node) or "" }, "\t")
  end
end
if not mprun then print "\nmprun is not there: run make" end
print "\nPython/mp: how many times faster than Python; mp/raw: how many times slower than plain C."

if not wanted then common.write("bench.tsv", tsv) end
os.exit(not failed)
