#include "shm/heap.h"

#include <stdlib.h>

#include "base/err.h"

#define HEADER ((uint64_t)sizeof(struct chunk))
#define DIRTY_MAX ((uint64_t)1 << 20)

enum { SMALL = 0x51, RUN = 0x52, FREE = 0x53 }; /* kinds */

struct chunk { /* at the start of a chunk that begins something */
  uint64_t kind;
  uint64_t cls;
  uint64_t length; /* RUN, FREE: chunks */
  uint64_t used;   /* SMALL: blocks in use. FREE: 1 if pages beyond the first may exist */
  uint64_t bump;   /* SMALL: blocks ever in use */
  uint64_t free;   /* SMALL: first free block, by offset; each starts with the next. FREE: next free run of its class */
  uint64_t prev;   /* SMALL with room: neighbours in root->partial */
  uint64_t next;
};
_Static_assert(sizeof(struct chunk) == 64, "blocks stay 16-aligned");

/* Sizes 16 to 128 in steps of 16, then four a doubling; the same ladder for chunks from 1. */
static unsigned ladder (uint64_t n, unsigned linear) { /* smallest class of at least n units, n >= 1 */
  unsigned shift;
  if (n <= linear) return (unsigned)n - 1;
  shift = 63u - (unsigned)__builtin_clzll(n - 1); /* 2^shift < n <= 2^(shift+1) */
  return linear + (shift - 3) * 4 + (unsigned)((n - 1 - ((uint64_t)1 << shift)) >> (shift - 2));
}

static uint64_t rung (unsigned cls, unsigned linear) { /* the size of a class */
  unsigned k;
  if (cls < linear) return cls + 1;
  k = cls - linear;
  return ((uint64_t)1 << (k / 4 + 3)) + ((uint64_t)(k % 4 + 1) << (k / 4 + 1));
}

#define small_class(size) ladder(((size) + 15) / 16, 8)
#define small_size(cls) (rung((cls), 8) * 16)
#define run_class(n) ladder((n), 8)
#define run_length(cls) rung((cls), 8)

static struct chunk *chunk_at (struct mpi_store *s, uint64_t off) {
  return mpi_store_at(s, off);
}

/* A reference to a chunk, read from memory, is one? */
static int is_chunk (struct mpi_store *s, uint64_t off) {
  return off % MPI_CHUNK == 0 && mpi_store_inside(s, off, MPI_CHUNK);
}

static uint64_t blocks_of (uint64_t cls) {
  return (MPI_CHUNK - HEADER) / small_size((unsigned)cls);
}

/* ---- runs ---- */

static void push_free (struct mpi_store *s, uint64_t off, uint64_t length, unsigned cls, uint64_t dirty) {
  struct chunk h = {FREE, cls, length, dirty, 0, 0, 0, 0};
  struct chunk *c = chunk_at(s, off);
  h.free = mpi_peek(&s->root->runs[cls]);
  if (!mpi_undo_save(s, c, sizeof h)) return;
  *c = h;
  mpi_put(s, &s->root->runs[cls], off);
}

static void add_dirty (struct mpi_store *s, uint64_t by) {
  mpi_put(s, &s->root->dirty, mpi_peek(&s->root->dirty) + by);
}

/* Takes the first free run of a class; 0 if there is none. *length is trusted after. */
static uint64_t pop_free (struct mpi_store *s, unsigned cls, uint64_t *dirty) {
  uint64_t off = mpi_peek(&s->root->runs[cls]);
  struct chunk h;
  if (off == 0) return 0;
  if (!is_chunk(s, off)) return (void)mpi_undo_corrupt(s), 0;
  h = *chunk_at(s, off);
  mpi_compiler_barrier(); /* a copy: not read from shared memory again */
  if (h.kind != FREE || h.cls != cls || h.length != run_length(cls) || !mpi_store_inside(s, off, h.length * MPI_CHUNK))
    return (void)mpi_undo_corrupt(s), 0;
  mpi_put(s, &s->root->runs[cls], h.free);
  *dirty = h.used;
  if (h.used != 0) add_dirty(s, (uint64_t)0 - h.length * MPI_CHUNK);
  return off;
}

static void free_run (struct mpi_store *s, uint64_t off, uint64_t length) {
  uint64_t bytes = length * MPI_CHUNK;
  int keep = mpi_peek(&s->root->dirty) + bytes <= DIRTY_MAX;
  push_free(s, off, length, run_class(length), (uint64_t)keep);
  if (keep) add_dirty(s, bytes);
  else mpi_undo_punch(s, off + MPI_PAGE, bytes - MPI_PAGE);
}

/* The heap's end is reached: cut a longer free run. What is left becomes free runs of the lengths there are. */
static uint64_t cut_longer (struct mpi_store *s, unsigned cls) {
  uint64_t need = run_length(cls), off = 0, left, at, dirty = 0;
  unsigned c;
  for (c = cls + 1; c < MPI_RUN_CLASSES && off == 0; c++) {
    if (s->err != 0) return 0;
    off = pop_free(s, c, &dirty);
    if (off != 0) break;
  }
  if (off == 0) return 0;
  left = run_length(c) - need;
  at = off + need * MPI_CHUNK;
  while (left != 0) {
    unsigned k = run_class(left);
    if (run_length(k) > left) k--;
    push_free(s, at, run_length(k), k, dirty);
    if (dirty != 0) add_dirty(s, run_length(k) * MPI_CHUNK);
    at += run_length(k) * MPI_CHUNK;
    left -= run_length(k);
  }
  return off;
}

static uint64_t take_run (struct mpi_store *s, uint64_t length, uint64_t kind, uint64_t small_cls) {
  uint64_t total = (s->heap_end - s->heap_at) / MPI_CHUNK, top = mpi_peek(&s->root->top), off = 0, dirty;
  struct chunk h = {0, 0, 0, 0, 0, 0, 0, 0};
  unsigned cls;
  if (length > total) goto full;
  cls = run_class(length);
  length = run_length(cls);
  if (cls < MPI_RUN_CLASSES) off = pop_free(s, cls, &dirty);
  if (off == 0 && top <= total && length <= total - top) {
    off = s->heap_at + top * MPI_CHUNK;
    mpi_put(s, &s->root->top, top + length);
  }
  if (off == 0) off = cut_longer(s, cls);
  if (off == 0) goto full;
  h.kind = kind;
  h.cls = kind == SMALL ? small_cls : cls;
  h.length = length;
  if (!mpi_undo_save(s, chunk_at(s, off), sizeof h)) return 0;
  *chunk_at(s, off) = h;
  MPI_POINT("heap.run.taken");
  return off;
full:
  (void)mpi_undo_fail(s, MP_ENOMEM, "the container is full");
  return 0;
}

/* ---- small blocks ---- */

static void link_partial (struct mpi_store *s, uint64_t off, uint64_t cls) {
  uint64_t first = mpi_peek(&s->root->partial[cls]);
  if (first != 0) {
    if (!is_chunk(s, first)) return (void)mpi_undo_corrupt(s);
    mpi_put(s, &chunk_at(s, first)->prev, off);
  }
  mpi_put(s, &chunk_at(s, off)->next, first);
  mpi_put(s, &chunk_at(s, off)->prev, 0);
  mpi_put(s, &s->root->partial[cls], off);
}

static void unlink_partial (struct mpi_store *s, uint64_t off, uint64_t cls) {
  uint64_t prev = mpi_peek(&chunk_at(s, off)->prev), next = mpi_peek(&chunk_at(s, off)->next);
  if ((prev != 0 && !is_chunk(s, prev)) || (next != 0 && !is_chunk(s, next))) return (void)mpi_undo_corrupt(s);
  if (prev != 0) mpi_put(s, &chunk_at(s, prev)->next, next);
  else mpi_put(s, &s->root->partial[cls], next);
  if (next != 0) mpi_put(s, &chunk_at(s, next)->prev, prev);
  mpi_put(s, &chunk_at(s, off)->prev, 0);
  mpi_put(s, &chunk_at(s, off)->next, 0);
}

static uint64_t alloc_small (struct mpi_store *s, unsigned cls) {
  uint64_t size = small_size(cls), most = blocks_of(cls), off = mpi_peek(&s->root->partial[cls]), block;
  struct chunk *c, h;
  if (off == 0) {
    off = take_run(s, 1, SMALL, cls);
    if (off == 0) return 0;
    link_partial(s, off, cls);
  }
  if (!is_chunk(s, off)) return (void)mpi_undo_corrupt(s), 0;
  c = chunk_at(s, off);
  h = *c;
  mpi_compiler_barrier();
  if (h.kind != SMALL || h.cls != cls || h.used >= most || h.bump > most) return (void)mpi_undo_corrupt(s), 0;
  if (h.free != 0) {
    uint64_t *first;
    block = h.free;
    if (block < off + HEADER || block >= off + MPI_CHUNK || (block - off - HEADER) % size != 0) return (void)mpi_undo_corrupt(s), 0;
    first = mpi_store_at(s, block);
    h.free = mpi_peek(first);
    mpi_put(s, &c->free, h.free);
    if (!mpi_undo_save(s, first, 8)) return 0; /* the caller will write over the link */
  } else {
    if (h.bump >= most) return (void)mpi_undo_corrupt(s), 0;
    block = off + HEADER + h.bump * size;
    h.bump++;
    mpi_put(s, &c->bump, h.bump);
  }
  mpi_put(s, &c->used, h.used + 1);
  if (h.free == 0 && h.bump == most) unlink_partial(s, off, cls);
  return s->err != 0 ? 0 : block;
}

static void free_small (struct mpi_store *s, uint64_t chunk, const struct chunk *h, uint64_t block) {
  struct chunk *c = chunk_at(s, chunk);
  uint64_t size = small_size((unsigned)h->cls), most = blocks_of(h->cls), *first = mpi_store_at(s, block);
  if (h->used == 0 || h->used > most || h->bump > most || block < chunk + HEADER || (block - chunk - HEADER) % size != 0 ||
      (block - chunk - HEADER) / size >= h->bump)
    return (void)mpi_undo_corrupt(s);
  mpi_put(s, first, h->free);
  mpi_put(s, &c->free, block);
  mpi_put(s, &c->used, h->used - 1);
  if (h->free == 0 && h->bump == most) {
    link_partial(s, chunk, h->cls); /* it was full */
  }
  /* Kept if it is the only one of its size with room: else one block taken and freed by turns would move a chunk each time. */
  if (h->used == 1 && s->err == 0 && (mpi_peek(&c->prev) != 0 || mpi_peek(&c->next) != 0)) {
    unlink_partial(s, chunk, h->cls);
    free_run(s, chunk, 1);
  }
}

/* ---- blocks ---- */

uint64_t mpi_heap_alloc (struct mpi_store *s, uint64_t size) {
  uint64_t off;
  if (s->err != 0) return 0;
  if (size == 0) size = 1;
  if (size <= MPI_SMALL_MAX) return alloc_small(s, small_class(size));
  if (size > s->heap_end - s->heap_at) {
    (void)mpi_undo_fail(s, MP_ENOMEM, "the value is larger than the container");
    return 0;
  }
  off = take_run(s, (size + HEADER + MPI_CHUNK - 1) / MPI_CHUNK, RUN, 0);
  return off == 0 ? 0 : off + HEADER;
}

void mpi_heap_free (struct mpi_store *s, uint64_t off) {
  uint64_t chunk = off & ~(uint64_t)(MPI_CHUNK - 1);
  struct chunk h;
  if (s->err != 0) return;
  if (!is_chunk(s, chunk)) return (void)mpi_undo_corrupt(s);
  h = *chunk_at(s, chunk);
  mpi_compiler_barrier();
  if (h.kind == SMALL && h.cls < MPI_SMALL_CLASSES) {
    free_small(s, chunk, &h, off);
  } else if (h.kind == RUN && off == chunk + HEADER && h.cls < MPI_RUN_CLASSES && h.length == run_length((unsigned)h.cls) &&
             mpi_store_inside(s, chunk, h.length * MPI_CHUNK)) {
    free_run(s, chunk, h.length);
  } else {
    (void)mpi_undo_corrupt(s);
  }
}

uint64_t mpi_heap_room (struct mpi_store *s, uint64_t off) {
  uint64_t chunk = off & ~(uint64_t)(MPI_CHUNK - 1), kind, cls, length;
  const struct chunk *c;
  if (!is_chunk(s, chunk) || off - chunk < HEADER) return 0;
  c = chunk_at(s, chunk);
  kind = mpi_peek(&c->kind);
  cls = mpi_peek(&c->cls);
  length = mpi_peek(&c->length);
  if (kind == SMALL && cls < MPI_SMALL_CLASSES) {
    uint64_t size = small_size((unsigned)cls);
    /* No division on the way of every read: that the block ends inside the chunk is enough to be safe. */
    return off % 16 == 0 && off - chunk + size <= MPI_CHUNK ? size : 0;
  }
  if (kind == RUN && off - chunk == HEADER && length <= (s->heap_end - chunk) / MPI_CHUNK && length != 0) return length * MPI_CHUNK - HEADER;
  return 0;
}

void mpi_heap_reset (struct mpi_store *s) {
  uint64_t top = mpi_peek(&s->root->top), total = (s->heap_end - s->heap_at) / MPI_CHUNK;
  if (top > total) top = total;
  if (!mpi_undo_save(s, s->root->partial, sizeof s->root->partial) || !mpi_undo_save(s, s->root->runs, sizeof s->root->runs)) return;
  memset(s->root->partial, 0, sizeof s->root->partial);
  MPI_POINT("heap.reset.half");
  memset(s->root->runs, 0, sizeof s->root->runs);
  mpi_put(s, &s->root->top, 0);
  mpi_put(s, &s->root->dirty, 0);
  if (top != 0) mpi_undo_punch(s, s->heap_at, top * MPI_CHUNK);
  if (top > 2) mpi_undo_punch(s, s->log_at + MPI_CHUNK, s->heap_at - s->log_at - MPI_CHUNK);
}

/* ---- the checker ---- */

static int wrong (const char *what, uint64_t where) {
  return mpi_fail(MP_ECORRUPT, "heap: %s at %llu", what, (unsigned long long)where);
}

static int check_small (struct mpi_store *s, uint64_t off, const struct chunk *c) {
  uint64_t most = blocks_of(c->cls), size = small_size((unsigned)c->cls), n = 0, block, seen = 0;
  if (c->bump > most || c->used > c->bump) return wrong("counts of a chunk", off);
  for (block = c->free; block != 0; n++) {
    if (n > most || block < off + HEADER || (block - off - HEADER) % size != 0 || (block - off - HEADER) / size >= c->bump)
      return wrong("free block", block);
    block = *(uint64_t *)mpi_store_at(s, block);
  }
  if (n + c->used != c->bump) return wrong("a lost block in the chunk", off);
  for (block = s->root->partial[c->cls], n = 0; block != 0 && n < 1000000; block = chunk_at(s, block)->next, n++) seen += block == off;
  if (seen != (uint64_t)(c->used < most)) return wrong("list of chunks with room", off);
  return 0;
}

int mpi_heap_check (struct mpi_store *s, uint64_t used) {
  uint64_t i, found = 0, dirty = 0, runs = 0, listed = 0, off;
  unsigned k;
  int rc;
  for (i = 0; i < s->root->top; ) {
    off = s->heap_at + i * MPI_CHUNK;
    const struct chunk *c = chunk_at(s, off);
    if (c->kind == SMALL && c->cls < MPI_SMALL_CLASSES) {
      rc = check_small(s, off, c);
      if (rc != 0) return rc;
      found += c->used;
      i++;
    } else if ((c->kind == RUN || c->kind == FREE) && c->cls < MPI_RUN_CLASSES && c->length == run_length((unsigned)c->cls)) {
      found += c->kind == RUN;
      runs += c->kind == FREE;
      if (c->kind == FREE && c->used != 0) dirty += c->length * MPI_CHUNK;
      i += c->length;
    } else {
      return wrong("chunk", off);
    }
  }
  if (i != s->root->top) return wrong("end", i);
  for (k = 0; k < MPI_RUN_CLASSES; k++)
    for (off = s->root->runs[k]; off != 0; off = chunk_at(s, off)->free)
      if (++listed > runs || chunk_at(s, off)->kind != FREE || chunk_at(s, off)->cls != k) return wrong("free run", off);
  if (listed != runs) return wrong("a lost run", listed);
  if (dirty != s->root->dirty) return wrong("count of dirty bytes", dirty);
  if (found != used) return mpi_fail(MP_ECORRUPT, "heap: %llu blocks in use, %llu reachable", (unsigned long long)found, (unsigned long long)used);
  return 0;
}
