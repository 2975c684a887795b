-- gate.lua -- the processes through which other programs reach a manager: the gate, which lets in who knows the key, and a deputy for each
-- client, which does in this program what the client asks (docs/internals/managers.md).
-- A deputy is an ordinary client of the server, and holds shared objects itself. So what a death of a holder means here is what it means
-- there: when a client is gone, or its program dead, its deputy is killed.
local mp, core = ...

local M <const>, L <const> = core.manager_part "manager", core.manager_part "link"
local fields_of, is_error = core.proxy_fields, mp.is_error
local type, pairs, ipairs, pcall, error, tostring, getmetatable, select = type, pairs, ipairs, pcall, error, tostring, getmetatable, select
local pack, unpack, format, mtype = table.pack, table.unpack, string.format, math.type
local ROOT <const>, DONE <const>, FAILED <const>, MISUSED <const> = 1, 0, 1, 2

local G = {}

-- ---- the gate -------------------------------------------------------------------------------

function G.gate(task)
  local gate, address = core.gate_open(task.address, task.key, task.alive:fileno())
  if not gate then
    task.told:send { failure = address }
    return
  end
  task.key = nil
  task.told:send { address = address }
  task.told:close()
  local deputies, count = {}, 0
  while true do
    local what, id, fd = core.gate_next(gate)
    if what == "end" then break end
    if what == "client" then
      local held = mp.Fd(fd)
      core.close_fd(fd)
      count = count + 1
      local p = mp.Process {
        target = core.manager_deputy, name = format("%s-%d", mp.current_process().name, count), daemon = true, start_method = "spawn",
        args = { { fd = held, manager = task.manager, name = task.name } },
      }
      if pcall(p.start, p) then
        core.process_fields(p).args = nil
        deputies[id] = p
        core.gate_deputy(gate, id, p.pid)
      else
        core.gate_drop(gate, id)
      end
      held:close()
    else
      local p = deputies[id]
      deputies[id] = nil
      if p then
        p:kill()
        p:join()
      end
    end
  end
  core.gate_close(gate)
end

-- ---- a deputy -------------------------------------------------------------------------------

local wire, root, root_fields
local here = {}    -- id -> what it stands for: a proxy of the server's, or a shared object
local keepers = {} -- luacheck: ignore
-- keepers: id -> what makes the server keep a shared object for other deputies, too

-- Asks the server, in the middle of a value of the link's.
local function aside(f, ...)
  local before = core.linking
  core.linking = nil
  local r = pack(pcall(f, ...))
  core.linking = before
  if not r[1] then error(r[2], 0) end
  return unpack(r, 2, r.n)
end

local side = {} -- the link, as manager.lua sees it

function side:refer(v)
  local f = fields_of(v)
  if f then
    if f.server ~= root_fields.server then error("a proxy of another manager cannot be sent on", 0) end
    if not here[f.id] then aside(M.call, root_fields, "export", "export", v) end
    here[f.id] = v
    return { f.id, f.kind, f.label }
  end
  local id, keeper = aside(M.call, root_fields, "export", "export", v)
  here[id], keepers[id] = v, keeper
  return { id, "far", getmetatable(v) }
end

local function find(id)
  if mtype(id) ~= "integer" then error("a malformed reference", 0) end
  local v = here[id]
  if v == nil then
    local keeper
    v, keeper = aside(M.call, root_fields, "import", "import", id)
    here[id], keepers[id] = v, keeper
  end
  return v
end

function side:arrive(d)
  if type(d) ~= "table" then error("a malformed reference", 0) end
  return find(d[1])
end

-- What is asked of a shared object, which is held here.
local far = {}
function far.index(o, k)
  local v = o[k]
  if type(v) == "function" then return nil, true end
  return v
end
function far.newindex(o, k, v) o[k] = v end
function far.call(o, k, n, ...) return o[k](o, unpack({ ... }, 1, n)) end
function far.len(o) return #o end
function far.pairs(o)
  local t = {}
  for k, v in pairs(o) do t[k] = v end
  return t
end

local function done(...) return { 0, DONE, select("#", ...), ... } end

local function ask_far(o, op, ...)
  local f = far[op]
  if not f then return { 0, MISUSED, "there is no such operation" } end
  return done(f(o, ...))
end

local FROM_AFAR <const> = { make = true, has = true }

local function ask(q)
  local op, id = q[3], q[4]
  if type(op) ~= "string" or op == "forget" then return { 0, MISUSED, "there is no such operation" } end
  if op == "hello" then
    if q[5] ~= L.VERSION then return { 0, MISUSED, "the other program has another version of mp" } end
    return done(root_fields.server.name, M.call(root_fields, "hello", "identity"))
  end
  local v = find(id)
  local f = fields_of(v)
  if not f then return ask_far(v, op, unpack(q, 5, q.n)) end
  if f.kind == "manager" then
    if not FROM_AFAR[op] then return { 0, MISUSED, "only the program that made the manager can do this" } end
    local name = q[5]
    if op == "make" and M.shared[name] then return done(M.shared[name](v, unpack(q, 7, 6 + (q[6] or 0)))) end
  end
  return M.exchange(f.server, op, { 0, 0, op, f.id, unpack(q, 5, q.n) })
end

-- Mistakes in calls are the caller's: without our position.
local function sentence(e)
  return (tostring(e):gsub("^[^\n]-:%d+: ", ""))
end

local function reply_to(q)
  local ok, a = core.deputy_call(q[1], ask, q)
  if ok then
    a[1] = q[1]
    return a
  end
  if is_error(a, "died") then os.exit(1) end -- the server is gone
  if is_error(a) then return { q[1], FAILED, a } end
  if sentence(a) == "interrupted!" then pcall(M.forget, root_fields.server) end
  return { q[1], MISUSED, sentence(a) }
end

-- {number, ids that are no longer used, operation, id, arguments}
local function valid(q)
  if type(q) ~= "table" or mtype(q[1]) ~= "integer" or q[1] < 1 or q[1] > 0x7fffffff then return false end
  q.n = 4
  for k in pairs(q) do
    if mtype(k) == "integer" and k > q.n then
      if k > 1000 then return false end
      q.n = k
    end
  end
  return q[6] == nil or q[3] ~= "make" or (mtype(q[6]) == "integer" and q[6] >= 0 and q[6] <= 1000)
end

function G.deputy(task)
  core.ignore_interrupts()
  core.deputy_guard()
  root = task.manager
  root_fields = fields_of(root)
  here[ROOT] = root
  wire = core.link_adopt(task.fd:take())
  while true do
    local bytes = core.link_receive(wire)
    if not bytes then return end
    local ok, q = pcall(L.under, side, core.link_decode, bytes)
    local a
    if not ok then
      a = { core.link_number(bytes), FAILED, core.error_new { kind = "encode", message = "the request could not be received: " .. sentence(q) } }
    elseif not valid(q) then return -- no client of ours
    else
      for _, id in ipairs(type(q[2]) == "table" and q[2] or {}) do
        if id ~= ROOT then here[id], keepers[id] = nil, nil end
      end
      a = reply_to(q)
    end
    local encoded, out = pcall(L.under, side, core.link_encode, a)
    if not encoded then
      local why = is_error(out, "encode") and out.reason or sentence(out)
      out = core.link_encode { a[1], FAILED, core.error_new { kind = "encode", message = "the result cannot be sent: " .. why } }
    end
    local sent, why = core.link_send(wire, out)
    if not sent and why:find("more than a link takes", 1, true) then
      sent = core.link_send(wire, core.link_encode { a[1], FAILED, core.error_new { kind = "encode", message = "the result cannot be sent: " .. why } })
    end
    if not sent then return end
  end
end

return G
