-- sandbox.lua -- policies as tables, processes under them, and what they say about refusals (docs/reference/sandbox.md).
-- The kernel is the boundary (runtime/sandbox/); what this file takes away from a confined script is comfort and better messages.
-- luacheck: ignore 122 (it takes things out of the standard libraries)
local mp, core = ...

local type, pairs, ipairs, pcall, error, tostring = type, pairs, ipairs, pcall, error, tostring
local format, concat, floor = string.format, table.concat, math.floor
local misuse = core.misuse
local P <const> = core.process

-- ---- reading a policy ---------------------------------------------------------------------

local UNITS <const> = { [""] = 1, K = 1 << 10, M = 1 << 20, G = 1 << 30 }

-- Raises sentences; whoever calls knows the function that the script called.
local function refuse(...) error(format(...), 0) end

local function size(key, v)
  if type(v) == "string" then
    local n, unit = v:match "^(%d+%.?%d*)%s*([KMGkmg]?)[Bb]?$"
    if not n then refuse("limits.%s: a size such as \"64M\" expected, got %q", key, v) end
    return floor(tonumber(n) * UNITS[unit:upper()])
  end
  if math.type(v) == nil or v < 0 or v ~= v or v > 2^53 then refuse("limits.%s: a size in bytes or such as \"64M\" expected", key) end
  return floor(v)
end

local function seconds(key, v)
  if type(v) ~= "number" or v ~= v or v <= 0 or v > 1e9 then refuse("limits.%s: a number of seconds above 0 expected", key) end
  return floor(v * 1e9)
end

local function count(key, v)
  local n = type(v) == "number" and math.tointeger(v)
  if not n or n < 0 or n > 1e6 then refuse("limits.%s: a count from 0 on expected", key) end
  return n
end

local LIMITS <const> = { memory = size, output = size, cpu = seconds, wall = seconds, files = count, threads = count }

local function list_of(key, v, kind, what)
  if type(v) == kind then v = { v } end
  if type(v) ~= "table" then refuse("%s: a list of %s expected, got %s", key, what, type(v)) end
  local list, one, n = {}, what:gsub("s$", ""), 0
  for _ in pairs(v) do n = n + 1 end
  for k, x in pairs(v) do
    if math.type(k) ~= "integer" or k < 1 then refuse("%s: a list of %s expected; it has the key %s", key, what, tostring(k)) end
    if k > n then refuse("%s: a list of %s expected; it has a hole before [%d]", key, what, k) end
    if type(x) ~= kind then refuse("%s[%d]: a %s expected, got %s", key, k, one, type(x)) end
    if kind == "string" and x:find("\0", 1, true) then refuse("%s[%d]: a %s with a zero byte in it", key, k, one) end
    if kind == "number" and not math.tointeger(x) then refuse("%s[%d]: a port expected, got %s", key, k, x) end
    list[k] = kind == "number" and math.tointeger(x) or x
  end
  return list
end

local function known(where, t, keys)
  if type(t) ~= "table" then refuse("%s: a table expected, got %s", where, type(t)) end
  for k in pairs(t) do
    if keys[k] == nil then refuse("%s: unknown key '%s'", where, tostring(k)) end
  end
end

local KEYS <const> = { read = true, write = true, net = true, run = true, modules = true, on_violation = true, limits = true }
local NET <const> = { connect = true, bind = true, dns = true }

-- Is there something to load? Whether it loads is seen in the new process.
local function is_module(name)
  if package.loaded[name] ~= nil or package.preload[name] then return true end
  return (package.searchpath(name, package.path) or package.searchpath(name, package.cpath) or
    package.searchpath(name:match "^[^.]*", package.cpath)) ~= nil
end

-- policy and limits as a script writes them -> a plain one for core.jail_make. nil, nil: nothing was asked for.
local function parse(policy, limits)
  local plain = {}
  if policy == "pure" then policy = {} end
  if type(policy) == "string" then refuse("sandbox: no policy is called %q; \"pure\" or a table expected", policy) end
  if policy ~= nil then
    known("sandbox", policy, KEYS)
    for _, key in ipairs { "read", "write", "run", "modules" } do
      if policy[key] ~= nil then plain[key] = list_of(key, policy[key], "string", key == "modules" and "names" or "paths") end
    end
    for _, name in ipairs(plain.modules or {}) do
      if not is_module(name) then refuse("modules: no module '%s' in package.path and package.cpath", name) end
    end
    if policy.net ~= nil then
      known("net", policy.net, NET)
      for _, key in ipairs { "connect", "bind" } do
        if policy.net[key] ~= nil then plain[key] = list_of("net." .. key, policy.net[key], "number", "ports") end
      end
      if policy.net.dns ~= nil and type(policy.net.dns) ~= "boolean" then refuse("net.dns: true or false expected") end
      plain.dns = policy.net.dns
    end
    local on = policy.on_violation
    if on ~= nil and on ~= "deny" and on ~= "kill" then refuse("on_violation: \"deny\" or \"kill\" expected, got %s", tostring(on)) end
    plain.kill = on == "kill"
    if policy.limits ~= nil then
      if limits ~= nil then refuse("limits are given twice, inside the policy and beside it") end
      limits = policy.limits
    end
  end
  if limits ~= nil then
    known("limits", limits, LIMITS)
    for key, v in pairs(limits) do plain[key] = LIMITS[key](key, v) end
  end
  return plain
end

local function make(policy, limits, form)
  local plain = parse(policy, limits)
  return core.jail_make(plain, form), plain
end

-- ---- processes ------------------------------------------------------------------------------

-- For process.lua: checks what Process{ sandbox =, limits = } says, when it is said.
function core.process_policy(_, f)
  local ok, jail, plain = pcall(make, f.sandbox, f.limits, f.sandbox ~= nil and "listener" or "none")
  if not ok then misuse("Process", jail) end
  if f.start_method == "fork" then
    misuse("Process", "a process with a sandbox or limits is spawned; start_method \"fork\" would give it the caller's memory")
  end
  f.jail, f.plain = jail, plain
end

-- For spawn.lua: starts process `self`. `task` is what it is told before it is confined, `secret` after.
function core.spawn_confined(self, f, task, secret)
  f.jail_report = core.jail_report_new()
  task.confined = { sandbox = f.sandbox ~= nil, modules = f.plain.modules, memory = f.plain.memory, path = f.plain.read ~= nil or f.plain.write ~= nil,
                    run = f.plain.run ~= nil }
  core.process_spawn_confined(self, f.daemon, task, f.jail, f.jail_report, secret)
end

local violation_meta = { __name = "mp.Violation" }
function violation_meta:__tostring()
  return format("%s%s %s: not permitted%s%s", self.where ~= "" and self.where .. ": " or "", self.call, self.target,
    self.fix ~= "" and "; " .. self.fix or "", self.count > 1 and format(" (%d times)", self.count) or "")
end

local function violations(report)
  local list = {}
  for i, v in ipairs(report) do list[i] = setmetatable(v, violation_meta) end
  return list
end

function core.process_violations(f)
  if not f.jail_report then return {} end
  return violations(core.jail_report(f.jail_report))
end

local MESSAGES <const> = {
  cpu = "process %s used up its %g s of processor time", wall = "process %s used up its %g s", sandbox = "process %s was ended by its sandbox: %s",
}

-- The failure of an ended process, in the sandbox's words. parts: what process.lua makes of it, or nil.
function core.process_refine(f, parts)
  if not f.jail_report or not parts then return parts end
  local r = core.jail_report(f.jail_report)
  local reason = r.reason
  if reason == "failed" then
    parts.kind, parts.message = "sandbox", format("process %s could not be confined: %s", P.name_of(f), r.message)
  elseif reason == "cpu" or reason == "wall" then
    parts.kind, parts.message = reason, format(MESSAGES[reason], P.name_of(f), f.plain[reason] / 1e9)
  elseif reason == "sandbox" then
    local list = violations(r)
    local last = list[#list]
    for _, v in ipairs(list) do if v.fatal then last = v end end
    parts.kind, parts.message = "sandbox", format(MESSAGES.sandbox, P.name_of(f), last and tostring(last) or "too many refusals")
  elseif parts.kind == "error" and type(parts.message) == "string" and f.plain.memory and parts.message:find("not enough memory", 1, true) then
    parts.kind = "memory"
  end
  return parts
end

-- ---- inside -----------------------------------------------------------------------------------

-- What a worker that makes no objects of its own is refused by.
local MAKERS <const> = { "Queue", "JoinableQueue", "SimpleQueue", "Pipe", "Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier",
                         "Value", "Array", "Dict", "List", "Manager", "connect", "Fd" }

local function note_all(t)
  for k, f in pairs(t) do
    if type(f) == "function" and type(k) == "string" and k:sub(1, 2) ~= "__" then t[k] = core.jail_noted(f) end
  end
end

-- Takes from this state what a confined script has no use for, and lets the rest tell its line.
local function restrict(has_files, has_run)
  local note = core.jail_noted
  local load, searchpath = load, package.searchpath
  local mode_t = "t"
  _G.load = function(chunk, name, mode, ...)
    if mode ~= nil and type(mode) ~= "string" then error("bad argument #3 to 'load' (string expected)", 2) end
    if mode and not mode:find("t", 1, true) then return nil, "attempt to load bytecode in a sandbox" end
    if select("#", ...) > 0 then return load(chunk, name, mode_t, (...)) end
    return load(chunk, name, mode_t)
  end
  local open = io.open
  local function read_file(name)
    local f, why = open(name, "rb")
    if not f then return nil, "cannot open " .. tostring(why) end
    local text = f:read "a"
    f:close()
    return text and (text:gsub("^#[^\n]*", "", 1))
  end
  local function load_file(name, _, ...)
    local text, why = read_file(name or "/dev/stdin")
    if not text then return nil, why end
    if select("#", ...) > 0 then return load(text, "@" .. name, mode_t, (...)) end
    return load(text, "@" .. name, mode_t)
  end
  _G.loadfile = note(load_file, "read")
  _G.dofile = note(function(name)
    local f, why = load_file(name)
    if not f then error(why, 2) end
    return f()
  end, "read")
  string.dump = nil
  io.open = note(open, "open", "open")
  for _, name in ipairs { "lines", "input" } do io[name] = note(io[name], "read", name) end
  for _, name in ipairs { "output", "tmpfile" } do io[name] = note(io[name], "write", name) end
  io.popen = note(io.popen, "run", "popen")
  os.execute = note(os.execute, "run", "execute")
  for _, name in ipairs { "remove", "rename", "tmpname" } do os[name] = note(os[name], "write", name) end
  -- debug: a traceback is all that is left.
  local traceback = debug.traceback
  for name in pairs(debug) do debug[name] = nil end
  debug.traceback = traceback
  package.loadlib, package.cpath = nil, ""
  package.searchers = { package.searchers[1], has_files and function(name)
    local file, why = searchpath(name, package.path)
    if not file then return why end
    local f, problem = load_file(file)
    if not f then error(format("error loading module '%s' from file '%s':\n\t%s", name, file, problem), 0) end
    return f, file
  end or nil }
  package.searchpath = note(package.searchpath, "read", "searchpath")
  _G.require = note(require)
  for name, module in pairs(package.loaded) do -- C modules that were granted
    if type(module) == "table" and core.jail_modules[name] then note_all(module) end
  end
  for _, class in ipairs(core.jail_classes) do
    note_all(class)
    if type(class.__index) == "table" and class.__index ~= class then note_all(class.__index) end
  end
  if has_run then -- a zygote makes children of its owner, outside
    P.set_spawn(function(_, f) misuse("start", format("process %s cannot be spawned in a sandbox: start_method must be \"fork\" there", P.name_of(f))) end)
    P.set_start_method "fork"
    return
  end
  P.set_spawn(function(_, f) misuse("start", format("process %s cannot be started: a confined process has no processes of its own", P.name_of(f))) end)
  P.set_start_method "spawn"
  core.thread_start = note(core.thread_start)
  local pool = getmetatable(mp.Pool)
  pool.__call = note(pool.__call, nil, "Pool")
  for _, name in ipairs(MAKERS) do
    if type(mp[name]) == "function" then mp[name] = note(mp[name], nil, name) end
  end
end

-- Takes away, caps, and leaves word for the states of threads.
local function shut(has_files, has_run, memory)
  restrict(has_files, has_run)
  if memory then core.jail_cap(memory) end
  core.jail_mark(1 | (has_files and 2 or 0) | (has_run and 4 or 0), memory)
end

-- For thread.lua: a new state in a confined process is as bare as the first.
function core.confine_state()
  local flags, memory = core.jail_marked()
  if flags then shut(flags & 2 ~= 0, flags & 4 ~= 0, memory) end
end

core.jail_modules = {}
core.jail_classes = {} -- the metatables that these have made

local function load_modules(list)
  if not list then return end
  local registry, before = debug.getregistry(), {}
  for k in pairs(registry) do before[k] = true end
  for _, name in ipairs(list) do
    require(name)
    core.jail_modules[name] = true
  end
  for k, v in pairs(registry) do
    if type(k) == "string" and not before[k] and type(v) == "table" and v ~= package.loaded then core.jail_classes[#core.jail_classes + 1] = v end
  end
end

-- For spawn.lua, in the new process: gives up what the maker has said, then reads the task. A C host leaves the policy to the process itself.
function core.enter_jail(confined, jail, report)
  if not jail then jail, report = core.jail_receive() end
  load_modules(confined.modules)
  core.jail_enter(jail, report)
  if confined.sandbox then shut(confined.path, confined.run, confined.memory)
  elseif confined.memory then core.jail_cap(confined.memory)
  end
  return core.jail_secret()
end

-- ---- mp.sandbox -------------------------------------------------------------------------------

mp.sandbox = {}
local sandbox = mp.sandbox

local function checked(fname, f, ...)
  local ok, a, b = pcall(f, ...)
  if not ok then misuse(fname, tostring(a)) end
  return a, b
end

-- What this kernel gives, layer by layer.
function sandbox.available()
  local abi = core.landlock_abi()
  return {
    seccomp = core.seccomp_available(), landlock = abi > 0 and abi or false,
    files = abi >= 3, net = abi >= 4, scope = abi >= 6, namespaces = core.jail_away(), root = core.is_root(),
    ok = core.seccomp_available(),
  }
end

-- This process, for ever. Nobody supervises it: refusals are not recorded, and wall and output cannot be limited.
function sandbox.apply(policy)
  local plain = checked("sandbox.apply", parse, policy)
  for _, key in ipairs { "wall", "output" } do
    if plain[key] then misuse("sandbox.apply", format("limits.%s needs a supervisor: give it to mp.Process, or to mprun --sandbox", key)) end
  end
  if plain.run and core.landlock_abi() < 6 then -- a supervisor would look whom a signal is for
    misuse("sandbox.apply", "run needs a supervisor on this kernel (Landlock 6, Linux 6.12): give it to mp.Process, or to mprun --sandbox")
  end
  local jail = checked("sandbox.apply", core.jail_make, plain, plain.kill and "kill" or "deny")
  load_modules(plain.modules)
  io.stdout:flush()
  checked("sandbox.apply", core.jail_apply, jail)
  shut(plain.read or plain.write, plain.run, plain.memory)
  return true
end

local explain_meta = { __name = "mp.sandbox explanation" }
function explain_meta:__tostring()
  local lines = { "granted:" }
  for _, g in ipairs(self.granted) do lines[#lines + 1] = format("  %-40s %s", g.what, g.layer) end
  if #self.granted == 0 then lines[#lines + 1] = "  computing, the objects that were passed, standard output and error" end
  lines[#lines + 1] = "refused:"
  for _, g in ipairs(self.refused) do lines[#lines + 1] = format("  %-40s %s", g.what, g.layer) end
  lines[#lines + 1] = "limits:"
  for _, g in ipairs(self.limits) do lines[#lines + 1] = format("  %-40s %s", g.what, g.layer) end
  if #self.limits == 0 then lines[#lines + 1] = "  none" end
  return concat(lines, "\n")
end

function sandbox.explain(policy)
  local plain = checked("sandbox.explain", parse, policy)
  checked("sandbox.explain", core.jail_make, plain, "listener")
  local abi = core.landlock_abi()
  local landlock = format("Landlock %d, seccomp", abi)
  local granted, refused, limits = {}, {}, {}
  local function add(list, what, layer) list[#list + 1] = { what = what, layer = layer } end
  for _, path in ipairs(plain.read or {}) do add(granted, "read " .. path, landlock) end
  for _, path in ipairs(plain.write or {}) do add(granted, "read and write " .. path, landlock) end
  for _, path in ipairs(plain.run or {}) do add(granted, "run " .. path .. " (by sh)", landlock) end
  for _, port in ipairs(plain.connect or {}) do
    add(granted, port == 0 and "connect to any TCP port" or format("connect to TCP port %d, any host", port), landlock)
  end
  for _, port in ipairs(plain.bind or {}) do
    add(granted, port == 0 and "listen on any free TCP port" or format("listen on TCP port %d", port), landlock)
  end
  if plain.dns then add(granted, "look up names (UDP, to any address)", "seccomp; the kernel cannot narrow UDP") end
  for _, name in ipairs(plain.modules or {}) do add(granted, "module " .. name, "loaded before the sandbox shuts") end
  if (plain.threads or 0) > 0 then add(granted, format("%d threads", plain.threads), "seccomp, RLIMIT_NPROC") end
  local files = plain.read or plain.write or plain.run or plain.dns
  add(refused, files and "other files" or "all files", abi > 0 and "seccomp, " .. format("Landlock %d", abi) or "seccomp")
  if files then add(refused, "hiding names, sizes and dates of other files", "not enforced: they stay visible") end
  local net = plain.connect or plain.bind or plain.dns
  add(refused, net and "other network" or "the network", net and landlock or core.jail_away() and "seccomp, an empty network namespace" or "seccomp")
  add(refused, plain.run and "other programs" or "programs and processes", plain.run and landlock or "seccomp")
  add(refused, "other processes, their memory and signals", abi >= 6 and "seccomp, Landlock, another user" or "seccomp")
  add(refused, "the caller's memory and descriptors", "spawned by a clean process")
  add(refused, "tracing, bpf, io_uring, other machines' calls", "seccomp ends the process")
  add(refused, "bytecode, debug, other C modules", "Lua; native code would meet the lines above")
  local function limit(key, what, layer) if plain[key] then add(limits, what, layer) end end
  limit("memory", format("memory %d bytes", plain.memory or 0), "Lua's allocator (an error), then RLIMIT_DATA")
  limit("cpu", format("cpu %g s", (plain.cpu or 0) / 1e9), "the supervisor, then RLIMIT_CPU")
  limit("wall", format("wall %g s", (plain.wall or 0) / 1e9), "the supervisor")
  limit("files", format("%d more open files", plain.files or 0), "RLIMIT_NOFILE")
  limit("output", format("output %d bytes", plain.output or 0), "the supervisor")
  return setmetatable({ granted = granted, refused = refused, limits = limits }, explain_meta)
end

-- Attacks that a throw-away process tries. Each gives true when it got through.
local ATTACKS <const> = {
  { "open /etc/passwd", function() return io.open "/etc/passwd" ~= nil end, "read" },
  { "write to /tmp", function()
    local f = io.open("/tmp/mp-selftest", "w")
    if f then f:close() os.remove "/tmp/mp-selftest" end
    return f ~= nil
  end, "write" },
  { "run a program", function() return os.execute "true" == true end, "run" },
  { "remove a file", function() local _, why = os.remove "/tmp/mp-selftest-none" return why:find("No such file", 1, true) ~= nil end, "write" },
  { "load bytecode", function() return load("\27Lua", "x", "b") ~= nil or load("\27Lua") ~= nil end },
  { "reach the debug library", function() return debug.getregistry ~= nil or debug.sethook ~= nil end },
  { "load a C library", function() return package.loadlib ~= nil end },
  { "read the environment", function() return os.getenv "LUA_PATH" ~= nil or os.getenv "LD_PRELOAD" ~= nil end },
}

local function runs_in(policy, f, limits)
  local p = mp.Process { target = f, sandbox = policy, limits = limits }
  p:start()
  local ok, r = pcall(p.result, p)
  return p, ok, r
end

function sandbox.selftest(policy)
  if policy == nil then policy = "pure" end
  local plain = checked("sandbox.selftest", parse, policy)
  local seen = { ok = true }
  local function saw(attack, contained, how)
    seen[#seen + 1] = { attack = attack, contained = contained, how = how }
    if not contained then seen.ok = false end
  end
  for _, a in ipairs(ATTACKS) do
    if not (a[3] and plain[a[3]]) then
      local p, ok, through = runs_in(policy, a[2], { wall = 10 })
      local v = p.violations
      saw(a[1], ok and not through or not ok, not ok and tostring(through) or v[1] and tostring(v[1]) or "refused")
    end
  end
  local p = runs_in(policy, function() while true do pcall(function() while true do end end) end end, { cpu = 0.2, wall = 10 })
  saw("compute for ever", p.error ~= nil and p.error.kind == "cpu", p.error and p.error.message or "")
  local ok, why
  p, ok, why = runs_in(policy, function() -- caught there: an uncaught error would be told on stderr
    local t = {}
    local _, e = pcall(function() while true do t[#t + 1] = ("x"):rep(1 << 20) .. #t end end)
    t = nil -- luacheck: ignore 311 (room for the answer)
    return tostring(e)
  end, { memory = "16M", wall = 10 })
  saw("allocate for ever", ok and why:find("not enough memory", 1, true) ~= nil or p.error ~= nil and p.error.kind == "memory",
    ok and why or p.error and p.error.message or "")
  return setmetatable(seen, { __tostring = function(t)
    local lines = {}
    for i, s in ipairs(t) do lines[i] = format("%-4s %-28s %s", s.contained and "ok" or "HOLE", s.attack, s.how) end
    return concat(lines, "\n")
  end })
end

-- ---- mprun ------------------------------------------------------------------------------------

-- What stands after --sandbox=: a word, a Lua table, or the name of a file with one.
local function policy_of(text)
  if text == "pure" then return text end
  local name = "=--sandbox"
  if not text:find "^%s*{" then
    local f, why = io.open(text)
    if not f then refuse("--sandbox: %s; \"pure\", a Lua table or a file with one expected", why) end
    name, text = "@" .. text, f:read "a"
    f:close()
  end
  local chunk, why = load(text, name, "t", {})
  if not chunk then chunk, why = load("return " .. text, name, "t", {}) end
  if not chunk then refuse("--sandbox: %s", why) end
  local policy = chunk()
  if type(policy) ~= "table" and policy ~= "pure" then refuse("--sandbox: %s gives no table", name:sub(2)) end
  return policy
end

local function sorted(set)
  local list = {}
  for k in pairs(set) do list[#list + 1] = k end
  table.sort(list)
  return list
end

local RESOLVER <const> = { ["/etc/resolv.conf"] = true, ["/etc/hosts"] = true, ["/etc/nsswitch.conf"] = true, ["/etc/host.conf"] = true,
                           ["/etc/gai.conf"] = true }

-- The module that a shared library is, by the templates of package.cpath.
local function module_of(path)
  for template in package.cpath:gmatch "[^;]+" do
    local before, after = template:match "^(.*)%?(.*)$"
    if before and path:sub(1, #before) == before and after ~= "" and path:sub(-#after) == after then
      return (path:sub(#before + 1, -#after - 1):gsub("/", "."))
    end
  end
end

-- Records -> needs: kind -> item -> the line that needed it first.
local function needs_of(list)
  local needs = { read = {}, write = {}, connect = {}, bind = {}, run = {}, modules = {}, other = {} }
  local function need(kind, item, v)
    if not needs[kind][item] then needs[kind][item] = v.where end
  end
  for _, v in ipairs(list) do
    local path = v.fix:match '^%l+ = {"(.*)"}$'
    if v.need == "read" and path then
      local module = module_of(v.target)
      if module then need("modules", module, v)
      elseif not (path:find "^/usr/lib/.*%.so[%d.]*$" or path:find "^/lib/.*%.so[%d.]*$" or path == "/etc/ld.so.cache" or path == "/etc/localtime"
                  or path == "/etc/locale.alias" or path:find "^/usr/lib/.*/gconv/" or path:find "^/usr/lib/locale" or path:find "^/usr/share/zoneinfo") then
        need("read", path, v)
      end
    elseif v.need == "write" and path then
      local there = io.open(path)
      if there then there:close() end
      need("write", there and path or path:match "^(.+)/[^/]*$" or path, v) -- what is gone is made again: its directory
    elseif v.need == "run" and path and v.target ~= "a process" and v.target ~= "a shared object" then
      if not path:find "/sh$" and not path:find "/dash$" then need("run", path, v) end
    elseif v.need == "net.connect" then need("connect", tonumber(v.fix:match "%d+"), v)
    elseif v.need == "net.bind" and v.fix:find "%d" then need("bind", tonumber(v.fix:match "%d+"), v)
    elseif v.need == "net.dns" then needs.dns = needs.dns or v.where
    elseif v.need == "limits.threads" then needs.threads = (needs.threads or 0) + v.count
    elseif v.need == "run" then needs.processes = needs.processes or v.where
    elseif v.need == "" then need("other", v.call .. (v.target ~= "" and " " .. v.target or ""), v)
    end
  end
  if needs.processes then -- mp's own processes: more of the program that runs
    local self = core.own_program()
    if self then need("run", self, { where = needs.processes }) end
  end
  if needs.bind[0] then -- what connects to a port that the system has chosen
    for _, port in ipairs(sorted(needs.connect)) do
      if port >= 32768 then needs.connect[port], needs.connect[0] = nil, needs.connect[port] end
    end
  end
  -- A directory that is written covers what is read in it.
  for path in pairs(needs.read) do
    for dir in pairs(needs.write) do
      if path == dir or path:sub(1, #dir + 1) == dir .. "/" then needs.read[path] = nil end
    end
    if needs.dns and RESOLVER[path] then needs.read[path] = nil end
  end
  return needs
end

-- The smallest policy that covers the needs, as Lua that --sandbox takes.
local function learnt(list)
  local needs = needs_of(list)
  local lines = {}
  local function item(text, where) lines[#lines + 1] = (format("    %-43s %s", text, where and where ~= "" and "-- " .. where or ""):gsub(" +$", "")) end
  local function group(kind, key, quote, indent)
    local items = sorted(needs[kind])
    if #items == 0 then return end
    lines[#lines + 1] = format("%s%s = {", indent or "  ", key)
    for _, x in ipairs(items) do item(format(quote, x) .. ",", needs[kind][x]) end
    lines[#lines + 1] = (indent or "  ") .. "},"
  end
  group("read", "read", "%q")
  group("write", "write", "%q")
  if next(needs.connect) or next(needs.bind) or needs.dns then
    lines[#lines + 1] = "  net = {"
    group("connect", "connect", "%d", "    ")
    group("bind", "bind", "%d", "    ")
    if needs.dns then item("dns = true,", needs.dns) end
    lines[#lines + 1] = "  },"
  end
  group("run", "run", "%q")
  group("modules", "modules", "%q")
  if needs.threads then lines[#lines + 1] = format("  limits = { threads = %d },", needs.threads) end
  local text = #lines == 0 and "\"pure\"" or "{\n" .. concat(lines, "\n") .. "\n}"
  local cannot = sorted(needs.other)
  for i, what in ipairs(cannot) do cannot[i] = format("-- no grant covers: %s%s", what, needs.other[what] ~= "" and " (" .. needs.other[what] .. ")" or "") end
  return (#cannot > 0 and concat(cannot, "\n") .. "\n" or "") .. text
end
core.sandbox_learnt = learnt

-- While it learns, a script keeps everything, but tells its lines.
local function tell_lines()
  local note = core.jail_noted
  for _, name in ipairs { "open", "lines", "input", "output", "popen", "tmpfile" } do io[name] = note(io[name]) end
  for _, name in ipairs { "execute", "remove", "rename", "tmpname" } do os[name] = note(os[name]) end
  for _, name in ipairs { "require", "dofile", "loadfile" } do _G[name] = note(_G[name]) end
end

-- nil: this is the confined copy, the script goes on here. Else the status with which mprun ends.
function core.mprun_sandbox(text, learn)
  local jail, plain
  if learn then
    plain = {}
    jail = core.jail_make({}, "learn")
  else
    plain = parse(policy_of(text))
    jail = core.jail_make(plain, "listener")
    load_modules(plain.modules)
  end
  local report = core.jail_report_new()
  local inside, code = core.jail_split(jail, report)
  if inside then
    if learn then tell_lines() return nil end
    shut(plain.read or plain.write, plain.run, plain.memory)
    return nil
  end
  local r = core.jail_report(report)
  if learn then
    io.stderr:write(learnt(violations(r)), "\n")
    return code < 0 and 128 - code or code
  end
  for _, v in ipairs(violations(r)) do io.stderr:write("mprun: sandbox: ", tostring(v), "\n") end
  if r.more > 0 then io.stderr:write(format("mprun: sandbox: and %d more refusals\n", r.more)) end
  if r.reason == "failed" then io.stderr:write("mprun: sandbox: ", r.message, "\n")
  elseif r.reason == "cpu" or r.reason == "wall" then
    io.stderr:write(format("mprun: sandbox: ended: %g s of %s are used up\n", plain[r.reason] / 1e9, r.reason == "cpu" and "processor time" or "time"))
  elseif r.reason == "sandbox" then io.stderr:write "mprun: sandbox: ended\n"
  end
  return code < 0 and 128 - code or code
end
