/* ring.h -- first-in first-out of byte messages with descriptors, shared by any number of putters and getters.
** Units    bytes for callers; inside, units of 16 bytes. A side is a position (the unit in the data area) and a count of messages modulo 2^32,
**          both in one 64-bit word (`tail`: putters, `head`: getters), so one store publishes a message and every reading is exact.
**          Nothing is inside when the counts are equal.
** Memory   the caller's segment: struct mpi_ring_shared on page 0, the data area behind it, sparse. Private: struct mpi_ring. Messages lie
**          in one piece; a SKIP record sends the getter to another unit. While the backlog is small the putters turn back to the start after
**          a window (128 KiB, some thirty messages, or two and a half times a backlog that stays, to 32 MiB), so that the same pages stay warm; what
**          lies beyond is given back once it is drained. There, messages of 4 KiB and more are written and read by the segment's descriptor.
**          What is live, in units, by the layout words s and m (of the tail's parity, as bytes_in): s = 0: [head, tail). s alone: turned at s:
**          [head, s] and [0, tail), as long as head > tail. Both: the turned part met the head at m and jumped over: [head, s], [0, m] and
**          [s + 1, tail), until head > s. So turning costs no room.
** Sharing  threads and processes, also after fork. Putters meet on put_latch, getters on get_latch, each on lines of its own; each side keeps
**          a copy of the other's position and looks again only when the ring seems full or empty.
** Blocks   put while full, get while empty, until the deadline.
** Death    a putter killed before its one store leaves nothing, a getter killed before its own leaves the message; nobody waits for the dead.
**          (A getter killed after it took the descriptors of a message but before the store leaves the message and the descriptors: they
**          were only peeked.)
** Hostile  every shared word is read once, bounded, and used from a local; addresses are masked. MP_ECORRUPT instead of trust.
** Errors   MP_ETIMEDOUT, MP_EFULL/MP_EEMPTY (deadline 0), MP_ECLOSED, MP_EEOF, MP_EINTR, MP_E2BIG, MP_ECORRUPT, MP_ESYS.
**
** Carrier  a SOCK_SEQPACKET pair beside the ring for messages with descriptors (carrier.h). Bell: an eventfd that mirrors "a get would not wait"
**          once somebody asked (bell.h), kept under put_latch; a pipe's sleeping receiver is woken by it too.
*/
#ifndef MPI_RING_H
#define MPI_RING_H

#include <stddef.h>

#include "base/linger.h"
#include "shm/bell.h"
#include "shm/seg.h"
#include "shm/waitq.h"

#define MPI_RING_UNIT 16u
#define MPI_RING_HEADER 8u
#define MPI_EXPRESS (UINT64_C(1) << 31)
#define MPI_EXPRESS_MOST 48u /* bytes */

struct mpi_ring_shared {
  /* putters' own: as long as one process puts, this line stays with its processor */
  _Alignas(64) mpi_latch put_latch;
  mpi_a64 put_tail;       /* the putters' copy of tail; who inherits the latch from the dead makes it so again */
  mpi_a64 bytes_in[2];    /* payload bytes ever put; the slot of the tail's count's parity is valid */
  mpi_a64 head_seen;      /* the putters' copy of head, and of bytes_out */
  mpi_a64 bytes_seen;
  mpi_a64 layout[2];      /* s | m << 32 */
  /* written by putters, looked at by getters: all that a getter that waits takes away from a putter, and needs from it for a small message */
  _Alignas(64) mpi_a64 tail; /* position | count << 32 of the next message to come */
  mpi_a64 express_head;   /* count << 32 | MPI_EXPRESS | size: the message before the tail with that count stands below as well; 0 while it is written */
  mpi_a64 express[MPI_EXPRESS_MOST / 8];
  /* written by getters */
  _Alignas(64) mpi_latch get_latch;
  mpi_a64 head;
  mpi_a64 bytes_out[2];
  mpi_a64 tail_seen;
  mpi_a32 reclaim_mark;   /* units: head position at which to look for memory to give back next */
  /* rarely written */
  _Alignas(64) mpi_waitq nonempty; /* getters sleep; gate put_latch */
  mpi_latch get_turnstile;
  mpi_a32 closed;         /* 0, 1 closed, 2 closed and dropped; under put_latch */
  mpi_bell bell;          /* under put_latch */
  mpi_a32 leavers;        /* pipes: times a reader has let go of its end on its own; a hint for senders */
  uint32_t attempt;       /* descriptor records sent or tried; under put_latch */
  mpi_a32 window;         /* units: where putters turn round while the backlog is small; grows with the messages */
  mpi_a32 span;           /* the same, grows with the backlog; 0 when all was got */
  mpi_a32 dirty_lo;       /* units: pages beyond the window that may exist lie in [lo, hi); under put_latch */
  mpi_a32 dirty_hi;
  _Alignas(64) mpi_waitq nonfull;  /* putters sleep; gates get_latch and put_latch */
  mpi_latch put_turnstile;
  mpi_latch done_latch;
  mpi_a32 done;           /* messages settled by task_done, a count; under done_latch */
  mpi_waitq joiners;      /* gates done_latch and put_latch */
  mpi_waitq space;        /* pipes: senders that poll (seq unused) */
  /* never changed after creation */
  _Alignas(64) uint64_t capacity; /* bytes, power of two */
  uint64_t maxbytes;
  uint32_t maxsize;       /* 0: unbounded */
  uint32_t reserved;
};
_Static_assert(offsetof(struct mpi_ring_shared, tail) == 64 && offsetof(struct mpi_ring_shared, get_latch) == 128, "putters' line, tail, getters' line");
_Static_assert(sizeof(struct mpi_ring_shared) == 384, "six lines");

struct mpi_ring { /* private: one a handle */
  struct mpi_ring_shared *s;
  char *data;
  const mpi_seg *seg;
  size_t data_offset; /* in the file, for giving pages back */
  uint32_t units;     /* capacity, trusted */
  uint32_t window;    /* the least window, units */
  uint64_t maxbytes;
  uint32_t maxsize;
  int send_fd; /* the carrier: putters' end and getters' end; -1 where this handle lacks the right */
  int recv_fd;
  int bell_fd;
  int bulk;    /* the message got last was large, and so the next one may be (ring.c) */
  int owned;   /* redelivery (redeliver.h): records have an owner word, and ... */
  mpi_a64 *cursor; /* ... this is where what waits begins */
  int polls;   /* a pipe: sleepers poll the carrier, so that they learn of the other side's end */
  int put_credit; /* adaptive spinning */
  int get_credit;
  struct mpi_linger put_linger; /* at a queue that was full when we last looked, */
  struct mpi_linger get_linger; /* and at one that was empty */
  int64_t peer_checked; /* pipes: coarse tick at which the putter last asked whether a reader is left, */
  uint32_t peer_leavers; /* what leavers was, */
  unsigned peer_deaths;  /* and mpi_deaths */
};

struct mpi_msg { /* one message to put */
  const void *data;
  size_t size;
  const int *fds; /* borrowed */
  int nfds;
};

struct mpi_sink { /* room for messages to get; all memory the caller's */
  unsigned char *data;
  size_t room;
  size_t size;  /* out: bytes of all messages; with MP_E2BIG the room that the next message needs */
  int *fds;     /* out: owned by the caller from then on. Room for MPI_MAX_FDS */
  int nfds;     /* out */
  size_t *ends; /* out: where each message ends in data; NULL if max is 1 */
  /* Looks at the first bytes (a copy of at most 8) of the next message before it is taken; 0 leaves it: MP_ERANGE. May be NULL; runs under the latch. */
  int (*accept) (void *ud, const unsigned char *head, size_t n);
  void *accept_ud;
};

uint64_t mpi_ring_capacity (uint64_t maxbytes); /* bytes of the data area for that bound */

/* In a fresh (zero) segment. */
void mpi_ring_format (struct mpi_ring_shared *s, uint64_t maxbytes, uint32_t maxsize);

/* Binds a handle; checks the constants against `room`, the bytes that the segment has for the data area. */
int mpi_ring_attach (struct mpi_ring *r, struct mpi_ring_shared *s, const mpi_seg *seg, size_t data_offset, size_t room);

/* Puts msgs[0..n) in order; *done: how many are in (all, if the result is 0). Messages of one call are published together as far as they fit. */
int mpi_ring_put (struct mpi_ring *r, const struct mpi_msg *msgs, int n, int *done, int64_t deadline);

/* A deadline for mpi_ring_get and mpi_hands_get: a look at what is there, as 0, but a pipe's other side is not asked for (a system call), so there is
** no MP_EEOF. For who goes on to wait. */
#define MPI_LOOK INT64_MIN

/* Gets at least one message and as many as are there, up to max. MP_E2BIG: sink->room is too small for the first one; nothing was taken. */
int mpi_ring_get (struct mpi_ring *r, struct mpi_sink *sink, int max, int *got, int64_t deadline);

/* Waits until a get would not wait. 0, MP_EEOF, MP_ETIMEDOUT, MP_EINTR. */
int mpi_ring_await (struct mpi_ring *r, int64_t deadline);

uint32_t mpi_ring_size (const struct mpi_ring *r); /* messages inside */
int mpi_ring_full (const struct mpi_ring *r);
int mpi_ring_ready (struct mpi_ring *r); /* a get would not wait: 1 or 0 (pipes: also at eof), or negative */
int mpi_ring_close (struct mpi_ring *r, int drop);
int mpi_ring_task_done (struct mpi_ring *r); /* MP_EMISUSE: more often than got */
int mpi_ring_join (struct mpi_ring *r, int64_t deadline);

/* From now on bell_fd is readable while a get would not wait (eof aside: that is recv_fd's hang-up). */
int mpi_ring_arm (struct mpi_ring *r);
/* The same until unwatch, which every watch must be followed by: who waits for a moment shall not make the ring slower for ever. */
int mpi_ring_watch (struct mpi_ring *r);
void mpi_ring_unwatch (struct mpi_ring *r);
/* After poll said readable but mpi_ring_ready says no: puts right what the dead left. */
void mpi_ring_tidy (struct mpi_ring *r);

#endif
