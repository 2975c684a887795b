#include "base/interrupt.h"

#include <errno.h>
#include <signal.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/warm.h"

static _Thread_local mp_interrupt_fn callback;
static _Thread_local void *callback_ud;
static _Thread_local int held;
static _Thread_local int noted;

MPI_WARM mpi_a32 mpi_interrupt_count;

void mp_set_interrupt (mp_interrupt_fn fn, void *ud) {
  callback = fn;
  callback_ud = ud;
}

static int interruptible (void) {
  return callback != NULL && !held;
}

int mpi_interrupted (void) {
  return interruptible() && callback(callback_ud);
}

int mpi_interrupt_hold (int hold) {
  int before = held;
  held = hold;
  return before;
}

void mpi_interrupt_note (void) {
  (void)mpi_fetch_add(&mpi_interrupt_count, 1);
}

void mpi_interrupts_are_noted (int yes) {
  noted = yes;
}

int mpi_interrupt_watch (mpi_a32 **word) {
  *word = interruptible() && noted ? &mpi_interrupt_count : NULL;
  return noted || !interruptible();
}

int64_t mpi_slice_end (int64_t now, int64_t deadline, int *slice, int sure) {
  int64_t length = 100 * MPI_NS_PER_MS;
  int i;
  if (*slice > 0 && sure) length *= 1000;
  else for (i = 0; i < *slice; i++) length *= 4;
  if (*slice < 8) (*slice)++; /* 0.1 s ... 1.8 h */
  return deadline - now < length ? deadline : now + length;
}

/* poll takes no more entries than files may be open. */
static int may_raise_limit (void) {
  errno = EMFILE;
  if (mpi_fd_raise_limit()) return 1;
  errno = EINVAL;
  return 0;
}

/* The kernel ends a ppoll up to a thousandth of its time late: the end of a long one is slept in another. */
static int64_t near (int64_t now, int64_t deadline) {
  int64_t left = deadline - now;
  return deadline == MP_NEVER || left < 100 * MPI_NS_PER_MS ? deadline : deadline - left / 128;
}

int mpi_sleep_in_poll (struct pollfd *p, nfds_t n, int64_t deadline, int *slice) {
  sigset_t before, *unblocked = NULL;
  int64_t now = deadline > 0 ? mp_now() : 0;
  int64_t until = now;
  struct timespec ts;
  int rc, interrupted;
  if (deadline > now && *slice > 0 && interruptible()) { /* a signal waits from here, and ends the sleep */
    sigset_t all;
    (void)sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) == 0) unblocked = &before;
  }
  interrupted = mpi_interrupted();
  if (deadline > now && !interrupted) until = mpi_slice_end(now, near(now, deadline), slice, unblocked != NULL || !interruptible());
  ts = mpi_timespec(until - now);
  rc = ppoll(p, n, &ts, unblocked);
  if (rc < 0) rc = errno == EINTR || (errno == EINVAL && may_raise_limit()) ? 0 : mpi_fail_errno("ppoll");
  else if (rc == 0 && until >= deadline && !interrupted) rc = MP_ETIMEDOUT;
  if (unblocked != NULL) (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  return rc == 0 && (interrupted || mpi_interrupted()) ? MP_EINTR : rc;
}
