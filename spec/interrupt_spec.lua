-- SIGINT in every call that blocks: it raises "interrupted!" soon, and leaves its object as it should be.
local mp = require "mp"
local run = require "spec.support.run"

-- name = { what makes the objects, what blocks, what must hold after }; each a piece of a program.
local calls = {
  ["mp.sleep"] = { "", "mp.sleep(60)", "" },
  ["queue get"] = { "q = mp.Queue()", "q:get()", "q:put(1) assert(q:get() == 1)" },
  ["queue get with a timeout"] = { "q = mp.Queue()", "q:get(60)", "q:put(1) assert(q:get() == 1)" },
  ["queue get, redelivering"] = { "q = mp.Queue{ redeliver = true }", "q:get()", "q:put(1) assert(q:get() == 1 and q:task_done())" },
  ["queue put"] = { "q = mp.Queue(1) q:put(1)", "q:put(2)", "assert(q:qsize() == 1 and q:get() == 1 and q:empty())" },
  ["queue put_many"] = { "q = mp.Queue(2)", "q:put_many{1, 2, 3}", "assert(q:qsize() == 2 and q:get() == 1)" },
  ["queue get_many"] = { "q = mp.Queue()", "q:get_many(3)", "q:put(1) assert(q:get_many(3).n == 1)" },
  ["queue items"] = { "q = mp.Queue()", "for _ in q:items() do end", "q:put(1) assert(q:get() == 1)" },
  ["queue join"] = { "q = mp.Queue() q:put(1)", "q:join()", "q:get() q:task_done() assert(q:join())" },
  ["pipe recv"] = { "a, b = mp.Pipe()", "a:recv()", "b:send(1) assert(a:recv() == 1)" },
  ["pipe poll"] = { "a, b = mp.Pipe()", "a:poll(60)", "b:send(1) assert(a:poll())" },
  ["pipe send"] = { "a, b = mp.Pipe()", "while true do a:send(('x'):rep(100000)) end", "assert(#b:recv() == 100000)" },
  ["wait"] = { "q, e = mp.Queue(), mp.Event()", "mp.wait{ q, e }", "e:set() assert(mp.wait{ q, e }[1] == e)" },
  ["event wait"] = { "e = mp.Event()", "e:wait()", "e:set() assert(e:wait())" },
  ["condition wait"] = { "c = mp.Condition() c:acquire()", "c:wait()", "c:notify() assert(c:release())" },
  ["condition wait_for"] = { "c = mp.Condition() c:acquire()", "c:wait_for(function() return false end)", "assert(c:release())" },
  ["barrier wait"] = { "b = mp.Barrier(2)", "b:wait()", "assert(select(2, b:wait(0)) == 'broken') b:reset()" },
  ["semaphore acquire"] = { "s = mp.Semaphore(0)", "s:acquire()", "s:release() assert(s:acquire())" },
  ["owned semaphore acquire"] = { "s = mp.Semaphore{ 1, owned = true } p = mp.Process{ target = function() s:acquire() mp.sleep(60) end, daemon = true } " ..
    "p:start() while s:value() > 0 do mp.sleep(0.001) end", "s:acquire()", "p:kill() assert(s:acquire(20) and s:release())" },
  ["lock acquire"] = { "l = mp.Lock() p = mp.Process{ target = function() l:acquire() mp.sleep(60) end, daemon = true } " ..
    "p:start() while not l:locked() do mp.sleep(0.001) end", "l:acquire()", "p:kill() assert(select(2, l:acquire(20)) == 'abandoned')" },
  ["process join"] = { "p = mp.Process{ target = function() mp.sleep(60) end, daemon = true } p:start()", "p:join()", "p:kill() assert(p:join(20))" },
  ["process result"] = { "p = mp.Process{ target = function() mp.sleep(60) end, daemon = true } p:start()", "p:result()", "p:kill() assert(p:join(20))" },
}

local program = [[
local mp = require "mp"
local %s
%s
io.stderr:write "ready\n"
local done, why = pcall(function() %s end)
assert(not done and tostring(why):find("interrupted!", 1, true), tostring(why))
%s
print "consistent"
]]

local function locals(setup)
  local names = setup:match("^([%a, ]-) =")
  return names and names ~= "" and names or "unused_"
end

-- Who is asleep is inside the call. (A shell's children in the background ignore SIGINT, if nobody says otherwise.)
local function asleep(pid)
  local f <close> = assert(io.open(("/proc/%d/status"):format(pid)))
  return f:read "a":find "\nState:%s*S"
end

local interrupted = [[
  env --default-signal=INT "$1" "$2/s.lua" 2>"$2/err" & pid=$!
  until grep -q ready "$2/err"; do sleep 0.01; done
  until grep -q "^State:.S" /proc/$pid/status; do sleep 0.01; done
  kill -INT $pid
  wait $pid
  echo status $?
  cat "$2/err" >&2
]]

for name, parts in pairs(calls) do
  describe(name, function()
    it("is interrupted by SIGINT in a program, and its object is consistent", function()
      local extra = parts[1]:find(" p = ") and ", p" or ""
      local text = program:format(locals(parts[1]) .. extra, parts[1], parts[2], parts[3])
      local dir = run.tmpdir()
      run.write(dir .. "/s.lua", text)
      local r = run.command({ "sh", "-c", interrupted, "sh", run.path, dir }, { timeout = 30 })
      assert.equal("consistent\nstatus 0\n", r.out, r.err)
    end)

    it("is interrupted in a child, soon", function()
      local q = mp.Queue()
      local p = mp.Process { target = function()
        local env = setmetatable({ mp = mp }, { __index = _G })
        assert(load(parts[1], "=setup", "t", env))()
        q:put "ready"
        local ok, e = pcall(assert(load(parts[2], "=blocks", "t", env)))
        q:put { ok, tostring(e) }
        assert(load(parts[3], "=after", "t", env))()
        q:put "consistent"
      end, start_method = "fork" }
      p:start()
      assert.equal("ready", q:get(20 * run.slow))
      assert(run.wait_until(function() return asleep(p.pid) end, 20))
      local t0 = mp.now()
      p:interrupt()
      local got = q:get(20 * run.slow)
      local spent = mp.now() - t0
      assert.is_false(got[1])
      assert(got[2]:find("interrupted!", 1, true), got[2])
      assert(spent < 1 * run.slow, ("it took %g s"):format(spent))
      assert.equal("consistent", q:get(20 * run.slow))
      p:join()
      assert.equal(0, p.exitcode)
    end)
  end)
end

describe("Control-C", function()
  it("ends a whole script with one message and nobody left", function()
    local dir = run.tmpdir()
    run.write(dir .. "/s.lua", [[
      local mp = require "mp"
      local q = mp.Queue()
      for i = 1, 3 do
        mp.Process{ target = function() if i == 1 then while true do end else q:get() end end }:start()
      end
      local f = io.open(arg[1], "w") f:write(mp.getpid()) f:close()
      q:get()
    ]])
    local r = run.command({ "setsid", "-w", "timeout", "--foreground", "-s", "INT", "60", "sh", "-c",
      ("trap '' INT; '%s' %s/s.lua %s/pid & while ! [ -s %s/pid ]; do sleep 0.05; done; sleep 0.2; kill -INT 0; wait $!; echo status $?; " ..
       "sleep 0.2; ps -o args= -s $$ | grep -c '[s]\\.lua'"):format(run.path, dir, dir, dir) }, { timeout = 40 })
    assert.equal("status 1\n0\n", r.out, r.err)
    local _, messages = r.err:gsub("interrupted!", "")
    assert.equal(1, messages, r.err)
  end)
end)
