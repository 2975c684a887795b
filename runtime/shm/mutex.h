/* mutex.h -- a lock that a user may hold for any time: a node of the thread's robust list, in private memory.
** Memory   the word at MPI_SEG_WORD0 or MPI_SEG_WORD1 of a segment with a lock page; the four bytes behind it are the mutex's too (latch.h).
** Sharing  belongs to the operating system's thread that acquired it.
** Blocks   lock: until the deadline; 0 polls.
** Death    a holder that dies or ends: the next gets MP_ABANDONED.
** Errors   lock: 0, MP_ABANDONED, MP_ETIMEDOUT, MP_EINTR, MP_EDEADLK (held by this thread; returned at once). unlock: MP_ENOTOWNER.
** Lifetime the caller keeps the mapping while the mutex is held (a held node must stay mapped): hold a reference.
*/
#ifndef MPI_MUTEX_H
#define MPI_MUTEX_H

#include "shm/latch.h"

int mpi_mutex_lock (mpi_a32 *word, int64_t deadline);
int mpi_mutex_unlock (mpi_a32 *word);

/* Holder's thread id, 0 if free or the holder died. */
static inline uint32_t mpi_mutex_owner (mpi_a32 *word) {
  return mpi_load(word) & MPI_LOCK_TID;
}

static inline int mpi_mutex_mine (mpi_a32 *word) {
  return mpi_mutex_owner(word) == mpi_tid();
}

#endif
