/* lock.h -- Lock and RLock: what users hold for as long as they like.
** Public    mp_lock_* in mp.h; here is what conditions and bindings need beyond it.
** Memory    a segment of one page; the word at MPI_SEG_WORD0 (shm/mutex.h), beside it whom it is said to belong to. A held lock keeps a
**           reference to its handle, so that the robust list never points into memory that is gone.
** Truth     who holds the lock is decided by the word and by the handle's private `mine`, never by shared memory alone: a
**           peer that scribbles cannot make us give back what we did not take.
** Sharing   belongs to the operating system's thread that acquired it. After fork the child is not the holder.
** Death     the kernel frees the lock of a dead holder; the next gets MP_ABANDONED, once; an RLock's depth starts anew.
*/
#ifndef MPI_LOCK_H
#define MPI_LOCK_H

#include "shm/mutex.h"
#include "shm/object.h"

extern const struct mpi_type mpi_type_lock;
extern const struct mpi_type mpi_type_rlock;

static inline int mpi_is_lock (const mp_object *o) { /* Lock or RLock */
  return o->type == &mpi_type_lock || o->type == &mpi_type_rlock;
}

/* For a condition's wait. give_up releases all depths at once and tells how many; take_again waits
** uninterrupted, and restores them: 0, MP_ABANDONED, MP_ECORRUPT, MP_ETIMEDOUT. */
int mpi_lock_give_up (mp_object *o, unsigned *depth);
int mpi_lock_take_again (mp_object *o, unsigned depth, int64_t deadline);

/* A word with its claim (`mine`, shm/mutex.h) that keeps its object: while the claim is not 0 the object has one reference more. Shared by locks and
** seats. */
static inline int mpi_word_take (mp_object *o, mpi_a32 *word, mpi_a32 *mine, int64_t deadline) {
  int first = 0;
  int rc = mpi_mutex_lock(word, mine, &first, deadline);
  if (rc >= 0 && first) mpi_object_hold(o); /* a former holder of this process that died, or whose copy we are, left its reference */
  return rc;
}

/* Unlocks; the caller's own reference outlives the call. MP_ENOTOWNER: the word had been overwritten, or is not ours. */
static inline int mpi_word_give_back (mp_object *o, mpi_a32 *word, mpi_a32 *mine) {
  int ours = mpi_load_relaxed(mine) == mpi_tid();
  int rc = mpi_mutex_unlock(word, mine);
  if (ours) mpi_object_unhold(o);
  return rc;
}

#endif
