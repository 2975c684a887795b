-- Runs every script of scripts/tour.txt and checks what its output means: exact lines where the program decides, counts,
-- orders and invariants where luck does.
local mprun = os.getenv "MPRUN" or "build/mprun"
local limit = 20 * (tonumber(os.getenv "SPEC_SLOW") or 1)

local function read(name)
  local f <close> = assert(io.open(name))
  return f:read "a"
end

-- A script's output as lines, with methods to look at them. Status 0 and a silent stderr are part of every check.
local Output = {}
Output.__index = Output

local function run(name)
  local err = os.tmpname()
  local p = assert(io.popen(("MP_SEED=%s timeout -k 1 %d '%s' scripts/%s.lua 2>%s </dev/null"):format(
    os.getenv "MP_SEED" or 7, limit, mprun, name, err)))
  local text = p:read "a"
  local _, _, status = p:close()
  local complaint = read(err)
  os.remove(err)
  assert.equal("", complaint)
  assert.equal(0, status, text)
  local out = setmetatable({ text = text }, Output)
  for line in text:gmatch "([^\n]*)\n" do out[#out + 1] = line end
  return out
end

-- How many lines match.
function Output:count(pattern)
  local n = 0
  for _, line in ipairs(self) do if line:find(pattern) then n = n + 1 end end
  return n
end

-- The position of the first line that matches.
function Output:at(pattern)
  for i, line in ipairs(self) do if line:find(pattern) then return i end end
  error(("no line matches %q in:\n%s"):format(pattern, self.text), 2)
end

function Output:before(...)
  local patterns = { ... }
  for i = 2, #patterns do
    assert.is_true(self:at(patterns[i - 1]) < self:at(patterns[i]), patterns[i - 1] .. " comes first in:\n" .. self.text)
  end
end

-- What the captures of all matching lines are, as a sorted list.
function Output:all(pattern)
  local list = {}
  for _, line in ipairs(self) do list[#list + 1] = line:match(pattern) end
  table.sort(list)
  return list
end

local function distinct(list)
  local seen, n = {}, 0
  for _, x in ipairs(list) do
    if not seen[x] then n, seen[x] = n + 1, true end
  end
  return n
end

local checks = {}

function checks.process_function(out)
  assert.equal(4, #out)
  out:before("^parent: started greeter$", "^greeter: slept for 0%.3 s$", "^parent: greeter is done$")
  out:before("^greeter: hello world$", "^greeter: slept")
end

function checks.process_class(out)
  assert.equal(4, #out)
  out:before("^child: hello world$", "^child: goodbye world$", "^parent: done$")
  out:before("^parent: world is being greeted$", "^child: goodbye")
end

function checks.process_join(out)
  assert.same({
    "before: alive false, pid none, exit code nil",
    "during: alive true, pid known, exit code nil",
    "join(0.1) gives\tnil\ttimeout",
    "join() gives\ttrue",
    "join() again\ttrue",
    "after:  alive false, pid known, exit code 7",
    "terminated: exit code -15",
  }, { table.unpack(out) })
end

function checks.process_daemon(out)
  assert.is_true(out:count "^daemon: tick$" >= 1)
  assert.equal(1, out:count "^main: .*daemon")
  assert.equal("main: the end", out[#out])
end

function checks.isolation(out)
  assert.equal(4, #out)
  assert.matches("^parent before: number 10, list {parent}, table: ", out[1])
  assert.matches("^child: number 11, list {parent, child}, table: ", out[2])
  assert.matches("^child: number 12, list {parent, child, child}, table: ", out[3])
  assert.matches("^parent after: number 10, list {parent}, table: ", out[4])
  assert.equal(out[1]:match "table: .*", out[4]:match "table: .*")
end

function checks.threads_and_processes(out)
  assert.equal(11, #out)
  local main = out[1]:match "^the main program is process (%d+)$"
  assert.same({ main, main, main, main, main }, out:all "^thread %d in process (%d+)$")
  local pids = out:all "^process %d in process (%d+)$"
  assert.equal(5, #pids)
  assert.equal(5, distinct(pids))
  assert.equal(0, out:count("^process %d in process " .. main .. "$"))
  for i = 2, 6 do assert.matches("^thread ", out[i]) end
end

function checks.tcp_hello(out)
  assert.equal(3, #out)
  assert.equal(1, out:count "^client: received hello, who is there%?$")
  assert.equal(1, out:count "^server: received a client$")
  assert.equal("server: closed, exit codes 0 and 0", out[3])
end

function checks.tcp_upper(out)
  assert.equal(7, #out)
  out:before("^anna: apple %-> APPLE$", "^anna: pear %-> PEAR$")
  out:before("^bert: bread %-> BREAD$", "^bert: butter %-> BUTTER$")
  out:before("^carl: cheese %-> CHEESE$", "^carl: chive %-> CHIVE$")
  assert.equal("server: all have left", out[7])
end

function checks.ticket_race(out)
  local sold, left = out[#out]:match "^5 tickets, (%d+) sold, the file says (%d+) are left$"
  assert.is_true(tonumber(sold) > 5, out.text)
  assert.is_true(tonumber(left) < 5)
  assert.equal(tonumber(sold), out:count "^buyer %d+ got a ticket$")
  assert.equal(tonumber(sold), distinct(out:all "^buyer (%d+) got"))
end

function checks.ticket_lock(out)
  assert.equal("5 tickets, 5 sold, the file says 0 are left", out[#out])
  assert.equal(5, out:count "^buyer %d+ got a ticket$")
  assert.equal(5, distinct(out:all "^buyer (%d+) got"))
  assert.equal(10, distinct(out:all "^buyer (%d+) sees %d tickets"))
end

function checks.lock_output(out)
  local without, with = out:at "^without a lock:$", out:at "^with a lock:$"
  local whole = 0
  for i = without + 1, with - 1 do if out[i]:find "^this line is from process %d $" then whole = whole + 1 end end
  assert.is_true(whole < 5, "the lines did not mix")
  assert.equal(with + 5, #out)
  local who = {}
  for i = with + 1, #out do who[#who + 1] = out[i]:match "^this line is from process (%d) $" end
  assert.equal(5, distinct(who))
end

function checks.semaphore(out)
  assert.equal(21, #out)
  assert.equal(10, distinct(out:all "^visitor (%d+) comes in"))
  assert.equal(10, distinct(out:all "^visitor (%d+) leaves$"))
  local most = 0
  for _, n in ipairs(out:all ", (%d+) inside$") do
    assert.is_true(tonumber(n) >= 1 and tonumber(n) <= 3, out.text)
    most = math.max(most, tonumber(n))
  end
  assert.is_true(most > 1, "there was never more than one inside")
  assert.equal("at the end 0 are inside", out[#out])
end

function checks.event(out)
  assert.equal("light: red", out[out:at "^light"])
  assert.equal(2, out:count "^light: red$")
  assert.equal(2, out:count "^light: green$")
  assert.equal(6, distinct(out:all "^car (%d) drives$"))
  out:before("^light: green$", "^car %d drives$")
  for i = 1, 6 do
    if out:count("^car " .. i .. " waits$") > 0 then out:before("^car " .. i .. " waits$", "^car " .. i .. " drives$") end
  end
  assert.is_true(out:count "waits$" >= 1)
  assert.equal("the crossing is empty", out[#out])
end

function checks.queue_basics(out)
  assert.same({
    "full:\ttrue\tsize:\t3",
    "a fourth at once:\tnil\tfull",
    "a fourth within 0.2 s:\tnil\ttimeout",
    "got:\tapple",
    "got:\tpear",
    "got:\tplum",
    "empty:\ttrue\tsize:\t0",
    "one more at once:\tnil\tempty",
    "one more within 0.2 s:\tnil\ttimeout",
  }, { table.unpack(out) })
end

function checks.queue_blocks(out)
  for i = 1, 5 do assert.equal(("put %d: at once"):format(i), out[i]) end
  assert.equal("the queue is full", out[6])
  assert.equal(1, out:count "^took 1$")
  assert.equal(1, out:count "^put 6: had to wait$")
  assert.equal("size at the end: 5", out[9])
end

function checks.queue_in_out(out)
  assert.equal(21, #out)
  local put, got = out:all "^putter %d+ puts (%d+)$", out:all "^getter %d+ got (%d+)$"
  assert.equal(10, #put)
  assert.same(put, got)
  for i = 1, 10 do out:before(("^putter %d puts %d$"):format(i, i * i), (" got %d$"):format(i * i)) end
  assert.equal("left in the queue: 0", out[21])
end

function checks.queue_write_read(out)
  assert.equal(9, #out)
  out:before("got A$", "got B$", "got C$", "got D$", "^reader: stops, timeout$")
  for c in ("ABCD"):gmatch "." do out:before("^writer: puts " .. c .. "$", "^reader: got " .. c .. "$") end
end

local function food(out)
  for _, item in ipairs { "bun", "dumpling" } do
    assert.equal(4, out:count("^E%w+ made " .. item))
    assert.same({ "1", "2", "3", "4" }, out:all("^Fr%w+ ate " .. item .. " (%d)$"))
  end
  assert.same({ "Fred", "Frida" }, out:all "^(%w+) has had enough$")
end

function checks.producers_consumers(out)
  assert.equal(18, #out)
  food(out)
end

function checks.producers_consumers_close(out)
  assert.equal(19, #out)
  food(out)
  assert.equal(1, out:count "^put after close:\tnil\tclosed$")
end

function checks.producers_many(out)
  assert.equal(3, #out)
  local a, b = out[1]:match "^consumer 1 had (%d+) items$", out[2]:match "^consumer 2 had (%d+) items$"
  assert.equal(50, a + b)
  assert.equal("50 items in all, 50 different ones", out[3])
end

function checks.joinable_queue(out)
  assert.equal(7, #out)
  out:before("done with item 1$", "done with item 2$", "done with item 3$", "done with item 4$", "done with item 5$",
    "^parent: all are done$")
  out:before("^parent: all are put, but not done$", "done with item 5$")
  assert.equal("parent: all are done", out[7])
end

function checks.pipe_two_ways(out)
  assert.equal(4, #out)
  out:before("^Bert heard: hello, this is Anna$", "^Anna heard: hello back, this is Bert$", "^parent received: 1 2 three$",
    "^sending at the wrong end: .*send")
end

function checks.pipe_eof(out)
  assert.same({
    "consumer 1 ended with eof",
    "consumer 2 ended with eof",
    "consumer 3 ended with eof",
    "consumer 4 ended with eof",
    "100 messages were received",
    "one who forgets to close sees: timeout",
  }, { table.unpack(out) })
end

function checks.pipe_class(out)
  assert.equal("game over", out[#out])
  for i = 1, #out - 1 do
    assert.equal(("%s has the ball for stroke %d"):format(i % 2 == 1 and "pong" or "ping", i), out[i])
  end
  assert.equal(7, #out)
end

function checks.shared_value_array(out)
  assert.equal("number: 3.1415927", out[1])
  assert.equal("array: 7 -2 -3 -4 -5 -6 -7 -8 -9 -10", out[2])
  assert.matches("^too large: .*range", out[3])
end

function checks.shared_dict(out)
  assert.same({ "by update: 50 are left", "inside with: 0 are left", "a table is copied: true, 3 1 2" }, { table.unpack(out) })
end

function checks.manager_dict(out)
  assert.same({ "with a lock: 50 are left", "by update: 0 are left" }, { table.unpack(out) })
end

function checks.manager_types(out)
  assert.same({
    "value: 42",
    "array: 0.5 1.0 1.5",
    "list: c b a d",
    "the list in the dict: c b a d",
  }, { table.unpack(out) })
end

function checks.manager_remote(out)
  assert.same({
    "client: was refused",
    "server: Bert has nil",
    "client: Anna has 5",
    "server: Bert has 7",
  }, { table.unpack(out) })
end

function checks.manager_dict(out)
  assert.same({ "with a lock: 50 are left", "by update: 0 are left" }, { table.unpack(out) })
end

function checks.manager_types(out)
  assert.same({ "value: 42", "array: 0.5 1.0 1.5", "list: c b a d", "the list in the dict: c b a d" }, { table.unpack(out) })
end

function checks.manager_remote(out)
  assert.same({ "client: was refused", "server: Bert has nil", "client: Anna has 5", "server: Bert has 7" }, { table.unpack(out) })
end

function checks.pool_map(out)
  assert.equal(2, #out)
  assert.equal("1 4 9 16 25 36 49 64 81 100", out[1])
  assert.matches("^after [%d.]+ s; one after the other they would take 0%.50 s$", out[2])
end

function checks.pool_or_processes(out)
  assert.equal(2, #out)
  local a, b = out[1]:match "^pool: sum (%d+), [%d.]+ s$", out[2]:match "^processes: sum (%d+), [%d.]+ s$"
  assert.is_not_nil(a)
  assert.equal(a, b)
end

function checks.pool_async(out)
  assert.equal(4, #out)
  assert.matches("^ready at once: %a+$", out[1])
  assert.matches("^collected: 2 4 6 8 10 12 %(after [%d.]+ s%)$", out[2])
  assert.matches("^one by one: 2 4 6 8 10 12 %(after [%d.]+ s%)$", out[3])
  assert.equal("an error comes with get: no such number", out[4])
end

function checks.pool_callback(out)
  local parent = out[out:at "^parent: process"]:match "%d+"
  assert.same({ parent, parent, parent, parent }, out:all "^callback: result %d+ in process (%d+)$")
  assert.equal(4, out:count "^worker: task %d in process %d+$")
  assert.equal(0, out:count("^worker: .* process " .. parent .. "$"))
  assert.equal("parent: the sum is 100", out[#out])
end

function checks.pool_queue(out)
  assert.same({
    "put by the tasks: 5 5 5",
    "got by the parent: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
  }, { table.unpack(out) })
end

function checks.sandbox(out)
  assert.matches("^without a grant: refused, .*not permitted", out[1])
  assert.equal(1, out:count '^  %w+ of /etc/passwd was refused; to allow it: read = {"/etc/passwd"}$')
  assert.equal(1, out:count "^with a grant: allowed$")
  assert.equal("an endless loop: ended for cpu", out[#out])
end

-- What a script needs of the machine, as an expression in Lua that mprun evaluates.
local needs = { sandbox = { "(mp.sandbox.available().landlock or 0) ~= 0", "this kernel has no Landlock" } }

local function lacks(name)
  local need = needs[name]
  return need and not os.execute(("'%s' -e 'os.exit(%s)'"):format(mprun, need[1])) and need[2]
end

local tour = {}
for line in io.lines "scripts/tour.txt" do tour[#tour + 1] = line:match "^([%w_]+)" end

describe("the script", function()
  for _, name in ipairs(tour) do
    it(name .. " prints what it is meant to show", function()
      local check = assert(checks[name], "no check for scripts/" .. name .. ".lua")
      local why = lacks(name)
      if why then return pending(why) end
      check(run(name))
    end)
  end
end)

describe("every script of the tour", function()
  it("says in two lines of comment what the reader is meant to see", function()
    for _, name in ipairs(tour) do
      local text = read("scripts/" .. name .. ".lua")
      assert.matches("^%-%- %u[^\n]+\n%-%- %u[^\n]+\n[^-]", text, 1, false, name)
    end
  end)
end)

describe("docs/tutorial.md", function()
  it("shows every script of the tour as it is (spec/support/tutorial.lua puts it there)", function()
    local page = read "docs/tutorial.md"
    for _, name in ipairs(tour) do
      local shown = page:match("\n### " .. name .. "\n.-```lua[^\n]*\n(.-)```\n")
      assert.equal(read("scripts/" .. name .. ".lua"), shown, name)
    end
  end)
end)
