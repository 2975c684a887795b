/* distrust.h -- which shared objects a confined process has been given: what comes out of them is data, never code.
** What      a list of segments (inode numbers) on the page that the processes of a program share and that a confined process does not get, so
**           that it cannot take itself off. Whoever gives such a process an object says so before; whoever reads from an object asks.
** Units     inode numbers of memfds: unique while the machine runs, so an entry is never taken back. More than MPI_DISTRUSTED_MAX: nothing is
**           trusted any more.
** Threads   any; lock-free. Fork, spawn: shared by all but confined processes. Never blocks. Errors: none.
** Death     an entry is one store, and counts once the number says so.
*/
#ifndef MPI_DISTRUST_H
#define MPI_DISTRUST_H

#include <stdint.h>

void mpi_distrust (int fd);        /* a segment's descriptor; others do no harm */
int mpi_distrusted (uint64_t ino);

#endif
