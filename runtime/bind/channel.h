/* channel.h -- what the bindings of queues and pipes share: a Lua value into a ring, a message out of one.
** Both raise on misuse and on what cannot be sent or decoded; expected failures are the result.
*/
#ifndef MPL_CHANNEL_H
#define MPL_CHANNEL_H

#include "bind/udata.h"
#include "shm/queue.h"

int mpl_ring_put (lua_State *L, struct mpi_ring *r, int idx, int64_t deadline); /* 0 or a negative code but MP_EINTR */
int mpl_ring_get (lua_State *L, struct mpi_ring *r, int64_t deadline);          /* 0: one value is pushed */
int mpl_queue_get (lua_State *L, struct mpi_queue *q, int64_t deadline);        /* the same */

/* Only if accept (mpi_sink) says yes; else MP_ERANGE and the message stays. */
int mpl_ring_get_if (lua_State *L, struct mpi_ring *r, int64_t deadline, int (*accept) (void *ud, const unsigned char *head, size_t n), void *ud);

/* Flags for mpl_decode: no code out of what a confined process can write into (proc/distrust.h). And what goes in there is shared with it. */
unsigned mpl_ring_trust (const struct mpi_ring *r);
void mpl_ring_share (const struct mpi_ring *r, const int *fds, int nfds);

#endif
