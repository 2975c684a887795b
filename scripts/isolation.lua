-- Processes share no variables: the child works on a copy, and the parent's stay as they were.
-- Even where both print the same identity of the list, it is the same address in two different memories.
local mp = require "mp"
io.stdout:setvbuf "line"

number, list = 10, { "parent" }

local function show(who)
  print(("%s: number %d, list {%s}, %s"):format(who, number, table.concat(list, ", "), list))
end

local function change()
  for _ = 1, 2 do
    number = number + 1
    list[#list + 1] = "child"
    show "child"
  end
end

show "parent before"
local p = mp.Process { target = change }
p:start()
p:join()
show "parent after"
