#include "shm/undo.h"

#include <signal.h>

#include "shm/dict.h"
#include "test/test.h"

#define N 64

static struct mpi_store *new_store (void) {
  mp_object *o = NULL;
  CHECK_OK(mp_dict_new(&o));
  return (struct mpi_store *)o;
}

static uint64_t *cells (struct mpi_store *s) { /* a piece of the heap as plain words */
  return mpi_store_at(s, s->heap_at + MPI_CHUNK);
}

/* Moves every word to the next one: half done it is a sight. */
static void rotate (void *arg) {
  struct mpi_store *s = arg;
  uint64_t *p = cells(s), last = p[N - 1];
  int i;
  CHECK_OK(mpi_store_enter(s, MP_NEVER));
  for (i = N - 1; i > 0; i--) mpi_put(s, &p[i], p[i - 1]);
  mpi_put(s, &p[0], last);
  if (mpi_undo_save(s, s->root->word, sizeof s->root->word)) memset(s->root->word, 7, sizeof s->root->word);
  CHECK_OK(mpi_undo_end(s, 0));
  mpi_store_leave(s);
}

static void reset (struct mpi_store *s) {
  int i;
  CHECK_OK(mpi_store_enter(s, MP_NEVER));
  for (i = 0; i < N; i++) cells(s)[i] = (uint64_t)i;
  memset(s->root->word, 0, sizeof s->root->word);
  mpi_store_leave(s);
}

/* 0: as reset has left it, 1: rotated, -1: neither. */
static int rotated (struct mpi_store *s) {
  int i, old = 0, new = 0;
  for (i = 0; i < N; i++) {
    old += cells(s)[i] == (uint64_t)i;
    new += cells(s)[i] == (uint64_t)((i + N - 1) % N);
  }
  if (old == N && s->root->word[3] == 0) return 0;
  return new == N && s->root->word[3] == 0x0707070707070707u ? 1 : -1;
}

TEST("a change killed at any point is whole or undone", .limit = 60) {
  struct mpi_store *s = new_store();
  int nth, status = 1, undone = 0, whole = 0;
  for (nth = 1; status != 0; nth += 7) {
    reset(s);
    status = run_killed_at("*", nth, rotate, s);
    CHECK_OK(mpi_store_enter(s, MP_NEVER));
    switch (rotated(s)) {
      case 0: undone++; break;
      case 1: whole++; break;
      default: FAIL("killed at point %d: neither old nor new", nth);
    }
    mpi_store_leave(s);
  }
  CHECK(undone > 10 && whole > 0);
}

TEST("an error undoes what was done, and writes nothing more") {
  struct mpi_store *s = new_store();
  reset(s);
  CHECK_OK(mpi_store_enter(s, MP_NEVER));
  mpi_put(s, &cells(s)[1], 100);
  CHECK_ERR(mpi_undo_fail(s, MP_ERANGE, "so"), MP_ERANGE);
  CHECK_ERR(mpi_undo_fail(s, MP_ENOMEM, "or so"), MP_ERANGE);
  mpi_put(s, &cells(s)[2], 100);
  CHECK_EQ(cells(s)[2], 2);
  CHECK_ERR(mpi_undo_end(s, 0), MP_ERANGE);
  CHECK_EQ(rotated(s), 0);
  mpi_store_leave(s);
}

TEST("a change larger than the log is refused and undone") {
  struct mpi_store *s = new_store();
  reset(s);
  CHECK_OK(mpi_store_enter(s, MP_NEVER));
  s->heap_at = s->log_at + 4096; /* this handle believes in a short log */
  mpi_put(s, s->root->word, 5);
  CHECK(!mpi_undo_save(s, s->root, 64 * 1024));
  CHECK_ERR(mpi_undo_end(s, 0), MP_ENOMEM);
  CHECK_EQ(s->root->word[0], 0);
  mpi_store_leave(s);
}

TEST("a forged log is corruption, reaches neither the lock nor the header, and blocks nobody") {
  static const uint64_t lengths[] = {1, 8, 16, 24, 4096, UINT64_MAX, (uint64_t)1 << 63, UINT64_MAX - 7};
  struct mpi_store *s = new_store();
  uint64_t *log = mpi_store_at(s, s->log_at), magic = *(uint64_t *)(void *)s->o.seg.base;
  size_t i;
  for (i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    static const struct { uint64_t off, len; } t[] = {{0, 8}, {56, 8}, {MPI_SEG_WORD0, 4}, {64, 5000}, {4096, 8}, {UINT64_MAX - 3, 8}, {64, 0}, {64, UINT64_MAX}};
    size_t k;
    for (k = 0; k < sizeof t / sizeof t[0]; k++) {
      int rc;
      log[0] = 0x4141414141414141u;
      log[1] = t[k].off;
      log[2] = t[k].len;
      mpi_store_relaxed(&s->root->log_len, lengths[i]);
      rc = mpi_store_enter(s, MP_NEVER);
      CHECK_ERR(rc, MP_ECORRUPT);
      CHECK_OK(mpi_store_enter(s, MP_NEVER));
      mpi_store_leave(s);
      CHECK(*(uint64_t *)(void *)s->o.seg.base == magic);
      CHECK_EQ(mpi_load(mpi_seg_word(&s->o.seg, MPI_SEG_WORD0)), 0);
    }
  }
}
