-- thread.lua -- mp.Thread: the interface of mp.Process on a thread of this process with a Lua state of its own.
local mp, core = ...

local rawget, next = rawget, next
local P <const> = core.process
local Process <const> = P.class

local Thread = { __name = "Thread" }
for _, name in ipairs { "init", "run", "start", "join", "is_alive", "close", "result", "extend" } do Thread[name] = Process[name] end

local function poke(self, fname, to_end)
  P.started(self, fname)
  if self:is_alive() then core.thread_poke(self, to_end) end
  return true
end

-- An interruption can be caught, as everywhere; an end cannot.
function Thread:interrupt() return poke(self, "interrupt", false) end
function Thread:terminate() return poke(self, "terminate", true) end

local function start(self, f)
  local me = P.identity()
  core.thread_start(self, f.daemon, {
    P.paths, target = f.target, args = f.args, kwargs = f.kwargs, own = f.own, class = P.describe(f.class, Thread),
    name = P.name_of(f), method = P.chosen_method(), me = me, authkey = f.authkey or P.authkey(), arg = P.plain_arg(),
    global = rawget(_G, "mp") == mp or nil,
  })
end

Thread.ops__ = {
  noun = "thread", constructor = "Thread", class = Thread, new = core.thread_new, start = start,
  options = { target = true, args = true, kwargs = true, name = true, daemon = true },
  poll = core.thread_poll, wait = core.thread_wait, letgo = core.thread_letgo, report = core.thread_report, sentinel = core.thread_sentinel,
}

P.make_meta(core.thread_meta, "mp.Thread")
mp.Thread = setmetatable(Thread, P.class_meta)

-- In the new state: the exit code.
function core.threaded(task)
  local me = {}
  for k, v in next, task.me do me[k] = v end
  me.authkey, me.label = task.authkey, task.name
  core.arriving(true) -- no more: it is over
  _G.arg = task.arg
  if task.global then _G.mp = mp end
  rawset(os, "exit", core.thread_exit) -- the program's end is not a thread's to decide
  P.set_start_method(task.method)
  P.become_thread(me)
  if core.jail_marked() then core.confine_state() end
  local self = core.thread_new {
    class = P.rebuild(task.class, Thread), ops = Thread.ops__, state = "self", creator = mp.getpid(), identity = me.identity,
    name = task.name, daemon = me.daemon, target = task.target, args = task.args, kwargs = task.kwargs, own = task.own,
  }
  return P.work(self)
end
