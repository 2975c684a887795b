/* l_cells.h -- what the bindings of Value and Array share: scalars between Lua and C, and the lock beside the cells.
** Lock     user value 1 of the userdata, the companion: it travels with the object. An RLock of its own, the lock given as option, or nil.
** Errors   raised at the caller's line, naming the function.
*/
#ifndef MPL_CELLS_H
#define MPL_CELLS_H

#include "bind/l_sync.h"
#include "shm/value.h"

void mpl_push_scalar (lua_State *L, mp_scalar v);
/* What a Lua value is to a cell of that kind; raises if it is none. */
mp_scalar mpl_to_scalar (lua_State *L, int idx, const struct mpi_cells *c, const char *function);
char mpl_check_code (lua_State *L, int arg);

/* Constructor: pushes the option `lock` of the table at `opts` (nil or absent table: a new RLock; false: nil), and checks the other options. */
void mpl_push_lock_option (lua_State *L, int opts, const char *constructor);
int mpl_get_lock (lua_State *L);  /* obj:get_lock(); the object at 1 is checked */
int mpl_with_lock (lua_State *L, const char *type_name); /* obj:with(f, ...): calls f(obj, ...) */

int mpl_open_value (lua_State *L);
int mpl_open_array (lua_State *L);

#endif
