/* zygote.h -- the Lua side of a process made by the zygote (proc/spawn.h).
** What     the helper calls mpl_zygote_main with a Lua state in which the libraries and mp are open and nothing has run. The zygote never
**          returns from it; each new process runs its task in a copy of that state and ends.
** Signals  `interruptible` installs the helper's own SIGINT handler in the new process; may be NULL.
*/
#ifndef MPL_ZYGOTE_H
#define MPL_ZYGOTE_H

#include <lua.h>

#include "mp.h"

struct mpi_record;

_Noreturn void mpl_zygote_main (lua_State *L, void (*interruptible) (void));

int mpl_environment (lua_State *L); /* Lua: environment() -> list of "K=V"; environment(list) sets it */

/* Copies an encoded message; its descriptors are duplicated. 0 or a negative code. */
struct mpl_parcel;
int mpl_record_from (const struct mpl_parcel *p, int kind, struct mpi_record *r);

/* Pushes the value of a task or report and takes its descriptors and memory. Raises what mpl_decode raises. */
void mpl_decode_report (lua_State *L, struct mpi_record *r, unsigned flags);

#endif
