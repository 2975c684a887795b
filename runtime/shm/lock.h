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

/* For a condition's wait. give_up releases all depths at once and tells how many; take_again waits without deadline and
** uninterrupted, and restores them: 0, MP_ABANDONED, MP_ECORRUPT. */
int mpi_lock_give_up (mp_object *o, unsigned *depth);
int mpi_lock_take_again (mp_object *o, unsigned depth);

/* The owner bookkeeping of a word, shared by locks and seats. `mine` is private to the process: the thread of this process
** that holds the word (or died holding it), 0: none. While it is not 0 the object has one reference more. */

/* Both must agree: `mine` alone is stale in a forked child and after a thread that died, the word alone is what anybody wrote. */
static inline int mpi_word_mine (mpi_a32 *word, mpi_a32 *mine) {
  return mpi_load_relaxed(mine) == mpi_tid() && mpi_mutex_mine(word);
}

/* Before taking a word that is not ours. One that somebody took from us by scribbling is still in our robust list; entered twice, the list
** would be a ring. */
static inline void mpi_word_forget (mpi_a32 *word, mpi_a32 *mine) {
  if (__builtin_expect(mpi_load_relaxed(mine) == mpi_tid(), 0) && !mpi_mutex_mine(word)) mpi_robust_remove(word);
}

/* A former holder of this process that died, or whose copy we are, left its reference: it becomes ours. */
static inline void mpi_word_taken (mp_object *o, mpi_a32 *mine) {
  uint32_t before = mpi_load_relaxed(mine);
  mpi_store_relaxed(mine, mpi_tid()); /* only the holder of the word writes it: ordered by the word */
  if (before == 0) mpi_object_hold(o);
}

/* Unlocks; the caller's own reference outlives the call. */
static inline int mpi_word_give_back (mp_object *o, mpi_a32 *word, mpi_a32 *mine) {
  int rc;
  mpi_store_relaxed(mine, 0); /* first: the next holder may be another thread of this process */
  rc = mpi_mutex_unlock(word);
  mpi_object_unhold(o);
  return rc;
}

#endif
