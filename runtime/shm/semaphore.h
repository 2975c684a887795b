/* semaphore.h -- permits, counted or owned.
** Public    mp_semaphore_* in mp.h.
** Counted   free permits are one word: acquire is a compare-and-swap, release an addition by the holder of the gate. Nobody owns a
**           permit; one that a dead process had is gone. Waiting by turnstile: a release wakes one.
** Owned     a permit is a seat (shm/seat.h): acquire takes one, release leaves it, and the kernel gives it back when its thread dies. A permit
**           belongs to the thread that acquired it, which in a process without threads is the process. The one waiter at the turnstile
**           sleeps on all the seats at once (127 at a time; with more permits than that it looks at the others every 50 ms).
** Memory    a segment of one page, and half a page a permit, used only as far as permits are taken, for owned ones.
** Blocks    acquire, until the deadline.
** Death     of a waiter: the next takes its place. Of a releaser at any instruction: the permits are released or they are not.
*/
#ifndef MPI_SEMAPHORE_H
#define MPI_SEMAPHORE_H

#include "shm/object.h"

#define MPI_SEMAPHORE_MOST 0x7fffffffu
#define MPI_SEMAPHORE_MOST_OWNED 4096u

extern const struct mpi_type mpi_type_semaphore;

unsigned mpi_semaphore_first (mp_object *o); /* its first value */
unsigned mpi_semaphore_flags (mp_object *o);

#endif
