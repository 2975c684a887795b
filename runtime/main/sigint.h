/* sigint.h -- SIGINT becomes the error "interrupted!" in whatever Lua code runs.
** How       A signal handler may set hooks, but only of Lua states it knows, and which coroutine runs is not public. So the allocator
**           tells: it is told when a thread is made, and keeps all of them in a list; the handler sets the hook on each. The
**           first to run an instruction takes the hooks away (those that scripts had set come back) and raises.
** Cost      40 bytes a coroutine; nothing on resume; one test of a bit when memory is given back.
** Memory    the list's links stand before each thread's block, which is told from others by its alignment (8 modulo 16).
** Threads   one state a process, run by its main thread; a signal that lands in another thread is passed on.
** Fork      the child inherits handler, list and hooks, all still right.
** Again     a second SIGINT while one is pending changes nothing; but one that comes a second after the first, or the
**           twentieth, ends the process as the signal would have: the code that runs is C and does not look.
** Not seen  Lua states that others make, and code in which Lua runs no hooks (finalizers, other hooks).
*/
#ifndef MPI_SIGINT_H
#define MPI_SIGINT_H

#include <lua.h>

/* Once, right after the state was made and before it has coroutines. */
void mpi_sigint_watch (lua_State *L);

/* From 1 to 0: what is allocated goes into the nest (main/small.h) while there is room. Threads and stacks are what it is for. */
void mpi_sigint_nest (int on);

/* From begin to end SIGINT is an error; outside it is the default. Not nested. */
void mpi_sigint_begin (void);
void mpi_sigint_end (void);

/* Between them no SIGINT is seen: for what must not be left half done. Main thread; not nested. */
void mpi_sigint_hold (void);
void mpi_sigint_release (void);

#endif
