-- manager.lua -- the user's side of a manager: mp.Manager{}, and proxies, which ask the server (docs/internals/managers.md).
-- A proxy is a userdata with a table of fields:
--   kind     "dict", "list", "Namespace", "manager", "pool", "result" or "object": which class of operations it has
--   id       the object's number at the server
--   server   who to ask (below); then 1 is its line and 2 the id, for the quick way of a call (l_manager.c), or
--   object   the object itself, when this process is the server, or
--   link     a link to another program (link.lua)
--   token    an mp.Fd: as long as somebody holds a copy the server keeps the object
local mp, core = ...

local misuse, fields_of, proxy_new, getpid = core.misuse, core.proxy_fields, core.proxy_new, mp.getpid
local type, pairs, ipairs, next, tostring, pcall, error, select = type, pairs, ipairs, next, tostring, pcall, error, select
local setmetatable, getmetatable, rawget = setmetatable, getmetatable, rawget
local unpack, format, mtype = table.unpack, string.format, math.type
local is_error = mp.is_error

local M = { classes = {}, shared = {} } -- shared: the manager's methods that make shared objects
local classes <const> = M.classes
local ROOT <const> = 1               -- the manager itself is an object, too
local DONE <const>, FAILED <const> = 0, 1 -- of an answer; anything else: misuse

-- ---- asking the server ----------------------------------------------------------------------
-- A server, as its clients know it: requests (its queue), alive (an mp.Fd that hangs up when it is gone), pid, name; and here: line, conn.
-- A conn belongs to one Lua state of one process: number, reply (our end of a pipe), held (our token, for the server to see us go). The line knows
-- the first two and the number of the last request.

local servers = setmetatable({}, { __mode = "k" }) -- requests -> server

local function server_of(d)
  local s = servers[d.requests]
  if not s then
    s = { requests = d.requests, alive = d.alive, pid = d.pid, name = d.name, proxies = setmetatable({}, { __mode = "v" }), line = core.line_new() }
    servers[d.requests] = s
  elseif d.alive ~= s.alive then
    d.alive:close() -- known; a descriptor is not for the collector to count
  end
  return s
end

local function drop(s)
  core.line_close(s.line)
  s.conn = nil
end

local function lost(s)
  drop(s)
  error(core.error_new { kind = "died", pid = s.pid, name = s.name, message = core.where() .. format("the manager's server (pid %d) is gone", s.pid) }, 0)
end

local function alive(s) return #mp.wait({ s.alive:fileno() }, 0) == 0 end

local function put(s, request)
  while not s.requests:put(request, 1) do -- full: then somebody must be there to drain it
    if not alive(s) then lost(s) end
  end
end

local function connect(s)
  if not alive(s) then lost(s) end
  local ok, reply, ours = pcall(mp.Pipe, false)
  if not ok then error(format("%sa manager cannot be called from here: %s", core.where(), reply), 0) end -- confined, or out of descriptors
  local theirs, held = core.pipe_pair()
  local taken, hangs = core.pipe_pair()
  put(s, { 0, 0, "connect", ours, theirs, hangs })
  ours:close()
  theirs:close()
  hangs:close()
  -- Until the server has taken the end of the pipe, that does not tell of its death. The pipe itself must not be waited for among others: its bell,
  -- once armed, costs each answer seven system calls.
  mp.wait { taken:fileno(), s.alive:fileno() }
  taken:close()
  local number = reply:poll() and reply:recv()
  if not number then lost(s) end
  s.conn = { number = number, reply = reply, held = held }
  core.line_open(s.line, s.requests, reply, number)
end

-- The request, by default the last one, is not waited for, should it be at work still.
local function forget(s, seq)
  seq = seq or core.line_number(s.line)
  if s.conn and seq then put(s, { s.conn.number, seq, "forget" }) end
end

-- A request {client, number, operation, id, arguments}, of which what is wrong is said as the caller knows it.
local function refused(e, fname)
  if not is_error(e, "encode") then error(e, 0) end
  local path, i = e.path, nil
  path = path:gsub("^%[(%d+)%]", function(n) i = tonumber(n) return "" end)
  e.path, e.message = path, format("%s%s: argument%s: %s", core.where(), fname, path ~= "" and " (" .. path .. ")" or "", e.reason)
  if i and i < 5 then e.path = "" end
  error(e, 0)
end

-- There is no answer: why.
local function unanswered(s, why)
  if why == "eof" and alive(s) then
    drop(s)
    error(core.error_new { kind = "died", pid = s.pid, name = s.name, message = core.where() .. "the manager's server has closed this connection" }, 0)
  end
  lost(s)
end

local function answer_of(s, seq)
  local reply = s.conn.reply
  while true do
    local ok, a, why = pcall(reply.recv, reply)
    if not ok then -- interrupted, or what cannot be read here
      pcall(forget, s, seq)
      error(a, 0)
    end
    if a == nil then unanswered(s, why) end
    if a[1] == seq then return a end
  end
end

local function exchange(s, fname, request)
  if s.down then misuse(fname, "the manager was shut down") end
  local seq = core.line_number(s.line, true)
  if not seq then
    connect(s)
    seq = core.line_number(s.line, true)
  end
  request[1], request[2] = s.conn.number, seq
  local ok, e = pcall(put, s, request)
  if not ok then refused(e, fname) end
  return answer_of(s, seq)
end

local function result(a, fname)
  local status = a[2]
  if status == DONE then return unpack(a, 4, 3 + a[3]) end
  if status == FAILED then error(a[3], 0) end
  misuse(fname, a[3])
end

-- An operation on the object of a proxy. `fname` is what the user called. What is no matter of scalars that come and go takes the long way.
local call = core.proxy_caller(function(f, fname, op, ...)
  if f.server then return result(exchange(f.server, fname, { 0, 0, op, f.id, ... }), fname) end
  if f.object then return M.direct(f.object, fname, op, ...) end
  return f.link:call(f, fname, op, ...)
end, function(f, fname, a) -- the answer, or why there is none
  if type(a) == "table" then return result(a, fname) end
  return unanswered(f.server, a)
end, function(f, seq)
  forget(f.server, seq)
end)
M.call = call

-- The same, for any number of arguments.
local function call_many(f, fname, op, name, ...)
  return call(f, fname, op, name, select("#", ...), ...)
end
M.call_many = call_many

-- ---- proxies --------------------------------------------------------------------------------

-- {id, kind, label, token = , server = {...}}, as it travels; see server.lua for what the server sends.
function M.describe(p)
  local link = core.linking -- a link is being written to
  if link then return link:refer(p) end
  local f = fields_of(p)
  if f.kind == "closed" then error("a closed proxy cannot be sent", 0) end
  if f.object then return M.given_out(f) end
  if f.link then return f.link.describe(f) end -- to another process of this program
  local s = f.server
  if s.down then error("the manager was shut down", 0) end
  return { f.id, f.kind, f.label, token = f.token, address = f.address, server = { requests = s.requests, alive = s.alive, pid = s.pid, name = s.name } }
end

function M.arrive(d)
  if core.linking then return core.linking:arrive(d) end
  if d.link then return core.manager_part "link".arrive(d) end
  if M.own and d.server.requests == M.own.requests then
    d.token:close()
    d.server.alive:close()
    return M.proxy_here(d[1])
  end
  local s = server_of(d.server)
  local known = s.proxies[d[1]]
  if known then
    d.token:close()
    return known
  end
  if not classes[d[2]] then error("a proxy of an unknown kind", 0) end
  local p = proxy_new { s.line, d[1], id = d[1], kind = d[2], label = d[3], token = d.token, server = s, class = classes[d[2]], address = d.address }
  s.proxies[d[1]] = p
  return p
end

local function check(p, fname, kind)
  local f = fields_of(p)
  if f and f.kind == "closed" then misuse(fname, "the handle is closed") end
  if not f or (kind and f.kind ~= kind) then
    local what = kind == "manager" and "manager" or (kind or "proxy") .. " of a manager"
    misuse(fname, format("a %s expected, got %s (call it with ':')", what, type(p)))
  end
  return f
end

local function callable(v)
  if type(v) == "function" then return true end
  local mt = getmetatable(v)
  return type(mt) == "table" and rawget(mt, "__call") ~= nil
end

local function check_function(fname, v)
  if not callable(v) then misuse(fname, format("a function expected, got %s", type(v))) end
end

-- Runs f while the object is held for this client.
local function finish(f, fname, ok, ...)
  local released, why = pcall(call, f, fname, "release")
  if not ok then error((...), 0) end
  if not released then error(why, 0) end
  return ...
end

local function with(kind)
  return function(p, fn, ...)
    local f = check(p, "with", kind)
    check_function("with", fn)
    call(f, "with", "hold")
    return finish(f, "with", pcall(fn, p, ...))
  end
end

-- Methods that only ask. op is the operation, which has the method's name.
local function asking(class, kind, ...)
  for _, name in ipairs { ... } do
    class[name] = function(p, a, b) return call(check(p, name, kind), name, name, a, b) end
  end
end

local function snapshot(t) return next, t, nil end

-- ---- dict -----------------------------------------------------------------------------------

local Dict = { with = with "dict" }
asking(Dict, "dict", "get", "set", "incr", "setdefault", "pop", "keys", "values", "copy", "clear")

function Dict.items(p)
  return core.items(call(check(p, "items", "dict"), "items", "items"))
end

function Dict.update(p, k, fn)
  local f = check(p, "update", "dict")
  check_function("update", fn)
  local old = call(f, "update", "hold_get", k)
  local ok, new = pcall(fn, old)
  if not ok then return finish(f, "update", false, new) end
  local set, e = pcall(call, f, "update", "set_release", k, new)
  if set then return new end
  return finish(f, "update", false, e)
end

classes.dict = {
  methods = Dict,
  index = function(_, f, k) return call(f, "index", "get", k) end,
  newindex = function(_, f, k, v) call(f, "newindex", "set", k, v) end,
  len = function(f) return call(f, "#", "len") end,
  pairs = function(f) return snapshot(call(f, "pairs", "copy")) end,
  title = "mp.DictProxy",
}

-- ---- list -----------------------------------------------------------------------------------

-- Stable, and raises what `less` raises. For lists of the user's, and at the server.
function M.sort(t, less)
  local from, to, n, width = t, {}, #t, 1
  less = less or function(a, b) return a < b end
  while width < n do
    for low = 1, n, 2 * width do
      local i, j, mid, high = low, low + width, math.min(low + width, n + 1), math.min(low + 2 * width, n + 1)
      for k = low, high - 1 do
        if i < mid and (j >= high or not less(from[j], from[i])) then
          to[k], i = from[i], i + 1
        else
          to[k], j = from[j], j + 1
        end
      end
    end
    from, to, width = to, from, 2 * width
  end
  return from
end

local List = { with = with "list" }
asking(List, "list", "get", "set", "append", "pop", "remove", "index", "reverse", "copy", "clear")

function List.insert(p, i, v) return call(check(p, "insert", "list"), "insert", "insert", i, v) end

function List.extend(p, t)
  local f = check(p, "extend", "list")
  if type(t) == "userdata" then
    local g = fields_of(t)
    if (g and g.kind == "list") or getmetatable(t) == "mp.List" then t = t:copy() end
  end
  return call(f, "extend", "extend", t)
end

function List.sort(p, less)
  local f = check(p, "sort", "list")
  if less == nil then return call(f, "sort", "sort") end
  check_function("sort", less)
  local t = call(f, "sort", "hold_copy")
  local ok, sorted = pcall(M.sort, t, less)
  if not ok then return finish(f, "sort", false, sorted) end
  local set, e = pcall(call, f, "sort", "replace_release", sorted)
  if set then return true end
  return finish(f, "sort", false, e)
end

classes.list = {
  methods = List,
  index = function(_, f, i)
    if mtype(i) ~= "integer" and type(i) ~= "number" then error(core.where() .. format("mp.ListProxy has no field '%s'", tostring(i)), 0) end
    return call(f, "index", "get", i)
  end,
  newindex = function(_, f, i, v) call(f, "newindex", "set", i, v) end,
  len = function(f) return call(f, "#", "len") end,
  pairs = function(f) return ipairs(call(f, "pairs", "copy")) end,
  title = "mp.ListProxy",
}

-- ---- Namespace ------------------------------------------------------------------------------

classes.Namespace = {
  methods = {},
  index = classes.dict.index,
  newindex = classes.dict.newindex,
  pairs = classes.dict.pairs,
  title = "mp.NamespaceProxy",
}

-- ---- objects of the user's ------------------------------------------------------------------

-- A field of an object is asked for; a function is called there. Methods are remembered, for the object's class has them for ever.
classes.object = {
  methods = {},
  index = function(_, f, k)
    local known = f.known and f.known[k]
    if known then return known end
    local v, is_method = call(f, tostring(k), "index", k)
    if not is_method then return v end
    known = function(self, ...)
      local g = fields_of(self)
      if not g then misuse(tostring(k), "the object expected first (call it with ':')") end
      return call_many(g, tostring(k), "call", k, ...)
    end
    f.known = f.known or {}
    f.known[k] = known
    return known
  end,
  newindex = function(_, f, k, v) call(f, tostring(k), "newindex", k, v) end,
  len = function(f) return call(f, "#", "len") end,
  pairs = function(f) return snapshot(call(f, "pairs", "pairs")) end,
  call = function(f, ...) return call_many(f, f.label, "apply", nil, ...) end,
  title = "mp.Proxy",
}

-- ---- pools ----------------------------------------------------------------------------------

local Pool, Result = {}, {}
asking(Pool, "pool", "close", "terminate", "join", "pids", "stats")
asking(Result, "result", "get", "wait", "ready", "successful", "cancel")
for _, name in ipairs { "apply", "map", "starmap", "apply_async", "map_async", "starmap_async" } do
  Pool[name] = function(p, fn, list, options)
    local f = check(p, name, "pool")
    if not callable(fn) then misuse(name, format("a function expected, got %s", type(fn))) end
    if type(options) == "table" then
      for _, o in ipairs { "callback", "error_callback", "progress" } do
        if options[o] ~= nil then misuse(name, format("a manager's pool has no option '%s'", o)) end
      end
    end
    return call(f, name, name, fn, list, options)
  end
end
classes.pool = {
  methods = Pool,
  index = function(_, f, k)
    if k == "processes" then return call(f, "processes", "processes") end
    error(core.where() .. format("mp.PoolProxy has no field '%s'", tostring(k)), 0)
  end,
  close = function(f, e)
    call(f, "close", e == nil and "close" or "terminate")
    call(f, "join", "join")
  end,
  title = "mp.PoolProxy",
}
classes.shared = { methods = {}, title = "mp.Shared" } -- what the server keeps for deputies (gate.lua)
classes.result = { methods = Result, title = "mp.ResultProxy" }

-- ---- the manager ----------------------------------------------------------------------------

local Manager = {}

local function made(name)
  return function(m, ...) return call_many(check(m, name, "manager"), name, "make", name, ...) end
end
for _, name in ipairs { "dict", "list", "Namespace", "Pool" } do Manager[name] = made(name) end

-- A constructor was called from here, but the mistake is the caller's.
local function own_mistake(name, ok, ...)
  if ok then return ... end
  local e = ...
  if type(e) ~= "string" then error(e, 0) end
  misuse(name, (e:gsub("^[^\n]-:%d+: ", ""):gsub("^mp%.", ""):gsub("^" .. name .. ": ", ""):gsub(" to '%?' ", " ")))
end

-- Shared objects are themselves: they need no server. Over a link they are made at its other end.
for _, name in ipairs { "Value", "Array", "Queue", "JoinableQueue", "SimpleQueue", "Lock", "RLock", "Semaphore", "BoundedSemaphore", "Event",
                        "Condition", "Barrier" } do
  local far = made(name)
  Manager[name] = function(m, ...)
    local f = check(m, name, "manager")
    if f.link then return far(m, ...) end
    if f.server and f.server.down then misuse(name, "the manager was shut down") end
    return own_mistake(name, pcall(mp[name], ...))
  end
  M.shared[name] = Manager[name]
end

function Manager.register(m, name, constructor)
  local f = check(m, "register", "manager")
  if type(name) ~= "string" or name == "" then misuse("register", "a name expected") end
  if Manager[name] or name == "address" then misuse("register", format("'%s' is taken", name)) end
  if type(constructor) ~= "function" then misuse("register", format("a function expected, got %s", type(constructor))) end
  if f.link then misuse("register", "only the program that made the manager can do this") end
  return call(f, "register", "register", name, constructor)
end

function Manager.shutdown(m)
  local f = check(m, "shutdown", "manager")
  local s = f.server
  if f.link then misuse("shutdown", "this is a connection: only the program that made the manager can do this") end
  if not s or not f.process or f.owner ~= getpid() then misuse("shutdown", "only the process that made the manager can do this") end
  if s.down then return true end
  local ok, e = pcall(exchange, s, "shutdown", { 0, 0, "shutdown", ROOT })
  if not ok and not is_error(e, "died") then error(e, 0) end
  drop(s)
  s.down = true
  if not f.process:join(5) then
    f.process:kill()
    f.process:join()
  end
  if f.gate then
    f.gate:terminate()
    if not f.gate:join(10) then
      f.gate:kill()
      f.gate:join()
    end
  end
  return true
end

classes.manager = {
  methods = Manager,
  index = function(_, f, k)
    if k == "address" then return f.address end
    if type(k) ~= "string" then error(core.where() .. format("mp.Manager has no field '%s'", tostring(k)), 0) end
    f.names = f.names or {}
    if not f.names[k] then
      if not call(f, k, "has", k) then error(core.where() .. format("mp.Manager has no field '%s', and nothing is registered as that", k), 0) end
      f.names[k] = made(k)
    end
    return f.names[k]
  end,
  close = function(f)
    if f.link then return f.link:close() end
    if f.process and f.owner == getpid() then Manager.shutdown(f.self[1]) end
  end,
  title = "mp.Manager",
}

-- ---- metamethods ----------------------------------------------------------------------------

local meta = core.proxy_meta
meta.__name = "mp.Proxy"
meta.__metatable = "mp.Proxy"

function meta.__index(p, k)
  local f = fields_of(p)
  local class = f.class
  local method = class.methods[k]
  if method then return method end
  if class.index then return class.index(p, f, k) end
  error(core.where() .. format("%s has no field '%s'", class.title, tostring(k)), 0)
end

function meta.__newindex(p, k, v)
  local f = fields_of(p)
  local set = f.class.newindex
  if not set then error(core.where() .. format("%s: field '%s' cannot be set", f.class.title, tostring(k)), 0) end
  set(p, f, k, v)
end

local function lacks(f, what) error(core.where() .. format("%s has no %s", f.class.title, what), 0) end

function meta.__len(p)
  local f = fields_of(p)
  if not f.class.len then lacks(f, "length") end
  return f.class.len(f)
end

function meta.__pairs(p)
  local f = fields_of(p)
  if not f.class.pairs then lacks(f, "pairs") end
  return f.class.pairs(f)
end

function meta.__call(p, ...)
  local f = fields_of(p)
  if not f.class.call then lacks(f, "call") end
  return f.class.call(f, ...)
end

function meta.__eq(a, b)
  local f, g = fields_of(a), fields_of(b)
  return f ~= nil and g ~= nil and f.id ~= nil and f.id == g.id and f.server == g.server and f.link == g.link
end

function meta.__tostring(p)
  local f = fields_of(p)
  local s = f.server
  if f.kind == "closed" then return f.class.title end
  local where = s and s.name or f.link and f.link.address or "here"
  if f.kind == "manager" then
    local state = s and (s.down and " shut down" or format(" pid %d", s.pid)) or f.link and f.link.closed and " closed" or ""
    return format("mp.Manager %s%s", where, state)
  end
  return format("%s %s#%s of %s", f.class.title, f.label and f.label .. " " or "", tostring(f.id), where)
end

-- Lets go of this handle; the object lives on while others have it.
classes.closed = {
  methods = {},
  index = function(_, _, k) misuse(tostring(k), "the handle is closed") end,
  newindex = function(_, _, k) misuse(tostring(k), "the handle is closed") end,
  title = "mp.Proxy closed",
}

function meta.__close(p, e)
  local f = fields_of(p)
  if f.class.close then return f.class.close(f, e) end
  local home = f.server or f.link
  if not home or not f.id then return end
  home.proxies[f.id] = nil
  if f.server then f.token:close() else f.link:let_go(f) end
  f.kind, f.class, f.id, f.token, f[1] = "closed", classes.closed, nil, nil, nil
end

-- ---- mp.Manager -----------------------------------------------------------------------------

local OPTIONS <const> = { address = "string", authkey = "string", initializer = "function" }
local count = 0

function M.new(o)
  if o == nil then o = {} end
  if type(o) ~= "table" then misuse("Manager", format("a table of options expected, got %s", type(o))) end
  for k, v in pairs(o) do
    local want = OPTIONS[k]
    if not want then misuse("Manager", format("unknown option '%s'", tostring(k))) end
    if type(v) ~= want then misuse("Manager", format("%s must be a %s, not a %s", k, want, type(v))) end
  end
  if o.authkey == "" then misuse("Manager", "authkey must not be empty") end
  if o.address then core.manager_part "link".check_address("Manager", o.address) end
  count = count + 1
  local name = "Manager-" .. count
  local requests, alive_r, alive_w = mp.Queue(), core.pipe_pair()
  local ready, told <close> = mp.Pipe(false)
  local process = mp.Process {
    target = core.manager_serve, name = name, daemon = true,
    start_method = core.jail_marked() and "fork" or "spawn", -- a confined process has no zygote
    args = { { requests = requests, alive = alive_w, alive_here = alive_r, told = told, initializer = o.initializer, name = name } },
  }
  process:start()
  core.process_serves(process)
  core.process_fields(process).args = nil -- or this would keep the queue, and so the connection, for as long as the server runs
  core.process_forget()
  told:close()
  alive_w:close()
  local answer = ready:recv()
  if type(answer) ~= "table" then
    process:join()
    error(process.error or core.error_new { kind = "died", name = name, pid = process.pid, message = "Manager: the server could not begin" }, 0)
  end
  if answer.failure then
    process:join()
    error(answer.failure, 0)
  end
  local m = answer.manager
  local f = fields_of(m)
  f.process, f.owner, f.self = process, getpid(), setmetatable({ m }, { __mode = "v" })
  if o.address then
    local ok, e = pcall(core.manager_part "link".open_gate, m, f, o.address, o.authkey or mp.current_process().authkey)
    if not ok then
      Manager.shutdown(m)
      error(e, 0)
    end
  end
  return m
end

M.check, M.callable, M.exchange, M.refused, M.forget = check, callable, exchange, refused, forget
return M
