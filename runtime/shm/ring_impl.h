/* ring_impl.h -- what ring.c and redeliver.c know of a ring's records. For nobody else. */
#ifndef MPI_RING_IMPL_H
#define MPI_RING_IMPL_H

#include "shm/ring.h"

/* A record: this header; with redelivery the owner word; with FDS the number of the attempt; then the payload. */
struct header {
  uint32_t size; /* of the payload */
  uint32_t flags;
};
#define SKIP 1u /* nothing here: go on at the unit that `size` names */
#define FDS 2u
#define SKIPS_MOST 4 /* in a row; correct putters write two at most */
_Static_assert(sizeof(struct header) == MPI_RING_HEADER, "a small message fits one unit");

static inline uint32_t pos_of (uint64_t side) {
  return (uint32_t)side;
}

static inline uint32_t count_of (uint64_t side) {
  return (uint32_t)(side >> 32);
}

static inline uint64_t side_of (uint32_t pos, uint32_t count) {
  return (uint64_t)count << 32 | pos;
}

static inline char *address (const struct mpi_ring *r, uint32_t pos) {
  return r->data + (size_t)(pos & (r->units - 1)) * MPI_RING_UNIT; /* masked: whatever a peer wrote, it is inside */
}

/* With redelivery each record has an owner word. */
static inline uint64_t units_for (const struct mpi_ring *r, size_t size, int nfds) {
  return (size + MPI_RING_HEADER + (r->owned ? 8u : 0u) + (nfds > 0 ? 8u : 0u) + MPI_RING_UNIT - 1) / MPI_RING_UNIT;
}

/* The most that a put takes. */
static inline uint64_t size_limit (const struct mpi_ring *r) {
  return r->polls ? (uint64_t)r->units * MPI_RING_UNIT / 2 - 64 : r->maxbytes;
}

/* A caller makes room for a message that is said to be this large: only if it could have been put, and has been written. */
static inline int believable (const struct mpi_ring *r, uint32_t size) {
  return size <= size_limit(r) && mpi_seg_holds(r->seg, size);
}

/* Waiting, for redeliver.c: bells and polls are the ring's. */
int mpi_ring_spin (struct mpi_ring *r, int *credit, int (*ready) (void *ud), void *ud);
/* Releases what lies before `head` (whose bytes add up to `out`); latch held. Each call moves the count by an odd number. */
void mpi_ring_commit_head (const struct mpi_ring *r, uint64_t head, uint64_t out);
void mpi_ring_settle_bell (struct mpi_ring *r, int only_if_quiet);

#endif
