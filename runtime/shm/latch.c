#include "shm/latch.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "base/spin.h"

#define GRACE (200 * MPI_NS_PER_MS)
#define PASS_SPINS 200

int mpi_lockword_wait (mpi_a32 *word, int64_t deadline, int spins, int brief) {
  uint32_t tid = mpi_self_.tid;
  uint32_t inherit = 0; /* once we slept, others may sleep too: our unlock must look after them */
  unsigned turns = 0;
  int slice = 0;
  int rc;
  for (;;) {
    uint32_t v = mpi_load_relaxed(word);
    if (__builtin_expect((++turns & 1023) == 0, 0) && deadline != MP_NEVER && mp_now() >= deadline) { /* a peer flips the word */
      rc = MP_ETIMEDOUT;
      break;
    }
    if ((v & MPI_LOCK_TID) == 0) {
      if (mpi_cas(word, &v, tid | (v & MPI_LOCK_WAITERS) | inherit | mpi_lockword_mark(word))) return (v & MPI_LOCK_DIED) ? MP_ABANDONED : 0;
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
    (void)mpi_fetch_add(word + 1, 2);
    (void)mpi_fetch_or(word + 1, 1);
    if (!(v & MPI_LOCK_WAITERS) && !mpi_cas(word, &v, v | MPI_LOCK_WAITERS)) continue;
    MPI_POINT("latch.wait.sleep");
    rc = mpi_sleep_on(word, v | MPI_LOCK_WAITERS, deadline, &slice);
    MPI_POINT("latch.wait.woken");
    inherit = MPI_LOCK_WAITERS;
    if (rc != 0) break;
    /* Two deaths at the same moment (a holder, and whom the kernel woke for it) leave us asleep on a kernel without "futex: Resend potentially swallowed owner
    ** death notification" (Linux 6.2): look again now and then, if only at the ends of slices (interrupt.h). */
    if (brief || slice > 4) slice = brief ? 0 : 4;
  }
  /* We may have eaten the wake-up that was meant for another. */
  if ((mpi_load(word) & MPI_LOCK_TID) == 0) mpi_futex_wake(word, 1);
  return rc;
}

void mpi_lockword_wake (mpi_a32 *word) {
  uint32_t seen = mpi_load(word + 1);
  MPI_POINT("latch.unlock.wake");
  if (mpi_futex_wake(word, 1) == 0) (void)mpi_cas(word + 1, &seen, seen & ~1u); /* a registration meanwhile keeps the bit */
}

int mpi_latch_lock_slow (mpi_latch *l, int64_t deadline) {
  int rc;
  if (deadline != MP_NEVER) {
    int64_t least = mp_now() + GRACE;
    if (deadline < least) deadline = least;
  }
  rc = mpi_lockword_wait(&l->word, deadline, mpi_spin_limit(MPI_SPIN_LATCH), 1);
  if (rc < 0) mpi_robust_pending(NULL);
  return rc;
}

/* The holder has often just woken us and lost its processor to us: look a little, then sleep on its word, so that its unlock wakes us. We take
** nothing, so nothing is pending; the wake-up that we eat is passed on. Were we killed in between, an acquirer would sleep on: that is why
** acquirers of latches look again after a tenth of a second. */
int mpi_latch_pass (mpi_latch *l, int64_t deadline) {
  int spins = 0;
  if (deadline == 0) deadline = mp_now() + GRACE;
  for (;;) {
    uint32_t v = mpi_load(&l->word);
    int64_t now, until;
    if ((v & MPI_LOCK_TID) == 0) {
      if (spins > PASS_SPINS) mpi_futex_wake(&l->word, 1);
      return 0;
    }
    if (spins++ < PASS_SPINS) {
      mpi_relax();
      continue;
    }
    if (mpi_interrupted()) return MP_EINTR;
    now = mp_now();
    if (now >= deadline) return MP_ETIMEDOUT;
    if (!(v & MPI_LOCK_WAITERS) && !mpi_cas(&l->word, &v, v | MPI_LOCK_WAITERS)) continue;
    until = now + 100 * MPI_NS_PER_MS;
    MPI_POINT("latch.pass.sleep");
    (void)mpi_futex_wait(&l->word, v | MPI_LOCK_WAITERS, until < deadline ? until : deadline);
  }
}
