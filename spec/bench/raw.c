/* raw.c -- the limit of each row of the bench: the same work in plain C on this machine.
**
**   raw ROW [COUNT]            prints one number, in the unit of the row (see run.lua)
**   raw start COUNT PROG ARG.. prints how many ms PROG takes to start and end
**
** The ring is the simplest one that would survive a death of its users: a robust, process-shared
** pthread mutex for each side, slots of a fixed size, each side keeping a copy of the other's position; a
** side that has to wait spins a moment and then sleeps on a futex. Nothing is encoded, nothing is checked.
*/
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LINE _Alignas(64)
#define SPINS 2000

extern char **environ;

static double now (void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die (const char *what) {
  perror(what);
  exit(1);
}

static void *shared (size_t size) {
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) die("mmap");
  return p;
}

static void relax (void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

static void futex_wait (_Atomic uint32_t *word, uint32_t seen) {
  syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void futex_wake (_Atomic uint32_t *word, int n) {
  syscall(SYS_futex, word, FUTEX_WAKE, n, NULL, NULL, 0);
}

/* ---- the ring ---- */

struct side {
  LINE pthread_mutex_t lock;
  uint32_t other;                      /* the other side's position, as last seen; under lock */
  LINE _Atomic uint32_t pos;           /* how many messages this side has done */
  LINE _Atomic uint32_t asleep;        /* whether the other side sleeps on pos; only that side writes it */
};

struct ring {
  struct side put, get;
  uint32_t slots;
  size_t size;
  LINE unsigned char data[];
};

static void lock_init (pthread_mutex_t *m) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(m, &a);
}

static struct ring *ring_new (uint32_t slots, size_t size) {
  struct ring *r = shared(sizeof *r + slots * size);
  lock_init(&r->put.lock);
  lock_init(&r->get.lock);
  r->slots = slots;
  r->size = size;
  return r;
}

/* Waits until the other side is no longer at `seen`; gives its new position. */
static uint32_t side_wait (struct side *other, uint32_t seen) {
  uint32_t p;
  for (;;) {
    for (int i = 0; i < SPINS; i++) {
      if ((p = atomic_load_explicit(&other->pos, memory_order_acquire)) != seen) return p;
      relax();
    }
    atomic_store(&other->asleep, 1);
    if (atomic_load(&other->pos) == seen) futex_wait(&other->pos, seen);
    atomic_store(&other->asleep, 0);
  }
}

static void side_move (struct side *s, uint32_t pos) {
  atomic_store(&s->pos, pos);
  if (atomic_load(&s->asleep)) futex_wake(&s->pos, 1);
}

static void ring_put (struct ring *r, const void *messages, uint32_t n) {
  const unsigned char *m = messages;
  pthread_mutex_lock(&r->put.lock);
  uint32_t pos = atomic_load_explicit(&r->put.pos, memory_order_relaxed);
  while (n > 0) {
    if (pos - r->put.other == r->slots) {
      r->put.other = atomic_load_explicit(&r->get.pos, memory_order_acquire);
      if (pos - r->put.other == r->slots) r->put.other = side_wait(&r->get, r->put.other);
    }
    for (; n > 0 && pos - r->put.other < r->slots; n--, pos++, m += r->size)
      memcpy(r->data + (pos & (r->slots - 1)) * r->size, m, r->size);
    side_move(&r->put, pos);
  }
  pthread_mutex_unlock(&r->put.lock);
}

static uint32_t ring_get (struct ring *r, void *messages, uint32_t max) {
  unsigned char *m = messages;
  uint32_t n = 0;
  pthread_mutex_lock(&r->get.lock);
  uint32_t pos = atomic_load_explicit(&r->get.pos, memory_order_relaxed);
  if (r->get.other == pos) {
    r->get.other = atomic_load_explicit(&r->put.pos, memory_order_acquire);
    if (r->get.other == pos) r->get.other = side_wait(&r->put, pos);
  }
  for (; n < max && pos != r->get.other; n++, pos++, m += r->size)
    memcpy(m, r->data + (pos & (r->slots - 1)) * r->size, r->size);
  side_move(&r->get, pos);
  pthread_mutex_unlock(&r->get.lock);
  return n;
}

/* ---- children that begin together ---- */

static _Atomic uint32_t *gate;

static pid_t child (void) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) while (!atomic_load(gate)) sched_yield();
  return pid;
}

static double open_gate (void) {
  usleep(20000);
  double t = now();
  atomic_store(gate, 1);
  return t;
}

static void reap (int n) {
  while (n-- > 0) wait(NULL);
}

/* ---- rows ---- */

static double queue (long n, uint32_t slots, size_t size, int users, uint32_t batch) {
  struct ring *r = ring_new(slots, size);
  long share = n / users;
  for (int i = 0; i < users; i++)
    if (child() == 0) {
      unsigned char *m = calloc(batch, size);
      for (long k = 0; k < share; k += batch) ring_put(r, m, batch);
      _exit(0);
    }
  if (users > 1)                       /* getters in processes of their own */
    for (int i = 0; i < users; i++)
      if (child() == 0) {
        unsigned char *m = calloc(batch, size);
        for (long k = 0; k < share; k++) ring_get(r, m, 1);
        _exit(0);
      }
  double t = open_gate();
  if (users == 1) {
    unsigned char *m = calloc(batch, size);
    for (long k = 0; k < share;) k += ring_get(r, m, batch);
    t = now() - t;
    reap(1);
  }
  else {
    reap(2 * users);
    t = now() - t;
  }
  return t / (double)n;
}

static int by_size (const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double median (double *list, long n) {
  qsort(list, (size_t)n, sizeof *list, by_size);
  return list[n / 2];
}

/* Batches of a hundred, at most n of them or for two seconds; the median batch is what it takes while both run. */
static double round_trip (long n) {
  struct ring *a = ring_new(64, 8), *b = ring_new(64, 8);
  double *took = malloc((size_t)n * sizeof *took);
  uint64_t v = 0;
  long done = 0;
  if (child() == 0)
    for (;;) {
      ring_get(a, &v, 1);
      if (v == UINT64_MAX) _exit(0);
      ring_put(b, &v, 1);
    }
  for (double end = open_gate() + 2; done < n && now() < end; done++) {
    double t = now();
    for (v = 0; v < 100;) { ring_put(a, &v, 1); ring_get(b, &v, 1); v++; }
    took[done] = (now() - t) / 100;
  }
  v = UINT64_MAX;
  ring_put(a, &v, 1);
  reap(1);
  return median(took, done);
}

/* From "I have it" to "the sleeper runs": one store and one futex call away. */
static double wake (long n) {
  struct { LINE _Atomic uint32_t seq; double sent; } *s = shared(4096);
  double *took = malloc((size_t)n * sizeof *took);
  if (child() == 0) {
    for (long i = 0; i < n; i++) {
      for (double t = now(); now() - t < 0.0005;) relax();
      s->sent = now();
      atomic_fetch_add(&s->seq, 1);
      futex_wake(&s->seq, 1);
    }
    _exit(0);
  }
  open_gate();
  for (uint32_t i = 0; i < n; i++) {
    while (atomic_load(&s->seq) == i) futex_wait(&s->seq, i);
    took[i] = now() - s->sent;
  }
  reap(1);
  return median(took, n);
}

static double lock_alone (long n) {
  pthread_mutex_t *m = shared(sizeof *m);
  lock_init(m);
  double t = now();
  for (long i = 0; i < n; i++) { pthread_mutex_lock(m); pthread_mutex_unlock(m); }
  return (now() - t) / (double)n;
}

static double counter (long n) {
  struct { pthread_mutex_t m; LINE volatile long count; } *s = shared(4096);
  lock_init(&s->m);
  for (int i = 0; i < 2; i++)
    if (child() == 0) {
      for (long k = 0; k < n / 2; k++) {
        pthread_mutex_lock(&s->m);
        s->count++;
        pthread_mutex_unlock(&s->m);
      }
      _exit(0);
    }
  double t = open_gate();
  reap(2);
  t = now() - t;
  if (s->count != n / 2 * 2) { fprintf(stderr, "counter is wrong\n"); exit(1); }
  return t / (double)n;
}

static double value (long n) {
  _Atomic double *v = shared(4096);
  double sum = 0, t = now();
  for (long i = 0; i < n; i++) sum += atomic_load_explicit(v, memory_order_acquire);
  t = now() - t;
  return sum == 0 ? t / (double)n : 0;
}

static double process (long n) {
  double t = now();
  for (long i = 0; i < n; i++) {
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    waitpid(pid, NULL, 0);
  }
  return (now() - t) / (double)n;
}

/* Tasks out over one ring to two workers, results back over another. */
static double pool (long n) {
  struct ring *tasks = ring_new(1024, 16), *results = ring_new(1024, 16);
  uint64_t m[2] = {0, 0};
  for (int i = 0; i < 2; i++)
    if (child() == 0)
      for (;;) {
        ring_get(tasks, m, 1);
        if (m[0] == UINT64_MAX) _exit(0);
        m[1] *= m[1];
        ring_put(results, m, 1);
      }
  double t = open_gate();
  long sent = 0, got = 0;
  while (got < n) {
    for (; sent < n && sent - got < 512; sent++) { m[0] = m[1] = (uint64_t)sent; ring_put(tasks, m, 1); }
    ring_get(results, m, 1);
    got++;
  }
  t = now() - t;
  m[0] = UINT64_MAX;
  for (int i = 0; i < 2; i++) ring_put(tasks, m, 1);
  reap(2);
  return t / (double)n;
}

static long mandel_row (int row, int size) {
  long inside = 0;
  for (int col = 0; col < size; col++) {
    double cr = 2.0 * col / size - 1.5, ci = 2.0 * row / size - 1.0, zr = 0, zi = 0;
    int k = 0;
    for (; k < 200 && zr * zr + zi * zi < 4; k++) { double z = zr * zr - zi * zi + cr; zi = 2 * zr * zi + ci; zr = z; }
    inside += k == 200;
  }
  return inside;
}

static double computing (long size) {
  double took[2];
  long sum[2];
  for (int users = 1; users <= 2; users++) {
    _Atomic long *next = shared(4096), *inside = next + 64;
    atomic_store(gate, 0);
    for (int i = 0; i < users; i++)
      if (child() == 0) {
        for (long row; (row = atomic_fetch_add(next, 1)) < size;) *inside += mandel_row((int)row, (int)size);
        _exit(0);
      }
    double t = open_gate();
    reap(users);
    took[users - 1] = now() - t;
    sum[users - 1] = *inside;
  }
  if (sum[0] != sum[1]) { fprintf(stderr, "the set has two sizes\n"); exit(1); }
  return took[0] / took[1];
}

/* A table of a thousand keys, open addressing, one robust lock, one set or get a turn. */
static double dict (long n, int set) {
  struct entry { char key[16]; double value; };
  struct { pthread_mutex_t m; LINE struct entry e[4096]; } *d = shared(sizeof *d);
  lock_init(&d->m);
  double sum = 0, t = 0;
  for (int pass = set ? 1 : 0; pass < 2; pass++) {
    long turns = pass ? n : 1000;
    if (pass) t = now();
    for (long i = 0; i < turns; i++) {
      char key[16] = "k";
      long k = i % 1000;
      key[1] = (char)('0' + k / 100); key[2] = (char)('0' + k / 10 % 10); key[3] = (char)('0' + k % 10);
      uint32_t h = 2166136261u;
      for (int j = 0; key[j]; j++) h = (h ^ (unsigned char)key[j]) * 16777619u;
      pthread_mutex_lock(&d->m);
      struct entry *e = &d->e[h & 4095];
      while (e->key[0] && memcmp(e->key, key, 16) != 0) if (++e == d->e + 4096) e = d->e;
      if (set || !pass) { memcpy(e->key, key, 16); e->value = (double)i; }
      else sum += e->value;
      pthread_mutex_unlock(&d->m);
    }
  }
  t = now() - t;
  return sum < 0 ? 0 : t / (double)n;
}

/* A server on a Unix socket: call and answer of a few bytes. */
static double server (long n) {
  int fd[2];
  char m[32] = "call";
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd)) die("socketpair");
  if (child() == 0) {
    for (long i = 0; i < n; i++) if (read(fd[0], m, sizeof m) <= 0 || write(fd[0], m, sizeof m) <= 0) _exit(1);
    _exit(0);
  }
  double t = open_gate();
  for (long i = 0; i < n; i++) if (write(fd[1], m, sizeof m) <= 0 || read(fd[1], m, sizeof m) <= 0) die("server");
  t = now() - t;
  reap(1);
  return t / (double)n;
}

static double memory (void) {
  pid_t pid = fork();
  if (pid == 0) { pause(); _exit(0); }
  usleep(100000);
  char name[64], line[256];
  long kb, sum = 0;
  snprintf(name, sizeof name, "/proc/%d/smaps_rollup", (int)pid);
  FILE *f = fopen(name, "r");
  if (!f) die(name);
  while (fgets(line, sizeof line, f))
    if (sscanf(line, "Private_Clean: %ld", &kb) == 1 || sscanf(line, "Private_Dirty: %ld", &kb) == 1) sum += kb;
  fclose(f);
  kill(pid, SIGKILL);
  reap(1);
  return (double)sum / 1024;
}

static double start (long n, char **argv) {
  double *took = malloc((size_t)n * sizeof *took);
  for (long i = 0; i < n; i++) {
    pid_t pid;
    int status;
    double t = now();
    if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ)) die(argv[0]);
    waitpid(pid, &status, 0);
    took[i] = now() - t;
    if (status) { fprintf(stderr, "%s: status %d\n", argv[0], status); exit(1); }
  }
  return median(took, n);
}

/* As many messages of that size as the other columns' queues hold. */
static uint32_t slots_of (long size) {
  uint32_t n = 8;
  while (n < 512 && (long)n * 2 * size <= (64l << 20)) n *= 2;
  return n;
}

int main (int argc, char **argv) {
  const char *row = argc > 1 ? argv[1] : "";
  long n = argc > 2 ? atol(argv[2]) : 0;
  long at = argc > 3 ? atol(argv[3]) : 1; /* where on a curve */
  double x;
#define ROW(name) (strcmp(row, name) == 0)
#define COUNT(default) (n > 0 ? n : (default))
  gate = shared(4096);
  if (ROW("queue_int")) x = 1e9 * queue(COUNT(8000000), 8192, 8, 1, 1);
  else if (ROW("queue_table")) x = 1e9 * queue(COUNT(8000000), 4096, 32, 1, 1);
  else if (ROW("queue_1m")) x = 1048576e-9 / queue(COUNT(3000), 8, 1 << 20, 1, 1);
  else if (ROW("queue_4_4")) x = 1e9 * queue(COUNT(2000000), 8192, 8, 4, 1);
  else if (ROW("queue_many")) x = 1e9 * queue(COUNT(30000000), 8192, 8, 1, 100);
  else if (ROW("round_trip")) x = 1e6 * round_trip(COUNT(5000));
  else if (ROW("wake")) x = 1e6 * wake(COUNT(600));
  else if (ROW("lock")) x = 1e9 * lock_alone(COUNT(20000000));
  else if (ROW("counter")) x = 1e9 * counter(COUNT(4000000));
  else if (ROW("value")) x = 1e9 * value(COUNT(100000000));
  else if (ROW("process")) x = 1e6 * process(COUNT(1000));
  else if (ROW("pool_map_1")) x = 1e6 * pool(COUNT(300000));
  else if (ROW("pool_apply")) x = 1e6 * round_trip(COUNT(5000));
  else if (ROW("computing")) x = computing(COUNT(1200));
  else if (ROW("dict_set")) x = 1e9 * dict(COUNT(8000000), 1);
  else if (ROW("dict_get")) x = 1e9 * dict(COUNT(8000000), 0);
  else if (ROW("manager")) x = 1e6 * server(COUNT(20000));
  else if (ROW("memory")) x = memory();
  else if (ROW("size")) x = (double)at * 1e-9 / queue(COUNT(1000), slots_of(at), (size_t)(at < 8 ? 8 : at), 1, 1);
  else if (ROW("users")) x = 1e9 * queue(COUNT(1000000), 8192, 8, (int)at, 1);
  else if (ROW("start") && argc > 3) x = 1e3 * start(COUNT(100), argv + 3);
  else { fprintf(stderr, "no such row: %s\n", row); return 2; }
  printf("%.6g\n", x);
  return 0;
}
