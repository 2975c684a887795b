-- init.lua -- the Lua part of mp: what is convenient rather than fast. Each file adds to `mp`.
-- `core` is the private table of C functions; core.methods[name] is the method table of a type.
local mp, core = ...

for _, name in ipairs { "errors", "process", "spawn", "thread", "containers", "managers" } do core.load(name) end

-- What many programs never touch is read when one of these fields, of mp or of core, is first asked for (runtime/bind/l_mp.c).
local later = {
  explain = { "explain" },
  sandbox = { "sandbox", "process_policy", "spawn_confined", "process_violations", "process_refine", "confine_state", "jail_modules",
              "enter_jail", "sandbox_learnt", "mprun_sandbox" },
  progress = { "progress" },
  pool = { "Pool" },
  about = { "about" },
}
local file_of = {}
for file, fields in pairs(later) do
  for _, field in ipairs(fields) do file_of[field] = file end
end
core.later(file_of)

return mp
