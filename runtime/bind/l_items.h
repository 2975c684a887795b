/* l_items.h -- what the bindings of Dict and List share: Lua values as items (shm/item.h) and back, and holding a container.
** Blocking  CONTAINER_WAIT tries once without preparing for interruption, then waits; `dl` is the deadline that `call` uses.
**           A container that a confined process was given is waited for 5 s only, then it is an error: that process may never let go.
** Memory    an item borrows from the Lua value on the stack, or from this state's outgoing parcel: use it before the next encoding.
** Errors    raised at the caller's line.
*/
#ifndef MPL_ITEMS_H
#define MPL_ITEMS_H

#include <stdio.h>

#include "bind/codec.h"
#include "bind/udata.h"
#include "shm/dict.h"
#include "shm/list.h"

#define CONTAINER_WAIT(L, o, rc, dl, call)   \
  do {                                       \
    (dl) = 0;                                \
    (rc) = (call);                           \
    if ((rc) == MP_ETIMEDOUT) {              \
      (dl) = mpl_container_deadline(o);      \
      MPL_WAIT(L, rc, call);                 \
    }                                        \
  } while (0)

struct mpl_item {
  struct mpi_item item;
  union {
    int64_t i;
    double d;
    char b;
  } u;
};

/* 1, or 0 for nil and nan, which are no keys; raises for what can be none. Floats with an integer value are integers. */
int mpl_to_key (lua_State *L, int idx, struct mpl_item *k, const char *function);
/* Any plain data but nil, which the caller has looked for. */
void mpl_to_item (lua_State *L, int idx, struct mpl_item *v, const char *function);
/* [kind][payload] on the stack as a Lua value. */
void mpl_push_item (lua_State *L, const char *bytes, size_t size, const char *function);

/* Room for an answer: on the C stack at first, in a userdata (pushed, and left on the stack) when more is needed. */
struct mpl_room {
  char *p;
  size_t room;
  char small[1024];
};
#define MPL_ROOM(r) ((r).p = (r).small, (r).room = sizeof (r).small)
void mpl_more_room (lua_State *L, struct mpl_room *r, size_t size);

int64_t mpl_container_deadline (const mp_object *o);
int mpl_container_raise (lua_State *L, const char *function, int rc);

/* Holds the container at `arg` until the C function that calls this returns, also by an error; pushes the guard. */
void mpl_hold (lua_State *L, int arg, const char *function);
int mpl_container_with (lua_State *L); /* c:with(f, ...): calls f(c, ...); the container at 1 is checked */

int mpl_open_dict (lua_State *L);
int mpl_open_list (lua_State *L);

#endif
