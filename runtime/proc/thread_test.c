#include "proc/thread.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "test/test.h"

static int give_kind (mpi_thread_handle *t) {
  return t->task.kind + (mpi_thread_self() == t);
}

TEST("a thread gets its task and leaves an exit code") {
  mpi_record task;
  mpi_thread_handle *t = NULL;
  memset(&task, 0, sizeof task);
  task.kind = 41;
  CHECK_OK(mpi_thread_start(give_kind, &task, 0, &t));
  CHECK_OK(mpi_thread_wait(t, MP_NEVER));
  CHECK_EQ(mpi_thread_poll(t), 1);
  CHECK_EQ(t->exitcode, 42);
  CHECK_OK(mpi_thread_poke(t, MPI_STOP_END)); /* gone: nothing happens */
  mpi_thread_release(t);
  CHECK(mpi_thread_self() == NULL);
}

static void noted (void *ud) {
  atomic_fetch_add((_Atomic int *)ud, 1);
}

static int until_poked (mpi_thread_handle *t) {
  static _Atomic int pokes;
  t->ud = &pokes;
  t->poked = noted;
  while (atomic_load(&pokes) == 0) test_pause();
  return atomic_load(&t->request);
}

TEST("a poke runs the thread's own function in that thread") {
  mpi_record task;
  mpi_thread_handle *t = NULL;
  memset(&task, 0, sizeof task);
  CHECK_OK(mpi_thread_start(until_poked, &task, 1, &t));
  CHECK_ERR(mpi_thread_wait(t, mp_now() + 20 * MPI_NS_PER_MS), MP_ETIMEDOUT);
  while (!mpi_thread_poll(t)) {
    CHECK_OK(mpi_thread_poke(t, MPI_STOP_INTERRUPT)); /* the first may come before it listens */
    test_pause();
  }
  CHECK_EQ(t->exitcode, MPI_STOP_INTERRUPT);
  mpi_thread_release(t);
}

static int start_child (mpi_thread_handle *t) {
  mpi_child *c = NULL;
  (void)t;
  if (mpi_child_fork(0, &c) == 1) {
    int i;
    for (i = 0; i < 30; i++) test_pause();
    mpi_child_exit(9);
  }
  mpi_child_release(c);
  return 0; /* without waiting: the thread's end does, else the child would die with it */
}

TEST("a thread waits for the processes that it started") {
  mpi_record task;
  mpi_thread_handle *t = NULL;
  int64_t before = mp_now();
  memset(&task, 0, sizeof task);
  CHECK_OK(mpi_thread_start(start_child, &task, 0, &t));
  CHECK_OK(mpi_thread_wait(t, MP_NEVER));
  CHECK(mp_now() - before >= 25 * MPI_NS_PER_MS);
  mpi_thread_release(t);
}
