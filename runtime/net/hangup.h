/* hangup.h -- a thread that watches pipes and tells a queue which of them nobody holds any more.
** What     whoever holds a copy of a pipe's writing end keeps alive what the pipe stands for: a client, a reference to an object. The kernel
**          counts the copies: forked ones, those in messages, those of the dead. When the last is gone the reading end hangs up.
** Message  {0, 0, "gone", number} on the queue, as Lua values (wire/).
** Owner    watch takes the descriptor over when it succeeds. The thread lives as long as the process: there is no end to it, for servers only.
** Threads  watch from any. All signals are blocked in the watching thread.
** Fork     a forked child has no such thread.
** Blocks   the watching thread does, on the queue, should that be full.
** Errors   MP_ENOMEM, MP_ESYS, MP_EMFILE.
*/
#ifndef MPI_HANGUP_H
#define MPI_HANGUP_H

#include "mp.h"

struct mpi_hangups;

int mpi_hangups_start (mp_object *queue, struct mpi_hangups **out);
int mpi_hangups_watch (struct mpi_hangups *h, int fd, int64_t number);

int mpi_pipe_pair (int fd[2]); /* reading, writing; close-on-exec, above the standard streams */

#endif
