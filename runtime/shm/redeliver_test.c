/* redeliver_test.c -- items that come back: after any death of their getter, in order, in one pair of hands at a time. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "shm/queue.h"
#include "test/test.h"

static mp_object *new_queue (uint32_t maxsize) {
  struct mp_queue_options options = {maxsize, 1u << 20, 1};
  mp_object *q;
  CHECK_OK(mp_queue_new(&options, &q));
  return q;
}

static void put_int (mp_object *q, uint64_t v) {
  CHECK_OK(mp_queue_put(q, &v, sizeof v, MP_NEVER));
}

static uint64_t get_int (mp_object *q) {
  uint64_t v = 0;
  size_t size = sizeof v;
  CHECK_OK(mp_queue_get(q, &v, &size, mp_deadline(5)));
  return v;
}

static int empty_now (mp_object *q) {
  uint64_t v;
  size_t size = sizeof v;
  return mp_queue_get(q, &v, &size, 0) == MP_ETIMEDOUT;
}

TEST("an item got and settled is gone; one more task_done is misuse", .clean = 1) {
  mp_object *q = new_queue(0);
  put_int(q, 1);
  put_int(q, 2);
  CHECK_ERR(mp_queue_task_done(q), MP_EMISUSE);
  CHECK_EQ(get_int(q), 1);
  CHECK_EQ(mp_queue_size(q), 1);
  CHECK_EQ(get_int(q), 2);
  CHECK_ERR(mp_queue_join(q, 0), MP_ETIMEDOUT);
  CHECK_OK(mp_queue_task_done(q));
  CHECK_OK(mp_queue_task_done(q));
  CHECK_ERR(mp_queue_task_done(q), MP_EMISUSE);
  CHECK_OK(mp_queue_join(q, 0));
  CHECK(empty_now(q));
  mp_release(q);
}

static void gets_two_and_dies (void *arg) {
  CHECK_EQ(get_int(arg), 1);
  CHECK_EQ(get_int(arg), 2);
  (void)kill(getpid(), SIGKILL);
}

static void gets_two_and_ends (void *arg) {
  CHECK_EQ(get_int(arg), 1);
  CHECK_EQ(get_int(arg), 2);
}

TEST("what the dead and the ended had in hand comes first, in order") {
  mp_object *q = new_queue(0);
  int turn;
  for (turn = 0; turn < 2; turn++) {
    uint64_t i;
    for (i = 1; i <= 4; i++) put_int(q, i);
    (void)wait_child(fork_child(turn ? gets_two_and_ends : gets_two_and_dies, q));
    CHECK_EQ(mp_queue_size(q), 4);
    for (i = 1; i <= 4; i++) CHECK_EQ(get_int(q), i);
    CHECK(empty_now(q));
    for (i = 1; i <= 4; i++) CHECK_OK(mp_queue_task_done(q));
    CHECK_OK(mp_queue_join(q, 0));
  }
}

struct pair {
  mp_object *q, *back;
};

static void takes_and_sleeps (void *arg) {
  struct pair *p = arg;
  put_int(p->back, get_int(p->q));
  (void)pause();
}

static void waits_for_one (void *arg) {
  struct pair *p = arg;
  uint64_t v = 0;
  size_t size = sizeof v;
  CHECK_OK(mp_queue_get(p->q, &v, &size, MP_NEVER));
  CHECK_OK(mp_queue_task_done(p->q));
  put_int(p->back, v);
}

TEST("a getter asleep wakes when a holder dies", .limit = 30) {
  struct pair p = {new_queue(0), NULL};
  pid_t holder, waiter;
  CHECK_OK(mp_queue_new(NULL, &p.back));
  put_int(p.q, 7);
  holder = fork_child(takes_and_sleeps, &p);
  CHECK_EQ(get_int(p.back), 7);
  waiter = fork_child(waits_for_one, &p);
  usleep(50000);
  (void)kill(holder, SIGKILL);
  CHECK_EQ(get_int(p.back), 7);
  CHECK_EQ(wait_child(waiter), 0);
  (void)wait_child(holder);
  CHECK_OK(mp_queue_join(p.q, mp_deadline(1)));
}

static void waits_for_end (void *arg) {
  uint64_t v;
  size_t size = sizeof v;
  CHECK_ERR(mp_queue_get(arg, &v, &size, MP_NEVER), MP_ECLOSED);
}

TEST("a closed queue is drained only when nothing is in hand") {
  mp_object *q = new_queue(0);
  pid_t w;
  uint64_t v;
  size_t size = sizeof v;
  put_int(q, 1);
  CHECK_EQ(get_int(q), 1);
  CHECK_OK(mp_queue_close(q, 0));
  CHECK_ERR(mp_queue_get(q, &v, &size, 0), MP_ETIMEDOUT);
  w = fork_child(waits_for_end, q);
  usleep(30000);
  CHECK_OK(mp_queue_task_done(q));
  CHECK_EQ(wait_child(w), 0);
}

TEST("maxsize counts what waits, not what is in hand") {
  mp_object *q = new_queue(1);
  uint64_t v = 3;
  put_int(q, 1);
  CHECK_ERR(mp_queue_put(q, &v, sizeof v, 0), MP_ETIMEDOUT);
  CHECK_EQ(get_int(q), 1);
  CHECK_OK(mp_queue_put(q, &v, sizeof v, 0));
}

/* ---- deaths at every point ---- */

static void works (void *arg) {
  int i;
  for (i = 0; i < 2; i++) {
    (void)get_int(arg);
    CHECK_OK(mp_queue_task_done(arg));
  }
}

TEST("killed anywhere between get and task_done, each item is there once, or settled", .limit = 60) {
  static const char *const points[] = {"redeliver.get.copied",         "redeliver.get.owned",          "redeliver.get.committed",
                                       "redeliver.task_done.announced", "redeliver.task_done.settled", "ring.get.copied",
                                       "ring.get.announced",           "ring.get.committed"};
  size_t k;
  int nth;
  for (k = 0; k < sizeof points / sizeof points[0]; k++)
    for (nth = 1; nth <= 2; nth++) {
      mp_object *q = new_queue(0);
      uint64_t i, v, n = 0, first = 0;
      size_t size = sizeof v;
      for (i = 1; i <= 3; i++) put_int(q, i);
      CHECK_EQ(run_killed_at(points[k], nth, works, q), -SIGKILL);
      while (mp_queue_get(q, &v, &size, 0) == 0) {
        if (n == 0) first = v;
        CHECK_EQ(v, first + n);
        n++;
        CHECK_OK(mp_queue_task_done(q));
      }
      CHECK_EQ(first + n, 4); /* 1, 2 or 3, and all behind it */
      CHECK_OK(mp_queue_join(q, 0));
      CHECK_EQ(mp_queue_size(q), 0);
      put_int(q, 9);
      CHECK_EQ(get_int(q), 9);
      mp_release(q);
    }
}

TEST("a storm of dying workers loses nothing", .limit = 60) {
  mp_object *q = new_queue(0);
  uint64_t i;
  int turn, left;
  for (i = 1; i <= 100; i++) put_int(q, i);
  for (turn = 0; turn < 40; turn++) {
    pid_t a = fork_child(works, q), b = fork_child(gets_two_and_dies, q);
    usleep((useconds_t)(test_random() % 2000));
    (void)kill(a, SIGKILL);
    (void)kill(b, SIGKILL);
    (void)wait_child(a);
    (void)wait_child(b);
  }
  left = (int)mp_queue_size(q);
  while (!empty_now(q)) { /* empty_now took one */
    left--;
    CHECK_OK(mp_queue_task_done(q));
  }
  CHECK_EQ(left, 0);
  CHECK_OK(mp_queue_join(q, 0));
}

/* ---- descriptors ---- */

static void put_fd (mp_object *q, uint64_t v, int fd) {
  struct mpi_msg m = {&v, sizeof v, &fd, 1};
  int done;
  CHECK_OK(mpi_ring_put(mpi_queue_ring(q), &m, 1, &done, 0));
}

static uint64_t get_fd (mp_object *q, int *fd) {
  uint64_t v;
  int fds[MPI_MAX_FDS];
  struct mpi_sink sink = {.data = (unsigned char *)&v, .room = sizeof v, .fds = fds};
  int got;
  CHECK_OK(mpi_queue_get((struct mpi_queue *)q, &sink, 1, &got, mp_deadline(5)));
  CHECK_EQ(sink.nfds, 1);
  *fd = fds[0];
  return v;
}

static void gets_three_fds (void *arg) {
  int i, fd;
  for (i = 1; i <= 3; i++) CHECK_EQ(get_fd(arg, &fd), (uint64_t)i);
}

TEST("descriptors come back with their items, whatever was settled between", .clean = 1) {
  mp_object *q = new_queue(0);
  int p[4][2], i, fd;
  char c;
  for (i = 1; i <= 3; i++) {
    CHECK_EQ(pipe(p[i]), 0);
    put_fd(q, (uint64_t)i, p[i][1]);
  }
  CHECK_EQ(wait_child(fork_child(gets_three_fds, q)), 0);
  for (i = 1; i <= 3; i++) {
    CHECK_EQ(get_fd(q, &fd), (uint64_t)i);
    c = (char)i;
    CHECK_EQ(write(fd, &c, 1), 1);
    c = 0;
    CHECK_EQ(read(p[i][0], &c, 1), 1);
    CHECK_EQ(c, i);
    (void)close(fd);
    if (i != 1) CHECK_OK(mp_queue_task_done(q)); /* settles the oldest: not the same one */
  }
  CHECK_OK(mp_queue_task_done(q));
  CHECK_OK(mp_queue_join(q, 0));
  mp_release(q);
  for (i = 1; i <= 3; i++) {
    CHECK_EQ(close(p[i][1]), 0);
    CHECK_EQ(read(p[i][0], &c, 1), 0); /* no copy is left anywhere */
    (void)close(p[i][0]);
  }
}
