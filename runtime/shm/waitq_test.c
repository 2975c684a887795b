#include "shm/waitq.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fault.h"
#include "test/test.h"

struct shared {
  mpi_latch gate, turnstile;
  mpi_waitq q;
  mpi_a32 count, taken;
  int want;
  int use_turnstile;
};

static struct shared *new_shared (void) {
  return mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static int some (void *ud) { return mpi_load(&((struct shared *)ud)->count) > 0; }

static void *take (void *ud) {
  struct shared *s = ud;
  int i;
  for (i = 0; i < s->want; i++)
    for (;;) {
      uint32_t v = mpi_load(&s->count);
      if (v > 0 && mpi_cas(&s->count, &v, v - 1)) {
        mpi_fetch_add(&s->taken, 1);
        break;
      }
      if (v == 0) CHECK_EQ(mpi_waitq_wait(&s->q, &s->gate, s->use_turnstile ? &s->turnstile : NULL, some, s, MP_NEVER), 0);
    }
  return NULL;
}

static void take_in_child (void *ud) { (void)take(ud); }

static void give (struct shared *s) {
  CHECK(mpi_latch_lock(&s->gate, MP_NEVER) >= 0);
  mpi_announce(&s->q, s->use_turnstile ? 1 : INT_MAX);
  mpi_fetch_add(&s->count, 1);
  MPI_POINT("test.give.stored");
  mpi_latch_unlock(&s->gate);
}

static void all_served (int use_turnstile, int threads) {
  struct shared *s = new_shared();
  pthread_t t[4];
  pid_t p[4];
  int i;
  s->want = 300;
  s->use_turnstile = use_turnstile;
  for (i = 0; i < 4; i++) {
    if (threads) CHECK(pthread_create(&t[i], NULL, take, s) == 0);
    else p[i] = fork_child(take_in_child, s);
  }
  for (i = 0; i < 1200; i++) give(s);
  for (i = 0; i < 4; i++) {
    if (threads) CHECK(pthread_join(t[i], NULL) == 0);
    else CHECK_EQ(wait_child(p[i]), 0);
  }
  CHECK_EQ(s->taken, 1200);
  CHECK_EQ(s->count, 0);
}

TEST("serves every thread", .limit = 30) { all_served(0, 1); }
TEST("serves every thread through a turnstile", .limit = 30) { all_served(1, 1); }
TEST("serves every process", .limit = 30) { all_served(0, 0); }
TEST("serves every process through a turnstile", .limit = 30) { all_served(1, 0); }

TEST("times out, polls, and returns at once when ready") {
  struct shared *s = new_shared();
  CHECK_EQ(mpi_waitq_wait(&s->q, &s->gate, NULL, some, s, 0), MP_ETIMEDOUT);
  CHECK_EQ(mpi_waitq_wait(&s->q, &s->gate, &s->turnstile, some, s, mp_deadline(0.01)), MP_ETIMEDOUT);
  CHECK_EQ(s->turnstile.word, 0);
  give(s);
  CHECK_EQ(mpi_waitq_wait(&s->q, &s->gate, &s->turnstile, some, s, 0), 0);
}

TEST("a change that nobody waits for makes no system call's worth of work") {
  struct shared *s = new_shared();
  give(s);
  CHECK_EQ(s->q.seq, 0);
}

TEST("the death of who sleeps at the turnstile lets the next one sleep there", .limit = 30) {
  struct shared *s = new_shared();
  pid_t p[3];
  int i;
  s->want = 1;
  s->use_turnstile = 1;
  for (i = 0; i < 3; i++) {
    p[i] = fork_child(take_in_child, s);
    if (i == 0) CHECK(wait_until(mpi_load(&s->q.sleepers) & 1, 5000));
  }
  (void)usleep(5000);
  CHECK(kill(p[0], SIGKILL) == 0);
  CHECK_EQ(wait_child(p[0]), -SIGKILL);
  give(s);
  give(s);
  CHECK_EQ(wait_child(p[1]), 0);
  CHECK_EQ(wait_child(p[2]), 0);
}

#ifdef MP_FAULTS
static void give_one (void *ud) { give(ud); }

TEST("a changer's death at any point leaves every sleeper to the next change", .limit = 60) {
  static const char *const points[] = {"waitq.announce.begin", "waitq.announce.counted", "waitq.announce.woken", "test.give.stored"};
  int turn;
  for (turn = 0; turn < 8; turn++) {
    struct shared *s = new_shared();
    pid_t p[2];
    uint32_t got;
    s->want = 1;
    s->use_turnstile = turn % 2;
    p[0] = fork_child(take_in_child, s);
    p[1] = fork_child(take_in_child, s);
    CHECK(wait_until(mpi_load(&s->q.sleepers) & 1, 5000));
    (void)usleep(5000);
    if (run_killed_at(points[turn / 2], 1, give_one, s) != -SIGKILL) FAIL("did not die at %s", points[turn / 2]);
    for (got = 0; got < 2; got++) give(s);
    CHECK_EQ(wait_child(p[0]), 0);
    CHECK_EQ(wait_child(p[1]), 0);
  }
}
#endif
