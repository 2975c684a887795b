-- A TCP server that answers every line in upper case, with a process for each connection.
-- Three clients talk to it at the same time, and none waits for another.
local mp = require "mp"
local socket = require "socket"
io.stdout:setvbuf "line"

local function serve(connection)
  for line in function() return connection:receive "*l" end do connection:send(line:upper() .. "\n") end
  connection:close()                    -- the client has closed its side
end

local function client(port, name, words)
  local connection = assert(socket.connect("127.0.0.1", port))
  for _, word in ipairs(words) do
    connection:send(word .. "\n")
    print(("%s: %s -> %s"):format(name, word, connection:receive "*l"))
    mp.sleep(0.05)
  end
  connection:close()
end

local server = assert(socket.bind("127.0.0.1", 0))
local _, port = server:getsockname()
local words = { anna = { "apple", "pear" }, bert = { "bread", "butter" }, carl = { "cheese", "chive" } }
local all = {}
for name, list in pairs(words) do
  all[#all + 1] = mp.Process { target = client, args = { port, name, list } }
  all[#all]:start()
end
for _ = 1, 3 do
  local connection = assert(server:accept())
  all[#all + 1] = mp.Process { target = serve, args = { connection } }
  all[#all]:start()
  connection:close()
end
for _, p in ipairs(all) do p:join() end
print "server: all have left"
