/* event.h -- a flag that processes wait for.
** Public    mp_event_* in mp.h.
** Memory    a segment of one page and an eventfd (the bell); the words are at 64 of the segment.
** Word      state: bit 0 is the flag, above it the number of times it was set. A waiter remembers the number: whoever waited when the event
**           was set goes on, though it be cleared at once.
** Sharing   threads and processes; a forked child uses it as its parent does.
** Blocks    wait only. set and clear hold the gate for a few instructions (and a system call if somebody sleeps).
** Death     of a waiter: nothing. Of a setter at any instruction: the event is set and everybody woken, or it is not set.
*/
#ifndef MPI_EVENT_H
#define MPI_EVENT_H

#include "shm/object.h"

extern const struct mpi_type mpi_type_event;

/* For mp.wait: *fd is readable (poll(2)) while the event is set, from now on; it belongs to the handle. Arms the bell. When it is readable
** and the event is not set (somebody died in the middle), call it again: that puts the descriptor right. */
int mpi_event_fd (mp_object *o, int *fd);

#endif
