-- errors.lua -- mp.Error: what failed elsewhere, as an object that a person can read. A table with a metatable of its own, so that it can be
-- built from what arrived, whatever the original error value was.
local mp, core = ...
local rawget, rawset, type, tostring, error, next, pcall, setmetatable =
  rawget, rawset, type, tostring, error, next, pcall, setmetatable
local format, concat = string.format, table.concat

local Error = core.error_metatable
-- Name and type of what the constructor takes; what an error has not is nil.
local fields = {
  kind = "string", message = "string", traceback = "string", name = "string", pid = "number", exitcode = "number",
  signal = "number", value = "any", path = "string", reason = "string",
}

local where = core.script_line

-- Reading an unknown field is an error that names it.
function Error.__index(_, key)
  if fields[key] then return nil end
  error(where() .. format("mp.Error has no field '%s'", tostring(key)), 0)
end

-- Fields may be completed by whoever made the error.
function Error.__newindex(e, key, value)
  if fields[key] then return rawset(e, key, value) end
  error(where() .. format("mp.Error has no field '%s'", tostring(key)), 0)
end

-- The message, who it was, and the remote traceback.
function Error.__tostring(e)
  local lines = { tostring(rawget(e, "message")) }
  local name, pid, traceback = rawget(e, "name"), rawget(e, "pid"), rawget(e, "traceback")
  if name or pid then
    lines[#lines + 1] = format("  in %s%s", name or "process", pid and format(name and " (pid %d)" or " %d", pid) or "")
  end
  if traceback and traceback ~= "" then
    -- A traceback by debug.traceback(message) begins with the message: not twice.
    local first = lines[1]
    if traceback:sub(1, #first + 1) == first .. "\n" then traceback = traceback:sub(#first + 2) end
    lines[#lines + 1] = traceback
  end
  return concat(lines, "\n")
end

function Error.__concat(a, b)
  return tostring(a) .. tostring(b)
end

Error.__name = "mp.Error"
Error.__metatable = "mp.Error"

-- mp.Error(kind, message) or mp.Error{ kind =, message =, ... }
function mp.Error(kind, message)
  local t = kind
  if type(kind) ~= "table" then t = { kind = kind, message = message }
  elseif message ~= nil then error(where() .. "mp.Error: a kind and a message expected, or one table", 0) end
  local e = { kind = "error" }
  for key, value in next, t do
    local want = fields[key]
    if not want then error(where() .. format("mp.Error: unknown option '%s'", tostring(key)), 0) end
    if want ~= "any" and type(value) ~= want then
      error(where() .. format("mp.Error: %s must be a %s, not a %s", key, want, type(value)), 0)
    end
    e[key] = value
  end
  if not core.is_kind(e.kind) then error(where() .. format("mp.Error: there is no kind '%s'", e.kind), 0) end
  if e.message == nil then
    local ok, text = pcall(tostring, e.value)
    e.message = ok and e.value ~= nil and text or "unknown error"
  end
  return setmetatable(e, Error)
end

core.error_new = mp.Error
