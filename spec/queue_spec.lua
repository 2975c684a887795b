-- Queues: contract in docs/reference/queue.md.
local mp = require "mp"
local run = require "spec.support.run"
local child, ends_well, misuse = run.child, run.ends_well, run.misuse
local process_it = run.processes(it)

describe("a queue", function()
  it("gives what was put, in order, with its types", function()
    local q = mp.Queue()
    for _, v in ipairs { 1, 1.0, -0.0, "a\0b", true, { 1, { x = "y" } }, math.mininteger, math.huge } do assert.is_true(q:put(v)) end
    assert.equal(8, q:qsize())
    assert.equal("integer", math.type(q:get()))
    assert.equal("float", math.type(q:get()))
    assert.equal(-math.huge, 1 / q:get())
    assert.equal("a\0b", q:get())
    assert.is_true(q:get())
    assert.same({ 1, { x = "y" } }, q:get())
    assert.equal(math.mininteger, q:get())
    assert.equal(math.huge, q:get())
    assert.is_true(q:empty())
  end)

  it("takes nil for a message like any other", function()
    local q = mp.Queue()
    q:put(nil)
    assert.equal(1, select("#", q:get()))
    assert.same({ nil, "empty", n = 2 }, table.pack(q:get_nowait()))
  end)

  it("is bounded by maxsize, and says why it refuses", function()
    local q = mp.Queue(2)
    assert.is_true(q:put(1))
    assert.is_false(q:full())
    assert.is_true(q:put(2))
    assert.is_true(q:full())
    assert.same({ nil, "full", n = 2 }, table.pack(q:put_nowait(3)))
    assert.same({ nil, "timeout", n = 2 }, table.pack(q:put(3, 0.01)))
    assert.same({ nil, "timeout", n = 2 }, table.pack(q:put(3, 0)))
    assert.equal("mp.Queue 2/2 ", tostring(q):sub(1, 13))
    q:get() q:get()
    assert.same({ nil, "timeout", n = 2 }, table.pack(q:get(0.01)))
    assert.same({ nil, "timeout", n = 2 }, table.pack(q:get(-1)))
  end)

  it("refuses a message that could never fit", function()
    local q = mp.Queue { maxbytes = 100 }
    misuse({ "put", "101", "100" }, q.put, q, ("x"):rep(99))
    assert.equal(0, q:qsize())
    assert.is_true(q:put(("x"):rep(98)))
  end)

  it("is unchanged by what cannot be sent", function()
    local q = mp.Queue()
    misuse({ "put", "[2].cfg.handler", "coroutine" }, function() q:put { 1, { cfg = { handler = coroutine.create(print) } } } end)
    misuse({ "put_many", "[2]", "coroutine" }, function() q:put_many { 1, coroutine.create(print), 3 } end)
    assert.equal(0, q:qsize())
  end)

  it("names what is wrong with a call", function()
    local q = mp.Queue()
    misuse({ "unknown option 'maxsiz'" }, mp.Queue, { maxsiz = 1 })
    misuse({ "Queue" }, mp.Queue, "many")
    misuse({ "Queue" }, mp.Queue, -1)
    misuse({ "maxbytes" }, mp.Queue, { maxbytes = "x" })
    misuse({ "put", "#1", "value expected" }, function() q:put() end)
    misuse({ "get", "#1", "timeout" }, function() q:get("soon") end)
    misuse({ "nan" }, function() q:get(0 / 0) end)
    misuse({ "task_done", "more often" }, function() q:task_done() end)
    misuse({ "mp.Queue has no field 'size'" }, function() return q.size end)
    misuse({ "cannot be set" }, function() q.size = 1 end)
    misuse({ "get_many" }, function() q:get_many(0) end)
    misuse({ "put_many", "table" }, function() q:put_many(1) end)
    misuse({ "put_many", "length" }, function() q:put_many { 1, n = -1 } end)
    misuse({ "put_many", "length" }, function() q:put_many { 1, n = 1.5 } end)
  end)

  it("puts and gets many at once", function()
    local q = mp.Queue()
    assert.equal(5, q:put_many { 1, 2, nil, 4, nil, n = 5.0 })
    local t = q:get_many(3)
    assert.same({ 1, 2, n = 3 }, t)
    t = q:get_many(10)
    assert.same({ 4, n = 2 }, t)
    assert.same({ nil, "timeout", n = 2 }, table.pack(q:get_many(10, 0.01)))
    local list = {}
    for i = 1, 20000 do list[i] = i end
    assert.equal(20000, q:put_many(list))
    assert.equal(20000, q:qsize())
    local got = q:get_many(math.huge) -- all that is there
    assert.equal(20000, got.n)
    for i = 1, 20000 do assert(got[i] == i) end
  end)

  it("puts as many as fit and tells how many", function()
    local q = mp.Queue(3)
    assert.same({ 3, "timeout", n = 2 }, table.pack(q:put_many({ 1, 2, 3, 4, 5 }, 0.01)))
    assert.equal(3, q:qsize())
    q:close()
    assert.same({ 0, "closed", n = 2 }, table.pack(q:put_many { 6 }))
  end)

  it("iterates until closed and drained, a nil, or the timeout", function()
    local q, got = mp.Queue(), {}
    q:put_many { 1, 2 }
    q:put(nil)
    q:put(3)
    for v in q:items() do got[#got + 1] = v end
    assert.same({ 1, 2 }, got)
    for v in q:items(0.01) do got[#got + 1] = v end
    assert.same({ 1, 2, 3 }, got)
    q:put(4)
    q:close()
    for v in q:items() do got[#got + 1] = v end
    assert.same({ 1, 2, 3, 4 }, got)
  end)

  it("closes for everyone: puts fail, what is left is drained", function()
    local q = mp.Queue()
    q:put(1)
    local p = child(function() assert(q:close()) end)
    ends_well(p)
    assert.is_true(q:is_closed())
    assert.same({ nil, "closed", n = 2 }, table.pack(q:put(2)))
    assert.same({ nil, "closed", n = 2 }, table.pack(q:put_nowait(2)))
    assert.equal(1, q:get())
    assert.same({ nil, "closed", n = 2 }, table.pack(q:get()))
    assert.same({ nil, "closed", n = 2 }, table.pack(q:get_nowait()))
    assert.is_true(q:close())
  end)

  it("close(true) drops the rest and settles join", function()
    local q = mp.Queue()
    q:put_many { 1, 2, 3 }
    assert.same({ nil, "timeout", n = 2 }, table.pack(q:join(0.01)))
    local p = child(function() assert(q:join(20) == true) end)
    q:close(true)
    assert.is_true(q:join())
    ends_well(p)
    assert.same({ nil, "closed", n = 2 }, table.pack(q:get()))
  end)

  it("close wakes those who wait", function()
    local q, full = mp.Queue(), mp.Queue(1)
    full:put(1)
    local a = child(function() assert(select(2, q:get()) == "closed") end)
    local b = child(function() assert(select(2, full:put(2)) == "closed") end)
    mp.sleep(0.05)
    q:close()
    full:close()
    ends_well(a)
    ends_well(b)
  end)

  it("join waits for as many task_done as were put", function()
    local q = mp.JoinableQueue()
    assert.is_true(q:join())
    q:put_many { 1, 2, 3 }
    local p = child(function() for _ in q:items() do assert(q:task_done()) end end)
    assert.is_true(q:join(20 * run.slow))
    q:close()
    ends_well(p)
  end)

  it("is seen by a child as argument, upvalue and global, and nobody need drain it before a join", function()
    local q = mp.Queue()
    GLOBAL_QUEUE = q -- luacheck: ignore
    ends_well(run.forked(function(arg)
      q:put("upvalue")
      arg:put("argument")
      GLOBAL_QUEUE:put("global") -- luacheck: ignore
      for i = 1, 10000 do q:put(i) end
    end, q))
    GLOBAL_QUEUE = nil -- luacheck: ignore
    assert.equal(10003, q:qsize())
    assert.same({ "upvalue", "argument", "global", n = 3 }, q:get_many(3))
  end)

  it("is one object however it arrives", function()
    local q, other = mp.Queue(), mp.Queue()
    q:put { q, other, q }
    local t = q:get()
    assert.is_true(rawequal(t[1], q))
    assert.is_true(rawequal(t[2], other))
    assert.is_true(t[1] == q and t[1] ~= t[2])
    ends_well(child(function()
      local fresh = mp.Queue()
      fresh:put("inside")
      q:put(fresh)
    end))
    assert.equal("inside", q:get():get())
  end)

  it("keeps handles and plain messages in order, more than two hundred of them", function()
    local q, back = mp.Queue(), mp.Queue()
    local p = child(function()
      for i = 1, 500 do
        local v = q:get()
        if i % 2 == 1 then v:put(i) else assert(v == i) end
      end
      back:put("done")
    end)
    local queues = {}
    for i = 1, 500 do
      if i % 2 == 1 then
        queues[i] = mp.Queue()
        assert(q:put(queues[i]))
      else
        q:put(i)
      end
    end
    assert.equal("done", back:get(20 * run.slow))
    for i = 1, 500, 2 do assert.equal(i, queues[i]:get_nowait()) end
    ends_well(p)
  end)

  process_it("survives whoever dies inside it", function()
    local q = mp.Queue(10)
    for _ = 1, 20 do
      local putter = child(function() while true do q:put { "a message", 1, 2, 3 } end end)
      local getter = child(function() while true do q:get() end end)
      mp.sleep(math.random() * 0.01)
      getter:kill()
      mp.sleep(math.random() * 0.01)
      putter:kill()
      putter:join()
      getter:join()
      for v in q:items(0) do assert.same({ "a message", 1, 2, 3 }, v) end
    end
    assert.is_true(q:put("alive", 5))
    assert.equal("alive", q:get(5))
  end)

  it("blocks a sixth put on a queue of five until somebody takes one", function()
    local q, out = mp.Queue(5), mp.Queue()
    local p = child(function()
      for i = 1, 6 do q:put(i) out:put(i) end
    end)
    for i = 1, 5 do assert.equal(i, out:get(20 * run.slow)) end
    assert.same({ nil, "timeout", n = 2 }, table.pack(out:get(0.1)))
    assert.equal(1, q:get())
    assert.equal(6, out:get(20 * run.slow))
    ends_well(p)
  end)
end)

describe("a queue that redelivers", function()
  local function queue(...)
    local q = mp.Queue { redeliver = true }
    q:put_many { ... }
    return q
  end

  process_it("gives back what a dead or ended process had in hand, first and in order", function()
    for _, how in ipairs { "kill", "return", "exit" } do
      local q, e = queue("a", "b", "c"), mp.Event()
      local p = child(function()
        assert(q:get() == "a" and q:get() == "b")
        e:set()
        if how == "kill" then mp.sleep(60) end
        if how == "exit" then os.exit(3) end
      end)
      assert.is_true(e:wait(20 * run.slow))
      if how == "kill" then
        assert.equal(1, q:qsize())
        p:kill()
      end
      p:join()
      assert.equal(3, q:qsize())
      assert.same({ "a", "b", "c" }, { q:get(), q:get(), q:get() })
      assert.is_true(q:empty())
      for _ = 1, 3 do assert.is_true(q:task_done()) end
      assert.is_true(q:join(0))
    end
  end)

  process_it("wakes a waiting getter when the holder dies", function()
    local q, e, out = queue("only"), mp.Event(), mp.Queue()
    local holder = child(function() q:get() e:set() mp.sleep(60) end)
    e:wait()
    local p = child(function() out:put(q:get()) q:task_done() end)
    assert.same({ nil, "timeout", n = 2 }, table.pack(out:get(0.1)))
    holder:kill()
    assert.equal("only", out:get(20 * run.slow))
    ends_well(p)
    assert.is_true(q:join(5))
  end)

  it("settles the oldest in hand, and refuses who has none", function()
    local q = queue(1)
    misuse({ "task_done", "nothing" }, function() q:task_done() end)
    ends_well(child(function() assert(not pcall(q.task_done, q)) end))
    q:get()
    ends_well(child(function() assert(not pcall(q.task_done, q)) end))
    assert.is_true(q:task_done())
  end)

  it("is drained after close only when nothing is in hand either", function()
    local q, e = queue(1), mp.Event()
    local p = child(function() q:get() e:set() mp.sleep(0.2) q:task_done() end)
    e:wait()
    q:close()
    assert.same({ nil, "timeout", n = 2 }, table.pack(q:get(0.01)))
    assert.same({ nil, "closed", n = 2 }, table.pack(q:get()))
    ends_well(p)
  end)

  it("brings shared objects back too", function()
    local q, inner = mp.Queue { redeliver = true }, mp.Queue()
    q:put(inner)
    ends_well(child(function() assert(q:get() == inner) end))
    local got = q:get()
    got:put("works")
    assert.equal("works", inner:get())
    q:task_done()
  end)

  it("put_many sends what it was given, also when finalizers send meanwhile", function()
    local q, other, first = mp.Queue(), mp.Queue(), nil
    for _ = 1, 50 do
      local list = {}
      for i = 1, 60 do list[i] = ("m" .. i .. "-"):rep(60) end
      for _ = 1, 200 do setmetatable({}, { __gc = function() other:put(("foreign"):rep(30)) end }) end
      assert.equal(60, q:put_many(list))
      local got = q:get_many(60, 5)
      for i = 1, 60 do first = first or got[i] ~= list[i] and i end
      other:close(true)
      other = mp.Queue()
    end
    assert.is_nil(first or nil)
  end)
end)
