#include "shm/undo.h"

#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

#define LEAST_SIZE ((uint64_t)1 << 26)
#define MOST_SIZE ((uint64_t)1 << 33) /* ten thousand of them fit the address space */
#define LOG_KEPT 65536u /* pages of the log beyond this are given back after a change, if the container is small */

struct trailer { /* of a log entry, behind the old bytes (padded to 8): the log is read backwards */
  uint64_t off;
  uint64_t len;
};

size_t mpi_store_size (void) {
  uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES);
  uint64_t size = pages * MPI_PAGE / 4;
  if (size < LEAST_SIZE) size = LEAST_SIZE;
  if (size > MOST_SIZE) size = MOST_SIZE;
  if (size > mpi_seg_share()) size = mpi_seg_share() < LEAST_SIZE / 2 ? LEAST_SIZE / 2 : mpi_seg_share();
  return (size_t)(size & ~(uint64_t)(4 * MPI_CHUNK - 1));
}

int mpi_store_attach (struct mpi_object *o) {
  struct mpi_store *s = (struct mpi_store *)o;
  uint64_t size = o->seg.size;
  if (size < LEAST_SIZE / 2 || size % (4 * MPI_CHUNK) != 0)
    return mpi_fail(MP_ECORRUPT, "a container that arrived has an impossible size");
  s->root = (struct mpi_root *)(void *)(o->seg.base + sizeof(struct mpi_seghdr));
  s->rest = o->seg.base + MPI_PAGE;
  s->log_at = MPI_PAGE;
  s->heap_at = size / 4;
  s->heap_end = size;
  return 0;
}

int mpi_store_new (const struct mpi_type *t, struct mpi_store **out) {
  struct mpi_object *o;
  struct mpi_store *s;
  int rc = mpi_object_new(t, mpi_store_size(), &o);
  if (rc != 0) return rc;
  s = (struct mpi_store *)o;
  rc = mpi_store_attach(o);
  if (rc != 0) {
    mpi_object_abandon(o);
    return rc;
  }
  /* Only to spread keys differently in each container. */
  s->root->seed = ((uint64_t)mp_now() * 0x9e3779b97f4a7c15u) ^ ((uint64_t)getpid() << 32) ^ (uint64_t)(uintptr_t)s;
  *out = s;
  return 0;
}

/* ---- the log ---- */

static char *address (const struct mpi_store *s, uint64_t off) {
  return off < MPI_PAGE ? s->o.seg.base + off : s->rest + off;
}

/* What a log entry may restore: the root or the heap; not the lock word, not the log. */
static int restorable (const struct mpi_store *s, uint64_t off, uint64_t len) {
  const uint64_t from = sizeof(struct mpi_seghdr), to = from + sizeof(struct mpi_root);
  if (off >= from && off < to) return len <= to - off;
  return mpi_store_inside(s, off, len);
}

int mpi_undo_fail (struct mpi_store *s, int code, const char *sentence) {
  if (s->err == 0) s->err = mpi_fail(code, "%s", sentence);
  return s->err;
}

int mpi_undo_corrupt (struct mpi_store *s) {
  return mpi_undo_fail(s, MP_ECORRUPT, "the container's memory holds what no correct process writes");
}

int mpi_undo_save (struct mpi_store *s, const void *p, size_t len) {
  const char *c = p;
  uint64_t padded = (len + 7) & ~(uint64_t)7;
  uint64_t room = s->heap_at - s->log_at;
  uint64_t at = s->log;
  struct trailer t;
  char *to;
  if (s->err != 0) return 0;
  if (padded + sizeof t > room - at) {
    (void)mpi_undo_fail(s, MP_ENOMEM, "the change is too large for the container's log");
    return 0;
  }
  t.off = (uint64_t)(c < s->rest ? c - s->o.seg.base : c - s->rest);
  t.len = len;
  to = s->rest + s->log_at + at;
  MPI_POINT("undo.save.begin");
  if (len == 8) memcpy(to, p, 8);
  else memcpy(to, p, len);
  memcpy(to + padded, &t, sizeof t);
  mpi_compiler_barrier(); /* the entry is whole before the length covers it */
  MPI_POINT("undo.save.written");
  at += padded + sizeof t;
  s->log = at;
  mpi_store_relaxed(&s->root->log_len, at);
  mpi_compiler_barrier(); /* and covered before the caller overwrites */
  MPI_POINT("undo.save.logged");
  return 1;
}

/* May die anywhere and be repeated from the start: the entries restore fixed bytes, and the length stays until all is done. */
static int rollback (struct mpi_store *s) {
  uint64_t at = mpi_load_relaxed(&s->root->log_len);
  uint64_t room = s->heap_at - s->log_at;
  int rc = 0;
  while (at != 0) {
    struct trailer t;
    uint64_t padded;
    if (at > room || at % 8 != 0 || at < sizeof t) goto corrupt;
    memcpy(&t, s->rest + s->log_at + at - sizeof t, sizeof t);
    mpi_compiler_barrier(); /* a copy */
    if (t.len == 0 || !restorable(s, t.off, t.len)) goto corrupt;
    padded = (t.len + 7) & ~(uint64_t)7;
    if (padded > at - sizeof t) goto corrupt;
    at -= sizeof t + padded;
    memmove(address(s, t.off), s->rest + s->log_at + at, t.len);
    MPI_POINT("undo.rollback.restored");
  }
  goto done;
corrupt:
  rc = mpi_fail(MP_ECORRUPT, "the container's log holds what no correct process writes");
done:
  mpi_compiler_barrier();
  mpi_store_relaxed(&s->root->log_len, 0);
  mpi_compiler_barrier();
  MPI_POINT("undo.rollback.done");
  return rc;
}

/* A container whose changes are large keeps a log of half its size: new pages each time would cost more than the change. */
static void trim_log (struct mpi_store *s, uint64_t length) {
  uint64_t top = mpi_peek(&s->root->top), kept = LOG_KEPT;
  if (top > 2 && top < s->heap_end / MPI_CHUNK) kept = top * (MPI_CHUNK / 2);
  if (length > kept) mpi_seg_punch(&s->o.seg, s->log_at + kept, length - kept);
}

void mpi_undo_punch (struct mpi_store *s, uint64_t off, uint64_t len) {
  if (s->punches >= MPI_STORE_PUNCHES) return; /* the pages stay for the next user of the range */
  s->punch[s->punches].off = off;
  s->punch[s->punches].len = len;
  s->punches++;
}

int mpi_undo_end (struct mpi_store *s, int rc) {
  uint64_t length = s->log;
  int i;
  if (s->err != 0) rc = s->err;
  if (rc < 0) {
    if (length != 0 && rollback(s) != 0) rc = MP_ECORRUPT;
  } else {
    mpi_compiler_barrier(); /* all writes of the change come before the commit */
    MPI_POINT("undo.commit.before");
    mpi_store_relaxed(&s->root->log_len, 0);
    mpi_compiler_barrier();
    MPI_POINT("undo.commit.done");
    for (i = 0; i < s->punches; i++) {
      mpi_seg_punch(&s->o.seg, s->punch[i].off, s->punch[i].len);
      MPI_POINT("undo.commit.punched");
    }
  }
  trim_log(s, length);
  s->log = 0;
  s->err = 0;
  s->punches = 0;
  return rc;
}

/* ---- the lock ---- */

static mpi_a32 *lock_word (const struct mpi_store *s) {
  return mpi_seg_word(&s->o.seg, MPI_SEG_WORD0);
}

static int acquire (struct mpi_store *s, int64_t deadline) {
  mpi_a32 *word = lock_word(s);
  uint64_t length;
  int first, rc;
  if (mpi_load_relaxed(&s->mine) == mpi_tid() && s->depth > 0)
    return mpi_fail(MP_ECORRUPT, "the container's lock was overwritten while this thread holds it");
  /* A poll does not queue up, so that it costs the holder nothing. */
  if (deadline == 0 && (mpi_load_relaxed(word) & MPI_LOCK_TID) != 0) return MP_ETIMEDOUT;
  rc = mpi_mutex_lock(word, &s->mine, &first, deadline);
  if (rc == MP_EDEADLK) return mpi_fail(MP_ECORRUPT, "the container's lock names this thread, which does not hold it");
  if (rc < 0) return rc;
  s->depth = 0; /* what a forked child inherited, or a dead thread left, is void */
  length = mpi_load_relaxed(&s->root->log_len);
  if (__builtin_expect(length != 0, 0)) {
    rc = rollback(s);
    trim_log(s, length < s->heap_at - s->log_at ? length : s->heap_at - s->log_at);
    if (rc != 0) {
      (void)mpi_mutex_unlock(word, &s->mine);
      return rc;
    }
  }
  return 0;
}

int mpi_store_enter (struct mpi_store *s, int64_t deadline) {
  int rc = mpi_mutex_held(lock_word(s), &s->mine) ? 0 : acquire(s, deadline);
  if (rc == 0) mpi_undo_begin(s);
  return rc;
}

void mpi_store_leave (struct mpi_store *s) {
  if (s->depth == 0) (void)mpi_mutex_unlock(lock_word(s), &s->mine);
}

int mpi_store_hold (struct mpi_store *s, int64_t deadline) {
  if (!mpi_mutex_held(lock_word(s), &s->mine)) {
    int rc = acquire(s, deadline);
    if (rc != 0) return rc;
    mp_retain(&s->o); /* a held lock must stay mapped */
  }
  s->depth++;
  return 0;
}

int mpi_store_unhold (struct mpi_store *s) {
  if (s->depth <= 0 || mpi_load_relaxed(&s->mine) != mpi_tid()) return mpi_fail(MP_ENOTOWNER, "the calling thread does not hold the container");
  if (--s->depth > 0) return 0;
  (void)mpi_mutex_unlock(lock_word(s), &s->mine);
  mp_release(&s->o);
  return 0;
}
