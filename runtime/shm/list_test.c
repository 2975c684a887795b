#include "shm/list.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/test.h"

static mp_object *new_list (void) {
  mp_object *o = NULL;
  CHECK_OK(mp_list_new(&o));
  return o;
}

static struct mpi_item num (const int64_t *i) {
  struct mpi_item v = {MPI_ITEM_INT, 8, i};
  return v;
}

static void append (mp_object *o, int64_t i) {
  struct mpi_item v = num(&i);
  CHECK_OK(mpi_list_append(o, &v, MP_NEVER));
}

static size_t pack (char *to, int64_t i) {
  uint32_t size = 9;
  memcpy(to, &size, 4);
  to[4] = MPI_ITEM_INT;
  memcpy(to + 5, &i, 8);
  return 13;
}

static int insert (mp_object *o, int64_t at, int64_t i) {
  char packed[16];
  return mpi_list_insert(o, at, packed, pack(packed, i), 1, MP_NEVER);
}

static int64_t unpack (const char *item, size_t size) {
  struct mpi_number n = {0, 0, 0};
  CHECK(mpi_item_number(item, size, &n));
  return n.i;
}

static int64_t get (mp_object *o, int64_t at) {
  char buf[16];
  size_t size;
  CHECK_OK(mpi_list_get(o, at, buf, sizeof buf, &size, MP_NEVER));
  return unpack(buf, size);
}

static int64_t pop (mp_object *o, int64_t at) {
  char buf[16];
  size_t size;
  CHECK_OK(mpi_list_pop(o, at, buf, sizeof buf, &size, MP_NEVER));
  return unpack(buf, size);
}

static size_t count (mp_object *o) {
  size_t n = 0;
  CHECK_OK(mp_list_count(o, &n, MP_NEVER));
  return n;
}

static int remove_num (mp_object *o, int64_t i) {
  char packed[16];
  (void)pack(packed, i);
  return mpi_list_remove(o, packed + 4, 9, MP_NEVER);
}

TEST("keeps what is appended, in order", .clean = 1) {
  mp_object *o = new_list();
  char buf[16];
  size_t size;
  int64_t i;
  CHECK_ERR(mpi_list_get(o, 1, buf, sizeof buf, &size, MP_NEVER), MP_EEMPTY);
  CHECK_ERR(mpi_list_pop(o, 0, buf, sizeof buf, &size, MP_NEVER), MP_EEMPTY);
  for (i = 1; i <= 1000; i++) append(o, i);
  for (i = 1; i <= 1000; i++) CHECK_EQ(get(o, i), i);
  CHECK_ERR(mpi_list_get(o, 1001, buf, sizeof buf, &size, MP_NEVER), MP_EEMPTY);
  CHECK_ERR(mpi_list_get(o, 1002, buf, sizeof buf, &size, MP_NEVER), MP_ERANGE);
  CHECK_ERR(mpi_list_get(o, 0, buf, sizeof buf, &size, MP_NEVER), MP_ERANGE);
  CHECK_ERR(mpi_list_get(o, -1, buf, sizeof buf, &size, MP_NEVER), MP_ERANGE);
  CHECK_ERR(mpi_list_get(o, INT64_MIN, buf, sizeof buf, &size, MP_NEVER), MP_ERANGE);
  CHECK_EQ(pop(o, 0), 1000);
  CHECK_EQ(pop(o, 1), 1);
  CHECK_EQ(get(o, 1), 2);
  CHECK_EQ(count(o), 998);
  CHECK_OK(mpi_list_check(o));
  mp_release(o);
}

TEST("agrees with a plain array after many random changes", .one_thread = 1, .limit = 30) {
  static int64_t model[100000];
  int n = 0, step;
  mp_object *o = new_list();
  for (step = 0; step < 20000; step++) {
    uint64_t r = test_random();
    int64_t x = (int64_t)(r >> 40);
    int at = n == 0 ? 0 : (int)((r >> 8) % (unsigned)n), i, k;
    struct mpi_item v = num(&x);
    switch (r % (step % 4000 < 2000 ? 6 : 10)) {
      case 0: case 1:
        append(o, x);
        model[n++] = x;
        break;
      case 2: case 3:
        CHECK_OK(insert(o, at + 1, x));
        memmove(model + at + 1, model + at, (size_t)(n - at) * 8);
        model[at] = x;
        n++;
        break;
      case 4: {
        char packed[130];
        size_t size = 0;
        k = (int)((r >> 40) % 10);
        for (i = 0; i < k; i++) size += pack(packed + size, x + i);
        CHECK_OK(mpi_list_insert(o, at + 1, packed, size, (uint64_t)k, MP_NEVER));
        memmove(model + at + k, model + at, (size_t)(n - at) * 8);
        for (i = 0; i < k; i++) model[at + i] = x + i;
        n += k;
        break;
      }
      case 5:
        CHECK_OK(mpi_list_set(o, at + 1, &v, MP_NEVER));
        model[at] = x;
        if (n == 0) n = 1;
        break;
      default:
        if (n == 0) break;
        if (r & 1 << 20) {
          for (i = 0; model[i] != model[at]; i++) {}
          CHECK_EQ(remove_num(o, model[at]), 1);
          at = i;
        } else {
          CHECK_EQ(pop(o, at + 1), model[at]);
        }
        memmove(model + at, model + at + 1, (size_t)(n - at - 1) * 8);
        n--;
    }
    if (step % 500 == 0) {
      CHECK_OK(mpi_list_check(o));
      CHECK_EQ(count(o), (size_t)n);
      for (i = 0; i < n; i++) CHECK_EQ(get(o, i + 1), model[i]);
    }
  }
  CHECK_OK(mpi_list_reverse(o, MP_NEVER));
  for (step = 0; step < n; step++) CHECK_EQ(get(o, step + 1), model[n - 1 - step]);
  for (step = 0; n > 0; n--) CHECK_EQ(pop(o, 0), model[step++]); /* it is reversed */
  CHECK_EQ(count(o), 0);
  CHECK_OK(mpi_list_check(o));
}

TEST("finds what is equal, as Lua sees it") {
  mp_object *o = new_list();
  double d = 2.0, nan_ = __builtin_nan("");
  int64_t two = 2;
  struct mpi_item f = {MPI_ITEM_FLOAT, 8, &d}, s = {MPI_ITEM_STR, 1, "2"}, q = {MPI_ITEM_FLOAT, 8, &nan_};
  char item[16] = {MPI_ITEM_FLOAT};
  uint64_t at;
  CHECK_OK(mpi_list_append(o, &s, MP_NEVER));
  CHECK_OK(mpi_list_append(o, &q, MP_NEVER));
  CHECK_OK(mpi_list_append(o, &f, MP_NEVER));
  item[0] = MPI_ITEM_INT;
  memcpy(item + 1, &two, 8);
  CHECK_OK(mpi_list_index(o, item, 9, &at, MP_NEVER));
  CHECK_EQ(at, 3);
  CHECK_EQ(mpi_list_remove(o, item, 9, MP_NEVER), 1);
  CHECK_EQ(mpi_list_remove(o, item, 9, MP_NEVER), 0);
  item[0] = MPI_ITEM_FLOAT;
  memcpy(item + 1, &nan_, 8);
  CHECK_OK(mpi_list_index(o, item, 9, &at, MP_NEVER));
  CHECK_EQ(at, 0);
  CHECK_EQ(mp_list_append(o, "host", 4, MP_NEVER), 0);
  {
    char buf[8];
    size_t size;
    CHECK_OK(mp_list_get(o, 3, buf, 8, &size, MP_NEVER));
    CHECK_EQ(size, 4);
    CHECK_MEM(buf, "host", 4);
    CHECK_ERR(mp_list_get(o, 3, buf, 3, &size, MP_NEVER), MP_E2BIG);
    CHECK_ERR(mp_list_get(o, 2, buf, 8, &size, MP_NEVER), MP_EMISUSE);
    CHECK_ERR(mp_list_get(o, SIZE_MAX, buf, 8, &size, MP_NEVER), MP_ERANGE);
  }
}

TEST("takes a new order whole, and only for the list that it was made for") {
  mp_object *o = new_list();
  uint64_t slots[4], order[4] = {4, 2, 3, 1}, bad[4] = {1, 2, 2, 4}, n;
  unsigned char scratch[4];
  char buf[64];
  size_t size;
  int64_t i;
  for (i = 1; i <= 4; i++) append(o, i);
  CHECK_ERR(mpi_list_snapshot(o, buf, sizeof buf, &size, slots, 3, &n, MP_NEVER), MP_E2BIG);
  CHECK_OK(mpi_list_snapshot(o, buf, sizeof buf, &size, slots, 4, &n, MP_NEVER));
  CHECK_EQ(n, 4);
  CHECK_ERR(mpi_list_reorder(o, slots, bad, scratch, 4, MP_NEVER), MP_EMISUSE);
  CHECK_OK(mpi_list_reorder(o, slots, order, scratch, 4, MP_NEVER));
  CHECK_EQ(get(o, 1), 4);
  CHECK_EQ(get(o, 4), 1);
  CHECK_ERR(mpi_list_reorder(o, slots, order, scratch, 4, MP_NEVER), MP_EMISUSE);
  CHECK_OK(mpi_list_check(o));
}

static void *append_many (void *arg) {
  int64_t i;
  for (i = 0; i < 3000; i++) {
    append(arg, i);
    if (i % 3 == 0) (void)pop(arg, 0);
  }
  return NULL;
}
static void append_child (void *arg) { (void)append_many(arg); }

TEST("loses nothing that threads and processes append", .limit = 30) {
  mp_object *o = new_list();
  pthread_t t[2];
  pid_t p[2];
  int i;
  for (i = 0; i < 2; i++) p[i] = fork_child(append_child, o);
  for (i = 0; i < 2; i++) pthread_create(&t[i], NULL, append_many, o);
  for (i = 0; i < 2; i++) pthread_join(t[i], NULL);
  for (i = 0; i < 2; i++) CHECK_EQ(wait_child(p[i]), 0);
  CHECK_EQ(count(o), 8000);
  CHECK_OK(mpi_list_check(o));
}

TEST("memory comes back when the list shrinks", .one_thread = 1, .limit = 30) {
  mp_object *o = new_list();
  struct stat full, st;
  int64_t i;
  for (i = 0; i < 200000; i++) append(o, i);
  fstat(o->fds[0], &full);
  for (i = 0; i < 200000; i++) (void)pop(o, 0);
  fstat(o->fds[0], &st);
  CHECK(st.st_blocks < full.st_blocks / 2);
  CHECK_OK(mpi_list_check(o));
  append(o, 1);
  CHECK_OK(mpi_list_clear(o, MP_NEVER));
  fstat(o->fds[0], &st);
  CHECK(st.st_blocks <= 64 * 8);
  CHECK_EQ(count(o), 0);
}

/* ---- death at every point ---- */

static const char *state (mp_object *o) {
  static char text[4][4096];
  static int turn;
  char *t = text[turn++ % 4];
  int64_t i, n = (int64_t)count(o);
  CHECK_OK(mpi_list_check(o));
  t[0] = 0;
  for (i = 1; i <= n; i++) sprintf(t + strlen(t), "%d,", (int)get(o, i));
  return t;
}

struct act {
  mp_object *o;
  int entries;
  void (*op) (mp_object *o);
};

static void prepare (struct act *a) {
  int i;
  CHECK_OK(mpi_list_clear(a->o, MP_NEVER));
  for (i = 0; i < a->entries; i++) append(a->o, i % 7);
}

static void op_append (mp_object *o) { append(o, 100); }
static void op_insert (mp_object *o) { CHECK_OK(insert(o, 2, 100)); }
static void op_extend (mp_object *o) {
  char packed[13 * 9];
  size_t size = 0;
  int64_t i;
  for (i = 0; i < 9; i++) size += pack(packed + size, 200 + i);
  CHECK_OK(mpi_list_insert(o, 3, packed, size, 9, MP_NEVER));
}
static void op_set (mp_object *o) {
  int64_t i = 300;
  struct mpi_item v = num(&i);
  CHECK_OK(mpi_list_set(o, 2, &v, MP_NEVER));
}
static void op_pop (mp_object *o) { (void)pop(o, 0); }
static void op_pop_first (mp_object *o) { (void)pop(o, 1); }
static void op_remove (mp_object *o) { CHECK_EQ(remove_num(o, 2), 1); }
static void op_reverse (mp_object *o) { CHECK_OK(mpi_list_reverse(o, MP_NEVER)); }
static void op_clear (mp_object *o) { CHECK_OK(mpi_list_clear(o, MP_NEVER)); }
static void op_reorder (mp_object *o) {
  uint64_t slots[64], order[64], n, i;
  unsigned char scratch[64];
  char buf[1000];
  size_t size;
  CHECK_OK(mpi_list_snapshot(o, buf, sizeof buf, &size, slots, 64, &n, MP_NEVER));
  for (i = 0; i < n; i++) order[i] = (i + 1) % n + 1;
  CHECK_OK(mpi_list_reorder(o, slots, order, scratch, n, MP_NEVER));
}
static void run_op (void *arg) { ((struct act *)arg)->op(((struct act *)arg)->o); }

TEST("a death at any point of a change leaves the old state or the new", .one_thread = 1, .limit = 60) {
  static void (*const ops[]) (mp_object *) = {op_append, op_insert, op_extend, op_set, op_pop, op_pop_first, op_remove, op_reverse, op_clear, op_reorder};
  static const int entries[] = {4, 8, 13};
  struct act a;
  size_t i, e;
  a.o = new_list();
  for (i = 0; i < sizeof ops / sizeof ops[0]; i++)
    for (e = 0; e < sizeof entries / sizeof entries[0]; e++) {
      char before[4096], after[4096];
      int nth, status = 1, old = 0, new = 0;
      a.op = ops[i];
      a.entries = entries[e];
      prepare(&a);
      strcpy(before, state(a.o));
      a.op(a.o);
      strcpy(after, state(a.o));
      CHECK(strcmp(before, after) != 0);
      for (nth = 1; status != 0; nth++) {
        const char *now;
        prepare(&a);
        status = run_killed_at("*", nth, run_op, &a);
        CHECK(status == 0 || status == -SIGKILL);
        now = state(a.o);
        if (strcmp(now, before) == 0) old++;
        else if (strcmp(now, after) == 0) new++;
        else FAIL("op %d with %d entries, killed at point %d: neither old nor new:\n%s\n%s\n%s", (int)i, a.entries, nth, before, now, after);
        if (status == 0) CHECK_STR(now, after);
      }
      CHECK(nth > 5 && old > 0 && new > 1);
    }
}

/* ---- a hostile peer ---- */

static void anything (mp_object *o) {
  char buf[512], packed[16];
  uint64_t n, at, slots[16];
  unsigned char scratch[16];
  size_t size;
  int64_t i, x = 5;
  struct mpi_item v = num(&x);
  for (i = 0; i < 10; i++) {
    (void)mpi_list_get(o, i, buf, sizeof buf, &size, MP_NEVER);
    (void)mpi_list_set(o, i, &v, MP_NEVER);
    (void)mpi_list_append(o, &v, MP_NEVER);
    (void)insert(o, i, i);
    (void)mpi_list_pop(o, i, buf, sizeof buf, &size, MP_NEVER);
    (void)mpi_list_pop(o, 0, buf, sizeof buf, &size, MP_NEVER);
  }
  (void)pack(packed, 3);
  (void)mpi_list_index(o, packed + 4, 9, &at, MP_NEVER);
  (void)mpi_list_remove(o, packed + 4, 9, MP_NEVER);
  (void)mpi_list_reverse(o, MP_NEVER);
  if (mpi_list_snapshot(o, buf, sizeof buf, &size, slots, 16, &n, MP_NEVER) == 0 && n <= 16) {
    uint64_t order[16];
    for (at = 0; at < n; at++) order[at] = n - at;
    (void)mpi_list_reorder(o, slots, order, scratch, n, MP_NEVER);
  }
}

static void scribble (char *p, size_t n) {
  static const uint64_t nasty[] = {0, 1, 2, 0x7fffffff, 0x80000000u, 0xffffffffu, (uint64_t)1 << 32, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63, 1 << 24, 64, 4096};
  uint64_t r = test_random(), w = r % 3 ? nasty[(r >> 8) % (sizeof nasty / sizeof nasty[0])] : test_random();
  size_t at = (r >> 16) % (n / 8) * 8;
  if (r % 5 == 0) w = *(uint64_t *)(void *)(p + (test_random() % (n / 8)) * 8);
  memcpy(p + at, &w, 8);
}

TEST("anything that a peer writes gives errors only", .limit = 60) {
  mp_object *o = new_list();
  struct mpi_store *s = (struct mpi_store *)o;
  int round, i;
  for (round = 0; round < 300; round++) {
    int64_t x = 1;
    struct mpi_item v = num(&x);
    (void)mpi_list_clear(o, MP_NEVER);
    for (i = 0; i < 9; i++) (void)mpi_list_append(o, &v, MP_NEVER);
    for (i = 0; i < 1 + round % 6; i++) {
      switch (test_random() % 4) {
        case 0: scribble((char *)s->root, sizeof *s->root); break;
        case 1: scribble((char *)s->root, 160); break;
        default: scribble(mpi_store_at(s, s->heap_at + test_random() % 4 * MPI_CHUNK), 512); break;
      }
    }
    anything(o);
  }
}

TEST("speed", .hidden = 1, .limit = 60) {
  mp_object *o = new_list();
  int64_t i, t;
  const int64_t n = 1000000;
  t = mp_now();
  for (i = 0; i < n; i++) append(o, i);
  fprintf(stderr, "append %lld ns\n", (long long)((mp_now() - t) / n));
  t = mp_now();
  for (i = 0; i < n; i++) (void)get(o, i + 1);
  fprintf(stderr, "get %lld ns\n", (long long)((mp_now() - t) / n));
  t = mp_now();
  for (i = 0; i < 100; i++) CHECK_OK(insert(o, 1, i));
  fprintf(stderr, "insert at 1 of a million: %lld us\n", (long long)((mp_now() - t) / 100000));
  t = mp_now();
  for (i = 0; i < n; i++) (void)pop(o, 0);
  fprintf(stderr, "pop %lld ns\n", (long long)((mp_now() - t) / n));
  CHECK(0);
}
