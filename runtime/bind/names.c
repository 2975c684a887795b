/* names.c -- what travels by name: functions and tables of loaded modules. */
#include <lauxlib.h>

#include "bind/codec_state.h"

int mpl_names_scan (lua_State *L, struct mpl_codec *c) {
  (void)L, (void)c;
  return 0;
}
int mpl_names_push (lua_State *L, struct mpl_codec *c, int idx) {
  (void)L, (void)c, (void)idx;
  return 0;
}
void mpl_names_find (lua_State *L, const unsigned char *data, size_t size, int load) {
  (void)data, (void)size, (void)load;
  lua_pushnil(L);
}
