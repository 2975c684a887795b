/* redeliver.h -- queues whose items belong to their getter until task_done, and come back when it dies first.
** What     a ring (ring.h) with a second reading position: items in [head, cursor) are in hand or settled, those in [cursor, tail) wait. Each
**          record has an owner word. A getter holds a seat (seat.h) while it has items in hand; a record whose owner's seat is
**          empty, or was taken anew (its generation), is an orphan and goes to the next getter, before everything that waits.
** Units    at most MPI_REDELIVER_SEATS threads have items in hand at once; one more gets MP_ESYS with a sentence.
** Memory   an item's bytes stay where they are until it and all older ones are settled.
** Death    at any instruction: an item is in hand of somebody, or waits; never lost, never in two living hands. (One may be done twice: when its
**          getter dies after doing it and before task_done.)
** Threads  an item belongs to the thread that got it: in a script to the process or the mp.Thread.
** Blocks, errors: as ring.h. task_done: MP_EMISUSE for who has nothing in hand.
*/
#ifndef MPI_REDELIVER_H
#define MPI_REDELIVER_H

#include "shm/ring.h"
#include "shm/seat.h"

#define MPI_REDELIVER_SEATS 1024

struct mpi_hands_shared { /* on a page of its own; under get_latch unless noted */
  mpi_a64 cursor;         /* position | count << 32, as head */
  mpi_a32 seats_used;     /* seats below this number have been sat on */
  mpi_a32 orphans;        /* 1: there may be some whose owner's seat was taken anew */
  mpi_a32 generation[MPI_REDELIVER_SEATS]; /* counts a seat's sitters */
  mpi_a8 active[MPI_REDELIVER_SEATS];      /* 1: whoever sat there last may have left items */
};

struct mpi_hands { /* private, one a handle */
  struct mpi_hands_shared *s;
  struct mpi_ring *r;
  struct mpi_seats seats;
};

int mpi_hands_get (struct mpi_hands *h, struct mpi_sink *sink, int64_t deadline);
int mpi_hands_task_done (struct mpi_hands *h);
int mpi_hands_join (struct mpi_hands *h, int64_t deadline);
uint32_t mpi_hands_size (struct mpi_hands *h); /* what waits, orphans too */
int mpi_hands_ready (struct mpi_hands *h);
int mpi_hands_held (const struct mpi_hands *h); /* somebody has items in hand, whose death would make it ready */

#endif
