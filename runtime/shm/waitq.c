#include "shm/waitq.h"

#include "base/err.h"
#include "base/fault.h"
#include "base/futex.h"

void mpi_waitq_wake (mpi_waitq *w, int n) {
  mpi_store(&w->sleepers, 0);
  (void)mpi_fetch_add(&w->seq, 1); /* a sleeper between its look and its sleep sees another number */
  MPI_POINT("waitq.announce.counted");
  mpi_futex_wake(&w->seq, n);
}

static int sleep_until_ready (mpi_waitq *w, mpi_latch *gate, int (*ready) (void *ud), void *ud, int64_t deadline) {
  int slice = 0;
  for (;;) {
    uint32_t seen = mpi_load(&w->seq);
    int rc;
    mpi_store(&w->sleepers, 1);
    rc = mpi_latch_pass(gate, deadline);
    if (rc != 0) return rc;
    if (ready(ud)) return 0;
    MPI_POINT("waitq.wait.sleep");
    rc = mpi_sleep_on(&w->seq, seen, deadline, &slice);
    if (rc != 0) return rc;
  }
}

int mpi_waitq_wait (mpi_waitq *w, mpi_latch *gate, mpi_latch *turnstile, int (*ready) (void *ud), void *ud, int64_t deadline) {
  uint32_t free_word = 0;
  int rc;
  if (turnstile == NULL) return sleep_until_ready(w, gate, ready, ud, deadline);
  (void)mpi_tid();
  mpi_robust_pending(&turnstile->word);
  if (!mpi_cas(&turnstile->word, &free_word, mpi_self_.tid)) {
    rc = mpi_lockword_wait(&turnstile->word, deadline, 0);
    if (rc < 0) {
      mpi_robust_pending(NULL);
      return rc;
    }
  }
  rc = sleep_until_ready(w, gate, ready, ud, deadline);
  mpi_latch_unlock(turnstile);
  return rc;
}
