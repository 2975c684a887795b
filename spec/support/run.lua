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

local run = {}

run.path = os.getenv("MPRUN") or assert(io.popen("pwd")):read("l") .. "/build/mprun"
run.mode = os.getenv("MP_MODE") or "release"
run.slow = tonumber(os.getenv("SPEC_SLOW") or "1")

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

return run
