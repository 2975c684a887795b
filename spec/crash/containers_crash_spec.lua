-- What is left when a user of a value, dict or list is killed: the old state or the new, and nobody waits.
local mp = require "mp"

local function fork(f)
  local p = mp.Process { target = f, start_method = "fork" }
  p:start()
  return p
end

local rounds = tonumber(os.getenv "ROUNDS") or 40

describe("the death of a user", function()
  it("leaves a dict's sums right and the dict free", function()
    local d = mp.Dict { a = 500, b = 500 }
    local progress = mp.Value("q", 0, { lock = false })
    for round = 1, rounds do
      local p = fork(function()
        for i = 1, math.huge do
          d:update("pair", function() return { i, -i } end)
          d["k" .. i % 20] = ("x"):rep(i * 7 % 300)
          d["k" .. (i + 7) % 20] = nil
          d:incr("count", 1)
          progress:add(1)
        end
      end)
      local from = progress.value
      while progress.value < from + 3 do mp.sleep(0.0005) end
      mp.sleep(math.random() * 0.004)
      p:kill()
      p:join()
      local pair = d.pair
      assert.equal(0, pair[1] + pair[2])
      -- Finished counts are there; one may have been finished without its progress.
      local ahead = d.count - progress.value
      assert(ahead >= 0 and ahead <= round, ahead)
      local n = 0
      for k, v in pairs(d) do
        n = n + 1
        if tostring(k):find "^k" then assert(v == ("x"):rep(#v)) end
      end
      assert.equal(n, #d)
    end
  end)

  it("leaves a list whole", function()
    local l = mp.List()
    local progress = mp.Value("q", 0, { lock = false })
    for _ = 1, rounds do
      local p = fork(function()
        for i = 1, math.huge do
          l:insert(1, { i, i })
          l:append { -i, -i }
          if #l > 60 then
            l:pop(3)
            l:pop()
          end
          if i % 10 == 0 then l:sort(function(a, b) return a[1] < b[1] end) end
          progress:add(1)
        end
      end)
      local from = progress.value
      while progress.value < from + 3 do mp.sleep(0.0005) end
      mp.sleep(math.random() * 0.004)
      p:kill()
      p:join()
      local n = #l
      for _, v in pairs(l) do
        n = n - 1
        assert.equal(v[1], v[2])
      end
      assert.equal(0, n)
    end
  end)

  it("keeps what was finished inside with, and frees the container", function()
    local d, inside = mp.Dict { a = 100, b = 0 }, mp.Event()
    local p = fork(function()
      d:with(function()
        d.a = 60
        inside:set()
        while true do mp.sleep(1) end
      end)
    end)
    assert.is_true(inside:wait(10))
    p:kill()
    p:join()
    assert.equal(60, d.a) -- waits for nobody
    assert.equal(0, d.b)
    assert.equal(1, d:with(function() return 1 end))
  end)

  it("frees the lock of a value", function()
    local v, inside = mp.Value("i", 1), mp.Event()
    local p = fork(function()
      v:with(function()
        v.value = 2
        inside:set()
        while true do mp.sleep(1) end
      end)
    end)
    assert.is_true(inside:wait(10))
    p:kill()
    p:join()
    assert.equal(3, v:with(function() return v:add(1) end))
  end)
end)
