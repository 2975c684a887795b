-- A writer, and a reader that stops when nothing has come for a while.
-- A get with a timeout gives nil and "timeout" instead of waiting for ever.
local mp = require "mp"
io.stdout:setvbuf "line"
math.randomseed(tonumber(os.getenv "MP_SEED") or os.time())

local q = mp.Queue()

local function write(pauses)
  for i, letter in ipairs { "A", "B", "C", "D" } do
    print("writer: puts " .. letter)
    q:put(letter)
    mp.sleep(pauses[i])
  end
end

local function read()
  while true do
    local letter, why = q:get(1.5)
    if why then return print("reader: stops, " .. why) end
    print("reader: got " .. letter)
  end
end

local pauses = {}
for i = 1, 4 do pauses[i] = math.random() / 5 end
local writer, reader = mp.Process { target = write, args = { pauses } }, mp.Process { target = read }
writer:start()
reader:start()
writer:join()
reader:join()
