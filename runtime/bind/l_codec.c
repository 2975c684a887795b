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

static const luaL_Reg core_functions[] = {{"encode", l_encode}, {"decode", l_decode}, {NULL, NULL}};

extern int mpl_open_codec (lua_State *L);
int mpl_open_codec (lua_State *L) { /* core, mp */
  (void)mpl_codec_of(L);
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, core_functions, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, "mp.core"); /* private: specs reach it by debug.getregistry() */
  lua_pop(L, 1);
  return 0;
}
