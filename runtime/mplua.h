/* mplua.h -- the Lua side, for C hosts that have a Lua state (5.4).
** luaopen_mp gives the table `mp` and sets no global. mplua_push and mplua_check move handles between C and Lua.
*/
#ifndef MPLUA_H
#define MPLUA_H

#include <lua.h>

#include "mp.h"

#ifdef __cplusplus
extern "C" {
#endif

MP_API int luaopen_mp (lua_State *L);

/* Pushes the handle as userdata; the userdata has a reference of its own. May raise (memory). luaopen_mp must have run in this state. */
MP_API void mplua_push (lua_State *L, mp_object *o);

/* The handle at idx, whose userdata keeps it alive; raises a Lua argument error if it is no open handle. */
MP_API mp_object *mplua_check (lua_State *L, int idx);

#ifdef __cplusplus
}
#endif
#endif
