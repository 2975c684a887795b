-- Every tutorial script that can run in a sandbox does so under the policy that mprun --sandbox-learn prints for it.
local mp = require "mp"
local run = require "spec.support.run"

local other = { -- why not
  sandbox = "makes sandboxes of its own",
  manager_remote = "starts mprun again by the word before the script on the command line, which is then --sandbox-learn",
}

local needs = { "files", "net" } -- of Landlock
local lacking
for _, what in ipairs(needs) do if not mp.sandbox.available()[what] then lacking = "this kernel's Landlock has no " .. what end end
if run.mode == "asan" or run.mode == "tsan" then lacking = "a sanitizer needs files and memory of its own" end

describe("under the policy that was learnt from it,", function()
  if lacking then
    it("every script runs", function() return pending(lacking) end)
    return
  end
  for line in io.lines "scripts/tour.txt" do
    local name = line:match "^([%w_]+)"
    if name and not other[name] then
      it(name .. " runs", function()
        local script = "scripts/" .. name .. ".lua"
        local learnt = run.mprun({ "--sandbox-learn", script }, { timeout = 60 })
        assert.equal(0, learnt.status, learnt.err)
        local dir = run.tmpdir()
        run.write(dir .. "/policy", learnt.err)
        local confined = run.mprun({ "--sandbox=" .. dir .. "/policy", script }, { timeout = 60 })
        assert.equal("", confined.err, learnt.err)
        assert.equal(0, confined.status, learnt.err)
        assert.equal(select(2, learnt.out:gsub("\n", "")) > 0, select(2, confined.out:gsub("\n", "")) > 0)
      end)
    end
  end
end)

it("who is left out is a script of the tour, with a reason", function()
  local tour = run.read "scripts/tour.txt"
  for name, why in pairs(other) do
    assert(("\n" .. tour):find("\n" .. name .. "\n", 1, true), name)
    assert(#why > 10)
  end
end)
