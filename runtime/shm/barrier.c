#include "shm/barrier.h"

#include <limits.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "shm/seat.h"
#include "shm/waitq.h"

#define LOOK (100 * MPI_NS_PER_MS)

enum { FILLING, ACTING, BROKEN };              /* phase */
enum { UNDECIDED, PASSED, BROKE };             /* a slot's outcome */

/* state: bits 0-15 arrived (0..parties) · 16-17 phase · 32-63 generation, from 1. Written by the holder of the gate. */
#define STATE(gen, phase, arrived) ((uint64_t)(uint32_t)(gen) << 32 | (uint64_t)(phase) << 16 | (uint64_t)(arrived))
#define GEN(v) ((uint32_t)((v) >> 32))
#define PHASE(v) ((int)((v) >> 16 & 3))
#define ARRIVED(v) ((int)((v) & 0xffff))

struct shared {
  mpi_latch gate;
  uint32_t parties, flags; /* these and timeout never change; copied when the handle is made */
  int64_t timeout;
  mpi_waitq q;
  mpi_a64 state;
};

struct slot { /* of a seat; written by the holder of the gate */
  mpi_waitq nudge;  /* one sleeper: the first to arrive, told of each that follows */
  mpi_a32 gen;      /* in which its sitter arrived; 0: it has not */
  mpi_a32 outcome;  /* to be read once the generation has ended */
};
_Static_assert(sizeof(struct slot) == 16, "a power of two");

struct barrier {
  struct mpi_object o;
  int parties;
  uint32_t flags;
  int64_t timeout;
  size_t slots_at, order_at;
  struct mpi_seats seats;
};

/* Parties of a generation that has ended may still be on their way out while the next arrive. */
static int seat_count (int parties) {
  return 2 * parties + 2;
}

static size_t round_up (size_t n) {
  return (n + MPI_PAGE - 1) & ~(size_t)(MPI_PAGE - 1);
}

static size_t slots_size (int parties) {
  return round_up((size_t)seat_count(parties) * sizeof(struct slot));
}

static size_t order_size (int parties) {
  return round_up((size_t)parties * sizeof(mpi_a32));
}

static size_t segment_size (int parties) {
  return MPI_PAGE + slots_size(parties) + order_size(parties) + mpi_seats_size(seat_count(parties));
}

static struct shared *shared_of (const struct barrier *b) {
  return mpi_seg_at(&b->o.seg, sizeof(struct mpi_seghdr));
}

static struct slot *slot_of (const struct barrier *b, int seat) {
  return (struct slot *)mpi_seg_at(&b->o.seg, b->slots_at) + seat;
}

static mpi_a32 *order_of (const struct barrier *b, int rank) { /* from 1: the seat of who arrived so */
  return (mpi_a32 *)mpi_seg_at(&b->o.seg, b->order_at) + (rank - 1);
}

/* What another process may have written is a seat only if it is in range. */
static int seat_at (const struct barrier *b, int rank) {
  uint32_t seat = mpi_load(order_of(b, rank));
  return seat < (uint32_t)b->seats.n ? (int)seat : 0;
}

static int attach (mp_object *o) {
  struct barrier *b = (struct barrier *)o;
  struct shared *s = shared_of(b);
  uint32_t parties = *(volatile uint32_t *)&s->parties;
  if (parties < 1 || parties > MPI_BARRIER_MOST || o->seg.size < segment_size((int)parties))
    return mpi_fail(MP_ECORRUPT, "a barrier that arrived is not one");
  b->parties = (int)parties;
  b->flags = *(volatile uint32_t *)&s->flags;
  b->timeout = *(volatile int64_t *)&s->timeout;
  if (b->timeout < 0) b->timeout = MP_NEVER;
  b->slots_at = MPI_PAGE;
  b->order_at = b->slots_at + slots_size(b->parties);
  return mpi_seats_init(&b->seats, o, b->order_at + order_size(b->parties), seat_count(b->parties));
}

static void detach (mp_object *o) {
  mpi_seats_fini(&((struct barrier *)o)->seats);
}

const struct mpi_type mpi_type_barrier = {
  .type = MPI_T_BARRIER, .name = "Barrier", .size = sizeof(struct barrier), .nfds = 1, .attach = attach, .detach = detach};

int mp_barrier_new (unsigned parties, unsigned flags, int64_t timeout_ns, mp_object **out) {
  mp_object *o = NULL;
  struct shared *s;
  int rc;
  if (parties < 1 || parties > MPI_BARRIER_MOST) return mpi_fail(MP_ERANGE, "a barrier has 1 to %d parties", MPI_BARRIER_MOST);
  if (flags & ~MP_BARRIER_ACTION) return mpi_fail(MP_EMISUSE, "unknown flags");
  rc = mpi_object_new(&mpi_type_barrier, segment_size((int)parties), &o);
  if (rc != 0) return rc;
  s = mpi_seg_at(&o->seg, sizeof(struct mpi_seghdr));
  s->parties = parties;
  s->flags = flags;
  s->timeout = timeout_ns;
  mpi_store(&s->state, STATE(1, FILLING, 0));
  rc = mpi_object_publish(o);
  if (rc != 0) mpi_object_abandon(o);
  else *out = o;
  return rc;
}

static int wrong_kind (mp_object *o) {
  return o->type == &mpi_type_barrier ? 0 : mpi_fail(MP_EMISUSE, "a Barrier expected, got a %s", o->type->name);
}

int64_t mpi_barrier_timeout (mp_object *o) {
  return ((struct barrier *)o)->timeout;
}

int mpi_barrier_has_action (mp_object *o) {
  return (((struct barrier *)o)->flags & MP_BARRIER_ACTION) != 0;
}

/* ---- under the gate ---- */

static int enter (struct barrier *b, int64_t deadline) {
  int before = mpi_interrupt_hold(1);
  int rc = mpi_gate_enter(&shared_of(b)->gate, deadline);
  (void)mpi_interrupt_hold(before);
  return rc < 0 ? rc : 0;
}

static void leave (struct barrier *b) {
  mpi_latch_unlock(&shared_of(b)->gate);
}

static int arrived (const struct barrier *b, uint64_t v) {
  return ARRIVED(v) < b->parties ? ARRIVED(v) : b->parties;
}

/* Ends the generation: all who arrived in it get the outcome. */
static void end_generation (struct barrier *b, uint64_t v, int outcome, int phase) {
  struct shared *s = shared_of(b);
  uint32_t next = GEN(v) + 1 == 0 ? 1 : GEN(v) + 1;
  int rank, n = arrived(b, v);
  for (rank = 1; rank <= n; rank++) {
    struct slot *t = slot_of(b, seat_at(b, rank));
    if (mpi_load(&t->gen) == GEN(v)) mpi_store(&t->outcome, outcome);
  }
  MPI_POINT("barrier.end.decided");
  mpi_announce(&s->q, INT_MAX);
  MPI_POINT("barrier.end.announced");
  mpi_store(&s->state, STATE(next, phase, 0));
  MPI_POINT("barrier.end.stored");
}

/* Has somebody died who arrived and waits, or runs the action? Then the barrier is broken now. Gives the state after. `newcomer`: the seat of who asks
** and has not arrived, or -1: who arrived in that seat has died, though it is taken again. */
static uint64_t check_parties (struct barrier *b, int newcomer) {
  struct shared *s = shared_of(b);
  uint64_t v = mpi_load(&s->state);
  int rank, n = arrived(b, v);
  if (PHASE(v) == BROKEN) return v;
  for (rank = 1; rank <= n; rank++)
    if (seat_at(b, rank) == newcomer || !mpi_seat_taken(&b->seats, seat_at(b, rank))) {
      end_generation(b, v, BROKE, BROKEN);
      break;
    }
  return mpi_load(&s->state);
}

/* ---- a party ---- */

static int sit_down (struct barrier *b, int64_t deadline) {
  for (;;) { /* full only while more than as many as there are parties are on their way out */
    int rc = mpi_seat_find(&b->seats, b->seats.n);
    int64_t now;
    if (rc != MP_EFULL) return rc;
    now = mp_now();
    if (now >= deadline) return MP_ETIMEDOUT;
    rc = mp_sleep(deadline - now > MPI_NS_PER_MS ? now + MPI_NS_PER_MS : deadline);
    if (rc != 0) return rc;
  }
}

static void stand_up (struct barrier *b, int seat) {
  (void)mpi_seat_leave(&b->seats, seat);
}

struct party {
  struct barrier *b;
  int seat, rank;
  uint32_t gen;
};

static int action_over (const struct barrier *b) {
  return PHASE(mpi_load(&shared_of(b)->state)) != ACTING;
}

/* Under the gate in phase FILLING. */
static void take_rank (struct party *p, uint64_t v) {
  struct barrier *b = p->b;
  struct shared *s = shared_of(b);
  struct slot *t = slot_of(b, p->seat);
  p->gen = GEN(v);
  p->rank = arrived(b, v) + 1;
  mpi_store(&t->outcome, UNDECIDED);
  mpi_store(&t->gen, p->gen);
  mpi_store(order_of(b, p->rank), (uint32_t)p->seat);
  MPI_POINT("barrier.arrive.slot");
  if (p->rank > 1) mpi_announce(&slot_of(b, seat_at(b, 1))->nudge, 1);
  MPI_POINT("barrier.arrive.nudged");
  if (p->rank < b->parties) {
    mpi_store(&s->state, STATE(p->gen, FILLING, p->rank));
  } else if (b->flags & MP_BARRIER_ACTION) {
    mpi_store(&s->state, STATE(p->gen, ACTING, p->rank));
  } else {
    end_generation(b, STATE(p->gen, FILLING, p->rank), PASSED, FILLING);
  }
  MPI_POINT("barrier.arrive.stored");
}

/* Waits while an action of the generation before runs, then arrives. */
static int arrive (struct party *p, int64_t deadline) {
  struct barrier *b = p->b;
  int slice = 0, turns = 0;
  for (;;) {
    struct shared *s = shared_of(b);
    uint32_t seen = mpi_load(&s->q.seq);
    uint64_t v;
    int64_t until;
    int rc;
    (void)mpi_fetch_add(&s->q.sleepers, 2);
    (void)mpi_fetch_or(&s->q.sleepers, 1);
    if (++turns > 1000 && deadline != MP_NEVER && mp_now() >= deadline) return MP_ETIMEDOUT; /* a peer makes actions come and go */
    rc = enter(b, deadline);
    if (rc != 0) return rc;
    v = mpi_load(&s->state);
    if (PHASE(v) > BROKEN || (PHASE(v) == FILLING && ARRIVED(v) >= b->parties)) { /* no correct peer leaves it so */
      leave(b);
      return mpi_fail(MP_ECORRUPT, "the barrier's memory is damaged");
    }
    v = check_parties(b, p->seat);
    if (PHASE(v) == FILLING) take_rank(p, v);
    leave(b);
    if (PHASE(v) == BROKEN) return MP_EBROKEN;
    if (PHASE(v) == FILLING) return 0;
    if (action_over(b)) continue;
    /* The runner's death is noticed by the ring, which tells us, if it is not dead as a whole: we look ourselves, too, as long as an action lasts. */
    until = mp_now() + LOOK < deadline ? mp_now() + LOOK : deadline;
    rc = mpi_sleep_on(&s->q.seq, seen, until, &slice);
    if (rc != 0 && !(rc == MP_ETIMEDOUT && until < deadline)) return rc;
  }
}

/* Whom to watch: the one before; for the first, the last so far. -1: nobody but ourselves is there. */
static int neighbour (const struct party *p, uint64_t v) {
  int rank = p->rank > 1 ? p->rank - 1 : arrived(p->b, v);
  return rank == p->rank ? -1 : seat_at(p->b, rank);
}

static int sleep_once (const struct party *p, uint64_t v, uint32_t seen, uint32_t nudged, int64_t deadline, int *slice) {
  struct barrier *b = p->b;
  struct slot *t = slot_of(b, p->seat);
  struct mpi_watched list[3] = {{&shared_of(b)->q.seq, seen}, {&t->nudge.seq, nudged}, {NULL, 0}};
  int seat = neighbour(p, v);
  int n = 2;
  if (seat >= 0) {
    list[2].word = mpi_seat_word(&b->seats, seat);
    list[2].seen = mpi_seat_watch(&b->seats, seat);
    if (list[2].seen == 0) return mpi_interrupted() ? MP_EINTR : 0; /* gone: next time we see why */
    n = 3;
  }
  MPI_POINT("barrier.wait.sleep");
  return mpi_sleep_on_many(list, n, deadline, slice);
}

static int sleep_until_ended (const struct party *p, int64_t deadline) {
  struct barrier *b = p->b;
  struct shared *s = shared_of(b);
  struct slot *t = slot_of(b, p->seat);
  int slice = 0, turns = 0;
  for (;;) {
    uint32_t seen = mpi_load(&s->q.seq);
    uint32_t nudged = mpi_load(&t->nudge.seq);
    uint64_t v;
    int rc;
    (void)mpi_fetch_add(&s->q.sleepers, 2);
    (void)mpi_fetch_or(&s->q.sleepers, 1);
    (void)mpi_fetch_add(&t->nudge.sleepers, 2);
    (void)mpi_fetch_or(&t->nudge.sleepers, 1);
    if (++turns > 1000 && deadline != MP_NEVER && mp_now() >= deadline) return MP_ETIMEDOUT; /* a peer makes the one before us come and go */
    rc = enter(b, deadline);
    if (rc != 0) return rc;
    v = mpi_load(&s->state);
    if (GEN(v) == p->gen && PHASE(v) == BROKEN) { /* a generation ends when it breaks */
      leave(b);
      return mpi_fail(MP_ECORRUPT, "the barrier's memory is damaged");
    }
    if (GEN(v) == p->gen) {
      int seat = neighbour(p, v);
      if (seat >= 0 && !mpi_seat_taken(&b->seats, seat)) v = check_parties(b, -1);
    }
    leave(b);
    if (GEN(v) != p->gen) return 0;
    rc = sleep_once(p, v, seen, nudged, deadline, &slice);
    if (rc != 0) return rc;
  }
}

/* rc: how the sleep ended. Who gives up breaks the barrier for the others, unless it was decided meanwhile. */
static int settle (const struct party *p, int rc) {
  struct barrier *b = p->b;
  struct shared *s = shared_of(b);
  struct slot *t = slot_of(b, p->seat);
  int rc2 = enter(b, mp_now() + MPI_GATE_PARTING); /* without us they find an empty seat */
  uint64_t v;
  if (rc2 != 0) return rc2 == MP_ETIMEDOUT && rc == 0 ? mpi_fail(MP_ECORRUPT, "a peer has been inside the barrier for long") : rc != 0 ? rc : rc2;
  v = mpi_load(&s->state);
  if (GEN(v) != p->gen) rc = mpi_load(&t->outcome) == PASSED ? 0 : MP_EBROKEN;
  else end_generation(b, v, BROKE, BROKEN);
  mpi_store(&t->gen, 0);
  leave(b);
  return rc;
}

int mp_barrier_arrive (mp_object *o, int64_t deadline, int *rank, int *seat) {
  struct party p = {(struct barrier *)o, -1, 0, 0};
  int rc = wrong_kind(o);
  if (rc != 0) return rc;
  rc = sit_down(p.b, deadline);
  if (rc < 0) return rc;
  p.seat = rc;
  MPI_POINT("barrier.arrive.seated");
  rc = arrive(&p, deadline);
  if (rc == 0) {
    if (p.rank == p.b->parties && (p.b->flags & MP_BARRIER_ACTION)) {
      *rank = p.rank;
      *seat = p.seat;
      return MP_BARRIER_RUN;
    }
    if (p.rank < p.b->parties) rc = sleep_until_ended(&p, deadline);
    rc = settle(&p, rc);
  }
  stand_up(p.b, p.seat);
  if (rc == 0) *rank = p.rank;
  return rc;
}

int mp_barrier_complete (mp_object *o, int seat, int succeeded) {
  struct barrier *b = (struct barrier *)o;
  struct slot *t;
  uint64_t v;
  int rc = wrong_kind(o);
  if (rc != 0) return rc;
  if (seat < 0 || seat >= b->seats.n || !mpi_seat_mine(&b->seats, seat))
    return mpi_fail(MP_EMISUSE, "the calling thread does not run this barrier's action");
  rc = enter(b, MP_NEVER);
  if (rc == 0) {
    t = slot_of(b, seat);
    v = mpi_load(&shared_of(b)->state);
    if (GEN(v) != mpi_load(&t->gen) || PHASE(v) != ACTING) rc = MP_EBROKEN; /* by a timeout, abort or reset meanwhile */
    else end_generation(b, v, succeeded ? PASSED : BROKE, succeeded ? FILLING : BROKEN);
    mpi_store(&t->gen, 0);
    leave(b);
  }
  stand_up(b, seat);
  return rc;
}

/* ---- from outside ---- */

static int end_from_outside (mp_object *o, int phase) {
  struct barrier *b = (struct barrier *)o;
  uint64_t v;
  int rc = wrong_kind(o);
  if (rc == 0) rc = enter(b, MP_NEVER);
  if (rc != 0) return rc;
  v = mpi_load(&shared_of(b)->state);
  if (PHASE(v) != phase || ARRIVED(v) > 0) end_generation(b, v, BROKE, phase);
  leave(b);
  return 0;
}

int mp_barrier_reset (mp_object *o) {
  return end_from_outside(o, FILLING);
}

int mp_barrier_abort (mp_object *o) {
  return end_from_outside(o, BROKEN);
}

static uint64_t look (mp_object *o) {
  struct barrier *b = (struct barrier *)o;
  uint64_t v = mpi_load(&shared_of(b)->state);
  int rank, n = arrived(b, v);
  for (rank = 1; rank <= n; rank++)
    if (!mpi_seat_taken(&b->seats, seat_at(b, rank))) {
      if (enter(b, 0) != 0) return v;
      v = check_parties(b, -1);
      leave(b);
      break;
    }
  return v;
}

int mp_barrier_parties (mp_object *o) {
  return wrong_kind(o) != 0 ? 0 : ((struct barrier *)o)->parties;
}

int mp_barrier_waiting (mp_object *o) {
  uint64_t v;
  if (wrong_kind(o) != 0) return 0;
  v = look(o);
  return PHASE(v) == FILLING ? arrived((struct barrier *)o, v) : 0;
}

int mp_barrier_broken (mp_object *o) {
  return wrong_kind(o) == 0 && PHASE(look(o)) == BROKEN;
}
