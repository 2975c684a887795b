/* Gate, TLS and links together: what a stranger may try, and what passes for who knows the key. The gate runs in a thread. */
#include "net/gate.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/pidfd.h"
#include "net/hangup.h"
#include "net/link.h"
#include "net/tls.h"
#include "test/test.h"
#include "wire/wire.h"

static struct mpi_address address;
static struct mpi_gate *gate;
static pthread_t thread;
static int alive[2];

/* Answers each frame of a client with the same bytes, until it is gone. */
static void *echo (void *arg) {
  int fd = *(int *)arg;
  struct mpi_link *l;
  const unsigned char *data;
  size_t size;
  free(arg);
  CHECK_OK(mpi_link_adopt(fd, &l));
  while (mpi_link_receive(l, &data, &size, MP_NEVER) == 0) CHECK_OK(mpi_link_send(l, data, size, MP_NEVER));
  mpi_link_close(l);
  return NULL;
}

static void *loop (void *arg) {
  struct mpi_gate_event e;
  (void)arg;
  for (;;) {
    CHECK_OK(mpi_gate_next(gate, &e));
    if (e.what == MPI_GATE_END) return NULL;
    if (e.what == MPI_GATE_CLIENT) {
      pthread_t t;
      int *fd = malloc(sizeof *fd);
      *fd = e.fd;
      CHECK_EQ(pthread_create(&t, NULL, echo, fd), 0);
      CHECK_EQ(pthread_detach(t), 0);
    }
  }
}

static void start (void) {
  CHECK_OK(mpi_address_parse("tcp://127.0.0.1:0", &address));
  CHECK_OK(mpi_pipe_pair(alive));
  CHECK_OK(mpi_gate_open(&address, "key", 3, alive[0], &gate));
  CHECK_EQ(pthread_create(&thread, NULL, loop, NULL), 0);
}

static void stop (void) {
  mpi_fd_close(&alive[1]);
  CHECK_EQ(pthread_join(thread, NULL), 0);
  mpi_gate_close(gate);
  mpi_fd_close(&alive[0]);
}

static int64_t soon (void) {
  return mp_deadline(20.0 * test_slow());
}

static struct mpi_link *link_up (void) {
  struct mpi_link *l = NULL;
  CHECK_OK(mpi_link_open(&address, "key", 3, soon(), &l));
  return l;
}

/* A frame there and back again. */
static void check_echo (struct mpi_link *l, const void *data, size_t size) {
  const unsigned char *got;
  size_t n;
  CHECK_OK(mpi_link_send(l, data, size, soon()));
  CHECK_OK(mpi_link_receive(l, &got, &n, soon()));
  CHECK_EQ(n, size);
  CHECK_MEM(got, data, size);
}

static void check_serves (void) {
  struct mpi_link *l = link_up();
  check_echo(l, "hello", 5);
  mpi_link_close(l);
}

/* Reads until the other side hangs up. */
static void check_hung_up (int fd) {
  char drop[512];
  ssize_t n;
  do {
    CHECK_OK(mpi_fd_wait(fd, 1 /* POLLIN */, soon()));
    n = recv(fd, drop, sizeof drop, MSG_DONTWAIT);
  } while (n > 0);
}

TEST("passes frames of any size, there and back", .limit = 60) {
  static const size_t sizes[] = {0, 1, 4, 5, 16383, 16384, 16385, 40000, 1000003};
  unsigned char *data = malloc(1000003);
  struct mpi_link *l;
  size_t i;
  start();
  for (i = 0; i < 1000003; i++) data[i] = (unsigned char)(i * 31 + i / 256);
  l = link_up();
  for (i = 0; i < sizeof sizes / sizeof *sizes; i++) check_echo(l, data, sizes[i]);
  for (i = 0; i < 300; i++) check_echo(l, data, i);
  CHECK_OK(mpi_link_forget(l, 7, soon())); /* no deputy is known: nothing happens */
  check_echo(l, "x", 1);
  mpi_link_close(l);
  stop();
  free(data);
}

TEST("refuses other keys at once, and no key", .limit = 60) {
  struct mpi_link *l;
  start();
  CHECK_ERR(mpi_link_open(&address, "kex", 3, soon(), &l), MP_ECORRUPT);
  CHECK_ERR(mpi_link_open(&address, "", 0, soon(), &l), MP_ECORRUPT);
  CHECK_ERR(mpi_link_open(&address, "key\0", 4, soon(), &l), MP_ECORRUPT);
  check_serves();
  stop();
}

TEST("is sure of the gate, too: one with another key is refused by the client", .limit = 60) {
  struct mpi_tls_context *a, *b;
  struct mpi_tls *s, *c;
  unsigned char bytes[4096];
  size_t n;
  int rc = 0, i;
  CHECK_OK(mpi_tls_context_new(1, "one", 3, &a));
  CHECK_OK(mpi_tls_context_new(0, "two", 3, &b));
  CHECK_OK(mpi_tls_new(a, &s));
  CHECK_OK(mpi_tls_new(b, &c));
  for (i = 0; i < 10 && rc == 0; i++) {
    rc = mpi_tls_handshake(c);
    while ((n = mpi_tls_take(c, bytes, sizeof bytes)) > 0) CHECK_OK(mpi_tls_feed(s, bytes, n));
    CHECK(mpi_tls_handshake(s) <= 0);
    while ((n = mpi_tls_take(s, bytes, sizeof bytes)) > 0) CHECK_OK(mpi_tls_feed(c, bytes, n));
  }
  CHECK_EQ(rc, MP_ECORRUPT);
  mpi_tls_free(s);
  mpi_tls_free(c);
  mpi_tls_context_free(a);
  mpi_tls_context_free(b);
}

TEST("hangs up on silence and on garbage, and serves others meanwhile", .limit = 60) {
  int silent, half, i, k;
  start();
  CHECK_OK(mpi_address_dial(&address, soon(), &silent));
  CHECK_OK(mpi_address_dial(&address, soon(), &half));
  CHECK_EQ(send(half, "\x16\x03\x01\x02", 4, MSG_NOSIGNAL), 4);
  for (i = 0; i < 50; i++) {
    unsigned char junk[200];
    int fd;
    for (k = 0; k < (int)sizeof junk; k++) junk[k] = (unsigned char)test_random();
    if (i % 2) memcpy(junk, "\x16\x03\x01\x00\xc0\x01\x00\x00\xbc\x03\x03", 11);
    CHECK_OK(mpi_address_dial(&address, soon(), &fd));
    (void)send(fd, junk, sizeof junk, MSG_NOSIGNAL);
    if (i % 10 == 0) check_serves();
    check_hung_up(fd);
    mpi_fd_close(&fd);
  }
  check_hung_up(silent);
  check_hung_up(half);
  mpi_fd_close(&silent);
  mpi_fd_close(&half);
  check_serves();
  stop();
}

/* One who knows the key and speaks TLS, but sends what no link does. */
static void say (struct mpi_tls *t, int fd) {
  unsigned char bytes[4096];
  size_t n;
  while ((n = mpi_tls_take(t, bytes, sizeof bytes)) > 0) CHECK_EQ(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

static struct mpi_tls *shake_hands (struct mpi_tls_context *c, int fd) {
  struct mpi_tls *t;
  unsigned char bytes[4096];
  int rc;
  CHECK_OK(mpi_tls_new(c, &t));
  while ((rc = mpi_tls_handshake(t)) == 0) {
    ssize_t n;
    say(t, fd);
    CHECK_OK(mpi_fd_wait(fd, 1 /* POLLIN */, soon()));
    n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    CHECK(n > 0);
    CHECK_OK(mpi_tls_feed(t, bytes, (size_t)n));
  }
  CHECK_EQ(rc, 1);
  say(t, fd);
  return t;
}

TEST("drops a client whose frames are impossible, and no other", .limit = 60) {
  static const char *const bad[] = {"\xff\xff\xff\xfe", "\x10\x00\x00\x01", "\x80\x00\x00\x00"};
  struct mpi_tls_context *context;
  struct mpi_link *good;
  size_t i;
  start();
  CHECK_OK(mpi_tls_context_new(0, "key", 3, &context));
  good = link_up();
  for (i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct mpi_tls *t;
    int fd;
    CHECK_OK(mpi_address_dial(&address, soon(), &fd));
    t = shake_hands(context, fd);
    CHECK_OK(mpi_tls_write(t, bad[i], 4));
    say(t, fd);
    check_hung_up(fd);
    mpi_fd_close(&fd);
    mpi_tls_free(t);
    check_echo(good, "still here", 10);
  }
  mpi_link_close(good);
  mpi_tls_context_free(context);
  stop();
}

TEST("bears more strangers than it may, the oldest giving way", .limit = 60) {
  int fd[MPI_GATE_STRANGERS + 40], i;
  start();
  for (i = 0; i < MPI_GATE_STRANGERS + 40; i++) CHECK_OK(mpi_address_dial(&address, soon(), &fd[i]));
  check_serves();
  for (i = 0; i < MPI_GATE_STRANGERS + 40; i++) {
    check_hung_up(fd[i]);
    mpi_fd_close(&fd[i]);
  }
  check_serves();
  stop();
}
