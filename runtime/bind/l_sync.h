/* l_sync.h -- what the bindings of locks, semaphores and conditions share.
** Guard    what guard() gives: a to-be-closed value that releases once, at the end of its scope. It is not released by the garbage
**          collector: a guard that nobody closes keeps the lock, as a forgotten release does.
** with     runs a function (which may yield) between acquire and release; its errors pass through, traceback and all.
** Errors   raised at the line of the caller of guard or with. Lua memory is taken before the lock.
*/
#ifndef MPL_SYNC_H
#define MPL_SYNC_H

#include <stdio.h>

#include "bind/udata.h"
#include "shm/lock.h"

/* Acquires the object at `arg` or raises, naming `function`: 0, MP_ABANDONED. */
typedef int (*mpl_acquire_fn) (lua_State *L, int arg, const char *function);
/* Releases it; pushes results and gives their number, or raises. */
typedef int (*mpl_release_fn) (lua_State *L, int arg);

/* The bodies of obj:guard() and obj:with(f, ...); the object is at 1 and checked. */
int mpl_guard (lua_State *L, mpl_acquire_fn acquire, mpl_release_fn release);
int mpl_with (lua_State *L, mpl_acquire_fn acquire, mpl_release_fn release);

int mpl_open_lock (lua_State *L);
int mpl_open_semaphore (lua_State *L);
int mpl_open_condition (lua_State *L);
int mpl_open_event (lua_State *L);
int mpl_open_barrier (lua_State *L);

#endif
