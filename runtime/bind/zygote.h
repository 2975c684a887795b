/* zygote.h -- the Lua side of a process made by the zygote (proc/spawn.h).
** What     the helper calls mpl_zygote_main with a Lua state in which the libraries and mp are open and nothing has run. The zygote never
**          returns from it; each new process runs its task in a copy of that state and ends.
** Signals  `interruptible` installs the helper's own SIGINT handler in the new process; may be NULL.
*/
#ifndef MPL_ZYGOTE_H
#define MPL_ZYGOTE_H

#include <lua.h>

#include "mp.h"

_Noreturn void mpl_zygote_main (lua_State *L, void (*interruptible) (void));

int mpl_environment (lua_State *L); /* Lua: environment() -> list of "K=V"; environment(list) sets it */

/* Pushes the value of a task or report and takes its descriptors and memory. Raises what mpl_decode raises. */
struct mpi_record;
void mpl_decode_report (lua_State *L, struct mpi_record *r, unsigned flags);

#endif
