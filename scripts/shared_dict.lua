-- Fifty processes take one off a counter in a shared dict: by `update`, which is one step, and inside `with`.
-- The dict lives in shared memory; no server is asked, and a process that dies leaves it whole.
local mp = require "mp"

local d = mp.Dict { count = 100 }

local function by_update()
  d:update("count", function(n) return n - 1 end)
end

local function inside_with()
  d:with(function()
    local n = d.count
    d.count = n - 1
  end)
end

local function run(title, target)
  local all = {}
  for i = 1, 50 do
    all[i] = mp.Process { target = target }
    all[i]:start()
  end
  for _, p in ipairs(all) do p:join() end
  print(("%s: %d are left"):format(title, d.count))
end

run("by update", by_update)
run("inside with", inside_with)

d.who = { name = "Egon", scores = { 3, 1, 2 } }
print("a table is copied: " .. tostring(d.who ~= d.who) .. ", " .. table.concat(d.who.scores, " "))
