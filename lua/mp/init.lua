-- init.lua -- the Lua part of mp: what is convenient rather than fast. Each file adds to `mp`.
-- `core` is the private table of C functions; core.methods[name] is the method table of a type.
local mp, core = ...

for _, name in ipairs { "errors", "explain", "process", "spawn", "sandbox", "thread", "containers", "progress", "pool" } do core.load(name) end

return mp
