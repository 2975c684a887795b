-- A room for three: ten processes want in, and a semaphore lets at most three be inside at once.
-- The number of people inside is a shared value, counted up and down by those who come and go.
local mp = require "mp"
io.stdout:setvbuf "line"
math.randomseed(tonumber(os.getenv "MP_SEED") or os.time())

local room, inside = mp.Semaphore(3), mp.Value("i", 0)

local function visit(i, seconds)
  local _ <close> = room:guard()
  print(("visitor %d comes in, %d inside"):format(i, inside:add(1)))
  mp.sleep(seconds)
  print(("visitor %d leaves"):format(i))
  inside:add(-1)
end

local visitors = {}
for i = 1, 10 do
  visitors[i] = mp.Process { target = visit, args = { i, math.random() / 5 } }
  visitors[i]:start()
end
for _, p in ipairs(visitors) do p:join() end
print("at the end " .. inside.value .. " are inside")
