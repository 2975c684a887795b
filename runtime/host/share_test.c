/* share_test.c -- strings, descriptors and handles of a C host. */
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "test/test.h"

static mp_object *new_queue (void) {
  mp_object *q = NULL;
  CHECK_OK(mp_queue_new(NULL, &q));
  return q;
}

TEST("a string goes through a queue and a pipe as it is, whatever its length", .clean = 1) {
  static const size_t lengths[] = {0, 1, 31, 32, 33, 255, 256, 257, 1000, 1100, 65535, 65536, 70000};
  mp_object *q = new_queue(), *a = NULL, *b = NULL;
  char *text = malloc(70000), *back = malloc(70000);
  size_t i, n;
  CHECK_OK(mp_pipe_new(0, &a, &b));
  for (i = 0; i < 70000; i++) text[i] = (char)(i * 7);
  for (i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    n = lengths[i]; /* a buffer that just suffices */
    CHECK_OK(mp_queue_put_string(q, text, n, 0));
    CHECK_OK(mp_queue_get_string(q, back, &n, 0));
    CHECK_EQ(n, lengths[i]);
    CHECK_MEM(back, text, n);
    CHECK_OK(mp_pipe_send_string(b, text, n, 0));
    n = 70000;
    CHECK_OK(mp_pipe_recv_string(a, back, &n, 0));
    CHECK_EQ(n, lengths[i]);
    CHECK_MEM(back, text, n);
  }
  free(text);
  free(back);
  mp_release(q);
  mp_release(a);
  mp_release(b);
}

TEST("a string that is larger than the buffer stays, and says how large it is", .clean = 1) {
  static const size_t lengths[] = {1, 31, 32, 255, 256, 2000, 65536};
  mp_object *q = new_queue();
  char *text = calloc(1, 65536);
  size_t i, n;
  for (i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    CHECK_OK(mp_queue_put_string(q, text, lengths[i], 0));
    n = lengths[i] - 1;
    CHECK_ERR(mp_queue_get_string(q, text, &n, 0), MP_E2BIG);
    CHECK_EQ(n, lengths[i]);
    CHECK_OK(mp_queue_get_string(q, text, &n, 0));
    CHECK_EQ(n, lengths[i]);
  }
  free(text);
  mp_release(q);
}

TEST("a message that is no string is left where it is", .clean = 1) {
  static const unsigned char number[] = {0x2a};
  mp_object *q = new_queue(), *a = NULL, *b = NULL;
  char back[16];
  size_t n = sizeof back;
  CHECK_OK(mp_queue_put(q, number, sizeof number, 0));
  CHECK_ERR(mp_queue_get_string(q, back, &n, 0), MP_EMISUSE);
  CHECK_EQ(mp_queue_size(q), 1);
  CHECK_OK(mp_pipe_new(0, &a, &b));
  CHECK_OK(mp_pipe_send(b, number, sizeof number, 0));
  n = sizeof back;
  CHECK_ERR(mp_pipe_recv_string(a, back, &n, 0), MP_EMISUSE);
  n = sizeof back;
  CHECK_OK(mp_pipe_recv(a, back, &n, 0));
  CHECK_EQ(n, 1);
  CHECK_ERR(mp_pipe_recv_string(b, back, &n, 0), MP_EMISUSE); /* that end only sends */
  CHECK_ERR(mp_queue_get_string(a, back, &n, 0), MP_EMISUSE);
  mp_release(q);
  mp_release(a);
  mp_release(b);
}

TEST("a message that only begins like a string is an error, not a string", .clean = 1) {
  static const unsigned char cut[] = {0xa5, 'a', 'b'};
  mp_object *q = new_queue();
  char back[16];
  size_t n = sizeof back;
  CHECK_OK(mp_queue_put(q, cut, sizeof cut, 0));
  CHECK_ERR(mp_queue_get_string(q, back, &n, 0), MP_ECORRUPT);
  mp_release(q);
}

TEST("an event's descriptor is readable while it is set", .clean = 1) {
  mp_object *e = NULL, *q = new_queue();
  struct pollfd p = {.events = POLLIN};
  CHECK_OK(mp_event_new(&e));
  p.fd = mp_event_fd(e);
  CHECK(p.fd >= 0);
  CHECK_EQ(poll(&p, 1, 0), 0);
  CHECK_OK(mp_event_set(e));
  CHECK_EQ(poll(&p, 1, 1000), 1);
  CHECK_OK(mp_event_clear(e));
  CHECK_EQ(poll(&p, 1, 0), 0);
  CHECK_ERR(mp_event_fd(q), MP_EMISUSE);
  mp_release(e);
  mp_release(q);
}

struct handed {
  int sock;
};

static void receive_and_answer (void *arg) {
  const struct handed *h = arg;
  mp_object *q = NULL, *c = NULL;
  char text[32];
  size_t n = sizeof text;
  CHECK_OK(mp_object_recv(h->sock, &q, mp_deadline(10)));
  CHECK_OK(mp_object_recv(h->sock, &c, mp_deadline(10)));
  CHECK_OK(mp_queue_get(q, text, &n, mp_deadline(10)));
  CHECK_EQ(n, 4);
  CHECK_MEM(text, "ping", 4);
  CHECK_OK(mp_queue_put(q, "pong!", 5, 0));
  CHECK_ERR(mp_condition_notify(c, NULL, 1), MP_EMISUSE); /* it came with its lock, which is not held here */
}

TEST("a handle reaches another process over a socket, a condition with its lock") {
  struct handed h;
  mp_object *q = new_queue(), *c = NULL;
  char text[32];
  size_t n = sizeof text;
  int sv[2];
  pid_t pid;
  CHECK_OK(mp_condition_new(NULL, &c));
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
  h.sock = sv[1];
  pid = fork_child(receive_and_answer, &h);
  CHECK_OK(mp_object_send(sv[0], q));
  CHECK_OK(mp_object_send(sv[0], c));
  CHECK_OK(mp_queue_put(q, "ping", 4, 0));
  CHECK_EQ(wait_child(pid), 0);
  CHECK_OK(mp_queue_get(q, text, &n, mp_deadline(10)));
  CHECK_EQ(n, 5);
}

TEST("what comes over a socket and is no handle is refused, with nothing left of it", .clean = 1) {
  mp_object *q = NULL;
  char junk[28] = "something else";
  int sv[2], fds[2], i;
  CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv), 0);
  CHECK_ERR(mp_object_recv(sv[1], &q, 0), MP_ETIMEDOUT);
  CHECK_EQ(pipe(fds), 0);
  for (i = 0; i < 3; i++) {
    CHECK_OK(mpi_fd_send(sv[0], junk, i == 0 ? 5 : sizeof junk, fds, i == 2 ? 2 : 0));
    CHECK_ERR(mp_object_recv(sv[1], &q, mp_deadline(1)), MP_ECORRUPT);
  }
  (void)close(fds[0]);
  (void)close(fds[1]);
  (void)close(sv[0]);
  CHECK_ERR(mp_object_recv(sv[1], &q, mp_deadline(1)), MP_EEOF);
  CHECK(q == NULL);
  (void)close(sv[1]);
}
