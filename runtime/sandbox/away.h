/* away.h -- an empty network and IPC namespace for confined processes, made once a program.
** What      a network namespace of its own costs a process more than all the rest of its confinement (two thirds of a millisecond, and as much
**           again for the kernel when it goes). What counts is that it is empty: no interface that is up, nothing to reach, nobody to set one up.
**           So who makes confined processes makes one (mpi_away_get) and sends its descriptors along; they enter it (mpi_away_enter). It is a
**           layer behind the filter, which refuses sockets and shared memory by name anyway: a kernel that gives none is no error.
** Owner     mpi_away_get: this file keeps the descriptors, for the life of the process. mpi_away_take gives them to this file, enter closes them.
** Threads   get: any. take, enter: the only thread.
** Fork      the descriptors are inherited and stay good. Who has since become another user is not let in, and gets namespaces of its own.
** Blocks    get, the first time: about a millisecond.
** Errors    none: no descriptors, or namespaces of its own, or none.
** Death     namespaces go with the last process in them and the last descriptor.
*/
#ifndef MPI_AWAY_H
#define MPI_AWAY_H

#define MPI_AWAY_FDS 3

/* In who makes confined processes: up to MPI_AWAY_FDS descriptors; how many. */
int mpi_away_get (int fds[MPI_AWAY_FDS]);

/* In who is going to be confined: what the maker has sent. */
void mpi_away_take (const int *fds, int n);
int mpi_away_holds (int fd);
void mpi_away_forget (void); /* in who stays here after all */

/* net: without a network. Returns 1 if the processes of this user are counted apart from now on (a user namespace of its own). */
int mpi_away_enter (int net);

#endif
