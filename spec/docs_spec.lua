-- The programs in README.md and docs/ do what the pages say.
--
--   ```lua                    is run by mprun in an empty folder and must end with status 0
--   ```lua norun: why         is not run, but must compile; the reason is for the reader of the page's source
--   ```lua fails              must end with another status; its output includes what it wrote to stderr
--   ```c                      is compiled and linked with libmp.a when it has a main(), and run the same way
--   ```output or ```text      right after it (no heading between): what it prints. "..." in a line stands for
--                             any text, a line that is only "..." for any lines.
--   ```output unordered       the same, lines in any order

local run = require "spec.support.run"

local function pages()
  local list = { "README.md" }
  local p = assert(io.popen("find docs -name '*.md' -type f | sort"))
  for name in p:lines() do list[#list + 1] = name end
  p:close()
  return list
end

-- The fenced blocks of a page: { line, lang, words, text }; a heading gives { heading = true }.
local function blocks(name)
  local list, block, n = {}, nil, 0
  for line in io.lines(name) do
    n = n + 1
    local indent, info = line:match("^(%s*)```(.*)$")
    if block then
      if indent and info == "" then
        block.text = table.concat(block, "\n") .. "\n"
        list[#list + 1] = block
        block = nil
      else
        block[#block + 1] = line:sub(1, #block.indent):match("^%s*$") and line:sub(#block.indent + 1) or line
      end
    elseif indent then
      block = { line = n, lang = info:match("^[%w_]*"), words = info:match("^[%w_]*%s*(.-)%s*$"), indent = indent }
    elseif line:match("^#+ ") then
      list[#list + 1] = { heading = true }
    end
  end
  assert(block == nil, name .. ": a block is not closed")
  return list
end

local function lines_of(text)
  local list = {}
  for line in (text:gsub("%s+$", "") .. "\n"):gmatch("(.-)[ \t\r]*\n") do list[#list + 1] = line end
  if #list == 1 and list[1] == "" then list[1] = nil end
  return list
end

local function line_matches(want, got)
  if not want:find("...", 1, true) then return want == got end
  local pattern = want:gsub("%p", "%%%0"):gsub("%%%.%%%.%%%.", ".*")
  return got:match("^" .. pattern .. "$") ~= nil
end

local function lines_match(want, got, i, j)
  i, j = i or 1, j or 1
  while i <= #want do
    if want[i]:match("^%s*%.%.%.$") then
      for k = j, #got + 1 do
        if lines_match(want, got, i + 1, k) then return true end
      end
      return false
    end
    if j > #got or not line_matches(want[i], got[j]) then return false end
    i, j = i + 1, j + 1
  end
  return j > #got
end

local function compare(want, got, unordered)
  want, got = lines_of(want), lines_of(got)
  if unordered then
    table.sort(want)
    table.sort(got)
  end
  if not lines_match(want, got) then
    error(("the page says that it prints\n  %s\nbut it printed\n  %s"):format(
      table.concat(want, "\n  "), table.concat(got, "\n  ")), 0)
  end
end

local function check(block, expected, result)
  if result.timeout then error("it did not end in time; it printed\n" .. result.both, 0) end
  local fails = block.words:match("^fails") ~= nil
  if fails and result.status == 0 then error("it was meant to fail and did not:\n" .. result.both, 0) end
  if not fails and result.status ~= 0 then
    error(("it ended with status %s:\n%s"):format(result.status or result.signal, result.both), 0)
  end
  if expected then compare(expected.text, fails and result.both or result.out, expected.words:match("unordered")) end
end

-- The folder of mp.h's library: beside mprun.
local function compile(text, dir)
  run.write(dir .. "/main.c", text)
  local build = run.path:match("^(.*)/[^/]*$")
  local san = ({ asan = "-fsanitize=address,undefined", tsan = "-fsanitize=thread" })[run.mode] or "-O1"
  local command = ("gcc -std=gnu11 -Wall -Wextra -Werror -D_GNU_SOURCE %s -Iruntime -o %s/main %s/main.c %s/libmp.a " ..
    "-pthread -lseccomp -lssl -lcrypto -lm -ldl"):format(san, dir, dir, build)
  local r = run.command({ "sh", "-c", command }, { timeout = 60 })
  assert(r.status == 0, "it does not compile:\n" .. r.both)
end

for _, page in ipairs(pages()) do
  local list = blocks(page)
  describe(page, function()
    for i, block in ipairs(list) do
      local next_block = list[i + 1]
      local expected = next_block and (next_block.lang == "output" or next_block.lang == "text") and next_block or nil
      local does = expected and "prints what the page says" or "runs"
      if block.lang == "lua" and block.words:match("^norun") then
        it(("the block at line %d compiles, and says why it is not run"):format(block.line), function()
          assert(block.words:match("^norun:?%s+%S"), "norun without a reason")
          assert(load(block.text, "=" .. page, "t"))
        end)
      elseif block.lang == "lua" then
        it(("the block at line %d %s"):format(block.line, does), function()
          assert(block.words == "" or block.words == "fails", "an unknown word after ```lua: " .. block.words)
          local dir = run.tmpdir()
          run.write(dir .. "/example.lua", block.text)
          check(block, expected, run.mprun({ "example.lua" }, { cwd = dir, timeout = 20 }))
        end)
      elseif block.lang == "c" and block.text:find("main *%(") then
        it(("the C program at line %d %s"):format(block.line, does), function()
          local dir = run.tmpdir()
          compile(block.text, dir)
          local path = run.path:match "^(.*)/[^/]*$" .. ":" .. os.getenv "PATH" -- the helper is mprun
          check(block, expected, run.command({ dir .. "/main" }, { cwd = dir, timeout = 20, env = { PATH = path } }))
        end)
      end
    end
  end)
end

-- Links between pages, and to files of the tree, lead somewhere.
describe("links", function()
  for _, page in ipairs(pages()) do
    it("in " .. page .. " lead somewhere", function()
      local text = run.read(page):gsub("\n```.-\n```", "\n"):gsub("`[^`\n]*`", "")
      local folder = page:match("^(.*/)") or ""
      for target in text:gmatch("%]%(([^)%s]+)%)") do
        local path = target:gsub("#.*$", "")
        if path ~= "" and not target:match("^%a+:") then
          assert.is_truthy(os.rename(folder .. path, folder .. path), page .. " links to " .. target)
        end
      end
    end)
  end
end)

describe("the comparison", function()
  it("sees another line, a missing line and a line too many", function()
    compare("a\nb\n", "a\nb\n")
    assert.has_error(function() compare("a\nb\n", "a\nc\n") end)
    assert.has_error(function() compare("a\nb\n", "a\n") end)
    assert.has_error(function() compare("a\n", "a\nb\n") end)
    assert.has_error(function() compare("", "a\n") end)
  end)
  it("takes ... for any text, and a line of it for any lines", function()
    compare("pid ...: done", "pid 123: done")
    compare("a\n...\nz", "a\nb\nc\nz")
    compare("a\n...\nz", "a\nz")
    assert.has_error(function() compare("pid ...: done", "pid 123: gone") end)
    assert.has_error(function() compare("a\n...\nz", "a\nb") end)
  end)
  it("takes lines in any order only when told so", function()
    compare("a\nb", "b\na", true)
    assert.has_error(function() compare("a\nb", "b\na") end)
  end)
end)
