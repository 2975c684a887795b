#include "shm/event.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "test/test.h"

struct crew {
  mp_object *e;
  mpi_a32 waiting, woken;
  int fd;
};

static struct crew *new_crew (void) {
  struct crew *c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(mp_event_new(&c->e));
  return c;
}

/* Waits until n more waiters than before, among them these processes, are asleep in their call. A count of registrations would not do: who
** looks between two sleeps registers again. */
static void until_asleep (struct crew *c, uint32_t before, const pid_t *pid, int n) {
  int i;
  CHECK(wait_until(mpi_load(&c->waiting) - before >= (uint32_t)n, 10000));
  for (i = 0; i < n; i++) CHECK(wait_until(test_state(pid[i]) == 'S', 10000));
}

static int readable (int fd) {
  struct pollfd p = {fd, POLLIN, 0};
  return poll(&p, 1, 0) == 1;
}

static void *wait_once (void *ud) {
  struct crew *c = ud;
  mpi_fetch_add(&c->waiting, 1);
  CHECK_EQ(mp_event_wait(c->e, MP_NEVER), 0);
  mpi_fetch_add(&c->woken, 1);
  return NULL;
}

static void wait_in_child (void *ud) { (void)wait_once(ud); }

TEST("is clear when made; set, cleared and looked at", .clean = 1) {
  mp_object *e = NULL;
  CHECK_OK(mp_event_new(&e));
  CHECK_EQ(mp_event_is_set(e), 0);
  CHECK_EQ(mp_event_wait(e, 0), MP_ETIMEDOUT);
  CHECK_EQ(mp_event_wait(e, mp_deadline(0.01)), MP_ETIMEDOUT);
  CHECK_EQ(mp_event_set(e), 0);
  CHECK_EQ(mp_event_set(e), 0);
  CHECK_EQ(mp_event_is_set(e), 1);
  CHECK_EQ(mp_event_wait(e, 0), 0);
  CHECK_EQ(mp_event_clear(e), 0);
  CHECK_EQ(mp_event_clear(e), 0);
  CHECK_EQ(mp_event_is_set(e), 0);
  mp_release(e);
}

TEST("wakes every process that waited, though cleared at once", .limit = 30) {
  struct crew *c = new_crew();
  pid_t pid[8];
  uint32_t before;
  int i, round;
  for (round = 0; round < 5; round++) {
    before = mpi_load(&c->waiting);
    for (i = 0; i < 8; i++) pid[i] = fork_child(wait_in_child, c);
    until_asleep(c, before, pid, 8);
    CHECK_EQ(mp_event_set(c->e), 0);
    CHECK_EQ(mp_event_clear(c->e), 0);
    for (i = 0; i < 8; i++) CHECK_EQ(wait_child(pid[i]), 0);
  }
}

TEST("wakes every thread that waited") {
  struct crew *c = new_crew();
  pthread_t t[4];
  int i;
  for (i = 0; i < 4; i++) CHECK(pthread_create(&t[i], NULL, wait_once, c) == 0);
  CHECK_EQ(mp_event_set(c->e), 0);
  for (i = 0; i < 4; i++) CHECK(pthread_join(t[i], NULL) == 0);
  CHECK_EQ(c->woken, 4);
}

TEST("a killed waiter costs the others nothing") {
  struct crew *c = new_crew();
  pid_t pid[2] = {fork_child(wait_in_child, c), fork_child(wait_in_child, c)};
  until_asleep(c, 0, pid, 2);
  CHECK(kill(pid[0], SIGKILL) == 0);
  CHECK_EQ(wait_child(pid[0]), -SIGKILL);
  CHECK_EQ(mp_event_set(c->e), 0);
  CHECK_EQ(wait_child(pid[1]), 0);
}

TEST("its descriptor is readable while it is set", .clean = 1) {
  mp_object *e = NULL;
  int fd = -1;
  CHECK_OK(mp_event_new(&e));
  CHECK_OK(mp_event_set(e));
  CHECK_OK(mpi_event_fd(e, &fd));
  CHECK(readable(fd));
  CHECK_OK(mp_event_clear(e));
  CHECK(!readable(fd));
  CHECK_OK(mp_event_set(e));
  CHECK(readable(fd));
  mp_release(e);
}

TEST("an event that arrives with another kind of descriptor for its bell is refused", .clean = 1) {
  mp_object *e = NULL, *again = NULL;
  int fds[2], ends[2];
  CHECK_OK(mp_event_new(&e));
  fds[0] = dup(e->fds[0]);
  mp_release(e);
  CHECK(pipe(ends) == 0);
  fds[1] = ends[0];
  CHECK_EQ(mpi_object_adopt(MPI_T_EVENT, 0, fds, 2, &again), MP_ECORRUPT);
  CHECK(close(ends[1]) == 0);
}

static int yes (void *ud) { (void)ud; return 1; }

TEST("an interruption ends a wait; an event that is set meanwhile counts") {
  struct crew *c = new_crew();
  mp_set_interrupt(yes, NULL);
  CHECK_EQ(mp_event_wait(c->e, MP_NEVER), MP_EINTR);
  CHECK_OK(mp_event_set(c->e));
  CHECK_EQ(mp_event_wait(c->e, MP_NEVER), 0);
}

#ifdef MP_HARD
TEST("a gate that a peer has locked for ever is an error, not a hang") {
  mp_object *e = NULL;
  CHECK_OK(mp_event_new(&e));
  mpi_store((mpi_a32 *)mpi_seg_at(&e->seg, sizeof(struct mpi_seghdr)), 1); /* the first process of the machine, say */
  CHECK_EQ(mp_event_set(e), MP_ECORRUPT);
  CHECK_EQ(mp_event_is_set(e), 0);
}
#endif

#ifdef MP_FAULTS
static void toggle (void *ud) {
  struct crew *c = ud;
  CHECK_OK(mp_event_set(c->e));
  CHECK_OK(mp_event_clear(c->e));
}

/* After a death: all operations work, nobody who waits is forgotten, and the descriptor tells the truth. */
static void still_works (void *ud, const char *point) {
  struct crew *c = ud;
  pid_t pid;
  uint32_t before;
  if (mp_event_is_set(c->e)) CHECK(readable(c->fd));
  CHECK_OK(mp_event_clear(c->e));
  CHECK_OK(mpi_event_fd(c->e, &c->fd));
  if (readable(c->fd)) FAIL("the bell rings on a clear event after a death at %s", point);
  before = mpi_load(&c->waiting);
  pid = fork_child(wait_in_child, c);
  until_asleep(c, before, &pid, 1);
  CHECK_OK(mp_event_set(c->e));
  CHECK_EQ(wait_child(pid), 0);
  CHECK(readable(c->fd));
  CHECK_OK(mp_event_clear(c->e));
}

TEST("a setter's death at any point leaves the old state or the new", .limit = 60) {
  struct crew *c = new_crew();
  CHECK_OK(mpi_event_fd(c->e, &c->fd));
  CHECK(for_each_kill_point(1, toggle, still_works, c) >= 5);
}

TEST("a setter's death at any point forgets no sleeper", .limit = 60) {
  static const char *const points[] = {"event.set.begin", "waitq.announce.begin", "waitq.announce.counted", "waitq.announce.woken",
                                       "bell.ring.begin", "bell.ring.written", "event.set.announced", "event.set.stored"};
  struct crew *c = new_crew();
  unsigned i;
  CHECK_OK(mpi_event_fd(c->e, &c->fd));
  for (i = 0; i < sizeof points / sizeof *points; i++) {
    uint32_t before = mpi_load(&c->waiting);
    pid_t sleeper[2] = {fork_child(wait_in_child, c), fork_child(wait_in_child, c)};
    until_asleep(c, before, sleeper, 2);
    if (run_killed_at(points[i], 1, toggle, c) != -SIGKILL) FAIL("did not die at %s", points[i]);
    CHECK_OK(mp_event_set(c->e)); /* finds it set, or sets it */
    CHECK_EQ(wait_child(sleeper[0]), 0);
    CHECK_EQ(wait_child(sleeper[1]), 0);
    CHECK_OK(mp_event_clear(c->e));
  }
}

static void wait_a_little (void *ud) {
  struct crew *c = ud;
  (void)mp_event_wait(c->e, mp_deadline(0.05));
}

TEST("a waiter's death at any point disturbs nobody", .limit = 60) {
  struct crew *c = new_crew();
  CHECK_OK(mpi_event_fd(c->e, &c->fd));
  CHECK(for_each_kill_point(1, wait_a_little, still_works, c) >= 1);
}
#endif
