-- host.lua -- what the processes of a C host run (runtime/host): a worker's chunk, or the supervisor of a pool. Loaded by nobody else.
-- What goes back to the host is plain: strings, numbers, and maps of them.
local mp, core = ...

local P <const> = core.process
local type, tostring, pcall, xpcall, error, load, ipairs = type, tostring, pcall, xpcall, error, load, ipairs
local unpack, format, now = table.unpack, string.format, mp.now

local VALUE <const>, FAILED <const>, CANCELLED <const> = 1, 2, 3 -- as in runtime/host/pool.c
local SUBMIT <const>, CANCEL <const>, CLOSE <const> = 1, 2, 3

-- The parts of a failure, whatever was raised.
local function plain(e, traceback)
  if not mp.is_error(e) then
    local text = P.text_of(e)
    return { kind = text:find("not enough memory", 1, true) and "memory" or "error", message = text, traceback = traceback }
  end
  return { kind = e.kind, message = tostring(e.message), traceback = type(e.traceback) == "string" and e.traceback or traceback,
           pid = math.type(e.pid) == "integer" and e.pid or nil, exitcode = math.type(e.exitcode) == "integer" and e.exitcode or nil,
           signal = math.type(e.signal) == "integer" and e.signal or nil }
end

-- The options of mp.Process and mp.Pool that a host's text says. Raises sentences.
local function confinement(task)
  local policy = task.sandbox
  if policy ~= nil and policy ~= "pure" then
    local f, why = load("return " .. policy, "=sandbox", "t", {})
    if not f then error(why, 0) end
    policy = f()
    if type(policy) ~= "table" then error("sandbox: \"pure\" or the text of a Lua table expected", 0) end
  end
  return policy, task.limits
end

-- Tells the host that this process has begun, or why not.
local function begun(ok, why)
  if ok then return core.report("result", "begun") end
  core.report("error", { kind = "error", message = P.text_of(why) })
end

local function arrive(task)
  P.arrive({ identity = task.identity, name = task.name, daemon = true, args = {}, parent = "MainProcess" }, P.class)
end

-- ---- a worker ---------------------------------------------------------------------------------

local function to_bytes(v)
  if v == nil or type(v) == "string" then return v end
  if type(v) == "number" then return tostring(v) end
  error(format("a %s was returned; a string, a number or nothing can go to the host", type(v)), 0)
end

local function run_chunk(w)
  local f, why = load(w.chunk, w.chunk_name, "t")
  if not f then return false, why end
  local traceback
  local ok, v = xpcall(f, function(e)
    traceback = debug.traceback(nil, 2)
    return e
  end, w.input, unpack(w.objects))
  if ok then
    ok, v = pcall(to_bytes, v)
    if not ok then return false, core.error_new { kind = "encode", message = v } end
  end
  return ok, v, traceback
end

local function worker(task)
  local f = { start_method = "spawn" }
  local ok, why = pcall(function()
    f.sandbox, f.limits = confinement(task)
    if f.sandbox ~= nil or f.limits ~= nil then core.process_policy(nil, f) end
  end)
  begun(ok, why)
  if not ok then return 1 end
  arrive(task)
  local secret
  ok, why = pcall(function()
    if f.jail then
      secret = core.enter_jail({ sandbox = f.sandbox ~= nil, modules = f.plain.modules, memory = f.plain.memory,
                                 path = f.plain.read ~= nil or f.plain.write ~= nil, run = f.plain.run ~= nil },
                               f.jail, core.jail_receive_report())
    else
      secret = core.jail_secret()
    end
  end)
  local value, traceback
  if ok then ok, value, traceback = run_chunk(secret) else value = why end
  if ok then
    if value ~= nil then core.report("result", value) end
  else
    pcall(core.report, "error", plain(value, traceback))
  end
  core.run_exit_hooks()
  return ok and 0 or 1
end

-- ---- a pool: in its workers. These travel by value, so they use nothing of this file -----------

local function begin(text, name, ...)
  local f, why = load(text, name, "t")
  if not f then error(why, 0) end
  f(...)
end

local function call(kind, text, name, most, input, ...)
  local f
  if kind == 1 then
    f = _G
    for part in text:gmatch "[^.]+" do
      if type(f) ~= "table" then f = nil break end
      f = f[part]
    end
    if f == nil then error(("no function is called %q"):format(text), 0) end
  else
    local kept = package.loaded["mp.chunks"]
    if not kept or kept.n > 256 then
      kept = { n = 0 }
      package.loaded["mp.chunks"] = kept
    end
    local key = name .. "\0" .. text
    f = kept[key]
    if not f then
      local why
      f, why = load(text, name, "t")
      if not f then error(why, 0) end
      kept[key], kept.n = f, kept.n + 1
    end
  end
  local v = f(input, ...)
  if type(v) == "number" then v = tostring(v) end
  if v ~= nil and type(v) ~= "string" then
    error(("a %s was returned; a string, a number or nothing can go to the host"):format(type(v)), 0)
  end
  if v and most > 0 and #v > most then error(("the result has %d bytes, more than %d"):format(#v, most), 0) end
  return v
end

-- ---- a pool: its supervisor -------------------------------------------------------------------

-- The earliest deadline first.
local function heap_push(heap, at, id)
  local i = #heap + 1
  heap[i] = { at, id }
  while i > 1 and heap[i][1] < heap[i // 2][1] do
    heap[i], heap[i // 2] = heap[i // 2], heap[i]
    i = i // 2
  end
end

local function heap_pop(heap)
  local top, n = heap[1], #heap - 1
  heap[1] = heap[n + 1]
  heap[n + 1] = nil -- after that: they are one if there is but one
  local i = 1
  while true do
    local j = 2 * i
    if j < n and heap[j + 1][1] < heap[j][1] then j = j + 1 end
    if j > n or heap[i][1] <= heap[j][1] then return top end
    heap[i], heap[j] = heap[j], heap[i]
    i = j
  end
end

local function supervise(pool, requests, answers)
  local pending, waiting, heap, open = {}, 0, {}, true -- pending: by number, the result that we wait for
  -- A result that is never there: waiting for it is attending to the pool.
  local attention = core.pool_result { pool = pool, owner = core.pool_fields(pool), kind = "none", about = 0, done = false }

  local function answer(id, status, value)
    if pending[id] then pending[id], waiting = nil, waiting - 1 end
    answers:put { id, status, value }
  end

  -- When a task is done its deadline stays in the heap; not too many of them.
  local function sweep()
    local old = heap
    heap = {}
    for _, e in ipairs(old) do
      if pending[e[2]] then heap_push(heap, e[1], e[2]) end
    end
  end

  local function submit(request)
    local id <const>, kind <const>, text <const>, name <const> = request[2], request[3], request[4], request[5]
    local deadline <const>, timeout <const>, retries <const>, most <const> = request[6], request[7], request[8], request[9]
    local left = deadline and deadline - now()
    if left and left <= 0 then
      return answer(id, FAILED, { kind = "timeout", message = "the task's deadline had passed before it was begun" })
    end
    pending[id], waiting = true, waiting + 1 -- the answer may come before the result does
    local ok, r = pcall(pool.apply_async, pool, call, { kind, text, name, most, unpack(request, 10) }, {
      timeout = timeout or nil, retries = retries,
      callback = function(v) answer(id, VALUE, v) end,
      error_callback = function(e) answer(id, FAILED, plain(e)) end,
    })
    if not ok then return answer(id, FAILED, plain(r)) end
    if not pending[id] then return end
    pending[id] = r
    if deadline then
      if #heap > 1024 and #heap > 4 * waiting then sweep() end
      heap_push(heap, deadline, id)
    end
  end

  local function cancel(id, ...)
    local r = pending[id]
    if r and r:cancel() then answer(id, ...) end
  end

  local ops <const> = {
    [SUBMIT] = submit,
    [CANCEL] = function(request) cancel(request[2], CANCELLED) end,
    [CLOSE] = function() open = false end,
  }

  local idle = 0 -- turns in which nothing was asked
  while open or waiting > 0 do
    local wait
    while heap[1] and (heap[1][1] <= now() or not pending[heap[1][2]]) do
      cancel(heap_pop(heap)[2], FAILED, { kind = "timeout", message = "the task's deadline passed" })
    end
    if heap[1] then wait = heap[1][1] - now() end
    -- Shortly after something has happened something else will: by turns what is cheap to look at, before both are waited for.
    if idle >= 16 then mp.wait({ requests, attention }, wait)
    elseif waiting > 0 then attention:wait(2e-5) end
    local list = requests:get_many(256, waiting == 0 and idle < 16 and 2e-5 or 0)
    if list then
      for i = 1, list.n do ops[list[i][1]](list[i]) end
      idle = 0
    else
      idle = idle + 1
    end
  end
end

local function start_pool(task)
  local chunk <const> = task.chunk
  local policy, limits = confinement(task)
  if chunk then
    local f, why = load(chunk, task.chunk_name, "t") -- compiled only: its syntax
    if not f then error(why, 0) end
  end
  return mp.Pool {
    processes = task.processes, sandbox = policy, limits = limits, maxtasksperchild = task.most,
    initializer = chunk and begin or nil, initargs = chunk and { chunk, task.chunk_name, unpack(task.objects) } or nil,
  }
end

local function supervisor(task)
  arrive(task)
  local ok, pool = pcall(start_pool, task)
  begun(ok, pool)
  if not ok then return 1 end
  ok = pcall(supervise, pool, task.requests, task.answers)
  if ok then
    pool:close()
    pool:join()
  else
    pool:terminate()
  end
  return ok and 0 or 1
end

function core.hosted(task)
  if task.host == "worker" then return worker(task) end
  return supervisor(task)
end
