#include "base/futex.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/interrupt.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

/* linux/futex.h of Debian 12 has these; older headers do not. */
struct waitv {
  uint64_t val;
  uint64_t uaddr;
  uint32_t flags;
  uint32_t reserved;
};

static int outcome (long rc) {
  if (rc >= 0) return 0;
  switch (errno) {
    case EAGAIN: return 0;
    case ETIMEDOUT: return MP_ETIMEDOUT;
    case EINTR: return MP_EINTR;
    case EFAULT: return mpi_fail(MP_ECORRUPT, "futex word is not mapped");
    default: return mpi_fail_errno("futex");
  }
}

int mpi_futex_wait (mpi_a32 *word, uint32_t seen, int64_t deadline) {
  /* A century stands for ever: a wait without timeout would be restarted behind our back after a signal. */
  struct timespec ts = mpi_timespec(deadline == MP_NEVER ? INT64_C(3000000000) * MPI_NS_PER_S : deadline);
  if (deadline <= 0) return mpi_load(word) == seen ? MP_ETIMEDOUT : 0;
  if (mpi_fault_early_return()) return 0;
  return outcome(syscall(SYS_futex, word, FUTEX_WAIT_BITSET, seen, &ts, NULL, FUTEX_BITSET_MATCH_ANY));
}

static int none_changed (const struct mpi_watched *list, int n) {
  int i;
  for (i = 0; i < n; i++)
    if (mpi_load(list[i].word) != list[i].seen) return 0;
  return 1;
}

static _Atomic int waitv_missing;

static int wait_many (const struct mpi_watched *list, int n, int64_t deadline) {
  struct waitv v[MPI_SLEEP_MANY + 1];
  int64_t soon;
  int rc, i;
  if (deadline <= 0) return none_changed(list, n) ? MP_ETIMEDOUT : 0;
  if (mpi_fault_early_return()) return 0;
  if (!waitv_missing) {
    struct timespec ts = mpi_timespec(deadline == MP_NEVER ? INT64_C(3000000000) * MPI_NS_PER_S : deadline);
    long r;
    for (i = 0; i < n; i++) {
      const uint32_t flags = list[i].word == &mpi_interrupt_count ? 130 : 2; /* FUTEX2_SIZE_U32; FUTEX2_PRIVATE */
      v[i] = (struct waitv){list[i].seen, (uint64_t)(uintptr_t)list[i].word, flags, 0};
    }
    r = syscall(SYS_futex_waitv, v, n, 0, &ts, CLOCK_MONOTONIC);
    if (r >= 0 || (errno != ENOSYS && errno != EPERM)) return outcome(r);
    waitv_missing = 1;
  }
  if (!none_changed(list, n)) return 0;
  soon = mp_now() + 50 * MPI_NS_PER_MS;
  rc = mpi_futex_wait(list[0].word, list[0].seen, soon < deadline ? soon : deadline);
  return rc == MP_ETIMEDOUT && soon < deadline ? 0 : rc;
}

int mpi_futex_wait2 (mpi_a32 *w1, uint32_t seen1, mpi_a32 *w2, uint32_t seen2, int64_t deadline) {
  const struct mpi_watched list[2] = {{w1, seen1}, {w2, seen2}};
  return wait_many(list, 2, deadline);
}

int mpi_futex_wake (mpi_a32 *word, int n) {
  long woken = syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);
  return woken < 0 ? 0 : (int)woken;
}

/* Turns the result of one slice into what the caller of a whole sleep sees. */
static int judge (int rc, int64_t until, int64_t deadline) {
  if (rc == MP_ETIMEDOUT && until < deadline) rc = mpi_interrupted() ? MP_EINTR : 0;
  else if (rc == MP_EINTR) rc = mpi_interrupted() ? MP_EINTR : 0;
  return rc;
}

static int one_slice (const struct mpi_watched *list, int n, int64_t deadline, int *slice, int sure) {
  int64_t now, until;
  if (mpi_interrupted()) return MP_EINTR;
  if (deadline <= 0) return MP_ETIMEDOUT;
  now = mp_now();
  if (now >= deadline) return MP_ETIMEDOUT; /* also when a word has changed: it may change for ever */
  until = mpi_slice_end(now, deadline, slice, sure);
  return judge(n == 1 ? mpi_futex_wait(list->word, list->seen, until) : wait_many(list, n, until), until, deadline);
}

/* The slices after the first. */
static int long_slice (const struct mpi_watched *list, int n, int64_t deadline, int *slice) {
  struct mpi_watched all[MPI_SLEEP_MANY + 1];
  mpi_a32 *interruption;
  if (waitv_missing || !mpi_interrupt_watch(&interruption)) return one_slice(list, n, deadline, slice, 0);
  if (interruption == NULL) return one_slice(list, n, deadline, slice, 1);
  memcpy(all, list, (size_t)n * sizeof *list);
  all[n] = (struct mpi_watched){interruption, mpi_load(interruption)};
  return one_slice(all, n + 1, deadline, slice, 1);
}

int mpi_sleep_on (mpi_a32 *word, uint32_t seen, int64_t deadline, int *slice) {
  const struct mpi_watched list = {word, seen};
  return mpi_sleep_on_many(&list, 1, deadline, slice);
}

int mpi_sleep_on_many (const struct mpi_watched *list, int n, int64_t deadline, int *slice) {
  return *slice > 0 ? long_slice(list, n, deadline, slice) : one_slice(list, n, deadline, slice, 0);
}

int mpi_sleep_on2 (mpi_a32 *w1, uint32_t seen1, mpi_a32 *w2, uint32_t seen2, int64_t deadline, int *slice) {
  const struct mpi_watched list[2] = {{w1, seen1}, {w2, seen2}};
  return mpi_sleep_on_many(list, 2, deadline, slice);
}
