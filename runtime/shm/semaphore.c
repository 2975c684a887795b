#include "shm/semaphore.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/futex.h"
#include "base/spin.h"
#include "shm/seat.h"
#include "shm/waitq.h"

struct shared {
  mpi_latch gate;
  mpi_latch turnstile;
  mpi_waitq q;
  mpi_a32 count; /* free permits of a counted one: taken by anybody's compare-and-swap, given by the holder of the gate */
  uint32_t first, flags; /* never change; copied when the handle is made */
};

struct semaphore {
  struct mpi_object o;
  uint32_t first, flags;
  int credit;
  struct mpi_seats seats; /* owned only */
};

static struct shared *shared_of (mp_object *o) {
  return mpi_seg_at(&o->seg, sizeof(struct mpi_seghdr));
}

static size_t segment_size (uint32_t first, uint32_t flags) {
  return MPI_PAGE + (flags & MP_SEMAPHORE_OWNED ? mpi_seats_size((int)first) : 0);
}

static int attach (mp_object *o) {
  struct semaphore *m = (struct semaphore *)o;
  struct shared *s = shared_of(o);
  m->first = *(volatile uint32_t *)&s->first;
  m->flags = *(volatile uint32_t *)&s->flags;
  if (m->first > MPI_SEMAPHORE_MOST || (m->flags & ~(MP_SEMAPHORE_BOUNDED | MP_SEMAPHORE_OWNED)) != 0 ||
      ((m->flags & MP_SEMAPHORE_OWNED) && (m->first == 0 || m->first > MPI_SEMAPHORE_MOST_OWNED)) ||
      o->seg.size < segment_size(m->first, m->flags))
    return mpi_fail(MP_ECORRUPT, "a semaphore that arrived is not one");
  return m->flags & MP_SEMAPHORE_OWNED ? mpi_seats_init(&m->seats, o, MPI_PAGE, (int)m->first) : 0;
}

static void detach (mp_object *o) {
  mpi_seats_fini(&((struct semaphore *)o)->seats);
}

const struct mpi_type mpi_type_semaphore = {
  .type = MPI_T_SEMAPHORE, .name = "Semaphore", .size = sizeof(struct semaphore), .nfds = 1, .attach = attach, .detach = detach};

int mp_semaphore_new (unsigned permits, unsigned flags, mp_object **out) {
  mp_object *o = NULL;
  int rc;
  if ((flags & ~(MP_SEMAPHORE_BOUNDED | MP_SEMAPHORE_OWNED)) != 0) return mpi_fail(MP_EMISUSE, "unknown flags");
  if (permits > MPI_SEMAPHORE_MOST) return mpi_fail(MP_ERANGE, "at most %u permits", MPI_SEMAPHORE_MOST);
  if ((flags & MP_SEMAPHORE_OWNED) && (permits == 0 || permits > MPI_SEMAPHORE_MOST_OWNED))
    return mpi_fail(MP_ERANGE, "an owned semaphore has 1 to %u permits", MPI_SEMAPHORE_MOST_OWNED);
  rc = mpi_object_new(&mpi_type_semaphore, segment_size(permits, flags), &o);
  if (rc != 0) return rc;
  shared_of(o)->first = permits;
  shared_of(o)->flags = flags;
  mpi_store(&shared_of(o)->count, permits);
  rc = mpi_object_publish(o);
  if (rc != 0) mpi_object_abandon(o);
  else *out = o;
  return rc;
}

static int wrong_kind (mp_object *o) {
  return o->type == &mpi_type_semaphore ? 0 : mpi_fail(MP_EMISUSE, "a Semaphore expected, got a %s", o->type->name);
}

unsigned mpi_semaphore_first (mp_object *o) {
  return ((struct semaphore *)o)->first;
}

unsigned mpi_semaphore_flags (mp_object *o) {
  return ((struct semaphore *)o)->flags;
}

/* ---- counted ---- */

static int try_count (struct shared *s) {
  uint32_t v = mpi_load(&s->count);
  while ((int32_t)v > 0)
    if (mpi_cas(&s->count, &v, v - 1)) return 1;
  return 0;
}

static int take_count (void *ud) {
  return try_count(ud);
}

static int count_ready (void *ud) {
  return (int32_t)mpi_load(&((struct shared *)ud)->count) > 0;
}

static int acquire_counted (struct semaphore *m, struct shared *s, int64_t deadline) {
  int seen, turns = 0;
  if (try_count(s)) return 0;
  if (deadline == 0) return MP_ETIMEDOUT;
  seen = mpi_spin_until(&m->credit, 64, take_count, s);
  while (!seen) {
    int rc = mpi_waitq_wait(&s->q, &s->gate, &s->turnstile, count_ready, s, deadline);
    if (rc != 0) return try_count(s) ? 0 : rc;
    MPI_POINT("semaphore.acquire.woken");
    seen = try_count(s);
    if (!seen && ++turns > 4 && deadline != MP_NEVER && mp_now() >= deadline) return MP_ETIMEDOUT; /* a peer may flip the count for ever */
  }
  return 0;
}

static int release_counted (struct semaphore *m, struct shared *s, unsigned permits) {
  uint64_t after;
  int rc = mpi_gate_enter(&s->gate, MP_NEVER);
  if (rc < 0) return rc;
  after = (uint64_t)mpi_load(&s->count) + permits;
  rc = 0;
  if ((m->flags & MP_SEMAPHORE_BOUNDED) && after > m->first) {
    rc = MP_EMISUSE;
  } else if (after > MPI_SEMAPHORE_MOST) {
    rc = MP_ERANGE;
  } else {
    MPI_POINT("semaphore.release.begin");
    mpi_announce(&s->q, 1); /* the one at the turnstile; who follows it there looks first */
    MPI_POINT("semaphore.release.announced");
    (void)mpi_fetch_add(&s->count, permits);
    MPI_POINT("semaphore.release.stored");
  }
  mpi_latch_unlock(&s->gate);
  if (rc == MP_EMISUSE) return mpi_fail(rc, "released more often than acquired (its first value is %u)", m->first);
  if (rc == MP_ERANGE) return mpi_fail(rc, "more than %u free permits", MPI_SEMAPHORE_MOST);
  return 0;
}

/* ---- owned ---- */

/* By the holder of the turnstile: sleeps until some seat may have become free. */
static int sleep_on_seats (struct semaphore *m, int from, int64_t deadline, int *slice) {
  struct mpi_watched list[MPI_SLEEP_MANY];
  int total = m->seats.n;
  int n = total < MPI_SLEEP_MANY - 1 ? total : MPI_SLEEP_MANY - 1;
  int64_t until = deadline;
  int rc, i;
  for (i = 0; i < n; i++) {
    int seat = (from + i) % total;
    list[i].word = mpi_seat_word(&m->seats, seat);
    list[i].seen = mpi_seat_watch(&m->seats, seat);
    if (list[i].seen == 0) return 0;
  }
  for (i = n; i < total; i++)
    if (!mpi_seat_taken(&m->seats, (from + i) % total)) return 0;
  if (n < total && mp_now() + 50 * MPI_NS_PER_MS < deadline) until = mp_now() + 50 * MPI_NS_PER_MS;
  MPI_POINT("semaphore.acquire.sleep");
  rc = mpi_sleep_on_many(list, n, until, slice);
  return rc == MP_ETIMEDOUT && until < deadline ? 0 : rc;
}

static int all_taken (struct semaphore *m) {
  int i;
  for (i = 0; i < m->seats.n; i++)
    if (!mpi_seat_taken(&m->seats, i)) return 0;
  return 1;
}

static int acquire_owned (struct semaphore *m, struct shared *s, int64_t deadline) {
  int from = 0, turns = 0;
  for (;;) {
    int slice = 0;
    int rc = mpi_seat_find(&m->seats, m->seats.n);
    if (rc >= 0) return 0;
    if (rc != MP_EFULL) return rc;
    if (deadline == 0) return MP_ETIMEDOUT;
    rc = mpi_turnstile_enter(&s->turnstile, deadline);
    if (rc < 0) return rc;
    rc = 0;
    while (rc == 0 && all_taken(m)) {
      rc = sleep_on_seats(m, from, deadline, &slice);
      from = (from + MPI_SLEEP_MANY - 1) % m->seats.n;
    }
    mpi_latch_unlock(&s->turnstile); /* before sitting down: at most one word is pending */
    if (rc != 0) return rc;
    if (++turns > 4 && deadline != MP_NEVER && mp_now() >= deadline) return MP_ETIMEDOUT; /* a peer may make seats look free that are not */
  }
}

static int release_owned (struct semaphore *m, unsigned permits) {
  unsigned have = 0;
  int i;
  for (i = 0; i < m->seats.n; i++) have += (unsigned)mpi_seat_mine(&m->seats, i);
  if (have < permits)
    return mpi_fail(MP_ENOTOWNER, have == 0 ? "the calling thread has no permit" : "the calling thread has only %u of so many permits", have);
  for (i = 0; i < m->seats.n && permits > 0; i++)
    if (mpi_seat_mine(&m->seats, i)) {
      int rc = mpi_seat_leave(&m->seats, i);
      if (rc != 0) return mpi_fail(rc, "a permit of the calling thread was overwritten");
      permits--;
    }
  return 0;
}

/* ---- both ---- */

int mp_semaphore_acquire (mp_object *o, int64_t deadline) {
  struct semaphore *m = (struct semaphore *)o;
  int rc = wrong_kind(o);
  if (rc != 0) return rc;
  return m->flags & MP_SEMAPHORE_OWNED ? acquire_owned(m, shared_of(o), deadline) : acquire_counted(m, shared_of(o), deadline);
}

int mp_semaphore_release (mp_object *o, unsigned permits) {
  struct semaphore *m = (struct semaphore *)o;
  int rc = wrong_kind(o);
  if (rc != 0) return rc;
  return m->flags & MP_SEMAPHORE_OWNED ? release_owned(m, permits) : release_counted(m, shared_of(o), permits);
}

int mp_semaphore_value (mp_object *o) {
  struct semaphore *m = (struct semaphore *)o;
  uint32_t v = 0;
  int i;
  if (wrong_kind(o) != 0) return 0;
  if (!(m->flags & MP_SEMAPHORE_OWNED)) {
    v = mpi_load(&shared_of(o)->count);
    return (int32_t)v > 0 ? (int)v : 0;
  }
  for (i = 0; i < m->seats.n; i++) v += !mpi_seat_taken(&m->seats, i);
  return (int)v;
}
