/* interrupt.h -- how a signal gets a thread out of a blocked call.
** A sleep that is hit by a signal calls mpi_interrupted(); if the thread's callback says yes the call gives MP_EINTR, else
** it goes on. The callback must be quick, must not raise and must not call back into mp. Thread-local.
*/
#ifndef MPI_INTERRUPT_H
#define MPI_INTERRUPT_H

#include "mp.h"

int mpi_interrupted (void);

/* While held, no wait of this thread is interrupted: for what must be finished once begun (a condition takes its lock again). Gives
** the former value, to be put back. */
int mpi_interrupt_hold (int hold);

/* End of the next slice of a long sleep: 0.1 s, then four times as long each, never after `deadline`. A signal that arrives
** between the question above and the system call is so noticed at the end of the slice. *slice starts at 0. */
int64_t mpi_slice_end (int64_t now, int64_t deadline, int *slice);

#endif
