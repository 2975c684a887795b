#include "shm/mutex.h"

#include "base/err.h"
#include "base/fault.h"
#include "base/spin.h"

int mpi_mutex_lock (mpi_a32 *word, int64_t deadline) {
  uint32_t tid = mpi_tid();
  uint32_t v = 0;
  int rc = 0;
  mpi_robust_pending(word);
  if (!mpi_cas(word, &v, tid | mpi_lockword_mark(word))) {
    if ((v & MPI_LOCK_TID) == tid) {
      mpi_robust_pending(NULL);
      return mpi_fail(MP_EDEADLK, "the calling thread holds it already");
    }
    /* A poll looks once, and leaves no mark that would cost the holder a wake-up. The dead leave the word free, so polls inherit too. */
    rc = deadline == 0 && (v & MPI_LOCK_TID) != 0 ? MP_ETIMEDOUT
                                                  : mpi_lockword_wait(word, deadline, deadline == 0 ? 0 : mpi_spin_limit(MPI_SPIN_MESSAGE), 0);
    if (rc < 0) {
      mpi_robust_pending(NULL);
      return rc;
    }
  }
  MPI_POINT("mutex.lock.taken");
  mpi_robust_push(word);
  mpi_robust_pending(NULL);
  return rc;
}

int mpi_mutex_unlock (mpi_a32 *word) {
  if (!mpi_mutex_mine(word)) return mpi_fail(MP_ENOTOWNER, "the calling thread does not hold it");
  mpi_robust_pending(word);
  mpi_robust_remove(word);
  MPI_POINT("mutex.unlock.removed");
  if (mpi_xchg(word, 0) & MPI_LOCK_WAITERS) mpi_lockword_wake(word);
  mpi_robust_pending(NULL);
  return 0;
}
