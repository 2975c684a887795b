/* latch.h -- the internal lock of shared objects: one robust futex word, no pointers in shared memory.
** What     mutual exclusion for a bounded number of instructions. A thread holds at most one latch, and calls nothing
**          that may raise, allocate, or take another latch while it does (docs/internals/architecture.md, 1).
** Memory   8 bytes, anywhere in a shared mapping; zero is free. The same word format serves as a mutex (mutex.h).
** Sharing  threads and processes; not for signal handlers. A forked child does not hold what its parent holds.
** Blocks   until free. The deadline is stretched to at least 0.2 s from now, so that a poll is not refused because somebody is
**          inside for a moment; a stopped or hostile holder costs that much.
** Death    the kernel frees the latch of a dead holder and wakes the next, who gets MP_ABANDONED and finds the old state or the new.
** Errors   0, MP_ABANDONED, MP_ETIMEDOUT, MP_EINTR, MP_ECORRUPT (the word says that we hold it already).
*/
#ifndef MPI_LATCH_H
#define MPI_LATCH_H

#include "base/robust.h"

typedef struct {
  mpi_a32 word;
  mpi_a32 sleepers; /* directly behind every lock word: see mpi_lockword_mark */
} mpi_latch;

/* Who has been woken and is killed before it takes the lock leaves the other sleepers asleep, if a newcomer was quicker: its word would not say
** that anybody sleeps. So the four bytes behind a lock word remember it (bit 0; registrations are counted above it) until a wake finds
** nobody, and every acquirer puts MPI_LOCK_WAITERS into its word as long as they do. */
static inline uint32_t mpi_lockword_mark (mpi_a32 *word) {
  return (mpi_load(word + 1) & 1) != 0 ? MPI_LOCK_WAITERS : 0;
}

/* The slow paths, shared by latch and mutex. The word is pending before and, on success, after. */
int mpi_lockword_wait (mpi_a32 *word, int64_t deadline, int spins, int brief); /* brief: looks again every 0.1 s; for what is held briefly */
void mpi_lockword_wake (mpi_a32 *word);

int mpi_latch_lock_slow (mpi_latch *l, int64_t deadline);

static inline int mpi_latch_lock (mpi_latch *l, int64_t deadline) {
  uint32_t free_word = 0;
  uint32_t tid = mpi_tid();
  mpi_robust_pending(&l->word);
  if (__builtin_expect(mpi_cas(&l->word, &free_word, tid | mpi_lockword_mark(&l->word)), 1)) return 0;
  return mpi_latch_lock_slow(l, deadline);
}

static inline void mpi_latch_unlock (mpi_latch *l) {
  uint32_t old = mpi_xchg(&l->word, 0);
  if (__builtin_expect((old & MPI_LOCK_WAITERS) != 0, 0)) mpi_lockword_wake(&l->word);
  mpi_robust_pending(NULL);
}

/* Returns once nobody has held the latch at some moment since the call began, without taking it; may be called while holding
** another latch. 0, MP_ETIMEDOUT or MP_EINTR. */
int mpi_latch_pass (mpi_latch *l, int64_t deadline);

#endif
