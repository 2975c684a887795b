/* queue_test.c -- queues and pipes from C: order, bounds, closing, deaths at every point, descriptors, memory. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/fd.h"
#include "shm/pipe.h"
#include "shm/queue.h"
#include "test/test.h"

static mp_object *new_queue (uint32_t maxsize, uint64_t maxbytes) {
  struct mp_queue_options options = {maxsize, maxbytes};
  mp_object *q;
  CHECK_OK(mp_queue_new(&options, &q));
  return q;
}

static int64_t soon (double s) {
  return mp_deadline(s);
}

static void put_int (mp_object *q, uint64_t v) {
  CHECK_OK(mp_queue_put(q, &v, sizeof v, MP_NEVER));
}

static uint64_t get_int (mp_object *q, int64_t deadline) {
  uint64_t v = 0;
  size_t size = sizeof v;
  CHECK_OK(mp_queue_get(q, &v, &size, deadline));
  CHECK_EQ(size, sizeof v);
  return v;
}

TEST("gives what was put, in order, and counts exactly", .clean = 1) {
  mp_object *q = new_queue(0, 0);
  uint64_t i;
  for (i = 0; i < 1000; i++) {
    put_int(q, i);
    CHECK_EQ(mp_queue_size(q), i + 1);
  }
  for (i = 0; i < 1000; i++) CHECK_EQ(get_int(q, 0), i);
  CHECK_EQ(mp_queue_size(q), 0);
  mp_release(q);
}

TEST("is full at maxsize and empty at none; a poll says timeout") {
  mp_object *q = new_queue(2, 0);
  uint64_t v = 7;
  size_t size = sizeof v;
  CHECK_ERR(mp_queue_get(q, &v, &size, 0), MP_ETIMEDOUT);
  put_int(q, 1);
  put_int(q, 2);
  CHECK_ERR(mp_queue_put(q, &v, sizeof v, 0), MP_ETIMEDOUT);
  CHECK_ERR(mp_queue_put(q, &v, sizeof v, soon(0.01)), MP_ETIMEDOUT);
  CHECK_EQ(get_int(q, 0), 1);
  CHECK_OK(mp_queue_put(q, &v, sizeof v, 0));
}

TEST("messages of every size survive the turn of the ring") {
  mp_object *q = new_queue(0, 5000);
  static char out[5000], in[5000];
  unsigned turn, seed = 1;
  size_t size;
  for (turn = 0; turn < 3000; turn++) {
    size_t n = (size_t)rand_r(&seed) % 1700;
    memset(out, (int)turn, sizeof out);
    CHECK_OK(mp_queue_put(q, out, n, soon(5)));
    CHECK_OK(mp_queue_put(q, out, n / 2, soon(5)));
    size = sizeof in;
    CHECK_OK(mp_queue_get(q, in, &size, soon(5)));
    CHECK_EQ(size, n);
    CHECK(memcmp(in, out, n) == 0);
    size = sizeof in;
    CHECK_OK(mp_queue_get(q, in, &size, soon(5)));
    CHECK_EQ(size, n / 2);
  }
}

TEST("a message larger than maxbytes is an error, one that needs more room stays") {
  mp_object *q = new_queue(0, 100);
  char big[101] = {1}, small[10];
  size_t size = sizeof small;
  CHECK_ERR(mp_queue_put(q, big, 101, 0), MP_E2BIG);
  CHECK_OK(mp_queue_put(q, big, 100, 0));
  CHECK_ERR(mp_queue_get(q, small, &size, 0), MP_E2BIG);
  CHECK_EQ(size, 100);
  CHECK_EQ(mp_queue_size(q), 1);
  CHECK_OK(mp_queue_get(q, big, &size, 0));
}

TEST("maxbytes bounds what is inside") {
  mp_object *q = new_queue(0, 1000);
  char m[300];
  size_t size = sizeof m;
  memset(m, 0, sizeof m);
  CHECK_OK(mp_queue_put(q, m, 300, 0));
  CHECK_OK(mp_queue_put(q, m, 300, 0));
  CHECK_OK(mp_queue_put(q, m, 300, 0));
  CHECK_ERR(mp_queue_put(q, m, 300, 0), MP_ETIMEDOUT);
  CHECK_OK(mp_queue_put(q, m, 100, 0));
  CHECK_OK(mp_queue_get(q, m, &size, 0));
  CHECK_OK(mp_queue_put(q, m, 300, 0));
}

TEST("a burst after the turn finds all the room that there is, though nobody gets", .limit = 60) {
  mp_object *q = new_queue(0, 64u << 20);
  uint64_t i, n = 0, next = 0;
  put_int(q, n++); /* never empty */
  for (i = 0; i < 40000; i++) { /* several windows */
    put_int(q, n++);
    CHECK_EQ(get_int(q, 0), next++);
  }
  for (i = 0; i < 1000000; i++) {
    uint64_t v = n++;
    CHECK_OK(mp_queue_put(q, &v, sizeof v, 0));
  }
  while (next < n) CHECK_EQ(get_int(q, 0), next++);
}

/* Random puts and gets of random sizes against a plain list of what must come. */
static void against_model (uint64_t maxbytes, unsigned largest, int steps) {
  enum { MOST = 4096 };
  static struct { unsigned size, seed; } model[MOST];
  static unsigned char out[70000], in[70000];
  mp_object *q = new_queue(0, maxbytes);
  unsigned first = 0, last = 0, phase = 50;
  uint64_t inside = 0;
  int i;
  for (i = 0; i < steps; i++) {
    unsigned k;
    if (i % 200 == 0) phase = (unsigned)(test_random() % 100); /* how often to put: backlogs grow and shrink */
    if (test_random() % 100 < phase && last - first < MOST) {
      unsigned size = (unsigned)(test_random() % (test_random() % 4 == 0 ? largest : 20));
      unsigned seed = (unsigned)test_random();
      int rc;
      for (k = 0; k < size; k++) out[k] = (unsigned char)(seed + k * 7);
      rc = mp_queue_put(q, out, size, 0);
      if (rc == MP_ETIMEDOUT) {
        if (inside + size <= maxbytes && maxbytes >= (1u << 16)) FAIL("full with %llu bytes of %llu", (unsigned long long)inside, (unsigned long long)maxbytes);
        if (inside == 0) FAIL("full and empty");
        continue;
      }
      CHECK_EQ(rc, 0);
      if (last != first && inside + size > maxbytes) FAIL("%llu bytes let in", (unsigned long long)(inside + size));
      model[last++ % MOST].size = size;
      model[(last - 1) % MOST].seed = seed;
      inside += size;
    } else {
      size_t size = sizeof in;
      int rc = mp_queue_get(q, in, &size, 0);
      if (first == last) {
        CHECK_EQ(rc, MP_ETIMEDOUT);
        continue;
      }
      CHECK_EQ(rc, 0);
      CHECK_EQ(size, model[first % MOST].size);
      for (k = 0; k < size; k++)
        if (in[k] != (unsigned char)(model[first % MOST].seed + k * 7)) FAIL("message %u differs at %u", first, k);
      inside -= size;
      first++;
    }
    CHECK_EQ(mp_queue_size(q), last - first);
  }
  mp_release(q);
}

/* The same with batches: message number v is v % 37 + 4 bytes that begin with v. */
static void batches_against_model (uint32_t maxsize, uint64_t maxbytes, unsigned longest, int steps) {
  enum { MOST = 16 };
  static unsigned char out[MOST][4096], in[MOST * 4096];
  mp_object *q = new_queue(maxsize, maxbytes);
  struct mpi_ring *r = mpi_queue_ring(q);
  uint32_t first = 0, last = 0;
  unsigned phase = 50;
  int i;
  for (i = 0; i < steps; i++) {
    int n = (int)(test_random() % MOST) + 1, k;
    if (i % 100 == 0) phase = (unsigned)(test_random() % 100);
    if (test_random() % 100 < phase) {
      struct mpi_msg msgs[MOST];
      int done = -1, rc;
      for (k = 0; k < n; k++) {
        uint32_t v = last + (uint32_t)k;
        memcpy(out[k], &v, sizeof v);
        msgs[k] = (struct mpi_msg){out[k], v % longest + 4, NULL, 0};
      }
      rc = mpi_ring_put(r, msgs, n, &done, 0);
      CHECK(done >= 0 && done <= n);
      CHECK_EQ(rc, done == n ? 0 : MP_ETIMEDOUT);
      last += (uint32_t)done;
      if (maxsize != 0) CHECK(last - first <= maxsize);
      if (maxsize != 0 && rc != 0 && maxbytes == 0) CHECK_EQ(last - first, maxsize);
    } else {
      struct mpi_sink sink = {0};
      size_t ends[MOST], from = 0;
      int fds[MPI_MAX_FDS], got = -1, rc;
      sink.data = in;
      sink.room = sizeof in;
      sink.ends = ends;
      sink.fds = fds;
      rc = mpi_ring_get(r, &sink, n, &got, 0);
      CHECK_EQ(rc, first == last ? MP_ETIMEDOUT : 0);
      CHECK_EQ(got, last - first < (uint32_t)n ? (int)(last - first) : n);
      for (k = 0; k < got; k++) {
        uint32_t v;
        CHECK_EQ(ends[k] - from, first % longest + 4);
        memcpy(&v, in + from, sizeof v);
        CHECK_EQ(v, first++);
        from = ends[k];
      }
    }
    CHECK_EQ(mp_queue_size(q), last - first);
  }
  mp_release(q);
}

TEST("batches of any number, put and got in other batches, keep their order and their counts", .limit = 60) {
  batches_against_model(0, 0, 37, 20000);
  batches_against_model(7, 0, 37, 20000);
  batches_against_model(0, 2000, 200, 20000);
  batches_against_model(20, 64 << 20, 4000, 10000);
}

TEST("whatever the sizes and backlogs, what comes out is what went in", .limit = 60) {
  against_model(3000, 1000, 60000);
  against_model(200, 200, 40000);
  against_model(1u << 20, 60000, 20000);
  against_model(32u << 20, 3000, 40000);
}

struct work {
  mp_object *q;
  mp_object *back;
  uint64_t n;
  uint64_t from;
};

static void putter (void *arg) {
  struct work *w = arg;
  uint64_t i;
  for (i = 0; i < w->n; i++) put_int(w->q, w->from + i);
}

/* Sums up until closed. */
static void getter (void *arg) {
  struct work *w = arg;
  uint64_t sum = 0, v;
  size_t size = sizeof v;
  int rc;
  while ((rc = mp_queue_get(w->q, &v, &size, MP_NEVER)) == 0) sum += v;
  CHECK_EQ(rc, MP_ECLOSED);
  put_int(w->back, sum);
}

static void *putter_thread (void *arg) {
  putter(arg);
  return NULL;
}

static void *getter_thread (void *arg) {
  getter(arg);
  return NULL;
}

static void many_to_many (int threads) {
  enum { N = 4 };
  struct work p[N], g;
  pid_t pids[2 * N];
  pthread_t ids[2 * N];
  mp_object *q = new_queue(50, 0), *back = new_queue(0, 0);
  uint64_t n = 3000, total = 0, expect = 0, i;
  g = (struct work){q, back, 0, 0};
  for (i = 0; i < N; i++) {
    p[i] = (struct work){q, back, n, i * n};
    if (threads) CHECK_EQ(pthread_create(&ids[i], NULL, putter_thread, &p[i]), 0);
    else pids[i] = fork_child(putter, &p[i]);
    if (threads) CHECK_EQ(pthread_create(&ids[N + i], NULL, getter_thread, &g), 0);
    else pids[N + i] = fork_child(getter, &g);
  }
  for (i = 0; i < N; i++) {
    if (threads) pthread_join(ids[i], NULL);
    else CHECK_EQ(wait_child(pids[i]), 0);
  }
  CHECK_OK(mp_queue_close(q, 0));
  for (i = 0; i < N; i++) {
    if (threads) pthread_join(ids[N + i], NULL);
    else CHECK_EQ(wait_child(pids[N + i]), 0);
    total += get_int(back, soon(5));
  }
  for (i = 0; i < N * n; i++) expect += i;
  CHECK_EQ(total, expect);
  mp_release(q);
  mp_release(back);
}

TEST("four threads put, four get, nothing is lost or doubled", .limit = 60, .clean = 1) {
  many_to_many(1);
}

TEST("four processes put, four get, nothing is lost or doubled", .limit = 60) {
  many_to_many(0);
}

static void close_it (void *arg) {
  struct work *w = arg;
  CHECK_OK(mp_queue_close(w->q, 0));
}

TEST("close wakes all who wait, and what was put is drained first") {
  mp_object *q = new_queue(0, 0), *back = new_queue(0, 0);
  struct work w = {q, back, 0, 0};
  pid_t g[3];
  uint64_t sum = 0;
  int i;
  uint64_t v = 1;
  put_int(q, 40);
  put_int(q, 2);
  for (i = 0; i < 3; i++) g[i] = fork_child(getter, &w);
  CHECK_EQ(wait_child(fork_child(close_it, &w)), 0);
  for (i = 0; i < 3; i++) {
    CHECK_EQ(wait_child(g[i]), 0);
    sum += get_int(back, soon(5));
  }
  CHECK_EQ(sum, 42);
  CHECK_ERR(mp_queue_put(q, &v, sizeof v, MP_NEVER), MP_ECLOSED);
  CHECK_OK(mp_queue_close(q, 0));
}

static void blocked_putter (void *arg) {
  struct work *w = arg;
  uint64_t v = 0;
  CHECK_ERR(mp_queue_put(w->q, &v, sizeof v, MP_NEVER), MP_ECLOSED);
}

TEST("close wakes putters who wait for room; dropping settles join") {
  mp_object *q = new_queue(1, 0);
  struct work w = {q, NULL, 0, 0};
  pid_t p;
  put_int(q, 1);
  p = fork_child(blocked_putter, &w);
  usleep(20000);
  CHECK_ERR(mp_queue_join(q, soon(0.01)), MP_ETIMEDOUT);
  CHECK_OK(mp_queue_close(q, 1));
  CHECK_EQ(wait_child(p), 0);
  CHECK_EQ(mp_queue_size(q), 0);
  CHECK_OK(mp_queue_join(q, soon(1)));
}

TEST("join waits for as many task_done as were put; one more is misuse") {
  mp_object *q = new_queue(0, 0);
  CHECK_OK(mp_queue_join(q, 0));
  put_int(q, 1);
  put_int(q, 2);
  CHECK_ERR(mp_queue_task_done(q), MP_EMISUSE);
  (void)get_int(q, 0);
  CHECK_OK(mp_queue_task_done(q));
  CHECK_ERR(mp_queue_task_done(q), MP_EMISUSE);
  CHECK_ERR(mp_queue_join(q, 0), MP_ETIMEDOUT);
  (void)get_int(q, 0);
  CHECK_OK(mp_queue_task_done(q));
  CHECK_OK(mp_queue_join(q, 0));
}

/* ---- deaths ---- */

struct stage { /* one queue, a victim that uses it, and somebody who waits */
  mp_object *q;
  mp_object *back;
  uint64_t put;
  uint64_t got;
};

/* Kills fn at each of its points, looks after each run, whether it died or not. Gives the number of deaths. */
static int kill_at_points (const char *const *points, int times, void (*fn) (void *), void (*check) (void *, const char *), void *arg) {
  int deaths = 0, nth;
  for (; *points != NULL; points++) {
    for (nth = 1; nth <= times; nth++) {
      int status = run_killed_at(*points, nth, fn, arg);
      if (status != 0 && status != -SIGKILL) FAIL("to be killed at %s (passing %d), the child ended with %d", *points, nth, status);
      deaths += status == -SIGKILL;
      check(arg, *points);
    }
  }
  return deaths;
}

static const char *const put_points[] = {"ring.put.carried",      "ring.put.written",       "ring.put.announced",
                                         "ring.put.expressed",    "ring.put.committed",     "waitq.announce.begin",
                                         "waitq.announce.counted", "waitq.announce.woken",  NULL};
static const char *const get_points[] = {"ring.get.copied", "ring.get.announced", "ring.get.committed", "waitq.announce.begin",
                                         "waitq.announce.counted", NULL};

static void victim_puts (void *arg) {
  struct stage *s = arg;
  put_int(s->q, 5);
  put_int(s->q, 6);
}

static void check_puts (void *arg, const char *point) {
  struct stage *s = arg;
  uint64_t v, n = 0, last = 4;
  size_t size = sizeof v;
  (void)point;
  while (mp_queue_get(s->q, &v, &size, 0) == 0) {
    CHECK_EQ(size, sizeof v);
    CHECK_EQ(v, last + 1);
    last = v;
    n++;
  }
  CHECK(n <= 2);
  put_int(s->q, 9); /* the others go on */
  CHECK_EQ(get_int(s->q, soon(5)), 9);
}

TEST("a putter killed anywhere leaves whole messages and a working queue", .limit = 60) {
  struct stage s = {new_queue(0, 0), NULL, 0, 0};
  CHECK_EQ(kill_at_points(put_points, 2, victim_puts, check_puts, &s), 8);
}

/* As check_puts, but somebody else is the first to take the latch of the dead. */
static void check_heir (void *arg, const char *point) {
  struct stage *s = arg;
  uint64_t v, n = 0;
  size_t size = sizeof v;
  (void)point;
  CHECK(s->put == 0 ? mp_queue_fd(s->q) >= 0 : mp_queue_close(s->q, 0) == 0);
  while (mp_queue_get(s->q, &v, &size, 0) == 0) CHECK_EQ(v, 5 + n++);
  if (s->put == 0) {
    put_int(s->q, 9);
    put_int(s->q, 10);
    CHECK_EQ(mp_queue_size(s->q), 2);
    CHECK_EQ(get_int(s->q, 0), 9);
    CHECK_EQ(get_int(s->q, 0), 10);
    mp_release(s->q);
    s->q = new_queue(0, 0); /* arming is for ever */
  } else {
    struct mpi_ring *r = mpi_queue_ring(s->q);
    CHECK_EQ(mpi_load(&r->s->put_tail), mpi_load(&r->s->tail));
    mp_release(s->q);
    s->q = new_queue(0, 0);
  }
}

TEST("whoever inherits the putters' latch puts their copy of the tail right", .limit = 60) {
  struct stage s = {new_queue(0, 0), NULL, 0, 0};
  CHECK_EQ(kill_at_points(put_points, 2, victim_puts, check_heir, &s), 8);
  s.put = 1; /* closes instead of arming */
  CHECK_EQ(kill_at_points(put_points, 2, victim_puts, check_heir, &s), 8);
}

/* ---- small messages that go along with the tail ---- */

static void spoil_express (struct mpi_ring *r, uint64_t head) {
  int i;
  for (i = 0; i < (int)(MPI_EXPRESS_MOST / 8); i++) mpi_store(&r->s->express[i], UINT64_C(0x5757575757575757));
  mpi_store(&r->s->express_head, head);
}

TEST("what stands beside the tail is taken only if it is the message that is due, and whole") {
  mp_object *q = new_queue(0, 0);
  struct mpi_ring *r = mpi_queue_ring(q);
  uint64_t count = 0, v;
  size_t size;
  put_int(q, 1);
  count++;
  mpi_store(&r->s->express[0], 77); /* this is where it comes from */
  CHECK_EQ(get_int(q, 0), 77);
  put_int(q, 2);
  count++;
  spoil_express(r, 0); /* the next is being written */
  CHECK_EQ(get_int(q, 0), 2);
  put_int(q, 3);
  count++;
  spoil_express(r, (count + 1) << 32 | MPI_EXPRESS | 8); /* has been written */
  CHECK_EQ(get_int(q, 0), 3);
  put_int(q, 4);
  count++;
  spoil_express(r, count << 32 | MPI_EXPRESS | (MPI_EXPRESS_MOST + 1)); /* a stranger's */
  CHECK_EQ(get_int(q, 0), 4);
  put_int(q, 5);
  count++;
  spoil_express(r, count << 32 | 8);
  CHECK_EQ(get_int(q, 0), 5);
  put_int(q, 6);
  count++;
  spoil_express(r, count << 32 | MPI_EXPRESS | 16); /* more than there is room for */
  CHECK_EQ(get_int(q, 0), 6);
  put_int(q, 7);
  put_int(q, 8); /* two: the first is not beside the tail */
  CHECK_EQ(get_int(q, 0), 7);
  CHECK_EQ(get_int(q, 0), 8);
  size = sizeof v;
  CHECK_ERR(mp_queue_get(q, &v, &size, 0), MP_ETIMEDOUT);
  mp_release(q);
}

enum { WORDS = 7 }; /* some messages fit beside the tail, some do not */

static void *equal_words_in (void *arg) {
  struct work *w = arg;
  uint64_t i, words[WORDS];
  int k;
  for (i = 0; i < w->n; i++) {
    for (k = 0; k < WORDS; k++) words[k] = w->from + i;
    CHECK_OK(mp_queue_put(w->q, words, 8 * (1 + (size_t)(i % WORDS)), MP_NEVER));
  }
  return NULL;
}

static void *equal_words_out (void *arg) {
  struct work *w = arg;
  uint64_t i, words[WORDS], sum = 0;
  for (i = 0; i < w->n; i++) {
    size_t size = sizeof words, k;
    CHECK_OK(mp_queue_get(w->q, words, &size, MP_NEVER));
    CHECK(size >= 8 && size % 8 == 0);
    for (k = 1; k < size / 8; k++) CHECK_EQ(words[k], words[0]);
    sum += words[0];
  }
  put_int(w->back, sum);
  return NULL;
}

TEST("small messages are whole, however putters and getters overtake each other", .limit = 60, .clean = 1) {
  enum { EACH = 100000 };
  mp_object *q = new_queue(0, 0), *back = new_queue(0, 0);
  struct work in[2] = {{q, back, EACH, 0}, {q, back, EACH, EACH}}, out = {q, back, EACH, 0};
  pthread_t ids[4];
  uint64_t i, expect = 0;
  for (i = 0; i < 2; i++) {
    CHECK_EQ(pthread_create(&ids[i], NULL, equal_words_in, &in[i]), 0);
    CHECK_EQ(pthread_create(&ids[2 + i], NULL, equal_words_out, &out), 0);
  }
  for (i = 0; i < 4; i++) pthread_join(ids[i], NULL);
  for (i = 0; i < 2 * EACH; i++) expect += i;
  CHECK_EQ(get_int(back, 0) + get_int(back, 0), expect);
  CHECK_EQ(mp_queue_size(q), 0);
  mp_release(q);
  mp_release(back);
}

static void victim_puts_many (void *arg) {
  struct stage *s = arg;
  uint64_t v[8];
  struct mpi_msg msgs[8];
  int i, done;
  for (i = 0; i < (int)s->put; i++) {
    v[i] = 5 + (uint64_t)i;
    msgs[i] = (struct mpi_msg){&v[i], sizeof v[i], NULL, 0};
  }
  CHECK_OK(mpi_ring_put(mpi_queue_ring(s->q), msgs, (int)s->put, &done, MP_NEVER));
}

static void check_puts_many (void *arg, const char *point) {
  struct stage *s = arg;
  uint64_t v, n = 0;
  size_t size = sizeof v;
  (void)point;
  while (mp_queue_get(s->q, &v, &size, 0) == 0) CHECK_EQ(v, 5 + n++);
  CHECK(n <= s->put);
  put_int(s->q, 9);
  CHECK_EQ(mp_queue_size(s->q), 1);
  CHECK_EQ(get_int(s->q, soon(5)), 9);
}

TEST("a putter killed in a batch leaves its beginning, all of it, or nothing", .limit = 60) {
  struct stage s = {new_queue(0, 0), NULL, 0, 0};
  for (s.put = 1; s.put <= 5; s.put++) CHECK(kill_at_points(put_points, 2, victim_puts_many, check_puts_many, &s) >= 3);
}

static void victim_gets (void *arg) {
  struct stage *s = arg;
  uint64_t v;
  size_t size = sizeof v;
  (void)mp_queue_get(s->q, &v, &size, soon(0.1));
}

static void check_gets (void *arg, const char *point) {
  struct stage *s = arg;
  uint64_t v = 0, first;
  size_t size = sizeof v;
  first = get_int(s->q, soon(5)); /* 1 is there still, or was taken and 2 is next */
  CHECK_EQ(first, strcmp(point, "ring.get.copied") == 0 || strcmp(point, "ring.get.announced") == 0 ? 1 : 2);
  if (first == 1) CHECK_EQ(get_int(s->q, 0), 2);
  CHECK_ERR(mp_queue_get(s->q, &v, &size, 0), MP_ETIMEDOUT);
  put_int(s->q, 1);
  put_int(s->q, 2);
}

TEST("a getter killed anywhere leaves its message or has it, never half", .limit = 60) {
  struct stage s = {new_queue(0, 0), NULL, 0, 0};
  put_int(s.q, 1);
  put_int(s.q, 2);
  CHECK_EQ(kill_at_points(get_points, 1, victim_gets, check_gets, &s), 3);
}

static void patient_getter (void *arg) {
  struct stage *s = arg;
  put_int(s->back, get_int(s->q, MP_NEVER));
}

/* The victim dies while somebody sleeps: the sleeper must get the message that is there, or the next. */
static void with_sleeper (const char *point) {
  struct stage s = {new_queue(0, 0), new_queue(0, 0), 0, 0};
  pid_t g = fork_child(patient_getter, &s);
  int status;
  uint64_t v;
  usleep(30000);
  status = run_killed_at(point, 1, victim_puts, &s);
  if (status == -SIGKILL && mp_queue_size(s.q) == 0 && mp_queue_size(s.back) == 0) {
    usleep(20000);
    if (mp_queue_size(s.back) == 0) put_int(s.q, 5);
  }
  v = get_int(s.back, soon(5));
  CHECK_EQ(v, 5);
  CHECK_EQ(wait_child(g), 0);
  mp_release(s.q);
  mp_release(s.back);
}

TEST("a putter killed while a getter sleeps loses no wake-up", .limit = 60) {
  with_sleeper("ring.put.written");
  with_sleeper("waitq.announce.begin");
  with_sleeper("waitq.announce.counted");
  with_sleeper("waitq.announce.woken");
  with_sleeper("ring.put.announced");
  with_sleeper("ring.put.committed");
}

static void sleeping_victim (void *arg) {
  struct stage *s = arg;
  (void)get_int(s->q, MP_NEVER);
}

TEST("sleeping getters that are killed do not eat the wake-ups of the others", .limit = 60) {
  struct stage s = {new_queue(0, 0), new_queue(0, 0), 0, 0};
  int turn;
  for (turn = 0; turn < 20; turn++) {
    pid_t v1 = fork_child(sleeping_victim, &s), g = fork_child(patient_getter, &s), v2 = fork_child(sleeping_victim, &s);
    usleep(5000);
    (void)kill(v1, SIGKILL);
    (void)kill(v2, SIGKILL);
    put_int(s.q, (uint64_t)turn);
    (void)wait_child(v1);
    (void)wait_child(v2);
    if (mp_queue_size(s.q) == 0 && mp_queue_size(s.back) == 0) { /* a victim may have got it first */
      if (!wait_until(mp_queue_size(s.back) > 0, 2000)) put_int(s.q, (uint64_t)turn);
    }
    CHECK_EQ(get_int(s.back, soon(5)), (uint64_t)turn);
    CHECK_EQ(wait_child(g), 0);
  }
}

static void victim_closes (void *arg) {
  struct stage *s = arg;
  CHECK_OK(mp_queue_close(s->q, 0));
}

static void waits_for_close (void *arg) {
  struct stage *s = arg;
  uint64_t v;
  size_t size = sizeof v;
  CHECK_ERR(mp_queue_get(s->q, &v, &size, MP_NEVER), MP_ECLOSED);
}

TEST("a closer killed in between has closed or not, and sleepers know which", .limit = 60) {
  static const char *const points[] = {"waitq.announce.begin", "waitq.announce.counted", "ring.close.announced", "ring.close.committed"};
  size_t i;
  for (i = 0; i < sizeof points / sizeof points[0]; i++) {
    struct stage s = {new_queue(0, 0), NULL, 0, 0};
    pid_t g = fork_child(waits_for_close, &s);
    usleep(20000);
    (void)run_killed_at(points[i], 1, victim_closes, &s);
    if (strcmp(points[i], "ring.close.committed") != 0) CHECK_OK(mp_queue_close(s.q, 0));
    CHECK_EQ(wait_child(g), 0);
    mp_release(s.q);
  }
}

/* ---- descriptors in messages ---- */

static int put_fd (mp_object *q, uint64_t v, int fd, int64_t deadline) {
  struct mpi_msg m = {&v, sizeof v, &fd, 1};
  int done;
  return mpi_ring_put(mpi_queue_ring(q), &m, 1, &done, deadline);
}

static uint64_t get_fd (mp_object *q, int *fd) {
  uint64_t v;
  int fds[MPI_MAX_FDS];
  struct mpi_sink sink = {.data = (unsigned char *)&v, .room = sizeof v, .fds = fds};
  int got;
  CHECK_OK(mpi_ring_get(mpi_queue_ring(q), &sink, 1, &got, soon(5)));
  *fd = sink.nfds > 0 ? fds[0] : -1;
  return v;
}

static ino_t identity (int fd) {
  struct stat st;
  CHECK_EQ(fstat(fd, &st), 0);
  return st.st_ino;
}

TEST("descriptors come with their message, plain ones between them", .clean = 1) {
  mp_object *q = new_queue(0, 0);
  int pipe1[2], pipe2[2], fd;
  CHECK_EQ(pipe2 == NULL || pipe(pipe1), 0);
  CHECK_EQ(pipe(pipe2), 0);
  CHECK_OK(put_fd(q, 1, pipe1[0], 0));
  put_int(q, 2);
  CHECK_OK(put_fd(q, 3, pipe2[0], 0));
  CHECK_EQ(get_fd(q, &fd), 1);
  CHECK_EQ(identity(fd), identity(pipe1[0]));
  CHECK_EQ(close(fd), 0);
  CHECK_EQ(get_fd(q, &fd), 2);
  CHECK_EQ(fd, -1);
  CHECK_EQ(get_fd(q, &fd), 3);
  CHECK_EQ(identity(fd), identity(pipe2[0]));
  (void)close(fd);
  (void)close(pipe1[0]);
  (void)close(pipe1[1]);
  (void)close(pipe2[0]);
  (void)close(pipe2[1]);
  mp_release(q);
}

TEST("at least a hundred messages with descriptors are in flight before a sender waits, and none is leaked", .clean = 1) {
  mp_object *q = new_queue(0, 0);
  int i, fd, rc = 0, p[2];
  CHECK_EQ(pipe(p), 0);
  for (i = 0; i < 10000; i++) {
    rc = put_fd(q, (uint64_t)i, p[0], soon(0.05));
    if (rc != 0) break;
  }
  CHECK_EQ(rc, MP_ETIMEDOUT);
  CHECK(i >= 100);
  CHECK_EQ(get_fd(q, &fd), 0);
  (void)close(fd);
  mp_release(q); /* the rest was never got */
  (void)close(p[0]);
  (void)close(p[1]);
}

static void victim_puts_fd (void *arg) {
  struct stage *s = arg;
  CHECK_OK(put_fd(s->q, 5, (int)s->put, 0));
}

static void check_fds (void *arg, const char *point) {
  struct stage *s = arg;
  int fd;
  if (mp_queue_size(s->q) > 0) {
    CHECK_EQ(get_fd(s->q, &fd), 5);
    CHECK_EQ(identity(fd), identity((int)s->put));
    (void)close(fd);
  }
  CHECK_EQ(mp_queue_size(s->q), 0);
  CHECK_OK(put_fd(s->q, 6, (int)s->got, 0)); /* must not get what the dead one sent */
  if (get_fd(s->q, &fd) != 6 || identity(fd) != identity((int)s->got)) FAIL("wrong descriptor after a death at %s", point);
  (void)close(fd);
}

TEST("a putter killed with descriptors under way does not give them to the next message", .limit = 60) {
  int a[2], b[2];
  struct stage s;
  CHECK_EQ(pipe(a), 0);
  CHECK_EQ(pipe(b), 0);
  s = (struct stage){new_queue(0, 0), NULL, (uint64_t)a[0], (uint64_t)b[0]};
  CHECK_EQ(kill_at_points(put_points, 1, victim_puts_fd, check_fds, &s), 5);
}

static void victim_gets_fd (void *arg) {
  struct stage *s = arg;
  int fd;
  (void)get_fd(s->q, &fd);
}

static void check_got_fds (void *arg, const char *point) {
  struct stage *s = arg;
  int fd;
  uint64_t v;
  CHECK(mp_queue_size(s->q) > 0);
  v = get_fd(s->q, &fd);
  if (v == 5) {
    CHECK_EQ(identity(fd), identity((int)s->put));
    (void)close(fd);
    v = get_fd(s->q, &fd);
  }
  if (v != 6 || identity(fd) != identity((int)s->got)) FAIL("wrong message after a death at %s", point);
  (void)close(fd);
  CHECK_OK(put_fd(s->q, 5, (int)s->put, 0));
  CHECK_OK(put_fd(s->q, 6, (int)s->got, 0));
}

TEST("a getter killed with descriptors in hand leaves them to the next, or has taken them", .limit = 60) {
  int a[2], b[2];
  struct stage s;
  CHECK_EQ(pipe(a), 0);
  CHECK_EQ(pipe(b), 0);
  s = (struct stage){new_queue(0, 0), NULL, (uint64_t)a[0], (uint64_t)b[0]};
  CHECK_OK(put_fd(s.q, 5, a[0], 0));
  CHECK_OK(put_fd(s.q, 6, b[0], 0));
  CHECK_EQ(kill_at_points(get_points, 1, victim_gets_fd, check_got_fds, &s), 3);
}

/* ---- the descriptor that polls ---- */

static int readable (int fd) {
  struct pollfd p = {fd, POLLIN, 0};
  return poll(&p, 1, 0) == 1;
}

TEST("the descriptor of a queue is readable exactly while a get would not wait") {
  mp_object *q = new_queue(0, 0);
  int fd, i;
  put_int(q, 1);
  fd = mp_queue_fd(q);
  CHECK(fd >= 0);
  CHECK(readable(fd));
  put_int(q, 2);
  (void)get_int(q, 0);
  CHECK(readable(fd));
  (void)get_int(q, 0);
  CHECK(!readable(fd));
  for (i = 0; i < 1000; i++) put_int(q, 3);
  for (i = 0; i < 1000; i++) {
    CHECK(readable(fd));
    (void)get_int(q, 0);
  }
  CHECK(!readable(fd));
  CHECK_OK(mp_queue_close(q, 0));
  CHECK(readable(fd));
}

/* ---- memory ---- */

static uint64_t blocks (mp_object *o) {
  struct stat st;
  CHECK_EQ(fstat(o->fds[0], &st), 0);
  return (uint64_t)st.st_blocks * 512;
}

TEST("a drained backlog gives its memory back, and a long life at a small backlog takes none", .one_thread = 1, .limit = 60) {
  mp_object *q = new_queue(0, 0);
  uint64_t i, n = 300000;
  for (i = 0; i < n; i++) put_int(q, i);
  CHECK(blocks(q) >= n * 16);
  for (i = 0; i < n; i++) CHECK_EQ(get_int(q, 0), i);
  CHECK(blocks(q) < 2u << 20);
  for (i = 0; i < 10; i++) put_int(q, i); /* never empty again */
  for (i = 0; i < n; i++) {
    put_int(q, i);
    (void)get_int(q, 0);
  }
  CHECK(blocks(q) < 3u << 20);
}

static long faults (void) {
  struct rusage u;
  (void)getrusage(RUSAGE_SELF, &u);
  return u.ru_minflt;
}

/* Puts and gets one in turns; gives the page faults. */
static long exchange (mp_object *q, int n) {
  static char message[4000];
  long before = faults();
  int i;
  for (i = 0; i < n; i++) {
    size_t size = sizeof message;
    CHECK_OK(mp_queue_put(q, message, sizeof message, 0));
    CHECK_EQ(mp_queue_get(q, message, &size, 0), 0);
  }
  return faults() - before;
}

TEST("a backlog that stays goes round in pages that are there, and its memory is given back when it is gone", .one_thread = 1, .limit = 60) {
  static char message[4000];
  mp_object *q = new_queue(1000, 0);
  int i;
  for (i = 0; i < 900; i++) CHECK_OK(mp_queue_put(q, message, sizeof message, 0));
  (void)exchange(q, 10000); /* until the ring goes round */
  CHECK(exchange(q, 10000) < 1000);
  CHECK(blocks(q) < 20u << 20);
  for (i = 0; i < 900; i++) {
    size_t size = sizeof message;
    CHECK_EQ(mp_queue_get(q, message, &size, 0), 0);
  }
  CHECK(blocks(q) < 2u << 20);
}

/* Messages of 8 KB, each filled with its number, past the window; one small one in ten. */
static void large_and_small (mp_object *q, int n) {
  static unsigned char message[8000], got[8000];
  int i;
  for (i = 0; i < n; i++) {
    memset(message, i, sizeof message);
    CHECK_OK(mp_queue_put(q, message, i % 10 == 9 ? 5 : sizeof message - (size_t)i % 50, 0));
  }
  for (i = 0; i < n; i++) {
    size_t size = sizeof got, want = i % 10 == 9 ? 5 : sizeof message - (size_t)i % 50;
    memset(got, ~i, sizeof got);
    CHECK_OK(mp_queue_get(q, got, &size, 0));
    CHECK_EQ(size, want);
    memset(message, i, want);
    CHECK_MEM(got, message, want);
  }
}

TEST("large messages far from the window are whole, also under a limit for files", .limit = 60) {
  static const rlim_t limits[] = {RLIM_INFINITY, 0, 200000, 400001};
  mp_object *q = new_queue(0, 0);
  unsigned i;
  for (i = 0; i < sizeof limits / sizeof *limits; i++) {
    const struct rlimit most = {limits[i], RLIM_INFINITY};
    CHECK_EQ(setrlimit(RLIMIT_FSIZE, &most), 0); /* who writes behind it is killed */
    large_and_small(q, 300);
    large_and_small(q, 50);
  }
}

TEST("a host's file that has got the segment's number is left alone", .limit = 30) {
  mp_object *q = new_queue(0, 0);
  char byte = 0;
  int file = mpi_memfd("host's"), kept = mpi_fd_dup(q->seg.fd);
  CHECK_OK(file);
  CHECK_OK(kept);
  CHECK(ftruncate(file, 8 << 20) == 0 && pwrite(file, "x", 1, 1 << 20) == 1);
  CHECK(dup2(file, q->seg.fd) >= 0);
  large_and_small(q, 300); /* written, read and given back */
  CHECK(lseek(file, 0, SEEK_DATA) == 1 << 20); /* one page exists, where it did */
  CHECK(lseek(file, (1 << 20) + 4096, SEEK_DATA) < 0);
  CHECK(pread(file, &byte, 1, 1 << 20) == 1 && byte == 'x');
  CHECK(dup2(kept, q->seg.fd) >= 0);
}

/* ---- pipes ---- */

static void new_pipe (int duplex, mp_object **a, mp_object **b) {
  CHECK_OK(mp_pipe_new(duplex, a, b));
}

static uint64_t recv_int (mp_object *end) {
  uint64_t v = 0;
  size_t size = sizeof v;
  CHECK_OK(mp_pipe_recv(end, &v, &size, soon(5)));
  return v;
}

static void send_int (mp_object *end, uint64_t v) {
  CHECK_OK(mp_pipe_send(end, &v, sizeof v, soon(5)));
}

TEST("a pipe carries messages both ways and tells of the end", .clean = 1) {
  mp_object *a, *b;
  uint64_t v;
  size_t size = sizeof v;
  new_pipe(1, &a, &b);
  send_int(a, 1);
  send_int(b, 2);
  send_int(b, 3);
  CHECK_EQ(recv_int(b), 1);
  CHECK_EQ(recv_int(a), 2);
  CHECK_ERR(mp_pipe_recv(b, &v, &size, 0), MP_ETIMEDOUT);
  CHECK_ERR(mp_pipe_recv(b, &v, &size, soon(0.01)), MP_ETIMEDOUT);
  mp_release(b);
  CHECK_EQ(recv_int(a), 3); /* what was sent before the end */
  CHECK_ERR(mp_pipe_recv(a, &v, &size, MP_NEVER), MP_EEOF);
  CHECK_ERR(mp_pipe_recv(a, &v, &size, 0), MP_EEOF);
  CHECK_ERR(mp_pipe_send(a, &v, sizeof v, MP_NEVER), MP_ECLOSED);
  mp_release(a);
}

TEST("a one-way pipe refuses the wrong direction", .clean = 1) {
  mp_object *a, *b;
  uint64_t v = 1;
  size_t size = sizeof v;
  new_pipe(0, &a, &b);
  send_int(b, 4);
  CHECK_EQ(recv_int(a), 4);
  CHECK_ERR(mp_pipe_send(a, &v, sizeof v, 0), MP_EMISUSE);
  CHECK_ERR(mp_pipe_recv(b, &v, &size, 0), MP_EMISUSE);
  mp_release(a);
  CHECK_ERR(mp_pipe_send(b, &v, sizeof v, 0), MP_ECLOSED);
  mp_release(b);
}

struct ends {
  mp_object *a, *b;
};

static void holds_b (void *arg) {
  struct ends *e = arg;
  mp_release(e->a);
  (void)recv_int(e->b);
  (void)pause();
}

static void holds_full_b (void *arg) {
  struct ends *e = arg;
  mp_release(e->a);
  (void)pause();
}

TEST("a blocked receiver learns of the death of the only sender", .limit = 20) {
  struct ends e;
  uint64_t v;
  size_t size = sizeof v;
  pid_t pid;
  new_pipe(1, &e.a, &e.b);
  pid = fork_child(holds_b, &e);
  mp_release(e.b);
  send_int(e.a, 1);
  CHECK_ERR(mp_pipe_recv(e.a, &v, &size, soon(0.05)), MP_ETIMEDOUT);
  (void)kill(pid, SIGKILL);
  CHECK_ERR(mp_pipe_recv(e.a, &v, &size, MP_NEVER), MP_EEOF);
  (void)wait_child(pid);
}

static void fills (void *arg) {
  struct ends *e = arg;
  static char block[65536];
  int rc;
  mp_release(e->b);
  do rc = mp_pipe_send(e->a, block, sizeof block, MP_NEVER);
  while (rc == 0);
  CHECK_EQ(rc, MP_ECLOSED);
}

TEST("a blocked sender learns of the death of the only reader", .limit = 20) {
  struct ends e;
  pid_t reader, sender;
  new_pipe(1, &e.a, &e.b);
  reader = fork_child(holds_full_b, &e);
  sender = fork_child(fills, &e);
  usleep(50000);
  mp_release(e.a);
  mp_release(e.b);
  (void)kill(reader, SIGKILL);
  CHECK_EQ(wait_child(sender), 0);
  (void)wait_child(reader);
}

static void echo (void *arg) {
  struct ends *e = arg;
  static char block[3 << 20];
  size_t size = sizeof block;
  int rc;
  mp_release(e->a);
  while ((rc = mp_pipe_recv(e->b, block, &size, MP_NEVER)) == 0) {
    CHECK_OK(mp_pipe_send(e->b, block, size, MP_NEVER));
    size = sizeof block;
  }
  CHECK_EQ(rc, MP_EEOF);
}

TEST("messages of every size go through and come back, larger ones than the pipe holds too", .limit = 60) {
  struct ends e;
  static char out[3 << 20], in[3 << 20];
  size_t n;
  pid_t pid;
  new_pipe(1, &e.a, &e.b);
  pid = fork_child(echo, &e);
  mp_release(e.b);
  for (n = 0; n <= sizeof out; n = n * 3 + 1) {
    size_t size = sizeof in;
    memset(out, (int)n, n);
    CHECK_OK(mp_pipe_send(e.a, out, n, soon(10)));
    CHECK_OK(mp_pipe_recv(e.a, in, &size, soon(10)));
    CHECK_EQ(size, n);
    CHECK(memcmp(in, out, n) == 0);
  }
  mp_release(e.a);
  CHECK_EQ(wait_child(pid), 0);
}

TEST("the descriptor of a pipe is readable exactly while a recv would not wait, also at the end") {
  mp_object *a, *b;
  int fd;
  new_pipe(1, &a, &b);
  send_int(a, 1);
  fd = mp_pipe_fd(b);
  CHECK(fd >= 0);
  CHECK(readable(fd));
  (void)recv_int(b);
  CHECK(!readable(fd));
  send_int(a, 2);
  send_int(a, 3);
  CHECK(readable(fd));
  (void)recv_int(b);
  CHECK(readable(fd));
  (void)recv_int(b);
  CHECK(!readable(fd));
  mp_release(a);
  CHECK(readable(fd));
}

static void storm_sender (void *arg) {
  struct work *w = arg;
  uint64_t i;
  for (i = 0;; i++) send_int(w->q, i);
}

TEST("senders killed at random leave whole messages for many receivers", .limit = 60) {
  mp_object *a, *b;
  int turn;
  uint64_t got = 0;
  new_pipe(1, &a, &b);
  for (turn = 0; turn < 30; turn++) {
    struct work w = {a, NULL, 0, 0};
    pid_t pid = fork_child(storm_sender, &w);
    uint64_t v;
    size_t size = sizeof v;
    int i;
    for (i = 0; i < 50; i++) {
      size = sizeof v;
      CHECK_OK(mp_pipe_recv(b, &v, &size, soon(5)));
      CHECK_EQ(size, sizeof v);
    }
    (void)kill(pid, SIGKILL);
    (void)wait_child(pid);
    size = sizeof v;
    while (mp_pipe_recv(b, &v, &size, 0) == 0) {
      CHECK_EQ(size, sizeof v);
      got++;
    }
  }
  CHECK(got > 0);
}

TEST("a head or layout that no correct peer writes makes nobody write outside") {
  static const uint64_t heads[] = {0xffffffffu, 0x7fffffffu, 0xfffffffeull << 32, UINT64_MAX, 300, 0};
  static const uint64_t layouts[] = {1, 0xffffffffu, 255, 0xffffffff00000001ull, UINT64_MAX, 0xff000000ffull};
  size_t i, k;
  for (i = 0; i < sizeof heads / sizeof heads[0]; i++)
    for (k = 0; k < sizeof layouts / sizeof layouts[0]; k++) {
      mp_object *q = new_queue(0, 3000);
      struct mpi_ring *r = mpi_queue_ring(q);
      static char m[2900];
      size_t size = sizeof m;
      int turn, rc;
      uint32_t tail = r->units - 3; /* near the end of the area */
      mpi_store(&r->s->tail, (uint64_t)5 << 32 | tail);
      mpi_store(&r->s->put_tail, (uint64_t)5 << 32 | tail);
      mpi_store(&r->s->head, heads[i]);
      mpi_store(&r->s->head_seen, heads[i]);
      mpi_store(&r->s->layout[0], layouts[k]);
      mpi_store(&r->s->layout[1], layouts[k]);
      for (turn = 0; turn < 20; turn++) {
        rc = mp_queue_put(q, m, sizeof m, 0);
        CHECK(rc == 0 || rc == MP_ECORRUPT || rc == MP_ETIMEDOUT);
        size = sizeof m;
        rc = mp_queue_get(q, m, &size, 0);
        CHECK(rc == 0 || rc == MP_ECORRUPT || rc == MP_ETIMEDOUT || rc == MP_E2BIG);
      }
      mp_release(q);
    }
}
