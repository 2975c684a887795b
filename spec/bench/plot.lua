-- plot.lua TSV SVG -- draws the table of run.lua: for each row how many times faster than CPython, on a logarithmic scale
-- from CPython's figure (1) to the limit, plain C.
local from, to = arg[1] or "build/bench.tsv", arg[2] or "docs/bench.svg"

local rows, machine = {}, ""
local low, high = 1, 1
for line in assert(io.lines(from)) do
  if line:sub(1, 1) == "#" then machine = line:sub(3)
  elseif not line:find "^row\t" then
    local name, what, unit, more, m, p, r = line:match "^(.-)\t(.-)\t(.-)\t(.-)\t(.-)\t(.-)\t(.-)\t"
    p = tonumber(p)
    local function times(x)
      x = tonumber(x)
      if not (x and p and x > 0) then return nil end
      local t = more == "true" and x / p or p / x
      low, high = math.min(low, t), math.max(high, t)
      return t
    end
    if p then rows[#rows + 1] = { name = name, what = what, unit = unit, figure = m, mp = times(m), raw = times(r) } end
  end
end
assert(#rows > 0, from .. " has no rows")

local decade_low, decade_high = math.floor(math.log(low, 10)), math.ceil(math.log(high, 10))
local left, width, top, step = 330, 560, 64, 24
local height = top + #rows * step + 44
local function x_of(times)
  return left + width * (math.log(times, 10) - decade_low) / (decade_high - decade_low)
end
local function escape(s) return (s:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" })) end

local out = {}
local function add(form, ...) out[#out + 1] = form:format(...) end
add('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">', left + width + 100, height)
add '<rect width="100%%" height="100%%" fill="white"/>'
add('<text x="12" y="22" font-size="15">Times faster than CPython\'s multiprocessing (logarithmic)</text>')
add('<text x="12" y="40" fill="#666" font-size="10">%s</text>', escape(machine))
for d = decade_low, decade_high do
  local x = x_of(10 ^ d)
  add('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>', x, top - 8, x, height - 36, d == 0 and "#888" or "#ddd")
  add('<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%s</text>', x, height - 20,
    d >= 0 and ("%d"):format(10 ^ d) or ("%.3g"):format(10 ^ d))
end
for i, row in ipairs(rows) do
  local y = top + (i - 1) * step + 6
  add('<text x="12" y="%d">%s</text>', y + 4, escape(row.what))
  if row.mp then
    add('<rect x="%.1f" y="%d" width="%.1f" height="10" fill="#3a7ca5"/>', math.min(x_of(1), x_of(row.mp)), y - 5,
      math.abs(x_of(row.mp) - x_of(1)))
  end
  if row.raw then
    add('<path d="M%.1f %d l5 6 l-5 6 l-5 -6 z" fill="#d1495b"/>', x_of(row.raw), y - 6)
  end
  if row.mp then
    add('<text x="%.1f" y="%d" fill="#333" font-size="11">%s</text>', left + width + 8, y + 4,
      escape(("%.3g %s"):format(tonumber(row.figure), row.unit)))
  end
end
add('<rect x="%d" y="%d" width="10" height="10" fill="#3a7ca5"/><text x="%d" y="%d">mp</text>', 12, height - 29, 27, height - 20)
add('<path d="M72 %d l5 6 l-5 6 l-5 -6 z" fill="#d1495b"/><text x="82" y="%d">plain C</text>', height - 30, height - 20)
add '</svg>'
local f <close> = assert(io.open(to, "w"))
f:write(table.concat(out, "\n"), "\n")
