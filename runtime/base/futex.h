/* futex.h -- sleeping on a 32-bit word that other processes change.
** Process-shared futexes only (words lie in memfds). Every sleep has an end, so that a signal handler installed with SA_RESTART
** still ends the system call.
** Blocks   until the word differs, a wake, the deadline, or a signal; spurious returns happen: look again.
** Errors   0 (woken, or the word differs), MP_ETIMEDOUT, MP_EINTR (a signal came; not yet judged), MP_ECORRUPT (bad address).
*/
#ifndef MPI_FUTEX_H
#define MPI_FUTEX_H

#include "base/atomics.h"
#include "mp.h"

int mpi_futex_wait (mpi_a32 *word, uint32_t seen, int64_t deadline);

/* Sleeps on two words at once (futex_waitv, Linux 5.16). Where the kernel lacks it, sleeps on the first in short slices. */
int mpi_futex_wait2 (mpi_a32 *w1, uint32_t seen1, mpi_a32 *w2, uint32_t seen2, int64_t deadline);

/* Wakes up to n sleepers and gives how many; async-signal-safe. */
int mpi_futex_wake (mpi_a32 *word, int n);

/* The whole of a sleep: slices (interrupt.h), interruption, deadline. 0 (look again), MP_ETIMEDOUT or MP_EINTR (judged). Past the deadline it is
** MP_ETIMEDOUT whatever the word holds, so that a loop around it ends although a peer changes the word all the time. *slice starts at 0
** for each wait. */
int mpi_sleep_on (mpi_a32 *word, uint32_t seen, int64_t deadline, int *slice);
int mpi_sleep_on2 (mpi_a32 *w1, uint32_t seen1, mpi_a32 *w2, uint32_t seen2, int64_t deadline, int *slice);

/* Sleeps on up to MPI_SLEEP_MANY words at once (the kernel takes 128, one is for interruptions); each must still hold its value. Where the kernel
** lacks futex_waitv, on the first in short slices. */
#define MPI_SLEEP_MANY 127
struct mpi_watched {
  mpi_a32 *word;
  uint32_t seen;
};
int mpi_sleep_on_many (const struct mpi_watched *list, int n, int64_t deadline, int *slice);

#endif
