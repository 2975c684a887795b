#include "shm/mutex.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/spin.h"

struct attempt {
  mpi_a32 *word;
  int rc;
};

static int try_take (void *ud) {
  struct attempt *a = ud;
  uint32_t v = mpi_load_relaxed(a->word);
  if ((v & MPI_LOCK_TID) != 0 || !mpi_cas(a->word, &v, mpi_self_.tid | (v & MPI_LOCK_WAITERS) | mpi_lockword_mark(a->word))) return 0;
  a->rc = (v & MPI_LOCK_DIED) ? MP_ABANDONED : 0;
  return 1;
}

/* The word is pending; on failure no longer. `seen`: what was found in it. */
int mpi_mutex_lock_slow (mpi_a32 *word, int64_t deadline, uint32_t seen) {
  static _Thread_local int credit;
  struct attempt a = {word, 0};
  int rc;
  if ((seen & MPI_LOCK_TID) == mpi_self_.tid) {
    rc = mpi_fail(MP_EDEADLK, "the calling thread holds it already");
  } else if (deadline == 0 && (seen & MPI_LOCK_TID) != 0) {
    rc = MP_ETIMEDOUT; /* a poll looks once, and leaves no mark that would cost the holder a wake-up */
  } else if (deadline != 0 && mpi_spin_until(&credit, 64, try_take, &a)) {
    rc = a.rc;
  } else { /* the dead leave the word free, so polls inherit too */
    rc = mpi_lockword_wait(word, deadline, 0, 0);
  }
  if (rc < 0) mpi_robust_pending(NULL);
  return rc;
}

/* A thread of this process. */
static int lives (uint32_t tid) {
  return syscall(SYS_tgkill, getpid(), tid, 0) == 0 || errno != ESRCH;
}

#define LAST_BREATH MPI_NS_PER_S /* the kernel gives up a dying thread's locks some moments before the thread is gone */

/* The word is ours (rc: how), but another thread of this process has the claim. It may have died: then we inherit. If it lives, somebody has
** overwritten the word, and gets told no more than that its name stands there again. */
int mpi_mutex_claim_slow (mpi_a32 *word, mpi_a32 *mine, int *first, int rc) {
  int64_t until = mp_now() + LAST_BREATH;
  uint32_t tid = mpi_self_.tid;
  for (;;) {
    uint32_t before = mpi_load(mine), v;
    if (before == tid || ((before == 0 || !lives(before)) && mpi_cas(mine, &before, tid))) {
      *first = before == 0;
      return rc;
    }
    if (before == 0 || !lives(before)) continue;
    if (rc == MP_ABANDONED && mp_now() < until) {
      struct timespec nap = {0, 1000000};
      (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
      continue;
    }
    v = mpi_load(word);
    if ((v & MPI_LOCK_TID) == tid) (void)mpi_cas(word, &v, before | MPI_LOCK_WAITERS);
    mpi_robust_pending(NULL);
    return mpi_fail(MP_ECORRUPT, "a lock's word was overwritten while another thread of this process holds it");
  }
}
