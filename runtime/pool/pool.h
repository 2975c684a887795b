/* pool.h -- tasks to workers and answers back: bytes in, bytes out. Starts nobody; knows no Lua.
** What     one ring of tasks that any worker takes from, one ring of answers, and a board: a slot a worker, a bit a task that was
**          cancelled, and a store for what many tasks share (functions). One process, one thread puts tasks: the owner.
** Units    tasks are numbered from 0 in the order of submission; the number is the ring's own count of messages, so that the ring's
**          head says which were taken. Times in ns.
** Memory   three shared objects that the handle retains; a scratch buffer.
** Sharing  the owner's handle: one thread. A worker's handle: one thread. Workers may be processes or threads.
** Blocks   take while there is no task, put and answer while a ring is full, collect while there is no answer; until the deadline.
** Death    of a worker, at any instruction: mpi_pool_victim tells exactly which task was in its hands, or none. A worker notes the
**          number in its slot while it holds the ring's latch, before the one store that takes the task: a death between leaves the number
**          in the slot and the task in the ring, and the ring's head tells. What it had answered is in the ring of answers.
** Trust    workers are the owner's own; the board is not for strangers. Numbers read from it are bounded.
** Errors   as ring.h.
*/
#ifndef MPI_POOL_H
#define MPI_POOL_H

#include "shm/queue.h"

#define MPI_POOL_WORKERS 256

enum mpi_worker_state { MPI_WORKER_NONE, MPI_WORKER_STARTING, MPI_WORKER_READY, MPI_WORKER_RETIRED };
enum mpi_stop_reason { MPI_STOPPED_NOT, MPI_STOPPED_TIMEOUT, MPI_STOPPED_CANCEL };

struct mpi_pool_slot {  /* a worker's; a line of its own */
  _Alignas(64) mpi_a64 task; /* 1 + number of the task that it took last; by the worker, under the ring's get_latch */
  mpi_a64 stop;         /* 1 + number of a task that it must not go on with; by the owner */
  mpi_a64 deadline;     /* of the item that it runs, 0: none; by the worker */
  mpi_a32 state;        /* enum mpi_worker_state; by the worker, reset by the owner before a start */
  mpi_a32 item;         /* which item of the task it runs, from 1; by the worker */
  mpi_a32 stopped;      /* why it ended itself; by the worker */
  mpi_a32 running;      /* 1: it is inside the task's function; by the worker */
};
_Static_assert(sizeof(struct mpi_pool_slot) == 64, "a line");

struct mpi_pool_task { /* head of a message to the workers; then the function, then the arguments */
  uint64_t id;       /* set by submit; first: the worker notes it before it takes the message */
  uint64_t store;    /* where the function is in the store, if it is not in the message */
  int64_t timeout;   /* of each item; 0: none */
  uint32_t function; /* its number: a worker keeps what it has decoded */
  uint32_t fsize;    /* bytes of the function in the message; 0: in the store */
  uint32_t ssize;    /* bytes of it in the store */
  uint32_t count;    /* items */
  uint16_t mode;     /* the binding's */
  uint16_t ffds;     /* descriptors that belong to the function; they come first */
  uint32_t tag;      /* the owner's; comes back with the answer */
};
_Static_assert(sizeof(struct mpi_pool_task) == 48, "no padding");

struct mpi_pool_answer { /* head of a message to the owner; then the value */
  uint64_t id;
  int64_t work;      /* ns in the task */
  int64_t wait;      /* ns that the worker waited for it */
  uint32_t worker;
  uint32_t item;     /* which failed, or how many were done */
  uint32_t tag;
  uint16_t status;   /* the binding's */
  uint16_t spare;
};
_Static_assert(sizeof(struct mpi_pool_answer) == 40, "no padding");

struct mpi_pool { /* private: one a handle */
  mp_object *tasks, *answers, *board; /* retained */
  struct mpi_pool_slot *slots;
  mpi_a64 *cancelled;
  unsigned char *store;
  int workers;
  uint64_t next;       /* owner: number of the next task */
  uint64_t store_used; /* owner */
  unsigned char *scratch;
  size_t room;
};

int mpi_pool_make (int workers, struct mpi_pool *out);
/* A handle on objects that a worker was given. */
int mpi_pool_bind (mp_object *tasks, mp_object *answers, mp_object *board, struct mpi_pool *out);
void mpi_pool_fini (struct mpi_pool *p); /* fine on zeroes */

/* ---- the owner's side ---- */

struct mpi_pool_part {
  const void *data;
  size_t size;
  const int *fds; /* borrowed */
  int nfds;
};

/* Puts a task: head (id is filled in), function part, arguments part. */
int mpi_pool_submit (struct mpi_pool *p, struct mpi_pool_task *head, const struct mpi_pool_part *function, const struct mpi_pool_part *args,
                     int64_t deadline);

/* Keeps bytes where all workers see them; *where is their place. MP_EFULL: no room; send them with the task. */
int mpi_pool_keep (struct mpi_pool *p, const void *data, size_t size, uint64_t *where);
void mpi_pool_forget (struct mpi_pool *p); /* all that was kept; no task that needs it may be about */

/* The worker has ended: 1 and the task that was in its hands, if it has not been answered (collect what there is before you believe
** it), or 0. */
int mpi_pool_victim (struct mpi_pool *p, int worker, uint64_t *id);
void mpi_pool_reset (struct mpi_pool *p, int worker); /* before another one takes the place */

void mpi_pool_cancel (struct mpi_pool *p, uint64_t id, int on); /* workers skip it; a hint: numbers far apart share a bit */
/* Who has it in hand: its index, or -1. */
int mpi_pool_holder (struct mpi_pool *p, uint64_t id);

/* ---- a worker's side ---- */

/* Takes one task: sink has head and rest. MP_ECLOSED: no more will come. */
int mpi_pool_take (struct mpi_pool *p, int worker, struct mpi_sink *sink, int64_t deadline);
int mpi_pool_is_cancelled (struct mpi_pool *p, uint64_t id);
/* Bytes of a function in the store, or NULL if they cannot be there. */
const unsigned char *mpi_pool_kept (struct mpi_pool *p, uint64_t where, size_t size);
int mpi_pool_answer (struct mpi_pool *p, const struct mpi_pool_answer *head, const struct mpi_pool_part *value, int64_t deadline);

#endif
