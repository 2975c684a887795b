/* l_codec.c -- mp.register and kin, and the private core.encode, core.decode, core.measure for errors.lua, explain.lua, tests and managers. */
#include <lauxlib.h>
#include <string.h>

#include "bind/codec_state.h"
#include "bind/udata.h"
#include "wire/wire.h"

/* core.encode(v [, root]) -> string; a value with handles is refused. */
static int l_encode (lua_State *L) {
  struct mpl_parcel *p = mpl_parcel_out(L);
  struct mpl_encoding how = {NULL, luaL_optstring(L, 2, NULL), NULL, 0};
  lua_settop(L, 2);
  mpl_encode_as(L, 1, p, &how);
  if (p->nfds > 0) return luaL_error(L, "a message with handles is more than a string");
  lua_pushlstring(L, (const char *)p->data, p->size);
  return 1;
}

/* core.decode(s [, trusted]) -> v */
static int l_decode (lua_State *L) {
  struct mpl_parcel *p = mpl_parcel_in(L);
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  if (mpl_parcel_reserve(p, n, 0) != 0) return luaL_error(L, "not enough memory");
  if (n > 0) memcpy(p->data, s, n);
  p->size = n;
  mpl_decode(L, p, lua_toboolean(L, 2) ? MPL_TRUST_CODE : 0u);
  return 1;
}

/* core.measure(v [, root]) -> bytes, items, handles; raises as encode does */
static int l_measure (lua_State *L) {
  struct mpl_parcel *p = mpl_parcel_out(L);
  struct mpl_encoding how = {"explain", luaL_optstring(L, 2, NULL), NULL, 0};
  lua_settop(L, 2);
  mpl_encode_as(L, 1, p, &how);
  lua_pushinteger(L, (lua_Integer)p->size);
  lua_pushinteger(L, (lua_Integer)mpi_wire_count(p->data, p->size));
  lua_pushinteger(L, p->nfds > 0 ? (lua_Integer)mpi_wire_handles(p->data, p->size) : 0);
  return 3;
}

static void optional_function (lua_State *L, const char *name, int at) {
  int t = lua_getfield(L, 3, name);
  if (t != LUA_TNIL && t != LUA_TFUNCTION) luaL_error(L, "register: option '%s' must be a function, not a %s", name, luaL_typename(L, -1));
  lua_rawseti(L, -2, at);
}

/* mp.register(name, metatable [, {dump=, load=}]) */
static int l_register (lua_State *L) {
  size_t len;
  luaL_checktype(L, 1, LUA_TSTRING);
  (void)lua_tolstring(L, 1, &len);
  luaL_argcheck(L, len > 0 && len < 256, 1, "a name of 1 to 255 bytes expected");
  luaL_checktype(L, 2, LUA_TTABLE);
  if (lua_isnoneornil(L, 3)) {
    lua_settop(L, 2);
    lua_newtable(L);
  }
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 3);
  for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1))
    if (lua_type(L, -2) != LUA_TSTRING || (strcmp(lua_tostring(L, -2), "dump") != 0 && strcmp(lua_tostring(L, -2), "load") != 0))
      return luaL_error(L, "register: unknown option '%s'", luaL_tolstring(L, -2, NULL));
  lua_createtable(L, 4, 0);
  lua_pushvalue(L, 1);
  lua_rawseti(L, 4, 1);
  lua_pushvalue(L, 2);
  lua_rawseti(L, 4, 2);
  optional_function(L, "dump", 3);
  optional_function(L, "load", 4);
  mpl_codec_table(L, MPL_C_CLASSES);
  mpl_codec_table(L, MPL_C_CLASS_OF);
  lua_pushvalue(L, 1); /* the class that had this name has it no longer */
  if (lua_rawget(L, 5) == LUA_TTABLE) {
    (void)lua_rawgeti(L, -1, 2);
    lua_pushnil(L);
    lua_rawset(L, 6);
  }
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 4);
  lua_rawset(L, 5);
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 4);
  lua_rawset(L, 6);
  lua_pushboolean(L, 1);
  return 1;
}

/* core.is_kind(v): is it one of the kinds of mp.Error? */
static int l_is_kind (lua_State *L) {
  static const char *const kinds[] = {"error", "died", "timeout", "encode", "sandbox", "memory", "cpu", "wall", NULL};
  const char *s = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : "";
  int i;
  for (i = 0; kinds[i] != NULL && strcmp(kinds[i], s) != 0;) i++;
  lua_pushboolean(L, kinds[i] != NULL);
  return 1;
}

static int l_is_error (lua_State *L) {
  luaL_checkany(L, 1);
  lua_settop(L, 2);
  if (!lua_isnil(L, 2)) {
    luaL_checktype(L, 2, LUA_TSTRING);
    lua_pushcfunction(L, l_is_kind);
    lua_pushvalue(L, 2);
    lua_call(L, 1, 1);
    if (!lua_toboolean(L, -1)) return luaL_error(L, "is_error: there is no kind '%s'", lua_tostring(L, 2));
    lua_settop(L, 2);
  }
  if (mpl_iserror(L, 1)) {
    lua_pushliteral(L, "kind");
    (void)lua_rawget(L, 1);
    lua_pushboolean(L, lua_type(L, 2) != LUA_TSTRING || lua_rawequal(L, -1, 2));
  } else {
    lua_pushboolean(L, 0);
  }
  return 1;
}

/* core.script_line() -> "script.lua:12: ", the first line up the stack that is not of our own Lua files */
static int l_script_line (lua_State *L) {
  mpl_push_where(L);
  return 1;
}

static const luaL_Reg core_functions[] = {{"script_line", l_script_line}, {"encode", l_encode}, {"decode", l_decode}, {"measure", l_measure}, {"is_kind", l_is_kind},
                                          {NULL, NULL}};
static const luaL_Reg mp_functions[] = {{"register", l_register}, {"is_error", l_is_error}, {NULL, NULL}};

extern int mpl_open_codec (lua_State *L);
int mpl_open_codec (lua_State *L) { /* core, mp */
  (void)mpl_codec_of(L);
  luaL_setfuncs(L, mp_functions, 0);
  mpl_codec_set(L, MPL_C_MP, -1);
  mpl_codec_set(L, MPL_C_CORE, -2);
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, core_functions, 0);
  (void)luaL_newmetatable(L, "mp.Error");
  lua_setfield(L, -2, "error_metatable");
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, "mp.core"); /* private: specs reach it by debug.getregistry() */
  lua_pop(L, 1);
  return 0;
}
