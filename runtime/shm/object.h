/* object.h -- what all handles of shared objects have in common.
** What     one mpi_object per shared object and process, however often the object arrives. Counted: constructors and adoption give one
**          reference, mp_retain adds, mp_release takes; the last one unmaps and closes.
** Memory   allocated here with room for the type's private part (struct mpi_type.size, which starts with struct mpi_object).
** Sharing  the table of objects has a process-private lock, held across fork; any thread.
** Travel   what is sent is the descriptors (fds[0] is the segment's), in order, and a small integer for the type's use ("detail", e.g. which
**          end of a pipe). mpi_object_adopt takes them over: if the process has the object already, the new descriptors are closed.
** Errors   MP_ECORRUPT when what arrived is not what it claims.
*/
#ifndef MPI_OBJECT_H
#define MPI_OBJECT_H

#include <stdatomic.h>
#include <sys/single_threaded.h>

#include "shm/seg.h"

#define MPI_OBJECT_FDS 5

enum mpi_object_type { /* numbers are on the wire: never renumber */
  MPI_T_LOCK = 1,
  MPI_T_RLOCK = 2,
  MPI_T_SEMAPHORE = 3,
  MPI_T_CONDITION = 4,
  MPI_T_EVENT = 5,
  MPI_T_BARRIER = 6,
  MPI_T_QUEUE = 7,
  MPI_T_PIPE = 8, /* one end; detail 1 or 2 */
  MPI_T_VALUE = 9,
  MPI_T_ARRAY = 10,
  MPI_T_DICT = 11,
  MPI_T_LIST = 12,
  MPI_T_FD = 13, /* a plain descriptor: no segment */
  MPI_T_COUNT = 14
};

struct mpi_object;

struct mpi_type {
  int type;
  const char *name;   /* "Queue" */
  size_t size;        /* of the private struct */
  uint32_t seg_flags; /* MPI_SEG_LOCKPAGE or 0 */
  int nfds;           /* descriptors incl. the segment's; of a pipe's end at most, attach checks */
  /* Checks the segment's fields and copies what never changes to private memory; called on create (after the constructor has filled the
  ** segment) and on adoption. May be NULL. */
  int (*attach) (struct mpi_object *o);
  void (*detach) (struct mpi_object *o); /* before unmapping; may be NULL */
};

struct mpi_object {
  const struct mpi_type *type;
  _Atomic int refs;
  int detail; /* set before publish */
  int nfds;   /* of fds in use */
  mpi_seg seg;
  int fds[MPI_OBJECT_FDS]; /* [0] is seg.fd */
  struct mpi_object *next; /* in the table */
};

/* For constructors. new: a zeroed handle with a fresh segment, not yet in the table. publish: runs attach and enters it. abandon: undoes new. */
int mpi_object_new (const struct mpi_type *t, size_t segment_size, struct mpi_object **out);
int mpi_object_publish (struct mpi_object *o);
void mpi_object_abandon (struct mpi_object *o);

/* A handle from descriptors that arrived. Consumes all fds in every case. *out has one more reference. Only for types with a segment. */
int mpi_object_adopt (int type, int detail, const int *fds, int nfds, struct mpi_object **out);

const struct mpi_type *mpi_type_of (int type); /* NULL if unknown */

/* mp_retain and mp_release for what takes and gives a reference in passing: where there is one thread, no locked instruction is needed. A
** reference that is not the last one. */
static inline void mpi_object_hold (struct mpi_object *o) {
  if (__libc_single_threaded) atomic_store_explicit(&o->refs, atomic_load_explicit(&o->refs, memory_order_relaxed) + 1, memory_order_relaxed);
  else (void)atomic_fetch_add(&o->refs, 1);
}
static inline void mpi_object_unhold (struct mpi_object *o) {
  int n = atomic_load_explicit(&o->refs, memory_order_relaxed);
  if (__libc_single_threaded && n > 1) atomic_store_explicit(&o->refs, n - 1, memory_order_relaxed);
  else mp_release(o);
}

#endif
