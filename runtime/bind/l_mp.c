/* l_mp.c -- luaopen_mp: puts the module together from the types' openers and the embedded Lua files. */
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bind/codec_state.h"
#include "bind/embed.h"
#include "bind/later.h"
#include "bind/udata.h"
#include "mplua.h"

/* One opener a file; weak, so that a build without one still links. Called with `mp` at the top of the stack and `core` below it. */
#define OPENER(n) extern int mpl_open_##n(lua_State *L) __attribute__((weak));
#define OPENERS(X) \
  X(lock) X(semaphore) X(condition) X(event) X(barrier) X(queue) X(pipe) X(value) X(array) X(dict) X(list) X(fd) \
  X(codec) X(process) X(thread) X(wait) X(pool) X(sandbox) X(manager) X(link)
OPENERS(OPENER)
#undef OPENER

static const char module_key = 0, load_key = 0;

static int l_now (lua_State *L) {
  lua_pushnumber(L, (lua_Number)mp_now() / 1e9);
  return 1;
}

static int l_time (lua_State *L) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_REALTIME, &ts);
  lua_pushnumber(L, (lua_Number)ts.tv_sec + (lua_Number)ts.tv_nsec / 1e9);
  return 1;
}

static int l_sleep (lua_State *L) {
  int64_t deadline;
  int rc;
  luaL_checknumber(L, 1);
  deadline = mpl_deadline(L, 1);
  MPL_WAIT(L, rc, mp_sleep(deadline));
  return mpl_result(L, "sleep", rc);
}

static int l_cpu_count (lua_State *L) {
  lua_pushinteger(L, mp_cpu_count());
  return 1;
}

static int l_getpid (lua_State *L) {
  lua_pushinteger(L, getpid());
  return 1;
}

static const luaL_Reg functions[] = {{"now", l_now},           {"time", l_time},     {"sleep", l_sleep},
                                     {"cpu_count", l_cpu_count}, {"getpid", l_getpid}, {NULL, NULL}};

/* core.methods[name]: the method table of a type, for Lua files that add to it. */
static int l_methods (lua_State *L) {
  if (luaL_getmetatable(L, luaL_checkstring(L, 2)) != LUA_TTABLE) return luaL_error(L, "no type '%s'", lua_tostring(L, 2));
  lua_getfield(L, -1, "methods");
  return 1;
}

/* Is the Lua that we run in the one whose bytecode we have? A host may keep its lua_ident to itself. */
extern const char lua_ident[] __attribute__((weak));
static int knows_code (void) {
  const char *host = lua_ident;
  return host != NULL && strcmp(host, mpl_embed_ident) == 0;
}

static int load_embedded (lua_State *L, const struct mpl_embed *e, const char *name) {
  if (knows_code() && luaL_loadbufferx(L, e->code, (size_t)(e->code_end - e->code), name, "b") == LUA_OK) return LUA_OK;
  return luaL_loadbufferx(L, e->text, (size_t)(e->end - e->text), name, "t");
}

/* core.load(name): runs lua/mp/<name>.lua with (mp, core). Upvalue: mp and core. */
static int l_load (lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  const struct mpl_embed *e;
  for (e = mpl_embedded; e->name != NULL; e++) {
    if (strcmp(e->name, name) != 0) continue;
    lua_pushfstring(L, "@mp/%s.lua", name);
    if (load_embedded(L, e, lua_tostring(L, -1)) != LUA_OK) return lua_error(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_call(L, 2, 1);
    return 1;
  }
  return luaL_error(L, "no embedded file '%s'", name);
}

/* ---- what is read when it is first asked for ---- */

static const char later_key = 0;

/* core.later(names): the fields of mp and core that a file will add, name -> file. */
static int l_later (lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &later_key);
  return 0;
}

/* Neither an interruption nor a hook gets in between: half of a file is of no use. */
static void load_whole (lua_State *L, const char *file) {
  lua_Hook hook = lua_gethook(L);
  int mask = lua_gethookmask(L), count = lua_gethookcount(L), status;
  sigset_t all, old;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &old);
  lua_sethook(L, NULL, 0, 0);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &load_key);
  lua_pushstring(L, file);
  status = lua_pcall(L, 1, 0, 0);
  lua_sethook(L, hook, mask, count);
  (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (status != LUA_OK) lua_error(L);
  mpl_names_changed(L);
}

/* The file at the top adds nothing more: what it asks for itself in vain is not there. */
static void forget (lua_State *L, int later) {
  int file = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, later);) {
    int same = lua_rawequal(L, -1, file);
    lua_pop(L, 1);
    if (!same) continue;
    lua_pushvalue(L, -1);
    lua_pushnil(L);
    lua_rawset(L, later);
  }
}

int mpl_later (lua_State *L, const char *field) {
  int top = lua_gettop(L), found = 0;
  luaL_checkstack(L, 10, NULL);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &later_key) == LUA_TTABLE) {
    lua_pushstring(L, field);
    found = lua_rawget(L, top + 1) == LUA_TSTRING;
    if (found) {
      forget(L, top + 1);
      load_whole(L, lua_tostring(L, top + 2));
    }
  }
  lua_settop(L, top);
  return found;
}

/* core.load_all() */
static int l_load_all (lua_State *L) {
  lua_settop(L, 0);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &later_key) != LUA_TTABLE) return 0;
  while (lua_pushnil(L), lua_next(L, 1)) {
    lua_pop(L, 1);
    (void)mpl_later(L, lua_tostring(L, -1));
    lua_settop(L, 1);
  }
  return 0;
}

/* The __index of core: what is not there is nil. */
static int l_core_field (lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING || !mpl_later(L, lua_tostring(L, 2))) return 0;
  lua_pushvalue(L, 2);
  lua_rawget(L, 1);
  return 1;
}

/* The __index of mp: what is not there is an error that names it. */
static int l_field (lua_State *L) {
  if (l_core_field(L) == 1 && !lua_isnil(L, -1)) return 1;
  mpl_push_where(L);
  (void)luaL_tolstring(L, 2, NULL);
  lua_pushfstring(L, "%smp has no field '%s'", lua_tostring(L, -2), lua_tostring(L, -1));
  return lua_error(L);
}

static int l_next (lua_State *L) {
  lua_settop(L, 2);
  return lua_next(L, 1) ? 2 : 0;
}

static int l_pairs (lua_State *L) {
  lua_pushcfunction(L, l_load_all);
  lua_call(L, 0, 0);
  lua_pushcfunction(L, l_next);
  lua_pushvalue(L, 1);
  lua_pushnil(L);
  return 3;
}

/* tostring(mp): its version, and what is in it. */
static int l_tostring (lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "mp.core");
  lua_getfield(L, -1, "about");
  lua_call(L, 0, 1);
  return 1;
}

static const luaL_Reg fields_of_mp[] = {{"__index", l_field}, {"__pairs", l_pairs}, {"__tostring", l_tostring}, {NULL, NULL}};
static const luaL_Reg fields_of_core[] = {{"__index", l_core_field}, {NULL, NULL}};
static const luaL_Reg loaders[] = {{"later", l_later}, {"load_all", l_load_all}, {NULL, NULL}};

/* ---- all of it ---- */

static void open_types (lua_State *L) {
#define CALL(n) if (mpl_open_##n != NULL) (void)mpl_open_##n(L);
  OPENERS(CALL)
#undef CALL
}

int luaopen_mp (lua_State *L) {
  luaL_checkversion(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &module_key) == LUA_TTABLE) return 1;
  lua_pop(L, 1);
  lua_newtable(L); /* core */
  lua_newtable(L);
  lua_newtable(L);
  lua_pushcfunction(L, l_methods);
  lua_setfield(L, -2, "__index");
  lua_setmetatable(L, -2);
  lua_setfield(L, -2, "methods");
  if (lua_getfield(L, LUA_REGISTRYINDEX, "mp.module") != LUA_TTABLE) { /* the interpreter's, which opens it when first touched */
    lua_pop(L, 1);
    lua_newtable(L); /* mp */
  }
  luaL_setfuncs(L, functions, 0);
  lua_pushstring(L, MP_VERSION);
  lua_setfield(L, -2, "_VERSION");
  lua_pushvalue(L, -1);
  lua_pushvalue(L, -3);
  lua_pushcclosure(L, l_load, 2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &load_key);
  lua_setfield(L, -3, "load");
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, loaders, 0);
  lua_pushboolean(L, knows_code());
  lua_setfield(L, -2, "compiled");
  luaL_newlib(L, fields_of_core);
  lua_setmetatable(L, -2);
  lua_pop(L, 1);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &module_key);
  open_types(L);
  lua_getfield(L, -2, "load");
  lua_pushliteral(L, "init");
  lua_call(L, 1, 0);
  luaL_newlib(L, fields_of_mp);
  lua_setmetatable(L, -2);
  return 1;
}
