/* later.h -- the Lua files that are read when one of their fields is first asked for (lua/mp/init.lua says which).
** What     fields of `mp` and of `core`; reading one that is not there yet, by Lua code or by name in a message, reads its file.
** Signals  all wait while a file is read, and no hook runs: it is read whole or not at all.
** Threads  each Lua state for itself. The zygote reads everything, once for all its copies.
** Errors   a Lua error, of memory: the field is asked for in vain from then on.
*/
#ifndef MPL_LATER_H
#define MPL_LATER_H

#include <lua.h>

/* Is that a field which a file adds that was not read yet? Then it is read: 1. */
int mpl_later (lua_State *L, const char *field);

#endif
