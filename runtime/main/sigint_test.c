#include "main/sigint.h"

#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "main/hooks.h"
#include "test/test.h"

static lua_State *new_state (void) {
  lua_State *L = luaL_newstate();
  CHECK(L != NULL);
  mpi_sigint_watch(L);
  luaL_openlibs(L);
  mpi_sigint_begin();
  return L;
}

/* True if the chunk was ended by an interruption, false if it returned; any other error fails the case. */
static int is_interrupted (lua_State *L, const char *chunk) {
  int status = luaL_dostring(L, chunk);
  if (status != LUA_OK && strstr(lua_tostring(L, -1), "interrupted!") == NULL) FAIL("%s", lua_tostring(L, -1));
  lua_settop(L, 0);
  return status != LUA_OK;
}

TEST("raises once for a signal that came while C ran") {
  lua_State *L = new_state();
  CHECK(!mprun_interrupt_pending());
  CHECK_EQ(raise(SIGINT), 0);
  CHECK_EQ(raise(SIGINT), 0);
  CHECK(mprun_interrupt_pending());
  CHECK(is_interrupted(L, "local x = 1"));
  CHECK(!mprun_interrupt_pending());
  CHECK(!is_interrupted(L, "for i = 1, 1000 do local x = i end"));
  lua_close(L);
}

TEST("sets the hook of every thread, and takes all away when one has raised") {
  lua_State *L = new_state();
  lua_State *before = lua_newthread(L), *meanwhile;
  CHECK_EQ(raise(SIGINT), 0);
  meanwhile = lua_newthread(L);
  CHECK(lua_gethook(L) != NULL);
  CHECK(lua_gethook(before) == lua_gethook(L));
  CHECK(lua_gethook(meanwhile) == lua_gethook(L));
  CHECK_EQ(luaL_loadstring(before, "local x = 1"), LUA_OK);
  CHECK_EQ(lua_pcall(before, 0, 0, 0), LUA_ERRRUN);
  CHECK_STR(lua_tostring(before, -1), "interrupted!");
  CHECK(lua_gethook(L) == NULL);
  CHECK(lua_gethook(before) == NULL);
  CHECK(lua_gethook(meanwhile) == NULL);
  lua_close(L);
}

TEST("forgets at the end what was not raised") {
  lua_State *L = new_state();
  CHECK_EQ(raise(SIGINT), 0);
  mpi_sigint_end();
  CHECK(!mprun_interrupt_pending());
  CHECK(lua_gethook(L) == NULL);
  mpi_sigint_begin();
  CHECK(!is_interrupted(L, "local x = 1"));
  lua_close(L);
}

static void *sleep_long (void *arg) {
  (void)arg;
  for (;;) (void)sleep(100);
  return NULL;
}

TEST("passes on a signal that lands in another thread") {
  lua_State *L = new_state();
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, NULL, sleep_long, NULL), 0);
  CHECK_EQ(pthread_kill(thread, SIGINT), 0);
  CHECK(is_interrupted(L, "while true do os.time() end")); /* the thread sanitizer delivers signals in calls that it knows only */
  lua_close(L);
}

static void raise_often (void *arg) {
  int i;
  (void)arg;
  for (i = 0; i < 25; i++) (void)raise(SIGINT);
}

TEST("ends the process when many signals find nobody who looks") {
  lua_State *L = new_state();
  CHECK_EQ(wait_child(fork_child(raise_often, NULL)), -SIGINT);
  lua_close(L);
}

static void send_often (void *arg) {
  pid_t to = *(pid_t *)arg;
  for (;;) {
    (void)usleep(1000);
    if (kill(to, SIGINT) != 0) return;
  }
}

TEST("survives signals at any instant while coroutines come and go", .limit = 30) {
  static const char chunk[] =
    "local kept = {}\n"
    "for i = 1, 300 do\n"
    "  local co = coroutine.wrap(function()\n"
    "    local x <close> = setmetatable({}, { __close = function() end })\n"
    "    for j = 1, 3 do coroutine.yield(j) end\n"
    "  end)\n"
    "  co() co()\n"
    "  kept[i % 7 + 1] = co\n"
    "  if i % 100 == 0 then collectgarbage('step') end\n"
    "end";
  lua_State *L = new_state();
  pid_t self = getpid();
  pid_t sender = fork_child(send_often, &self);
  int64_t end = test_clock_ms() + 1000;
  int times = 0;
  while (test_clock_ms() < end) times += is_interrupted(L, chunk);
  CHECK_EQ(kill(sender, SIGKILL), 0);
  CHECK(times > 10);
  mpi_sigint_end();
  CHECK(!is_interrupted(L, chunk));
  lua_close(L);
}
