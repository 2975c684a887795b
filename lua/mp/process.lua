-- process.lua -- mp.Process: started, joined, ended; classes made from it; who we are (docs/reference/process.md).
-- The userdata holds the child (runtime/bind/l_process.c); everything else about a process is in its table of fields:
--   state     "new", "started", "closed"; "self" and "parent" for what current_process and parent_process give
--   creator   pid of the process that made it
--   family, number, name, identity   what its name is made of; the name, if it was given one: see name_of and identity_of
--   own       what a class's instance has stored in itself
local mp, core = ...

local SIGINT <const>, SIGKILL <const>, SIGTERM <const> = 2, 9, 15
local misuse, getpid, fields_of, settle = core.misuse, mp.getpid, core.process_fields, core.process_settle
local type, pairs, rawget, setmetatable, tostring = type, pairs, rawget, setmetatable, tostring
local pack, unpack, format = table.pack, table.unpack, string.format
local pcall, error, getmetatable, math_type = pcall, error, getmetatable, math.type

-- ---- who we are ---------------------------------------------------------------------------

local current            -- this process, a mp.Process
local parent             -- its parent, or nil in the main program
local live = {}          -- processes that were started here and not seen to end: pid -> mp.Process
local start_method       -- set by set_start_method
local spawn              -- function(process, fields): another file's; nil while there is none
local MOST_RESULTS <const> = 900000 -- what fits Lua's stack
local MOST_DIRECT <const> = 100 -- arguments that are laid out before the fork
local METHODS <const> = { fork = true, spawn = true }

-- What every process of the program inherits: a copy by fork, a message by spawn. A forked process becomes itself only when somebody asks (see become):
-- settle() comes before whatever reads `me`, `current`, `parent`, `live` or the exit hooks, and is part of fields_of. Every key is there from the
-- beginning: becoming takes no memory.
local me = { identity = "", name = "MainProcess", daemon = false, authkey = false, label = false, parent = false, parent_daemon = false }

local function who_am_i()
  settle()
  return me
end

local function authkey()
  settle()
  if not me.authkey then me.authkey = core.random(32) end
  return me.authkey
end

-- An interpreter that runs one script is the script's own; a host is somebody's program.
local own_program
local function is_own_program()
  if own_program == nil then
    local program = core.program()
    own_program = (program:match "^mprun" or program:match "^lua[%d.]*$") and true or false
  end
  return own_program
end

local function default_method()
  if start_method then return start_method end
  return (core.thread_count() > 1 or not is_own_program()) and "spawn" or "fork"
end

-- ---- the class ----------------------------------------------------------------------------

local Process = {}

-- Made when somebody asks.
local function identity_of(f)
  if not f.identity then f.identity = (f.family == "" and "" or f.family .. ":") .. f.number end
  return f.identity
end

local function name_of(f)
  if not f.name then f.name = (rawget(f.class, "__name") or "Process") .. "-" .. identity_of(f) end
  return f.name
end

local function of(self, fname)
  local f = fields_of(self)
  if not f then misuse(fname, format("a process expected, got %s (call it with ':')", type(self))) end
  if f.state == "closed" then misuse(fname, format("the %s is closed", f.ops.noun)) end
  return f
end

local function started(self, fname)
  local f = of(self, fname)
  if f.state == "new" then misuse(fname, format("%s %s was not started", f.ops.noun, name_of(f))) end
  if f.state == "self" then misuse(fname, "a process cannot do this to itself") end
  if f.creator ~= getpid() and f.state ~= "parent" then
    misuse(fname, format("%s %s is not a child of this process", f.ops.noun, name_of(f)))
  end
  return f
end

local function expect(fname, what, value, kind)
  if type(value) ~= kind then misuse(fname, format("%s must be a %s, not a %s", what, kind, type(value))) end
  return value
end

-- args.n counts also what is nil: how many arguments there are.
local function expect_args(fname, args)
  local n = expect(fname, "args", args, "table").n
  if n ~= nil and (type(n) ~= "number" or n < 0 or n > 1e6 or n % 1 ~= 0) then
    misuse(fname, format("args.n must be the number of arguments, not %s", tostring(n)))
  end
end

local OPTIONS <const> = { target = true, args = true, kwargs = true, name = true, daemon = true, start_method = true,
                          sandbox = true, limits = true, authkey = true }

local function set_name(f, fname, name) f.name = expect(fname, "name", name, "string") end
local function set_daemon(f, fname, daemon)
  if f.state ~= "new" then misuse(fname, "daemon must be set before start") end
  f.daemon = expect(fname, "daemon", daemon, "boolean")
end
local function set_authkey(f, fname, key)
  f.authkey = expect(fname, "authkey", key, "string")
  if f.state == "self" then me.authkey = key end
end

-- What can be called: functions, and values whose metatable says so.
local function callable(v)
  if type(v) == "function" then return true end
  local mt = getmetatable(v)
  return type(mt) == "table" and rawget(mt, "__call") ~= nil
end

function Process:init(...)
  local f = of(self, "Process")
  local Name <const>, known <const> = f.ops.constructor, f.ops.options
  local o, args, _, more = ...
  if more ~= nil or args ~= nil and not callable(o) then misuse(Name, "a function, its arguments and a name expected, or one table of options") end
  if callable(o) and type(o) ~= "table" then o = { target = o, args = select(2, ...), name = select(3, ...) } end
  if o == nil then return end
  if type(o) ~= "table" then misuse(Name, "a table of options or a function expected, got " .. type(o)) end
  for k in pairs(o) do
    if not known[k] then misuse(Name, format("unknown option '%s'", tostring(k))) end
  end
  if o.target ~= nil and not callable(o.target) then misuse(Name, "target must be a function") end
  if o.args ~= nil then expect_args(Name, o.args) end
  if o.kwargs ~= nil then expect(Name, "kwargs", o.kwargs, "table") end
  if o.start_method ~= nil and not METHODS[o.start_method] then
    misuse(Name, format("start_method must be \"fork\" or \"spawn\", not %s", tostring(o.start_method)))
  end
  if o.name ~= nil then set_name(f, Name, o.name) end
  if o.daemon ~= nil then set_daemon(f, Name, o.daemon) end
  if o.authkey ~= nil then set_authkey(f, Name, o.authkey) end
  f.target, f.args, f.kwargs, f.start_method = o.target, o.args, o.kwargs, o.start_method
  f.sandbox, f.limits = o.sandbox, o.limits
  if core.process_policy and (o.sandbox ~= nil or o.limits ~= nil) then
    core.process_policy(self, f)
  elseif o.sandbox ~= nil or o.limits ~= nil then
    misuse(Name, "sandbox and limits are not there yet")
  end
end

local function new(class, ...)
  local ops = class.ops__
  settle()
  local daemon = me.daemon
  if ops.noun == "thread" then daemon = false end
  local self = ops.new { -- with room for what comes later
    class = class, ops = ops, state = "new", creator = getpid(), family = me.identity, number = core.next_number(), daemon = daemon,
    own = class ~= ops.class and {} or nil, target = nil, args = nil, pid = nil, exitcode = nil, name = nil, identity = nil,
  }
  self:init(...)
  return self
end

-- p:run(): what the child does. A class replaces it.
function Process:run()
  local f = of(self, "run")
  if f.target == nil then return end
  local args = f.args or {}
  local n = args.n or #args
  if f.kwargs == nil then return f.target(unpack(args, 1, n)) end
  local list = { unpack(args, 1, n) }
  list[n + 1] = f.kwargs
  return f.target(unpack(list, 1, n + 1))
end

local run_target <const> = Process.run

-- ---- errors of a child ----------------------------------------------------------------------

local function text_of(e)
  if type(e) == "string" then return e end
  local ok, s = pcall(tostring, e)
  if type(e) == "number" then return s end
  local mt = getmetatable(e)
  if ok and type(mt) == "table" and mt.__tostring then return s end
  local is_error = rawget(mp, "is_error")
  if ok and is_error and is_error(e) then return s end
  return format("(error object is a %s value)", type(e))
end

-- An uncaught interruption from the terminal is the main program's to tell; see bind/child.h.
local function silent(e)
  return core.interrupter() == "terminal" and type(e) == "string" and e:find("interrupted!", 1, true) ~= nil
end

local function report_error(e, traceback)
  settle()
  local parts = { kind = "error", message = text_of(e), traceback = traceback, value = e, pid = getpid(), name = me.label or me.name, exitcode = 1 }
  if not silent(e) then
    core.stderr(format("%s: %s\n%s", me.label or me.name, parts.message, traceback and traceback .. "\n" or ""))
  end
  if pcall(core.report, "error", parts) then return end
  parts.value = parts.message -- its text, as it cannot be sent
  pcall(core.report, "error", parts)
end

-- ---- the child's side -----------------------------------------------------------------------

local exit_hooks, exit_sentinel = {}, nil

-- mp.at_exit(f): runs in this process when its function has returned or failed, last registered first.
function mp.at_exit(f)
  if type(f) ~= "function" then misuse("at_exit", "a function expected") end
  settle()
  if not (me.parent or core.in_thread() or exit_sentinel) then -- the main program: when its state is closed
    exit_sentinel = setmetatable({}, { __gc = function() core.run_exit_hooks() end })
  end
  exit_hooks[#exit_hooks + 1] = f
  return true
end

local function run_exit_hooks()
  settle()
  while #exit_hooks > 0 do
    local f = table.remove(exit_hooks)
    local ok, e, traceback = core.run(f)
    if not ok then core.stderr(format("%s: at_exit: %s\n%s\n", me.name, text_of(e), traceback or "")) end
  end
end
core.run_exit_hooks = run_exit_hooks

-- What core.run(self.run, self) has given is reported; gives the exit code. A forked process that returned nothing and never asked who it is does not
-- come here: it has nothing to tell and no hooks.
local function finish(_, ...)
  local r = pack(...)
  local code = 0
  local told = core.in_thread() and core.thread_settle()
  if told then code = told -- by os.exit or terminate
  elseif r[1] then
    local ok, e = true, nil
    if r.n > 1 then ok, e = pcall(core.report, "result", r) end -- no report: it returned nothing
    if not ok then
      if mp.is_error(e, "encode") then -- r has one more in front
        e = e.path:gsub("^%[(%d+)%]", function(i) return format("result[%d]", i - 1) end) .. ": " .. e.reason
      end
      pcall(core.report, "error", { kind = "encode", message = "the result cannot be sent: " .. text_of(e), pid = getpid(), name = me.name })
    end
  else
    report_error(r[2], r[3])
    code = 1
  end
  run_exit_hooks()
  return code
end

local function work(self) return finish(self, core.run(self.run, self)) end

-- A forked copy becomes the child, when somebody asks (settle): what a short child does not write is not copied. What takes memory comes before it is
-- settled; a finalizer that comes in there and asks is answered.
function core.process_become()
  local self <const>, f <const> = core.process_own(live)
  local name <const>, identity <const> = name_of(f), identity_of(f)
  if not core.process_settled() then return end
  parent = nil -- made when it is asked for
  me.parent, me.parent_daemon = me.name, me.daemon
  me.identity, me.name, me.daemon, me.authkey, me.label = identity, name, f.daemon, f.authkey or me.authkey, false
  for p in pairs(live) do live[p] = nil end
  for i = #exit_hooks, 1, -1 do exit_hooks[i] = nil end
  if exit_sentinel then setmetatable(exit_sentinel, nil) end -- the copy's state is not closed
  f.state = "self"
  current = self
end

-- A process that was spawned: `task` is what spawn.lua sent.
local function arrive(task, class)
  me = { identity = task.identity, name = task.name, daemon = task.daemon, authkey = task.authkey or false, label = false,
         parent = task.parent, parent_daemon = task.parent_daemon or false }
  start_method = task.method
  live, exit_hooks = {}, {}
  current = core.process_new {
    class = class, ops = class.ops__, state = "self", creator = core.parent_pid(), identity = task.identity, name = task.name, daemon = task.daemon,
    target = task.target, args = task.args, kwargs = task.kwargs, own = task.own,
  }
  return current
end

-- ---- the parent's side ----------------------------------------------------------------------

local function ended(self, f) -- exit code, or nil while it lives
  if f.exitcode ~= nil then return f.exitcode end
  if f.state ~= "started" then return nil end
  local code, why = f.ops.poll(self)
  if code == false then misuse("exitcode", why) end
  if code ~= nil then
    f.exitcode = code
    live[self] = nil
  end
  return code
end

local function pid_of(self, f)
  if not f.pid and f.state == "started" and f.ops.pid then f.pid = f.ops.pid(self) end
  return f.pid
end

local function reap()
  for p in pairs(live) do ended(p, fields_of(p)) end
end

function Process:start()
  local f = of(self, "start")
  if f.state ~= "new" then misuse("start", format("%s %s was started before", f.ops.noun, name_of(f))) end
  if f.creator ~= getpid() then misuse("start", format("%s %s was made by another process", f.ops.noun, name_of(f))) end
  if next(live) then reap() end
  authkey()
  f.ops.start(self, f)
  if f.state == "new" then -- else process_fork has done that: before the fork, as each page that is written afterwards would be copied
    f.state, live[self] = "started", true
  end
  return true
end

-- How many arguments are laid out before the fork; nil: none, the child asks for them itself. What a metatable makes of them is the child's to run.
local function laid_out(args)
  if args == nil then return 0 end
  if getmetatable(args) ~= nil then return nil end
  local n <const> = args.n or #args
  return math_type(n) == "integer" and n >= 0 and n <= MOST_DIRECT and n or nil
end

local function start_process(self, f)
  if is_own_program() then core.expect_children() end
  local method = f.start_method or (f.jail and "spawn") or default_method()
  if method == "fork" then
    local run <const> = self.run
    local n <const> = run == run_target and f.target ~= nil and laid_out(f.args)
    local ok, why
    if n then ok, why = core.process_fork(self, f.daemon, finish, f.target, n, f.args, f.kwargs, live)
    else ok, why = core.process_fork(self, f.daemon, finish, run, 1, { self }, nil, live) end
    if not ok then misuse("start", why) end
  else
    if not spawn then misuse("start", "start_method \"spawn\" is not there") end
    spawn(self, f)
  end
end

local function join(self, fname, timeout)
  local f = started(self, fname)
  if timeout ~= nil and (type(timeout) ~= "number" or timeout ~= timeout) then misuse(fname, "timeout must be a number") end
  if f.state == "parent" then return core.parent_wait(timeout) end
  if f.exitcode ~= nil then return true end
  local ok, why = f.ops.wait(self, timeout)
  if not ok then return ok, why end
  ended(self, f)
  return true
end

function Process:join(timeout) return join(self, "join", timeout) end

function Process:is_alive()
  local f = of(self, "is_alive")
  if f.state == "self" then return true end
  if f.state == "parent" then return core.parent_wait(0) ~= true end
  if f.state == "new" then return false end
  started(self, "is_alive")
  return ended(self, f) == nil
end

local function signal(self, fname, number)
  local f = started(self, fname)
  if f.state == "parent" then misuse(fname, "a process cannot do this to its parent") end
  if ended(self, f) == nil then core.process_signal(self, number) end
  return true
end

function Process:terminate() -- SIGTERM
  return signal(self, "terminate", SIGTERM) end
function Process:kill()
  local f = of(self, "kill")
  return signal(self, "kill", f.jail_report and core.jail_end(f.jail_report) or SIGKILL)
end
function Process:interrupt() return signal(self, "interrupt", SIGINT) end

-- An interruption may be caught: it comes again, and a kill when the budget is over.
function Process:stop(budget)
  if budget ~= nil and type(budget) ~= "number" then misuse("stop", "budget must be a number") end
  local f = started(self, "stop")
  if f.state == "parent" then misuse("stop", "a process cannot do this to its parent") end
  local deadline = mp.now() + (budget or 1)
  while ended(self, f) == nil do
    local left = deadline - mp.now()
    if left <= 0 then core.process_signal(self, SIGKILL) else core.process_signal(self, SIGINT) end
    f.ops.wait(self, left > 0 and math.min(left, 0.02) or nil)
  end
  return true
end

function Process:close()
  local f = fields_of(self)
  if not f then misuse("close", "a process expected") end
  local noun <const> = f.ops.noun
  if f.state == "closed" then return true end
  if f.state == "self" or f.state == "parent" then misuse("close", format("this %s runs", noun)) end
  if f.state == "started" then
    started(self, "close")
    if ended(self, f) == nil then misuse("close", format("%s %s is running; join it first", noun, name_of(f))) end
  end
  f.state = "closed"
  f.target, f.args, f.kwargs, f.own, f.report = nil, nil, nil, nil, nil
  f.ops.letgo(self)
  return true
end

-- What the child has told: "result" or "error" and the value, or nothing.
local function report_of(self, f)
  if not f.report then
    local ok, kind, value = pcall(f.ops.report, self, f.jail ~= nil) -- what a confined process sends is data
    if not ok then kind, value = "error", { kind = "encode", message = text_of(kind) } end
    f.report = { kind = kind, value = value }
  end
  return f.report
end

local SIGNALS <const> = { [2] = "SIGINT", [4] = "SIGILL", [6] = "SIGABRT", [7] = "SIGBUS", [8] = "SIGFPE", [9] = "SIGKILL", [11] = "SIGSEGV",
                          [13] = "SIGPIPE", [14] = "SIGALRM", [15] = "SIGTERM", [24] = "SIGXCPU", [25] = "SIGXFSZ", [31] = "SIGSYS" }

-- What an error may have, as its process told it: the other side may be hostile, and say anything.
local TOLD <const> = { message = "string", traceback = "string", path = "string", reason = "string" }
local KINDS <const> = { error = true, encode = true, memory = true } -- the others are not for it to say

local function told(value)
  local kind = rawget(value, "kind")
  local parts = { kind = kind ~= nil and KINDS[kind] and kind or "error", value = rawget(value, "value"), exitcode = 1 }
  for key, want in pairs(TOLD) do
    local v = rawget(value, key)
    if type(v) == want then parts[key] = v end
  end
  return parts
end

-- The failure of an ended process, or nil.
local function error_of(self, f)
  local code = ended(self, f)
  if code == nil then return nil end
  if f.failure ~= nil then return f.failure end
  local r = report_of(self, f)
  local parts
  if r.kind == "error" and type(r.value) == "table" and (code == 1 or rawget(r.value, "kind") == "encode") then
    parts = told(r.value)
    parts.pid, parts.name = pid_of(self, f) or getpid(), name_of(f)
    if parts.kind == "encode" then parts.exitcode = code end
  elseif code < 0 then
    parts = { kind = "died", pid = pid_of(self, f), name = name_of(f), exitcode = code, signal = -code,
              message = f.ops.noun == "thread" and format("thread %s was stopped", name_of(f)) or
              format("process %s was ended by signal %d%s", name_of(f), -code, SIGNALS[-code] and " (" .. SIGNALS[-code] .. ")" or "") }
  elseif code > 0 then
    parts = { kind = "died", pid = pid_of(self, f), name = name_of(f), exitcode = code,
              message = format("%s %s ended with exit code %d", f.ops.noun, name_of(f), code) }
  end
  if f.jail then parts = core.process_refine(f, parts) end
  if parts then f.failure = core.error_new(parts) end
  return f.failure
end

function Process:result(timeout)
  local f = started(self, "result")
  if f.state == "parent" then misuse("result", "a process has no result for its child") end
  local ok, why = join(self, "result", timeout)
  if not ok then return nil, why end
  local failure = error_of(self, f)
  if failure ~= nil then error(failure, 0) end
  local r = report_of(self, f)
  if r.kind == "result" then
    local list = r.value
    local n = type(list) == "table" and rawget(list, "n")
    if math.type(n) == "integer" and n >= 1 and n <= MOST_RESULTS and not getmetatable(list) then return unpack(list, 2, n) end
    local sentence = format("the result of %s %s is malformed", f.ops.noun, name_of(f))
    error(core.error_new { kind = "encode", message = sentence, pid = pid_of(self, f) or getpid(), name = name_of(f) }, 0)
  end
end

-- ---- classes --------------------------------------------------------------------------------

local class_meta = {
  __call = new,
  __tostring = function(class) return "mp.Process class " .. (rawget(class, "__name") or "?") end,
}

function Process.extend(class, name)
  if type(class) ~= "table" then misuse("extend", "a class expected (call it as mp.Process:extend())") end
  if name ~= nil then expect("extend", "name", name, "string") end
  local sub = setmetatable({ __name = name, super = class }, { __index = class, __call = new, __tostring = class_meta.__tostring })
  if name == nil then sub.__name = rawget(class, "__name") end
  return sub
end

Process.__name = "Process"
local process_ops = {
  noun = "process", constructor = "Process", options = OPTIONS, class = Process, new = core.process_new, start = start_process,
  poll = core.process_poll, wait = core.process_wait, letgo = core.process_letgo, report = core.process_report,
  sentinel = core.process_sentinel, pid = core.process_pid,
}
Process.ops__ = process_ops

-- ---- attributes -----------------------------------------------------------------------------

local get = {}
function get.name(_, f) return name_of(f) end
function get.daemon(_, f) return f.daemon end
function get.pid(self, f) if f.state == "self" then return getpid() end return pid_of(self, f) end
function get.exitcode(self, f) return ended(self, f) end
function get.start_method(_, f) return f.start_method or default_method() end
function get.authkey(_, f) return f.authkey or authkey() end
get["error"] = function(self, f)
  local failure = error_of(self, f)
  if failure ~= nil and f.exitcode ~= 0 then return failure end
  return nil
end
function get.violations(_, f) return core.process_violations(f) end
function get.sentinel(self, f)
  started(self, "sentinel")
  if f.state == "parent" then misuse("sentinel", "the parent has none") end
  return f.ops.sentinel(self)
end

local set = { name = set_name, daemon = set_daemon, authkey = set_authkey }

local function make_meta(meta, type_name)
meta.__name = type_name

function meta.__index(self, key)
  local f = fields_of(self)
  if f.own ~= nil then
    local v = f.own[key]
    if v ~= nil then return v end
  end
  local v = f.class[key]
  if v ~= nil and key ~= "__name" and key ~= "ops__" then return v end
  local getter = get[key]
  if getter == nil then error(core.where() .. format("%s has no field '%s'", type_name, tostring(key)), 0) end
  if f.state == "closed" then misuse(tostring(key), format("the %s is closed", f.ops.noun)) end
  return getter(self, f)
end

function meta.__newindex(self, key, value)
  local f = fields_of(self)
  if f.state == "closed" then misuse(tostring(key), format("the %s is closed", f.ops.noun)) end
  local setter = set[key]
  if setter then
    setter(f, type_name, value)
    if f.state == "self" and key == "name" then me.name = value end
    return
  end
  if get[key] then misuse(tostring(key), "cannot be set") end
  if f.own == nil then misuse(tostring(key), type_name .. " has no such field that can be set; extend it to give it some") end
  f.own[key] = value
end

function meta.__tostring(self)
  local f = fields_of(self)
  local how
  if f.state == "new" then how = "not started"
  elseif f.ops.noun == "thread" and f.state == "started" then
    local code = ended(self, f)
    how = code == nil and "running" or code < 0 and "stopped" or format("exited %d", code)
  elseif f.state == "closed" then how = "closed"
  elseif f.state == "self" then how = format("this process, pid %d", getpid())
  elseif f.state == "parent" then how = format("parent, pid %d", f.pid)
  elseif f.creator ~= getpid() then how = format("of process %d, pid %d", f.creator, pid_of(self, f))
  else
    local code = ended(self, f)
    if code == nil then how = format("running pid %d", pid_of(self, f))
    elseif code < 0 then how = format("ended by signal %d", -code)
    else how = format("exited %d", code) end
  end
  return format("%s %s %s", type_name, name_of(f), how)
end

-- Leaving the scope lets go of the handle; the process runs on.
function meta.__close() end
meta.__metatable = type_name
end
make_meta(core.process_meta, "mp.Process")

-- ---- mp -------------------------------------------------------------------------------------

mp.Process = setmetatable(Process, class_meta)

function mp.current_process()
  settle()
  if not current then
    current = core.process_new { class = Process, ops = Process.ops__, state = "self", name = me.name, daemon = me.daemon, creator = getpid() }
  end
  return current
end

function mp.parent_process()
  settle()
  if not parent and me.parent then
    parent = core.process_new {
      class = Process, ops = Process.ops__, state = "parent", name = me.parent, daemon = me.parent_daemon, pid = core.parent_pid(), creator = 0,
    }
  end
  return parent
end

function mp.active_children()
  settle()
  reap()
  local list = {}
  for p in pairs(live) do
    if fields_of(p).ops == process_ops then list[#list + 1] = p end
  end
  table.sort(list, function(a, b) return pid_of(a, fields_of(a)) < pid_of(b, fields_of(b)) end)
  return list
end

function mp.get_start_method() return default_method() end
function mp.get_all_start_methods() return spawn and { "fork", "spawn" } or { "fork" } end

function mp.set_start_method(name, force)
  if type(name) ~= "string" or not METHODS[name] then
    misuse("set_start_method", format("\"fork\" or \"spawn\" expected, got %s", tostring(name)))
  end
  if start_method and not force then misuse("set_start_method", "the start method has been set already; give force = true to change it") end
  start_method = name
  return true
end

-- ---- for other files ------------------------------------------------------------------------

function core.process_name(self) return name_of(fields_of(self)) end

core.process = {
  class = Process, fields = fields_of, started = started, make_meta = make_meta, class_meta = class_meta,
  become_thread = function(m) me, current = m, nil end, work = work, arrive = arrive, name_of = name_of, identity_of = identity_of,
  report_of = report_of, error_of = error_of, text_of = text_of,
  identity = who_am_i, authkey = authkey,
  set_spawn = function(f) spawn = f end,
  set_start_method = function(name) start_method = name end,
  chosen_method = function() return start_method or not is_own_program() and "spawn" or nil end, -- what children inherit
}
