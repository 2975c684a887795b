-- Pipes: contract in docs/reference/pipe.md.
local mp = require "mp"
local run = require "spec.support.run"
local child, ends_well, misuse = run.child, run.ends_well, run.misuse
local process_it = run.processes(it)

describe("a pipe", function()
  it("carries values both ways, in order", function()
    local a, b = mp.Pipe()
    assert.is_true(a:send { 1, "x" })
    a:send(nil)
    b:send("back")
    assert.same({ 1, "x" }, b:recv())
    assert.equal(1, select("#", b:recv()))
    assert.equal("back", a:recv())
    assert.same({ nil, "timeout", n = 2 }, table.pack(a:recv(0.01)))
    assert.same({ nil, "timeout", n = 2 }, table.pack(a:recv(0)))
  end)

  it("knows its directions", function()
    local r, w = mp.Pipe(false)
    assert.is_true(r.readable and w.writable)
    assert.is_false(r.writable or w.readable)
    misuse({ "send", "only receives" }, function() r:send(1) end)
    misuse({ "recv", "only sends" }, function() w:recv() end)
    misuse({ "poll", "only sends" }, function() w:poll() end)
    misuse({ "Pipe" }, mp.Pipe, "both")
    w:send(5)
    assert.equal(5, r:recv())
  end)

  it("is at its end when nothing is left and nobody holds the other side", function()
    local a, b = mp.Pipe()
    a:send("last")
    assert.is_false(a.closed)
    a:close()
    assert.is_true(a.closed)
    a:close()
    assert.is_true(b:poll())
    assert.equal("last", b:recv())
    assert.is_true(b:poll())
    assert.same({ nil, "eof", n = 2 }, table.pack(b:recv()))
    assert.same({ nil, "eof", n = 2 }, table.pack(b:recv(0)))
    assert.same({ nil, "closed", n = 2 }, table.pack(b:send(1)))
    misuse({ "send", "closed" }, function() a:send(1) end)
    misuse({ "recv", "closed" }, function() a:recv() end)
  end)

  it("says closed to every send once nobody receives any more, not only to the first", function()
    local a, b = mp.Pipe()
    assert.is_true(a:send(1))
    b:close()
    for _ = 1, 20 do
      assert.same({ nil, "closed" }, { a:send(2) })
      assert.same({ nil, "closed" }, { a:send_bytes("x") })
    end
  end)

  process_it("learns of the end of a process that held the other side, killed or not", function()
    for _, how in ipairs { "returns", "killed" } do
      local a, b = mp.Pipe()
      local p = child(function()
        a:close()
        b:send("here")
        if how == "killed" then mp.sleep(60) end
      end)
      b:close()
      assert.equal("here", a:recv(20 * run.slow))
      if how == "killed" then p:kill() end
      assert.same({ nil, "eof", n = 2 }, table.pack(a:recv(20 * run.slow)))
      p:join()
      assert.same({ nil, "closed", n = 2 }, table.pack(a:send(1)))
    end
  end)

  it("stays open while a forgotten copy is", function()
    local r, w = mp.Pipe(false)
    local p = run.forked(function() mp.sleep(60) end) -- has both ends, and forgets to close them
    w:close()
    assert.same({ nil, "timeout", n = 2 }, table.pack(r:recv(0.1)))
    p:kill()
    p:join()
    assert.same({ nil, "eof", n = 2 }, table.pack(r:recv(20 * run.slow)))
  end)

  it("an end inside a message counts as open", function()
    local a, b = mp.Pipe()
    local q = mp.Queue()
    q:put(b)
    b:close()
    a:send("for whoever takes it")
    assert.same({ nil, "timeout", n = 2 }, table.pack(a:recv(0.05)))
    local again = q:get()
    assert.equal("for whoever takes it", again:recv())
    again:close()
    assert.same({ nil, "eof", n = 2 }, table.pack(a:recv(5)))
  end)

  it("polls without taking", function()
    local a, b = mp.Pipe()
    assert.is_false(b:poll())
    assert.is_false(b:poll(0.01))
    a:send(1)
    assert.is_true(b:poll())
    assert.is_true(b:poll(5))
    assert.equal(1, b:recv())
    local p = child(function() mp.sleep(0.05) a:send(2) end)
    assert.is_true(b:poll(20 * run.slow))
    assert.equal(2, b:recv())
    ends_well(p)
  end)

  it("carries bytes, and refuses to take for bytes what is none", function()
    local a, b = mp.Pipe()
    a:send_bytes("hello\0world", 7)
    assert.equal("world", b:recv_bytes())
    a:send_bytes("hello", 2, 3)
    assert.equal("el", b:recv())
    a:send_bytes("")
    assert.equal("", b:recv_bytes())
    a:send { 1 }
    misuse({ "recv_bytes", "no string" }, function() b:recv_bytes() end)
    assert.same({ 1 }, b:recv())
    a:send_bytes(("x"):rep(1000))
    misuse({ "recv_bytes", "at most 999 bytes" }, function() b:recv_bytes(999) end)
    assert.equal(1000, #b:recv_bytes(1000))
    assert.same({ nil, "timeout", n = 2 }, table.pack(b:recv_bytes(nil, 0)))
    misuse({ "send_bytes" }, function() a:send_bytes(nil) end)
    misuse({ "send_bytes" }, function() a:send_bytes("abc", 9) end)
  end)

  it("takes at least 64 KiB before a sender waits", function()
    local a, b = mp.Pipe()
    local bytes = 0
    while a:send_bytes(("x"):rep(1000), nil, nil) and bytes < 64 * 1024 do bytes = bytes + 1000 end
    assert(bytes >= 64 * 1024)
    assert.equal(1000, #b:recv())
  end)

  it("carries messages larger than itself, whole", function()
    local a, b = mp.Pipe()
    local big = ("0123456789abcdef"):rep(1 << 18)
    local p = child(function()
      a:close()
      local s = b:recv()
      b:send(#s)
      b:send(s)
    end)
    b:close()
    a:send(big)
    assert.equal(#big, a:recv(20 * run.slow))
    assert.is_true(a:recv(20 * run.slow) == big)
    ends_well(p)
  end)

  it("serves several receivers; all end at eof", function()
    local r, w = mp.Pipe(false)
    local sum = mp.Queue()
    local ps = {}
    for i = 1, 4 do
      ps[i] = child(function()
        w:close()
        local n = 0
        while true do
          local v, why = r:recv()
          if why == "eof" then break end
          n = n + v
        end
        sum:put(n)
      end)
    end
    r:close()
    for i = 1, 100 do w:send(i) end
    w:close()
    local total = 0
    for i = 1, 4 do
      total = total + sum:get(20 * run.slow)
      ends_well(ps[i])
    end
    assert.equal(5050, total)
  end)

  it("has a descriptor that select understands", function()
    local ok, socket = pcall(require, "socket")
    if not ok then return pending("no LuaSocket") end
    local a, b = mp.Pipe()
    local fd = b:fileno()
    local pollable = { getfd = function() return fd end }
    assert.equal(0, #socket.select({ pollable }, nil, 0))
    a:send(1)
    assert.equal(1, #socket.select({ pollable }, nil, 5))
    b:recv()
    assert.equal(0, #socket.select({ pollable }, nil, 0))
    a:close()
    assert.equal(1, #socket.select({ pollable }, nil, 5))
  end)

  process_it("survives a sender killed at any moment", function()
    local r, w = mp.Pipe(false)
    for _ = 1, 20 do
      local p = child(function() while true do w:send(("z"):rep(math.random(1, 5000))) end end)
      for _ = 1, 20 do assert(r:recv(20 * run.slow):find("^z+$")) end
      p:kill()
      p:join()
      while r:poll() do assert(r:recv():find("^z+$")) end
    end
  end)
end)

describe("mp.Fd", function()
  it("carries a descriptor to another process", function()
    local name = run.tmpdir() .. "/fd"
    local f = assert(io.open(name, "w"))
    f:write("before ")
    f:flush()
    local q = mp.Queue()
    local n = 0
    for line in io.popen("ls -l /proc/" .. mp.getpid() .. "/fd"):lines() do -- the number that belongs to the file
      local fd, path = line:match("(%d+) %-> (.*)$")
      if path == name then n = tonumber(fd) end
    end
    q:put(mp.Fd(n))
    f:close()
    ends_well(child(function()
      local fd = q:get()
      assert(tostring(fd):match("^mp.Fd %d+$"))
      local number = fd:take()
      assert(math.type(number) == "integer")
      assert(not pcall(fd.take, fd))
      local out = assert(io.open("/proc/self/fd/" .. number, "a"))
      out:write("after")
      out:close()
    end))
    assert.equal("before after", run.read(name))
  end)

  it("refuses what is no descriptor", function()
    misuse({ "Fd" }, mp.Fd, "x")
    misuse({ "no open file descriptor" }, mp.Fd, 100000)
  end)
end)
