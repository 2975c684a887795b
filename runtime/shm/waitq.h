/* waitq.h -- sleeping until somebody changes an object, without losing a wake-up to any death.
** Protocol the changer holds the object's latch (the gate), announces, commits by one store, unlocks. The sleeper registers, waits until
**          the gate is free, looks, sleeps (docs/internals/architecture.md, 2, has the argument).
** Memory   8 bytes in shared memory, zero is empty. Private memory: nothing.
** Sharing  any number of sleepers and changers. With a turnstile one sleeper is on the word and the rest on the turnstile: a change wakes
**          one process; without, a change wakes all.
** Death    a sleeper's costs at most a wake-up for nothing; a changer's at any instruction loses none.
** Errors   0 (look again: ready, or perhaps so), MP_ETIMEDOUT, MP_EINTR, MP_ECORRUPT.
*/
#ifndef MPI_WAITQ_H
#define MPI_WAITQ_H

#include "shm/latch.h"

typedef struct {
  mpi_a32 seq;      /* counts announcements; the futex word */
  mpi_a32 sleepers; /* bit 0: somebody may sleep on seq; set by sleepers, cleared by changers. Above: counts registrations */
} mpi_waitq;

void mpi_waitq_wake (mpi_waitq *w, int n);

/* Takes the gate. 0, MP_ABANDONED, MP_EINTR; MP_ETIMEDOUT when somebody has been inside until the deadline and for 0.2 s; MP_ECORRUPT after 10 s,
** also for operations that have no deadline (MP_NEVER): a peer that is stopped there, or has scribbled over the word, cannot hang us. */
int mpi_gate_enter (mpi_latch *gate, int64_t deadline);

/* What is done on the way out has this long, whatever the deadline was. */
#define MPI_GATE_PARTING (1000 * INT64_C(1000000))

/* By the holder of the gate, before its commit. n: how many sleepers to wake (INT_MAX without turnstile). */
static inline void mpi_announce (mpi_waitq *w, int n) {
  if (__builtin_expect((mpi_load(&w->sleepers) & 1) != 0, 0)) mpi_waitq_wake(w, n);
}

/* Sleeps until ready(ud) may be true. The caller holds no latch; `turnstile` may be NULL. `ready` only reads shared words; it is
** called with the turnstile held. */
int mpi_waitq_wait (mpi_waitq *w, mpi_latch *gate, mpi_latch *turnstile, int (*ready) (void *ud), void *ud, int64_t deadline);

/* The same for a condition that holders of either of two latches change. */
int mpi_waitq_wait2 (mpi_waitq *w, mpi_latch *gate, mpi_latch *gate2, mpi_latch *turnstile, int (*ready) (void *ud), void *ud,
                     int64_t deadline);

/* The turnstile alone, for waits that sleep elsewhere (poll): enter waits for one's turn, exactly to the deadline; leave by mpi_latch_unlock.
** It is the thread's pending lock meanwhile: no latch may be taken inside. */
int mpi_turnstile_enter (mpi_latch *turnstile, int64_t deadline);

#endif
