-- A TCP server that has one process for each connection; it greets, receives a line, and closes.
-- The port is chosen by the system (0), and may be used again at once (reuseaddr).
local mp = require "mp"
local socket = require "socket"
io.stdout:setvbuf "line"

local function serve(connection)
  connection:send "hello, who is there?\n"
  print("server: received " .. connection:receive "*l")
  connection:close()
end

local function client(port)
  local connection = assert(socket.connect("127.0.0.1", port))
  print("client: received " .. connection:receive "*l")
  connection:send "a client\n"
  connection:close()
end

local server = assert(socket.tcp())
server:setoption("reuseaddr", true)
assert(server:bind("127.0.0.1", 0) and server:listen(5))
local _, port = server:getsockname()

local visitor = mp.Process { target = client, args = { port } }
visitor:start()
local connection = assert(server:accept())
local servant = mp.Process { target = serve, args = { connection } }   -- a fork: open sockets come along
servant:start()
connection:close()                      -- the parent's copy; the child has its own
servant:join()
visitor:join()
print("server: closed, exit codes " .. servant.exitcode .. " and " .. visitor.exitcode)
