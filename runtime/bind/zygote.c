#include "bind/zygote.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "bind/child.h"
#include "bind/codec.h"
#include "mplua.h"
#include "proc/spawn.h"
#include "sandbox/jail.h"

extern char **environ;

void mpl_decode_report (lua_State *L, struct mpi_record *r, unsigned flags) {
  struct mpl_parcel *in = mpl_parcel_in(L);
  if (mpl_parcel_reserve(in, r->size, r->nfds) != 0) {
    mpi_record_fini(r);
    luaL_error(L, "not enough memory");
  }
  if (r->size > 0) memcpy(in->data, r->data, r->size);
  in->size = r->size;
  if (r->nfds > 0) memcpy(in->fds, r->fds, sizeof(int) * (size_t)r->nfds);
  in->nfds = r->nfds;
  r->nfds = 0; /* they are the parcel's now */
  mpi_record_fini(r);
  mpl_decode(L, in, flags);
}

/* The copies of one state would all draw the same numbers. */
static void seed (lua_State *L) {
  lua_Integer n[2] = {0, 0};
  if (getrandom(n, sizeof n, GRND_NONBLOCK) != sizeof n) n[0] = getpid();
  lua_getglobal(L, LUA_MATHLIBNAME);
  lua_getfield(L, -1, "randomseed");
  lua_pushinteger(L, n[0]);
  lua_pushinteger(L, n[1]);
  lua_call(L, 2, 0);
  lua_pop(L, 1);
}

/* Stack: the task, as report (light). Gives the exit code. */
static int l_work (lua_State *L) {
  struct mpi_record *task = lua_touserdata(L, 1);
  seed(L);
  lua_getfield(L, LUA_REGISTRYINDEX, "mp.core");
  lua_getfield(L, -1, "arriving");
  lua_call(L, 0, 0);
  lua_getfield(L, -1, "spawned");
  mpl_decode_report(L, task, MPL_TRUST_CODE);
  lua_call(L, 1, 1);
  return 1;
}

void mpl_zygote_main (lua_State *L, void (*interruptible) (void)) {
  mpi_record task;
  int code = 1;
  (void)mpi_proc_init();
  mpi_jail_warm();
  (void)lua_gc(L, LUA_GCSTOP);
  lua_getfield(L, LUA_REGISTRYINDEX, "mp.core"); /* read once, for all copies */
  lua_getfield(L, -1, "load_all");
  lua_call(L, 0, 0);
  lua_settop(L, 0);
  (void)lua_gc(L, LUA_GCRESTART);
  (void)lua_gc(L, LUA_GCINC, 0, 0, 0); /* and again generational: all that is there now is old, and left in peace by the copies */
  (void)lua_gc(L, LUA_GCGEN, 0, 0);
  memset(&task, 0, sizeof task);
  if (mpi_zygote_serve(MPI_ZYGOTE_FD, &task) != 0) _exit(1);
  if (interruptible != NULL) interruptible();
  mpl_child_hold(); /* as the zygote did: until the target runs */
  mpl_child_signals(L);
  lua_pushcfunction(L, l_work);
  lua_pushlightuserdata(L, &task);
  if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
    code = (int)lua_tointeger(L, -1);
  } else {
    const char *text = luaL_tolstring(L, -1, NULL);
    (void)fprintf(stderr, "mp: a spawned process could not begin: %s\n", text);
    lua_pop(L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, "mp.core");
    lua_getfield(L, -1, "not_begun");
    lua_pushvalue(L, -3);
    (void)lua_pcall(L, 1, 0, 0);
  }
  mpl_child_let();
  mpi_child_exit(code);
}

int mpl_environment (lua_State *L) {
  int i;
  if (lua_isnoneornil(L, 1)) {
    lua_newtable(L);
    for (i = 0; environ != NULL && environ[i] != NULL; i++) {
      lua_pushstring(L, environ[i]);
      lua_rawseti(L, -2, i + 1);
    }
    return 1;
  }
  luaL_checktype(L, 1, LUA_TTABLE);
  (void)clearenv();
  for (i = 1; lua_rawgeti(L, 1, i) == LUA_TSTRING; i++) {
    const char *whole = lua_tostring(L, -1);
    const char *equals = strchr(whole, '=');
    if (equals != NULL) {
      lua_pushlstring(L, whole, (size_t)(equals - whole));
      (void)setenv(lua_tostring(L, -1), equals + 1, 1);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  return 0;
}
