-- The list of attacks (docs/internals/attacks.md) says where each is tried: are those tests there?
local run = require "spec.support.run"

local files = {
  J = "runtime/sandbox/jail_test.c", W = "runtime/sandbox/warden_test.c", S = "runtime/sandbox/seccomp_test.c",
  A = "spec/sandbox/attacks_spec.lua", L = "spec/sandbox_spec.lua",
  P = "spec/sandbox/peer_spec.lua", H = "runtime/shm/queue_test.c", B = "runtime/shm/hostile_test.c", M = "runtime/shm/mutex_test.c",
}

local function rows()
  local list = {}
  for line in io.lines "docs/internals/attacks.md" do
    local n, where = line:match "^| (%d+) |.*| (.-) |$"
    if n then list[#list + 1] = { tonumber(n), where } end
  end
  return list
end

describe("the list of attacks", function()
  it("has all of them, in order", function()
    local list = rows()
    assert.equal(73, #list)
    for i, row in ipairs(list) do assert.equal(i, row[1]) end
  end)

  it("names tests that are there", function()
    local texts, missing, named = {}, {}, 0
    for key, file in pairs(files) do texts[key] = run.read(file) end
    for _, row in ipairs(rows()) do
      for key, names in (row[2]:gsub("\\|", "|") .. ";"):gmatch "(%u) (\".-\");" do
        for name in names:gmatch '"(.-)"' do
          named = named + 1
          local there = texts[key] and texts[key]:find('"' .. name .. '"', 1, true)
          if not there then missing[#missing + 1] = ("%d: %s %q"):format(row[1], key, name) end
        end
      end
    end
    assert.same({}, missing)
    assert(named > 100, named)
  end)
end)
