-- server.lua -- a manager's server process: one Lua state that owns plain objects and does what clients ask, one request after the other
-- (docs/internals/managers.md). An object is a table:
--   kind, id, label   as its proxies have them
--   ops               what can be asked of it, by its kind
--   users             true if that is code of the user's: any number of arguments
--   data              a dict's or list's table, the user's object, a pool, an async result
--   clients           how many copies of it were given out and are not gone (each has a token: a pipe)
--   holder, depth     the client for which it is held (with, update); waiting: requests of others meanwhile
-- What clients hold is in `given`; all others live as long as something here refers to their proxy.
local mp, core = ...

local M <const> = core.manager_part "manager"
local proxy_new, fields_of, getpid = core.proxy_new, core.proxy_fields, mp.getpid
local run = core.request_run
local type, pairs, ipairs, next, tostring, pcall, xpcall, error = type, pairs, ipairs, next, tostring, pcall, xpcall, error
local setmetatable, getmetatable, rawequal = setmetatable, getmetatable, rawequal
local pack, unpack, format, mtype, insert, remove = table.pack, table.unpack, string.format, math.type, table.insert, table.remove
local ROOT <const>, DONE <const>, FAILED <const>, MISUSED <const> = 1, 0, 1, 2

local S = {}
local given = {}                                      -- id -> object: some client has a proxy
local objects = setmetatable({}, { __mode = "v" })    -- id -> object
local object_of = setmetatable({}, { __mode = "k" })  -- the user's value -> its object
local clients = {}                                    -- number -> {number, reply, ...}
local registered = {}                                 -- name -> constructor
local pending = {}                                    -- answers that wait for a pool
local last_id, last_client = 0, 0
local me                                              -- requests, alive, pid, name
local running = true

-- ---- objects --------------------------------------------------------------------------------

-- Objects in there may be named by clients only by what they hold.
local ops = { dict = {}, list = {}, Namespace = {}, object = {}, manager = {}, pool = {}, result = {} }
local USERS <const> = { object = true, manager = true }

local function new_object(kind, data, label)
  last_id = last_id + 1
  local o = { kind = kind, ops = ops[kind], users = USERS[kind], data = data, label = label, id = last_id, clients = 0 }
  o.proxy = proxy_new { kind = kind, class = M.classes[kind], id = o.id, label = label, object = o }
  objects[o.id] = o
  return o
end

function M.proxy_here(id)
  local o = objects[id]
  if not o then error("the object is gone", 0) end
  return o.proxy
end

-- A proxy is about to leave in a message. Each copy has a token of its own: when nobody holds that, nobody holds the copy.
local unsent = {}
function M.given_out(f)
  local o = f.object
  local r, w = core.pipe_pair()
  core.hangup_watch(r:take(), o.id)
  unsent[#unsent + 1] = w
  o.clients = o.clients + 1
  given[o.id] = o
  return { o.id, o.kind, o.label, token = w, server = me }
end

local function sent()
  for i = #unsent, 1, -1 do
    unsent[i]:close()
    unsent[i] = nil
  end
end

-- The proxy of a value that is reached by proxy. Shared objects are themselves, and so are scalars.
local function served(v, label)
  local t = type(v)
  if t == "userdata" and fields_of(v) then return v end
  if t ~= "table" and t ~= "function" and t ~= "userdata" then return v end
  local mt = t == "userdata" and getmetatable(v)
  if mt and S.shared[mt] then return v end
  local o = object_of[v]
  if not o then
    o = new_object("object", v, label)
    object_of[v] = o
  end
  return o.proxy
end

-- ---- what can be done -----------------------------------------------------------------------

local Misuse = {}
local function misuse(...) error(setmetatable({ format(...) }, Misuse), 0) end

local function plain_copy(t)
  local c = {}
  for k, v in next, t do c[k] = v end
  return c
end

local function holding(o) return o end -- these are the loop's: see `serve`
for _, kind in ipairs { "dict", "list" } do ops[kind].hold, ops[kind].release = holding, holding end

-- dict and Namespace
do
  local D = ops.dict
  local KEYS <const> = { string = true, number = true, boolean = true, userdata = true }
  local function check_key(k)
    if k == nil or k ~= k then misuse("a key must not be %s", k == nil and "nil" or "nan") end
    if not KEYS[type(k)] then misuse("a key must be a string, number, boolean or shared object, not a %s", type(k)) end
  end
  local function set(o, k, v)
    local t = o.data
    local old = t[k]
    if old == nil and v ~= nil then o.n = o.n + 1 elseif old ~= nil and v == nil then o.n = o.n - 1 end
    t[k] = v
  end
  function D.get(o, k, default)
    local v = o.data[k]
    if v == nil then return default end
    return v
  end
  function D.set(o, k, v)
    check_key(k)
    set(o, k, v)
    return true
  end
  D.hold_get = D.get
  D.set_release = D.set
  function D.incr(o, k, n)
    check_key(k)
    local old = o.data[k]
    if old == nil then old = 0 end
    if n == nil then n = 1 end
    if type(n) ~= "number" then misuse("a number expected, got %s", type(n)) end
    if type(old) ~= "number" then misuse("the value is a %s, not a number", type(old)) end
    local new = old + n
    if mtype(old) == "integer" and mtype(n) == "integer" and ((n >= 0 and new < old) or (n < 0 and new > old)) then
      misuse "the sum is out of the integers' range"
    end
    set(o, k, new)
    return new
  end
  function D.setdefault(o, k, v)
    check_key(k)
    local old = o.data[k]
    if old ~= nil then return old end
    set(o, k, v)
    return v
  end
  function D.pop(o, k, default)
    local v = o.data[k]
    if v == nil then return default end
    set(o, k, nil)
    return v
  end
  function D.keys(o)
    local list = {}
    for k in next, o.data do list[#list + 1] = k end
    return list
  end
  function D.values(o)
    local list = {}
    for _, v in next, o.data do list[#list + 1] = v end
    return list
  end
  function D.items(o)
    local list = {}
    for k, v in next, o.data do list[#list + 1] = { k, v } end
    return list
  end
  function D.copy(o) return plain_copy(o.data) end
  function D.clear(o)
    o.data, o.n = {}, 0
    return true
  end
  function D.len(o) return o.n end
  local N = ops.Namespace
  N.get, N.set, N.copy = D.get, D.set, D.copy
end

-- list
do
  local L = ops.list
  local function equal(a, b)
    if a == b then return true end
    if type(a) ~= "table" or type(b) ~= "table" then return false end
    local n = 0
    for k, v in next, a do
      if not equal(v, b[k]) then return false end
      n = n + 1
    end
    for _ in next, b do n = n - 1 end
    return n == 0
  end
  local function position(i, most)
    local n = math.tointeger(i)
    if type(i) ~= "number" or not n then misuse("a position expected, got %s", type(i) == "number" and tostring(i) or type(i)) end
    if n < 1 or n > most then misuse("position %d is out of range (1 to %d)", n, most) end
    return n
  end
  local function value(v)
    if v == nil then misuse "a list holds no nil" end
    return v
  end
  function L.get(o, i) return o.data[position(i, #o.data + 1)] end
  function L.set(o, i, v)
    o.data[position(i, #o.data + 1)] = value(v)
    return true
  end
  function L.append(o, v)
    o.data[#o.data + 1] = value(v)
    return true
  end
  function L.extend(o, t)
    if type(t) ~= "table" then misuse("a table or a list expected, got %s", type(t)) end
    table.move(t, 1, #t, #o.data + 1, o.data)
    return true
  end
  function L.insert(o, i, v)
    insert(o.data, position(i, #o.data + 1), value(v))
    return true
  end
  function L.pop(o, i)
    if #o.data == 0 and i == nil then return nil end
    return remove(o.data, i ~= nil and position(i, #o.data) or nil)
  end
  function L.index(o, v)
    for i, x in ipairs(o.data) do if equal(x, v) then return i end end
  end
  function L.remove(o, v)
    local i = L.index(o, v)
    if i then remove(o.data, i) end
    return i ~= nil
  end
  function L.reverse(o)
    local t = o.data
    local n = #t
    for i = 1, n // 2 do t[i], t[n + 1 - i] = t[n + 1 - i], t[i] end
    return true
  end
  function L.copy(o) return o.data end
  L.hold_copy = L.copy
  function L.sort(o)
    local ok, t = pcall(M.sort, plain_copy(o.data))
    if not ok then misuse("%s", (tostring(t):gsub("^.-:%d+: ", ""))) end
    o.data = t
    return true
  end
  function L.replace_release(o, t)
    if type(t) ~= "table" then misuse "a table expected" end
    o.data = t
    return true
  end
  function L.clear(o)
    o.data = {}
    return true
  end
  function L.len(o) return #o.data end
end

-- Objects of the user's. Results are copies; what could not be sent as a copy, and the object itself, goes by proxy.
do
  local O = ops.object
  local function out(v)
    local t = type(v)
    if (t == "table" or t == "userdata") and object_of[v] then return object_of[v].proxy end
    if t == "table" and getmetatable(v) ~= nil and not mp.is_error(v) and not pcall(core.measure, v) then return served(v, nil) end
    return v
  end
  local function all_out(...)
    local r = pack(...)
    for i = 1, r.n do r[i] = out(r[i]) end
    return unpack(r, 1, r.n)
  end
  function O.index(o, k)
    local v = o.data[k]
    if type(v) == "function" then return nil, true end
    return out(v)
  end
  function O.newindex(o, k, v) o.data[k] = v end
  function O.call(o, k, n, ...)
    local f = o.data[k]
    if f == nil then misuse("the object has no method '%s'", tostring(k)) end
    return all_out(f(o.data, unpack({ ... }, 1, n)))
  end
  function O.apply(o, _, n, ...) return all_out(o.data(unpack({ ... }, 1, n))) end
  function O.len(o) return #o.data end
  function O.pairs(o)
    local t = {}
    for k, v in pairs(o.data) do
      if type(v) ~= "function" then t[k] = out(v) end
    end
    return t
  end
end

-- ---- pools: what takes time is answered when it is there --------------------------------------

local LATER <const> = {} -- an operation's result: the answer comes later

local function later(r, deadline, how, polled) -- client and number are filled in by the loop
  pending[#pending + 1] = { r = r, deadline = deadline, how = how, polled = polled }
  return LATER
end

local function deadline_of(timeout)
  if timeout == nil then return nil end
  if type(timeout) ~= "number" or timeout ~= timeout then misuse "timeout must be a number" end
  return mp.now() + timeout
end

-- Mistakes in a call of the pool's are the caller's, at his line.
local function ask(pool, method, ...)
  local r = pack(pcall(pool[method], pool, ...))
  if not r[1] then
    if mp.is_error(r[2]) then error(r[2], 0) end
    misuse("%s", (tostring(r[2]):gsub("^[^\n]-:%d+: ", ""):gsub("^" .. method .. ": ", "")))
  end
  return unpack(r, 2, r.n)
end

do
  local P, R = ops.pool, ops.result
  for name, async in pairs { apply = "apply_async", map = "map_async", starmap = "starmap_async" } do
    P[name] = function(o, ...)
      local r = ask(o.data, async, ...)
      return later(r, nil, function() return r:get() end), r
    end
    P[async] = function(o, ...)
      return new_object("result", ask(o.data, async, ...), nil).proxy
    end
  end
  for _, name in ipairs { "close", "terminate", "pids", "stats" } do
    P[name] = function(o) return ask(o.data, name) end
  end
  function P.processes(o) return o.data.processes end
  function P.join(o, timeout)
    local deadline = deadline_of(timeout)
    return later({ ready = function() return ask(o.data, "join", 0) == true end }, deadline, function() return true end, true)
  end
  function R.get(o, timeout) return later(o.data, deadline_of(timeout), function() return o.data:get() end) end
  function R.wait(o, timeout) return later(o.data, deadline_of(timeout), function() return true end) end
  function R.ready(o) return o.data:ready() end
  function R.successful(o) return ask(o.data, "successful") end
  function R.cancel(o) return o.data:cancel() end
end

-- ---- the manager ------------------------------------------------------------------------------

do
  local G, make = ops.manager, {}
  local function table_or_nothing(t)
    if t ~= nil and type(t) ~= "table" then misuse("a table expected, got %s", type(t)) end
    return t or {}
  end
  function make.dict(t)
    local o = new_object("dict", table_or_nothing(t))
    o.n = 0
    for _ in next, o.data do o.n = o.n + 1 end
    return o.proxy
  end
  function make.list(t)
    t = table_or_nothing(t)
    return new_object("list", table.move(t, 1, #t, 1, {})).proxy
  end
  function make.Namespace(t)
    local o = new_object("Namespace", table_or_nothing(t))
    o.n = 0
    return o.proxy
  end
  function make.Pool(...)
    return new_object("pool", ask({ Pool = function(_, ...) return mp.Pool(...) end }, "Pool", ...)).proxy
  end
  function G.make(_, name, n, ...)
    if make[name] then return make[name](unpack({ ... }, 1, n)) end
    local constructor = registered[name]
    if not constructor then misuse("nothing is registered as '%s'", tostring(name)) end
    local r = pack(constructor(unpack({ ... }, 1, n)))
    for i = 1, r.n do r[i] = served(r[i], name) end
    return unpack(r, 1, r.n)
  end
  function G.identity() return S.identity end
  function G.has(_, name) return registered[name] ~= nil or make[name] ~= nil end
  function G.register(_, name, constructor)
    registered[name] = constructor
    return true
  end
  function G.shutdown()
    running = false
    return true
  end
  -- For deputies: from now on linked programs can name the object. A shared object is kept here for that.
  function G.export(_, v)
    local f = type(v) == "userdata" and fields_of(v)
    local o = f and f.object or object_of[v]
    if f and not o then misuse "a proxy of another manager" end
    if not o then
      o = new_object("shared", v, nil)
      object_of[v] = o
    end
    o.public = true
    return o.id, o.kind == "shared" and o.proxy or nil
  end
  function G.import(_, id)
    local o = objects[id]
    if not o or not o.public then misuse "the object is gone" end -- what was never given to a linked program does not exist for one
    if o.kind == "shared" then return o.data, o.proxy end
    return o.proxy
  end
end

-- Calls by functions that run in the server.
function M.direct(o, fname, op, ...)
  local f = ops[o.kind][op]
  if not f then core.misuse(fname, "not possible here") end
  local r = pack(pcall(f, o, ...))
  if r[1] then
    if r[2] == LATER then -- a call inside the server waits
      local w = remove(pending)
      while not w.r:ready() do mp.sleep(0.002) end
      return w.how()
    end
    if r[2] ~= nil and rawequal(r[2], o.data) then return plain_copy(o.data) end
    return unpack(r, 2, r.n)
  end
  if getmetatable(r[2]) == Misuse then core.misuse(fname, r[2][1]) end
  error(r[2], 0)
end

-- ---- requests ---------------------------------------------------------------------------------

local function answer(c, reply)
  local ok, yes, why = pcall(c.reply.send, c.reply, reply, 5) -- a client takes its answers; one that does not is not waited for
  if not ok then
    local e = yes
    if mp.is_error(e, "encode") then
      local path = e.path:gsub("^%[%d+%]", "")
      e = core.error_new { kind = "encode", message = "the result cannot be sent: " .. (path ~= "" and path .. ": " or "") .. e.reason, path = path,
                           reason = e.reason, pid = getpid(), name = me.name }
    end
    sent()
    ok, yes, why = pcall(c.reply.send, c.reply, { reply[1], FAILED, e }, 5)
  end
  sent()
  if (not ok or not yes) and why ~= "closed" then c.reply:close() end
end

local function handler(e)
  if getmetatable(e) == Misuse or mp.is_error(e) then return e end
  local traceback = debug.traceback(nil, 2)
  return { e, traceback:match("^(.-)\n\t[^\n]*mp/server%.lua:") or traceback } -- what is above is not the user's
end

local function failure(e)
  if mp.is_error(e) then return e end
  return core.error_new { kind = "error", message = core.process.text_of(e[1]), traceback = e[2], value = e[1], pid = getpid(), name = me.name }
end

local function reply_of(seq, ok, ...)
  if ok then return { seq, DONE, select("#", ...), ... } end
  local e = ...
  if getmetatable(e) == Misuse then return { seq, MISUSED, e[1] } end
  return { seq, FAILED, failure(e) }
end

local serve

-- The object is let go of by its holder; others' requests come to their turn.
local function release(o)
  o.depth = o.depth - 1
  if o.depth > 0 then return end
  local c = o.holder
  o.holder = nil
  c.holds[o] = nil
  local waiting = o.waiting
  o.waiting = nil
  if waiting then
    for _, q in ipairs(waiting) do -- whoever is held out again is put into a new list, in the same order
      serve(q[1], q[2], q[3], q[4], q[5], q[6], q[7], q[8], q[9], q[10], q)
    end
  end
end

local function hold(o, c)
  o.holder, o.depth = c, (o.depth or 0) + 1
  c.holds[o] = true
end

local HOLDING <const> = { hold = true, hold_get = true, hold_copy = true }
local RELEASING <const> = { release = true, set_release = true, replace_release = true }

-- What has become of a request: nothing, if it is answered.
local function finish(c, seq, o, op, before, ok, ...)
  if ok == nil then return end
  if ok then
    local r = ...
    if r == LATER then
      for i = before + 1, #pending do pending[i].client, pending[i].seq, pending[i].own = c, seq, o.kind == "pool" end
      return
    end
    if HOLDING[op] then
      hold(o, c)
      c.held_by = { seq, o }
      if op == "hold" then return answer(c, { seq, DONE, 0 }) end
    elseif RELEASING[op] then
      answer(c, op == "release" and { seq, DONE, 0 } or { seq, DONE, 1, r })
      return release(o)
    end
  end
  answer(c, reply_of(seq, ok, ...))
end

local QUICK <const> = 10 -- items of a request that come one by one; l_manager.c

local special

-- q: the whole request, if it is a table already.
function serve(client, seq, op, id, a1, a2, a3, a4, a5, a6, q)
  local c, o = clients[client], objects[id]
  local f = c and o and o.ops and o.ops[op]
  if not f then return special(client, seq, op, id, a1, a2) end
  local holder = o.holder
  if holder and holder ~= c then
    o.waiting = o.waiting or {}
    insert(o.waiting, q or { client, seq, op, id, a1, a2, a3, a4, a5, a6, n = QUICK })
    c.waits = o
    return
  end
  local before = #pending
  if HOLDING[op] or RELEASING[op] then
    if RELEASING[op] and not holder then return answer(c, { seq, MISUSED, "it is not held by this process" }) end
    finish(c, seq, o, op, before, xpcall(f, handler, o, a1, a2, a3))
  elseif not o.users then
    finish(c, seq, o, op, before, run(c.reply, seq, handler, f, o, a1, a2, a3))
  elseif not q then
    finish(c, seq, o, op, before, run(c.reply, seq, handler, f, o, a1, a2, a3, a4, a5, a6))
  else
    finish(c, seq, o, op, before, run(c.reply, seq, handler, f, o, unpack(q, 5, q.n)))
  end
end

-- ---- clients ----------------------------------------------------------------------------------

local control = {}

-- {0, 0, "connect", the end of a pipe to answer with, a token, a descriptor whose end tells that it was answered}
function control.connect(reply, token, hangs)
  if getmetatable(reply) ~= "mp.Pipe" or getmetatable(token) ~= "mp.Fd" or getmetatable(hangs) ~= "mp.Fd" then return end
  last_client = last_client - 1 -- below zero: objects are above
  local c = { number = last_client, reply = reply, holds = {} }
  core.hangup_watch(token:take(), c.number)
  clients[c.number] = c
  pcall(reply.send, reply, c.number, 5)
  hangs:close()
end

local function abandon(w)
  if w.own and not w.polled then pcall(w.r.cancel, w.r) end
end

local function client_gone(c)
  clients[c.number], c.gone = nil, true
  for i = #pending, 1, -1 do
    if pending[i].client == c then abandon(remove(pending, i)) end
  end
  for o in pairs(c.holds) do
    o.depth = 1
    release(o)
  end
  c.reply:close()
end

-- {0, 0, "gone", number}: nobody holds a copy of an object's token, or a client's
function control.gone(n)
  if mtype(n) ~= "integer" then return end
  if n < 0 then
    local c = clients[n]
    if c then client_gone(c) end
  else
    local o = given[n]
    if o then
      o.clients = o.clients - 1
      if o.clients <= 0 then given[n] = nil end
    end
  end
  if next(clients) == nil and next(given) == nil then running = false end -- nobody can ever ask again
end

-- {client, number, "forget"}: nobody waits for that answer any more
local function forget(client, seq)
  local c = clients[client]
  if not c then return end
  local o = c.waits
  for i, w in ipairs(o and o.waiting or {}) do
    if w[1] == client and w[2] == seq then
      remove(o.waiting, i)
      break
    end
  end
  for i = #pending, 1, -1 do
    if pending[i].client == c and pending[i].seq == seq then abandon(remove(pending, i)) end
  end
  if c.held_by and c.held_by[1] == seq then -- it was granted while he gave up
    local held = c.held_by[2]
    c.held_by = nil
    if held.holder == c then release(held) end
  end
end

local function look_at_pending()
  local now = mp.now()
  local i = 1
  while i <= #pending do
    local w = pending[i]
    local ok, ready = pcall(w.r.ready, w.r)
    if not ok or ready then
      remove(pending, i)
      answer(w.client, reply_of(w.seq, xpcall(w.how, handler)))
    elseif w.deadline and now >= w.deadline then
      remove(pending, i)
      answer(w.client, { w.seq, DONE, 2, nil, "timeout" })
    else
      i = i + 1
    end
  end
end

-- Waits until there is a request or a pool has something: true if there is a request.
local function wait_for_any()
  while #pending > 0 do
    look_at_pending()
    if me.requests:qsize() > 0 or #pending == 0 then return end
    local list, timeout = { me.requests }, nil
    local now = mp.now()
    for _, w in ipairs(pending) do
      if w.polled then timeout = 0.01 else list[#list + 1] = w.r end
      if w.deadline then timeout = math.min(timeout or math.huge, math.max(w.deadline - now, 0)) end
    end
    mp.wait(list, timeout)
  end
end

local MOST <const> = 100000 -- items of a request: all are on the stack at once

-- A request that came as a table: not all of it are scalars, or it is long.
local function serve_table(client, seq, q)
  local c, n = clients[client], QUICK
  for k in next, q do if mtype(k) == "integer" and k > n then n = k end end
  if q[3] == nil then return end
  if n <= MOST then
    q[1], q[2], q.n = client, seq, n
    serve(client, seq, q[3], q[4], q[5], q[6], q[7], q[8], q[9], q[10], q)
  elseif c then
    answer(c, { seq, MISUSED, "too many arguments" })
  end
end

-- What is no operation on an object.
function special(client, seq, op, id, a1, a2)
  local c = clients[client]
  if op == nil and type(id) == "table" then return serve_table(client, seq, id) end
  if client == 0 then
    local f = control[op]
    if f then f(id, a1, a2) end
  elseif not c then return -- gone, or nobody
  elseif op == "forget" then forget(client, seq)
  elseif op == nil then -- it cannot be decoded: a1 says why
    answer(c, { seq, FAILED, core.error_new { kind = "encode", message = "the request could not be received: " .. core.process.text_of(a1),
                                              pid = getpid(), name = me.name } })
  else
    answer(c, { seq, MISUSED, objects[id] and format("there is no operation '%s'", tostring(op)) or "the object is gone" })
  end
end

local function loop()
  local get, requests = core.request_get, me.requests
  while running do
    if #pending > 0 then wait_for_any() end
    serve(get(requests))
  end
end

function S.serve(task)
  core.ignore_interrupts()
  S.shared = {}
  for _, name in ipairs { "Lock", "RLock", "Semaphore", "Condition", "Event", "Barrier", "Queue", "Pipe", "Value", "Array", "Dict", "List", "Fd" } do
    S.shared["mp." .. name] = true
  end
  me = { requests = task.requests, alive = task.alive_here, pid = getpid(), name = task.name }
  M.own = me
  core.hangups(me.requests)
  if task.initializer then
    local ok, e = xpcall(task.initializer, handler)
    if not ok then
      task.told:send { failure = failure(e) }
      return
    end
  end
  local root = new_object("manager")
  assert(root.id == ROOT)
  S.root, S.alive, S.identity = root, task.alive, core.random(16)
  task.told:send { manager = root.proxy }
  sent()
  task.told:close()
  loop()
end

return S
