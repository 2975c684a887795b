/* pipe.h -- mp.Pipe: two ends over one segment with a ring for each direction.
** Handle   one object an end; detail = MPI_PIPE_A or MPI_PIPE_B, with MPI_PIPE_SIMPLEX where only B sends. Descriptors: memfd; for a direction that
**          this end sends in: carrier's putting end and the bell; for the one it receives in: carrier's getting end and the bell. The kernel counts
**          who holds which end: the carrier hangs up when every copy of the other end is closed or dead.
** Units    a message waits while more than MPI_PIPE_BYTES are inside; a larger one goes when the pipe is empty. Half of the sparse data
**          area bounds it (MPI_PIPE_MOST).
** The rest is ring.h's.
*/
#ifndef MPI_PIPE_H
#define MPI_PIPE_H

#include "shm/object.h"
#include "shm/ring.h"

#define MPI_PIPE_A 1
#define MPI_PIPE_B 2
#define MPI_PIPE_SIMPLEX 4
#define MPI_PIPE_BYTES (1u << 20)
#define MPI_PIPE_MOST (UINT64_C(2) << 30)

struct mpi_pipe {
  struct mpi_object o;
  struct mpi_ring in;  /* in.s == NULL: this end does not receive */
  struct mpi_ring out; /* out.s == NULL: this end does not send */
  int pollfd;          /* epoll of bell and carrier, made by mpi_pipe_fd; -1 */
};

int mpi_pipe_fd (struct mpi_pipe *p); /* readable exactly while a recv would not wait; the handle's. Or negative */

#endif
