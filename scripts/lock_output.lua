-- Five processes write a line each, word by word: first as it comes, then under a lock.
-- Without the lock the words of several lines mix; with it every line is whole.
local mp = require "mp"

local function write(lock, gate, i)
  gate:wait()
  if lock then lock:acquire() end
  for word in ("this line is from process " .. i):gmatch "%S+" do
    io.write(word, " ")
    io.flush()
    mp.sleep(0.01)
  end
  io.write "\n"
  io.flush()
  if lock then lock:release() end
end

local function run(title, lock)
  print(title)
  local all, gate = {}, mp.Event()
  for i = 1, 5 do
    all[i] = mp.Process { target = write, args = { lock, gate, i, n = 3 } }
    all[i]:start()
  end
  gate:set()
  for _, p in ipairs(all) do p:join() end
end

run("without a lock:", nil)
run("with a lock:", mp.Lock())
