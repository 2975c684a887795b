-- explain.lua -- mp.explain(v): can it be sent, how large is it, and if not, what is in the way.
local mp, core = ...
local format, concat = string.format, table.concat

local function size(n)
  if n < 1024 then return format("%d byte%s", n, n == 1 and "" or "s") end
  if n < 1048576 then return format("%.1f KiB", n / 1024) end
  return format("%.1f MiB", n / 1048576)
end

local advice = {
  { "coroutine", "a coroutine is bound to its Lua state: send its function and what it needs, and make it there" },
  { "C function", "C functions travel by name: put it into a module that the receiver can require" },
  { "mp.register", "tell both sides: mp.register(name, metatable [, {dump=, load=}])" },
  { "userdata", "send what it was made from, or register its metatable with dump and load; a descriptor travels as mp.Fd(n)" },
  { "maker", "send what it works on, or a queue to talk to its maker" },
  { "closed", "open handles can be sent" },
}

local report = {
  __name = "mp.explain",
  __tostring = function(r)
    local lines = {}
    if r.sendable then
      lines[1] = format("can be sent: %s, %d item%s", size(r.bytes), r.items, r.items == 1 and "" or "s")
      if r.handles and r.handles > 0 then lines[2] = format("  with %d shared object%s", r.handles, r.handles == 1 and "" or "s") end
    else
      lines[1] = format("cannot be sent: %s%s", r.path ~= "" and "at " .. r.path .. ": " or "", r.reason)
      for _, a in ipairs(advice) do
        if r.reason:find(a[1], 1, true) then
          lines[2] = "  " .. a[2]
          break
        end
      end
    end
    return concat(lines, "\n")
  end,
}

function mp.explain(v)
  local ok, bytes, items, handles = pcall(core.measure, v)
  if ok then return setmetatable({ sendable = true, bytes = bytes, items = items, handles = handles }, report) end
  local e = bytes
  if not mp.is_error(e, "encode") then error(e, 0) end
  return setmetatable({ sendable = false, path = e.path, reason = e.reason }, report)
end
