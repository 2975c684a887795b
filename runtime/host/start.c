#include "host/start.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/interrupt.h"
#include "proc/spawn.h"
#include "sandbox/away.h"

int mp_set_helper (const char *path) {
  if (path == NULL || *path == '\0') return mpi_fail(MP_EMISUSE, "the helper's path is empty");
  return mpi_spawn_use_helper(path);
}

int mpi_options (const void *from, size_t size, void *to, size_t most) {
  if (from == NULL || size == 0) return mpi_fail(MP_EMISUSE, "the options' size is not set");
  memset(to, 0, most);
  memcpy(to, from, size < most ? size : most);
  return 0;
}

void mpi_end (mpi_child *c, int sig) {
  int held;
  if (c == NULL) return;
  held = mpi_interrupt_hold(1);
  if (mpi_child_is_ours(c)) {
    (void)mpi_child_signal(c, sig);
    (void)mpi_child_wait(c, MP_NEVER);
  }
  (void)mpi_interrupt_hold(held);
  mpi_child_release(c);
}

#define BEGIN_WITHIN (10 * MPI_NS_PER_S)

/* Its first record: that it has begun, or why it will not. */
static int begun (mpi_child *c) {
  int64_t deadline = mp_now() + BEGIN_WITHIN;
  mpi_record r;
  int rc = 0;
  for (;;) {
    struct pollfd p = {c->sock, POLLIN, 0};
    int64_t left = (deadline - mp_now()) / MPI_NS_PER_MS;
    int n = poll(&p, 1, left > 0 ? (int)left + 1 : 0);
    if (n > 0) break;
    if (n == 0 || errno != EINTR) return mpi_fail(MP_ESYS, "the process that was started does not answer");
  }
  mpi_record_take(c->sock, &r);
  if (r.kind == MPI_REPORT_ERROR) {
    struct mpi_failure f;
    rc = mpi_failure_read(r.data, r.size, &f);
    if (rc == 0) {
      rc = mpi_fail(MP_EMISUSE, "%s", f.public.message);
      mpi_failure_fini(&f);
    }
  } else if (r.kind != MPI_REPORT_RESULT) {
    rc = mpi_fail(MP_ESYS, "the process that was started ended before it had begun");
  }
  mpi_record_fini(&r);
  return rc;
}

int mpi_start (const struct mpi_start *s, mpi_child **out) {
  mpi_child *c = NULL;
  mpi_task t;
  int rc, held = mpi_interrupt_hold(1);
  memset(&t, 0, sizeof t);
  t.data = s->task->data;
  t.size = s->task->size;
  t.fds = s->task->fds;
  t.nfds = s->task->nfds;
  t.daemon = 1;
  t.confined = s->report_fd >= 0;
  mpi_spawn_locate();
  rc = mpi_spawn(&t, &c);
  if (rc == 0 && s->report_fd >= 0) {
    int fds[1 + MPI_AWAY_FDS];
    fds[0] = s->report_fd;
    rc = mpi_record_send(c->sock, MPI_REPORT_TASK, NULL, 0, fds, 1 + mpi_away_get(fds + 1));
  }
  if (rc == 0 && s->secret != NULL)
    rc = mpi_record_send(c->sock, MPI_REPORT_TASK, s->secret->data, s->secret->size, s->secret->fds, s->secret->nfds);
  if (rc == 0 || (rc == MP_ECLOSED && c != NULL)) rc = begun(c); /* one that has ended says why */
  (void)mpi_interrupt_hold(held);
  if (rc == 0) {
    *out = c;
  } else {
    char why[256]; /* the end of the process must not change what is said of its start */
    strncpy(why, mp_errmsg(), sizeof why - 1);
    why[sizeof why - 1] = '\0';
    mpi_end(c, SIGKILL);
    (void)mpi_fail(rc, "%s", why);
  }
  return rc;
}
