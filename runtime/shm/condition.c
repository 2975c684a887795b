#include "shm/condition.h"

#include <limits.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "shm/seat.h"
#include "shm/waitq.h"

#define N MPI_CONDITION_WAITERS

enum { FREE, WAITING, NOTIFIED };

struct shared {
  mpi_latch gate;
  mpi_a32 used;    /* seats that were ever taken: the first `used` ones. Grows only */
  mpi_a64 tickets; /* given out so far */
};

struct slot { /* written by the holder of the gate */
  mpi_waitq q; /* one sleeper: whose seat it is */
  mpi_a32 state;
  uint32_t unused;
  mpi_a64 ticket;
  uint64_t unused2;
};
_Static_assert(sizeof(struct slot) == 32 && MPI_PAGE % sizeof(struct slot) == 0, "no slot crosses a page");

#define SLOTS_SIZE ((N * sizeof(struct slot) + MPI_PAGE - 1) & ~(size_t)(MPI_PAGE - 1))

struct condition {
  struct mpi_object o;
  mp_object *_Atomic lock;
  struct mpi_seats seats;
};

static struct shared *shared_of (mp_object *o) {
  return mpi_seg_at(&o->seg, sizeof(struct mpi_seghdr));
}

static struct slot *slot_of (struct condition *c, int i) {
  return (struct slot *)mpi_seg_at(&c->o.seg, MPI_PAGE) + i;
}

static int attach (mp_object *o) {
  if (o->seg.size < MPI_PAGE + SLOTS_SIZE + mpi_seats_size(N)) return mpi_fail(MP_ECORRUPT, "a condition that arrived is not one");
  return mpi_seats_init(&((struct condition *)o)->seats, o, MPI_PAGE + SLOTS_SIZE, N);
}

static void detach (mp_object *o) {
  mpi_seats_fini(&((struct condition *)o)->seats);
  mp_release(((struct condition *)o)->lock);
}

const struct mpi_type mpi_type_condition = {
  .type = MPI_T_CONDITION, .name = "Condition", .size = sizeof(struct condition), .nfds = 1, .attach = attach, .detach = detach};

int mpi_condition_set_lock (mp_object *o, mp_object *lock) {
  mp_object *none = NULL;
  if (!mpi_is_lock(lock)) return mpi_fail(MP_EMISUSE, "a Lock or RLock expected, got a %s", lock->type->name);
  mp_retain(lock);
  if (!atomic_compare_exchange_strong(&((struct condition *)o)->lock, &none, lock)) mp_release(lock);
  return 0;
}

mp_object *mpi_condition_lock (mp_object *o) {
  return atomic_load(&((struct condition *)o)->lock);
}

int mp_condition_new (mp_object *lock, mp_object **out) {
  mp_object *o = NULL, *made = NULL;
  int rc = 0;
  if (lock == NULL) rc = mp_rlock_new(&made);
  if (rc != 0) return rc;
  rc = mpi_object_new(&mpi_type_condition, MPI_PAGE + SLOTS_SIZE + mpi_seats_size(N), &o);
  if (rc == 0) {
    rc = mpi_condition_set_lock(o, made != NULL ? made : lock);
    if (rc == 0) rc = mpi_object_publish(o);
    if (rc != 0) {
      mp_release(((struct condition *)o)->lock);
      mpi_object_abandon(o);
    }
  }
  mp_release(made);
  if (rc == 0) *out = o;
  return rc;
}

static int ready_to_use (mp_object *o, mp_object **lock) {
  if (o->type != &mpi_type_condition) return mpi_fail(MP_EMISUSE, "a Condition expected, got a %s", o->type->name);
  if (*lock == NULL) *lock = mpi_condition_lock(o);
  if (*lock == NULL) return mpi_fail(MP_EMISUSE, "the condition came without its lock");
  if (!mp_lock_held(*lock)) return mpi_fail(MP_EMISUSE, "the condition's lock is not held by the calling thread");
  return 0;
}

/* ---- under the gate ---- */

static int used (struct condition *c) {
  uint32_t n = mpi_load(&shared_of(&c->o)->used);
  return n < N ? (int)n : N;
}

/* The oldest living waiter, or -1. Who died waiting is forgotten on the way. */
static int oldest (struct condition *c) {
  uint64_t best = UINT64_MAX;
  int found = -1;
  int i, n = used(c);
  for (i = 0; i < n; i++) {
    struct slot *t = slot_of(c, i);
    if (mpi_load(&t->state) != WAITING) continue;
    if (!mpi_seat_taken(&c->seats, i)) mpi_store(&t->state, FREE);
    else if (mpi_load_relaxed(&t->ticket) < best) {
      best = mpi_load_relaxed(&t->ticket);
      found = i;
    }
  }
  return found;
}

static void notify_slot (struct condition *c, int i) {
  struct slot *t = slot_of(c, i);
  MPI_POINT("condition.notify.begin");
  mpi_announce(&t->q, 1);
  MPI_POINT("condition.notify.announced");
  mpi_store(&t->state, NOTIFIED);
  MPI_POINT("condition.notify.stored");
}

/* Who was notified and died before it had its lock back: the oldest waiter is notified instead. Killed in the middle we leave one
** notification too many, never one too few. */
static void hand_on (struct condition *c) {
  int i, n = used(c);
  for (i = 0; i < n; i++) {
    struct slot *t = slot_of(c, i);
    int heir;
    if (mpi_load(&t->state) != NOTIFIED || mpi_seat_taken(&c->seats, i)) continue;
    heir = oldest(c);
    if (heir >= 0) notify_slot(c, heir);
    MPI_POINT("condition.handon.done");
    mpi_store(&t->state, FREE);
  }
}

/* The next older one who has not left yet, or -1. */
static int older (struct condition *c, uint64_t ticket, uint64_t *its) {
  int found = -1;
  int i, n = used(c);
  for (i = 0; i < n; i++) {
    struct slot *t = slot_of(c, i);
    uint64_t k = mpi_load_relaxed(&t->ticket);
    if (mpi_load(&t->state) == FREE || k >= ticket || (found >= 0 && k < *its)) continue;
    if (!mpi_seat_taken(&c->seats, i)) {
      if (mpi_load(&t->state) == WAITING) mpi_store(&t->state, FREE); /* else: died since hand_on; the watch fails and we look again */
      else {
        found = i;
        *its = k;
      }
      continue;
    }
    found = i;
    *its = k;
  }
  return found;
}

/* ---- waiting ---- */

static int sit_down (struct condition *c) {
  struct shared *s = shared_of(&c->o);
  for (;;) {
    uint32_t n = mpi_load(&s->used);
    int i = mpi_seat_find(&c->seats, used(c));
    if (i != MP_EFULL) return i;
    if (n >= N) return mpi_fail(MP_EMISUSE, "more than %d threads wait on one condition", N);
    (void)mpi_cas(&s->used, &n, n + 1); /* before anybody sits there, so that scans see it */
  }
}

static int enter (struct condition *c, int64_t deadline) {
  int rc = mpi_gate_enter(&shared_of(&c->o)->gate, deadline);
  return rc < 0 ? rc : 0;
}

static int register_waiter (struct condition *c, int i, uint64_t *ticket, int64_t deadline) {
  struct shared *s = shared_of(&c->o);
  struct slot *t = slot_of(c, i);
  int before = mpi_interrupt_hold(1);
  int rc = enter(c, deadline);
  (void)mpi_interrupt_hold(before);
  if (rc != 0) return rc;
  if (mpi_load(&t->state) == NOTIFIED) { /* left by a dead one whose seat we have: hand_on would take us for it */
    int heir = oldest(c);
    if (heir >= 0) notify_slot(c, heir);
  }
  hand_on(c);
  *ticket = mpi_fetch_add(&s->tickets, 1);
  mpi_store(&t->ticket, *ticket);
  MPI_POINT("condition.wait.ticket");
  mpi_store(&t->state, WAITING);
  MPI_POINT("condition.wait.registered");
  mpi_latch_unlock(&s->gate);
  return 0;
}

/* 0: look again. */
static int sleep_once (struct condition *c, struct slot *t, uint32_t seen, int before_us, uint64_t its, int64_t deadline, int *slice) {
  struct mpi_watched list[2] = {{&t->q.seq, seen}, {NULL, 0}};
  int n = 1;
  if (before_us >= 0) {
    list[1].word = mpi_seat_word(&c->seats, before_us);
    list[1].seen = mpi_seat_watch(&c->seats, before_us);
    if (list[1].seen == 0 || mpi_load(&slot_of(c, before_us)->ticket) != its) /* gone; another may sit there now */
      return mpi_interrupted() ? MP_EINTR : 0;
    n = 2;
  }
  MPI_POINT("condition.wait.sleep");
  return mpi_sleep_on_many(list, n, deadline, slice);
}

static int sleep_until_notified (struct condition *c, int i, uint64_t ticket, int64_t deadline) {
  struct slot *t = slot_of(c, i);
  int slice = 0, turns = 0;
  for (;;) {
    uint32_t seen = mpi_load(&t->q.seq);
    uint64_t its = 0;
    int before_us, state, rc;
    (void)mpi_fetch_add(&t->q.sleepers, 2);
    (void)mpi_fetch_or(&t->q.sleepers, 1);
    rc = enter(c, deadline);
    if (rc != 0) return rc;
    hand_on(c);
    state = (int)mpi_load(&t->state);
    before_us = older(c, ticket, &its);
    mpi_latch_unlock(&shared_of(&c->o)->gate);
    if (state != WAITING) return 0;
    rc = sleep_once(c, t, seen, before_us, its, deadline, &slice);
    if (rc != 0) return rc;
    if (++turns > 1000 && deadline != MP_NEVER && mp_now() >= deadline) return MP_ETIMEDOUT; /* a peer makes the one before us come and go */
  }
}

/* Gives up the seat. rc: how the sleep ended; what came meanwhile counts. An interrupted waiter leaves its notification to another; if there
** is none it keeps it, and its caller learns of the interruption a moment later. */
static int stand_up (struct condition *c, int i, int rc) {
  struct slot *t = slot_of(c, i);
  int before = mpi_interrupt_hold(1);
  int rc2 = enter(c, mp_now() + MPI_GATE_PARTING); /* without us they find an empty seat, and do what we could not */
  (void)mpi_interrupt_hold(before);
  if (rc2 == 0) {
    if (mpi_load(&t->state) == NOTIFIED) {
      int heir = rc == MP_EINTR ? oldest(c) : -1;
      if (heir >= 0) notify_slot(c, heir);
      else rc = rc == MP_ECORRUPT ? rc : 0;
    }
    MPI_POINT("condition.leave.begin");
    mpi_store(&t->state, FREE);
    hand_on(c);
    mpi_latch_unlock(&shared_of(&c->o)->gate);
  } else if (rc == 0) {
    rc = rc2;
  }
  (void)mpi_seat_leave(&c->seats, i);
  return rc;
}

int mp_condition_wait (mp_object *o, mp_object *lock, int64_t deadline) {
  return mpi_condition_wait(o, lock, deadline, MP_NEVER);
}

int mpi_condition_wait (mp_object *o, mp_object *lock, int64_t deadline, int64_t patience) {
  struct condition *c = (struct condition *)o;
  uint64_t ticket = 0;
  unsigned depth = 0;
  int i, rc, again;
  rc = ready_to_use(o, &lock);
  if (rc != 0) return rc;
  i = sit_down(c);
  if (i < 0) return i;
  rc = register_waiter(c, i, &ticket, deadline);
  if (rc == 0) rc = mpi_lock_give_up(lock, &depth);
  if (rc != 0) {
    (void)stand_up(c, i, rc);
    return rc;
  }
  MPI_POINT("condition.wait.unlocked");
  rc = sleep_until_notified(c, i, ticket, deadline);
  MPI_POINT("condition.wait.woken");
  again = mpi_lock_take_again(lock, depth, patience == MP_NEVER ? MP_NEVER : mp_now() + patience);
  MPI_POINT("condition.wait.locked");
  rc = stand_up(c, i, rc);
  if (again == MP_ETIMEDOUT) return mpi_fail(MP_ECORRUPT, "the condition's lock is held for too long; the caller does not have it");
  if (again < 0) return again;
  return rc == 0 ? again : rc;
}

/* ---- notifying ---- */

int mp_condition_notify (mp_object *o, mp_object *lock, unsigned n) {
  struct condition *c = (struct condition *)o;
  int before, i;
  int rc = ready_to_use(o, &lock);
  if (rc != 0) return rc;
  before = mpi_interrupt_hold(1); /* a notification is not to be repeated */
  rc = enter(c, MP_NEVER);
  (void)mpi_interrupt_hold(before);
  if (rc != 0) return rc;
  hand_on(c);
  if (n >= (unsigned)used(c)) {
    for (i = 0; i < used(c); i++)
      if (mpi_load(&slot_of(c, i)->state) == WAITING) notify_slot(c, i);
  } else {
    while (n-- > 0 && (i = oldest(c)) >= 0) notify_slot(c, i);
  }
  mpi_latch_unlock(&shared_of(o)->gate);
  return 0;
}

int mpi_condition_waiters (mp_object *o) {
  struct condition *c = (struct condition *)o;
  int i, n = 0;
  for (i = 0; i < used(c); i++) n += mpi_load(&slot_of(c, i)->state) == WAITING && mpi_seat_taken(&c->seats, i);
  return n;
}
