-- Ten buyers, five tickets, no lock: more tickets are sold than there were.
-- Each buyer reads the number that is left from a file, and writes one less a moment later: too late.
local mp = require "mp"
local json = require "cjson"

local name, gate = os.tmpname(), mp.Event()

local function tickets()
  local f <close> = assert(io.open(name))
  return json.decode(f:read "a").left
end

local function set_tickets(n)
  local new = name .. "." .. mp.getpid()          -- a file of one's own, moved into place: no reader sees half of it
  local f = assert(io.open(new, "w"))
  f:write(json.encode { left = n })
  f:close()
  assert(os.rename(new, name))
end

local function buy(i)
  gate:wait()                                     -- all at once
  local left = tickets()
  mp.sleep(0.3)                                   -- the way to the cashier
  if left == 0 then return 0 end
  set_tickets(left - 1)
  print("buyer " .. i .. " got a ticket")
  return 1
end

set_tickets(5)
local buyers, sold = {}, 0
for i = 1, 10 do
  buyers[i] = mp.Process { target = buy, args = { i } }
  buyers[i]:start()
end
gate:set()
for _, buyer in ipairs(buyers) do sold = sold + buyer:result() end
print(("5 tickets, %d sold, the file says %d are left"):format(sold, tickets()))
os.remove(name)
