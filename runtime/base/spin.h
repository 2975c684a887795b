/* spin.h -- how long to look before sleeping.
** A sleep and wake costs tens of microseconds on a virtual machine; whoever expects the change sooner looks at the word
** instead. Only with at least two processors to use; never in hard mode, nor with MP_SPIN=0 in the environment (for comparison).
** Crowds   how long it looks, and whether at all, follows from what it was good for so far: where more want to run than there are processors,
**          it sleeps at once.
** Units    iterations of mpi_relax; calibrated once a process against the clock.
*/
#ifndef MPI_SPIN_H
#define MPI_SPIN_H

typedef enum { MPI_SPIN_LATCH, MPI_SPIN_MESSAGE } mpi_spin_kind;

#define MPI_SPIN_LATCH_US 2 /* what MPI_SPIN_LATCH amounts to */

int mpi_spin_limit (mpi_spin_kind kind);

/* Adapts the spinning of one handle: `credit` (private memory, any start value 0) remembers whether looking has paid off. Iterations
** to spend now; report the outcome after. Racy between threads of a process, harmlessly. */
int mpi_spin_begin (const int *credit);
void mpi_spin_end (int *credit, int paid_off);

/* Looks until ready(ud) or until it is time to sleep: 1 or 0. The looks become rarer, up to `most` iterations apart: each takes the cache line
** away from who is to change it. */
int mpi_spin_until (int *credit, int most, int (*ready) (void *ud), void *ud);

#endif
