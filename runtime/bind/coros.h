/* coros.h -- the Lua threads of a state that somebody else made, for a signal handler that must reach whichever of them runs.
** Why      Lua has no call for it: lua_sethook is for one Lua thread, and a coroutine that was made before has its own hook. mprun and
**          mp.Thread keep lists by their allocators from the start (main/sigint.c, l_thread.c); a host's state is as old as it is.
** How      Lua links all its objects in a list that begins in the state's global part. Where, is found out by looking, not assumed: the
**          word that holds the newest object's address, whenever a new one is made. Looking is done by the kernel, so that a wrong guess
**          is an answer and not a fault. If nothing fits, there are no coroutines to be seen, and only the main thread is reached.
** Threads  the state's own. each: from its signal handlers too.
** Fork     what was learnt holds in the child.
*/
#ifndef MPL_COROS_H
#define MPL_COROS_H

#include <lua.h>

/* Learns, for this state; again is cheap. From then on a new Lua thread's memory is zeroed before Lua knows of it. */
void mpl_coros_learn (lua_State *L);

/* Every Lua thread but the main one, finished and unreachable ones among them. */
void mpl_coros_each (void (*f) (lua_State *l));

#endif
