#include "proc/child.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "test/test.h"

/* A child that runs fn and ends with what it gives. */
static mpi_child *child (int (*fn) (void *), void *arg, int daemon) {
  mpi_child *c = NULL;
  int rc = mpi_child_fork(daemon, &c);
  if (rc == 1) mpi_child_exit(fn(arg));
  CHECK_OK(rc);
  return c;
}

static int give (void *arg) { return *(int *)arg; }

static int sleep_on (void *arg) {
  (void)arg;
  for (;;) (void)pause();
  return 0;
}

TEST("a child's status is its exit code, modulo 256; a signal's is negative") {
  int codes[] = {0, 7, 256 + 9};
  size_t i;
  mpi_child *c;
  for (i = 0; i < 3; i++) {
    c = child(give, &codes[i], 0);
    CHECK_OK(mpi_child_wait(c, MP_NEVER));
    CHECK_EQ(c->exitcode, codes[i] % 256);
    mpi_child_release(c);
  }
  c = child(sleep_on, NULL, 0);
  CHECK_EQ(mpi_child_poll(c), 0);
  CHECK_ERR(mpi_child_wait(c, 0), MP_ETIMEDOUT);
  CHECK_OK(mpi_child_signal(c, SIGKILL));
  CHECK_OK(mpi_child_wait(c, MP_NEVER));
  CHECK_EQ(c->exitcode, -SIGKILL);
  CHECK_OK(mpi_child_signal(c, SIGKILL));
  mpi_child_release(c);
}

TEST("start, join and drop leave no descriptor") {
  int zero = 0, i, before;
  mpi_child_release(child(give, &zero, 0)); /* the first makes what the program shares */
  before = test_count_fds();
  for (i = 0; i < 20; i++) {
    mpi_child *c = child(give, &zero, 0);
    CHECK_OK(mpi_child_wait(c, MP_NEVER));
    mpi_child_release(c);
  }
  CHECK_EQ(test_count_fds() <= before, 1);
}

static int report_much (void *arg) {
  static unsigned char much[100000];
  int fds[600], i;
  (void)arg;
  memset(much, 'm', sizeof much);
  for (i = 0; i < 600; i++) {
    fds[i] = mpi_eventfd();
    if (fds[i] < 0) return 1;
  }
  return mpi_report_send(MPI_REPORT_RESULT, much, sizeof much, fds, 600) == 0 ? 0 : 2;
}

static int report_little (void *arg) { return mpi_report_send(MPI_REPORT_ERROR, arg, 3, NULL, 0) == 0 ? 0 : 2; }

TEST("a report comes whole, small or large, with hundreds of descriptors") {
  char abc[] = "abc";
  mpi_child *c = child(report_little, abc, 0);
  int before;
  CHECK_OK(mpi_child_wait(c, MP_NEVER));
  CHECK_EQ(c->exitcode, 0);
  CHECK_EQ(c->report.kind, MPI_REPORT_ERROR);
  CHECK_EQ(c->report.size, 3);
  CHECK_MEM(c->report.data, "abc", 3);
  CHECK_EQ(c->report.nfds, 0);
  mpi_child_release(c);
  before = test_count_fds();
  c = child(report_much, NULL, 0);
  CHECK_OK(mpi_child_wait(c, MP_NEVER));
  CHECK_EQ(c->exitcode, 0);
  CHECK_EQ(c->report.kind, MPI_REPORT_RESULT);
  CHECK_EQ(c->report.size, 100000);
  CHECK_EQ(c->report.data[99999], 'm');
  CHECK_EQ(c->report.nfds, 600);
  mpi_child_release(c);
  CHECK_EQ(test_count_fds(), before);
}

/* What an opponent in the child may send. */
static int hostile (void *arg) {
  static const unsigned char junk[64] = {0x4d, 0x50, 0x52, 0x50, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127, 255, 255, 255, 255, 1};
  int fds[3] = {0, 1, 2};
  int sock = *(int *)arg;
  (void)mpi_fd_send(sock, junk, sizeof junk, fds, 3);
  return 0;
}

TEST("a report that is not what it says is none, and leaks nothing") {
  int sv[2], before, i;
  mpi_record r;
  CHECK_OK(mpi_socketpair(sv));
  before = test_count_fds();
  CHECK_EQ(hostile(&sv[1]), 0); /* claims 2^63 bytes in the memfd that descriptor 0 is said to be */
  mpi_record_take(sv[0], &r);
  CHECK_EQ(r.kind, MPI_REPORT_NONE);
  CHECK_EQ(test_count_fds(), before);
  for (i = 0; i < 200; i++) {
    unsigned char bytes[40];
    size_t k;
    for (k = 0; k < sizeof bytes; k++) bytes[k] = (unsigned char)test_random();
    if (i & 1) memcpy(bytes, "MPRP\1\0\0\0", 8);
    CHECK_OK(mpi_fd_send(sv[1], bytes, sizeof bytes, sv, i % 3));
    mpi_record_take(sv[0], &r);
    mpi_record_fini(&r);
    while (mpi_fd_recv(sv[0], bytes, sizeof bytes, &k, NULL, &(int){0}, 0) == 0) {}
  }
  CHECK_EQ(test_count_fds(), before);
}

static int look_at_parents (void *arg) {
  mpi_child *other = arg;
  if (mpi_child_poll(other) != MP_EMISUSE || mpi_child_signal(other, SIGKILL) != MP_EMISUSE) return 1;
  if (mpi_child_wait(other, 0) != MP_EMISUSE || mpi_parent() != getppid() || other->pidfd != -1) return 2;
  return read(0, &other, 1) == 0 ? 0 : 3;
}

TEST("a forked child has no children of its parent's, and an empty standard input") {
  mpi_child *other = child(sleep_on, NULL, 0);
  mpi_child *c = child(look_at_parents, other, 0);
  CHECK_OK(mpi_child_wait(c, MP_NEVER));
  CHECK_EQ(c->exitcode, 0);
  CHECK_EQ(mpi_child_poll(other), 0);
  CHECK_OK(mpi_child_signal(other, SIGKILL));
  CHECK_OK(mpi_child_wait(other, MP_NEVER));
  mpi_child_release(other);
  mpi_child_release(c);
}

/* A child with a daemon, a child that takes a moment, and a word that tells what happened. */
static int family (void *arg) {
  int fd = *(int *)arg;
  mpi_child *c = NULL;
  if (mpi_child_fork(1, &c) == 1) sleep_on(NULL);
  if (mpi_child_fork(0, &c) == 1) {
    int i;
    for (i = 0; i < 50; i++) test_pause();
    (void)!write(fd, "j", 1);
    mpi_child_exit(0);
  }
  return 5; /* the handles are dropped: the rules know them */
}

TEST("the end of a process ends its daemons and waits for its other children") {
  int p[2];
  char word[4];
  mpi_child *c;
  CHECK_EQ(pipe(p), 0);
  c = child(family, &p[1], 0);
  close(p[1]);
  CHECK_OK(mpi_child_wait(c, MP_NEVER));
  CHECK_EQ(c->exitcode, 5);
  CHECK_EQ(read(p[0], word, 4), 1);
  CHECK_EQ(read(p[0], word, 4), 0); /* nobody holds the other end any more: the daemon is gone */
  mpi_child_release(c);
  close(p[0]);
}

static int kept_family (void *arg) {
  (void)family(arg);
  return sleep_on(NULL);
}

TEST("a killed process takes its children along") {
  int p[2];
  char c1;
  mpi_child *c;
  CHECK_EQ(pipe(p), 0);
  c = child(kept_family, &p[1], 0);
  close(p[1]);
  CHECK_EQ(read(p[0], &c1, 1), 1); /* the family is there */
  CHECK_OK(mpi_child_signal(c, SIGKILL));
  CHECK_OK(mpi_child_wait(c, MP_NEVER));
  CHECK_EQ(read(p[0], &c1, 1), 0);
  mpi_child_release(c);
  close(p[0]);
}

#ifdef MP_FAULTS
TEST("a start that fails leaves nothing") {
  const char *points[] = {"child.alloc.fail", "child.fork.fail", "pidfd.open.fail"};
  mpi_child *c = NULL;
  size_t i;
  int before;
  (void)mpi_program();
  before = test_count_fds();
  for (i = 0; i < 3; i++) {
    int rc;
    mpi_fault_arm(points[i], 1, MPI_FAULT_FAIL);
    rc = mpi_child_fork(0, &c);
    if (rc == 1) sleep_on(NULL);
    CHECK(rc < 0);
    CHECK(c == NULL);
    CHECK(mp_errmsg()[0] != '\0');
    CHECK_EQ(test_count_fds(), before);
    CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
  }
}
#endif
