-- curves.lua -- `make bench-curves`: how the figures change with the size of a message, the number of putters and getters, the backlog, and the
-- number of processes. By mp, CPython's multiprocessing and, where it makes sense, plain C, turn by turn as in run.lua; medians of RUNS (3).
--   CURVE=size,users   only these
-- The figures also go to curves.tsv beside mprun, which plot.lua draws.
local common = dofile(((arg[0] or "spec/bench/curves.lua"):match "^(.*)/" or ".") .. "/common.lua")
local quote = common.quote

-- How many messages or rounds a run takes on each side: enough to measure, not more than a second or two.
local function counts(name, x, side)
  if name == "size" then
    local most, bytes = side == "python" and 50000 or 300000, side == "python" and 2e8 or 1e9
    return math.max(side == "python" and 4 or 16, math.min(most, bytes // x)) // 1 | 0
  end
  if name == "users" then return side == "python" and 40000 or 400000 end
  if name == "backlog" then return math.max(x, side == "python" and 20000 or 200000) end
  return 1
end

local curves = {
  { "size", "GB/s", "message size, bytes", more = true, raw = true,
    at = { 1, 16, 256, 4096, 65536, 1 << 20, 1 << 22, 1 << 24, 1 << 26 } },
  { "users", "ns", "putters, and as many getters", raw = true, at = { 1, 2, 4, 8, 16, 32, 64 } },
  { "backlog", "ns", "messages put before the first is got", python_most = 100000, at = { 1, 10, 100, 1000, 10000, 100000, 1000000, 10000000 } },
  { "processes", "us", "processes started, blocked on one queue, served, joined; each", at = { 1, 3, 10, 30, 100, 300, 1000 } },
}

local wanted
for name in (os.getenv "CURVE" or ""):gmatch "%w+" do wanted = wanted or {}; wanted[name] = true end

print(common.machine)
print(common.runs_of)
local tsv = { "# " .. common.machine .. "; " .. common.runs_of, "curve\twhat\tunit\tmore_is_better\tat\tmp\tpython\traw" }
local form = "%-10s %10s %5s %10s %10s %10s %10s"
local failed = not common.mprun

for _, curve in ipairs(curves) do
  local name, unit, what = table.unpack(curve)
  if not wanted or wanted[name] then
    print("\n" .. name .. ": " .. what)
    print(form:format("", "at", "unit", "mp", "Python", "raw C", "Python/mp"))
    for _, x in ipairs(curve.at) do
      local command = {
        mp = common.mprun and quote(common.mprun) .. " " .. quote(common.folder .. "/mp.lua"),
        python = common.python and x <= (curve.python_most or x) and quote(common.python) .. " " .. quote(common.folder .. "/python.py"),
        raw = curve.raw and quote(common.raw),
      }
      local figures, why = { mp = {}, python = {}, raw = {} }, {}
      for _ = 1, common.runs do
        for _, side in ipairs { "mp", "python", "raw" } do
          if command[side] and not why[side] then
            local figure, problem = common.run(("%s %s %d %d"):format(command[side], name, counts(name, x, side), x))
            if figure then table.insert(figures[side], figure) else why[side] = problem end
          end
        end
      end
      local m, p, r = common.median(figures.mp), common.median(figures.python), common.median(figures.raw)
      print(form:format("", tostring(x), unit, common.show(m), common.show(p), common.show(r), common.show(m and p and (curve.more and m / p or p / m))))
      for side, problem in pairs(why) do
        print(("%10s   %s: %s"):format("", side, problem))
        if side == "mp" then failed = true end
      end
      io.stdout:flush()
      local function figure(v) return v and ("%.6g"):format(v) or "" end
      tsv[#tsv + 1] = table.concat({ name, what, unit, tostring(curve.more or false), x, figure(m), figure(p), figure(r) }, "\t")
    end
  end
end

if not wanted then common.write("curves.tsv", tsv) end
os.exit(not failed)
