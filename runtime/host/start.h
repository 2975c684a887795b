/* start.h -- a process for a C host: made by the zygote (proc/spawn.h), told what it is, and begun.
** Blocks   until the process says that it has begun or why not, at most 10 s; interruptions wait.
** Owner    the child's handle is the caller's (mpi_child_release).
** Errors   MP_EMISUSE with the sentence that the process refused the task with; mpi_spawn's.
*/
#ifndef MPI_HOST_START_H
#define MPI_HOST_START_H

#include "host/message.h"
#include "proc/child.h"

struct mpi_start {
  const struct mpi_out *task;   /* what it is told first */
  int report_fd;                /* of its sandbox's report (sandbox/warden.h), -1: none */
  const struct mpi_out *secret; /* what it reads when it is confined; NULL: nothing */
};

int mpi_start (const struct mpi_start *s, mpi_child **out);

void mpi_end (mpi_child *c, int sig); /* signals it, waits for its end and releases the handle; NULL is fine */

/* The caller's options over zeroes: as much of them as both sides know. */
int mpi_options (const void *from, size_t size, void *to, size_t most);

#endif
