#include "shm/dict.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "test/test.h"

#define BUF 70000

static mp_object *new_dict (void) {
  mp_object *o = NULL;
  CHECK_OK(mp_dict_new(&o));
  return o;
}

static struct mpi_item str (const char *s) { /* NULL: unused */
  struct mpi_item i = {MPI_ITEM_STR, s == NULL ? 0 : strlen(s), s};
  return i;
}

static void set (mp_object *o, const char *k, const char *v) {
  struct mpi_item key = str(k), value = str(v);
  CHECK_OK(mpi_dict_set(o, &key, v == NULL ? NULL : &value, MP_NEVER));
}

/* The string at this key, or "-". */
static const char *get (mp_object *o, const char *k) {
  static char buf[BUF + 1];
  struct mpi_item key = str(k);
  size_t size = 0;
  int64_t i;
  int rc = mpi_dict_get(o, &key, buf, BUF, &size, MP_NEVER);
  if (rc == MP_EEMPTY) return "-";
  CHECK_OK(rc);
  buf[size] = 0;
  if (buf[0] == MPI_ITEM_STR) return buf + 1;
  CHECK(buf[0] == MPI_ITEM_INT && size == 9);
  memcpy(&i, buf + 1, 8);
  snprintf(buf, BUF, "#%lld", (long long)i);
  return buf;
}

static size_t count (mp_object *o) {
  size_t n = 0;
  CHECK_OK(mp_dict_count(o, &n, MP_NEVER));
  return n;
}

static void fill (char *s, size_t n, int c) {
  memset(s, c, n);
  s[n] = 0;
}

static int64_t pages (mp_object *o) {
  struct stat st;
  CHECK_EQ(fstat(o->fds[0], &st), 0);
  return st.st_blocks / 8;
}

TEST("gives back what was set, and nothing for a key that was not", .clean = 1) {
  mp_object *o = new_dict();
  CHECK_STR(get(o, "a"), "-");
  set(o, "a", "1");
  set(o, "b", "");
  set(o, "", "empty key");
  CHECK_STR(get(o, "a"), "1");
  CHECK_STR(get(o, "b"), "");
  CHECK_STR(get(o, ""), "empty key");
  CHECK_EQ(count(o), 3);
  set(o, "a", "another, longer value than before");
  CHECK_STR(get(o, "a"), "another, longer value than before");
  set(o, "a", "1234");
  CHECK_STR(get(o, "a"), "1234");
  CHECK_EQ(count(o), 3);
  CHECK_OK(mp_dict_remove(o, "a", 1, MP_NEVER));
  CHECK_OK(mp_dict_remove(o, "a", 1, MP_NEVER));
  CHECK_STR(get(o, "a"), "-");
  CHECK_EQ(count(o), 2);
  CHECK_OK(mpi_dict_check(o));
  mp_release(o);
}

TEST("keys of different kinds are different keys") {
  mp_object *o = new_dict();
  int64_t i = 0x61;
  double d = 0.5;
  char one = 1;
  struct mpi_item ki = {MPI_ITEM_INT, 8, &i}, kd = {MPI_ITEM_FLOAT, 8, &d}, kb = {MPI_ITEM_BOOL, 1, &one}, v = str("x");
  struct mpi_item ks = {MPI_ITEM_STR, 8, &i};
  char buf[8];
  size_t size;
  CHECK_OK(mpi_dict_set(o, &ki, &v, MP_NEVER));
  CHECK_OK(mpi_dict_set(o, &kd, &v, MP_NEVER));
  CHECK_OK(mpi_dict_set(o, &kb, &v, MP_NEVER));
  CHECK_ERR(mpi_dict_get(o, &ks, buf, sizeof buf, &size, MP_NEVER), MP_EEMPTY);
  CHECK_EQ(count(o), 3);
}

TEST("tells how much room a value needs, and changes nothing until it has it") {
  mp_object *o = new_dict();
  struct mpi_item k = str("k");
  char buf[8];
  size_t size = 0;
  set(o, "k", "0123456789");
  CHECK_ERR(mpi_dict_pop(o, &k, buf, sizeof buf, &size, MP_NEVER), MP_E2BIG);
  CHECK_EQ(size, 11);
  CHECK_STR(get(o, "k"), "0123456789");
  CHECK_ERR(mpi_dict_snapshot(o, buf, sizeof buf, &size, &(uint64_t){0}, MP_NEVER), MP_E2BIG);
  CHECK_EQ(size, 4 + 2 + 4 + 11);
}

TEST("counts without a codec, and refuses overflow and what is no number") {
  mp_object *o = new_dict();
  struct mpi_item k = str("n");
  struct mpi_number n = {0, 5, 0};
  int64_t sum = 0;
  CHECK_OK(mp_dict_incr(o, "n", 1, 5, &sum, MP_NEVER));
  CHECK_EQ(sum, 5);
  CHECK_OK(mp_dict_incr(o, "n", 1, INT64_MAX - 5, &sum, MP_NEVER));
  CHECK_EQ(sum, INT64_MAX);
  CHECK_ERR(mp_dict_incr(o, "n", 1, 1, &sum, MP_NEVER), MP_ERANGE);
  n.is_float = 1;
  n.d = 0.5;
  CHECK_OK(mpi_dict_incr(o, &k, &n, MP_NEVER));
  CHECK(n.is_float && n.d == 9223372036854775807.0 + 0.5);
  set(o, "n", "text");
  CHECK_ERR(mp_dict_incr(o, "n", 1, 1, &sum, MP_NEVER), MP_EMISUSE);
  CHECK_STR(get(o, "n"), "text");
  CHECK_OK(mpi_dict_check(o));
}

TEST("agrees with a plain table after many random changes", .limit = 30) {
  enum { KEYS = 300 };
  static char *model[KEYS];
  static char value[BUF + 1];
  mp_object *o = new_dict();
  int step, i;
  for (step = 0; step < 20000; step++) {
    uint64_t r = test_random();
    int k = (int)(r % KEYS);
    char key[64];
    snprintf(key, sizeof key, "key %d%s", k, k % 3 ? "" : " with a longer name");
    r >>= 32;
    if (r % 3 == 0) {
      set(o, key, NULL);
      free(model[k]);
      model[k] = NULL;
    } else {
      static const size_t most[] = {4, 40, 400, 3000, 20000, 60000};
      size_t n = (r >> 8) % most[r % 97 == 1 ? 5 : r % 31 == 1 ? 4 : r % 5 == 1 ? 3 : r % 3];
      fill(value, n, 'a' + (int)(r % 26));
      set(o, key, value);
      free(model[k]);
      model[k] = strdup(value);
    }
    CHECK_STR(get(o, key), model[k] ? model[k] : "-");
    if (step % 500 == 0) CHECK_OK(mpi_dict_check(o));
  }
  for (i = 0; i < KEYS; i++) {
    char key[64];
    snprintf(key, sizeof key, "key %d%s", i, i % 3 ? "" : " with a longer name");
    CHECK_STR(get(o, key), model[i] ? model[i] : "-");
    set(o, key, NULL);
  }
  CHECK_EQ(count(o), 0);
  CHECK_OK(mpi_dict_check(o));
}

TEST("a snapshot holds every pair once") {
  mp_object *o = new_dict();
  char *buf, key[24];
  size_t size = 0, at = 0;
  uint64_t n = 0, i;
  for (i = 0; i < 1000; i++) {
    snprintf(key, sizeof key, "%d", (int)i);
    set(o, key, key);
  }
  CHECK_ERR(mpi_dict_snapshot(o, NULL, 0, &size, &n, MP_NEVER), MP_E2BIG);
  buf = malloc(size);
  CHECK_OK(mpi_dict_snapshot(o, buf, size, &size, &n, MP_NEVER));
  CHECK_EQ(n, 1000);
  for (i = 0; i < 2 * n; i++) {
    uint32_t s;
    CHECK(at + 4 <= size);
    memcpy(&s, buf + at, 4);
    CHECK_EQ(buf[at + 4], MPI_ITEM_STR);
    at += 4 + s;
  }
  CHECK_EQ(at, size);
  free(buf);
}

TEST("clear gives the memory back, and so do removals", .one_thread = 1, .limit = 30) {
  mp_object *o = new_dict();
  char key[64];
  static char value[1001];
  int i;
  int64_t before, full;
  set(o, "a", "b");
  before = pages(o);
  fill(value, 1000, 'v');
  for (i = 0; i < 20000; i++) {
    snprintf(key, sizeof key, "%d", i);
    set(o, key, value);
  }
  full = pages(o);
  CHECK(full > 5000);
  for (i = 0; i < 20000; i++) {
    snprintf(key, sizeof key, "%d", i);
    set(o, key, NULL);
  }
  CHECK_OK(mpi_dict_check(o));
  CHECK(pages(o) < full / 4);
  for (i = 0; i < 20000; i++) {
    snprintf(key, sizeof key, "%d", i);
    set(o, key, value);
  }
  CHECK(pages(o) < full + full / 8);
  CHECK_OK(mpi_dict_clear(o, MP_NEVER));
  CHECK(pages(o) <= before + 16);
  CHECK_EQ(count(o), 0);
  CHECK_STR(get(o, "7"), "-");
  set(o, "a", "b");
  CHECK_STR(get(o, "a"), "b");
  CHECK_OK(mpi_dict_check(o));
}

TEST("memory freed is used again") {
  mp_object *o = new_dict();
  static char value[30001];
  int i;
  int64_t before = 0;
  for (i = 0; i < 3000; i++) {
    fill(value, (size_t)(i % 3) * 10000 + 10000, 'x');
    set(o, "k", value);
    if (i == 100) before = pages(o);
  }
  CHECK(pages(o) <= before + 64);
  CHECK_OK(mpi_dict_check(o));
}

TEST("a held container keeps others out, and its holder in", .clean = 1) {
  mp_object *o = new_dict();
  struct mpi_store *s = (struct mpi_store *)o;
  pid_t pid;
  CHECK_OK(mpi_store_hold(s, MP_NEVER));
  CHECK_OK(mpi_store_hold(s, MP_NEVER));
  set(o, "a", "1");
  pid = fork();
  if (pid == 0) {
    size_t n;
    CHECK_ERR(mp_dict_count(o, &n, 0), MP_ETIMEDOUT);
    CHECK_ERR(mp_dict_count(o, &n, mp_now() + 20 * MPI_NS_PER_MS), MP_ETIMEDOUT);
    CHECK_ERR(mpi_store_unhold(s), MP_ENOTOWNER);
    _exit(0);
  }
  CHECK_EQ(wait_child(pid), 0);
  CHECK_OK(mpi_store_unhold(s));
  CHECK_OK(mpi_store_unhold(s));
  CHECK_ERR(mpi_store_unhold(s), MP_ENOTOWNER);
  pid = fork();
  if (pid == 0) {
    set(o, "a", "2");
    _exit(0);
  }
  CHECK_EQ(wait_child(pid), 0);
  CHECK_STR(get(o, "a"), "2");
  mp_release(o);
}

static void hold_set_die (void *arg) {
  mp_object *o = arg;
  CHECK_OK(mpi_store_hold((struct mpi_store *)o, MP_NEVER));
  set(o, "finished", "yes");
  raise(SIGKILL);
}

TEST("what was finished inside a hold stays when the holder dies") {
  mp_object *o = new_dict();
  CHECK_EQ(wait_child(fork_child(hold_set_die, o)), -SIGKILL);
  CHECK_STR(get(o, "finished"), "yes");
  CHECK_OK(mpi_dict_check(o));
}

struct counting { mp_object *o; int n; };
static void *count_up (void *arg) {
  struct counting *c = arg;
  int i;
  for (i = 0; i < c->n; i++) {
    int64_t sum;
    char key[16];
    CHECK_OK(mp_dict_incr(c->o, "sum", 3, 1, &sum, MP_NEVER));
    snprintf(key, sizeof key, "%d", i % 50);
    set(c->o, key, i % 3 ? key : NULL);
  }
  return NULL;
}
static void count_in_child (void *arg) { (void)count_up(arg); }

TEST("loses no increment of threads or processes", .limit = 30) {
  struct counting c = {new_dict(), 3000};
  pthread_t t[2];
  pid_t p[2];
  int64_t sum;
  int i;
  for (i = 0; i < 2; i++) p[i] = fork_child(count_in_child, &c);
  for (i = 0; i < 2; i++) pthread_create(&t[i], NULL, count_up, &c);
  for (i = 0; i < 2; i++) pthread_join(t[i], NULL);
  for (i = 0; i < 2; i++) CHECK_EQ(wait_child(p[i]), 0);
  CHECK_OK(mp_dict_incr(c.o, "sum", 3, 0, &sum, MP_NEVER));
  CHECK_EQ(sum, 12000);
  CHECK_OK(mpi_dict_check(c.o));
}

/* ---- death at every point ---- */

/* Everything in the dict as one string, and its structure checked. */
static const char *state (mp_object *o) {
  static char text[4][4096];
  static int turn;
  char *t = text[turn++ % 4];
  int i;
  CHECK_OK(mpi_dict_check(o));
  sprintf(t, "%d:", (int)count(o));
  for (i = 0; i < 40; i++) {
    char key[16];
    const char *v;
    snprintf(key, sizeof key, "k%d", i);
    v = get(o, key);
    sprintf(t + strlen(t), "%.8s%zu,", v, strlen(v));
  }
  return t;
}

struct act {
  mp_object *o;
  int entries;
  void (*op) (mp_object *o);
};

static void prepare (struct act *a) {
  int i;
  CHECK_OK(mpi_dict_clear(a->o, MP_NEVER));
  for (i = 0; i < a->entries; i++) {
    char key[16];
    static char value[9001];
    snprintf(key, sizeof key, "k%d", i);
    fill(value, i == 3 ? 9000 : i == 1 ? 8 : 20, 'a' + i % 26);
    set(a->o, key, value);
  }
  {
    static char large[9001];
    fill(large, 9000, 'x');
    set(a->o, "x", large);
    set(a->o, "x", NULL);
  }
  for (i = 0; i < 6; i++) { /* blocks that were used before are treated otherwise than new ones */
    char key[16];
    snprintf(key, sizeof key, "x%d", i);
    set(a->o, key, "01234567890123456789");
  }
  for (i = 0; i < 6; i++) {
    char key[16];
    snprintf(key, sizeof key, "x%d", i);
    set(a->o, key, NULL);
  }
}

static void op_change_kind (mp_object *o) {
  struct mpi_item k = str("k1"), v = {MPI_ITEM_INT, 8, "\1\2\3\4\5\6\7"};
  CHECK_OK(mpi_dict_set(o, &k, &v, MP_NEVER));
}
static void op_insert (mp_object *o) { set(o, "k30", "a new one"); }
static void op_replace (mp_object *o) { set(o, "k2", "a value of another size than it had before, longer"); }
static void op_overwrite (mp_object *o) { set(o, "k2", "01234567890123456789"); }
static void op_remove (mp_object *o) { set(o, "k2", NULL); }
static void op_remove_large (mp_object *o) { set(o, "k3", NULL); }
static void op_incr (mp_object *o) { int64_t n; CHECK_OK(mp_dict_incr(o, "k31", 3, 4, &n, MP_NEVER)); }
static void op_clear (mp_object *o) { CHECK_OK(mpi_dict_clear(o, MP_NEVER)); }
static void op_pop (mp_object *o) {
  struct mpi_item k = str("k1");
  char buf[100];
  size_t size;
  CHECK_OK(mpi_dict_pop(o, &k, buf, sizeof buf, &size, MP_NEVER));
}
static void op_large (mp_object *o) {
  static char v[65001];
  fill(v, 65000, 'L');
  set(o, "k3", v);
}
static void op_run (mp_object *o) { /* takes a free run of chunks */
  static char v[30001];
  fill(v, 30000, 'R');
  set(o, "k2", v);
}
static void run_op (void *arg) { ((struct act *)arg)->op(((struct act *)arg)->o); }

TEST("a death at any point of a change leaves the old state or the new", .one_thread = 1, .limit = 60) {
  static void (*const ops[]) (mp_object *) = {op_insert, op_replace, op_overwrite, op_remove, op_remove_large, op_clear, op_pop, op_large, op_incr, op_change_kind, op_run};
  static const int entries[] = {4, 6, 7, 12, 13};
  struct act a;
  size_t i, e;
  a.o = new_dict();
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

static void roll_back (void *arg) { (void)count(((struct act *)arg)->o); }

TEST("a death while rolling back is rolled back too", .limit = 60) {
  struct act a;
  char before[4096];
  int nth, again, status = 1, deaths = 0;
  a.o = new_dict();
  a.entries = 6;
  a.op = op_large;
  prepare(&a);
  strcpy(before, state(a.o));
  for (nth = 1; status != 0; nth += 3) {
    prepare(&a);
    status = run_killed_at("undo.save.*", nth, run_op, &a);
    if (status == 0) break;
    for (again = 1; run_killed_at("undo.rollback.*", again, roll_back, &a) == -SIGKILL; again++) deaths++;
    CHECK_STR(state(a.o), before);
  }
  CHECK(deaths > 5);
}

TEST("a full container says so and stays whole") {
  mp_object *o = new_dict();
  struct mpi_store *s = (struct mpi_store *)o;
  static char value[30001];
  char key[16];
  int i, rc = 0;
  s->heap_end = s->heap_at + 20 * MPI_CHUNK; /* this handle believes in a smaller one */
  fill(value, 30000, 'x');
  for (i = 0; i < 100 && rc == 0; i++) {
    snprintf(key, sizeof key, "%d", i);
    rc = mp_dict_set(o, key, strlen(key), value, 30000, MP_NEVER);
  }
  CHECK_EQ(rc, MP_ENOMEM);
  CHECK(i > 10);
  CHECK_EQ(count(o), (size_t)i - 1);
  CHECK_OK(mpi_dict_check(o));
  set(o, "0", NULL);
  set(o, "again", value);
  CHECK_STR(get(o, "again"), value);
  for (i = 0; i < 100; i++) {
    snprintf(key, sizeof key, "%d", i);
    set(o, key, NULL);
  }
  CHECK_OK(mpi_dict_check(o));
  fill(value, 1000, 'y'); /* longer free runs are cut */
  for (i = 0; i < 400; i++) {
    snprintf(key, sizeof key, "%d", i);
    set(o, key, value);
  }
  CHECK_OK(mpi_dict_check(o));
}

/* ---- a hostile peer ---- */

static void anything (mp_object *o) { /* every call; only its return matters */
  char buf[256], key[16];
  struct mpi_item k = {MPI_ITEM_STR, 0, key}, v = str("value");
  struct mpi_number n = {0, 1, 0};
  uint64_t c;
  size_t size;
  int i;
  for (i = 0; i < 12; i++) {
    k.size = (size_t)snprintf(key, sizeof key, "k%d", i);
    (void)mpi_dict_get(o, &k, buf, sizeof buf, &size, MP_NEVER);
    (void)mpi_dict_set(o, &k, &v, MP_NEVER);
    (void)mpi_dict_incr(o, &k, &n, MP_NEVER);
    (void)mpi_dict_pop(o, &k, buf, sizeof buf, &size, MP_NEVER);
    (void)mpi_dict_setdefault(o, &k, &v, buf, sizeof buf, &size, MP_NEVER);
  }
  (void)mpi_dict_snapshot(o, buf, sizeof buf, &size, &c, MP_NEVER);
  (void)mpi_dict_count(o, &c, MP_NEVER);
}

static void scribble (char *p, size_t n) {
  static const uint64_t nasty[] = {0, 1, 2, 0x7fffffff, 0x80000000u, 0xffffffffu, (uint64_t)1 << 32, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63, 1 << 24, 64, 4096};
  uint64_t r = test_random(), w = r % 3 ? nasty[(r >> 8) % (sizeof nasty / sizeof nasty[0])] : test_random();
  size_t at = (r >> 16) % (n / 8) * 8;
  if (r % 5 == 0) w = *(uint64_t *)(void *)(p + (test_random() % (n / 8)) * 8); /* plausible offsets */
  memcpy(p + at, &w, 8);
}

TEST("anything that a peer writes gives errors only", .limit = 60) {
  mp_object *o = new_dict();
  struct mpi_store *s = (struct mpi_store *)o;
  int round, i;
  for (round = 0; round < 300; round++) {
    memset(s->root->word, 0, sizeof s->root->word);
    (void)mpi_dict_clear(o, MP_NEVER);
    for (i = 0; i < 9; i++) {
      char key[16];
      struct mpi_item k = {MPI_ITEM_STR, 0, key}, v = str("some value");
      k.size = (size_t)snprintf(key, sizeof key, "k%d", i);
      (void)mpi_dict_set(o, &k, &v, MP_NEVER);
    }
    for (i = 0; i < 1 + round % 6; i++) {
      switch (test_random() % 4) {
        case 0: scribble((char *)s->root, sizeof *s->root); break;
        case 1: scribble((char *)s->root, 160); break;
        default: scribble(mpi_store_at(s, s->heap_at + test_random() % 4 * MPI_CHUNK), 1024); break;
      }
    }
    if (round % 4 == 0) { /* a log that restores anything anywhere */
      scribble(mpi_store_at(s, s->log_at), 256);
      mpi_store_relaxed(&s->root->log_len, test_random() % 32 * 8);
    }
    anything(o);
  }
}

static void *scribble_on (void *arg) {
  struct mpi_store *s = arg;
  int64_t end = test_clock_ms() + 1500;
  while (test_clock_ms() < end) {
    scribble((char *)s->root + 8, sizeof *s->root - 8);
    scribble(mpi_store_at(s, s->heap_at + test_random() % 4 * MPI_CHUNK), 1024);
  }
  return NULL;
}
static void scribble_child (void *arg) { (void)scribble_on(arg); }

TEST("a peer that scribbles while others work gives errors only", .limit = 60) {
  mp_object *o = new_dict();
  int64_t end = test_clock_ms() + 1500;
  pid_t p = fork_child(scribble_child, o);
  while (test_clock_ms() < end) anything(o);
  CHECK_EQ(wait_child(p), 0);
  anything(o);
}

TEST("a container that arrives too small is refused") {
  mp_object *p;
  mpi_seg seg;
  int fd;
  CHECK_OK(mpi_seg_create(&seg, MPI_T_DICT, 4096, MPI_SEG_LOCKPAGE));
  fd = seg.fd;
  CHECK_ERR(mpi_object_adopt(MPI_T_DICT, 0, &fd, 1, &p), MP_ECORRUPT);
}

TEST("speed", .hidden = 1, .limit = 60) {
  mp_object *o = new_dict();
  struct mpi_item k = {MPI_ITEM_INT, 8, NULL}, v = {MPI_ITEM_INT, 8, NULL};
  int64_t i, t;
  const int64_t n = 1000000;
  char buf[64];
  size_t size;
  k.data = v.data = &i;
  t = mp_now();
  for (i = 0; i < n; i++) CHECK_OK(mpi_dict_set(o, &k, &v, MP_NEVER));
  fprintf(stderr, "insert %lld ns\n", (long long)(mp_now() - t) / n);
  t = mp_now();
  for (i = 0; i < n; i++) CHECK_OK(mpi_dict_set(o, &k, &v, MP_NEVER));
  fprintf(stderr, "set %lld ns\n", (long long)(mp_now() - t) / n);
  t = mp_now();
  for (i = 0; i < n; i++) CHECK_OK(mpi_dict_get(o, &k, buf, 64, &size, MP_NEVER));
  fprintf(stderr, "get %lld ns\n", (long long)(mp_now() - t) / n);
  fprintf(stderr, "%lld pages\n", (long long)pages(o));
  t = mp_now();
  for (i = 0; i < n; i++) CHECK_OK(mpi_dict_set(o, &k, NULL, MP_NEVER));
  fprintf(stderr, "remove %lld ns\n", (long long)(mp_now() - t) / n);
  fprintf(stderr, "%lld pages\n", (long long)pages(o));
  i = 1;
  t = mp_now();
  { int64_t j; for (j = 0; j < n; j++) CHECK_OK(mpi_dict_set(o, &k, &v, MP_NEVER)); }
  fprintf(stderr, "set one %lld ns\n", (long long)(mp_now() - t) / n);
  t = mp_now();
  { int64_t j; for (j = 0; j < n; j++) CHECK_OK(mpi_dict_get(o, &k, buf, 64, &size, MP_NEVER)); }
  fprintf(stderr, "get one %lld ns\n", (long long)(mp_now() - t) / n);
  CHECK(0);
}
