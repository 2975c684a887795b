-- link.lua -- a link to a manager of another program: mp.connect, and what goes over it (docs/internals/managers.md).
-- A link is a table; each process (and Lua state) that uses one has a connection, and so a deputy at the other end, of its own:
--   address, key, name   whom it calls
--   identity             of the server that was found there: another one at the same address has other objects under the same numbers
--   wire, pid, seq       the connection (l_link.c), the process whose it is, the number of the last request
--   counts               id -> how many proxies of this state stand for it; dropped: the ids of which none is left
--   proxies, pinned      id -> proxy, weak; those that were sent on to another process of ours
local mp, core = ...

local M <const> = core.manager_part "manager"
local misuse, fields_of, proxy_new, getpid = core.misuse, core.proxy_fields, core.proxy_new, mp.getpid
local type, pairs, pcall, error, tostring, setmetatable = type, pairs, pcall, error, tostring, setmetatable
local format, unpack = string.format, table.unpack
local ROOT <const>, DONE <const>, FAILED <const> = 1, 0, 1
local TIME <const> = 10          -- seconds for dialling and proving the key
local VERSION <const> = "mp-link-1"

local L, Link = {}, {}
Link.__index = Link
local links = setmetatable({}, { __mode = "v" }) -- address and key -> link

function L.check_address(fname, address)
  if type(address) ~= "string" then misuse(fname, format("address must be a string, not a %s", type(address))) end
  local ok, why = core.address_check(address)
  if not ok then misuse(fname, why) end
end

local function new_link(address, key)
  local link = setmetatable({ address = address, key = key, seq = 0, counts = {}, dropped = {}, pinned = {},
                              proxies = setmetatable({}, { __mode = "v" }) }, Link)
  links[address .. "\0" .. key] = link
  return link
end

local function died(link, sentence)
  link.wire = nil
  error(core.error_new { kind = "died", name = link.name or link.address, message = format("%s%s: %s", core.where(), link.address, sentence) }, 0)
end

function Link:open(fname)
  self.wire, self.pid, self.dropped = nil, getpid(), {}
  local wire, why, key = core.link_open(self.address, self.key, TIME)
  if not wire then
    if key then
      error(core.error_new { kind = "error", name = self.address, message = format("%s%s: %s: refused: %s", core.where(), fname, self.address, why) }, 0)
    end
    died(self, (why:gsub("^" .. self.address:gsub("%p", "%%%0") .. ": ", "")))
  end
  self.wire = wire
  local a = self:exchange(fname, "hello", ROOT, VERSION)
  local sentence = a[2] ~= DONE and tostring(a[3])
  if not sentence and self.identity and self.identity ~= a[5] then sentence = "another manager is there now" end
  if sentence then
    core.link_close(wire)
    died(self, sentence)
  end
  self.name, self.identity = a[4], a[5]
end

-- ---- values over the link -------------------------------------------------------------------

-- A proxy of ours that goes to the other side is its number there.
function Link:refer(v)
  local f = fields_of(v)
  if f and f.link == self then return { f.id } end
  error("a shared object of this program cannot be sent to another one", 0)
end

-- {id, kind, label} from the other side
function Link:arrive(d)
  local id, kind, label = d[1], d[2], d[3]
  if math.type(id) ~= "integer" or not M.classes[kind] then error("a malformed reference", 0) end
  local known = self.proxies[id]
  if known then return known end
  self.counts[id] = (self.counts[id] or 0) + 1
  local p = proxy_new { id = id, kind = kind, label = label, link = self, class = M.classes[kind],
                        token = setmetatable({ self, id, getpid() }, L.token) }
  self.proxies[id] = p
  return p
end

-- The last proxy of an object is gone: its number goes along with the next request.
L.token = { __gc = function(t)
  local link, id, pid = t[1], t[2], t[3]
  local n = (link.counts[id] or 1) - 1
  link.counts[id] = n > 0 and n or nil
  if n == 0 and link.pid == pid then link.dropped[#link.dropped + 1] = id end
end }

function Link:let_go(f)
  local t = f.token
  L.token.__gc(t)
  setmetatable(t, nil)
  self.pinned[f.id] = nil
end

-- As it travels to other processes of this program, which call for themselves. What was sent on is kept here: the receiver has it a bit later.
function Link.describe(f)
  f.link.pinned[f.id] = f.link.proxies[f.id]
  return { f.id, f.kind, f.label, link = { address = f.link.address, key = f.link.key, name = f.link.name, identity = f.link.identity } }
end

function L.arrive(d)
  local link = links[d.link.address .. "\0" .. d.link.key]
  if not link or link.identity ~= d.link.identity then
    link = new_link(d.link.address, d.link.key)
    link.name, link.identity = d.link.name, d.link.identity
  end
  return link:arrive(d)
end

local function under(link, f, v)
  local before = core.linking
  core.linking = link
  local ok, r = pcall(f, v)
  core.linking = before
  if not ok then error(r, 0) end
  return r
end
L.under = under

-- ---- asking ---------------------------------------------------------------------------------

function Link:exchange(fname, op, id, ...)
  if self.closed then misuse(fname, "the connection was closed") end
  if not self.wire or self.pid ~= getpid() then self:open(fname) end
  local seq = self.seq % 0x7fffffff + 1
  self.seq = seq
  local dropped = self.dropped
  local ok, bytes = pcall(under, self, core.link_encode, { seq, dropped, op, id, ... })
  if not ok then M.refused(bytes, fname) end
  if #dropped > 0 then self.dropped = {} end
  local sent, why = core.link_send(self.wire, bytes)
  if not sent then died(self, why) end
  while true do
    local got, answer, gone = pcall(core.link_receive, self.wire)
    if not got then -- interrupted
      pcall(core.link_forget, self.wire, seq)
      error(answer, 0)
    end
    if not answer then died(self, gone) end
    local a = under(self, core.link_decode, answer)
    if type(a) ~= "table" then died(self, "a malformed answer") end
    if a[1] == seq then return a end
  end
end

function Link:call(f, fname, op, ...)
  local a = self:exchange(fname, op, f.id, ...)
  if a[2] == DONE then return unpack(a, 4, 3 + a[3]) end
  if a[2] == FAILED then error(a[3], 0) end
  misuse(fname, tostring(a[3]))
end

function Link:close()
  self.closed = true
  if self.wire then core.link_close(self.wire) end
  self.wire = nil
  for name, link in pairs(links) do
    if link == self then links[name] = nil end
  end
  return true
end

function L.connect(address, key)
  L.check_address("connect", address)
  if key == nil then key = mp.current_process().authkey end
  if type(key) ~= "string" or key == "" then misuse("connect", format("authkey must be a string with something in it, not a %s", type(key))) end
  local link = links[address .. "\0" .. key]
  if not link or not pcall(link.exchange, link, "connect", "hello", ROOT, VERSION) then -- none, or to one that is gone
    link = new_link(address, key)
    link:open("connect")
  end
  local m = link:arrive { ROOT, "manager" }
  fields_of(m).address = address
  return m
end

-- ---- shared objects at the other end --------------------------------------------------------

-- They are asked like objects of the user's; what calls back, or is closed at the end of a scope, is done on this side.
local base <const> = M.classes.object
local far = { title = "mp.Proxy", methods = {}, index = base.index, newindex = base.newindex, len = base.len, pairs = base.pairs, call = base.call }
M.classes.far = far

local function release_after(lock, ok, ...)
  lock:release()
  if not ok then error((...), 0) end
  return ...
end

function far.methods.with(p, fn, ...)
  local f = M.check(p, "with", "far")
  if not M.callable(fn) then misuse("with", format("a function expected, got %s", type(fn))) end
  local lock = p
  if f.label == "mp.Value" or f.label == "mp.Array" then
    lock = p:get_lock()
    if lock == nil then misuse("with", "it was made without a lock") end
    lock:acquire()
    return release_after(lock, pcall(fn, p, ...))
  end
  if f.label == "mp.Dict" or f.label == "mp.List" then misuse("with", "not over a link; a manager's own dict or list can do this") end
  lock:acquire()
  return release_after(lock, pcall(fn, ...))
end

local Guard = { __name = "mp.Guard", __close = function(g)
  local lock = g.lock
  g.lock = nil
  if lock then lock:release() end
end }

function far.methods.guard(p)
  M.check(p, "guard", "far")
  p:acquire()
  return setmetatable({ lock = p }, Guard)
end

function far.methods.wait_for(p, pred, timeout)
  M.check(p, "wait_for", "far")
  if not M.callable(pred) then misuse("wait_for", format("a function expected, got %s", type(pred))) end
  local deadline = timeout and mp.now() + timeout
  while true do
    local v = pred()
    if v then return v end
    local left = deadline and deadline - mp.now()
    if left and left <= 0 then return nil, "timeout" end
    p:wait(left)
  end
end

function far.methods.items(p, timeout)
  M.check(p, "items", "far")
  return function() return (p:get(timeout)) end
end

-- ---- opening a gate -------------------------------------------------------------------------

function L.open_gate(m, f, address, key)
  local ready, told = mp.Pipe(false)
  local gate = mp.Process {
    target = core.manager_gate, name = f.process.name .. "-gate", daemon = true, start_method = "spawn",
    args = { { manager = m, address = address, key = key, alive = f.server.alive, told = told } },
  }
  gate:start()
  core.process_serves(gate)
  core.process_fields(gate).args = nil -- the key is in there, too
  told:close()
  local answer = ready:recv()
  if type(answer) ~= "table" then
    gate:join()
    error(gate.error or "the gate could not begin", 0)
  end
  f.gate = gate
  if answer.failure then
    gate:join()
    misuse("Manager", answer.failure)
  end
  f.address = answer.address
end

L.VERSION = VERSION
return L
