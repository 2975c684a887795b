/* mutex.h -- a lock that a user may hold for any time: a node of the thread's robust list, in private memory.
** Memory   the word at MPI_SEG_WORD0 or MPI_SEG_WORD1 of a segment with a lock page; the four bytes behind it are the mutex's too (latch.h).
** Sharing  belongs to the operating system's thread that acquired it.
** Blocks   lock: until the deadline; 0 polls.
** Death    a holder that dies or ends: the next gets MP_ABANDONED.
** Errors   lock: 0, MP_ABANDONED, MP_ETIMEDOUT, MP_EINTR, MP_EDEADLK (held by this thread; returned at once). unlock: MP_ENOTOWNER.
** Lifetime the caller keeps the mapping while the mutex is held (a held node must stay mapped): hold a reference.
*/
#ifndef MPI_MUTEX_H
#define MPI_MUTEX_H

#include "base/fault.h"
#include "shm/latch.h"


/* Holder's thread id, 0 if free or the holder died. */
static inline uint32_t mpi_mutex_owner (mpi_a32 *word) {
  return mpi_load(word) & MPI_LOCK_TID;
}

static inline int mpi_mutex_mine (mpi_a32 *word) {
  return mpi_mutex_owner(word) == mpi_tid();
}

int mpi_mutex_lock_slow (mpi_a32 *word, int64_t deadline, uint32_t seen);
int mpi_mutex_not_mine (void);

static inline int mpi_mutex_lock (mpi_a32 *word, int64_t deadline) {
  uint32_t v = 0, tid = mpi_tid();
  int rc = 0;
  mpi_robust_pending(word);
  if (__builtin_expect(!mpi_cas(word, &v, tid | mpi_lockword_mark(word)), 0)) {
    rc = mpi_mutex_lock_slow(word, deadline, v);
    if (rc < 0) return rc;
  }
  MPI_POINT("mutex.lock.taken");
  mpi_robust_push(word);
  mpi_robust_pending(NULL);
  return rc;
}

static inline int mpi_mutex_unlock (mpi_a32 *word) {
  if (!mpi_mutex_mine(word)) return mpi_mutex_not_mine();
  mpi_robust_pending(word);
  mpi_robust_remove(word);
  MPI_POINT("mutex.unlock.removed");
  if (__builtin_expect((mpi_xchg(word, 0) & MPI_LOCK_WAITERS) != 0, 0)) mpi_lockword_wake(word);
  mpi_robust_pending(NULL);
  return 0;
}

#endif
