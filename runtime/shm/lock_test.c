#include "shm/lock.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "test/test.h"

static mp_object *new_lock (void) {
  mp_object *o = NULL;
  CHECK_OK(mp_lock_new(&o));
  return o;
}

static mp_object *new_rlock (void) {
  mp_object *o = NULL;
  CHECK_OK(mp_rlock_new(&o));
  return o;
}

static void *zeroed (size_t size) {
  return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

TEST("acquires and releases, and says who holds it", .clean = 1) {
  mp_object *l = new_lock();
  CHECK_EQ(mp_lock_locked(l), 0);
  CHECK_EQ(mp_lock_owner(l), 0);
  CHECK_EQ(mp_lock_acquire(l, MP_NEVER), 0);
  CHECK_EQ(mp_lock_owner(l), getpid());
  CHECK_EQ(mp_lock_held(l), 1);
  CHECK_EQ(mp_lock_release(l), 0);
  CHECK_EQ(mp_lock_locked(l), 0);
  mp_release(l);
}

TEST("a Lock that its holder acquires again is misuse without a deadline and times out with one") {
  mp_object *l = new_lock();
  int64_t start;
  CHECK_EQ(mp_lock_acquire(l, 0), 0);
  CHECK_EQ(mp_lock_acquire(l, MP_NEVER), MP_EDEADLK);
  CHECK_EQ(mp_lock_acquire(l, 0), MP_ETIMEDOUT);
  start = mp_now();
  CHECK_EQ(mp_lock_acquire(l, start + 20 * MPI_NS_PER_MS), MP_ETIMEDOUT);
  CHECK(mp_now() >= start + 20 * MPI_NS_PER_MS);
  CHECK_EQ(mp_lock_release(l), 0);
}

TEST("an RLock is free after as many releases") {
  mp_object *l = new_rlock();
  int i;
  for (i = 0; i < 3; i++) CHECK_EQ(mp_lock_acquire(l, MP_NEVER), 0);
  for (i = 0; i < 3; i++) {
    CHECK_EQ(mp_lock_locked(l), 1);
    CHECK_EQ(mp_lock_release(l), 0);
  }
  CHECK_EQ(mp_lock_locked(l), 0);
  CHECK_EQ(mp_lock_release(l), MP_ENOTOWNER);
}

static void release_it (void *ud) {
  CHECK_EQ(mp_lock_release(ud), MP_ENOTOWNER);
  CHECK(strstr(mp_errmsg(), "held by process") != NULL);
  CHECK_EQ(mp_lock_acquire(ud, 0), MP_ETIMEDOUT);
  CHECK_EQ(mp_lock_held(ud), 0);
}

TEST("a forked child does not hold what its parent holds") {
  mp_object *l = new_rlock();
  CHECK_EQ(mp_lock_acquire(l, MP_NEVER), 0);
  CHECK_EQ(wait_child(fork_child(release_it, l)), 0);
  CHECK_EQ(mp_lock_held(l), 1);
  CHECK_EQ(mp_lock_release(l), 0);
}

static void *release_in_thread (void *l) {
  CHECK_EQ(mp_lock_release(l), MP_ENOTOWNER);
  CHECK(strstr(mp_errmsg(), "another thread") != NULL);
  return NULL;
}

TEST("release by another thread is misuse") {
  mp_object *l = new_lock();
  pthread_t t;
  CHECK_EQ(mp_lock_acquire(l, MP_NEVER), 0);
  CHECK(pthread_create(&t, NULL, release_in_thread, l) == 0);
  CHECK(pthread_join(t, NULL) == 0);
  CHECK_EQ(mp_lock_held(l), 1);
}

static void die_holding (void *l) {
  CHECK_EQ(mp_lock_acquire(l, MP_NEVER), 0);
  CHECK_EQ(mp_lock_acquire(l, 0), 0); /* an RLock's depth 2 */
  (void)raise(SIGKILL);
}

TEST("the next after a dead holder is told once, and an RLock's depth starts anew") {
  mp_object *l = new_rlock();
  CHECK_EQ(wait_child(fork_child(die_holding, l)), -SIGKILL);
  CHECK_EQ(mp_lock_locked(l), 0);
  CHECK_EQ(mp_lock_owner(l), 0);
  CHECK_EQ(mp_lock_acquire(l, MP_NEVER), MP_ABANDONED);
  CHECK_EQ(mp_lock_release(l), 0);
  CHECK_EQ(mp_lock_locked(l), 0);
  CHECK_EQ(mp_lock_acquire(l, 0), 0);
}

static void exit_holding (void *l) {
  CHECK_EQ(mp_lock_acquire(l, MP_NEVER), 0);
}

TEST("a poll inherits from a holder that ended") {
  mp_object *l = new_lock();
  CHECK_EQ(wait_child(fork_child(exit_holding, l)), 0);
  CHECK_EQ(mp_lock_acquire(l, 0), MP_ABANDONED);
}

struct crew {
  mp_object *l;
  mpi_a32 asleep, go;
};

static void wait_for_it (void *ud) {
  struct crew *c = ud;
  mpi_fetch_add(&c->asleep, 1);
  CHECK(mp_lock_acquire(c->l, MP_NEVER) >= 0);
  CHECK_EQ(mp_lock_release(c->l), 0);
}

static void hold_and_die (void *ud) {
  struct crew *c = ud;
  CHECK(mp_lock_acquire(c->l, MP_NEVER) >= 0);
  mpi_store(&c->go, 1);
  for (;;) (void)pause();
}

TEST("waiters asleep go on when the holder is killed") {
  struct crew *c = zeroed(sizeof *c);
  pid_t holder, waiter[3];
  int i;
  c->l = new_lock();
  holder = fork_child(hold_and_die, c);
  CHECK(wait_until(mpi_load(&c->go), 5000));
  for (i = 0; i < 3; i++) waiter[i] = fork_child(wait_for_it, c);
  CHECK(wait_until(mpi_load(&c->asleep) == 3, 5000));
  (void)usleep(20000);
  CHECK(kill(waiter[0], SIGKILL) == 0);
  CHECK(kill(holder, SIGKILL) == 0);
  CHECK_EQ(wait_child(holder), -SIGKILL);
  CHECK_EQ(wait_child(waiter[0]), -SIGKILL);
  for (i = 1; i < 3; i++) CHECK_EQ(wait_child(waiter[i]), 0);
}

static void *hold_and_end (void *l) {
  CHECK_EQ(mp_lock_acquire(l, MP_NEVER), 0);
  return NULL;
}

TEST("a thread that ends holding a lock abandons it", .clean = 1) {
  mp_object *l = new_lock();
  pthread_t t;
  CHECK(pthread_create(&t, NULL, hold_and_end, l) == 0);
  CHECK(pthread_join(t, NULL) == 0);
  CHECK_EQ(mp_lock_acquire(l, MP_NEVER), MP_ABANDONED);
  CHECK_EQ(mp_lock_release(l), 0);
  mp_release(l);
}

TEST("a held lock keeps its memory when the handle is given back", .clean = 1) {
  mp_object *l = new_lock(), *other = new_lock();
  CHECK_EQ(mp_lock_acquire(l, MP_NEVER), 0);
  mp_release(l);
  CHECK_EQ(mp_lock_acquire(other, MP_NEVER), 0); /* enters the list before l's node */
  CHECK_EQ(mp_lock_release(l), 0);
  CHECK_EQ(mp_lock_release(other), 0);
  mp_release(other);
}

TEST("many locks are held at once and released in any order") {
  enum { N = 50 };
  mp_object *l[N];
  pthread_mutex_t neighbour; /* the C library's own list is ours too */
  pthread_mutexattr_t a;
  int i;
  CHECK(pthread_mutexattr_init(&a) == 0 && pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST) == 0);
  CHECK(pthread_mutex_init(&neighbour, &a) == 0);
  for (i = 0; i < N; i++) {
    l[i] = new_lock();
    CHECK_EQ(mp_lock_acquire(l[i], MP_NEVER), 0);
    if (i == N / 2) CHECK(pthread_mutex_lock(&neighbour) == 0);
  }
  for (i = 0; i < N; i += 2) CHECK_EQ(mp_lock_release(l[i]), 0);
  CHECK(pthread_mutex_unlock(&neighbour) == 0);
  for (i = 1; i < N; i += 2) CHECK_EQ(mp_lock_release(l[i]), 0);
  for (i = 0; i < N; i++) CHECK_EQ(mp_lock_acquire(l[i], 0), 0);
}

static int yes (void *ud) { (void)ud; return 1; }

TEST("an interruption ends a wait and leaves the lock as it was") {
  struct crew *c = zeroed(sizeof *c);
  pid_t holder;
  c->l = new_lock();
  holder = fork_child(hold_and_die, c);
  CHECK(wait_until(mpi_load(&c->go), 5000));
  mp_set_interrupt(yes, NULL);
  CHECK_EQ(mp_lock_acquire(c->l, MP_NEVER), MP_EINTR);
  mp_set_interrupt(NULL, NULL);
  CHECK_EQ(mp_lock_owner(c->l), holder);
  CHECK_EQ(mp_lock_acquire(c->l, 0), MP_ETIMEDOUT);
  (void)kill(holder, SIGKILL);
  CHECK_EQ(mp_lock_acquire(c->l, MP_NEVER), MP_ABANDONED);
}

struct counter {
  mp_object *l;
  long n;
};

static void *count (void *ud) {
  struct counter *c = ud;
  int i;
  for (i = 0; i < 5000; i++) {
    CHECK_EQ(mp_lock_acquire(c->l, MP_NEVER), 0);
    c->n++;
    CHECK_EQ(mp_lock_release(c->l), 0);
  }
  return NULL;
}

TEST("excludes threads from each other", .limit = 30) {
  struct counter c = {new_lock(), 0};
  pthread_t t[4];
  int i;
  for (i = 0; i < 4; i++) CHECK(pthread_create(&t[i], NULL, count, &c) == 0);
  for (i = 0; i < 4; i++) CHECK(pthread_join(t[i], NULL) == 0);
  CHECK_EQ(c.n, 20000);
}

TEST("one object however often it arrives; a stranger's descriptor is refused", .clean = 1) {
  mp_object *l = new_lock(), *again = NULL;
  int fd = dup(l->fds[0]);
  CHECK_OK(mpi_object_adopt(MPI_T_LOCK, 0, &fd, 1, &again));
  CHECK(again == l);
  mp_release(again);
  fd = dup(l->fds[0]);
  CHECK_EQ(mpi_object_adopt(MPI_T_RLOCK, 0, &fd, 1, &again), MP_ECORRUPT);
  CHECK_EQ(mp_lock_acquire(l, 0), 0);
  CHECK_EQ(mp_lock_release(l), 0);
  mp_release(l);
}

TEST("a scribbling peer cannot make us give back what we did not take", .clean = 1) {
  mp_object *l = new_lock();
  mpi_store(mpi_seg_word(&l->seg, MPI_SEG_WORD0), mpi_tid());
  CHECK_EQ(mp_lock_release(l), MP_ENOTOWNER);
  CHECK_EQ(mp_lock_acquire(l, 0), MP_ECORRUPT);
  mpi_store(mpi_seg_word(&l->seg, MPI_SEG_WORD0), 0);
  CHECK_EQ(mp_lock_acquire(l, 0), 0);
  mpi_store(mpi_seg_word(&l->seg, MPI_SEG_WORD0), 0);
  CHECK_EQ(mp_lock_release(l), MP_ENOTOWNER);
  CHECK_EQ(mp_lock_acquire(l, 0), 0);
  CHECK_EQ(mp_lock_release(l), 0);
  CHECK(mpi_self_.head->list.next == &mpi_self_.head->list); /* in the list once, and removed */
  mp_release(l);
}

#ifdef MP_FAULTS
static void use (void *ud) {
  struct crew *c = ud;
  int i;
  for (i = 0; i < 3; i++) {
    CHECK(mp_lock_acquire(c->l, MP_NEVER) >= 0);
    CHECK_EQ(mp_lock_release(c->l), 0);
  }
}

static void others_go_on (void *ud, const char *point) {
  struct crew *c = ud;
  int rc = mp_lock_acquire(c->l, mp_deadline(5));
  if (rc < 0) FAIL("the lock is not free after a death at %s: %s", point, mp_errmsg());
  CHECK_EQ(mp_lock_release(c->l), 0);
}

TEST("a death at any point leaves the lock to others", .limit = 60) {
  struct crew *c = zeroed(sizeof *c);
  c->l = new_lock();
  CHECK(for_each_kill_point(2, use, others_go_on, c) >= 4);
}

TEST("a death at any point leaves the lock to others asleep", .limit = 60) {
  struct crew *c = zeroed(sizeof *c);
  const char *points[] = {"mutex.lock.taken", "lock.acquire.taken", "lock.release.begin", "mutex.unlock.removed", "latch.unlock.wake"};
  unsigned i;
  c->l = new_lock();
  for (i = 0; i < sizeof points / sizeof *points; i++) {
    pid_t waiter, dying;
    int rc;
    mpi_store(&c->asleep, 0);
    CHECK(mp_lock_acquire(c->l, MP_NEVER) >= 0);
    waiter = fork_child(wait_for_it, c);
    CHECK(wait_until(mpi_load(&c->asleep) == 1, 5000));
    (void)usleep(5000);
    dying = fork();
    if (dying == 0) {
      mpi_fault_arm(points[i], 1, MPI_FAULT_KILL);
      use(c);
      _exit(7);
    }
    (void)usleep(5000);
    CHECK_EQ(mp_lock_release(c->l), 0);
    rc = wait_child(dying);
    if (rc != -SIGKILL && rc != 7) FAIL("ended with %d at %s", rc, points[i]);
    CHECK_EQ(wait_child(waiter), 0);
  }
}
#endif
