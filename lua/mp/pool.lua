-- pool.lua -- mp.Pool: tasks to workers, results back (docs/reference/pool.md).
-- A *job* is what the caller waits for: one call, a list, or an iteration. It has a tag, a small number that is used again: jobs[tag]. Its
-- tasks are noted in C (number, tag, first item and how many); job.about says how many are not answered. Answers are collected, the dead are
-- replaced, and callbacks run inside the owner's calls; workers need nobody for what was submitted.
local mp, core = ...

local misuse, now, getpid = core.misuse, mp.now, mp.getpid
local fields_of, result_fields = core.pool_fields, core.pool_result_fields
local next_answer, submit_task, function_of, gather = core.pool_next, core.pool_submit, core.pool_function, core.pool_gather
local type, pairs, ipairs, next, tostring, select, pcall, error, setmetatable = type, pairs, ipairs, next, tostring, select, pcall, error, setmetatable
local getmetatable, rawget = getmetatable, rawget
local unpack, move, format, floor, min, max = table.unpack, table.move, string.format, math.floor, math.min, math.max
local mtype = math.type

local CALL <const>, EACH <const>, STAR <const> = 1, 2, 3                                       -- as in l_pool.c
local VALUE <const>, NONE <const>, MANY <const>, LIST <const>, FAILED <const> = 1, 2, 3, 4, 5
local SKIPPED <const>, READY <const>, INIT_FAILED <const>, PART <const> = 6, 7, 8, 10
local STARTING <const> = 1                                                                    -- as in pool.h
local TIMEOUT <const> = 1
local SIGALRM <const> = 14

local CHUNK_NS <const> = 2e6        -- what a chunk should take, where its size is ours to choose
local CHUNK_MOST <const> = 4096     -- items: what is larger leaves the processor's caches
local LOOK <const> = 0.1            -- seconds between looks at the workers
local SLOWEST <const> = 10
local STORE_MOST <const> = 32 << 20 -- bytes of functions kept before a fresh start is made

-- ---- in a worker ------------------------------------------------------------------------------

local P = core.process

local function failure(e, traceback, phase, stopped, memory)
  local me = P.identity()
  local parts = { kind = "error", value = e, traceback = traceback, pid = getpid(), name = me.label or me.name }
  if stopped then
    parts.kind, parts.value = stopped, nil
    parts.message = stopped == "timeout" and "the task's time was up" or "the task was cancelled"
  elseif memory then
    parts.kind, parts.message, parts.value = "memory", "not enough memory", nil
  else
    parts.message = P.text_of(e)
    if phase == "decode" then
      parts.kind, parts.message, parts.value = "encode", "the task could not be received: " .. parts.message, nil
    elseif phase == "encode" then
      parts.kind, parts.message, parts.value = "encode", "the result cannot be sent: " .. (mp.is_error(e) and e.message or parts.message), nil
    elseif parts.message:find("not enough memory", 1, true) then
      parts.kind = "memory"
    end
  end
  return parts
end

local function work(tasks, answers, board, index, most, initializer, initargs, deaf)
  core.pool_enter(tasks, answers, board, index, deaf)
  if initializer then
    initargs = initargs or {}
    local ok, e, traceback = core.run(initializer, unpack(initargs, 1, initargs.n or #initargs))
    if not ok then
      local parts = failure(e, traceback, "run")
      if not pcall(core.pool_tell, INIT_FAILED, parts) then
        parts.value = nil
        pcall(core.pool_tell, INIT_FAILED, parts)
      end
      return
    end
  end
  core.pool_tell(READY)
  core.pool_work(failure, most)
end

-- ---- jobs -------------------------------------------------------------------------------------

local function run_callback(f, ...)
  local ok, e = pcall(f, ...)
  if ok then return end
  if type(e) == "string" and e:find("interrupted!", 1, true) then error(e, 0) end
  core.stderr("mp.Pool: callback: " .. P.text_of(e) .. "\n")
end

local function settle(job)
  job.done = true
  job.list = nil
  if job.progress then job.progress:finish() end
end

local function succeed(job)
  settle(job)
  if job.callback then
    if job.kind == "call" then run_callback(job.callback, unpack(job.value, 1, job.value.n))
    else run_callback(job.callback, job.results) end
  end
end

-- A job gets its tag when it is made, and gives it back when it is done and nothing of it is about.
local function enter(pool, job)
  local free, jobs = pool.free, pool.jobs
  local tag = free[#free]
  if tag then free[#free] = nil else tag = #jobs + 1 end
  jobs[tag] = job
  job.tag, job.about = tag, 0
  return job
end

local function leave(pool, job)
  if job.about > 0 or not job.done or not job.tag then return end
  pool.jobs[job.tag] = false
  pool.free[#pool.free + 1] = job.tag
  job.tag = nil
end

local function fail(pool, job, e)
  if job.done then return end
  job.failure = e
  settle(job)
  if job.kind == "list" and job.about > 0 then core.pool_cancel_job(pool.ud, job.tag) end
  if job.error_callback then run_callback(job.error_callback, e) end
end

local collect

-- ---- submitting -------------------------------------------------------------------------------

local wait_some

-- Items travel in slices: a refusal names the place in the list, not in the slice behind `before` items.
local function in_list(e, before)
  local i, rest = (mp.is_error(e, "encode") and e.path or ""):match "^list%[(%d+)%](.*)"
  if not i or before == 0 then return e end
  local from, to = e.message:find(e.path, 1, true)
  e.path = format("list[%d]%s", i + before, rest)
  if from then e.message = e.message:sub(1, from - 1) .. e.path .. e.message:sub(to + 1) end
  return e
end

-- Puts one task; while the ring is full, takes answers.
local function put(pool, job, value, first, count)
  local ud = pool.ud
  job.about = job.about + 1
  pool.outstanding = pool.outstanding + 1
  local ok, id = pcall(submit_task, ud, job.f, job.mode, value, first, count, job.timeout, job.fname, job.tag)
  while ok and not id do
    wait_some(pool, 0.05)
    if pool.broken or pool.ended then
      ok, id = false, pool.broken or core.error_new { kind = "error", message = "the pool was terminated" }
    else
      ok, id = pcall(submit_task, ud, job.f, job.mode, value, first, count, job.timeout, job.fname, job.tag)
    end
  end
  if not ok then
    job.about = job.about - 1
    pool.outstanding = pool.outstanding - 1
    error(in_list(id, first - 1), 0)
  end
end

local function slice(list, first, count)
  if count == 1 then return { list[first] } end
  return core.pool_slice(list, first, count)
end

-- Puts list[first ... last] in chunks; gives the first that was not put: `last` + 1, unless answers must be taken first. fixed: the chunks' size is
-- the user's, and what does not fit one message is an error.
local function put_slices(pool, job, first, last, chunk, fixed)
  local ok, e = pcall(core.pool_submit_slices, pool.ud, job.f, job.mode, job.list, first, last, job.timeout, job.fname, job.tag, chunk, fixed)
  local tasks, reached = core.pool_submitted(pool.ud) -- also when an item cannot be sent
  job.about = job.about + tasks
  pool.outstanding = pool.outstanding + tasks
  if not ok then error(in_list(e, first + tasks * chunk - 1), 0) end
  return reached
end

local function put_part(pool, job, first, values, count)
  job.chunks[first] = values
  put(pool, job, values, first, count)
end

-- A task whose worker died goes back to the queue's end.
local function again(pool, job, first, count)
  if job.kind == "call" then put(pool, job, job.args, 1, 1)
  elseif job.kind == "list" then put(pool, job, slice(job.list, first, count), first, count)
  else put(pool, job, job.chunks[first], first, count) end
end

-- ---- answers ----------------------------------------------------------------------------------

local function slow(pool, took, id, first, count, worker)
  local list = pool.slowest
  local entry = { seconds = took / 1e9, task = id, first = first, count = count, pid = worker.pid }
  local i = #list
  while i > 0 and list[i].seconds < entry.seconds do i = i - 1 end
  table.insert(list, i + 1, entry)
  list[SLOWEST + 1] = nil
  if #list == SLOWEST then pool.slow_from = list[SLOWEST].seconds * 1e9 end
end

local function as_error(parts, worker)
  if mp.is_error(parts) then return parts end
  if type(parts) ~= "table" then parts = { kind = "error", message = P.text_of(parts), value = parts } end
  if worker then parts.name = worker.name end
  return core.error_new(parts)
end

-- An iteration's item: values[i] may be nil.
local function item(job, i, ok, value)
  if not ok then job.errors[i] = value
  elseif value == nil then job.ready[i] = job.none
  else job.ready[i] = value end
  if job.unordered then
    local q = job.arrived
    q.last = q.last + 1
    q[q.last] = i
  end
end

local function place(job, items)
  job.left = job.left - items
  if job.progress then job.progress:update(job.n - job.left) end
  if job.left == 0 then succeed(job) end
end

local function list_answer(pool, job, first, count, status, worker, value)
  if status ~= LIST then return fail(pool, job, as_error(status == FAILED and value[1] or value, worker)) end
  local results = job.results
  for i = 1, count do results[first + i - 1] = value[i] end
  place(job, count)
end

local function stream_answer(pool, job, first, count, status, worker, at, value)
  local values = job.chunks[first]
  job.chunks[first] = nil
  if status == LIST then
    for i = 1, count do item(job, first + i - 1, true, value[i]) end
    return
  end
  local e = as_error(status == FAILED and value[1] or value, worker)
  local before = status == FAILED and value[2] or {}
  at = status == FAILED and max(1, min(at, count)) or count
  for i = 1, at - 1 do
    if status == FAILED then item(job, first + i - 1, true, before[i]) else item(job, first + i - 1, false, e) end
  end
  item(job, first + at - 1, false, e)
  if at < count then -- those behind it have not been run
    put_part(pool, job, first + at, move(values, at + 1, count, 1, {}), count - at)
  end
end

local function measure(job, took, items)
  local f = job.measured
  f.work, f.count = f.work + took, f.count + items
end

local function handle(pool, tag, id, status, w, at, work_ns, wait_ns, first, count, value)
  local worker = pool.workers[w]
  if tag == 0 then
    if status == READY then
      pool.failed_starts = 0
      if not worker.ready then worker.ready = now() end
    elseif status == INIT_FAILED then
      pool.init_error = as_error(value)
    end
    return
  end
  local job = pool.jobs[tag]
  if status == PART then -- kept until the rest is there
    job.parts = job.parts or {}
    local parts = job.parts[first] or {}
    for i, v in pairs(value) do parts[at + i] = v end
    job.parts[first] = parts
    return
  end
  job.about = job.about - 1
  pool.outstanding = pool.outstanding - 1
  if job.parts then
    if status == LIST and at > 0 then
      local parts = job.parts[first]
      for i, v in pairs(value) do parts[at + i] = v end
      value = parts
    end
    job.parts[first] = nil
  end
  if work_ns > pool.slow_from then slow(pool, work_ns, id, first, count, worker) end
  if job.done then return leave(pool, job) end -- cancelled or failed
  if status == SKIPPED then return again(pool, job, first, count) end -- by mistake: its bit was another's
  if job.kind == "call" then
    if status == VALUE then job.value = { value, n = 1 }
    elseif status == NONE then job.value = { n = 0 }
    elseif status == MANY then job.value = value
    else job.failure = as_error(status == FAILED and value[1] or value, worker) end
    if job.failure ~= nil then fail(pool, job, job.failure) else succeed(job) end
  else
    if status == LIST then measure(job, work_ns, count) end
    if job.kind == "list" then list_answer(pool, job, first, count, status, worker, value)
    else stream_answer(pool, job, first, count, status, worker, at, value) end
  end
  return leave(pool, job)
end

-- Takes what answers there are; gives whether there were any.
function collect(pool)
  local ud, any = pool.ud, false
  local function one(tag, ...)
    if not tag then return false end
    handle(pool, tag, ...)
    return true
  end
  while one(next_answer(ud, 0)) do any = true end
  return any
end

-- ---- workers ----------------------------------------------------------------------------------

local function start_worker(pool, i)
  local o = pool.options
  local worker = pool.workers[i]
  worker = { starts = (worker and worker.starts or 0) + 1, started = now() }
  core.pool_reset(pool.ud, i)
  local args = { pool.objects[1], pool.objects[2], pool.objects[3], i, o.maxtasksperchild, o.initializer, o.initargs,
                 o.sandbox ~= nil, n = 8 }
  if o.kind == "thread" then
    worker.process = mp.Thread { target = work, args = args, name = format("PoolThread-%d", i), daemon = true }
  else
    worker.process = mp.Process {
      target = work, args = args, name = format("PoolWorker-%d", i), daemon = true, start_method = o.start_method,
      sandbox = o.sandbox, limits = o.limits,
    }
  end
  worker.process:start()
  worker.name = worker.process.name
  worker.pid = worker.process.pid
  worker.sentinel = worker.process.sentinel
  core.pool_watch(pool.ud, worker.sentinel, true)
  pool.workers[i] = worker
end

-- The pool cannot go on.
local function break_pool(pool, e)
  pool.broken = e
  core.pool_drop_tasks(pool.ud)
  pool.outstanding = 0
  for _, job in ipairs(pool.jobs) do
    if job then
      job.about = 0
      fail(pool, job, e)
      leave(pool, job)
    end
  end
end

local function died_error(worker, process)
  local e = process.error
  if e ~= nil and (e.kind ~= "error" or e.signal) then return e end
  local code = process.exitcode
  return core.error_new {
    kind = "died", pid = worker.pid, name = worker.name, exitcode = code,
    message = format("the pool's worker %s ended with exit code %s", worker.name, tostring(code)),
  }
end

local function lost(pool, id, worker, e, at)
  local tag, first, count = core.pool_take_back(pool.ud, id)
  if not tag then return end
  local job = pool.jobs[tag]
  job.about = job.about - 1
  pool.outstanding = pool.outstanding - 1
  if job.parts then job.parts[first] = nil end
  if job.done then return leave(pool, job) end
  if e.kind == "died" then
    local tries = job.tries and job.tries[first] or 0
    if worker.innocent then return again(pool, job, first, count) end
    if tries < (job.retries or 0) then
      job.tries = job.tries or {}
      job.tries[first] = tries + 1
      return again(pool, job, first, count)
    end
  end
  if job.kind ~= "stream" then
    fail(pool, job, e)
    return leave(pool, job)
  end
  -- Of a chunk, only the item that it was at has failed. Results of those before it died with the worker.
  local values = job.chunks[first]
  job.chunks[first] = nil
  at = max(1, min(at, count))
  item(job, first + at - 1, false, e)
  if at > 1 then put_part(pool, job, first, move(values, 1, at - 1, 1, {}), at - 1) end
  if at < count then put_part(pool, job, first + at, move(values, at + 1, count, 1, {}), count - at) end
end

local function timed_out(worker)
  return core.error_new { kind = "timeout", pid = worker.pid, name = worker.name, message = "the task's time was up; its worker was ended" }
end

local function bury(pool, i, worker)
  local process = worker.process
  worker.dead = true
  core.pool_watch(pool.ud, worker.sentinel, false)
  local id, state, at, stopped = core.pool_victim(pool.ud, i)
  collect(pool) -- what it had answered counts
  local starting = state == STARTING
  if starting then
    pool.failed_starts = pool.failed_starts + 1
    local own = process.error -- of what comes before the initializer: a module, say
    pool.start_error = pool.init_error or own ~= nil and own.kind == "error" and own or died_error(worker, process)
    if pool.start_error ~= pool.init_error and pool.start_error ~= own then
      pool.start_error.message = "the pool's initializer did not return: " .. pool.start_error.message
    end
  end
  local e = id and (stopped == TIMEOUT or worker.late == id) and timed_out(worker) or died_error(worker, process)
  if pool.options.sandbox ~= nil then move(process.violations, 1, #process.violations, #pool.violations + 1, pool.violations) end
  process:close()
  core.pool_reset(pool.ud, i)
  if id then lost(pool, id, worker, e, at) end
  if pool.ended and pool.outstanding == 0 then return end
  if starting then
    if pool.failed_starts > pool.most_starts then return break_pool(pool, pool.start_error) end
    worker.restart = now() + 0.01 * 2 ^ min(pool.failed_starts, 6)
  else
    worker.restart = 0
  end
end

-- What does not stop by itself is ended: processes do so themselves unless they are stopped or deaf, threads wait for us.
local function overdue(pool, i, worker, t)
  local late = core.pool_late(pool.ud, i)
  local unwanted = worker.stop_by and t > worker.stop_by
  if unwanted then
    worker.stop_by = nil
    unwanted = core.pool_stop(pool.ud, worker.stop_id) == i and core.pool_is_about(pool.ud, worker.stop_id)
  end
  if pool.threads then
    if late and late > 2 then -- in C code that never looks: the task has failed, whenever its thread is back
      local id, _, at = core.pool_victim(pool.ud, i)
      if id then lost(pool, id, worker, timed_out(worker), at) end
    elseif late or unwanted then
      worker.late, worker.innocent = late and core.pool_victim(pool.ud, i), not late
      core.thread_poke(worker.process, unwanted or late > 0.3)
    end
  elseif late and late > (pool.options.sandbox ~= nil and 0 or 1) or unwanted then
    worker.late, worker.innocent = late and core.pool_victim(pool.ud, i), not late
    worker.process:kill()
  end
end

-- Looks at every worker: buries the dead, replaces them, ends those whose task is late and who did not end themselves.
local function look(pool)
  local t = now()
  pool.looked = t
  if pool.broken or pool.looking then return end
  pool.looking = true
  local next_start = math.huge
  local ok, e = pcall(function()
    for i = 1, #pool.workers do
      local worker = pool.workers[i]
      if not worker.dead then
        if worker.process.exitcode ~= nil then bury(pool, i, worker)
        else overdue(pool, i, worker, t) end
      end
      worker = pool.workers[i]
      if worker.dead and worker.restart and not pool.broken and not (pool.ended and pool.outstanding == 0) then
        if worker.restart <= t then start_worker(pool, i) else next_start = min(next_start, worker.restart) end
      end
    end
  end)
  pool.looking = false
  if not ok then error(e, 0) end
  core.pool_timer(pool.ud, next_start < math.huge and next_start - t or 0)
  -- Nobody has it, and it is nowhere: only a fault of ours could do this, and nobody is to wait for ever for it.
  if pool.outstanding > 0 and not pool.broken then
    local queued, answers = core.pool_queued(pool.ud)
    local id = queued == 0 and answers == 0 and core.pool_suspect(pool.ud) or nil
    pool.suspected = id and id == pool.suspect and pool.suspected + 1 or 0
    pool.suspect = id
    if pool.suspected > 20 then lost(pool, id, pool, core.error_new { kind = "died", message = "the task was lost" }, 1) end
  end
end

local function count_answer(pool, tag, ...)
  if not tag then
    look(pool)
    return false
  end
  handle(pool, tag, ...)
  pool.handled = pool.handled + 1
  if pool.handled & 255 == 0 and now() - pool.looked > LOOK then look(pool) end
  return true
end

-- Handles one answer; waits for it at most so long, and not longer than a look takes.
function wait_some(pool, seconds)
  return count_answer(pool, next_answer(pool.ud, seconds < LOOK and seconds or LOOK))
end

-- The same for a list, several at once.
local function count_items(pool, job, items, tasks, work_ns, e)
  if not items then
    look(pool)
    return false
  end
  if tasks == 0 then -- something else comes first
    count_answer(pool, next_answer(pool.ud, 0))
    return true
  end
  job.about = job.about - tasks
  pool.outstanding = pool.outstanding - tasks
  measure(job, work_ns, items)
  pool.handled = pool.handled + 256
  if pool.handled & 4095 == 0 and now() - pool.looked > LOOK then look(pool) end
  place(job, items)
  if e ~= nil then fail(pool, job, as_error(e)) end
  leave(pool, job)
  return true
end

local function gather_some(pool, job, seconds)
  if job.kind ~= "list" or job.done then return wait_some(pool, seconds) end
  return count_items(pool, job, gather(pool.ud, job.tag, job.results, seconds < LOOK and seconds or LOOK, pool.slow_from))
end

-- Until the job is done, or the time is up: true or false.
local function wait_for(pool, job, timeout)
  if job.done then return true end
  local deadline = timeout and now() + timeout
  local step = 0.01
  while not job.done do
    local left = deadline and deadline - now() or LOOK
    if left <= 0 then
      collect(pool)
      if now() - pool.looked > LOOK then look(pool) end
      return job.done
    end
    if gather_some(pool, job, min(step, left)) then step = 0.01 else step = min(LOOK, step * 2) end
  end
  return true
end

-- ---- arguments --------------------------------------------------------------------------------

local function of(self, fname)
  local pool, is_open = fields_of(self)
  if not pool then misuse(fname, format("a pool expected, got %s (call it with ':')", type(self))) end
  if not is_open and fname ~= "close" and fname ~= "terminate" and fname ~= "join" and fname ~= "pids" then misuse(fname, "the pool is closed") end
  if pool.pid ~= getpid() then misuse(fname, format("the pool belongs to process %d", pool.pid)) end
  return pool
end

local function open(self, fname)
  local pool = of(self, fname)
  if pool.state ~= "running" then misuse(fname, "the pool is closed") end
  if pool.broken then error(pool.broken, 0) end
  return pool
end

local function callable(v)
  if type(v) == "function" then return true end
  local mt = getmetatable(v)
  return type(mt) == "table" and rawget(mt, "__call") ~= nil
end

local function need_function(fname, f)
  if not callable(f) then misuse(fname, "bad argument #1 (a function expected, got " .. type(f) .. ")") end
  return f
end

local CHECKS <const> = {
  callback = callable, error_callback = callable,
  timeout = function(v) return type(v) == "number" and v == v and v > 0 end,
  retries = function(v) return type(v) == "number" and v >= 0 and v % 1 == 0 end,
  chunksize = function(v) return type(v) == "number" and v >= 1 and v % 1 == 0 end,
  progress = function(v) return type(v) == "boolean" end,
}
local WANTS <const> = { callback = "a function", error_callback = "a function", timeout = "a positive number of seconds",
  retries = "an integer from 0", chunksize = "an integer from 1", progress = "a boolean" }
local CALL_OPTIONS <const> = { callback = true, error_callback = true, timeout = true, retries = true }
local LIST_OPTIONS <const> = { callback = true, error_callback = true, timeout = true, retries = true, chunksize = true, progress = true }
local STREAM_OPTIONS <const> = { timeout = true, retries = true, chunksize = true }
local EMPTY <const> = setmetatable({}, { __newindex = function() error "read-only" end })

local function check_options(fname, o, known)
  if o == nil then return EMPTY end
  if type(o) == "number" and known.chunksize then o = { chunksize = o } end
  if type(o) ~= "table" then misuse(fname, "a table of options expected, got " .. type(o)) end
  for k, v in next, o do
    if not known[k] then misuse(fname, format("unknown option '%s'", tostring(k))) end
    if not CHECKS[k](v) then misuse(fname, format("%s must be %s", k, WANTS[k])) end
  end
  return o
end

local function chunk_of(o)
  return o.chunksize and min(o.chunksize, 1 << 30) // 1 | 0
end

local function check_timeout(fname, v)
  if v ~= nil and (type(v) ~= "number" or v ~= v) then misuse(fname, "timeout must be a number of seconds") end
  return v
end

-- What the workers are told about f. The store of functions starts afresh when it is full and nobody needs it.
local function told(pool, f, fname)
  if pool.outstanding == 0 and core.pool_kept(pool.ud) > STORE_MOST then
    core.pool_forget(pool.ud)
    pool.measured = setmetatable({}, { __mode = "k" })
  end
  return function_of(pool.ud, f, fname)
end

-- How long a task of this function takes, as far as we have seen.
local function measured(pool, f)
  local m = pool.measured[f]
  if not m then
    m = { work = 0, count = 0 }
    pool.measured[f] = m
  end
  return m
end

-- ---- results ----------------------------------------------------------------------------------

local function new_result(self, pool, job)
  job.pool = self
  job.owner = pool
  return core.pool_result(job)
end

local function result_of(r, fname)
  local job = result_fields(r)
  if not job then misuse(fname, "an async result expected (call it with ':')") end
  if job.owner.pid ~= getpid() then misuse(fname, format("the result belongs to process %d", job.owner.pid)) end
  return job, job.owner
end

local function value_of(job)
  if job.cancelled then return nil, "cancelled" end
  if job.failure ~= nil then error(job.failure, 0) end
  if job.kind == "call" then return unpack(job.value, 1, job.value.n) end
  return job.results
end

local Result = {}

function Result:get(timeout)
  local job, pool = result_of(self, "get")
  check_timeout("get", timeout)
  if not wait_for(pool, job, timeout) then return nil, "timeout" end
  return value_of(job)
end

function Result:wait(timeout)
  local job, pool = result_of(self, "wait")
  check_timeout("wait", timeout)
  if not wait_for(pool, job, timeout) then return nil, "timeout" end
  return true
end

function Result:ready()
  local job, pool = result_of(self, "ready")
  wait_for(pool, job, 0)
  return job.done == true
end

function Result:successful()
  local job, pool = result_of(self, "successful")
  if not wait_for(pool, job, 0) then misuse("successful", "the result is not ready yet") end
  return not job.cancelled and job.failure == nil
end

-- Tells whoever runs a part of the job to stop it.
local function stop_running(pool, id)
  local i = core.pool_stop(pool.ud, id)
  if not i then return end
  local worker = pool.workers[i]
  if worker.dead then return end
  worker.stop_by, worker.stop_id = now() + 1, id
  if pool.threads then core.thread_poke(worker.process, false)
  elseif pool.options.sandbox ~= nil then
    worker.innocent = true -- of what it may have begun meanwhile
    worker.process:kill()
  else core.process_signal(worker.process, SIGALRM) end
end

local function cancel_job(pool, job)
  job.cancelled = true
  settle(job)
  if not job.tag then return end
  core.pool_cancel_job(pool.ud, job.tag)
  for i = 1, #pool.workers do
    local id = core.pool_held(pool.ud, job.tag, i)
    if id then stop_running(pool, id) end
  end
  leave(pool, job)
end

-- true: it is cancelled now; false: it had ended.
function Result:cancel()
  local job, pool = result_of(self, "cancel")
  wait_for(pool, job, 0)
  if job.done then return job.cancelled == true end
  cancel_job(pool, job)
  return true
end

local result_meta = core.pool_result_meta
result_meta.__name = "mp.AsyncResult"
result_meta.__metatable = "mp.AsyncResult"
function result_meta.__ready(self) return Result.ready(self) end
function result_meta.__index(_, key)
  local m = Result[key]
  if m == nil then error(core.where() .. format("mp.AsyncResult has no field '%s'", tostring(key)), 0) end
  return m
end
function result_meta.__tostring(self)
  local job = result_fields(self)
  local how = "pending"
  if job.cancelled then how = "cancelled" elseif job.failure ~= nil then how = "failed" elseif job.done then how = "ready" end
  return format("mp.AsyncResult %s %s", how, tostring(job):match "0x%x+" or "")
end

-- ---- submitting: one call ---------------------------------------------------------------------

local Pool = {}
local NO_ARGS <const> = {}

local function call(pool, fname, f, args, o)
  need_function(fname, f)
  if args ~= nil and type(args) ~= "table" then misuse(fname, "bad argument #2 (a list of arguments expected, got " .. type(args) .. ")") end
  args = args or NO_ARGS
  local job = enter(pool, { kind = "call", fname = fname, mode = CALL, f = told(pool, f, fname), args = args, timeout = o.timeout,
    retries = o.retries, callback = o.callback, error_callback = o.error_callback, done = false, tag = 0, about = 0 })
  local ok, e = pcall(put, pool, job, args, 1, 1)
  if not ok then
    job.done = true
    leave(pool, job)
    error(e, 0)
  end
  if pool.outstanding & 1023 == 0 then collect(pool) end -- so that their number stays bounded
  return job
end

-- Whoever leaves a call by an error (an interruption) leaves no task of it behind.
local guard_meta = { __close = function(g)
  if not g.job.done then cancel_job(g.pool, g.job) end
end }

local function finish_call(pool, job)
  local _ <close> = setmetatable({ pool = pool, job = job }, guard_meta)
  wait_for(pool, job)
end

function Pool:apply(f, args, o)
  local pool = open(self, "apply")
  local job = call(pool, "pool:apply", f, args, check_options("apply", o, CALL_OPTIONS))
  finish_call(pool, job)
  return value_of(job)
end

function Pool:apply_async(f, args, o)
  local pool = open(self, "apply_async")
  return new_result(self, pool, call(pool, "pool:apply_async", f, args, check_options("apply_async", o, CALL_OPTIONS)))
end

-- ---- submitting: lists ------------------------------------------------------------------------

local function type_name(v)
  local mt = type(v) == "userdata" and getmetatable(v)
  return type(mt) == "string" and mt or type(v)
end

-- The elements, as they are now, of an object that is like a list (mp.List, mp.Array ...); nil: it is none.
local function copy_of(list)
  if type(list) ~= "userdata" then return nil end
  if type_name(list) == "mp.List" then return list:copy() end
  local copy = {}
  local ok = pcall(function()
    for i = 1, #list do
      if list[i] == nil then error "no list" end
      copy[i] = list[i]
    end
  end)
  return ok and copy or nil
end

local function new_list_job(pool, fname, mode, f, list, o)
  need_function(fname, f)
  if type(list) ~= "table" then
    list = copy_of(list) or misuse(fname, "bad argument #2 (a list expected, got " .. type_name(list) .. ")")
  end
  local n = mtype(list.n) == "integer" and list.n >= 0 and list.n or #list
  if mode == STAR then
    for i = 1, n do
      if type(list[i]) ~= "table" then misuse(fname, format("[%d] must be a list of arguments, not a %s", i, type(list[i]))) end
    end
  end
  local told_f = told(pool, f, fname)
  return enter(pool, {
    kind = "list", fname = fname, mode = mode, f = told_f, list = list, n = n, left = n, about = 0, results = core.pool_list(n), done = false,
    timeout = o.timeout, retries = o.retries, callback = o.callback, error_callback = o.error_callback,
    measured = measured(pool, told_f), progress = o.progress and core.progress(n) or nil,
  })
end

local function chunk_for(pool, job, left)
  local m = job.measured
  if m.count == 0 then return 1 end
  local each = m.work / m.count
  local c = each > 0 and floor(CHUNK_NS / each) or left
  c = min(c, CHUNK_MOST, m.count * 16, floor(left / (2 * #pool.workers)) + 1)
  return max(1, c)
end

-- All at once: the owner may go and compute.
local function submit_all(pool, job, chunksize)
  local n, first = job.n, 1
  local fixed = chunksize
  if not fixed then
    fixed = max(1, min(CHUNK_MOST, math.ceil(n / (4 * #pool.workers))))
    if job.measured.count > 0 then fixed = min(fixed, chunk_for(pool, job, n)) end
  end
  while first <= n and not job.done do
    local to = put_slices(pool, job, first, min(n, first + 256 * fixed - 1), fixed, chunksize ~= nil)
    if to == first then wait_some(pool, 0.05) else collect(pool) end
    first = to
  end
end

-- As answers come: a bounded number of tasks is about, and chunks grow or shrink with the time that they take.
local function submit_stepwise(pool, job, chunksize)
  local n, first = job.n, 1
  local ahead = chunksize and max(4 * #pool.workers, min(512, floor(4096 / chunksize))) or 3 * #pool.workers
  while not job.done do
    local room = ahead - job.about
    if first <= n and room > 0 then
      local c = chunksize or chunk_for(pool, job, n - first + 1)
      first = put_slices(pool, job, first, min(n, first + (chunksize and room or 1) * c - 1), c, chunksize ~= nil)
      if not chunksize and room > 1 then goto more end
    end
    if not gather_some(pool, job, LOOK) and job.progress then job.progress:update(job.n - job.left) end
    if pool.broken and not job.done then fail(pool, job, pool.broken) end
    ::more::
  end
end

local function list_method(name, mode, async)
  local fname = "pool:" .. name
  return function(self, f, list, o)
    local pool = open(self, name)
    o = check_options(name, o, LIST_OPTIONS)
    local job = new_list_job(pool, fname, mode, f, list, o)
    local result = async and new_result(self, pool, job)
    local _ <close> = not async and setmetatable({ pool = pool, job = job }, guard_meta) or nil
    if job.n == 0 then
      succeed(job)
      leave(pool, job)
    elseif async then
      local ok, e = pcall(submit_all, pool, job, chunk_of(o))
      if not ok then
        cancel_job(pool, job)
        error(e, 0)
      end
    else
      submit_stepwise(pool, job, chunk_of(o))
    end
    if async then return result end
    return value_of(job)
  end
end

Pool.map = list_method("map", EACH, false)
Pool.map_async = list_method("map_async", EACH, true)
Pool.starmap = list_method("starmap", STAR, false)
Pool.starmap_async = list_method("starmap_async", STAR, true)

-- ---- submitting: iterations -------------------------------------------------------------------

local Iteration = {}
local NIL <const> = setmetatable({}, { __name = "nil" })

-- Up to `n` items of the source, their number, and the error that ended it.
local function draw(job, n)
  local values, source = {}, job.source
  local count = 0
  while count < n do
    local v
    if job.list then
      if job.drawn >= job.n then break end
      v = job.list[job.drawn + 1]
    else
      local ok
      ok, v = pcall(source)
      if not ok then
        job.exhausted = true
        return values, count, v == nil and "nil" or v
      end
      if v == nil then break end
    end
    count = count + 1
    values[count] = v
    job.drawn = job.drawn + 1
  end
  if count < n then job.exhausted = true end
  return values, count
end

-- What cannot be sent is an error in its place, as a task's failure is; at first, where the iteration is made.
local function put_items(pool, job, first, values, count)
  local ok, e = pcall(put_part, pool, job, first, values, count)
  if ok then return end
  job.chunks[first] = nil
  if not job.begun or not mp.is_error(e, "encode") then error(e, 0) end
  if count == 1 then return item(job, first, false, e) end
  for i = 1, count do put_items(pool, job, first + i - 1, { values[i] }, 1) end
end

local function feed(pool, job)
  while not job.exhausted and not job.done and job.drawn - job.given < job.ahead do
    local first = job.drawn + 1
    local values, count, e = draw(job, job.chunksize)
    if count > 0 then put_items(pool, job, first, values, count) end
    if e ~= nil then
      if not job.begun or type(e) == "string" and e:find("interrupted!", 1, true) then error(e, 0) end
      job.drawn = job.drawn + 1
      item(job, job.drawn, false, e)
    end
  end
  job.begun = true
end

local function end_iteration(job)
  if job.done then return end
  cancel_job(job.owner, job)
  job.ready, job.errors, job.arrived = {}, {}, { last = 0, first = 1 }
end

local function step(job, timeout)
  local pool = job.owner
  local deadline = timeout and now() + timeout
  if job.done then
    if job.failure ~= nil and not job.told then
      job.told = true
      error(job.failure, 0)
    end
    return nil
  end
  feed(pool, job)
  while true do
    local i
    if job.unordered then i = job.arrived[job.arrived.first] else i = job.given + 1 end
    local e = i and job.errors[i]
    local v = i and job.ready[i]
    if e ~= nil or v ~= nil then
      job.given = job.given + 1
      job.ready[i], job.errors[i] = nil, nil
      if job.unordered then
        job.arrived[job.arrived.first] = nil
        job.arrived.first = job.arrived.first + 1
      end
      if e ~= nil then error(e, 0) end
      if v == NIL then return nil, i end
      return v, i
    end
    if job.exhausted and job.given >= job.drawn then
      settle(job)
      leave(pool, job)
      return nil
    end
    if job.done then return step(job) end -- failed meanwhile
    local left = deadline and deadline - now() or LOOK
    if left <= 0 and not collect(pool) then return nil, "timeout" end
    if left > 0 then wait_some(pool, left) end
  end
end

-- In a for loop nil would be the end of it: better said than silently lost.
local function loop_step(it)
  local v, i = step(it.job)
  if v == nil and i ~= nil then
    error(core.where() .. format("%s: the result of task %d is nil, which would end a loop (use it:next(), or map)", it.job.fname, i), 0)
  end
  return v, i
end

local iteration_meta = {
  __name = "mp.PoolIterator", __metatable = "mp.PoolIterator", __call = loop_step,
  __index = function(_, key)
    return Iteration[key] or error(core.where() .. format("mp.PoolIterator has no field '%s'", tostring(key)), 0)
  end,
  __close = function(it) end_iteration(it.job) end,
  __gc = function(it) -- dropped half-way; anything may be going on now
    local job = it.job
    if not job.done then job.owner.dropped[#job.owner.dropped + 1] = job end
  end,
  __tostring = function(it) return format("mp.PoolIterator %d given", it.job.given) end,
}

-- it:next([timeout]) -> value, index | nil at the end | nil, "timeout". A nil result: nil and its index.
function Iteration:next(timeout)
  if getmetatable(self) ~= "mp.PoolIterator" then misuse("next", "an iterator expected (call it with ':')") end
  return step(self.job, check_timeout("next", timeout))
end

function Iteration:close()
  end_iteration(self.job)
  return true
end

local function sweep(pool)
  local list = pool.dropped
  pool.dropped = {}
  for _, job in ipairs(list) do end_iteration(job) end
end

local function stream_method(name, unordered)
  local fname = "pool:" .. name
  return function(self, f, source, o)
    local pool = open(self, name)
    if #pool.dropped > 0 then sweep(pool) end
    need_function(name, f)
    o = check_options(name, o, STREAM_OPTIONS)
    local list = type(source) == "table" and not callable(source) and source or copy_of(source)
    if not list and not callable(source) then
      misuse(name, "bad argument #2 (a list or an iterator function expected, got " .. type_name(source) .. ")")
    end
    local chunksize = chunk_of(o) or 1
    local told_f = told(pool, f, fname)
    local job = enter(pool, {
      kind = "stream", chunks = {}, fname = fname, mode = EACH, f = told_f, unordered = unordered, done = false, about = 0,
      list = list, n = list and (mtype(list.n) == "integer" and list.n or #list), source = source, drawn = 0, given = 0, exhausted = false,
      chunksize = chunksize, ahead = max(4 * #pool.workers, 16) * chunksize, ready = {}, errors = {}, none = NIL,
      arrived = { first = 1, last = 0 }, timeout = o.timeout, retries = o.retries, measured = measured(pool, told_f), owner = pool, pool = self,
    })
    local ok, e = pcall(feed, pool, job)
    if not ok then
      cancel_job(pool, job)
      error(e, 0)
    end
    local it = setmetatable({ job = job }, iteration_meta)
    return it, nil, nil, it
  end
end

Pool.imap = stream_method("imap", false)
Pool.imap_unordered = stream_method("imap_unordered", true)

-- ---- the end ----------------------------------------------------------------------------------

local function end_processes(pool)
  for _, worker in pairs(pool.workers) do
    if not worker.dead and worker.process.exitcode == nil then
      if pool.threads then worker.process:terminate() else worker.process:kill() end
    end
  end
end

local function reap(pool, deadline)
  for i = 1, #pool.workers do
    local worker = pool.workers[i]
    if not worker.dead then
      while worker.process.exitcode == nil do
        local left = deadline and deadline - now()
        if left and left <= 0 then return nil, "timeout" end
        worker.process:join(left and min(left, LOOK) or LOOK)
        collect(pool) -- a worker may wait for room
      end
      worker.dead = true
      core.pool_watch(pool.ud, worker.sentinel, false)
      if pool.options.sandbox ~= nil then
        move(worker.process.violations, 1, #worker.process.violations, #pool.violations + 1, pool.violations)
      end
      worker.process:close()
    end
  end
  return true
end

function Pool:close()
  local pool = of(self, "close")
  if pool.state == "running" then pool.state = "closed" end
  return true
end

local function terminate(pool)
  if pool.state == "terminated" then return end
  pool.state, pool.ended = "terminated", true
  core.pool_drop_tasks(pool.ud)
  pool.outstanding = 0
  for _, job in ipairs(pool.jobs) do
    if job then
      job.about = 0
      if not job.done then
        job.cancelled = true
        settle(job)
      end
      leave(pool, job)
    end
  end
  core.pool_end(pool.ud, true)
  end_processes(pool)
end

function Pool:terminate()
  terminate(of(self, "terminate"))
  return true
end

function Pool:join(timeout)
  local pool = of(self, "join")
  check_timeout("join", timeout)
  if pool.state == "running" then misuse("join", "the pool is open; close or terminate it first") end
  local deadline = timeout and now() + timeout
  local pause = 0.01
  while pool.outstanding > 0 do
    local left = deadline and deadline - now() or LOOK
    if left <= 0 and not collect(pool) then return nil, "timeout" end
    if wait_some(pool, max(0, min(left, pause))) then pause = 0.01 else pause = min(LOOK, 2 * pause) end
  end
  if not pool.ended then
    pool.ended = true
    core.pool_end(pool.ud, false)
    if pool.broken then end_processes(pool) end
  end
  return reap(pool, deadline)
end

function Pool:pids()
  local pool = of(self, "pids")
  if not pool.ended then
    collect(pool)
    look(pool)
  end
  local list = {}
  for _, worker in ipairs(pool.workers) do
    if not worker.dead then list[#list + 1] = worker.pid or false end
  end
  return list
end

function Pool:stats()
  local pool = of(self, "stats")
  if not pool.ended then collect(pool) end
  local s = { workers = {}, slowest = {}, outstanding = pool.outstanding, queued = core.pool_queued(pool.ud), tasks = 0 }
  for i, w in ipairs(pool.workers) do
    local tasks, took, waited = core.pool_counts(pool.ud, i)
    s.workers[i] = { pid = w.pid, name = w.name, alive = not w.dead, starts = w.starts, tasks = tasks, start = w.ready and w.ready - w.started or nil,
                     work = took / 1e9, wait = waited / 1e9 }
    s.tasks = s.tasks + tasks
  end
  for i, e in ipairs(pool.slowest) do
    s.slowest[i] = { seconds = e.seconds, task = e.task, first = e.first, count = e.count, pid = e.pid }
  end
  return s
end

-- ---- the userdata -----------------------------------------------------------------------------

local meta = core.pool_meta
meta.__name = "mp.Pool"
meta.__metatable = "mp.Pool"

-- What workers in a sandbox were refused: those that are gone first.
local function violations(pool)
  local list = move(pool.violations, 1, #pool.violations, 1, {})
  if pool.options.sandbox == nil then return list end
  for _, worker in ipairs(pool.workers) do
    if not worker.dead then move(worker.process.violations, 1, #worker.process.violations, #list + 1, list) end
  end
  return list
end

function meta.__index(self, key)
  local m = Pool[key]
  if m ~= nil then return m end
  if key == "processes" then return #fields_of(self).workers end
  if key == "violations" then return violations(fields_of(self)) end
  error(core.where() .. format("mp.Pool has no field '%s'", tostring(key)), 0)
end

function meta.__tostring(self)
  local pool = fields_of(self)
  return format("mp.Pool %d workers %s %s", #pool.workers, pool.broken and "broken" or pool.state, tostring(pool):match "0x%x+" or "")
end

-- Descriptors and memory need not wait for a collection: processes that were not reaped hold on to the objects.
local function release(self, pool)
  core.pool_letgo(self)
  for _, object in ipairs(pool.objects or {}) do
    local _ <close> = object
  end
end

function meta.__close(self, e)
  local pool = fields_of(self)
  if pool.pid ~= getpid() then return end
  if e ~= nil or pool.broken then terminate(pool) else Pool.close(self) end
  Pool.join(self)
  release(self, pool)
end

function meta.__gc(self)
  local pool = fields_of(self)
  if pool and pool.pid == getpid() and not pool.ended then
    pool.ended = true
    pcall(core.pool_end, self, true)
    pcall(end_processes, pool)
  end
  if pool then pcall(release, self, pool) end
end

local OPTIONS <const> = { processes = true, initializer = true, initargs = true, maxtasksperchild = true, start_method = true,
                          sandbox = true, limits = true, kind = true }

local function count(fname, what, v)
  v = mtype(v) == "float" and math.tointeger(v) or v
  if mtype(v) ~= "integer" or v < 1 then misuse(fname, what .. " must be an integer from 1") end
  return v
end

local function new(_, o, ...)
  if type(o) ~= "table" then o = { processes = o, initializer = (...), initargs = select(2, ...), maxtasksperchild = select(3, ...) } end
  for k in pairs(o) do
    if not OPTIONS[k] then misuse("Pool", format("unknown option '%s'", tostring(k))) end
  end
  local n = o.processes == nil and mp.cpu_count() or count("Pool", "processes", o.processes)
  if n > 256 then misuse("Pool", "processes must be at most 256") end
  if o.initializer ~= nil and not callable(o.initializer) then misuse("Pool", "initializer must be a function") end
  if o.initargs ~= nil and type(o.initargs) ~= "table" then misuse("Pool", "initargs must be a list of arguments") end
  if o.kind ~= nil and o.kind ~= "process" and o.kind ~= "thread" then misuse("Pool", "kind must be \"process\" or \"thread\"") end
  if o.kind == "thread" and (o.sandbox ~= nil or o.limits ~= nil or o.start_method ~= nil) then
    misuse("Pool", "threads have no sandbox, no limits and no start method")
  end
  if o.start_method ~= nil and o.start_method ~= "fork" and o.start_method ~= "spawn" then
    misuse("Pool", "start_method must be \"fork\" or \"spawn\"")
  end
  local options = {}
  for k, v in pairs(o) do options[k] = v end
  if o.maxtasksperchild ~= nil then options.maxtasksperchild = count("Pool", "maxtasksperchild", o.maxtasksperchild) end
  local pool = {
    pid = getpid(), options = options, state = "running", jobs = {}, free = {}, outstanding = 0, workers = {}, failed_starts = 0, most_starts = n + 2,
    handled = 0, looked = now(), violations = {}, dropped = {},
    threads = o.kind == "thread", slowest = {}, slow_from = 0, measured = setmetatable({}, { __mode = "k" }),
  }
  local ud, why = core.pool_new(pool, n)
  if not ud then misuse("Pool", why) end
  pool.ud = ud
  pool.objects = { core.pool_objects(ud) }
  local ok, e = pcall(function()
    for i = 1, n do start_worker(pool, i) end
  end)
  if not ok then
    terminate(pool)
    error(type(e) == "string" and e:gsub("Process: ", "Pool: ", 1) or e, 0)
  end
  return ud
end

mp.Pool = setmetatable({ work__ = work }, { __call = new, __name = "mp.Pool", __tostring = function() return "mp.Pool" end })
