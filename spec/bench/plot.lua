-- plot.lua BUILD DOCS -- draws what run.lua and curves.lua found last: BUILD/bench.tsv as DOCS/bench.svg (for each row how many times faster than
-- CPython, on a logarithmic scale from CPython's figure, 1, to the limit, plain C), BUILD/curves.tsv as DOCS/curves.svg; puts
-- the figures beside the pictures, and the table into DOCS/performance.md, between its two marks.
local build, docs = arg[1] or "build", arg[2] or "docs"

local function escape(s) return (s:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" })) end

-- The lines of a table (each a list of its fields, without the headline) and the machine; nil: there is none.
local function read(name)
  local f = io.open(build .. "/" .. name)
  if not f then return nil end
  local text <const> = f:read "a"
  f:close()
  local copy <close> = assert(io.open(docs .. "/" .. name, "w"))
  copy:write(text)
  local rows, machine, headed = {}, "", false
  for line in text:gmatch "[^\n]+" do
    if line:sub(1, 1) == "#" then machine = line:sub(3)
    elseif not headed then headed = true
    else
      local fields = {}
      for field in (line .. "\t"):gmatch "(.-)\t" do fields[#fields + 1] = field end
      rows[#rows + 1] = fields
    end
  end
  return rows, machine
end

local function drawing(width, height)
  local out = {}
  local d = {}
  function d.add(form, ...) out[#out + 1] = form:format(...) end
  function d.save(name)
    d.add '</svg>'
    local f <close> = assert(io.open(docs .. "/" .. name, "w"))
    f:write(table.concat(out, "\n"), "\n")
    print(docs .. "/" .. name)
  end
  d.add('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">', width, height)
  d.add '<rect width="100%%" height="100%%" fill="white"/>'
  return d
end

local MP <const>, RAW <const>, PYTHON <const> = "#3a7ca5", "#d1495b", "#8a8a8a"

-- ---- the table ----

local function bars()
  local table_rows, machine = read "bench.tsv"
  if not table_rows then return false end
  local rows, low, high = {}, 1, 1
  for _, t in ipairs(table_rows) do
    local _, what, unit, more, m, p, r = table.unpack(t)
    p = tonumber(p)
    local function times(x)
      x = tonumber(x)
      if not (x and p and x > 0) then return nil end
      local n = more == "true" and x / p or p / x
      low, high = math.min(low, n), math.max(high, n)
      return n
    end
    if p then rows[#rows + 1] = { what = what, unit = unit, figure = m, mp = times(m), raw = times(r) } end
  end
  if #rows == 0 then return false end
  local decade_low, decade_high = math.floor(math.log(low, 10)), math.ceil(math.log(high, 10))
  local left, width, top, step = 330, 560, 64, 24
  local height = top + #rows * step + 44
  local d = drawing(left + width + 100, height)
  local function x_of(times) return left + width * (math.log(times, 10) - decade_low) / (decade_high - decade_low) end
  d.add('<text x="12" y="22" font-size="15">Times faster than CPython\'s multiprocessing (logarithmic)</text>')
  d.add('<text x="12" y="40" fill="#666" font-size="10">%s</text>', escape(machine))
  for k = decade_low, decade_high do
    local x = x_of(10 ^ k)
    d.add('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/>', x, top - 8, x, height - 36, k == 0 and "#888" or "#ddd")
    d.add('<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%s</text>', x, height - 20, ("%.6g"):format(10.0 ^ k))
  end
  for i, row in ipairs(rows) do
    local y = top + (i - 1) * step + 6
    d.add('<text x="12" y="%d">%s</text>', y + 4, escape(row.what))
    if row.mp then
      d.add('<rect x="%.1f" y="%d" width="%.1f" height="10" fill="%s"/>', math.min(x_of(1), x_of(row.mp)), y - 5, math.abs(x_of(row.mp) - x_of(1)), MP)
    end
    if row.raw then d.add('<path d="M%.1f %d l5 6 l-5 6 l-5 -6 z" fill="%s"/>', x_of(row.raw), y - 6, RAW) end
    if row.mp then
      d.add('<text x="%.1f" y="%d" fill="#333" font-size="11">%s</text>', left + width + 8, y + 4, escape(("%.3g %s"):format(tonumber(row.figure), row.unit)))
    end
  end
  d.add('<rect x="12" y="%d" width="10" height="10" fill="%s"/><text x="27" y="%d">mp</text>', height - 29, MP, height - 20)
  d.add('<path d="M72 %d l5 6 l-5 6 l-5 -6 z" fill="%s"/><text x="82" y="%d">plain C</text>', height - 30, RAW, height - 20)
  d.save "bench.svg"
  return true
end

local function show(x)
  x = tonumber(x)
  if not x then return "" end
  return (x >= 100 and "%.0f" or x >= 10 and "%.1f" or x >= 1 and "%.2f" or "%.3f"):format(x)
end

-- Is what run.lua says to reach reached? "40 x Python", "1.4 x raw", "1.1 x another_row", "40 ns", "1.9"; nil: nothing is said.
local function reached(row, figures)
  local target, more, m = row[8], row[4] == "true", tonumber(row[5])
  local n, than = target:match "^([%d.]+) x ([%w_]+)$"
  if not m or target == "" then return nil end
  if than == "Python" then
    local p = tonumber(row[6])
    return p and (more and m / p or p / m) >= tonumber(n)
  elseif than then
    local r = than == "raw" and tonumber(row[7]) or figures[than]
    return r and (more and r / m or m / r) <= tonumber(n)
  end
  n = tonumber(target:match "^[%d.]+")
  if more then return m >= n end
  return m <= n
end

local function page()
  local f = io.open(docs .. "/performance.md")
  local rows, machine = read "bench.tsv"
  if not f or not rows then return end
  local text <const> = f:read "a"
  f:close()
  local figures, out = {}, {}
  for _, row in ipairs(rows) do figures[row[1]] = tonumber(row[5]) end
  local function add(s) out[#out + 1] = s end
  add(machine .. ".")
  add ""
  add "| row | what | unit | mp | CPython | plain C | times CPython | to reach | |"
  add "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
  for _, row in ipairs(rows) do
    local m, p = tonumber(row[5]), tonumber(row[6])
    local r = reached(row, figures)
    add(("| `%s` | %s | %s | %s | %s | %s | %s | %s | %s |"):format(row[1], row[2], row[3], show(m), show(p), show(row[7]),
      show(m and p and (row[4] == "true" and m / p or p / m)), row[8], r and "reached" or r == false and "no" or ""))
  end
  local last = text:match "<!%-%- table %-%->\n()"
  local behind = text:find("<!-- end of the table -->", 1, true)
  assert(last and behind and last <= behind, "performance.md has lost its marks")
  local to <close> = assert(io.open(docs .. "/performance.md", "w"))
  to:write(text:sub(1, last - 1), "\n", table.concat(out, "\n"), "\n\n", text:sub(behind))
  print(docs .. "/performance.md")
end

-- ---- the curves ----

local function curves()
  local points, machine = read "curves.tsv"
  if not points or #points == 0 then return false end
  local names, by_name = {}, {}
  for _, t in ipairs(points) do
    local name, what, unit = t[1], t[2], t[3]
    if not by_name[name] then
      by_name[name] = { what = what, unit = unit, at = {} }
      names[#names + 1] = name
    end
    table.insert(by_name[name].at, { x = tonumber(t[5]), mp = tonumber(t[6]), python = tonumber(t[7]), raw = tonumber(t[8]) })
  end
  local w, h, left, top = 430, 260, 70, 70
  local cell_w, cell_h = w + 90, h + 90
  local d = drawing(2 * cell_w + 20, top + math.ceil(#names / 2) * cell_h)
  d.add '<text x="12" y="22" font-size="15">How the figures change (both axes logarithmic)</text>'
  d.add('<text x="12" y="40" fill="#666" font-size="10">%s</text>', escape(machine))
  d.add('<text x="%d" y="22" fill="%s">mp</text><text x="%d" y="22" fill="%s">CPython</text><text x="%d" y="22" fill="%s">plain C</text>', cell_w + 200, MP,
    cell_w + 240, PYTHON, cell_w + 310, RAW)
  for i, name in ipairs(names) do
    local c = by_name[name]
    local ox, oy = left + (i - 1) % 2 * cell_w, top + (i - 1) // 2 * cell_h
    local x_low, x_high, y_low, y_high = math.huge, 0, math.huge, 0
    for _, p in ipairs(c.at) do
      x_low, x_high = math.min(x_low, p.x), math.max(x_high, p.x)
      for _, side in ipairs { "mp", "python", "raw" } do
        if p[side] and p[side] > 0 then y_low, y_high = math.min(y_low, p[side]), math.max(y_high, p[side]) end
      end
    end
    if y_high > 0 then
      y_low, y_high = math.floor(math.log(y_low, 10)), math.ceil(math.log(y_high, 10))
      if y_high == y_low then y_high = y_low + 1 end
      local function px(x) return ox + w * math.log(x / x_low, 10) / math.max(math.log(x_high / x_low, 10), 1e-9) end
      local function py(y) return oy + h - h * (math.log(y, 10) - y_low) / (y_high - y_low) end
      d.add('<text x="%d" y="%d">%s (%s)</text>', ox - 40, oy - 8, escape(c.what), c.unit)
      for k = y_low, y_high do
        d.add('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" fill="#666" font-size="10">%s</text>', ox,
          py(10.0 ^ k), ox + w, py(10.0 ^ k), ox - 6, py(10.0 ^ k) + 4, ("%.6g"):format(10.0 ^ k))
      end
      for _, p in ipairs(c.at) do
        d.add('<text x="%.1f" y="%d" text-anchor="middle" fill="#666" font-size="9">%s</text>', px(p.x), oy + h + 16, ("%d"):format(p.x))
      end
      for _, side in ipairs { { "raw", RAW }, { "python", PYTHON }, { "mp", MP } } do
        local list = {}
        for _, p in ipairs(c.at) do
          local y = p[side[1]]
          if y and y > 0 then
            list[#list + 1] = ("%.1f,%.1f"):format(px(p.x), py(y))
            d.add('<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>', px(p.x), py(y), side[2])
          end
        end
        d.add('<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>', table.concat(list, " "), side[2])
      end
    end
  end
  d.save "curves.svg"
  return true
end

local drawn = bars()
if drawn then page() end
drawn = curves() or drawn
if not drawn then
  io.stderr:write(build, "/bench.tsv and curves.tsv are not there, or empty: make bench, make bench-curves\n")
  os.exit(1)
end
