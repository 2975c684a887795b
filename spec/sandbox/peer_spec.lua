-- A malicious peer (attacks 65 to 73): native code in a confined worker (scribble.c) overwrites the memory of an object that it was given, while
-- its owner uses it. The owner gets errors, by its deadlines; it is not ended, does not grow, and its other objects stay right. Each attack comes
-- with the control: the change is really there. spec/stress/hostile.lua does the same at random, for as long as it is told.
local mp = require "mp"
local run = require "spec.support.run"

local GRACE <const> = 15 * run.slow -- beyond a deadline; far less on a quiet machine
local scribble

setup(function()
  local dir = run.tmpdir()
  os.execute("chmod 755 " .. dir)
  local inc = io.popen("pkg-config --cflags lua5.4 2>/dev/null"):read "a":gsub("%s+$", "")
  if inc == "" then inc = "-I/usr/include/lua5.4" end
  local r = run.command { "sh", "-c", ("${CC:-cc} -shared -fPIC -O1 -pthread %s -o %s/scribble.so spec/sandbox/scribble.c"):format(inc, dir) }
  assert(r.status == 0, r.err)
  package.cpath = dir .. "/?.so;" .. package.cpath
  scribble = require "scribble"
end)

-- An object and the descriptor of its memory in this process; a mark tells others which it is.
local marks = 0x6d61726b00
local function marked(new)
  local before = scribble.descriptors()
  local x = new()
  for _, s in ipairs(scribble.segments()) do
    if not before[s.fd] then
      marks = marks + 1
      scribble.mark(s.fd, marks)
      return x, s.fd, marks
    end
  end
end

-- f(scribble, descriptor, ...) in a confined process that has x.
local function peer(x, mark, f, ...)
  local p = mp.Process { daemon = true, sandbox = { modules = { "scribble" } }, args = { x, mark, f, table.pack(...) },
    target = function(_, m, g, args)
      local s = require "scribble"
      for _, seg in ipairs(s.segments()) do if seg.cookie == m then return g(s, seg.fd, table.unpack(args, 1, args.n)) end end
      error "the object is not there"
    end }
  p:start()
  return p
end

local function done(p)
  assert.is_true(p:join(60))
  return p:result()
end

-- Calls f, which must be back `timeout` seconds from now, or little later. Gives what it gives, or nil and the error's text.
local function by(timeout, f, ...)
  local start = mp.now()
  local r = table.pack(pcall(f, ...))
  assert(mp.now() - start < timeout + GRACE, "it came back late")
  if not r[1] then
    assert(not tostring(r[2]):find "attempt to", r[2])
    return nil, tostring(r[2])
  end
  return table.unpack(r, 2, r.n)
end

local function resident()
  for line in io.lines "/proc/self/status" do
    local n = line:match "^RssAnon:%s+(%d+)"
    if n then return tonumber(n) end
  end
end

-- A worker that overwrites what it is told: a function poke(offset, bytes) of ours that comes back once it is done, and one that ends it.
local function poker(x, mark)
  local orders, answers = mp.Queue(), mp.Queue()
  local p = mp.Process { daemon = true, sandbox = { modules = { "scribble" } }, args = { x, mark, orders, answers },
    target = function(_, m, get, put)
      local s = require "scribble"
      local fd
      for _, seg in ipairs(s.segments()) do if seg.cookie == m then fd = seg.fd end end
      for o in get:items() do
        s.poke(fd, o[1], o[2])
        put:put(s.peek(fd, o[1], #o[2]) == o[2])
      end
    end }
  p:start()
  return function(offset, bytes)
    orders:put { offset, bytes }
    return answers:get(60)
  end, function()
    orders:close()
    p:join(60)
  end
end

local VALUES <const> = { 1, 7, 1 << 31, (1 << 32) - 1, 1 << 63, -1 }

it("65: each word of a queue's header set to each odd value gives errors, and a queue beside it goes on", function()
  local q, fd, mark = marked(function() return mp.Queue(10) end)
  local other = mp.Queue()
  local poke, stop = poker(q, mark)
  q:put { "well" }
  local well = scribble.peek(fd, 64, 384)
  local errors, changed = {}, 0
  for at = 64, 440, 8 do
    for i, v in ipairs(VALUES) do
      local bytes = (at + i) % 2 == 0 and ("<i8"):pack(v) or ("<i4i4"):pack(v << 32 >> 32 > 0x7fffffff and -1 or v << 32 >> 32, 0)
      if poke(at, bytes) then changed = changed + 1 end -- a latch may have been taken and given back in between
      local _, e = by(0, q.put_nowait, q, 1)
      if e then errors[e] = true end
      _, e = by(0, q.get_nowait, q)
      if e then errors[e] = true end
      by(0, q.qsize, q)
      scribble.poke(fd, 64, well)
    end
    other:put(at)
    assert.equal(at, other:get(5))
  end
  stop()
  assert(changed > 200, changed)
  local kinds = 0
  for _ in pairs(errors) do kinds = kinds + 1 end
  assert(kinds >= 3, "the attack shows nothing")
  assert.is_true(q:get(5) ~= nil) -- mended, it works
end)

it("66: words that flip while they are read give errors, by the deadline", function()
  local q, fd, mark = marked(function() return mp.Queue(10) end)
  q:put { 1, ("x"):rep(100) }
  local well = scribble.peek(fd, 64, 384)
  local begun = mp.Event()
  local p = mp.Process { daemon = true, sandbox = { modules = { "scribble" } }, args = { q, mark, begun }, target = function(_, m, e)
    local s = require "scribble"
    for _, seg in ipairs(s.segments()) do
      if seg.cookie == m then
        e:set()
        for _ = 1, 3 do
          for _, at in ipairs { 64, 72, 80, 96, 104, 112, 128, 136, 144, 192, 200, 208, 224, 256, 320, 4096 } do
            s.flip(seg.fd, at, string.unpack("<i8", s.peek(seg.fd, at, 8)), -1, 8, 30000)
          end
        end
      end
    end
  end }
  p:start()
  assert.is_true(begun:wait(60))
  local calls = 0
  while p:is_alive() do
    by(0.01, q.put, q, { calls }, 0.01)
    by(0.01, q.get, q, 0.01)
    calls = calls + 1
    if calls % 10 == 0 then scribble.poke(fd, 64, well) end
  end
  assert.is_true(p:join(5))
  assert.equal(0, p.exitcode)
  assert(calls > 1)
end)

-- Where a queue's first message stands (shm/ring.h): in the ring, and if it is small beside the tail as well, where it is taken from first.
local RECORD <const>, EXPRESS_HEAD <const>, EXPRESS <const> = 4096, 136, 144
local PAYLOAD <const> = RECORD + 8

-- The message that was written over: an error in these words, in time, and no memory taken for what it claims.
local function refuses(q, words)
  local before = resident()
  local v, e = by(1, q.get, q, 1)
  assert.is_nil(v)
  assert(e:find(words), e)
  assert(resident() - before < 50000)
end

it("67: lengths that cannot be are bad messages, and nothing is allocated for them", function()
  for i, size in ipairs { 0x7fffffff, 0xffffffff, 1 << 30, 100 << 20 } do
    local q, _, mark = marked(function() return mp.Queue() end)
    q:put "hello"
    local poke, stop = poker(q, mark)
    assert.is_true(poke(EXPRESS_HEAD, ("\0"):rep(8)), i)
    assert.is_true(poke(RECORD, ("<I4"):pack(size)), i)
    refuses(q, "length is impossible")
    stop()
  end
  for _, bytes in ipairs { "\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", "\xc6\x7f\xff\xff\xff" } do
    for _, at in ipairs { PAYLOAD, EXPRESS } do
      local q, _, mark = marked(function() return mp.Queue() end)
      q:put "abcdefg" -- eight bytes
      local poke, stop = poker(q, mark)
      if at == PAYLOAD then assert.is_true(poke(EXPRESS_HEAD, ("\0"):rep(8))) end
      assert.is_true(poke(at, bytes .. "\0\0\0"))
      refuses(q, "cannot be read")
      stop()
    end
  end
end)

it("68: nesting without end, unknown tags, bytes that follow, NaN keys and code are refused", function()
  local bad = {
    (("\x91"):rep(1000000) .. "\xc0"), "\xc1", "\xc0\xc0", "\x81\xcb\x7f\xf8\0\0\0\0\0\0\xc0", "\xd4\x7f\0", "\xc7\x01\x7f\0", "\x81\xc0\xc0",
  }
  for i, bytes in ipairs(bad) do
    local q, _, mark = marked(function() return mp.Queue() end)
    local filler = #bytes < 32 and #bytes - 1 or #bytes < 256 and #bytes - 2 or #bytes < 65536 and #bytes - 3 or #bytes - 5
    q:put(("x"):rep(filler)) -- a string that is encoded in as many bytes
    local poke, stop = poker(q, mark)
    if #bytes <= 48 then assert.is_true(poke(EXPRESS, bytes), i)
    else assert.is_true(poke(PAYLOAD, bytes), i) end
    local v, e = by(1, q.get, q, 1)
    assert.is_nil(v)
    assert(e and e:find "cannot be read", ("%d: %s"):format(i, e))
    stop()
    q:put "well"
    assert.equal("well", q:get(5))
  end
  local q = mp.Queue()
  local p = mp.Process { sandbox = "pure", args = { q }, target = function(a) a:put(function() return 1 end) end }
  p:start()
  p:join(30)
  local v, e = by(1, q.get, q, 1)
  assert.is_nil(v)
  assert(e:find "not trusted with code", e)
end)

it("69: the file can be made neither shorter nor longer nor read-only; holes in it are zeros", function()
  local q, fd, mark = marked(function() return mp.Queue() end)
  q:put "hello"
  local ok, a, b, c, d = pcall(done, peer(q, mark, function(s, f) return s.spoil(f) end)) -- confined: each is refused by the filter
  assert.is_true(ok, a)
  for _, r in ipairs { a, b, c, d } do assert.equal(1, r) end
  assert.equal("hello", q:get(5))
  q:put "again"
  local p = mp.Process { start_method = "fork", target = function() return scribble.spoil(fd) end } -- free: the seals hold, the hole is made
  p:start()
  a, b, c, d = done(p)
  assert.same({ 1, 1, 1, true }, { a, b, c, d })
  for _ = 1, 20 do
    by(0.01, q.put, q, "x", 0.01)
    by(0.01, q.get, q, 0.01)
    by(0, q.qsize, q)
  end
end)

it("70: a lock that is kept, left by a death, or forged ends a wait in a timeout, 'abandoned' or an error", function()
  for _, new in ipairs { mp.Lock, mp.RLock } do
    local l, fd, mark = marked(new)
    local other, held = new(), mp.Event()
    local p = mp.Process { daemon = true, sandbox = "pure", args = { l, held }, target = function(x, e)
      x:acquire()
      e:set()
      mp.sleep(1000)
    end }
    p:start()
    assert.is_true(held:wait(60))
    local ok, why = by(0.05, l.acquire, l, 0.05)
    assert.is_nil(ok)
    assert.equal("timeout", why)
    assert.is_true(other:acquire(0))
    other:release()
    p:kill()
    p:join()
    ok, why = l:acquire(60)
    assert.is_true(ok)
    assert.equal("abandoned", why)
    l:release()
    local poke, stop = poker(l, mark)
    for _, forged in ipairs { { 1, "timeout" }, { mp.getpid(), "names this thread" }, { 0x3fffffff, "timeout" }, { 0x80000001, "timeout" } } do
      assert.is_true(poke(4064, ("<I4"):pack(forged[1])))
      local got, said = by(0.05, l.acquire, l, 0.05)
      assert.is_nil(got)
      assert(said:find(forged[2]), said)
      scribble.poke(fd, 4064, ("<I4"):pack(0))
    end
    assert.is_true(poke(4064, ("<I4"):pack(0x40000000))) -- a death that did not happen
    ok, why = l:acquire(0.05)
    assert.is_true(ok)
    assert.equal("abandoned", why)
    assert.is_true(poke(4064, ("<I4"):pack(0))) -- taken away while we hold it
    assert.is_false((pcall(l.release, l)))
    assert.is_true(l:acquire(1))
    l:release()
    stop()
  end
end)

it("71: a storm of wake-ups, and waiters moved elsewhere, change neither deadlines nor what arrives", function()
  local q, _, mark = marked(function() return mp.Queue() end)
  local begun = mp.Event()
  local p = mp.Process { daemon = true, sandbox = { modules = { "scribble" } }, args = { q, mark, begun }, target = function(_, m, e)
    local s = require "scribble"
    for _, seg in ipairs(s.segments()) do
      if seg.cookie == m then
        s.target { fd = seg.fd }
        e:set()
        s.burst(1, 2000000, 1 << s.kinds.futex, true)
      end
    end
  end }
  p:start()
  assert.is_true(begun:wait(60))
  for i = 1, 5 do
    local start = mp.now()
    local v, why = by(0.2, q.get, q, 0.2)
    assert.is_nil(v)
    assert.equal("timeout", why)
    assert(mp.now() - start >= 0.2)
    q:put(i)
    assert.equal(i, q:get(5))
  end
  assert.is_true(p:join(60))
  assert.equal(0, p.exitcode)
end)

it("72: a peer that fills its queue and one that reads nothing cost bounded memory, and others are served", function()
  local flood, deaf, fair, back = mp.Queue { maxsize = 1000, maxbytes = 1 << 20 }, mp.Queue { maxbytes = 1 << 20 }, mp.Queue(), mp.Queue()
  local p = mp.Process { daemon = true, sandbox = "pure", args = { flood, deaf }, target = function(f) while true do f:put(1) end end }
  local r = mp.Process { daemon = true, sandbox = "pure", args = { fair, back }, target = function(a, b) for v in a:items() do b:put(v + 1) end end }
  p:start()
  r:start()
  assert(run.wait_until(function() return flood:full() end, 60))
  local before, put = resident(), 0
  while by(0, deaf.put_nowait, deaf, ("x"):rep(1000)) do put = put + 1 end
  assert(put > 500 and put < 2000, put)
  for i = 1, 200 do
    fair:put(i)
    assert.equal(i + 1, back:get(60))
    assert.equal(1, flood:get(60))
    assert(flood:qsize() <= 1000)
  end
  assert(resident() - before < 20000)
  p:kill()
  p:join()
  fair:close()
  r:join(30)
end)

it("73: messages that are replayed come again as messages, and a task answered twice is answered once", function()
  local q, fd, mark = marked(function() return mp.Queue { redeliver = true } end)
  for i = 1, 3 do q:put(i) end
  local begin = scribble.peek(fd, 64, 384)
  assert.equal(1, q:get(5))
  q:task_done()
  local poke, stop = poker(q, mark)
  assert.is_true(poke(64, begin)) -- all positions as before
  for _ = 1, 5 do
    by(0.05, q.get, q, 0.05)
    by(1, q.task_done, q)
  end
  stop()
  local pool <close> = mp.Pool { processes = 2, sandbox = { modules = { "scribble" } } }
  -- Winds every channel that the worker has back to where it stood a moment ago, so that what is in it comes again.
  local function replay(x)
    local s = require "scribble"
    local was = {}
    for _, seg in ipairs(s.segments()) do if seg.type == 7 then was[seg.fd] = s.peek(seg.fd, 128, 64) end end
    mp.sleep(0.002)
    for f, bytes in pairs(was) do s.poke(f, 128, bytes) end
    return x * x
  end
  assert.equal(49, pool:apply(function(x) return x * x end, { 7 })) -- the control
  for i = 1, 20 do
    local ok, v = pcall(function() return pool:apply_async(replay, { i }):get(2) end)
    assert(not ok or v == nil or v == i * i, v)
  end
  pool:terminate()
end)
