/* mprun.h -- what the files of the interpreter share.
** Lua       every function leaves the stack as it found it, unless it says what it pushes.
** Messages  go to stderr, after the program's name and a colon; none in interactive mode.
** Blocks    mpi_call and mpi_repl for as long as scripts and users like; SIGINT is an error inside mpi_call only.
*/
#ifndef MPI_MPRUN_H
#define MPI_MPRUN_H

#include <lua.h>

extern const char *mpi_progname; /* NULL: messages without a name */

void mpi_message (const char *text);

/* The function below its n arguments is called with SIGINT and traceback handled. The status; results or the message are pushed. */
int mpi_call (lua_State *L, int nargs, int nresults);

/* Prints and pops the message of a status that is not LUA_OK; gives the status. */
int mpi_report (lua_State *L, int status);

/* `mp` as a global and for require; with `now` zero it is opened when a script first touches it, which most scripts never do. */
void mpi_module_open (lua_State *L, int now);

void mpi_banner (void);

/* Reads, runs and prints until the end of the input. */
void mpi_repl (lua_State *L);

#endif
