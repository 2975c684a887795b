-- The house: what is installed works by itself, exports what it should and no more, and the layer check sees what it is for.

local run = require "spec.support.run"

local build = run.path:match("^(.*)/[^/]*$")

local function sh(command, options)
  local r = run.command({ "sh", "-c", command }, options or { timeout = 120 })
  assert(r.status == 0, command .. ": " .. r.both)
  return r.out
end

describe("layers", function()
  local function complaint(path, text)
    local dir = run.tmpdir()
    local file = dir .. "/runtime/" .. path
    sh("mkdir -p " .. file:match("^(.*)/"))
    run.write(file, text)
    local r = run.command({ "awk", "-f", "spec/support/layers.awk", file })
    return r.status, r.out
  end

  it("lets includes point into their own floor and down", function()
    assert.equal(0, (complaint("proc/x.c", '#include "proc/y.h"\n#include "shm/ring.h"\n#include "mp.h"\n#include <stdio.h>\n')))
    assert.equal(0, (complaint("bind/x.c", '#include <lua.h>\n#include "mplua.h"\n#include "wire/wire.h"\n')))
    assert.equal(0, (complaint("shm/x_test.c", '#include "test/test.h"\n#include "shm/x.h"\n')))
  end)
  for what, case in pairs{
    ["an include that points up"] = { "shm/x.c", '#include "proc/y.h"\n' },
    ["shm and wire in each other"] = { "wire/x.c", '# include "shm/y.h"\n' },
    ["a Lua header below bind"] = { "pool/x.h", "#include <lua.h>\n" },
    ["a Lua header in host"] = { "host/x.c", '#include "lauxlib.h"\n' },
    ["bind in host"] = { "host/x.c", '#include "bind/udata.h"\n' },
    ["an include that does not show its floor"] = { "base/x.c", '#include "err.h"\n' },
    ["the harness outside tests"] = { "base/x.c", '#include "test/test.h"\n' },
    ["a floor nobody knows"] = { "base/x.c", '#include "cellar/x.h"\n' },
  } do
    it("refuses " .. what, function()
      local status, out = complaint(table.unpack(case))
      assert.equal(1, status)
      assert.matches(case[1]:gsub("%p", "%%%0") .. ":1: ", out)
    end)
  end
end)

describe("running programs from specs", function()
  it("tells status, output, signal and timeout", function()
    assert.same({ out = "a\n", err = "b\n", both = "a\nb\n", status = 3 },
      run.command{ "sh", "-c", "echo a; echo b >&2; exit 3" })
    assert.equal(15, run.command({ "sh", "-c", "kill -15 $$" }).signal)
    assert.is_true(run.command({ "sleep", "60" }, { timeout = 0.2 / run.slow }).timeout)
    assert.equal("in put", run.command({ "cat" }, { stdin = "in put" }).out)
    assert.equal("v", run.command({ "sh", "-c", 'printf "%s" "$X"' }, { env = { X = "v" } }).out)
    assert.equal("it's $HOME", run.command({ "printf", "%s", "it's $HOME" }).out)
  end)
end)

-- What follows needs what a user installs: the release.
if run.mode ~= "release" then return end

describe("what is exported", function()
  local function names(command)
    local list = {}
    for name in sh(command):gmatch("%S+") do list[#list + 1] = name end
    assert(#list > 0, "no names: " .. command)
    return list
  end
  local function only(list, pattern)
    for _, name in ipairs(list) do
      if not name:match(pattern) then error(name .. " is exported", 2) end
    end
  end

  it("by libmp.so begins with mp_", function()
    only(names("nm -D --defined-only --format=posix " .. build .. "/libmp.so | cut -d' ' -f1"), "^mp_")
  end)
  it("by libmp.a begins with mp_", function()
    only(names("nm -g --defined-only --format=posix " .. build .. "/libmp.a | grep -v ':$' | cut -d' ' -f1"), "^mp_")
  end)
  it("by mp.so is luaopen_mp and what begins with mp_ or mplua_", function()
    local list = names("nm -D --defined-only --format=posix " .. build .. "/mp.so | cut -d' ' -f1")
    for i = #list, 1, -1 do
      if list[i] == "luaopen_mp" then table.remove(list, i) end
    end
    only(list, "^mp[lua]*_")
  end)
  it("by libmp.so needs no Lua", function()
    assert.equal("", sh("nm -D --undefined-only " .. build .. "/libmp.so | grep -i ' lua' || true"))
  end)
  it("by mp.so needs no liblua: the program that loads it has the one Lua", function()
    assert.equal("", sh("readelf -d " .. build .. "/mp.so | grep NEEDED | grep -i liblua || true"))
  end)
end)

describe("make install", function()
  local prefix = run.tmpdir() .. "/usr"
  local here = sh("realpath --relative-to=. " .. build):match("%S+")
  local program = [[
    #include <mp.h>
    #include <stdio.h>
    #include <string.h>
    int main (void) {
      printf("%s %d\n", mp_version(), mp_cpu_count() > 0);
      return strcmp(mp_version(), MP_VERSION) != 0;
    }
  ]]
  local function flags(pc, what) -- a small pkg-config
    local text = run.read(prefix .. "/lib/pkgconfig/" .. pc .. ".pc")
    local value = text:match("\n" .. what .. ": ([^\n]*)")
    return (value:gsub("%${libdir}", prefix .. "/lib"):gsub("%${includedir}", prefix .. "/include"))
  end

  it("gives a module that stock Lua loads, and an mprun that needs nothing of the tree", function()
    sh("env -u MAKEFLAGS make -s BUILD=" .. here .. " install PREFIX=" .. prefix)
    local r = run.command({ "lua5.4", "-e", "print(require('mp')._VERSION)" },
      { cwd = prefix, env = { LUA_CPATH = prefix .. "/lib/lua/5.4/?.so" } })
    assert.matches("^%d+%.%d+%.%d+\n$", r.out, nil, r.err)
    assert.equal(r.out, run.command({ prefix .. "/bin/mprun", "-e", "print(mp._VERSION)" }, { cwd = prefix }).out)
  end)
  it("gives libraries that a C program links with, shared and static", function()
    local dir = run.tmpdir()
    run.write(dir .. "/main.c", program)
    local cc = ("gcc -Wall -Werror %s -o %s/main %s/main.c "):format(flags("mp", "Cflags"), dir, dir)
    sh(cc .. flags("mp", "Libs") .. " -Wl,-rpath," .. prefix .. "/lib")
    assert.matches("^%d+%.%d+%.%d+ 1\n$", sh(dir .. "/main"))
    sh(cc .. prefix .. "/lib/libmp.a " .. flags("mp", "Libs.private"))
    assert.matches("^%d+%.%d+%.%d+ 1\n$", sh(dir .. "/main"))
  end)
  it("gives a library for C hosts that embed Lua", function()
    local dir = run.tmpdir()
    run.write(dir .. "/main.c", [[
      #include <lauxlib.h>
      #include <lualib.h>
      #include <mplua.h>
      #include <stdio.h>
      int main (void) {
        lua_State *L = luaL_newstate();
        luaL_openlibs(L);
        luaL_requiref(L, "mp", luaopen_mp, 0);
        if (luaL_dostring(L, "local mp = require 'mp'; print(mp._VERSION, mp.now() > 0)")) puts(lua_tostring(L, -1));
        lua_close(L);
        return 0;
      }
    ]])
    sh(("gcc -Wall -Werror %s -I/usr/include/lua5.4 -o %s/main %s/main.c %s -llua5.4"):format(
      flags("mplua", "Cflags"), dir, dir, flags("mplua", "Libs")))
    assert.matches("^%d+%.%d+%.%d+\ttrue\n$", sh(dir .. "/main"))
  end)
  it("is undone by make uninstall", function()
    sh("env -u MAKEFLAGS make -s BUILD=" .. here .. " uninstall PREFIX=" .. prefix)
    assert.equal("", sh("find " .. prefix .. " -type f -o -type l"))
  end)
end)
