/* interrupt.h -- how a signal gets a thread out of a blocked call, and a sleep that nothing disturbs otherwise.
** What     A sleep that is hit by a signal calls mpi_interrupted(); if the thread's callback says yes the call gives MP_EINTR, else it goes on. The
**          callback must be quick, must not raise and must not call back into mp. Thread-local.
** Looks    A signal that arrives between that question and the system call ends no sleep. So every sleep is divided into slices, and the question is
**          asked again at the end of each: the first after 0.1 s. From then on nobody is woken for nothing, for the race is closed otherwise:
**          a sleep in ppoll unblocks the signals there and not before, and a sleep on words has one more, which mp's own handlers count up. Only
**          where somebody else's handler can make the callback say yes (mp in stock lua5.4, a C host's callback), or the kernel has no
**          futex_waitv, do sleeps on words go on to look: after 0.4 s, 1.6 s and so on. One look cost 5 to 230 us of processor on two machines.
*/
#ifndef MPI_INTERRUPT_H
#define MPI_INTERRUPT_H

#include <poll.h>

#include "base/atomics.h"
#include "mp.h"

int mpi_interrupted (void);

/* While held, no wait of this thread is interrupted: for what must be finished once begun (a condition takes its lock again). Gives
** the former value, to be put back. */
int mpi_interrupt_hold (int hold);

/* By a handler of mp's own, after what makes a callback say yes. Async-signal-safe. */
void mpi_interrupt_note (void);

/* Whether all handlers that can make this thread's callback say yes note it. At first they do not. */
void mpi_interrupts_are_noted (int yes);

/* What a sleep on words has to add, to be `sure` that no signal is missed: a word that changes with the next note (to be read before the question
** is asked), or NULL: nothing is missed anyway. 0: not sure. */
extern mpi_a32 mpi_interrupt_count;
int mpi_interrupt_watch (mpi_a32 **word);

/* End of the next slice of a long sleep, never after `deadline`: 0.1 s, then four times as long each; if the sleep is sure, 100 s each after the
** first: those are for what should not be, a wake-up lost to a peer that scribbles. *slice starts at 0. */
int64_t mpi_slice_end (int64_t now, int64_t deadline, int *slice, int sure);

/* One slice of a sleep on descriptors: how many are ready (revents); 0: look again; MP_ETIMEDOUT: none is ready and the deadline has passed; MP_EINTR
** (none is ready, and judged); MP_ESYS. *slice starts at 0 for each wait. A past deadline looks once. n may be 0. */
int mpi_sleep_in_poll (struct pollfd *p, nfds_t n, int64_t deadline, int *slice);

#endif
