/* queue.h -- mp.Queue: a ring in a segment of its own (ring.h has the facts), and what a pipe's ends share with it.
** Handle   descriptors: memfd, carrier's putting end, carrier's getting end, bell.
*/
#ifndef MPI_QUEUE_H
#define MPI_QUEUE_H

#include "shm/object.h"
#include "shm/redeliver.h"

struct mpi_queue {
  struct mpi_object o;
  struct mpi_ring ring;
  struct mpi_hands hands; /* hands.s == NULL: no redelivery */
};

static inline struct mpi_ring *mpi_queue_ring (mp_object *o) {
  return &((struct mpi_queue *)o)->ring;
}

/* What the ring's functions do, by the way that this queue works. */
int mpi_queue_get (struct mpi_queue *q, struct mpi_sink *sink, int max, int *got, int64_t deadline);
int mpi_queue_task_done (struct mpi_queue *q);
int mpi_queue_join (struct mpi_queue *q, int64_t deadline);
uint32_t mpi_queue_size (struct mpi_queue *q);
int mpi_queue_full (struct mpi_queue *q);
int mpi_queue_ready (struct mpi_queue *q);

uint64_t mpi_queue_default_maxbytes (void); /* an eighth of the machine's memory, at most 4 GiB */
#define MPI_QUEUE_MOST_BYTES (UINT64_C(16) << 30)

#endif
