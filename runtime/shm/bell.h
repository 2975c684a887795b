/* bell.h -- a descriptor that is readable while an object is ready, so that poll(2) can wait for it.
** What     a mirror of the object's state, kept while somebody watches it (watch ... unwatch), or from when somebody has asked for its descriptor
**          (arm), for ever. The descriptors are an eventfd (rfd == wfd) or two ends of a socket pair that are used for nothing else in this direction.
** Protocol every call is made by the holder of the object's latch. Ring *before* the commit that makes the object ready, silence *after*
**          the commit that makes it unready: a death in between leaves a bell that rings for nothing, never one that is silent though the object is
**          ready. Whoever gets MP_ABANDONED from the latch, or finds a ringing bell on an object that is not ready, calls mpi_bell_settle.
** Memory   4 bytes in shared memory, zero: not armed. Bits: ARMED, RUNG (the descriptor is readable; set after the write, cleared before the read, so
**          that it never claims too much), KEPT (armed for ever); above them the number of watchers. One who is killed stays in the number: the
**          mirror is kept, which costs system calls and nothing else.
** Sharing  threads, processes. A peer that writes or drains the descriptor spoils only readiness as seen by poll; every call is bounded.
** Blocks   never, also when a peer has made the descriptors blocking (an eventfd that a peer has filled to the brim aside).
** Errors   none: a bell that cannot be rung is no worse than one that was not heard.
*/
#ifndef MPI_BELL_H
#define MPI_BELL_H

#include "base/atomics.h"

#define MPI_BELL_ARMED 1u
#define MPI_BELL_RUNG 2u
#define MPI_BELL_KEPT 4u
#define MPI_BELL_WATCHER 8u /* times their number */

typedef struct {
  mpi_a32 word;
} mpi_bell;

struct mpi_bell_fds {
  int rfd, wfd;
};

void mpi_bell_ring (mpi_bell *b, struct mpi_bell_fds fds);
void mpi_bell_drain (mpi_bell *b, struct mpi_bell_fds fds);

/* Makes the mirror start: from now on rfd is readable while the object is ready. `ready`: is it now? */
void mpi_bell_arm (mpi_bell *b, struct mpi_bell_fds fds, int ready);

/* The same until unwatch: with the last one the mirror ends, if nobody has armed it. What it has said is taken back only if the object is not ready: others
** may sleep on the descriptor, armed or not (a pipe's receivers do), and have not yet seen it. What is left of that is taken by whoever arms it
** again. */
void mpi_bell_watch (mpi_bell *b, struct mpi_bell_fds fds, int ready);
void mpi_bell_unwatch (mpi_bell *b, struct mpi_bell_fds fds, int ready);

/* It is said to be readable. */
static inline int mpi_bell_rings (const mpi_bell *b) {
  return (mpi_load_relaxed(&b->word) & (MPI_BELL_ARMED | MPI_BELL_RUNG)) == (MPI_BELL_ARMED | MPI_BELL_RUNG);
}

/* Makes an armed bell agree with the object, whatever was left behind. */
void mpi_bell_settle (mpi_bell *b, struct mpi_bell_fds fds, int ready);

/* May what arrived as a bell be one? An eventfd, or at least nothing that could block for long or raise SIGPIPE: files of that kind have no type in their
** mode. */
int mpi_bell_fits (int fd);

/* The descriptor alone, if it is an eventfd: makes it readable, or takes what is there; neither waits. 1 or 0. */
int mpi_bell_say (int eventfd);
int mpi_bell_take (int eventfd);

/* Before the commit that makes the object ready. */
static inline void mpi_bell_ring_if_armed (mpi_bell *b, struct mpi_bell_fds fds) {
  if (__builtin_expect((mpi_load_relaxed(&b->word) & (MPI_BELL_ARMED | MPI_BELL_RUNG)) == MPI_BELL_ARMED, 0)) mpi_bell_ring(b, fds);
}

/* After the commit that makes the object unready. */
static inline void mpi_bell_silence (mpi_bell *b, struct mpi_bell_fds fds) {
  if (__builtin_expect((mpi_load_relaxed(&b->word) & MPI_BELL_RUNG) != 0, 0)) mpi_bell_drain(b, fds);
}

#endif
