-- What every constructor and method owes to a mistaken caller: an error at the caller's line that names what was called and what is
-- wrong with it. The modules' own specs say more about each; this one has what is alike in all of them.
local mp = require "mp"

local function refuses(words, f)
  local ok, e = pcall(f)
  assert.is_false(ok)
  e = tostring(e)
  for _, word in ipairs(words) do assert(e:find(word, 1, true), ("%q is not in %q"):format(word, e)) end
  assert(e:find("^spec/misuse_spec.lua:%d+: "), "no position of the caller: " .. e)
end

describe("misuse", function()
  it("of a constructor that takes nothing, or options, names the option", function()
    refuses({ "mp.Lock", "unknown option 'x'" }, function() mp.Lock { x = 1 } end)
    refuses({ "mp.RLock", "unknown option 'x'" }, function() mp.RLock { x = 1 } end)
    refuses({ "mp.Event", "unknown option 'x'" }, function() mp.Event { x = 1 } end)
    refuses({ "mp.Lock", "no argument", "string" }, function() mp.Lock("l") end)
    refuses({ "mp.Event", "no argument", "number" }, function() mp.Event(3) end)
    refuses({ "JoinableQueue", "unknown option 'x'" }, function() mp.JoinableQueue { x = 1 } end)
    refuses({ "SimpleQueue", "maxsize" }, function() mp.SimpleQueue { maxsize = -1 } end)
    refuses({ "Pipe", "unknown option 'dup'" }, function() mp.Pipe { dup = true } end)
    refuses({ "Pipe", "duplex" }, function() mp.Pipe { duplex = 1 } end)
    assert.is_false(mp.Pipe { duplex = false }.writable)
    assert.is_true(mp.Pipe { duplex = true }.writable)
    assert.is_false(mp.Lock {}:locked())
  end)

  it("of what takes a function asks for a function, and takes what can be called", function()
    local callable = setmetatable({}, { __call = function(_, v) return v end })
    for _, o in ipairs { mp.Lock(), mp.RLock(), mp.Semaphore(1), mp.Condition(), mp.Value("i"), mp.Array("i", 1), mp.Dict(), mp.List() } do
      refuses({ "with", "function expected, got no value" }, function() o:with() end)
      refuses({ "with", "function expected, got number" }, function() o:with(3) end)
      assert.is_true(pcall(o.with, o, callable))
    end
    local d = mp.Dict { a = 1 }
    refuses({ "update", "function expected, got no value" }, function() d:update("a") end)
    refuses({ "update", "function expected, got number" }, function() d:update("a", 3) end)
    assert.equal(1, d:update("a", callable))
    local c = mp.Condition()
    assert.equal(7, c:with(function() return c:wait_for(setmetatable({}, { __call = function() return 7 end })) end))
  end)

  it("of a timeout is told where the call is", function()
    local p = mp.Process { target = mp.sleep, args = { 0 } }
    local t = mp.Thread { target = mp.sleep, args = { 0 } }
    refuses({ "terminate", "not started" }, function() t:terminate() end)
    refuses({ "interrupt", "not started" }, function() t:interrupt() end)
    p:start()
    t:start()
    for _, o in ipairs { p, t } do
      refuses({ "join", "timeout" }, function() o:join(0 / 0) end)
      refuses({ "join", "timeout" }, function() o:join("1") end)
      assert.is_true(o:join())
    end
  end)

  it("of a message, with more shared objects than one can carry, is an mp.Error as for all that cannot be sent", function()
    local q, many = mp.Queue(), {}
    local a, b = mp.Pipe()
    for i = 1, 251 do many[i] = mp.Lock() end
    for name, f in pairs {
      put = function() q:put(many) end,
      put_nowait = function() q:put_nowait(many) end,
      put_many = function() q:put_many { 1, many } end,
      send = function() a:send { many } end,
    } do
      local ok, e = pcall(f)
      assert.is_false(ok)
      assert.is_true(mp.is_error(e, "encode"))
      assert.matches("^spec/misuse_spec.lua:%d+: .*" .. name .. ": .*251 descriptors.* 250", e.message)
    end
    assert.is_true(q:empty())
    assert.is_false(b:poll())
    many[251] = nil
    assert.is_true(q:put(many))
    assert.equal(250, #q:get())
  end)

  it("of a constructor that got one argument too many is not passed over in silence", function()
    refuses({ "Queue", "at most 1 argument", "table" }, function() mp.Queue(3, { redeliver = true }) end)
    refuses({ "mp.Semaphore", "at most 1 argument", "table" }, function() mp.Semaphore(3, { owned = true }) end)
    refuses({ "mp.BoundedSemaphore", "at most 1 argument", "number" }, function() mp.BoundedSemaphore(3, 4) end)
    refuses({ "Pipe", "at most 1 argument" }, function() mp.Pipe(true, false) end)
    refuses({ "mp.Lock", "at most 1 argument" }, function() mp.Lock({}, 1) end)
    refuses({ "mp.Event", "at most 1 argument" }, function() mp.Event(nil, 1) end)
    refuses({ "mp.Condition", "at most 1 argument" }, function() mp.Condition(nil, mp.Lock()) end)
    refuses({ "mp.Barrier", "at most 1 argument" }, function() mp.Barrier({ 2 }, { timeout = 1 }) end)
    refuses({ "mp.Barrier", "at most 2 arguments" }, function() mp.Barrier(2, nil, 1) end)
    refuses({ "mp.Value", "at most 3 arguments" }, function() mp.Value("i", 0, {}, false) end)
    refuses({ "mp.Array", "at most 3 arguments" }, function() mp.Array("i", 3, nil, {}) end)
    refuses({ "mp.Dict", "at most 1 argument" }, function() mp.Dict({}, { lock = false }) end)
    refuses({ "mp.List", "at most 1 argument" }, function() mp.List(1, 2) end)
    refuses({ "Fd", "at most 1 argument" }, function() mp.Fd(1, 2) end)
    refuses({ "mp.Semaphore", "unknown option '1'" }, function() mp.Semaphore { n = 3, 4 } end)
    refuses({ "mp.Barrier", "unknown option '1'" }, function() mp.Barrier { parties = 3, 4 } end)
    refuses({ "Process", "one table of options" }, function() return (mp.Process(print, {}, "name", true)) end)
    refuses({ "Process", "one table of options" }, function() return (mp.Process({ target = print }, { 1 })) end)
    refuses({ "Thread", "one table of options" }, function() return (mp.Thread(print, {}, "name", true)) end)
    assert.is_truthy(mp.Queue(3, nil))
  end)

  it("is told with function and line also when the function was called through pcall", function()
    local function names(words, f, ...)
      local ok, e = pcall(f, ...)
      assert.is_false(ok)
      e = tostring(e)
      for _, word in ipairs(words) do assert(e:find(word, 1, true), ("%q is not in %q"):format(word, e)) end
      assert.matches("^spec/misuse_spec.lua:%d+: ", e)
    end
    local q, l = mp.Queue(), mp.Lock()
    names({ "#1", "mp.Queue.put", "mp.Queue expected, got mp.Lock" }, q.put, l, 1)
    names({ "#2", "mp.Queue.put", "value expected" }, q.put, q)
    names({ "#2", "mp.Queue.get", "timeout in seconds expected, got string" }, q.get, q, "1")
    names({ "#2", "mp.Lock.acquire", "timeout" }, l.acquire, l, 0 / 0)
    names({ "#3", "mp.Value.cas", "value expected" }, mp.Value("i").cas, mp.Value("i"), 1)
    names({ "#1", "mp.Queue", "integer expected, got string" }, mp.Queue, "x")
    names({ "#1", "mp.wait", "table expected, got number" }, mp.wait, 3)
    names({ "release: the lock is not held" }, l.release, l)
    names({ "mp.Queue.put: [1]: ", "cannot be sent" }, q.put, q, { io.stdout })
    for _, name in ipairs { "put", "put_nowait" } do -- a name that Lua does not know either
      names({ "#2", "mp.Queue." .. name, "value expected" }, function() q[name](q) end)
      names({ "mp.Queue." .. name, "cannot be sent" }, function() q[name](q, io.stdout) end)
    end
    names({ "'items'", "mp.Dict expected" }, mp.Dict().items, q)
  end)

  it("of a closed handle says so, in every way to use it", function()
    local function closed(o)
      do local _ <close> = o end
      return o
    end
    local q, l, v, a, b = closed(mp.Queue()), closed(mp.Lock()), closed(mp.Value("i")), closed(mp.Array("i", 3)), closed(mp.Barrier(2))
    refuses({ "put: the handle of the mp.Queue is closed" }, function() q:put(1) end)
    refuses({ "mp.Queue.put: the handle is closed" }, function() assert(pcall(q.put, q, 1)) end)
    refuses({ "acquire: the handle of the mp.Lock is closed" }, function() l:acquire() end)
    refuses({ "mp.Value: the handle is closed" }, function() return v.value end)
    refuses({ "mp.Value: the handle is closed" }, function() v.value = 1 end)
    refuses({ "mp.Array: the handle is closed" }, function() return a[1] end)
    refuses({ "mp.Array: the handle is closed" }, function() a[1] = 1 end)
    refuses({ "mp.Array: the handle is closed" }, function() return #a end)
    refuses({ "n_waiting: the handle is closed" }, function() return b.n_waiting end)
    refuses({ "mp.Condition", "the handle of the lock is closed" }, function() mp.Condition(l) end)
    refuses({ "wait: [1]", "closed" }, function() mp.wait { q } end)
  end)

  it("by whoever closes a handle in the middle of a call on it, is told, and harms nothing", function()
    local function close(o) local _ <close> = o end
    local Class, o = {}, nil
    local function instance() return setmetatable({}, Class) end
    mp.register("misuse_spec.Closing", Class, {
      dump = function() if o then close(o) end return 1 end,
      load = function() if o then close(o) end return instance() end })
    local function list(n) -- whose reading closes
      return setmetatable({}, { __len = function() return n end, __index = function(_, i) if i == n then close(o) end return i end })
    end
    local function during(make, f, ...)
      local words = { "closed", ... }
      refuses(words, function()
        o = make()
        f()
      end)
      o = nil
    end
    during(mp.Queue, function() o:put(instance()) end, "put")
    during(mp.Queue, function() o:put_many { 1, instance(), 3 } end, "put_many")
    during(mp.Queue, function() o:put_many(list(2)) end, "put_many")
    during(mp.Pipe, function() o:send(instance()) end, "send")
    during(function() return mp.Array("i", 3) end, function() o:set(1, list(2)) end, "set")
    during(function() return mp.List { 3 } end, function() o:extend(list(2)) end, "extend")
    during(mp.Queue, function()
      mp.wait(setmetatable({}, { __len = function() return 2 end, __index = function(_, i) if i == 1 then return o end close(o) return mp.Event() end }))
    end, "wait")
    local q = mp.Queue()
    q:put(instance())
    q:put(2)
    during(function() return q end, function() q:get_many(5) end, "get_many")
    local b
    b = mp.Barrier(1, { action = function() close(b) end })
    assert.equal(1, b:wait())
  end)

  it("of a lock inside its scope does not hide why the scope ended", function()
    for _, l in ipairs { mp.Lock(), mp.RLock(), mp.Condition() } do
      refuses({ "the reason" }, function()
        l:with(function()
          l:release()
          error "the reason"
        end)
      end)
      refuses({ "the reason" }, function()
        local _ <close> = l:guard()
        l:release()
        error "the reason"
      end)
      refuses({ "release: the lock is not held" }, function() l:with(function() l:release() end) end)
      refuses({ "release: the handle has been closed" }, function()
        l:with(function() do local _ <close> = l end end)
      end)
    end
  end)

  it("of mp.wait names what was in the list", function()
    refuses({ "wait", "[1]", "mp.Lock" }, function() mp.wait { mp.Lock() } end)
    refuses({ "wait", "[2]", "string" }, function() mp.wait { mp.Event(), "x" } end)
  end)
end)
