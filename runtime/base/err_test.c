#include "base/err.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>

#include "base/clock.h"
#include "base/spin.h"
#include "test/test.h"

TEST("remembers one sentence and gives the code") {
  CHECK_EQ(mpi_fail(MP_EFULL, "%d of %s", 3, "them"), MP_EFULL);
  CHECK_STR(mp_errmsg(), "3 of them");
}

TEST("cuts a sentence that is too long") {
  CHECK_EQ(mpi_fail(MP_ESYS, "%01000d", 1), MP_ESYS);
  CHECK_EQ(strlen(mp_errmsg()), 255);
}

static void *fail_elsewhere (void *ud) {
  (void)ud;
  (void)mpi_fail(MP_EFULL, "elsewhere");
  return NULL;
}

TEST("keeps the sentences of threads apart") {
  pthread_t t;
  (void)mpi_fail(MP_EFULL, "here");
  CHECK(pthread_create(&t, NULL, fail_elsewhere, NULL) == 0);
  CHECK(pthread_join(t, NULL) == 0);
  CHECK_STR(mp_errmsg(), "here");
}

TEST("names a failed system call, and says what to do about descriptors") {
  errno = ENOENT;
  CHECK_EQ(mpi_fail_errno("open"), MP_ESYS);
  CHECK_STR(mp_errmsg(), "open: No such file or directory");
  CHECK_EQ(errno, ENOENT);
  errno = EMFILE;
  CHECK_EQ(mpi_fail_errno("open"), MP_EMFILE);
  CHECK(strstr(mp_errmsg(), "ulimit -n") != NULL);
  errno = ENOMEM;
  CHECK_EQ(mpi_fail_errno("mmap"), MP_ENOMEM);
}

TEST("the words of the Lua side are these") {
  CHECK_STR(mp_errname(MP_ETIMEDOUT), "timeout");
  CHECK_STR(mp_errname(MP_EFULL), "full");
  CHECK_STR(mp_errname(MP_EEMPTY), "empty");
  CHECK_STR(mp_errname(MP_ECLOSED), "closed");
  CHECK_STR(mp_errname(MP_EEOF), "eof");
  CHECK_STR(mp_errname(MP_EBROKEN), "broken");
  CHECK_STR(mp_errname(MP_ECANCELLED), "cancelled");
  CHECK_STR(mp_errname(-1000), "unknown error");
}

TEST("a deadline is that far away; none or less polls, too far never comes") {
  int64_t now = mp_now();
  int64_t d = mp_deadline(1.5);
  CHECK(d >= now + 1500 * MPI_NS_PER_MS && d < now + 60 * MPI_NS_PER_S);
  CHECK_EQ(mp_deadline(0), 0);
  CHECK_EQ(mp_deadline(-3), 0);
  CHECK_EQ(mp_deadline(-INFINITY), 0);
  CHECK(mp_deadline(INFINITY) == MP_NEVER);
  CHECK(mp_deadline(1e300) == MP_NEVER);
  CHECK(mp_deadline((double)NAN) == MP_NEVER);
}

static int yes (void *ud) { return ++*(int *)ud; }

TEST("a sleep lasts until its deadline, or until it is interrupted") {
  int64_t now = mp_now();
  int asked = 0;
  CHECK_EQ(mp_sleep(now + 20 * MPI_NS_PER_MS), 0);
  CHECK(mp_now() >= now + 20 * MPI_NS_PER_MS);
  CHECK_EQ(mp_sleep(0), 0);
  mp_set_interrupt(yes, &asked);
  CHECK_EQ(mp_sleep(MP_NEVER), MP_EINTR);
  CHECK_EQ(asked, 1);
}

TEST("counts only the processors that this process may use") {
  cpu_set_t one;
  int i;
  CHECK(mp_cpu_count() >= 1);
  CHECK(sched_getaffinity(0, sizeof one, &one) == 0);
  for (i = 0; !CPU_ISSET(i, &one); i++) {}
  CPU_ZERO(&one);
  CPU_SET(i, &one);
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK_EQ(mp_cpu_count(), 1);
  CHECK_EQ(mpi_spin_limit(MPI_SPIN_MESSAGE), 0); /* nobody else runs meanwhile */
}

TEST("spins rarely where it has not paid off, and again once it has") {
  int credit = 0, i, spun = 0;
  if (mpi_spin_limit(MPI_SPIN_MESSAGE) == 0) SKIP("one processor, or the hard mode: nothing spins");
  CHECK(mpi_spin_begin(&credit) > 0);
  for (i = 0; i < 50; i++) mpi_spin_end(&credit, 0);
  for (i = 0; i < 1280; i++) spun += mpi_spin_begin(&credit) > 0;
  CHECK_EQ(spun, 10);
  for (i = 0; i < 5; i++) mpi_spin_end(&credit, 1);
  CHECK(mpi_spin_begin(&credit) > 0);
}

static int third_look (void *ud) {
  return ++*(int *)ud >= 3;
}

static int never (void *ud) {
  ++*(int *)ud;
  return 0;
}

TEST("looking ends when it is seen, or in time") {
  int credit = 0, looks = 0;
  if (mpi_spin_limit(MPI_SPIN_MESSAGE) == 0) SKIP("one processor, or the hard mode: nothing spins");
  CHECK_EQ(mpi_spin_until(&credit, 4, third_look, &looks), 1);
  CHECK_EQ(looks, 3);
  CHECK(credit > 0);
  looks = 0;
  CHECK_EQ(mpi_spin_until(&credit, 4, never, &looks), 0);
  CHECK(looks > 1);
  CHECK(credit < 2);
}
