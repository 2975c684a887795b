#include "shm/heap.h"

#include <signal.h>

#include "shm/dict.h"
#include "test/test.h"

#define MOST 400

static struct mpi_store *new_store (void) {
  mp_object *o = NULL;
  CHECK_OK(mp_dict_new(&o));
  return (struct mpi_store *)o;
}

static struct block { uint64_t off; uint64_t size; unsigned char fill; } blocks[MOST];
static int nblocks;

static void check_block (struct mpi_store *s, const struct block *b) {
  const unsigned char *p = mpi_store_at(s, b->off);
  CHECK_EQ(b->off % 16, 0);
  CHECK(mpi_heap_room(s, b->off) >= b->size);
  CHECK(p[0] == b->fill && p[b->size / 2] == b->fill && p[b->size - 1] == b->fill);
}

TEST("blocks never overlap, whatever comes and goes", .limit = 30) {
  struct mpi_store *s = new_store();
  int step;
  CHECK_OK(mpi_store_enter(s, MP_NEVER));
  for (step = 0; step < 30000; step++) {
    uint64_t r = test_random();
    mpi_undo_begin(s);
    if (nblocks < MOST && (r & 1 || nblocks == 0)) {
      struct block *b = &blocks[nblocks];
      uint64_t most = (r >> 8) % 50 == 0 ? 500000 : (r >> 8) % 5 == 0 ? 20000 : 200;
      b->size = 1 + (r >> 20) % most;
      b->fill = (unsigned char)step;
      b->off = mpi_heap_alloc(s, b->size);
      CHECK(b->off != 0);
      memset(mpi_store_at(s, b->off), b->fill, b->size);
      nblocks++;
    } else {
      int k = (int)((r >> 8) % (unsigned)nblocks);
      check_block(s, &blocks[k]);
      mpi_heap_free(s, blocks[k].off);
      blocks[k] = blocks[--nblocks];
    }
    CHECK_OK(mpi_undo_end(s, 0));
    if (step % 1000 == 0) CHECK_OK(mpi_heap_check(s, (uint64_t)nblocks));
  }
  for (step = 0; step < nblocks; step++) check_block(s, &blocks[step]);
  mpi_undo_begin(s);
  mpi_heap_reset(s);
  CHECK_OK(mpi_undo_end(s, 0));
  CHECK_OK(mpi_heap_check(s, 0));
  mpi_store_leave(s);
}

TEST("a change that is not ended well never was") {
  struct mpi_store *s = new_store();
  uint64_t keep, *p;
  CHECK_OK(mpi_store_enter(s, MP_NEVER));
  keep = mpi_heap_alloc(s, 100);
  p = mpi_store_at(s, keep);
  *p = 42;
  CHECK_OK(mpi_undo_end(s, 0));
  mpi_undo_begin(s);
  CHECK(mpi_undo_save(s, p, 8));
  *p = 43;
  CHECK(mpi_heap_alloc(s, 10) != 0);
  CHECK(mpi_heap_alloc(s, 100000) != 0);
  mpi_heap_free(s, keep);
  CHECK_ERR(mpi_undo_end(s, MP_ERANGE), MP_ERANGE);
  CHECK_EQ(*p, 42);
  CHECK_OK(mpi_heap_check(s, 1));
  mpi_store_leave(s);
}

TEST("a block used before is as free as it was when the change is undone") {
  struct mpi_store *s = new_store();
  uint64_t b[4], off;
  int i;
  CHECK_OK(mpi_store_enter(s, MP_NEVER));
  for (i = 0; i < 4; i++) b[i] = mpi_heap_alloc(s, 100);
  CHECK_OK(mpi_undo_end(s, 0));
  for (i = 0; i < 3; i++) {
    mpi_undo_begin(s);
    mpi_heap_free(s, b[i]);
    CHECK_OK(mpi_undo_end(s, 0));
  }
  mpi_undo_begin(s);
  off = mpi_heap_alloc(s, 100);
  memset(mpi_store_at(s, off), 0xaa, 100);
  off = mpi_heap_alloc(s, 100);
  memset(mpi_store_at(s, off), 0xbb, 100);
  CHECK_ERR(mpi_undo_end(s, MP_ERANGE), MP_ERANGE);
  CHECK_OK(mpi_heap_check(s, 1));
  mpi_store_leave(s);
}

TEST("freeing twice, or what is no block, is corruption and changes nothing") {
  struct mpi_store *s = new_store();
  uint64_t a, b, big, bad[7];
  size_t i;
  CHECK_OK(mpi_store_enter(s, MP_NEVER));
  a = mpi_heap_alloc(s, 40);
  b = mpi_heap_alloc(s, 40);
  big = mpi_heap_alloc(s, 100000);
  CHECK_OK(mpi_undo_end(s, 0));
  bad[0] = 0;
  bad[1] = a + 8;
  bad[2] = b + 48 * 5;  /* never in use */
  bad[3] = s->heap_end;
  bad[4] = UINT64_MAX;
  bad[5] = big + 64;
  bad[6] = s->log_at;
  for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    mpi_undo_begin(s);
    mpi_heap_free(s, bad[i]);
    CHECK_ERR(mpi_undo_end(s, 0), MP_ECORRUPT);
    CHECK_OK(mpi_heap_check(s, 3));
  }
  CHECK_EQ(mpi_heap_room(s, 0), 0);
  CHECK_EQ(mpi_heap_room(s, s->heap_end), 0);
  CHECK_EQ(mpi_heap_room(s, s->heap_end - 16), 0);
  CHECK_EQ(mpi_heap_room(s, big + 16), 0);
  mpi_store_leave(s);
}

TEST("no size is too large to be refused") {
  struct mpi_store *s = new_store();
  static const uint64_t sizes[] = {UINT64_MAX, UINT64_MAX - 100, (uint64_t)1 << 63, (uint64_t)1 << 45};
  size_t i;
  CHECK_OK(mpi_store_enter(s, MP_NEVER));
  for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    mpi_undo_begin(s);
    CHECK_EQ(mpi_heap_alloc(s, sizes[i]), 0);
    CHECK_ERR(mpi_undo_end(s, 0), MP_ENOMEM);
  }
  CHECK_OK(mpi_heap_check(s, 0));
  mpi_store_leave(s);
}
