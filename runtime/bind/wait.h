/* wait.h -- how userdata take part in mp.wait.
** A waitable says whether it is ready now, and gives descriptors to poll that become readable (or hang up) when that may have changed. `leave` is called
** once after each `poll`, when the sleep is over; `tidy` after it, when a descriptor was readable. All are called with the userdata at idx, open
** (closed ones are refused before).
*/
#ifndef MPL_WAIT_H
#define MPL_WAIT_H

#include <lua.h>
#include <poll.h>

#define MPL_WAIT_FDS 2

typedef struct mpl_waitable {
  int (*ready) (lua_State *L, int idx);                  /* 1 or 0; may raise misuse (not started, closed) */
  int (*poll) (lua_State *L, int idx, struct pollfd *p); /* fills up to MPL_WAIT_FDS, returns how many */
  void (*tidy) (lua_State *L, int idx);                  /* may be NULL */
  void (*leave) (lua_State *L, int idx);                 /* may be NULL; raises nothing */
  int (*restless) (lua_State *L, int idx);               /* 1: it may become ready without its descriptors: look now and then. May be NULL */
} mpl_waitable;

/* For the type with that metatable name; `w` lives for ever. */
void mpl_set_waitable (lua_State *L, const char *name, const mpl_waitable *w);

/* Misuse of a process or thread ("thread Thread-2 was not started"): raises. */
int mpl_process_unwaitable (lua_State *L, int idx, const char *noun);

#endif
