#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "test/test.h"

static void pair (int sv[2]) { CHECK_OK(mpi_socketpair(sv)); }

TEST("every descriptor is closed on exec", .clean = 1) {
  int sv[2], m = mpi_memfd("x"), e = mpi_eventfd(), d, i;
  pair(sv);
  d = mpi_fd_dup(0);
  CHECK(m >= 0 && e >= 0 && d > 2);
  {
    int all[5] = {m, e, d, sv[0], sv[1]};
    for (i = 0; i < 5; i++) {
      CHECK(fcntl(all[i], F_GETFD) & FD_CLOEXEC);
      mpi_fd_close(&all[i]);
      CHECK_EQ(all[i], -1);
    }
  }
}

TEST("close keeps errno and does nothing twice") {
  int fd = mpi_eventfd();
  errno = EPERM;
  mpi_fd_close(&fd);
  mpi_fd_close(&fd);
  CHECK_EQ(errno, EPERM);
}

TEST("records and their descriptors arrive, in order", .clean = 1) {
  int sv[2], fd = mpi_eventfd(), got[4] = {-1, -1, -1, -1}, n = 4;
  char data[16];
  size_t size = 0;
  pair(sv);
  CHECK_OK(mpi_fd_send(sv[0], "one", 3, NULL, 0));
  CHECK_OK(mpi_fd_send(sv[0], "two", 3, (int[]){fd, fd}, 2));
  CHECK_OK(mpi_fd_recv(sv[1], data, sizeof data, &size, got, &n, 0));
  CHECK_EQ(size, 3);
  CHECK_EQ(n, 0);
  CHECK_MEM(data, "one", 3);
  n = 4;
  CHECK_OK(mpi_fd_recv(sv[1], data, sizeof data, &size, got, &n, 0));
  CHECK_EQ(n, 2);
  CHECK(got[0] != fd && got[1] != fd && got[0] != got[1]);
  CHECK(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
  CHECK_EQ(mpi_fd_recv(sv[1], data, sizeof data, &size, got + 2, &n, 0), MP_EEMPTY);
  for (n = 0; n < 2; n++) mpi_fd_close(&got[n]);
  for (n = 0; n < 2; n++) mpi_fd_close(&sv[n]);
  mpi_fd_close(&fd);
}

TEST("descriptors without room, and those of a record that is too large, are closed", .clean = 1) {
  int sv[2], fd = mpi_eventfd(), got[1] = {-1}, n = 1, before;
  char data[2];
  size_t size = 0;
  pair(sv);
  before = test_count_fds();
  CHECK_OK(mpi_fd_send(sv[0], "ab", 2, (int[]){fd, fd, fd}, 3));
  CHECK_OK(mpi_fd_recv(sv[1], data, sizeof data, &size, got, &n, 0));
  CHECK_EQ(n, 1);
  CHECK_EQ(test_count_fds(), before + 1);
  mpi_fd_close(&got[0]);
  CHECK_OK(mpi_fd_send(sv[0], "abc", 3, (int[]){fd}, 1));
  n = 1;
  CHECK_EQ(mpi_fd_recv(sv[1], data, sizeof data, &size, got, &n, 0), MP_ECORRUPT);
  CHECK_EQ(n, 0);
  CHECK_EQ(test_count_fds(), before);
  for (n = 0; n < 2; n++) mpi_fd_close(&sv[n]);
  mpi_fd_close(&fd);
}

TEST("a peeked record stays", .clean = 1) {
  int sv[2], n = 0;
  char data[8];
  size_t size = 0;
  pair(sv);
  CHECK_OK(mpi_fd_send(sv[0], "x", 1, NULL, 0));
  CHECK_OK(mpi_fd_recv(sv[1], data, sizeof data, &size, NULL, &n, MSG_PEEK));
  CHECK_OK(mpi_fd_recv(sv[1], data, sizeof data, &size, NULL, &n, 0));
  CHECK_EQ(mpi_fd_recv(sv[1], data, sizeof data, &size, NULL, &n, 0), MP_EEMPTY);
  for (n = 0; n < 2; n++) mpi_fd_close(&sv[n]);
}

TEST("a full socket says so and a peer that is gone is told, without SIGPIPE", .clean = 1) {
  int sv[2], n = 0, i, rc = 0;
  static char data[4096];
  size_t size = 0;
  pair(sv);
  for (i = 0; i < 100000 && rc == 0; i++) rc = mpi_fd_send(sv[0], data, sizeof data, NULL, 0);
  CHECK_EQ(rc, MP_EFULL);
  mpi_fd_close(&sv[1]);
  CHECK_EQ(mpi_fd_send(sv[0], "x", 1, NULL, 0), MP_ECLOSED);
  rc = mpi_fd_recv(sv[0], data, sizeof data, &size, NULL, &n, 0);
  CHECK_EQ(rc, MP_EEOF);
  mpi_fd_close(&sv[0]);
}

TEST("what a peer has sent is received although it ended with records unread", .clean = 1) {
  int sv[2], n = 0;
  char data[8];
  size_t size = 0;
  pair(sv);
  CHECK_OK(mpi_fd_send(sv[0], "for you", 7, NULL, 0));
  CHECK_OK(mpi_fd_send(sv[1], "last", 4, NULL, 0));
  mpi_fd_close(&sv[1]);
  CHECK_OK(mpi_fd_recv(sv[0], data, sizeof data, &size, NULL, &n, 0));
  CHECK_EQ(size, 4);
  CHECK_MEM(data, "last", 4);
  CHECK_EQ(mpi_fd_recv(sv[0], data, sizeof data, &size, NULL, &n, 0), MP_EEOF);
  mpi_fd_close(&sv[0]);
}

TEST("raises its own limit of open files before it gives up") {
  struct rlimit r;
  int fd[200];
  int n = 0;
  CHECK(getrlimit(RLIMIT_NOFILE, &r) == 0);
  r.rlim_cur = 32;
  if (r.rlim_max > 128) r.rlim_max = 128;
  CHECK(setrlimit(RLIMIT_NOFILE, &r) == 0);
  while (n < 199 && (fd[n] = mpi_eventfd()) >= 0) n++;
  CHECK(n >= 40);
  CHECK_EQ(fd[n], MP_EMFILE);
  CHECK(strstr(mp_errmsg(), "ulimit -n") != NULL);
  while (n-- > 0) mpi_fd_close(&fd[n]);
}
