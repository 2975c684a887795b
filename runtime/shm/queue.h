/* queue.h -- mp.Queue: a ring in a segment of its own (ring.h has the facts), and what a pipe's ends share with it.
** Handle   descriptors: memfd, carrier's putting end, carrier's getting end, bell.
*/
#ifndef MPI_QUEUE_H
#define MPI_QUEUE_H

#include "shm/object.h"
#include "shm/ring.h"

struct mpi_queue {
  struct mpi_object o;
  struct mpi_ring ring;
};

static inline struct mpi_ring *mpi_queue_ring (mp_object *o) {
  return &((struct mpi_queue *)o)->ring;
}

uint64_t mpi_queue_default_maxbytes (void); /* an eighth of the machine's memory, at most 4 GiB */
#define MPI_QUEUE_MOST_BYTES (UINT64_C(16) << 30)

#endif
