#include "shm/latch.h"

#include <sched.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "base/spin.h"

#define GRACE (200 * MPI_NS_PER_MS)

int mpi_lockword_wait (mpi_a32 *word, int64_t deadline, int spins) {
  uint32_t tid = mpi_self_.tid;
  uint32_t inherit = 0; /* once we slept, others may sleep too: our unlock must look after them */
  int slice = 0;
  int rc;
  for (;;) {
    uint32_t v = mpi_load_relaxed(word);
    if ((v & MPI_LOCK_TID) == 0) {
      if (mpi_cas(word, &v, tid | (v & MPI_LOCK_WAITERS) | inherit)) return (v & MPI_LOCK_DIED) ? MP_ABANDONED : 0;
      continue;
    }
    if ((v & MPI_LOCK_TID) == tid) {
      rc = mpi_fail(MP_ECORRUPT, "a lock word names this thread, which does not hold it");
      break;
    }
    if (spins > 0) {
      spins--;
      mpi_relax();
      continue;
    }
    if (!(v & MPI_LOCK_WAITERS) && !mpi_cas(word, &v, v | MPI_LOCK_WAITERS)) continue;
    MPI_POINT("latch.wait.sleep");
    rc = mpi_sleep_on(word, v | MPI_LOCK_WAITERS, deadline, &slice);
    inherit = MPI_LOCK_WAITERS;
    if (rc != 0) break;
  }
  /* We may have eaten the wake-up that was meant for another. */
  if ((mpi_load(word) & MPI_LOCK_TID) == 0) mpi_futex_wake(word, 1);
  return rc;
}

void mpi_lockword_wake (mpi_a32 *word) {
  MPI_POINT("latch.unlock.wake");
  mpi_futex_wake(word, 1);
}

int mpi_latch_lock_slow (mpi_latch *l, int64_t deadline) {
  int rc;
  if (deadline != MP_NEVER) {
    int64_t least = mp_now() + GRACE;
    if (deadline < least) deadline = least;
  }
  rc = mpi_lockword_wait(&l->word, deadline, mpi_spin_limit(MPI_SPIN_LATCH));
  if (rc < 0) mpi_robust_pending(NULL);
  return rc;
}

int mpi_latch_pass (mpi_latch *l, int64_t deadline) {
  int64_t now = 0;
  int spins = 0;
  if (deadline == 0) deadline = mp_now() + GRACE;
  while ((mpi_load(&l->word) & MPI_LOCK_TID) != 0) {
    struct timespec ts = {0, 50000};
    if (spins++ < 1000) {
      mpi_relax();
      continue;
    }
    /* The holder has lost its processor, is stopped, or lies. It will not be long; look now and then. */
    now = mp_now();
    if (now >= deadline) return MP_ETIMEDOUT;
    if (mpi_interrupted()) return MP_EINTR;
    if (spins > 1100) ts.tv_nsec = 2000000;
    (void)nanosleep(&ts, NULL);
  }
  return 0;
}
