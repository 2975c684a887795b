-- about.lua -- what the module says of itself: its version and what is in it, for whoever types `mp` at the prompt.
local mp, core = ...

local function wrapped(names)
  table.sort(names)
  local lines = { "" }
  for _, name in ipairs(names) do
    if #lines[#lines] + #name > 90 then lines[#lines + 1] = "" end
    lines[#lines] = lines[#lines] .. "  " .. name
  end
  return table.concat(lines, "\n")
end

function core.about()
  local made, called = {}, {}
  for name in pairs(mp) do
    local list = name:find "^%u" and made or not name:find "^_" and called
    if list then list[#list + 1] = name end
  end
  return ("mp %s\n%s\n%s"):format(mp._VERSION, wrapped(made), wrapped(called))
end
