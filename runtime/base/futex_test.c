#include "base/futex.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "test/test.h"

struct words {
  mpi_a32 w[4], asleep;
  pthread_t sleeper;
};

static struct words *new_words (void) {
  return mmap(NULL, sizeof(struct words), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

TEST("a word that differs, or a deadline in the past, does not sleep") {
  struct words *s = new_words();
  CHECK_EQ(mpi_futex_wait(&s->w[0], 1, MP_NEVER), 0);
  CHECK_EQ(mpi_futex_wait(&s->w[0], 0, 0), MP_ETIMEDOUT);
  CHECK_EQ(mpi_futex_wait(&s->w[0], 1, 0), 0);
  CHECK_EQ(mpi_futex_wait2(&s->w[0], 0, &s->w[1], 1, MP_NEVER), 0);
  CHECK_EQ(mpi_futex_wait2(&s->w[0], 0, &s->w[1], 0, 0), MP_ETIMEDOUT);
}

TEST("a sleep ends at its deadline") {
  struct words *s = new_words();
  int slice = 0;
  int64_t until = mp_now() + 150 * MPI_NS_PER_MS; /* longer than the first slice */
  int rc;
  do rc = mpi_sleep_on(&s->w[0], 0, until, &slice);
  while (rc == 0);
  CHECK_EQ(rc, MP_ETIMEDOUT);
  CHECK(mp_now() >= until);
  slice = 0;
  until = mp_now() + 20 * MPI_NS_PER_MS;
  do rc = mpi_sleep_on2(&s->w[0], 0, &s->w[1], 0, until, &slice);
  while (rc == 0);
  CHECK_EQ(rc, MP_ETIMEDOUT);
  CHECK(mp_now() >= until);
}

static void change (void *ud) {
  struct words *s = ud;
  (void)usleep(5000);
  mpi_store(&s->w[3], 1);
  mpi_futex_wake(&s->w[3], INT_MAX);
}

TEST("another process ends a sleep on any of the words") {
  int n;
  for (n = 1; n <= 4; n++) {
    struct words *s = new_words();
    struct mpi_watched list[4];
    pid_t p;
    int i, slice = 0, rc = 0;
    for (i = 0; i < n; i++) list[i] = (struct mpi_watched){&s->w[4 - n + i], 0};
    p = fork_child(change, s);
    while (rc == 0 && mpi_load(&s->w[3]) == 0) rc = mpi_sleep_on_many(list, n, MP_NEVER, &slice);
    CHECK_EQ(rc, 0);
    CHECK_EQ(wait_child(p), 0);
  }
}

static void nothing (int sig) { (void)sig; }
static mpi_a32 asked;
static int ask (void *ud) { mpi_fetch_add(&asked, 1); return mpi_load((mpi_a32 *)ud) != 0; }

static void *poke (void *ud) {
  struct words *s = ud;
  do { /* the answer is no: the sleep goes on */
    (void)usleep(1000);
    (void)pthread_kill(s->sleeper, SIGUSR1);
  } while (mpi_load(&asked) < 3);
  mpi_store(&s->w[2], 1);
  while (mpi_load(&s->asleep)) {
    (void)pthread_kill(s->sleeper, SIGUSR1);
    (void)usleep(1000);
  }
  return NULL;
}

TEST("a signal ends a sleep if the thread's callback says so, although its handler restarts system calls") {
  struct words *s = new_words();
  struct sigaction a = {0};
  pthread_t t;
  int slice = 0, rc;
  a.sa_handler = nothing;
  a.sa_flags = SA_RESTART;
  CHECK(sigaction(SIGUSR1, &a, NULL) == 0);
  s->sleeper = pthread_self();
  mpi_store(&s->asleep, 1);
  mp_set_interrupt(ask, &s->w[2]);
  CHECK(pthread_create(&t, NULL, poke, s) == 0);
  do rc = mpi_sleep_on(&s->w[0], 0, MP_NEVER, &slice);
  while (rc == 0);
  CHECK_EQ(rc, MP_EINTR);
  mpi_store(&s->asleep, 0);
  CHECK(pthread_join(t, NULL) == 0);
  CHECK(mpi_load(&asked) >= 4);
}

static int yes (void *ud) { (void)ud; return 1; }

TEST("an interruption can be held back") {
  int before;
  CHECK_EQ(mpi_interrupted(), 0);
  mp_set_interrupt(yes, NULL);
  CHECK_EQ(mpi_interrupted(), 1);
  before = mpi_interrupt_hold(1);
  CHECK_EQ(mpi_interrupted(), 0);
  CHECK_EQ(mpi_interrupt_hold(1), 1);
  (void)mpi_interrupt_hold(before);
  CHECK_EQ(mpi_interrupted(), 1);
}

TEST("slices grow and never pass the deadline") {
  int slice = 0;
  CHECK_EQ(mpi_slice_end(0, MP_NEVER, &slice, 0), 100 * MPI_NS_PER_MS);
  CHECK_EQ(mpi_slice_end(0, MP_NEVER, &slice, 0), 400 * MPI_NS_PER_MS);
  CHECK_EQ(mpi_slice_end(1000, 2000, &slice, 0), 2000);
  slice = 0;
  CHECK_EQ(mpi_slice_end(0, MP_NEVER, &slice, 1), 100 * MPI_NS_PER_MS);
  CHECK_EQ(mpi_slice_end(0, MP_NEVER, &slice, 1), 100 * MPI_NS_PER_S);
  CHECK_EQ(mpi_slice_end(0, MP_NEVER, &slice, 1), 100 * MPI_NS_PER_S);
  CHECK_EQ(mpi_slice_end(1000, 2000, &slice, 1), 2000);
}

/* A signal that comes in the very moment between the question and the system call: the handler of mp's own has noted it, the answer was no. */
static int came_after_no (void *ud) {
  int *turns = ud;
  if (++*turns < 1) return 0;
  if (*turns == 1) mpi_interrupt_note();
  return *turns > 1;
}

TEST("after the first look a sleep on words misses no noted signal, and is not disturbed", .limit = 20) {
  struct words *s = new_words();
  int n;
  mpi_interrupts_are_noted(1);
  for (n = 1; n <= 2; n++) {
    struct mpi_watched list[2] = {{&s->w[0], 0}, {&s->w[1], 0}};
    int turns = 0, slice = 1, rc;
    mp_set_interrupt(came_after_no, &turns);
    do rc = mpi_sleep_on_many(list, n, MP_NEVER, &slice);
    while (rc == 0);
    CHECK_EQ(rc, MP_EINTR);
    turns = -1000000;
    slice = 1;
    rc = mpi_sleep_on_many(list, n, mp_now() + 600 * MPI_NS_PER_MS, &slice);
#ifndef MP_HARD /* has early returns */
    CHECK_EQ(rc, MP_ETIMEDOUT);
    CHECK_EQ(turns, -999999);
#endif
  }
}

static void raised (int sig) { (void)sig; }

static int raises_after_no (void *ud) {
  int *turns = ud;
  if (++*turns < 1) return 0;
  if (*turns == 1) (void)pthread_kill(pthread_self(), SIGUSR1);
  return *turns > 1;
}

TEST("after the first look a sleep on descriptors misses no signal at all, and is not disturbed", .limit = 20) {
  struct sigaction a = {0};
  int turns = 0, slice = 1, rc;
  int64_t until;
  a.sa_handler = raised;
  a.sa_flags = SA_RESTART;
  CHECK(sigaction(SIGUSR1, &a, NULL) == 0);
  mp_set_interrupt(raises_after_no, &turns);
  do rc = mpi_sleep_in_poll(NULL, 0, MP_NEVER, &slice);
  while (rc == 0);
  CHECK_EQ(rc, MP_EINTR);
  turns = -1000000;
  slice = 1;
  until = mp_now() + 600 * MPI_NS_PER_MS;
  do rc = mpi_sleep_in_poll(NULL, 0, until, &slice);
  while (rc == 0);
  CHECK_EQ(rc, MP_ETIMEDOUT);
  CHECK(turns < -999990); /* some looks close to the end, for the kernel is late in proportion */
}
