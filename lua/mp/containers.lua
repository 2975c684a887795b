-- containers.lua -- d:items(), which is a list and an iterator: `for k, v in d:items()`, `for i, kv in ipairs(d:items())`.
local _, core = ...
local setmetatable = setmetatable

local Dict = core.methods["mp.Dict"]
local items = Dict.items -- the name that an error gives
local place = setmetatable({}, { __mode = "k" }) -- how far a list was iterated
local Items = { __name = "mp.Items" }

function Items.__call(list)
  local i = (place[list] or 0) + 1
  local kv = list[i]
  place[list] = kv and i or nil
  if kv then return kv[1], kv[2] end
end

function core.items(list) return setmetatable(list, Items) end

function Dict.items(...)
  return core.items(items(...))
end
