/* child.h -- Lua code that runs in a child: under a message handler, and interruptible.
** What     mpl_child_run runs a function on a Lua thread of its own, so that the traceback ends where the child began.
** Signals  mpl_child_signals installs a SIGINT handler; only for processes and threads that mp made itself. It notes who sent
**          the signal, lets mprun's handler do its work where the child came from mprun, and else sets the hook of the main state, of
**          the thread that mpl_child_run runs, and of every coroutine (coros.h).
** Threads  the handler touches Lua from the main thread only; a SIGINT that lands elsewhere is passed on.
** Fork     a forked child calls mpl_child_signals again.
*/
#ifndef MPL_CHILD_H
#define MPL_CHILD_H

#include <lua.h>
#include <signal.h>

void mpl_child_signals (lua_State *L);

/* In a child, of its only thread: SIGINT waits. It comes while mpl_child_run or mpl_child_call runs a function, under its
** protection, and else waits. let: as it was before. */
void mpl_child_hold (void);
void mpl_child_let (void);

/* In a forked child: SIGINT waits already; what was blocked before. */
void mpl_child_held (const sigset_t *before);

/* Pushes a Lua thread for mpl_child_call, empty but for its message handler: the state's own one, again and again, while nothing runs on it. It is made
** before the fork, by the parent: what the child runs lies in few pages then, which need not be copied from among all others. */
lua_State *mpl_child_prepare (lua_State *L);

/* Calls so deep need no memory on the Lua thread T: what is made first lies together. Errors are raised on L. */
void mpl_child_deepen (lua_State *L, lua_State *T, int depth);

/* What was pushed onto it is let go, unless it runs. */
void mpl_child_forget (lua_State *L);

/* Calls the function that was pushed with its n arguments onto such a thread, interruptible: LUA_OK and the results, or another status and the error's value;
** above the message handler. SIGINT is not held afterwards. */
int mpl_child_call (lua_State *T, int n);

/* The function has returned or failed: an interruption from now on is for nobody. */
void mpl_child_ended (lua_State *L);

/* Pushes the traceback of the error that was just caught, or nil. */
void mpl_child_traceback (lua_State *L);

/* In a thread of ours: a function begins that a request to stop is for; it was left, perhaps because of one, which stops here. */
void mpl_thread_begins (void);
void mpl_thread_left (void);

/* In a thread of ours: an interruption is raised only if `wanted` says so when it is about to be, and else forgotten. */
void mpl_thread_filter (int (*wanted) (void));

/* Lua: run(f, ...) -> true, results... | false, error value, traceback or nil */
int mpl_child_run (lua_State *L);

/* Who interrupted last, and whether that was raised: 0 nobody, 1 the parent by p:interrupt(), 2 a terminal or somebody else. */
int mpl_child_interrupter (void);

#endif
