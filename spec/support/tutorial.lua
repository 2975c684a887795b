-- tutorial.lua [PAGE] -- puts the programs of scripts/ and what they print into docs/tutorial.md. Below each heading
-- `### name` with a scripts/name.lua it replaces (or adds, at the end of the section) two blocks: the program as it is,
-- and the output of one run by $MPRUN (build/mprun). The words between heading and blocks are left alone.
local page = arg[1] or "docs/tutorial.md"
local mprun = os.getenv "MPRUN" or "build/mprun"
local fence = "```"

local function read(name)
  local f = io.open(name)
  if not f then return nil end
  local text = f:read "a"
  f:close()
  return text
end

local function output(name)
  local p = assert(io.popen(("MP_SEED=7 timeout 20 '%s' scripts/%s.lua 2>&1 </dev/null"):format(mprun, name)))
  local text = p:read "a"
  assert(p:close(), name .. " failed:\n" .. text)
  return text
end

local function blocks(name)
  return ("%slua norun: spec/scripts_spec.lua runs it, as scripts/%s.lua\n%s%s\n\n%stext\n%s%s\n"):format(
    fence, name, read("scripts/" .. name .. ".lua"), fence, fence, output(name), fence)
end

local out, name, inside = {}, nil, false
local function finish()
  if not name then return end
  while out[#out] == "" do table.remove(out) end
  out[#out + 1] = ""
  out[#out + 1] = blocks(name)
  name = nil
end
for line in io.lines(page) do
  local heading = not inside and line:match "^#+ (.*)"
  if heading then finish() end
  if name and line:sub(1, 3) == fence then inside = not inside
  elseif not inside then out[#out + 1] = line end
  if heading and read("scripts/" .. heading .. ".lua") then name = heading end
end
finish()
local text = table.concat(out, "\n"):gsub("\n+$", "") .. "\n"
local f <close> = assert(io.open(page, "w"))
f:write(text)
