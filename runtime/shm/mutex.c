#include "shm/mutex.h"

#include "base/err.h"
#include "base/spin.h"

/* The word is pending; on failure no longer. `seen`: what was found in it. */
int mpi_mutex_lock_slow (mpi_a32 *word, int64_t deadline, uint32_t seen) {
  int rc;
  if ((seen & MPI_LOCK_TID) == mpi_self_.tid) {
    rc = mpi_fail(MP_EDEADLK, "the calling thread holds it already");
  } else if (deadline == 0 && (seen & MPI_LOCK_TID) != 0) {
    rc = MP_ETIMEDOUT; /* a poll looks once, and leaves no mark that would cost the holder a wake-up */
  } else { /* the dead leave the word free, so polls inherit too */
    rc = mpi_lockword_wait(word, deadline, deadline == 0 ? 0 : mpi_spin_limit(MPI_SPIN_MESSAGE), 0);
  }
  if (rc < 0) mpi_robust_pending(NULL);
  return rc;
}

int mpi_mutex_not_mine (void) {
  return mpi_fail(MP_ENOTOWNER, "the calling thread does not hold it");
}
