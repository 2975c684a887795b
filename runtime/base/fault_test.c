#include "base/fault.h"

#include <signal.h>
#include <stdlib.h>

#include "test/test.h"

#ifdef MP_FAULTS
static void pass_three (void *ud) {
  (void)ud;
  MPI_POINT("a.b.c");
  MPI_POINT("a.b.d");
  MPI_POINT("a.b.c");
}

TEST("kills at the point that is armed, the n-th time") {
  CHECK_EQ(run_killed_at("a.b.c", 1, pass_three, NULL), -SIGKILL);
  CHECK_EQ(run_killed_at("a.b.c", 2, pass_three, NULL), -SIGKILL);
  CHECK_EQ(run_killed_at("a.b.c", 3, pass_three, NULL), 0);
  CHECK_EQ(run_killed_at("a.b", 1, pass_three, NULL), 0);
  CHECK_EQ(run_killed_at("a.b.*", 3, pass_three, NULL), -SIGKILL);
}

TEST("lets a call fail once") {
  mpi_fault_arm("x.y.fail", 2, MPI_FAULT_FAIL);
  CHECK_EQ(MPI_FAULT_HERE("x.y.fail"), 0);
  CHECK_EQ(MPI_FAULT_HERE("x.y.fail"), 1);
  CHECK_EQ(MPI_FAULT_HERE("x.y.fail"), 0);
  mpi_fault_arm("x.y.fail", 1, MPI_FAULT_FAIL);
  mpi_fault_arm(NULL, 0, MPI_FAULT_NONE);
  CHECK_EQ(MPI_FAULT_HERE("x.y.fail"), 0);
}

static void from_environment (void *ud) {
  (void)ud;
  pass_three(NULL);
}

TEST("is armed from the environment") {
  CHECK(setenv("MP_FAULT", "a.b.d:1:kill", 1) == 0);
  CHECK_EQ(wait_child(fork_child(from_environment, NULL)), -SIGKILL);
}

TEST("remembers the points that were passed") {
  const char *names[256];
  int i, n, c = 0;
  pass_three(NULL);
  n = mpi_fault_seen(names, 256);
  for (i = 0; i < n; i++) c += strcmp(names[i], "a.b.c") == 0;
  CHECK_EQ(c, 1);
}
#else
TEST("has no points in this build") { CHECK_EQ(MPI_FAULT_HERE("x"), 0); }
#endif
