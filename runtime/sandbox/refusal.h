/* refusal.h -- a refused call in words: what it was, what it wanted, which grant would allow it.
** What      from a notification (number, arguments, the process's memory) to a struct mpi_violation; and whether a watched call is one that
**           Landlock is going to refuse.
** Trust     everything read from the process may be a lie and may change: it goes into the record, made printable, and decides nothing.
** Safety    one thread; no state. Blocks: looks at the file system.
*/
#ifndef MPI_REFUSAL_H
#define MPI_REFUSAL_H

#include <sys/types.h>

#include "sandbox/warden.h"

struct mpi_refused {
  const struct mpi_jail *jail;
  int nr;
  const uint64_t *args;
  pid_t pid;  /* the calling thread */
  pid_t main_pid; /* of the confined process */
  int memory; /* /proc/PID/mem of the process, or -1 */
};

/* Fills call, target, need and fix. */
void mpi_refusal_describe (const struct mpi_refused *c, struct mpi_violation *v);

/* A watched call: does the policy cover what it names? 0: the kernel will refuse it. */
int mpi_refusal_covered (const struct mpi_refused *c);

/* The C library's own curiosity, and ours: refused without a record. */
int mpi_refusal_harmless (const struct mpi_refused *c);

#endif
