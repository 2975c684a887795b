#include "shm/latch.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "test/test.h"

struct shared {
  mpi_latch l;
  mpi_a32 inside, ready;
  long n;
};

static struct shared *new_shared (void) {
  return mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void *count (void *ud) {
  struct shared *s = ud;
  int i;
  for (i = 0; i < 20000; i++) {
    CHECK_EQ(mpi_latch_lock(&s->l, MP_NEVER), 0);
    s->n++;
    mpi_latch_unlock(&s->l);
  }
  return NULL;
}

static void count_in_child (void *ud) { (void)count(ud); }

TEST("excludes threads", .limit = 30) {
  struct shared *s = new_shared();
  pthread_t t[4];
  int i;
  for (i = 0; i < 4; i++) CHECK(pthread_create(&t[i], NULL, count, s) == 0);
  for (i = 0; i < 4; i++) CHECK(pthread_join(t[i], NULL) == 0);
  CHECK_EQ(s->n, 80000);
}

TEST("excludes processes", .limit = 30) {
  struct shared *s = new_shared();
  pid_t p[4];
  int i;
  for (i = 0; i < 4; i++) p[i] = fork_child(count_in_child, s);
  for (i = 0; i < 4; i++) CHECK_EQ(wait_child(p[i]), 0);
  CHECK_EQ(s->n, 80000);
}

static void hold (void *ud) {
  struct shared *s = ud;
  CHECK(mpi_latch_lock(&s->l, MP_NEVER) >= 0);
  mpi_store(&s->ready, 1);
  for (;;) (void)pause();
}

TEST("a dead holder's latch goes to the next, who is told") {
  struct shared *s = new_shared();
  pid_t p = fork_child(hold, s);
  CHECK(wait_until(mpi_load(&s->ready), 5000));
  CHECK(kill(p, SIGKILL) == 0);
  CHECK_EQ(mpi_latch_lock(&s->l, MP_NEVER), MP_ABANDONED); /* perhaps asleep until the kernel frees it */
  mpi_latch_unlock(&s->l);
  CHECK_EQ(mpi_latch_lock(&s->l, MP_NEVER), 0);
  mpi_latch_unlock(&s->l);
  CHECK_EQ(wait_child(p), -SIGKILL);
}

TEST("a poll is not refused because somebody is inside for a moment; a stopped holder costs 0.2 s") {
  struct shared *s = new_shared();
  pid_t p = fork_child(hold, s);
  int64_t now;
  CHECK(wait_until(mpi_load(&s->ready), 5000));
  now = mp_now();
  CHECK_EQ(mpi_latch_lock(&s->l, 0), MP_ETIMEDOUT);
  CHECK(mp_now() - now >= 200 * MPI_NS_PER_MS);
  now = mp_now();
  CHECK_EQ(mpi_latch_pass(&s->l, 0), MP_ETIMEDOUT);
  CHECK(mp_now() - now >= 200 * MPI_NS_PER_MS);
  CHECK(kill(p, SIGKILL) == 0);
  CHECK_EQ(mpi_latch_pass(&s->l, MP_NEVER), 0);
}

TEST("passing takes nothing") {
  struct shared *s = new_shared();
  CHECK_EQ(mpi_latch_pass(&s->l, 0), 0);
  CHECK_EQ(s->l.word, 0);
}

static int yes (void *ud) { (void)ud; return 1; }

TEST("an interruption ends the wait for a latch") {
  struct shared *s = new_shared();
  (void)fork_child(hold, s);
  CHECK(wait_until(mpi_load(&s->ready), 5000));
  mp_set_interrupt(yes, NULL);
  CHECK_EQ(mpi_latch_lock(&s->l, MP_NEVER), MP_EINTR);
  CHECK_EQ(mpi_latch_pass(&s->l, MP_NEVER), MP_EINTR);
}

TEST("a word that names us although we hold nothing is an error, not a hang") {
  struct shared *s = new_shared();
  mpi_store(&s->l.word, mpi_tid());
  CHECK_EQ(mpi_latch_lock(&s->l, MP_NEVER), MP_ECORRUPT);
}

#ifdef MP_FAULTS
static void lock_once (void *ud) {
  struct shared *s = ud;
  mpi_fetch_add(&s->ready, 1);
  CHECK(mpi_latch_lock(&s->l, MP_NEVER) >= 0);
  mpi_latch_unlock(&s->l);
}

TEST("a holder that dies before it wakes the next leaves no sleeper behind", .limit = 30) {
  struct shared *s = new_shared();
  pid_t dying, sleeper[2];
  CHECK_EQ(mpi_latch_lock(&s->l, MP_NEVER), 0);
  dying = fork();
  if (dying == 0) {
    mpi_fault_arm("latch.unlock.wake", 1, MPI_FAULT_KILL);
    lock_once(s);
    for (;;) (void)pause();
  }
  CHECK(wait_until(mpi_load(&s->ready) == 1, 5000));
  (void)usleep(5000);
  sleeper[0] = fork_child(lock_once, s);
  sleeper[1] = fork_child(lock_once, s);
  CHECK(wait_until(mpi_load(&s->ready) == 3, 5000));
  (void)usleep(5000);
  mpi_latch_unlock(&s->l);
  CHECK_EQ(wait_child(sleeper[0]), 0);
  CHECK_EQ(wait_child(sleeper[1]), 0);
  (void)kill(dying, SIGKILL);
  CHECK_EQ(wait_child(dying), -SIGKILL);
  CHECK(mpi_latch_lock(&s->l, 0) >= 0);
}
#endif
