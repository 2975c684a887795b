/* undo.h -- changes to a container's segment that happen whole or not at all.
** What     a store: a segment with a lock, an undo log and a heap (heap.h), on which dict.h and list.h are built. Old bytes are
**          logged before they are overwritten; one store (log length = 0) commits. Whoever gets the lock and finds a log rolls back.
** Layout   page 0: header, struct mpi_root, the lock word (MPI_SEG_WORD0). Then the log, then the heap, both sparse. The borders
**          follow from the file's size alone. References are file offsets, never pointers.
** Units    bytes; offsets from the file's start.
** Sharing  processes and threads, all under the lock. The private part of the handle (`log`, `err`, `depth`, `punch`) belongs to the
**          lock's holder.
** Memory   nothing is allocated between enter and leave.
** Blocks   enter: until the deadline; 0 polls.
** Trust    a peer may write anything anywhere: every offset and length is copied, checked, then used; every loop is bounded. What
**          cannot be is MP_ECORRUPT, and the change is rolled back.
** Death    of the holder, at any instruction, also while rolling back: the next holder restores the state before the change.
**          Only the order of the dead thread's own stores matters, so a compiler barrier is enough between them.
** Errors   sticky within one change: the first failure (log or heap full, corruption) makes later writes do nothing, and
**          mpi_undo_end gives it after rolling back.
** Rule     within one change nothing is allocated after something was freed (what was freed must keep its bytes).
*/
#ifndef MPI_UNDO_H
#define MPI_UNDO_H

#include <string.h>

#include "base/fault.h"
#include "shm/mutex.h"
#include "shm/object.h"

#define MPI_CHUNK 65536u
#define MPI_SMALL_CLASSES 36
#define MPI_RUN_CLASSES 80
#define MPI_STORE_WORDS 8
#define MPI_STORE_PUNCHES 4

struct mpi_root { /* at offset 64 of page 0; all but log_len and seed change under the log */
  mpi_a64 log_len;                     /* bytes in the log; 0: the state is whole */
  uint64_t seed;                       /* of the hash; set once */
  uint64_t word[MPI_STORE_WORDS];      /* the container's own */
  uint64_t top;                        /* chunks of the heap that were ever in use */
  uint64_t dirty;                      /* bytes in free runs whose pages were kept */
  uint64_t partial[MPI_SMALL_CLASSES]; /* first chunk with room, by class of small block; 0: none */
  uint64_t runs[MPI_RUN_CLASSES];      /* first free run of chunks, by class of length; 0: none */
};
_Static_assert(sizeof(struct mpi_root) + 64 <= MPI_SEG_WORD0, "the root stays clear of the lock word");

struct mpi_store {
  struct mpi_object o;
  /* Trusted, constant. */
  struct mpi_root *root;
  char *rest;       /* rest + off is the address of offset off, for off >= MPI_PAGE */
  uint64_t log_at;  /* first byte of the log */
  uint64_t heap_at; /* first byte of the heap, MPI_CHUNK-aligned */
  uint64_t heap_end;
  mpi_a32 mine; /* the lock's claim (shm/mutex.h) */
  /* The holder's. */
  uint64_t log; /* length, as this change has made it */
  int err;
  int depth;    /* of mpi_store_hold */
  int punches;
  struct { uint64_t off, len; } punch[MPI_STORE_PUNCHES]; /* to give back after the commit */
};

/* The size of a new container's file: a quarter of the machine's memory, 64 MiB to 8 GiB; sparse. */
size_t mpi_store_size (void);
int mpi_store_new (const struct mpi_type *t, struct mpi_store **out); /* fresh, not published */
int mpi_store_attach (struct mpi_object *o);

/* The lock. enter: 0, MP_ETIMEDOUT, MP_EINTR, MP_ECORRUPT; within a hold of the same thread it costs a comparison. */
int mpi_store_enter (struct mpi_store *s, int64_t deadline);
void mpi_store_leave (struct mpi_store *s);
/* Held over calls, by one thread, any depth; keeps the handle alive. hold: like mpi_mutex_lock; unhold: 0 or MP_ENOTOWNER. */
int mpi_store_hold (struct mpi_store *s, int64_t deadline);
int mpi_store_unhold (struct mpi_store *s);

static inline uint64_t mpi_peek (const uint64_t *p) { /* one load of what a peer may be changing */
  return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline uint32_t mpi_peek32 (const uint32_t *p) {
  return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline void *mpi_store_at (const struct mpi_store *s, uint64_t off) { /* off >= MPI_PAGE, checked by the caller */
  return s->rest + off;
}

/* Is [off, off + len) inside the heap? */
static inline int mpi_store_inside (const struct mpi_store *s, uint64_t off, uint64_t len) {
  return off >= s->heap_at && off < s->heap_end && len <= s->heap_end - off;
}

/* A change: begin (under the lock), writes, end. end gives rc or the sticky error; if either is negative the change is undone. */
static inline void mpi_undo_begin (struct mpi_store *s) {
  s->log = 0;
  s->err = 0;
  s->punches = 0;
}
int mpi_undo_end (struct mpi_store *s, int rc);
int mpi_undo_fail (struct mpi_store *s, int code, const char *sentence); /* sets the sticky error; gives it */
int mpi_undo_corrupt (struct mpi_store *s);

/* Logs the bytes at p (inside page 0's root or the heap), so that they may be overwritten. False: do not write (sticky error). */
int mpi_undo_save (struct mpi_store *s, const void *p, size_t len);

static inline void mpi_put (struct mpi_store *s, uint64_t *p, uint64_t v) {
  if (!mpi_undo_save(s, p, 8)) return;
  __atomic_store_n(p, v, __ATOMIC_RELAXED);
  MPI_POINT("undo.put.stored");
}

/* After the commit, give the pages in this range back. */
void mpi_undo_punch (struct mpi_store *s, uint64_t off, uint64_t len);

#endif
