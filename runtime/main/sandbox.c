/* sandbox.c -- mprun --sandbox and --sandbox-learn: this process becomes the warden of a copy of itself, in which the script runs.
** The work is done by lua/mp/sandbox.lua (core.mprun_sandbox).
*/
#include <lauxlib.h>

#include "main/hooks.h"
#include "mplua.h"

int mprun_sandbox (lua_State *L, const mprun_run *run, int *status) {
  luaL_requiref(L, "mp", luaopen_mp, 0);
  lua_getfield(L, -1, "sandbox"); /* which opens it */
  lua_pop(L, 2);
  lua_getfield(L, LUA_REGISTRYINDEX, "mp.core");
  lua_getfield(L, -1, "mprun_sandbox");
  lua_pushstring(L, run->policy);
  lua_pushboolean(L, run->learn);
  lua_call(L, 2, 1);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 2);
    return MPRUN_GO_ON;
  }
  *status = (int)lua_tointeger(L, -1);
  lua_pop(L, 2);
  return MPRUN_ENDED;
}
