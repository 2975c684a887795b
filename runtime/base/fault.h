/* fault.h -- named points at which tests let a process die, stop, or fail.
** In builds without MP_FAULTS (the release) every macro is empty.
** A point is armed by mpi_fault_arm(name, n, action) or by MP_FAULT=name:n:action in the environment: the n-th time (from 1) that
** this process passes it, it happens once. Names are "object.operation.moment", e.g. "queue.put.written". A name ending in '*' matches by prefix.
** Actions: kill (SIGKILL self), stop (SIGSTOP self), fail (MPI_FAULT_FAIL gives true), none.
** Memory   static; armed points are inherited by fork. Thread-safe only in the sense that one thread arms before others run.
*/
#ifndef MPI_FAULT_H
#define MPI_FAULT_H

typedef enum { MPI_FAULT_NONE, MPI_FAULT_KILL, MPI_FAULT_STOP, MPI_FAULT_FAIL } mpi_fault_action;

#if defined(MP_HARD) && !defined(MP_FAULTS)
#define MP_FAULTS 1
#endif

#ifdef MP_FAULTS
#define MPI_POINT(name) ((void)mpi_fault_hit(name))
#define MPI_FAULT_HERE(name) mpi_fault_hit(name) /* true: pretend that the next call failed */
int mpi_fault_hit (const char *name);
void mpi_fault_arm (const char *name, int nth, mpi_fault_action action); /* NULL disarms all */
int mpi_fault_seen (const char **names, int max); /* the names of all points passed so far in this process */
#else
#define MPI_POINT(name) ((void)0)
#define MPI_FAULT_HERE(name) 0
#endif

#ifdef MP_HARD
int mpi_fault_early_return (void); /* now and then: a futex wait returns at once */
#else
#define mpi_fault_early_return() 0
#endif

#endif
