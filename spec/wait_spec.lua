-- mp.wait: contract in docs/reference/wait.md.
local mp = require "mp"
local run = require "spec.support.run"
local child, misuse = run.child, run.misuse

describe("mp.wait", function()
  it("gives an empty list for an empty list, and at the timeout", function()
    assert.same({}, mp.wait {})
    assert.same({}, mp.wait({ mp.Queue() }, 0.01))
    assert.same({}, mp.wait({ mp.Queue() }, 0))
  end)

  it("lists what is ready, each once, of every kind", function()
    local q, e = mp.Queue(), mp.Event()
    local a, b = mp.Pipe()
    local p = child(function() end)
    p:join()
    assert.same({ p }, mp.wait { q, e, b, p })
    q:put(1)
    e:set()
    a:send(1)
    local got = mp.wait { q, e, b, p, q, b }
    assert.equal(4, #got)
    assert.is_true(got[1] == q and got[2] == e and got[3] == b and got[4] == p)
  end)

  it("wakes for whichever comes first", function()
    local q, e = mp.Queue(), mp.Event()
    local a, b = mp.Pipe()
    for _, what in ipairs { "queue", "event", "pipe", "process", "close" } do
      local p = child(function()
        mp.sleep(0.03)
        if what == "queue" then q:put(1) elseif what == "event" then e:set() elseif what == "pipe" then a:send(1)
        elseif what == "close" then q:close() end
        if what ~= "process" then mp.sleep(0.3) end
      end)
      local got = mp.wait({ q, e, b, p }, 20 * run.slow)
      local want = ({ queue = q, event = e, pipe = b, process = p, close = q })[what]
      assert.is_true(got[1] == want, what)
      if what == "queue" then q:get() elseif what == "event" then e:clear() elseif what == "pipe" then b:recv() end
      p:join()
    end
  end)

  it("takes file descriptors, also as floats", function()
    local a, b = mp.Pipe()
    local fd = b:fileno()
    assert.same({}, mp.wait({ fd }, 0))
    a:send(1)
    assert.same({ fd }, mp.wait({ fd + 0.0, fd }))
    assert.equal("integer", math.type(mp.wait({ fd + 0.0 })[1]))
  end)

  it("is not fooled by what somebody else took", function()
    local q = mp.Queue()
    local thief = child(function() for _ = 1, 200 do q:get() end end)
    local putter = child(function() for i = 1, 200 do q:put(i) end end)
    while thief:is_alive() do mp.wait({ q, thief }, 5) end
    putter:join()
    assert.same({}, mp.wait({ q }, 0.05))
  end)

  it("refuses what cannot be waited for", function()
    misuse({ "wait", "#1" }, mp.wait, 5)
    misuse({ "wait", "[1]", "string" }, mp.wait, { "x" })
    misuse({ "wait", "[2]", "descriptor" }, mp.wait, { mp.Queue(), 100000 })
    local a = mp.Pipe()
    a:close()
    misuse({ "wait", "closed" }, mp.wait, { a })
    local _, w = mp.Pipe(false)
    misuse({ "wait", "only sends" }, mp.wait, { w })
    misuse({ "wait", "process late was not started" }, mp.wait, { mp.Process { target = print, name = "late" } })
    misuse({ "wait", "thread late was not started" }, mp.wait, { mp.Thread { target = print, name = "late" } })
    misuse({ "wait", "process " .. mp.current_process().name, "cannot be waited for" }, mp.wait, { mp.current_process() })
    local p = run.forked(function() end)
    p:join()
    p:close()
    misuse({ "wait", "process " , "is closed" }, mp.wait, { p })
  end)

  -- A queue whose descriptor is to be readable costs its users system calls at each message.
  it("leaves what it waited for as it was, once nobody waits", function()
    local function ringing()
      local n = 0
      for fd = 0, 255 do
        local f = io.open(("/proc/self/fdinfo/%d"):format(fd))
        if f then
          n = n + tonumber(f:read "a":match "eventfd%-count:%s*(%x+)" or "0", 16)
          f:close()
        end
      end
      return n
    end
    local q, before = mp.Queue(), ringing()
    assert.same({}, mp.wait({ q }, 0.01))
    q:put(1)
    assert.equal(before, ringing())
    assert.same({ q }, mp.wait({ q }, 10))
    assert.equal(1, q:get())
    q:close()
  end)

  it("sees that who had items of a redelivering queue in hand has died", function()
    local q = mp.Queue { redeliver = true }
    local has = mp.Event()
    q:put "work"
    local holder = run.forked(function() q:get() has:set() mp.sleep(60) end)
    assert.is_true(has:wait(20))
    local killer = run.forked(function() mp.sleep(0.3) os.execute("kill -9 " .. holder.pid) end)
    assert.same({ q }, mp.wait({ q }, 30))
    assert.equal("work", q:get(0))
    holder:join()
    killer:join()
  end)
end)
