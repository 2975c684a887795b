#include "shm/waitq.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/futex.h"

/* Killed before the flag is cleared, we leave it set: the next changer wakes once too often. Cleared first, it would leave the
** sleepers unknown to the next changer. A sleeper that registers meanwhile changes the count, so its flag stays. */
void mpi_waitq_wake (mpi_waitq *w, int n) {
  uint32_t seen = mpi_load(&w->sleepers);
  MPI_POINT("waitq.announce.begin");
  (void)mpi_fetch_add(&w->seq, 1); /* a sleeper between its look and its sleep sees another number */
  MPI_POINT("waitq.announce.counted");
  mpi_futex_wake(&w->seq, n);
  MPI_POINT("waitq.announce.woken");
  (void)mpi_cas(&w->sleepers, &seen, seen & ~1u);
}

#ifdef MP_HARD
#define GATE_TRIES 5
#else
#define GATE_TRIES 50 /* of 0.2 s each */
#endif

int mpi_gate_enter (mpi_latch *gate, int64_t deadline) {
  int i;
  for (i = 0; i < GATE_TRIES; i++) {
    int rc = mpi_latch_lock(gate, 0);
    if (rc != MP_ETIMEDOUT) return rc;
    if (deadline != MP_NEVER && mp_now() >= deadline) return MP_ETIMEDOUT;
  }
  return mpi_fail(MP_ECORRUPT, "a peer has been inside the object for long: it is stopped, or the memory is damaged");
}

static int sleep_until_ready (mpi_waitq *w, mpi_latch *gate, mpi_latch *gate2, int (*ready) (void *ud), void *ud, int64_t deadline) {
  int slice = 0;
  for (;;) {
    uint32_t seen = mpi_load(&w->seq);
    int rc;
    (void)mpi_fetch_add(&w->sleepers, 2);
    (void)mpi_fetch_or(&w->sleepers, 1);
    rc = mpi_latch_pass(gate, deadline);
    if (rc == 0 && gate2 != NULL) rc = mpi_latch_pass(gate2, deadline);
    if (rc != 0) return rc;
    if (ready(ud)) return 0;
    MPI_POINT("waitq.wait.sleep");
    rc = mpi_sleep_on(&w->seq, seen, deadline, &slice);
    if (rc != 0) return rc;
  }
}

int mpi_waitq_wait (mpi_waitq *w, mpi_latch *gate, mpi_latch *turnstile, int (*ready) (void *ud), void *ud, int64_t deadline) {
  return mpi_waitq_wait2(w, gate, NULL, turnstile, ready, ud, deadline);
}

int mpi_turnstile_enter (mpi_latch *turnstile, int64_t deadline) {
  uint32_t free_word = 0;
  int rc;
  (void)mpi_tid();
  mpi_robust_pending(&turnstile->word);
  if (mpi_cas(&turnstile->word, &free_word, mpi_self_.tid | mpi_lockword_mark(&turnstile->word))) return 0;
  rc = mpi_lockword_wait(&turnstile->word, deadline, 0, 0);
  if (rc < 0) mpi_robust_pending(NULL);
  return rc < 0 ? rc : 0;
}

int mpi_waitq_wait2 (mpi_waitq *w, mpi_latch *gate, mpi_latch *gate2, mpi_latch *turnstile, int (*ready) (void *ud), void *ud,
                     int64_t deadline) {
  int rc;
  if (turnstile == NULL) return sleep_until_ready(w, gate, gate2, ready, ud, deadline);
  rc = mpi_turnstile_enter(turnstile, deadline);
  if (rc != 0) return rc;
  rc = sleep_until_ready(w, gate, gate2, ready, ud, deadline);
  mpi_latch_unlock(turnstile);
  return rc;
}
