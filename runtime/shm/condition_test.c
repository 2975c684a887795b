#include "shm/condition.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "test/test.h"

struct crew {
  mp_object *lock, *c;
  mpi_a32 woken, timed_out, go;
  int items;
  double timeout;
};

static struct crew *new_crew (void) {
  struct crew *w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(mp_rlock_new(&w->lock));
  CHECK_OK(mp_condition_new(w->lock, &w->c));
  w->timeout = 1e9;
  return w;
}

static void lock (struct crew *w) { CHECK(mp_lock_acquire(w->lock, MP_NEVER) >= 0); }
static void unlock (struct crew *w) { CHECK_EQ(mp_lock_release(w->lock), 0); }

static void notify (struct crew *w, unsigned n) {
  lock(w);
  CHECK_EQ(mp_condition_notify(w->c, NULL, n), 0);
  unlock(w);
}

static void *wait_once (void *ud) {
  struct crew *w = ud;
  int rc;
  lock(w);
  rc = mp_condition_wait(w->c, w->lock, mp_deadline(w->timeout));
  CHECK(rc >= 0 || rc == MP_ETIMEDOUT);
  CHECK_EQ(mp_lock_held(w->lock), 1);
  mpi_fetch_add(rc >= 0 ? &w->woken : &w->timed_out, 1);
  unlock(w);
  return NULL;
}

static void wait_in_child (void *ud) { (void)wait_once(ud); }

static pid_t waiter (struct crew *w) {
  int before = mpi_condition_waiters(w->c);
  pid_t p = fork_child(wait_in_child, w);
  CHECK(wait_until(mpi_condition_waiters(w->c) == before + 1, 5000));
  return p;
}

TEST("needs its lock held", .clean = 1) {
  mp_object *c = NULL, *l;
  CHECK_OK(mp_condition_new(NULL, &c));
  l = mpi_condition_lock(c);
  CHECK_EQ(mp_condition_wait(c, NULL, 0), MP_EMISUSE);
  CHECK_EQ(mp_condition_notify(c, NULL, 1), MP_EMISUSE);
  CHECK_EQ(mp_lock_acquire(l, 0), 0);
  CHECK_EQ(mp_condition_notify(c, NULL, 1), 0);
  CHECK_EQ(mp_condition_wait(c, l, 0), MP_ETIMEDOUT);
  CHECK_EQ(mp_lock_held(l), 1);
  CHECK_EQ(mp_lock_release(l), 0);
  mp_release(c);
}

TEST("wait gives up all depths of the lock and has them again") {
  struct crew *w = new_crew();
  pid_t p;
  lock(w);
  lock(w);
  p = fork_child(wait_in_child, w); /* can only get the lock while we wait */
  CHECK_EQ(mp_condition_wait(w->c, NULL, mp_deadline(0.3)), MP_ETIMEDOUT);
  CHECK_EQ(mpi_condition_waiters(w->c), 1);
  CHECK_EQ(mp_condition_notify(w->c, NULL, 1), 0);
  unlock(w);
  CHECK_EQ(mp_lock_held(w->lock), 1);
  unlock(w);
  CHECK_EQ(mp_lock_held(w->lock), 0);
  CHECK_EQ(wait_child(p), 0);
  CHECK_EQ(w->woken, 1);
}

TEST("notify wakes as many as it says, notify all the rest") {
  struct crew *w = new_crew();
  pid_t p[5];
  int i;
  for (i = 0; i < 5; i++) p[i] = waiter(w);
  notify(w, 2);
  CHECK(wait_until(mpi_load(&w->woken) == 2, 5000));
  CHECK_EQ(wait_child(p[0]), 0); /* the oldest first */
  CHECK_EQ(wait_child(p[1]), 0);
  CHECK_EQ(mpi_condition_waiters(w->c), 3);
  notify(w, UINT_MAX);
  for (i = 2; i < 5; i++) CHECK_EQ(wait_child(p[i]), 0);
  CHECK_EQ(w->woken, 5);
}

TEST("a notification without waiters is not kept") {
  struct crew *w = new_crew();
  notify(w, 3);
  w->timeout = 0.01;
  (void)wait_once(w);
  CHECK_EQ(w->timed_out, 1);
}

TEST("a waiter killed while it waits costs nobody a notification") {
  struct crew *w = new_crew();
  pid_t a = waiter(w), b = waiter(w);
  CHECK(kill(a, SIGKILL) == 0);
  CHECK_EQ(wait_child(a), -SIGKILL);
  notify(w, 1);
  CHECK_EQ(wait_child(b), 0);
  CHECK_EQ(w->woken, 1);
}

TEST("a waiter killed after it was notified hands on to the next") {
  struct crew *w = new_crew();
  pid_t a = waiter(w), b = waiter(w), c = waiter(w);
  CHECK(kill(a, SIGSTOP) == 0);
  CHECK(kill(b, SIGSTOP) == 0);
  notify(w, 2);
  CHECK_EQ(mpi_condition_waiters(w->c), 1);
  CHECK(kill(a, SIGKILL) == 0); /* watched by b, which is stopped; c learns of it when b goes */
  CHECK_EQ(wait_child(a), -SIGKILL);
  CHECK(kill(b, SIGKILL) == 0);
  CHECK_EQ(wait_child(b), -SIGKILL);
  CHECK_EQ(wait_child(c), 0);
  CHECK_EQ(w->woken, 1);
}

TEST("a waiter that goes on hands on what an older one left behind") {
  struct crew *w = new_crew();
  pid_t a = waiter(w), b = waiter(w), c = waiter(w);
  CHECK(kill(a, SIGSTOP) == 0);
  CHECK(kill(b, SIGSTOP) == 0);
  notify(w, 2);
  CHECK(kill(a, SIGKILL) == 0);
  CHECK_EQ(wait_child(a), -SIGKILL);
  CHECK(kill(b, SIGCONT) == 0);
  CHECK_EQ(wait_child(b), 0);
  CHECK_EQ(wait_child(c), 0);
  CHECK_EQ(w->woken, 2);
}

struct box {
  struct crew *w;
  int n, got;
};

static void *consume (void *ud) {
  struct box *b = ud;
  for (;;) {
    lock(b->w);
    while (b->n == 0) CHECK_EQ(mp_condition_wait(b->w->c, NULL, MP_NEVER), 0);
    b->n--;
    if (b->got++ >= 1000) {
      b->n++;
      CHECK_EQ(mp_condition_notify(b->w->c, NULL, 1), 0);
      unlock(b->w);
      return NULL;
    }
    unlock(b->w);
  }
}

TEST("threads hand over a thousand items and end", .limit = 30) {
  struct box b = {new_crew(), 0, 0};
  pthread_t t[3];
  int i;
  for (i = 0; i < 3; i++) CHECK(pthread_create(&t[i], NULL, consume, &b) == 0);
  for (i = 0; i < 1001; i++) {
    lock(b.w);
    b.n++;
    CHECK_EQ(mp_condition_notify(b.w->c, NULL, 1), 0);
    unlock(b.w);
  }
  for (i = 0; i < 3; i++) CHECK(pthread_join(t[i], NULL) == 0);
}

static int yes (void *ud) { (void)ud; return 1; }

static void wait_interrupted (void *ud) {
  struct crew *w = ud;
  lock(w);
  mp_set_interrupt(yes, NULL);
  CHECK_EQ(mp_condition_wait(w->c, NULL, MP_NEVER), MP_EINTR);
  mp_set_interrupt(NULL, NULL);
  CHECK_EQ(mp_lock_held(w->lock), 1);
  CHECK_EQ(mpi_condition_waiters(w->c), 0);
  unlock(w);
}

TEST("an interruption ends a wait with the lock held and nobody left behind") {
  struct crew *w = new_crew();
  wait_interrupted(w);
  notify(w, 1);
  w->timeout = 0.01;
  (void)wait_once(w);
  CHECK_EQ(w->timed_out, 1);
}

TEST("a lock that is none is refused, as are more waiters than there are places", .clean = 1) {
  mp_object *c = NULL, *d = NULL;
  CHECK_OK(mp_condition_new(NULL, &c));
  CHECK_EQ(mp_condition_new(c, &d), MP_EMISUSE);
  mp_release(c);
}

#ifdef MP_FAULTS
static void wait_and_notify (void *ud) {
  struct crew *w = ud;
  lock(w);
  (void)mp_condition_wait(w->c, NULL, mp_deadline(0.02));
  CHECK_OK(mp_condition_notify(w->c, NULL, UINT_MAX));
  unlock(w);
}

static void still_works (void *ud, const char *point) {
  struct crew *w = ud;
  pid_t a, b;
  (void)point;
  mpi_store(&w->woken, 0);
  a = waiter(w);
  b = waiter(w);
  notify(w, 1);
  CHECK_EQ(wait_child(a), 0);
  CHECK_EQ(mpi_condition_waiters(w->c), 1);
  notify(w, 1);
  CHECK_EQ(wait_child(b), 0);
  CHECK_EQ(w->woken, 2);
  CHECK_EQ(mpi_condition_waiters(w->c), 0);
}

TEST("a death at any point leaves a condition that works", .limit = 100) {
  struct crew *w = new_crew();
  CHECK(for_each_kill_point(2, wait_and_notify, still_works, w) >= 6);
}

static void notify_one (void *ud) { notify(ud, 1); }

TEST("a notifier's death at any point forgets no sleeper", .limit = 60) {
  static const char *const points[] = {"condition.notify.begin", "waitq.announce.begin", "waitq.announce.counted", "waitq.announce.woken",
                                       "condition.notify.announced", "condition.notify.stored"};
  unsigned i;
  for (i = 0; i < sizeof points / sizeof *points; i++) {
    struct crew *w = new_crew();
    pid_t a = waiter(w), b = waiter(w);
    (void)usleep(5000);
    if (run_killed_at(points[i], 1, notify_one, w) != -SIGKILL) FAIL("did not die at %s", points[i]);
    notify(w, 2);
    CHECK_EQ(wait_child(a), 0);
    CHECK_EQ(wait_child(b), 0);
  }
}

/* The oldest waiter dies at the point, on its way out, after one notification: the other gets it, or a further one. */
TEST("a notified waiter's death at any point before it has the lock is no lost notification", .limit = 100) {
  static const char *const points[] = {"condition.wait.woken", "condition.wait.locked", "condition.wait.sleep"};
  unsigned i;
  for (i = 0; i < sizeof points / sizeof *points; i++) {
    struct crew *w = new_crew();
    pid_t a, b;
    a = fork();
    if (a == 0) {
      mpi_fault_arm(points[i], 1, MPI_FAULT_KILL);
      (void)wait_once(w);
      _exit(0);
    }
    if (i < 2) CHECK(wait_until(mpi_condition_waiters(w->c) == 1, 5000));
    else CHECK_EQ(wait_child(a), -SIGKILL);
    b = waiter(w);
    (void)usleep(5000);
    notify(w, 1);
    if (i < 2) CHECK_EQ(wait_child(a), -SIGKILL);
    CHECK_EQ(wait_child(b), 0);
    CHECK_EQ(w->woken, 1);
  }
}
#endif
