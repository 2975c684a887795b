/* module.c -- mp in the interpreter: there from the start, opened when it is first touched.
**
** Opening makes some twenty metatables and compiles the Lua part, which takes as long as all the rest of the start. So the
** module's table is empty at first and its metatable opens it: luaopen_mp fills this very table, which it finds in the registry, and
** sets its own metatable. `require "mp"` gives the table without opening it; rawget and next see it empty until then.
*/
#include <lauxlib.h>

#include "main/mprun.h"
#include "main/sigint.h"
#include "mplua.h"

/* Opens mp in its table at index 1. Neither an interruption nor a script's hook gets in between: half of a module is of no use. */
static void open_now (lua_State *L) {
  lua_Hook hook;
  int mask, count, status, collects;
  if (!lua_getmetatable(L, 1)) return;
  mpi_sigint_hold();
  hook = lua_gethook(L);
  mask = lua_gethookmask(L);
  count = lua_gethookcount(L);
  lua_sethook(L, NULL, 0, 0);
  lua_pushnil(L); /* the Lua part may ask for fields that are not there */
  lua_setmetatable(L, 1);
  collects = lua_gc(L, LUA_GCISRUNNING);
  lua_gc(L, LUA_GCSTOP); /* nothing of this is garbage */
  lua_pushcfunction(L, luaopen_mp);
  status = lua_pcall(L, 0, 0, 0);
  if (collects) lua_gc(L, LUA_GCRESTART);
  if (status != LUA_OK) {
    lua_insert(L, -2);
    lua_setmetatable(L, 1);
  }
  lua_sethook(L, hook, mask, count);
  mpi_sigint_release();
  if (status != LUA_OK) lua_error(L);
  lua_pop(L, 1);
}

static int l_index (lua_State *L) {
  open_now(L);
  lua_settop(L, 2);
  (void)lua_gettable(L, 1); /* now with the metatable that luaopen_mp has set */
  return 1;
}

static int l_newindex (lua_State *L) {
  open_now(L);
  lua_settop(L, 3);
  lua_settable(L, 1);
  return 0;
}

static int l_pairs (lua_State *L) { /* as that of the opened one */
  open_now(L);
  if (!luaL_getmetafield(L, 1, "__pairs")) return luaL_error(L, "mp has no fields");
  lua_pushvalue(L, 1);
  lua_call(L, 1, 3);
  return 3;
}

static int l_tostring (lua_State *L) {
  open_now(L);
  (void)luaL_tolstring(L, 1, NULL);
  return 1;
}

static const luaL_Reg opening[] = {{"__index", l_index}, {"__newindex", l_newindex}, {"__pairs", l_pairs}, {"__tostring", l_tostring}, {NULL, NULL}};

/* require "mp" after package.loaded.mp was cleared: the same table. */
static int l_preload (lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "mp.module");
  return 1;
}

void mpi_module_open (lua_State *L, int now) {
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, "mp.module");
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, "mp");
  lua_pop(L, 1);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, l_preload);
  lua_setfield(L, -2, "mp");
  lua_pop(L, 1);
  lua_pushvalue(L, -1);
  lua_setglobal(L, "mp");
  if (now) {
    lua_pushcfunction(L, luaopen_mp);
    lua_call(L, 0, 0);
  }
  else {
    luaL_newlib(L, opening);
    lua_setmetatable(L, -2);
  }
  lua_pop(L, 1);
}
