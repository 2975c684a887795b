#include "net/address.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "test/test.h"

static char folder[64];

static struct mpi_address in_folder (void) {
  struct mpi_address a;
  char text[128];
  strcpy(folder, "/tmp/mp-address-XXXXXX");
  CHECK(mkdtemp(folder) != NULL);
  (void)snprintf(text, sizeof text, "unix:%s/socket", folder);
  CHECK_OK(mpi_address_parse(text, &a));
  return a;
}

static void tidy (const struct mpi_address *a) {
  (void)unlink(a->path);
  (void)rmdir(folder);
}

TEST("reads addresses and writes them again") {
  static const char *const good[] = {"tcp://localhost:80", "tcp://127.0.0.1:0", "tcp://[::1]:65535", "unix:/a/b"};
  static const char *const bad[] = {"",           "tcp://",       "tcp://h",     "tcp://h:",   "tcp://:1",   "tcp://h:65536", "tcp://h:-1", "tcp://h:1x",
                                    "tcp://[]:1", "tcp://::1:80", "unix:",       "unix:a",     "udp://h:1",  "tcp:/h:1",      "localhost:1"};
  struct mpi_address a;
  char text[400];
  size_t i;
  for (i = 0; i < sizeof good / sizeof *good; i++) {
    CHECK_OK(mpi_address_parse(good[i], &a));
    mpi_address_text(&a, text, sizeof text);
    CHECK_STR(text, good[i]);
  }
  for (i = 0; i < sizeof bad / sizeof *bad; i++) CHECK_ERR(mpi_address_parse(bad[i], &a), MP_EMISUSE);
  memset(text, 'x', sizeof text);
  memcpy(text, "unix:/", 6);
  text[sizeof text - 1] = '\0';
  CHECK_ERR(mpi_address_parse(text, &a), MP_EMISUSE);
  memcpy(text, "tcp://", 6);
  memcpy(text + sizeof text - 3, ":1", 3);
  CHECK_ERR(mpi_address_parse(text, &a), MP_EMISUSE);
}

TEST("finds a free port, and dials it", .clean = 1) {
  struct mpi_address a;
  int fd, far;
  CHECK_OK(mpi_address_parse("tcp://127.0.0.1:0", &a));
  CHECK_OK(mpi_address_listen(&a, &fd));
  CHECK(strcmp(a.port, "0") != 0);
  CHECK_OK(mpi_address_dial(&a, mp_deadline(10), &far));
  mpi_fd_close(&far);
  mpi_fd_close(&fd);
  CHECK_ERR(mpi_address_dial(&a, mp_deadline(10), &far), MP_ESYS);
}

TEST("makes a socket file for its user alone, and removes no other", .clean = 1) {
  struct mpi_address a = in_folder(), other;
  struct stat st;
  int fd, far;
  CHECK_OK(mpi_address_listen(&a, &fd));
  CHECK_EQ(lstat(a.path, &st), 0);
  CHECK_EQ(st.st_mode & 0777, 0600);
  CHECK_OK(mpi_address_dial(&a, mp_deadline(10), &far));
  mpi_fd_close(&far);
  other = a;
  CHECK_ERR(mpi_address_listen(&other, &far), MP_ESYS);
  other.ino++;
  mpi_address_remove(&other);
  CHECK_EQ(access(a.path, F_OK), 0);
  mpi_fd_close(&fd);
  mpi_address_remove(&a);
  CHECK(access(a.path, F_OK) != 0);
  tidy(&a);
}

TEST("replaces what a dead listener left, and no file of another kind", .clean = 1) {
  struct mpi_address a = in_folder();
  int fd, plain;
  CHECK_OK(mpi_address_listen(&a, &fd));
  mpi_fd_close(&fd);
  CHECK_EQ(access(a.path, F_OK), 0);
  CHECK_OK(mpi_address_listen(&a, &fd));
  mpi_fd_close(&fd);
  CHECK_EQ(unlink(a.path), 0);
  plain = open(a.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  CHECK(plain >= 0);
  mpi_fd_close(&plain);
  CHECK_ERR(mpi_address_listen(&a, &fd), MP_ESYS);
  CHECK_EQ(access(a.path, F_OK), 0);
  tidy(&a);
}
