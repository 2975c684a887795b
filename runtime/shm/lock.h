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

int mpi_is_lock (const mp_object *o); /* Lock or RLock */

/* For a condition's wait. give_up releases all depths at once and tells how many; take_again waits without deadline and
** uninterrupted, and restores them: 0, MP_ABANDONED, MP_ECORRUPT. */
int mpi_lock_give_up (mp_object *o, unsigned *depth);
int mpi_lock_take_again (mp_object *o, unsigned depth);

/* The owner bookkeeping of a word, shared by locks and seats. `mine` is private to the process: the thread of this process
** that holds the word (or died holding it), 0: none. While it is not 0 the object has one reference more. */
int mpi_word_mine (mpi_a32 *word, mpi_a32 *mine);
void mpi_word_forget (mpi_a32 *word, mpi_a32 *mine); /* before taking a word that is not ours */
void mpi_word_taken (mp_object *o, mpi_a32 *mine);
int mpi_word_give_back (mp_object *o, mpi_a32 *word, mpi_a32 *mine); /* unlocks; the caller's own reference outlives the call */

#endif
