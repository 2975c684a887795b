-- progress.lua -- the bar of pool:map(..., { progress = true }): on a terminal's stderr while it grows, one plain line at the end elsewhere.
local mp, core = ...

local format, rep, floor, min, max = string.format, string.rep, math.floor, math.min, math.max
local WIDTH <const>, NARROW <const>, EVERY <const> = 30, 5, 0.1 -- the bar's columns: at most, at least (else there is none); seconds

local function span(seconds)
  if seconds ~= seconds or seconds == math.huge then return "?" end
  if seconds < 60 then return format("%.1fs", seconds) end
  return format("%d:%02d", floor(seconds / 60), floor(seconds) % 60)
end

local function rate(r) return r >= 100 and format("%.0f", r) or format("%.3g", r) end

local Bar = {}
Bar.__index = Bar

function Bar:draw(now)
  local took = now - self.start
  local speed = took > 0 and self.done / took or 0
  local left = speed > 0 and (self.total - self.done) / speed or math.huge
  local text = format("%d/%d  %s/s  %s left", self.done, self.total, rate(speed), span(left))
  local room = (core.columns(2) or 80) - 1 -- a line that is full would go on in the next
  local width = min(WIDTH, room - #text - 3)
  if width >= NARROW then
    local full = self.total > 0 and floor(width * self.done / self.total) or width
    text = format("[%s%s] %s", rep("#", full), rep(".", width - full), text)
  end
  core.stderr("\r" .. text:sub(1, max(room, 1)) .. "\27[K")
end

function Bar:update(done)
  self.done = done
  if not self.terminal then return end
  local now = mp.now()
  if now < self.next then return end
  self.next = now + EVERY
  self:draw(now)
end

-- What is left behind: a line that says how it went.
function Bar:finish()
  if self.finished then return end
  self.finished = true
  local took = mp.now() - self.start
  core.stderr(format("%s%d/%d tasks in %s, %s/s\n", self.terminal and "\r\27[K" or "", self.done, self.total, span(took),
    rate(took > 0 and self.done / took or 0)))
end

function core.progress(total)
  local now = mp.now()
  return setmetatable({ total = total, done = 0, start = now, next = now, terminal = core.columns(2) ~= nil }, Bar)
end
