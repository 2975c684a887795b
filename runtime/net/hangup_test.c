#include "net/hangup.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "shm/queue.h"
#include "test/test.h"
#include "wire/wire.h"

/* The number in the next message, which must be of ours. */
static int64_t next_gone (mp_object *q) {
  unsigned char m[64];
  size_t size = sizeof m;
  const unsigned char *at = m, *end;
  struct mpi_item it;
  int i;
  CHECK_EQ(mp_queue_get(q, m, &size, mp_deadline(10)), 0);
  end = m + size;
  for (i = 0; i < 5; i++) {
    at = mpi_wire_get(at, end, &it);
    CHECK(at != NULL);
    if (i == 3) CHECK(it.kind == MPI_W_STR && it.len == 4 && memcmp(it.data, "gone", 4) == 0);
  }
  CHECK_EQ(it.kind, MPI_W_INT);
  CHECK(at == end);
  return it.u.i;
}

TEST("tells of each pipe once its last writing end is closed") {
  struct mpi_hangups *h;
  mp_object *q;
  int a[2], b[2], copy;
  CHECK_EQ(mp_queue_new(NULL, &q), 0);
  CHECK_EQ(mpi_hangups_start(q, &h), 0);
  CHECK_EQ(mpi_pipe_pair(a), 0);
  CHECK_EQ(mpi_pipe_pair(b), 0);
  CHECK_EQ(mpi_hangups_watch(h, a[0], 7), 0);
  CHECK_EQ(mpi_hangups_watch(h, b[0], INT64_C(1) << 40), 0);
  copy = mpi_fd_dup(a[1]);
  mpi_fd_close(&a[1]);
  mpi_fd_close(&b[1]);
  CHECK_EQ(next_gone(q), INT64_C(1) << 40);
  CHECK_EQ(mp_queue_size(q), 0); /* a copy of a's is left */
  mpi_fd_close(&copy);
  CHECK_EQ(next_gone(q), 7);
}

TEST("tells of a killed process's ends, also of what was closed before it was watched") {
  struct mpi_hangups *h;
  mp_object *q;
  int a[2], b[2];
  pid_t pid;
  CHECK_EQ(mp_queue_new(NULL, &q), 0);
  CHECK_EQ(mpi_pipe_pair(a), 0);
  CHECK_EQ(mpi_pipe_pair(b), 0);
  mpi_fd_close(&b[1]);
  pid = fork();
  if (pid == 0) {
    pause();
    _exit(0);
  }
  CHECK(pid > 0);
  mpi_fd_close(&a[1]);
  CHECK_EQ(mpi_hangups_start(q, &h), 0);
  CHECK_EQ(mpi_hangups_watch(h, a[0], 1), 0);
  CHECK_EQ(mpi_hangups_watch(h, b[0], 2), 0);
  CHECK_EQ(next_gone(q), 2);
  CHECK_EQ(kill(pid, SIGKILL), 0);
  CHECK_EQ(next_gone(q), 1);
  CHECK_EQ(waitpid(pid, NULL, 0), pid);
}
