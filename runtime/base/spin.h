/* spin.h -- how long to look before sleeping.
** A sleep and wake costs tens of microseconds on a virtual machine; whoever expects the change sooner looks at the word
** instead. Only with at least two processors to use; never in hard mode.
** Units    iterations of mpi_relax; calibrated once a process against the clock.
*/
#ifndef MPI_SPIN_H
#define MPI_SPIN_H

typedef enum { MPI_SPIN_LATCH, MPI_SPIN_MESSAGE } mpi_spin_kind;

int mpi_spin_limit (mpi_spin_kind kind);

/* Adapts the spinning of one handle: `credit` (private memory, any start value 0) remembers whether looking has paid off. Iterations
** to spend now; report the outcome after. Racy between threads of a process, harmlessly. */
int mpi_spin_begin (const int *credit);
void mpi_spin_end (int *credit, int paid_off);

#endif
