-- A sandboxed worker may compute, and nothing else that was not granted.
-- The same function without a grant, and with one; the parent reads of the refusal, and of what would allow it.
local mp = require "mp"

local function read()
  local f, why = io.open "/etc/passwd"
  if not f then return "refused, " .. why end
  f:close()
  return "allowed"
end

local function try(title, policy)
  local p = mp.Process { target = read, sandbox = policy }
  p:start()
  print(title .. ": " .. p:result())
  for _, v in ipairs(p.violations) do
    print(("  %s of %s was refused; to allow it: %s"):format(v.call, v.target, v.fix))
  end
end

try("without a grant", "pure")
try("with a grant", { read = { "/etc/passwd" } })

local loop = mp.Process { target = function() while true do end end, sandbox = "pure", limits = { cpu = 1 } }
loop:start()
loop:join()
print("an endless loop: ended for " .. loop.error.kind)
