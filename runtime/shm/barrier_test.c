#include "shm/barrier.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "test/test.h"

struct crew {
  mp_object *b;
  mpi_a32 ranks, passed, broken, timed_out, acted, acting, stop_acting, fail_action, turns;
  double timeout;
  int rounds;
};

static struct crew *new_crew (unsigned parties, unsigned flags) {
  struct crew *c = mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(mp_barrier_new(parties, flags, MP_NEVER, &c->b));
  c->timeout = 1e9;
  c->rounds = 1;
  mpi_store(&c->stop_acting, 1);
  return c;
}

static void one_round (struct crew *c) {
  int rank = 0, seat = -1;
  int rc = mp_barrier_arrive(c->b, mp_deadline(c->timeout), &rank, &seat);
  if (rc == MP_BARRIER_RUN) {
    mpi_store(&c->acting, 1);
    while (!mpi_load(&c->stop_acting)) (void)usleep(500);
    mpi_fetch_add(&c->acted, 1);
    rc = mp_barrier_complete(c->b, seat, !mpi_load(&c->fail_action));
  }
  if (rc == 0) {
    CHECK(rank >= 1 && rank <= mp_barrier_parties(c->b));
    mpi_fetch_add(&c->ranks, 1u << (3 * (rank - 1)));
  }
  mpi_fetch_add(rc == 0 ? &c->passed : rc == MP_EBROKEN ? &c->broken : &c->timed_out, 1);
  CHECK(rc == 0 || rc == MP_EBROKEN || rc == MP_ETIMEDOUT);
}

static void *party (void *ud) {
  struct crew *c = ud;
  int i;
  for (i = 0; i < c->rounds; i++) one_round(c);
  return NULL;
}

static void party_in_child (void *ud) { (void)party(ud); }

static pid_t waiting_party (struct crew *c) {
  int before = mp_barrier_waiting(c->b);
  pid_t p = fork_child(party_in_child, c);
  CHECK(wait_until(mp_barrier_waiting(c->b) == before + 1, 5000));
  CHECK(wait_until(test_state(p) == 'S', 5000)); /* it has left the gate, and may be stopped */
  return p;
}

TEST("one party passes at once", .clean = 1) {
  mp_object *b = NULL;
  int rank = 0, seat;
  CHECK_OK(mp_barrier_new(1, 0, MP_NEVER, &b));
  CHECK_EQ(mp_barrier_arrive(b, 0, &rank, &seat), 0);
  CHECK_EQ(rank, 1);
  CHECK_EQ(mp_barrier_broken(b), 0);
  mp_release(b);
}

TEST("refuses impossible numbers of parties", .clean = 1) {
  mp_object *b = NULL;
  CHECK_EQ(mp_barrier_new(0, 0, MP_NEVER, &b), MP_ERANGE);
  CHECK_EQ(mp_barrier_new(MPI_BARRIER_MOST + 1, 0, MP_NEVER, &b), MP_ERANGE);
  CHECK_OK(mp_barrier_new(MPI_BARRIER_MOST, 0, MP_NEVER, &b));
  mp_release(b);
}

TEST("lets nobody go before the last has come; each rank once") {
  struct crew *c = new_crew(3, 0);
  pid_t a = waiting_party(c), b = waiting_party(c);
  CHECK_EQ(c->passed, 0);
  one_round(c);
  CHECK_EQ(wait_child(a), 0);
  CHECK_EQ(wait_child(b), 0);
  CHECK_EQ(c->ranks, 0111);
  CHECK_EQ(mp_barrier_waiting(c->b), 0);
}

TEST("is used again and again", .limit = 30) {
  struct crew *c = new_crew(4, 0);
  pthread_t t[4];
  pid_t p[4];
  int i;
  c->rounds = 300;
  for (i = 0; i < 4; i++) CHECK(pthread_create(&t[i], NULL, party, c) == 0);
  for (i = 0; i < 4; i++) CHECK(pthread_join(t[i], NULL) == 0);
  CHECK_EQ(c->passed, 1200);
  for (i = 0; i < 4; i++) p[i] = fork_child(party_in_child, c);
  for (i = 0; i < 4; i++) CHECK_EQ(wait_child(p[i]), 0);
  CHECK_EQ(c->passed, 2400);
  CHECK_EQ(mp_barrier_broken(c->b), 0);
}

static void *take_turns (void *ud) { /* an even number of turns in all, so that nobody is left alone */
  struct crew *c = ud;
  while (mpi_fetch_add(&c->turns, 1) < 600) one_round(c);
  return NULL;
}

TEST("more users than parties take turns", .limit = 30) {
  struct crew *c = new_crew(2, MP_BARRIER_ACTION);
  pthread_t t[6];
  int i;
  for (i = 0; i < 6; i++) CHECK(pthread_create(&t[i], NULL, take_turns, c) == 0);
  for (i = 0; i < 6; i++) CHECK(pthread_join(t[i], NULL) == 0);
  CHECK_EQ(c->passed, 600);
  CHECK_EQ(c->acted, 300);
}

TEST("a timeout is the party's own; the others and all later get broken, until reset") {
  struct crew *c = new_crew(3, 0);
  pid_t a = waiting_party(c);
  c->timeout = 0.01;
  one_round(c);
  CHECK_EQ(c->timed_out, 1);
  CHECK_EQ(wait_child(a), 0);
  CHECK_EQ(c->broken, 1);
  CHECK_EQ(mp_barrier_broken(c->b), 1);
  one_round(c);
  CHECK_EQ(c->broken, 2);
  CHECK_OK(mp_barrier_reset(c->b));
  CHECK_EQ(mp_barrier_broken(c->b), 0);
  one_round(c);
  CHECK_EQ(c->timed_out, 2);
}

TEST("abort and reset break who waits; abort lasts") {
  struct crew *c = new_crew(3, 0);
  pid_t a = waiting_party(c), b = waiting_party(c);
  CHECK_OK(mp_barrier_reset(c->b));
  CHECK_EQ(wait_child(a), 0);
  CHECK_EQ(wait_child(b), 0);
  CHECK_EQ(c->broken, 2);
  CHECK_EQ(mp_barrier_broken(c->b), 0);
  a = waiting_party(c);
  CHECK_OK(mp_barrier_abort(c->b));
  CHECK_EQ(wait_child(a), 0);
  CHECK_EQ(c->broken, 3);
  CHECK_EQ(mp_barrier_broken(c->b), 1);
}

TEST("a party that is stopped while the barrier is broken and reset learns that it was broken") {
  struct crew *c = new_crew(2, 0);
  pid_t a = waiting_party(c), b;
  CHECK(kill(a, SIGSTOP) == 0);
  CHECK_OK(mp_barrier_reset(c->b));
  b = waiting_party(c);
  one_round(c);
  CHECK_EQ(wait_child(b), 0);
  CHECK_EQ(c->passed, 2);
  CHECK(kill(a, SIGCONT) == 0);
  CHECK_EQ(wait_child(a), 0);
  CHECK_EQ(c->broken, 1);
}

TEST("the death of any waiting party breaks it for all others", .limit = 30) {
  int victim, i;
  for (victim = 0; victim < 4; victim++) {
    struct crew *c = new_crew(5, 0);
    pid_t p[4];
    for (i = 0; i < 4; i++) p[i] = waiting_party(c);
    (void)usleep(5000);
    CHECK(kill(p[victim], SIGKILL) == 0);
    for (i = 0; i < 4; i++) CHECK_EQ(wait_child(p[i]), i == victim ? -SIGKILL : 0);
    CHECK_EQ(c->broken, 3);
    one_round(c);
    CHECK_EQ(c->broken, 4);
  }
}

TEST("also when neighbours die together", .limit = 30) {
  int round, i;
  for (round = 0; round < 5; round++) {
    struct crew *c = new_crew(6, 0);
    pid_t p[5];
    for (i = 0; i < 5; i++) p[i] = waiting_party(c);
    (void)usleep(3000);
    for (i = 0; i < 4; i++) CHECK(kill(p[(i + round) % 5], SIGSTOP) == 0); /* no living one in between */
    for (i = 0; i < 4; i++) CHECK(kill(p[(i + round) % 5], SIGKILL) == 0);
    for (i = 0; i < 4; i++) CHECK_EQ(wait_child(p[(i + round) % 5]), -SIGKILL);
    CHECK_EQ(wait_child(p[(4 + round) % 5]), 0);
    CHECK_EQ(c->broken, 1);
  }
}

TEST("the only waiting party's death is seen by who looks and by who comes next") {
  struct crew *c = new_crew(2, 0);
  pid_t a = waiting_party(c);
  CHECK(kill(a, SIGKILL) == 0);
  CHECK_EQ(wait_child(a), -SIGKILL);
  CHECK_EQ(mp_barrier_waiting(c->b), 0);
  CHECK_EQ(mp_barrier_broken(c->b), 1);
  one_round(c);
  CHECK_EQ(c->broken, 1);
}

TEST("nobody goes before the action is over; its failure breaks the barrier") {
  struct crew *c = new_crew(2, MP_BARRIER_ACTION);
  pid_t a = waiting_party(c), b;
  mpi_store(&c->stop_acting, 0);
  b = fork_child(party_in_child, c);
  CHECK(wait_until(mpi_load(&c->acting), 5000));
  (void)usleep(5000);
  CHECK_EQ(c->passed, 0);
  mpi_store(&c->stop_acting, 1);
  CHECK_EQ(wait_child(a), 0);
  CHECK_EQ(wait_child(b), 0);
  CHECK_EQ(c->passed, 2);
  mpi_store(&c->fail_action, 1);
  a = waiting_party(c);
  b = fork_child(party_in_child, c);
  CHECK_EQ(wait_child(a), 0);
  CHECK_EQ(wait_child(b), 0);
  CHECK_EQ(c->passed, 3); /* the runner's core call succeeded: it broke the barrier */
  CHECK_EQ(c->broken, 1);
  CHECK_EQ(mp_barrier_broken(c->b), 1);
}

TEST("the death of who runs the action breaks it for who waits and who comes", .limit = 30) {
  unsigned parties;
  for (parties = 1; parties <= 3; parties++) {
    struct crew *c = new_crew(parties, MP_BARRIER_ACTION);
    pid_t p[2], runner, late;
    unsigned i;
    for (i = 0; i + 1 < parties; i++) p[i] = waiting_party(c);
    mpi_store(&c->stop_acting, 0);
    runner = fork_child(party_in_child, c);
    CHECK(wait_until(mpi_load(&c->acting), 5000));
    late = fork_child(party_in_child, c);
    (void)usleep(10000);
    CHECK(kill(runner, SIGKILL) == 0);
    CHECK_EQ(wait_child(runner), -SIGKILL);
    for (i = 0; i + 1 < parties; i++) CHECK_EQ(wait_child(p[i]), 0);
    CHECK_EQ(wait_child(late), 0);
    CHECK_EQ(c->broken, parties);
  }
}

static void two_parties (void *ud) {
  pthread_t t;
  CHECK(pthread_create(&t, NULL, party, ud) == 0);
  (void)party(ud);
  (void)pthread_join(t, NULL);
}

/* Nobody is left who would tell the one that came during the action. */
TEST("the death of all parties in an action is seen by who comes meanwhile", .limit = 30) {
  struct crew *c = new_crew(2, MP_BARRIER_ACTION);
  pid_t both, late;
  mpi_store(&c->stop_acting, 0);
  both = fork_child(two_parties, c);
  CHECK(wait_until(mpi_load(&c->acting), 5000));
  late = fork_child(party_in_child, c);
  CHECK(wait_until(test_state(late) == 'S', 5000));
  (void)usleep(150000); /* past its first look */
  CHECK(kill(both, SIGKILL) == 0);
  CHECK_EQ(wait_child(both), -SIGKILL);
  CHECK_EQ(wait_child(late), 0);
  CHECK_EQ(c->broken, 1);
}

TEST("who takes the seat of a dead runner does not take it for alive", .limit = 30) {
  struct crew *c = new_crew(1, MP_BARRIER_ACTION);
  pid_t runner;
  mpi_store(&c->stop_acting, 0);
  runner = fork_child(party_in_child, c);
  CHECK(wait_until(mpi_load(&c->acting), 5000));
  CHECK(kill(runner, SIGKILL) == 0);
  CHECK_EQ(wait_child(runner), -SIGKILL);
  CHECK_EQ(wait_child(fork_child(party_in_child, c)), 0);
  CHECK_EQ(c->broken, 1);
}

static int yes (void *ud) { (void)ud; return 1; }

TEST("an interruption is the party's own; the others get broken") {
  struct crew *c = new_crew(2, 0);
  int rank, seat;
  mp_set_interrupt(yes, NULL);
  CHECK_EQ(mp_barrier_arrive(c->b, MP_NEVER, &rank, &seat), MP_EINTR);
  CHECK_EQ(mp_barrier_broken(c->b), 1);
}

TEST("a state that no correct peer writes is an error", .clean = 1) {
  mp_object *b = NULL;
  int rank, seat;
  volatile uint64_t *state;
  CHECK_OK(mp_barrier_new(2, 0, MP_NEVER, &b));
  state = (volatile uint64_t *)mpi_seg_at(&b->seg, sizeof(struct mpi_seghdr)) + 4;
  CHECK_EQ(*state, (uint64_t)1 << 32);
  *state = (uint64_t)1 << 32 | 0xffff; /* more have come than there are */
  CHECK_EQ(mp_barrier_arrive(b, 0, &rank, &seat), MP_ECORRUPT);
  *state = (uint64_t)1 << 32 | 3u << 16; /* no such phase */
  CHECK_EQ(mp_barrier_arrive(b, MP_NEVER, &rank, &seat), MP_ECORRUPT);
  mp_release(b);
}

#ifdef MP_FAULTS
/* Two parties, one of them dies at the point: the other must not wait for ever. */
static void pass_with_another (void *ud) {
  struct crew *c = ud;
  pthread_t t;
  c->timeout = 0.3;
  (void)pthread_create(&t, NULL, party, c);
  (void)party(c);
  (void)pthread_join(t, NULL);
}

static void works_after_reset (void *ud, const char *point) {
  struct crew *c = ud;
  pid_t a, b;
  c->timeout = 1e9; /* parties must not lose patience on a busy machine */
  (void)mp_barrier_broken(c->b);
  CHECK_OK(mp_barrier_reset(c->b));
  if (mp_barrier_waiting(c->b) != 0) FAIL("parties left after a death at %s", point);
  mpi_store(&c->passed, 0);
  a = waiting_party(c);
  b = waiting_party(c);
  one_round(c);
  CHECK_EQ(wait_child(a), 0);
  CHECK_EQ(wait_child(b), 0);
  CHECK_EQ(c->passed, 3);
}

TEST("a death at any point leaves a barrier that can be reset", .one_thread = 1, .limit = 100) {
  struct crew *c = new_crew(3, 0);
  CHECK(for_each_kill_point(2, pass_with_another, works_after_reset, c) >= 6);
}

TEST("no waiting party is forgotten, wherever another dies", .limit = 100) {
  static const char *const points[] = {"barrier.arrive.seated", "barrier.arrive.slot", "barrier.arrive.nudged", "barrier.arrive.stored",
                                       "barrier.end.decided", "barrier.end.announced", "barrier.end.stored", "waitq.announce.begin",
                                       "waitq.announce.counted", "waitq.announce.woken", "mutex.lock.taken"};
  unsigned i;
  for (i = 0; i < sizeof points / sizeof *points; i++) {
    struct crew *c = new_crew(3, 0);
    pid_t a = waiting_party(c), b = waiting_party(c);
    (void)usleep(3000);
    CHECK_EQ(run_killed_at(points[i], 1, party_in_child, c), -SIGKILL);
    c->timeout = 0.2;
    one_round(c); /* completes the three, or finds it broken, or is the first of the next generation */
    CHECK_EQ(wait_child(a), 0);
    CHECK_EQ(wait_child(b), 0);
    if (c->passed != 3 && c->broken != 3 && !(c->passed == 2 && c->timed_out == 1))
      FAIL("%u passed, %u broken, %u timed out, after a death at %s", c->passed, c->broken, c->timed_out, points[i]);
  }
}
#endif
