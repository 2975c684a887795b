-- What specs need to run programs. `local run = require "spec.support.run"` (specs run from the top folder).
--
--   local r = run.mprun{ "-e", "print(1)" }          the build under test; also run.script(text, {args...}, options)
--   local r = run.command({ "sh", "-c", "exit 3" }, { stdin = "text", env = { X = "1" }, cwd = "/tmp", timeout = 20 })
--   r.out, r.err      what it printed                r.both   the same in one, with { merge = true }
--   r.status          its exit status, or nil        r.signal the signal that ended it, or nil
--   r.timeout         true when it was ended after `timeout` seconds (20, times SPEC_SLOW under sanitizers)
--   run.tmpdir()      a new folder, removed when the spec process ends
--   run.path          the mprun under test           run.slow  1, or by how much this build is slower
--   run.mode          "release", "asan" ...
--   run.wait_until(f, seconds)   polls f every 10 ms; its value, or nil: not for asserting that something is fast
--
--   local p = run.child(f, ...)     f(...) in a worker of the kind that MP_TEST_KIND says: "fork" (without it), "spawn" or "thread"
--   local p = run.forked(f, ...)    in a copy of this process: for what is about copies, or needs what cannot travel
--   local process_it = run.processes(it)   `it`, or nothing when workers are threads: for what is about processes and their deaths
--   run.code(p), run.ends_well(p)   joins: the exit code; asserts that it is 0
--   run.misuse(words, f, ...)       asserts that f(...) raises a message with all the words, at a line of the spec that calls it

local run = {}

run.path = os.getenv("MPRUN") or assert(io.popen("pwd")):read("l") .. "/build/mprun"
run.mode = os.getenv("MP_MODE") or "release"
run.slow = tonumber(os.getenv("SPEC_SLOW") or "1")
run.kind = os.getenv("MP_TEST_KIND") or "fork"

function run.quote(s) return "'" .. tostring(s):gsub("'", "'\\''") .. "'" end

local made = setmetatable({}, { __gc = function(t)
  for _, dir in ipairs(t) do os.execute("rm -rf " .. run.quote(dir)) end
end })

function run.tmpdir()
  local p = assert(io.popen("mktemp -d \"${TMPDIR:-/tmp}/mp-spec.XXXXXX\""))
  local dir = p:read("l")
  assert(p:close() and dir)
  made[#made + 1] = dir
  return dir
end

function run.read(path)
  local f <close> = assert(io.open(path, "rb"))
  return f:read("a")
end

function run.write(path, text)
  local f <close> = assert(io.open(path, "wb"))
  assert(f:write(text))
end

function run.command(args, options)
  options = options or {}
  local dir = run.tmpdir()
  local limit = (options.timeout or 20) * run.slow
  local words = {}
  for i, a in ipairs(args) do words[i] = run.quote(a) end
  run.write(dir .. "/in", options.stdin or "")
  local line = { "cd " .. run.quote(options.cwd or ".") .. " && exec env" }
  for k, v in pairs(options.env or {}) do
    table.insert(line, v == false and 2 or #line + 1, v == false and "-u " .. k or run.quote(k .. "=" .. v)) -- env wants -u first
  end
  line[#line + 1] = ("timeout --kill-after=2 %g %s <%s/in >%s/out 2>%s"):format(
    limit, table.concat(words, " "), dir, dir, options.merge and "&1" or dir .. "/err")
  local _, how, code = os.execute(table.concat(line, " "))
  local r = { out = run.read(dir .. "/out"), err = options.merge and "" or run.read(dir .. "/err") }
  r.both = r.out .. r.err
  os.execute("rm -rf " .. run.quote(dir))
  if how == "exit" and code == 124 then r.timeout = true
  elseif how == "signal" then r.signal = code
  elseif code > 128 and code < 160 then r.signal, r.status = code - 128, code -- timeout(1) and sh say it so
  else r.status = code end
  return r
end

function run.mprun(args, options)
  local all = { run.path }
  table.move(args, 1, #args, 2, all)
  return run.command(all, options)
end

function run.script(text, args, options)
  local dir = run.tmpdir()
  run.write(dir .. "/script.lua", text)
  return run.mprun({ dir .. "/script.lua", table.unpack(args or {}) }, options)
end

function run.wait_until(f, seconds)
  local deadline = os.time() + math.ceil((seconds or 5) * run.slow) + 1
  repeat
    local v = f()
    if v then return v end
    os.execute("sleep 0.01")
  until os.time() > deadline
  return nil
end

-- ---- workers ----------------------------------------------------------------------------------

-- A fresh state has no busted in it: what of it a worker of a spec uses is `assert`, which is read when it is first indexed.
function run.work(f, ...)
  if type(assert) == "function" then
    local plain = assert
    rawset(_G, "assert", setmetatable({}, {
      __call = function(_, ...) return plain(...) end,
      __index = function(_, key) return require "luassert"[key] end,
    }))
  end
  return f(...)
end

local function start(kind, f, ...)
  local mp = require "mp"
  local o = { target = f, args = table.pack(...), start_method = kind }
  if kind ~= "fork" then o.target, o.args = run.work, table.pack(f, ...) end
  if kind == "thread" then o.start_method = nil end
  local p = (kind == "thread" and mp.Thread or mp.Process)(o)
  p:start()
  return p
end

function run.child(f, ...) return start(run.kind, f, ...) end
function run.forked(f, ...) return start("fork", f, ...) end
function run.processes(it) return run.kind == "thread" and function() end or it end

function run.code(p)
  local assert = require "luassert"
  assert.is_true(p:join(20 * run.slow))
  return p.exitcode
end

function run.ends_well(p)
  require "luassert".equal(0, run.code(p))
end

function run.misuse(words, f, ...)
  local assert, file = require "luassert", debug.getinfo(2, "S").short_src
  local ok, e = pcall(f, ...)
  assert.is_false(ok)
  e = tostring(e)
  for _, word in ipairs(words) do assert(e:find(word, 1, true), ("%q is not in %q"):format(word, e)) end
  if debug.getinfo(f, "S").what == "C" then return end -- called by pcall, which has no line
  local _, last = e:find(file, 1, true)
  assert(last and e:find("^:%d+: ", last + 1), "no position of the caller: " .. e)
end

return run
