-- A queue of three: what happens when it is full, when it is empty, and in which order things come out.
-- What cannot be done gives nil and a word that says why; nothing is raised.
local mp = require "mp"

local q = mp.Queue(3)
for _, fruit in ipairs { "apple", "pear", "plum" } do q:put(fruit) end

print("full:", q:full(), "size:", q:qsize())
print("a fourth at once:", q:put_nowait "fig")
print("a fourth within 0.2 s:", q:put("fig", 0.2))

for _ = 1, 3 do print("got:", q:get()) end

print("empty:", q:empty(), "size:", q:qsize())
print("one more at once:", q:get_nowait())
print("one more within 0.2 s:", q:get(0.2))
