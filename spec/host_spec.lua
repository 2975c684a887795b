-- A C program that knows nothing of this tree: what `make install` puts somewhere, the installed header, and what pkg-config says.
local run = require "spec.support.run"

if run.mode ~= "release" then -- what a user installs is the release
  it("a C program outside the tree", function() return pending("only the release is installed") end)
  return
end

local build = run.path:match "^(.*)/[^/]*$"

local function sh(command, options)
  options = options or {}
  options.timeout = options.timeout or 60
  local r = run.command({ "sh", "-c", command }, options)
  assert(r.status == 0, command .. ": " .. r.both)
  return r.out
end

local program = [[
#include <mp.h>
#include <stdio.h>
#include <string.h>

static int failed (const char *what) {
  printf("%s: %s\n", what, mp_errmsg());
  return 1;
}

int main (void) {
  struct mp_worker_options w;
  struct mp_pool_options p;
  struct mp_task_options t;
  mp_worker *worker;
  mp_object *queue;
  mp_pool *pool;
  mp_task *task;
  const void *data;
  char text[16];
  size_t size = sizeof text;
  if (mp_queue_new(NULL, &queue) != 0) return failed("queue");
  memset(&w, 0, sizeof w);
  w.size = sizeof w;
  w.chunk = "local s, q = ...  q:put(s .. s)  return #s";
  w.input = "abc";
  w.input_size = 3;
  w.objects = &queue;
  w.nobjects = 1;
  w.sandbox = "pure";
  if (mp_worker_start(&w, &worker) != 0) return failed("worker");
  if (mp_queue_get_string(queue, text, &size, mp_deadline(20)) != 0) return failed("get");
  if (mp_worker_wait(worker, mp_deadline(20)) != 0 || mp_worker_result(worker, &data, &size) != 0) return failed("wait");
  printf("%.6s %s\n", text, (const char *)data);
  mp_worker_free(worker);
  memset(&p, 0, sizeof p);
  p.size = sizeof p;
  p.processes = 1;
  p.sandbox = "pure";
  if (mp_pool_new(&p, &pool) != 0) return failed("pool");
  memset(&t, 0, sizeof t);
  t.size = sizeof t;
  t.chunk = "local s = ...  return s:upper()";
  t.input = "done";
  t.input_size = 4;
  if (mp_pool_submit(pool, &t, &task, mp_deadline(20)) != 0) return failed("submit");
  if (mp_task_wait(task, mp_deadline(20)) != 0 || mp_task_result(task, &data, &size) != 0) return failed("task");
  printf("%s\n", (const char *)data);
  mp_task_free(task);
  mp_pool_free(pool);
  mp_release(queue);
  return 0;
}
]]

describe("a C program outside the tree", function()
  local root = run.tmpdir()
  local prefix = root .. "/opt/mp"
  local here = sh("realpath --relative-to=. " .. build):match "%S+"
  sh("env -u MAKEFLAGS -u MFLAGS make -s BUILD=" .. here .. " install DESTDIR=" .. root .. " PREFIX=/opt/mp")
  run.write(root .. "/main.c", program)
  run.write(root .. "/main.cc", program)

  -- The installation lies below DESTDIR for now: what its pkg-config files say, with that in front.
  local has_pkg_config = os.execute "command -v pkg-config >/dev/null"
  local function pc(what)
    if not has_pkg_config then -- the same by hand
      local text = run.read(prefix .. "/lib/pkgconfig/mp.pc")
      if what:find "only%-other" then return "-pthread" end
      local value = text:match(what == "--cflags" and "Cflags: ([^\n]*)" or "Libs: ([^\n]*)")
      return (value:gsub("%${libdir}", prefix .. "/lib"):gsub("%${includedir}", prefix .. "/include"))
    end
    return (sh("PKG_CONFIG_PATH=" .. prefix .. "/lib/pkgconfig pkg-config " .. what .. " mp"):gsub("/opt/mp", prefix):gsub("%s+$", ""))
  end
  local strict = " -Wall -Wextra -pedantic -Werror "
  local want = "abcabc 3\nDONE\n"
  local elsewhere = run.tmpdir()

  -- With a PATH without mprun, in another folder: the helper is found by where the library is.
  local function runs(name)
    local r = run.command({ root .. "/" .. name }, { cwd = elsewhere, env = { PATH = "/usr/bin:/bin" }, timeout = 60 })
    assert.equal(want, r.both)
    assert.equal(0, r.status)
  end

  for _, cc in ipairs { "gcc -std=c99", "gcc -std=c11", "clang -std=c11" } do
    if os.execute("command -v " .. cc:match "%S+" .. " >/dev/null") then
      it("is built by " .. cc .. " with the shared library, and runs", function()
        local name = cc:gsub("%W", "_")
        sh(cc .. strict .. pc "--cflags" .. " -o " .. root .. "/" .. name .. " " .. root .. "/main.c " .. pc "--libs" .. " -Wl,-rpath," .. prefix .. "/lib")
        runs(name)
      end)
    end
  end
  for _, cc in ipairs { "g++", "clang++" } do
    if os.execute("command -v " .. cc .. " >/dev/null") then
      it("may be C++ (" .. cc .. ")", function()
        local name = cc:gsub("%W", "_")
        sh(cc .. strict .. pc "--cflags" .. " -o " .. root .. "/" .. name .. " " .. root .. "/main.cc " .. pc "--libs" .. " -Wl,-rpath," .. prefix .. "/lib")
        runs(name)
      end)
    end
  end
  it("is built with the static library, and runs beside the helper", function()
    sh("gcc" .. strict .. pc "--cflags" .. " -o " .. prefix .. "/bin/static " .. root .. "/main.c " .. prefix .. "/lib/libmp.a " ..
       pc "--static --libs-only-other" .. " -lseccomp -lssl -lcrypto -lm -ldl")
    assert.not_matches("libmp", sh("ldd " .. prefix .. "/bin/static"))
    runs("opt/mp/bin/static")
  end)
  it("is told when there is no helper", function()
    sh("gcc" .. strict .. pc "--cflags" .. " -o " .. elsewhere .. "/alone " .. root .. "/main.c " .. prefix .. "/lib/libmp.a " ..
       pc "--static --libs-only-other" .. " -lseccomp -lssl -lcrypto -lm -ldl")
    local r = run.command({ elsewhere .. "/alone" }, { cwd = elsewhere, env = { PATH = "/usr/bin:/bin" } })
    assert.equal(1, r.status)
    assert.matches("^worker: spawn needs the program mprun", r.both)
  end)
  it("with a Lua state of its own shares objects with its scripts, which start processes of their own", function()
    run.write(root .. "/lua.c", [[
#include <lauxlib.h>
#include <lualib.h>
#include <mplua.h>
#include <stdio.h>

int main (void) {
  lua_State *L = luaL_newstate();
  mp_object *queue;
  char text[16];
  size_t size = sizeof text;
  luaL_openlibs(L);
  luaL_requiref(L, "mp", luaopen_mp, 0);
  if (mp_queue_new(NULL, &queue) != 0) return 1;
  mplua_push(L, queue);
  lua_setglobal(L, "queue");
  if (luaL_dostring(L, "local mp = require 'mp'\n"
                       "local p = mp.Process { target = function(q) q:put('from afar') end, args = { queue } }\n"
                       "p:start() p:join()\n"
                       "print(p.exitcode, mp.get_start_method())")) {
    puts(lua_tostring(L, -1));
    return 1;
  }
  if (mp_queue_get_string(queue, text, &size, mp_deadline(20)) != 0) return 1;
  printf("%.*s\n", (int)size, text);
  lua_getglobal(L, "queue");
  printf("%d\n", mplua_check(L, -1) == queue);
  lua_close(L);
  mp_release(queue);
  return 0;
}
]])
    sh("gcc" .. strict .. pc "--cflags" .. " -I/usr/include/lua5.4 -o " .. prefix .. "/bin/lua-host " .. root .. "/lua.c " .. prefix ..
       "/lib/libmplua.a -pthread -llua5.4 -lseccomp -lssl -lcrypto -lm -ldl")
    local r = run.command({ prefix .. "/bin/lua-host" }, { cwd = elsewhere, env = { PATH = "/usr/bin:/bin" }, timeout = 60 })
    assert.equal("0\tspawn\nfrom afar\n1\n", r.both)
  end)
  it("has no symbol of ours that does not begin with mp_", function()
    local names = sh("nm -g --defined-only --format=posix " .. prefix .. "/lib/libmp.a | grep -v ':$' | cut -d' ' -f1")
    for name in names:gmatch "%S+" do assert.matches("^mp_", name) end
  end)
end)
