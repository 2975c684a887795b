/* pidfd.h -- processes known by a descriptor, so that no pid can be mistaken for another.
** Units    deadlines are absolute monotonic ns.
** Owner    mpi_pidfd_open gives a close-on-exec descriptor to the caller.
** Threads  any; one child is reaped by one caller, the others get MP_ESYS (ECHILD): see proc/child.c, which has a lock.
** Signals  a wait that is hit by one asks mpi_interrupted().
** Fork     a pidfd may be polled by anybody who has it; only the parent can reap.
** Blocks   mpi_fd_wait until the descriptor is ready or the deadline; nothing else.
** Errors   MP_ETIMEDOUT, MP_EINTR (judged), MP_ESYS.
*/
#ifndef MPI_PIDFD_H
#define MPI_PIDFD_H

#include <sys/types.h>

#include "mp.h"

int mpi_pidfd_open (pid_t pid);

/* A process that is gone already is no failure. */
int mpi_pidfd_signal (int pidfd, int sig);

/* 1: it ended and is reaped, *exitcode is its status or minus the signal; 0: it lives. Where somebody else has reaped it (SIGCHLD
** ignored by the host, say) *exitcode is 255 as nobody knows. */
int mpi_pidfd_reap (int pidfd, int *exitcode);

/* Until `fd` has one of the poll events: 0, or MP_ETIMEDOUT, MP_EINTR. A hang-up or an error counts as ready. */
int mpi_fd_wait (int fd, short events, int64_t deadline);

#endif
