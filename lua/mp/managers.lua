-- managers.lua -- mp.Manager and mp.connect: the doors to manager.lua, server.lua and link.lua, which are loaded when one is opened.
local mp, core = ...

local loaded = {}
local function load(name)
  if not loaded[name] then loaded[name] = core.load(name) end
  return loaded[name]
end
core.manager_part = load

function mp.Manager(...) return load "manager".new(...) end
function mp.connect(...) return load "link".connect(...) end

-- What the processes of a manager run; named functions, so that they travel by name.
function core.manager_serve(...) return load "server".serve(...) end
function core.manager_gate(...) return load "gate".gate(...) end
function core.manager_deputy(...) return load "gate".deputy(...) end

mp.register("mp.Proxy", core.proxy_meta, {
  dump = function(p) return load "manager".describe(p) end,
  load = function(d) return load "manager".arrive(d) end,
})
