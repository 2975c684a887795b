#include "shm/redeliver.h"

#include <limits.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "shm/carrier.h"
#include "shm/ring_impl.h"

/* Owner words: 0 nobody yet; SETTLED; else generation << 32 | seat + 1. */
#define SETTLED UINT64_MAX

struct record { /* one, as found; everything bounded */
  uint64_t at;    /* side word of its beginning */
  uint64_t after; /* side word behind it */
  mpi_a64 *owner;
  const char *payload;
  uint32_t size;
  uint32_t attempt; /* of its descriptors; 0: none */
};

/* The record at `side`, which lies before `end`. 1, 0 (there is none), or MP_ECORRUPT. */
static int record_at (const struct mpi_ring *r, uint64_t side, uint64_t end, struct record *rec) {
  int skips = 0;
  for (;;) {
    uint32_t off = pos_of(side);
    char *at = address(r, off);
    struct header h;
    uint64_t need, attempt = 0;
    if (count_of(side) == count_of(end)) return 0;
    if (off >= r->units || count_of(end) - count_of(side) > r->units) return mpi_fail(MP_ECORRUPT, "a ring's positions are impossible");
    memcpy(&h, at, sizeof h);
    __asm__ __volatile__("" ::: "memory");
    if (h.flags & SKIP) {
      if (h.size >= r->units || ++skips > SKIPS_MOST) return mpi_fail(MP_ECORRUPT, "a ring's skip is impossible");
      side = side_of(h.size, count_of(side));
      continue;
    }
    need = units_for(r, h.size, (h.flags & FDS) ? 1 : 0);
    if (need > r->units - off) return mpi_fail(MP_ECORRUPT, "a message's length is impossible");
    rec->at = side;
    rec->after = side_of(off + (uint32_t)need, count_of(side) + 1);
    rec->owner = (mpi_a64 *)(void *)(at + sizeof h);
    rec->payload = at + sizeof h + 8;
    rec->size = h.size;
    if (h.flags & FDS) {
      memcpy(&attempt, rec->payload, 8);
      rec->payload += 8;
    }
    rec->attempt = (uint32_t)attempt;
    return 1;
  }
}

/* Honest records are walked over at some nanoseconds each; a peer may lay a path of hundreds of millions that leads round and round. */
#define WALK_TIME (250 * MPI_NS_PER_MS)

struct walk {
  unsigned steps;
  int64_t until;
};

static int too_long (struct walk *w) {
  int64_t now;
  if ((++w->steps & 0xfff) != 0) return 0;
  now = mp_now();
  if (w->until == 0) w->until = now + WALK_TIME;
  if (now < w->until) return 0;
  (void)mpi_fail(MP_ECORRUPT, "a ring's records have no end");
  return 1;
}

static uint64_t name_of (const struct mpi_hands *h, int seat) {
  return (uint64_t)mpi_load(&h->s->generation[seat]) << 32 | (uint32_t)(seat + 1);
}

static int seats_used (const struct mpi_hands *h) {
  uint32_t n = mpi_load(&h->s->seats_used);
  return n > MPI_REDELIVER_SEATS ? MPI_REDELIVER_SEATS : (int)n;
}

/* Somebody has died with items in hand, as far as the seats tell. */
static int mourning (const struct mpi_hands *h) {
  int i, n = seats_used(h);
  if (mpi_load(&h->s->orphans) != 0) return 1;
  for (i = 0; i < n; i++)
    if (mpi_load_relaxed(&h->s->active[i]) && !mpi_seat_taken(&h->seats, i)) return 1;
  return 0;
}

int mpi_hands_held (const struct mpi_hands *h) {
  int i, n = seats_used(h);
  for (i = 0; i < n; i++)
    if (mpi_load_relaxed(&h->s->active[i])) return 1;
  return 0;
}

static int is_orphan (const struct mpi_hands *h, uint64_t owner) {
  uint32_t seat = (uint32_t)owner - 1;
  if (owner == 0 || owner == SETTLED) return 0;
  if (seat >= MPI_REDELIVER_SEATS) return 1; /* nonsense: nobody who could settle it */
  return !mpi_seat_taken(&h->seats, (int)seat) || name_of(h, (int)seat) != owner;
}

static int my_seat (const struct mpi_hands *h) {
  int i, n = seats_used(h);
  for (i = 0; i < n; i++)
    if (mpi_seat_mine(&h->seats, i)) return i;
  return -1;
}

/* ---- getting ---- */

static int copy_out (const struct mpi_hands *h, const struct record *rec, struct mpi_sink *sink) {
  const struct mpi_ring *r = h->r;
  int rc;
  if (rec->size > sink->room) {
    if (!believable(r, rec->size)) return mpi_fail(MP_ECORRUPT, "a message's length is impossible");
    sink->size = rec->size;
    return MP_E2BIG;
  }
  if (rec->attempt != 0) {
    rc = mpi_carrier_find_any(r->recv_fd, r->send_fd, count_of(rec->at) + 1, rec->attempt, count_of(mpi_load(&r->s->head)), sink->fds,
                              &sink->nfds);
    if (rc != 0) return rc;
  }
  memcpy(sink->data, rec->payload, rec->size);
  sink->size = rec->size;
  return 0;
}

/* The next item for the sitter of `seat`: the oldest orphan, else the first that waits. Latch held. 1 got, 0 none, or negative. */
static int take (const struct mpi_hands *h, int seat, struct mpi_sink *sink) {
  struct mpi_ring_shared *s = h->r->s;
  uint64_t cursor = mpi_load(&h->s->cursor);
  uint64_t tail = mpi_load_acquire(&s->tail);
  uint64_t side = mpi_load(&s->head);
  struct record rec;
  struct walk walk = {0, 0};
  int rc = 0, found = 0, orphan = 0;
  if (mpi_load(&s->closed) == 2) return 0;
  if (mourning(h)) {
    while ((rc = record_at(h->r, side, cursor, &rec)) == 1) {
      if (is_orphan(h, mpi_load(rec.owner))) {
        found = orphan = 1;
        break;
      }
      side = rec.after;
      if (too_long(&walk)) return MP_ECORRUPT;
    }
    if (rc < 0) return rc;
    if (!found) { /* all taken over: forget the dead */
      int i, n = seats_used(h);
      mpi_store(&h->s->orphans, 0);
      for (i = 0; i < n; i++)
        if (!mpi_seat_taken(&h->seats, i)) mpi_store_relaxed(&h->s->active[i], 0);
    }
  }
  if (!found) {
    rc = record_at(h->r, cursor, tail, &rec);
    if (rc != 1) return rc;
  }
  rc = copy_out(h, &rec, sink);
  if (rc != 0) return rc;
  mpi_store_relaxed(&h->s->active[seat], 1); /* before anything names the seat */
  MPI_POINT("redeliver.get.copied");
  if (!orphan) mpi_announce(&s->nonfull, 1);
  mpi_store(rec.owner, name_of(h, seat)); /* killed before the cursor moves: an owner that is dead, met at the cursor, is no obstacle */
  MPI_POINT("redeliver.get.owned");
  if (!orphan) mpi_store(&h->s->cursor, rec.after);
  MPI_POINT("redeliver.get.committed");
  return 1;
}

/* Is everything that was ever put settled? 1, 0, or negative. */
static int all_settled (const struct mpi_hands *h) {
  struct mpi_ring_shared *s = h->r->s;
  uint64_t side = mpi_load(&s->head);
  uint64_t cursor = mpi_load(&h->s->cursor);
  struct record rec;
  struct walk walk = {0, 0};
  int rc;
  if (mpi_load(&s->closed) == 2) return 1;
  if (count_of(mpi_load(&s->tail)) != count_of(cursor)) return 0;
  while ((rc = record_at(h->r, side, cursor, &rec)) == 1) {
    if (mpi_load(rec.owner) != SETTLED) return 0;
    side = rec.after;
    if (too_long(&walk)) return MP_ECORRUPT;
  }
  return rc == 0 ? 1 : rc;
}

int mpi_hands_ready (struct mpi_hands *h) { /* what is damaged is ready: a get says so */
  struct mpi_ring_shared *s = h->r->s;
  if (count_of(mpi_load(&s->tail)) != count_of(mpi_load(&h->s->cursor))) return 1;
  return mourning(h) || (mpi_load(&s->closed) != 0 && all_settled(h) != 0);
}

/* While spinning nothing is walked over. */
static int ready (void *ud) {
  const struct mpi_hands *h = ud;
  return count_of(mpi_load(&h->r->s->tail)) != count_of(mpi_load(&h->s->cursor)) || mourning(h);
}

/* Sleeps until there is something to get: on the ring's word for messages and on the seats of those who hold items, in one system call. By
** the holder of the turnstile. */
static int sleep_once (struct mpi_hands *h, int64_t deadline, int *slice) {
  struct mpi_ring_shared *s = h->r->s;
  struct mpi_watched list[MPI_SLEEP_MANY];
  int64_t until = deadline;
  int n = 1, more = 0, rc, i;
  int used = seats_used(h);
  list[0].word = &s->nonempty.seq;
  list[0].seen = mpi_load(&s->nonempty.seq);
  (void)mpi_fetch_add(&s->nonempty.sleepers, 2);
  (void)mpi_fetch_or(&s->nonempty.sleepers, 1);
  rc = mpi_latch_pass(&s->put_latch, deadline);
  if (rc == 0) rc = mpi_latch_pass(&s->get_latch, deadline);
  if (rc != 0) return rc;
  for (i = 0; i < used; i++) {
    if (!mpi_load_relaxed(&h->s->active[i])) continue;
    if (n == MPI_SLEEP_MANY - 1) {
      more = 1; /* more holders than one call can watch: look again soon */
      break;
    }
    list[n].word = mpi_seat_word(&h->seats, i);
    list[n].seen = mpi_seat_watch(&h->seats, i);
    if (list[n].seen != 0) n++;
  }
  if (mpi_hands_ready(h)) return 0;
  if (more && mp_now() + 50 * MPI_NS_PER_MS < deadline) until = mp_now() + 50 * MPI_NS_PER_MS;
  MPI_POINT("redeliver.get.sleep");
  rc = mpi_sleep_on_many(list, n, until, slice);
  return rc == MP_ETIMEDOUT && until < deadline ? 0 : rc;
}

static int wait_item (struct mpi_hands *h, int64_t deadline) {
  struct mpi_ring_shared *s = h->r->s;
  int slice = 0;
  int rc;
  if (deadline <= 0) return mpi_hands_ready(h) ? 0 : MP_ETIMEDOUT;
  if (mpi_ring_spin(h->r, &h->r->get_credit, ready, h)) return 0;
  rc = mpi_turnstile_enter(&s->get_turnstile, deadline);
  if (rc != 0) return rc;
  while (rc == 0 && !mpi_hands_ready(h)) rc = sleep_once(h, deadline, &slice);
  mpi_latch_unlock(&s->get_turnstile);
  return rc;
}

/* A seat for this thread: the one it has, or a new one (*fresh). */
static int sit (struct mpi_hands *h, int *fresh) {
  int seat = my_seat(h);
  *fresh = seat < 0;
  if (seat >= 0) return seat;
  seat = mpi_seat_find(&h->seats, MPI_REDELIVER_SEATS);
  if (seat == MP_EFULL) return mpi_fail(MP_ESYS, "more than %d processes hold items of this queue", MPI_REDELIVER_SEATS);
  return seat;
}

int mpi_hands_get (struct mpi_hands *h, struct mpi_sink *sink, int64_t deadline) {
  struct mpi_ring *r = h->r;
  struct mpi_ring_shared *s = r->s;
  int turns = 0;
  for (;;) {
    int fresh, rc;
    int seat = sit(h, &fresh);
    uint32_t closed;
    if (seat < 0) return seat;
    sink->size = 0;
    sink->nfds = 0;
    closed = mpi_load(&s->closed);
    rc = mpi_latch_lock(&s->get_latch, deadline);
    if (rc >= 0) {
      if (fresh) { /* a new generation: what the last sitter left is not ours */
        if (mpi_load_relaxed(&h->s->active[seat])) mpi_store(&h->s->orphans, 1);
        (void)mpi_fetch_add(&h->s->generation[seat], 1);
        if ((uint32_t)seat >= mpi_load(&h->s->seats_used)) mpi_store(&h->s->seats_used, (uint32_t)seat + 1);
      }
      rc = take(h, seat, sink);
      if (rc == 0 && closed != 0) {
        rc = all_settled(h);
        if (rc == 1) rc = MP_ECLOSED;
      }
      mpi_latch_unlock(&s->get_latch);
    }
    if (rc != 1 && fresh) (void)mpi_seat_leave(&h->seats, seat);
    if (rc == 1) {
      if (mpi_bell_rings(&s->bell) && !mpi_hands_ready(h)) mpi_ring_settle_bell(r, 1);
      return 0;
    }
    if (rc != 0) return rc;
    rc = wait_item(h, deadline);
    if (rc != 0) return rc;
    if (++turns > 4 && deadline != MP_NEVER && mp_now() >= deadline) return MP_ETIMEDOUT; /* a peer may make it seem ready for ever */
  }
}

/* ---- settling ---- */

/* Moves the head over what is settled, one record a store; their descriptors leave the carrier. Latch held. */
static void pop_settled (const struct mpi_hands *h) {
  const struct mpi_ring *r = h->r;
  struct mpi_ring_shared *s = r->s;
  uint64_t cursor = mpi_load(&h->s->cursor);
  struct record rec;
  struct walk walk = {0, 0};
  while (!too_long(&walk)) {
    uint64_t head = mpi_load(&s->head);
    uint64_t out = mpi_load_relaxed(&s->bytes_out[count_of(head) & 1]);
    if (record_at(r, head, cursor, &rec) != 1 || mpi_load(rec.owner) != SETTLED) return;
    if (rec.attempt != 0 && mpi_carrier_find_any(r->recv_fd, r->send_fd, count_of(rec.at) + 1, rec.attempt, count_of(head), NULL, NULL) == 0)
      mpi_carrier_drop_first(r->recv_fd);
    mpi_ring_commit_head(r, rec.after, out + rec.size);
  }
}

int mpi_hands_task_done (struct mpi_hands *h) {
  struct mpi_ring_shared *s = h->r->s;
  int seat = my_seat(h);
  int mine = 0, rc;
  uint64_t me, side, cursor;
  struct record rec, oldest;
  struct walk walk = {0, 0};
  if (seat < 0) return mpi_fail(MP_EMISUSE, "nothing that this process got is left to settle");
  rc = mpi_gate_enter(&s->get_latch, MP_NEVER);
  if (rc < 0) return rc;
  me = name_of(h, seat);
  side = mpi_load(&s->head);
  cursor = mpi_load(&h->s->cursor);
  while ((rc = record_at(h->r, side, cursor, &rec)) == 1) {
    if (mpi_load(rec.owner) == me && mine++ == 0) oldest = rec;
    if (mine == 2) break;
    side = rec.after;
    if (too_long(&walk)) {
      rc = MP_ECORRUPT;
      break;
    }
  }
  if (rc >= 0 && mine == 0) rc = mpi_fail(MP_EMISUSE, "nothing that this process got is left to settle");
  if (rc >= 0) {
    mpi_announce(&s->joiners, INT_MAX);
    if (mpi_load(&s->closed) != 0) {
      mpi_announce(&s->nonempty, INT_MAX); /* this may have been the last: getters learn that it is over */
      mpi_bell_ring_if_armed(&s->bell, (struct mpi_bell_fds){h->r->bell_fd, h->r->bell_fd});
    }
    MPI_POINT("redeliver.task_done.announced");
    mpi_store(oldest.owner, SETTLED);
    MPI_POINT("redeliver.task_done.settled");
    pop_settled(h);
    if (mine == 1) mpi_store_relaxed(&h->s->active[seat], 0);
    rc = 0;
  }
  mpi_latch_unlock(&s->get_latch);
  if (mine <= 1) (void)mpi_seat_leave(&h->seats, seat);
  return rc;
}

static int joined (void *ud) {
  return all_settled(ud);
}

int mpi_hands_join (struct mpi_hands *h, int64_t deadline) {
  struct mpi_ring_shared *s = h->r->s;
  int rc = all_settled(h), turns = 0;
  while (rc == 0) {
    if (deadline == 0 || (++turns > 4 && deadline != MP_NEVER && mp_now() >= deadline)) return MP_ETIMEDOUT;
    rc = mpi_waitq_wait2(&s->joiners, &s->get_latch, &s->put_latch, NULL, joined, h, deadline);
    if (rc == 0) rc = all_settled(h);
  }
  return rc < 0 ? rc : 0;
}

uint32_t mpi_hands_size (struct mpi_hands *h) {
  struct mpi_ring_shared *s = h->r->s;
  uint64_t head, tail, cursor, side;
  uint32_t orphans = 0;
  struct record rec;
  struct walk walk = {0, 0};
  int tries = 0;
  if (mpi_load(&s->closed) == 2) return 0;
  if (!mourning(h)) {
    for (;;) {
      cursor = mpi_load(&h->s->cursor);
      tail = mpi_load(&s->tail);
      if (mpi_load(&h->s->cursor) == cursor || ++tries > 1000) return count_of(tail) - count_of(cursor);
    }
  }
  if (mpi_latch_lock(&s->get_latch, 0) < 0) return 0;
  head = mpi_load(&s->head);
  cursor = mpi_load(&h->s->cursor);
  tail = mpi_load(&s->tail);
  for (side = head; record_at(h->r, side, cursor, &rec) == 1 && !too_long(&walk); side = rec.after) orphans += (uint32_t)is_orphan(h, mpi_load(rec.owner));
  mpi_latch_unlock(&s->get_latch);
  return count_of(tail) - count_of(cursor) + orphans;
}
