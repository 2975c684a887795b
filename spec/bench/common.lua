-- common.lua -- what run.lua and curves.lua share: the programs, running them, medians, the machine. Needs no mp.
local common = {}

local folder = (arg[0] or "spec/bench/run.lua"):match "^(.*)/" or "."
local mprun = os.getenv "MPRUN" or "build/mprun"
local build = mprun:match "^(.*)/" or "."

local function first_line(command)
  local p <close> = assert(io.popen(command .. " 2>/dev/null"))
  return p:read "l"
end

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

local python = first_line "command -v /usr/bin/python3 || command -v python3"
local raw = build .. "/bench/raw"
os.execute("mkdir -p " .. quote(build .. "/bench"))
assert(os.execute(("${CC:-cc} -O2 -pthread -o %s %s"):format(quote(raw), quote(folder .. "/raw.c"))), "raw.c does not compile")
if not first_line("test -x " .. quote(mprun) .. " && echo yes") then mprun = nil end

common.node = first_line "command -v node" -- not needed: some rows have its figure, too
common.folder, common.mprun, common.build, common.python, common.raw = folder, mprun, build, python, raw
common.quote = quote
common.runs = math.tointeger(os.getenv "RUNS" or 3)

-- One run: a number, or nil and the last line that the program said.
function common.run(command)
  local p = assert(io.popen("timeout -k 1 20 " .. command .. " 2>&1 </dev/null"))
  local last
  for line in p:lines() do last = line end
  local ok, _, code = p:close()
  local x = ok and tonumber(last)
  if x then return x end
  return nil, code == 124 and "took longer than 20 s" or last or "status " .. tostring(code)
end

function common.median(list)
  table.sort(list)
  local n = #list
  if n == 0 then return nil end
  return n % 2 == 1 and list[n // 2 + 1] or (list[n // 2] + list[n // 2 + 1]) / 2
end

function common.show(x)
  if not x then return "-" end
  return (x >= 1000 and "%.0f" or x >= 100 and "%.0f" or x >= 10 and "%.1f" or x >= 1 and "%.2f" or "%.3f"):format(x)
end

local function cpu_model()
  for line in io.lines "/proc/cpuinfo" do
    local model = line:match "^model name%s*:%s*(.*)"
    if model then return model end
  end
  return first_line "uname -m"
end

common.machine = ("%s, %s processors, Linux %s; %s; %s"):format(cpu_model(), first_line "nproc", first_line "uname -r",
  python and first_line(quote(python) .. " -VV | cut -d' ' -f1-2") or "no Python", first_line "${CC:-cc} --version | head -n 1" or "")

do
  local f <close> = io.open "/proc/loadavg"
  common.runs_of = ("medians of %d runs; load when it began: %s"):format(common.runs, f and f:read "l":match "^%S+" or "?")
end

function common.write(name, lines)
  local f <close> = assert(io.open(build .. "/" .. name, "w"))
  f:write(table.concat(lines, "\n"), "\n")
end

return common
