#include "shm/semaphore.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "shm/seat.h"
#include "test/test.h"

struct crew {
  mp_object *s;
  mpi_a32 started, inside, most, done;
  int rounds;
};

static struct crew *new_crew (unsigned permits, unsigned flags) {
  struct crew *c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(mp_semaphore_new(permits, flags, &c->s));
  c->rounds = 200;
  return c;
}

static void *work (void *ud) {
  struct crew *c = ud;
  int i;
  mpi_fetch_add(&c->started, 1);
  for (i = 0; i < c->rounds; i++) {
    uint32_t n;
    CHECK_OK(mp_semaphore_acquire(c->s, MP_NEVER));
    n = mpi_fetch_add(&c->inside, 1) + 1;
    if (n > mpi_load(&c->most)) mpi_store(&c->most, n);
    if (i % 16 == 0) (void)usleep(100);
    (void)mpi_fetch_add(&c->inside, (uint32_t)-1);
    CHECK_OK(mp_semaphore_release(c->s, 1));
  }
  mpi_fetch_add(&c->done, 1);
  return NULL;
}

static void work_in_child (void *ud) { (void)work(ud); }

static void acquire_one (void *ud) {
  struct crew *c = ud;
  mpi_fetch_add(&c->started, 1);
  CHECK_OK(mp_semaphore_acquire(c->s, MP_NEVER));
  mpi_fetch_add(&c->inside, 1);
}

static void hold (void *ud) {
  acquire_one(ud);
  for (;;) (void)pause();
}

TEST("counts down to zero and up again", .clean = 1) {
  mp_object *s = NULL;
  CHECK_OK(mp_semaphore_new(2, 0, &s));
  CHECK_EQ(mp_semaphore_acquire(s, 0), 0);
  CHECK_EQ(mp_semaphore_acquire(s, MP_NEVER), 0);
  CHECK_EQ(mp_semaphore_acquire(s, 0), MP_ETIMEDOUT);
  CHECK_EQ(mp_semaphore_acquire(s, mp_deadline(0.01)), MP_ETIMEDOUT);
  CHECK_EQ(mp_semaphore_release(s, 3), 0);
  CHECK_EQ(mp_semaphore_value(s), 3);
  mp_release(s);
}

TEST("a bounded one refuses a release above its first value and is unchanged", .clean = 1) {
  mp_object *s = NULL;
  CHECK_OK(mp_semaphore_new(2, MP_SEMAPHORE_BOUNDED, &s));
  CHECK_EQ(mp_semaphore_release(s, 1), MP_EMISUSE);
  CHECK_EQ(mp_semaphore_acquire(s, 0), 0);
  CHECK_EQ(mp_semaphore_release(s, 2), MP_EMISUSE);
  CHECK_EQ(mp_semaphore_value(s), 1);
  CHECK_EQ(mp_semaphore_release(s, 1), 0);
  mp_release(s);
}

TEST("refuses what cannot be counted", .clean = 1) {
  mp_object *s = NULL;
  CHECK_EQ(mp_semaphore_new(0x80000000u, 0, &s), MP_ERANGE);
  CHECK_EQ(mp_semaphore_new(0, MP_SEMAPHORE_OWNED, &s), MP_ERANGE);
  CHECK_EQ(mp_semaphore_new(MPI_SEMAPHORE_MOST_OWNED + 1, MP_SEMAPHORE_OWNED, &s), MP_ERANGE);
  CHECK_OK(mp_semaphore_new(MPI_SEMAPHORE_MOST, 0, &s));
  CHECK_EQ(mp_semaphore_release(s, 1), MP_ERANGE);
  CHECK_EQ(mp_semaphore_value(s), MPI_SEMAPHORE_MOST);
  mp_release(s);
}

static void never_more_than (unsigned flags, int threads) {
  struct crew *c = new_crew(3, flags);
  pthread_t t[6];
  pid_t p[6];
  int i;
  for (i = 0; i < 6; i++) {
    if (threads) CHECK(pthread_create(&t[i], NULL, work, c) == 0);
    else p[i] = fork_child(work_in_child, c);
  }
  for (i = 0; i < 6; i++) {
    if (threads) CHECK(pthread_join(t[i], NULL) == 0);
    else CHECK_EQ(wait_child(p[i]), 0);
  }
  CHECK(c->most <= 3);
  CHECK_EQ(mp_semaphore_value(c->s), 3);
}

TEST("never more inside than permits: processes, counted", .limit = 30) { never_more_than(0, 0); }
TEST("never more inside than permits: processes, owned", .limit = 30) { never_more_than(MP_SEMAPHORE_OWNED, 0); }
TEST("never more inside than permits: threads, counted", .limit = 30) { never_more_than(0, 1); }
TEST("never more inside than permits: threads, owned", .limit = 30) { never_more_than(MP_SEMAPHORE_OWNED, 1); }

TEST("one release of many permits lets as many waiters go on") {
  struct crew *c = new_crew(0, 0);
  pid_t p[4];
  int i;
  for (i = 0; i < 4; i++) p[i] = fork_child(acquire_one, c);
  CHECK(wait_until(mpi_load(&c->started) == 4, 5000));
  (void)usleep(10000);
  CHECK_OK(mp_semaphore_release(c->s, 3));
  CHECK(wait_until(mpi_load(&c->inside) == 3, 5000));
  CHECK_EQ(mp_semaphore_value(c->s), 0);
  CHECK_OK(mp_semaphore_release(c->s, 1));
  for (i = 0; i < 4; i++) CHECK_EQ(wait_child(p[i]), 0);
}

TEST("killed waiters do not keep permits from the living") {
  struct crew *c = new_crew(0, 0);
  pid_t p[4];
  int i;
  for (i = 0; i < 4; i++) p[i] = fork_child(acquire_one, c);
  CHECK(wait_until(mpi_load(&c->started) == 4, 5000));
  (void)usleep(10000);
  for (i = 0; i < 3; i++) {
    CHECK(kill(p[i], SIGKILL) == 0);
    CHECK_EQ(wait_child(p[i]), -SIGKILL);
  }
  CHECK_OK(mp_semaphore_release(c->s, 1));
  CHECK_EQ(wait_child(p[3]), 0);
}

static void release_foreign (void *ud) {
  struct crew *c = ud;
  CHECK_EQ(mp_semaphore_release(c->s, 1), MP_ENOTOWNER);
  CHECK_EQ(mp_semaphore_acquire(c->s, 0), 0);
  CHECK_EQ(mp_semaphore_release(c->s, 2), MP_ENOTOWNER);
  CHECK_EQ(mp_semaphore_value(c->s), 0);
}

TEST("an owned permit is released by its owner alone, and comes back when the owner ends", .clean = 1) {
  mp_object *s;
  struct crew *c = new_crew(2, MP_SEMAPHORE_OWNED);
  s = c->s;
  CHECK_EQ(mp_semaphore_acquire(s, 0), 0);
  CHECK_EQ(wait_child(fork_child(release_foreign, c)), 0);
  CHECK_EQ(mp_semaphore_value(s), 1);
  CHECK_EQ(mp_semaphore_release(s, 1), 0);
  CHECK_EQ(mp_semaphore_release(s, 1), MP_ENOTOWNER);
  CHECK_EQ(mp_semaphore_value(s), 2);
  mp_release(s);
}

static void comes_back (unsigned permits, unsigned victim) {
  struct crew *c = new_crew(permits, MP_SEMAPHORE_OWNED);
  pid_t holder[3], waiter[2];
  unsigned i;
  for (i = 0; i + 3 < permits; i++) CHECK_OK(mp_semaphore_acquire(c->s, 0));
  for (i = 0; i < 3; i++) {
    holder[i] = fork_child(hold, c);
    CHECK(wait_until(mpi_load(&c->inside) == i + 1, 5000));
  }
  for (i = 0; i < 2; i++) waiter[i] = fork_child(acquire_one, c);
  CHECK(wait_until(mpi_load(&c->started) == 5, 5000));
  (void)usleep(10000);
  CHECK(kill(holder[victim], SIGKILL) == 0);
  CHECK_EQ(wait_child(holder[victim]), -SIGKILL);
  for (i = 0; i < 2; i++) CHECK_EQ(wait_child(waiter[i]), 0); /* the first one ends, and gives it to the second */
  CHECK_EQ(mp_semaphore_value(c->s), 1);
}

TEST("a waiter asleep gets the permit of any holder that is killed", .limit = 30) {
  comes_back(3, 0);
  comes_back(3, 1);
  comes_back(3, 2);
}

TEST("also with more permits than can be watched at once", .limit = 30) { comes_back(300, 2); }

static int yes (void *ud) { (void)ud; return 1; }

TEST("an interruption ends a wait and takes no permit") {
  struct crew *c = new_crew(1, 0), *o = new_crew(1, MP_SEMAPHORE_OWNED);
  CHECK_OK(mp_semaphore_acquire(c->s, 0));
  CHECK_OK(mp_semaphore_acquire(o->s, 0));
  mp_set_interrupt(yes, NULL);
  CHECK_EQ(mp_semaphore_acquire(c->s, MP_NEVER), MP_EINTR);
  CHECK_EQ(mp_semaphore_acquire(o->s, MP_NEVER), MP_EINTR);
  mp_set_interrupt(NULL, NULL);
  CHECK_OK(mp_semaphore_release(c->s, 1));
  CHECK_OK(mp_semaphore_release(o->s, 1));
  CHECK_EQ(mp_semaphore_value(c->s), 1);
  CHECK_EQ(mp_semaphore_value(o->s), 1);
}

TEST("a semaphore that arrives with impossible fields is refused", .clean = 1) {
  mp_object *s = NULL, *again = NULL;
  int fd;
  CHECK_OK(mp_semaphore_new(3, 0, &s));
  fd = dup(s->fds[0]);
  ((volatile uint32_t *)mpi_seg_at(&s->seg, sizeof(struct mpi_seghdr)))[8] = MP_SEMAPHORE_OWNED; /* too small for seats */
  mp_release(s);
  CHECK_EQ(mpi_object_adopt(MPI_T_SEMAPHORE, 0, &fd, 1, &again), MP_ECORRUPT);
}

#ifdef MP_FAULTS
static void give_and_take (void *ud) {
  struct crew *c = ud;
  CHECK_OK(mp_semaphore_acquire(c->s, MP_NEVER));
  CHECK_OK(mp_semaphore_release(c->s, 1));
  CHECK_OK(mp_semaphore_acquire(c->s, mp_deadline(0.05)));
  CHECK_OK(mp_semaphore_release(c->s, 1));
}

static void counted_still_works (void *ud, const char *point) {
  struct crew *c = ud;
  int v = mp_semaphore_value(c->s);
  pid_t p;
  if (v < 1 || v > 2) FAIL("%d permits after a death at %s", v, point); /* at most the one in its hand is gone */
  while (mp_semaphore_acquire(c->s, 0) == 0) {}
  mpi_store(&c->started, 0);
  p = fork_child(acquire_one, c);
  CHECK(wait_until(mpi_load(&c->started) == 1, 5000));
  (void)usleep(2000);
  CHECK_OK(mp_semaphore_release(c->s, 1));
  CHECK_EQ(wait_child(p), 0);
  CHECK_OK(mp_semaphore_release(c->s, 2));
}

TEST("a death at any point costs at most the permit in hand", .limit = 60) {
  CHECK(for_each_kill_point(2, give_and_take, counted_still_works, new_crew(2, 0)) >= 2);
}

static void owned_still_works (void *ud, const char *point) {
  struct crew *c = ud;
  if (mp_semaphore_value(c->s) != 2) FAIL("%d permits after a death at %s", mp_semaphore_value(c->s), point);
  give_and_take(c);
}

TEST("a death at any point costs no owned permit", .limit = 60) {
  CHECK(for_each_kill_point(2, give_and_take, owned_still_works, new_crew(2, MP_SEMAPHORE_OWNED)) >= 4);
}

static void release_some (void *ud) {
  CHECK_OK(mp_semaphore_release(((struct crew *)ud)->s, 1));
}

TEST("a releaser's death at any point forgets no sleeper", .limit = 60) {
  static const char *const points[] = {"semaphore.release.begin", "waitq.announce.begin", "waitq.announce.counted", "waitq.announce.woken",
                                       "semaphore.release.announced", "semaphore.release.stored"};
  unsigned i;
  for (i = 0; i < sizeof points / sizeof *points; i++) {
    struct crew *c = new_crew(0, 0);
    pid_t p[2] = {fork_child(acquire_one, c), fork_child(acquire_one, c)};
    CHECK(wait_until(mpi_load(&c->started) == 2, 5000));
    (void)usleep(5000);
    if (run_killed_at(points[i], 1, release_some, c) != -SIGKILL) FAIL("did not die at %s", points[i]);
    CHECK_OK(mp_semaphore_release(c->s, 2));
    CHECK_EQ(wait_child(p[0]), 0);
    CHECK_EQ(wait_child(p[1]), 0);
  }
}

static void use_owned (void *ud) {
  struct crew *c = ud;
  CHECK_OK(mp_semaphore_acquire(c->s, MP_NEVER));
  (void)usleep(3000);
  CHECK_OK(mp_semaphore_release(c->s, 1));
}

TEST("an owner's death at any point wakes the sleeper", .limit = 60) {
  static const char *const points[] = {"mutex.lock.taken", "seat.take.taken", "seat.leave.begin", "mutex.unlock.removed", "latch.unlock.wake"};
  unsigned i;
  for (i = 0; i < sizeof points / sizeof *points; i++) {
    struct crew *c = new_crew(1, MP_SEMAPHORE_OWNED);
    pid_t p[2], dying;
    CHECK_OK(mp_semaphore_acquire(c->s, 0));
    dying = fork();
    if (dying == 0) {
      mpi_fault_arm(points[i], 1, MPI_FAULT_KILL);
      use_owned(c);
      _exit(0);
    }
    (void)usleep(2000);
    p[0] = fork_child(acquire_one, c);
    p[1] = fork_child(acquire_one, c);
    CHECK(wait_until(mpi_load(&c->started) == 2, 5000));
    (void)usleep(5000);
    CHECK_OK(mp_semaphore_release(c->s, 1));
    CHECK_EQ(wait_child(p[0]), 0);
    CHECK_EQ(wait_child(p[1]), 0);
    (void)wait_child(dying);
    CHECK_EQ(mp_semaphore_value(c->s), 1);
  }
}
#endif
