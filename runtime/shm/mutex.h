/* mutex.h -- a lock that a user may hold for any time: a node of the thread's robust list, in private memory.
** Memory   the word at MPI_SEG_WORD0 or MPI_SEG_WORD1 of a segment with a lock page; the four bytes behind it are the mutex's too (latch.h).
** Sharing  belongs to the operating system's thread that acquired it.
** Blocks   lock: until the deadline; 0 polls.
** Private  `mine`, one 32-bit word a mutex and process: which thread of this process holds the mutex, 0: none. Whatever a peer writes
**          into the shared word, two threads of a process never hold a mutex both: it is claimed too, and given up before the word is. A
**          thread that has ended leaves its claim to the next.
** Death    a holder that dies or ends: the next gets MP_ABANDONED.
** Errors   lock: 0, MP_ABANDONED, MP_ETIMEDOUT, MP_EINTR, MP_EDEADLK (held by this thread; returned at once), MP_ECORRUPT (the word was overwritten while
**          another thread of this process holds the mutex). unlock: MP_ENOTOWNER, without a sentence; if the word was taken from us by
**          scribbling, our claim is gone all the same.
** Lifetime the caller keeps the mapping while the mutex is held (a held node must stay mapped): hold a reference.
*/
#ifndef MPI_MUTEX_H
#define MPI_MUTEX_H

#include <sys/single_threaded.h>

#include "base/fault.h"
#include "shm/latch.h"

/* Holder's thread id, 0 if free or the holder died. */
static inline uint32_t mpi_mutex_owner (mpi_a32 *word) {
  return mpi_load(word) & MPI_LOCK_TID;
}

static inline int mpi_mutex_mine (mpi_a32 *word) {
  return mpi_mutex_owner(word) == mpi_tid();
}

/* Both must agree: `mine` alone is stale in a forked child and after a thread that died, the word alone is what anybody wrote. */
static inline int mpi_mutex_held (mpi_a32 *word, mpi_a32 *mine) {
  return mpi_load_relaxed(mine) == mpi_tid() && mpi_mutex_mine(word);
}

int mpi_mutex_lock_slow (mpi_a32 *word, int64_t deadline, uint32_t seen);
int mpi_mutex_claim_slow (mpi_a32 *word, mpi_a32 *mine, int *first, int rc);

/* *first: nobody of this process had a claim. No locked instruction while the process has one thread. */
static inline int mpi_mutex_claim (mpi_a32 *mine, uint32_t tid, int *first) {
  uint32_t before = mpi_load_relaxed(mine);
  *first = before == 0;
  if (before != 0) return before == tid;
  if (!__libc_single_threaded) return mpi_cas(mine, &before, tid);
  mpi_store_relaxed(mine, tid);
  return 1;
}

static inline int mpi_mutex_lock (mpi_a32 *word, mpi_a32 *mine, int *first, int64_t deadline) {
  uint32_t v = 0, tid = mpi_tid();
  int rc = 0;
  /* A word that somebody took from us by scribbling is still in our robust list; entered twice, the list would be a ring. */
  if (__builtin_expect(mpi_load_relaxed(mine) == tid, 0) && !mpi_mutex_mine(word)) mpi_robust_remove(word);
  mpi_robust_pending(word);
  if (__builtin_expect(!mpi_cas(word, &v, tid | mpi_lockword_mark(word)), 0)) {
    rc = mpi_mutex_lock_slow(word, deadline, v);
    if (rc < 0) return rc;
  }
  MPI_POINT("mutex.lock.taken");
  if (__builtin_expect(!mpi_mutex_claim(mine, tid, first), 0)) {
    rc = mpi_mutex_claim_slow(word, mine, first, rc);
    if (rc < 0) return rc;
  }
  mpi_robust_push(word);
  mpi_robust_pending(NULL);
  return rc;
}

static inline int mpi_mutex_unlock (mpi_a32 *word, mpi_a32 *mine) {
  int rc = 0;
  if (mpi_load_relaxed(mine) != mpi_tid()) return MP_ENOTOWNER;
  mpi_robust_pending(word);
  mpi_robust_remove(word);
  mpi_store_release(mine, 0); /* before the word is free: the next holder may be another thread of this process */
  MPI_POINT("mutex.unlock.removed");
  if (__builtin_expect(!mpi_mutex_mine(word), 0)) rc = MP_ENOTOWNER;
  else if (__builtin_expect((mpi_xchg(word, 0) & MPI_LOCK_WAITERS) != 0, 0)) mpi_lockword_wake(word);
  mpi_robust_pending(NULL);
  return rc;
}

#endif
