-- Five threads, then five processes: threads live in this process, the others have their own.
-- All print under one lock, so that no line gets into another.
local mp = require "mp"

local lock = mp.Lock()

local function report(kind, i)
  lock:with(function()
    io.write(kind, " ", i)
    io.flush()
    mp.sleep(0.01)                      -- without the lock the others would write here
    io.write(" in process ", mp.getpid(), "\n")
    io.flush()
  end)
end

local function run(kind, make)
  local all = {}
  for i = 1, 5 do
    all[i] = make { target = report, args = { kind, i } }
    all[i]:start()
  end
  for _, one in ipairs(all) do one:join() end
end

print("the main program is process " .. mp.getpid())
io.flush()
run("thread", mp.Thread)
run("process", mp.Process)
