-- spawn.lua -- start_method "spawn": what a process that shares no memory with its maker is told, and what it makes of it.
local mp, core = ...

local rawget, type, next, pcall, getmetatable, setmetatable = rawget, type, next, pcall, getmetatable, setmetatable
local P <const> = core.process
local Process <const> = P.class

-- A class travels as the methods of each of its ancestors, youngest first; what they are made of travels by value.
local function describe(class, base)
  local list = {}
  while class ~= base do
    local level = { methods = {}, name = rawget(class, "__name") }
    for k, v in next, class do
      if k ~= "super" and k ~= "__name" then level.methods[k] = v end
    end
    list[#list + 1] = level
    class = rawget(class, "super")
  end
  return list
end

local function rebuild(list, base)
  local class = base
  for i = #list, 1, -1 do
    class = class:extend(list[i].name)
    for k, v in next, list[i].methods do class[k] = v end
  end
  return class
end

-- `arg`, if the caller's is one that can travel.
local function plain_arg()
  local a = rawget(_G, "arg")
  if type(a) ~= "table" or getmetatable(a) then return nil end
  local copy = {}
  for k, v in next, a do
    if math.type(k) == "integer" and type(v) == "string" then copy[k] = v end
  end
  return copy
end

-- Where modules are found must be known before what comes from modules is read: this travels as the first part of a task, and takes effect
-- as it is read, in a state that is about to begin only.
local Paths, arriving = {}, false
mp.register("mp.paths", Paths, {
  dump = function() return { package.path, package.cpath } end,
  load = function(p)
    if arriving then package.path, package.cpath = p[1], p[2] end
    return setmetatable({}, Paths)
  end,
})
local paths = setmetatable({}, Paths)

function core.arriving(over) arriving = not over end

-- A task could not be read, or not be begun with.
function core.not_begun(e)
  local parts = mp.is_error(e) and { kind = e.kind, message = e.message } or { kind = "error", message = P.text_of(e) }
  parts.exitcode = 1
  pcall(core.report, "error", parts)
end

local function spawn(self, f)
  local me = P.identity()
  local task = {
    paths, target = f.target, args = f.args, kwargs = f.kwargs, own = f.own, class = describe(f.class, Process),
    name = P.name_of(f), identity = P.identity_of(f), daemon = f.daemon, authkey = f.authkey or P.authkey(), method = P.chosen_method(),
    parent = me.name, parent_daemon = me.daemon,
    arg = plain_arg(), environment = core.environment(),
    global = rawget(_G, "mp") == mp or nil,
  }
  if f.jail then -- what a script has a say in is read inside
    local secret = { target = task.target, args = task.args, kwargs = task.kwargs, own = task.own, class = task.class }
    for k in next, secret do task[k] = nil end
    if f.sandbox then task.environment, task.arg, task.authkey = nil, nil, core.random(32) end
    return core.spawn_confined(self, f, task, secret)
  end
  core.process_spawn(self, f.daemon, task)
end

P.set_spawn(spawn)
P.describe, P.rebuild, P.plain_arg, P.paths = describe, rebuild, plain_arg, paths

-- In the new process: the exit code.
function core.spawned(task)
  if task.environment then core.environment(task.environment) end
  arriving = false
  if task.host then -- a C host's: lua/mp/host.lua, which nobody else needs
    core.load "host"
    return core.hosted(task)
  end
  _G.arg = task.arg
  if not task.global then _G.mp = nil end
  local self, code
  local ok, e = pcall(function()
    if task.confined then
      for k, v in next, core.enter_jail(task.confined) do task[k] = v end
    end
    self = P.arrive(task, rebuild(task.class, Process))
  end)
  if not ok then
    core.stderr(task.name .. ": " .. P.text_of(e) .. "\n")
    core.not_begun(e)
    return 1
  end
  code = P.work(self)
  return code
end
