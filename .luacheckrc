-- make lint
std = "lua54"
max_line_length = 160
read_globals = { "mp" }                 -- mprun's
self = false
unused_args = false
exclude_files = { "build" }
files["spec/**/*_spec.lua"] = { std = "lua54+busted" }
files["spec/support"] = { std = "lua54+busted" }
-- The tutorial programs set globals where the lesson is about globals.
files["scripts"] = { allow_defined_top = true, max_line_length = 120 }
-- It takes functions away from the confined state.
files["lua/mp/sandbox.lua"] = { globals = { "string", "io", "os", "debug", "package" } }
