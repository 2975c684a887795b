#include "shm/event.h"

#include <limits.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/spin.h"
#include "shm/bell.h"
#include "shm/waitq.h"

struct shared {
  mpi_latch gate;
  mpi_a32 state; /* written by the holder of the gate, one store a change; read by anybody */
  mpi_waitq q;
  mpi_bell bell;
};

struct event {
  struct mpi_object o;
  int credit; /* whether spinning pays on this object */
};

static int attach (mp_object *o) {
  return mpi_bell_fits(o->fds[1]) ? 0 : mpi_fail(MP_ECORRUPT, "an event that arrived is not one");
}

const struct mpi_type mpi_type_event = {.type = MPI_T_EVENT, .name = "Event", .size = sizeof(struct event), .nfds = 2, .attach = attach};

static struct shared *shared_of (mp_object *o) {
  return mpi_seg_at(&o->seg, sizeof(struct mpi_seghdr));
}

static struct mpi_bell_fds fds_of (mp_object *o) {
  return (struct mpi_bell_fds){o->fds[1], o->fds[1]};
}

int mp_event_new (mp_object **out) {
  mp_object *o = NULL;
  int rc = mpi_object_new(&mpi_type_event, MPI_PAGE, &o);
  if (rc != 0) return rc;
  rc = mpi_eventfd();
  if (rc >= 0) {
    o->fds[1] = rc;
    rc = mpi_object_publish(o);
  }
  if (rc != 0) mpi_object_abandon(o);
  else *out = o;
  return rc;
}

static int wrong_kind (mp_object *o) {
  return o->type == &mpi_type_event ? 0 : mpi_fail(MP_EMISUSE, "an Event expected, got a %s", o->type->name);
}

/* Enters the gate; after somebody died inside, the bell is put right. */
static int enter (mp_object *o, int64_t deadline) {
  struct shared *s = shared_of(o);
  int rc = wrong_kind(o);
  if (rc == 0) rc = mpi_gate_enter(&s->gate, deadline);
  if (rc == MP_ABANDONED) {
    mpi_bell_settle(&s->bell, fds_of(o), (int)(mpi_load(&s->state) & 1));
    rc = 0;
  }
  return rc;
}

int mp_event_set (mp_object *o) {
  struct shared *s = shared_of(o);
  uint32_t v;
  int rc = enter(o, MP_NEVER);
  if (rc != 0) return rc;
  v = mpi_load(&s->state);
  if (!(v & 1)) {
    MPI_POINT("event.set.begin");
    mpi_announce(&s->q, INT_MAX);
    mpi_bell_ring_if_armed(&s->bell, fds_of(o));
    MPI_POINT("event.set.announced");
    mpi_store(&s->state, v + 3); /* flag, and one more time set */
    MPI_POINT("event.set.stored");
  }
  mpi_latch_unlock(&s->gate);
  return 0;
}

int mp_event_clear (mp_object *o) {
  struct shared *s = shared_of(o);
  uint32_t v;
  int rc = enter(o, MP_NEVER);
  if (rc != 0) return rc;
  v = mpi_load(&s->state);
  if (v & 1) {
    MPI_POINT("event.clear.begin");
    mpi_store(&s->state, v & ~1u);
    MPI_POINT("event.clear.stored");
    mpi_bell_silence(&s->bell, fds_of(o));
  }
  mpi_latch_unlock(&s->gate);
  return 0;
}

int mp_event_is_set (mp_object *o) {
  return o->type == &mpi_type_event && (mpi_load(&shared_of(o)->state) & 1);
}

struct waiting {
  struct shared *s;
  uint32_t since;
};

static int happened (void *ud) {
  const struct waiting *w = ud;
  uint32_t v = mpi_load(&w->s->state);
  return (v & 1) || (v | 1) != (w->since | 1);
}

static int look_for_a_while (struct event *e, struct waiting *w) {
  return mpi_spin_until(&e->credit, 4, happened, w);
}

int mp_event_wait (mp_object *o, int64_t deadline) {
  struct waiting w = {shared_of(o), 0};
  int rc = wrong_kind(o);
  if (rc != 0) return rc;
  w.since = mpi_load(&w.s->state);
  if (w.since & 1) return 0;
  if (deadline == 0) return MP_ETIMEDOUT;
  if (look_for_a_while((struct event *)o, &w)) return 0;
  do {
    rc = mpi_waitq_wait(&w.s->q, &w.s->gate, NULL, happened, &w, deadline);
    if (rc == 0 && !happened(&w) && deadline != MP_NEVER && mp_now() >= deadline) rc = MP_ETIMEDOUT; /* a peer flips the flag */
  } while (rc == 0 && !happened(&w));
  return rc != 0 && happened(&w) ? 0 : rc;
}

int mpi_event_fd (mp_object *o, int *fd) {
  struct shared *s = shared_of(o);
  int ready;
  int rc = enter(o, mp_now() + MPI_GATE_PARTING);
  if (rc == MP_ETIMEDOUT) return mpi_fail(MP_ECORRUPT, "a peer has been inside the object for long");
  if (rc != 0) return rc;
  ready = (int)(mpi_load(&s->state) & 1);
  mpi_bell_arm(&s->bell, fds_of(o), ready);
  if (!ready) mpi_bell_settle(&s->bell, fds_of(o), 0);
  mpi_latch_unlock(&s->gate);
  *fd = o->fds[1];
  return 0;
}
