/* landlock.h -- paths and TCP ports, by the kernel's Landlock.
** What      a ruleset of what a policy grants; everything else that Landlock knows is refused: other files, signals to and abstract sockets
**           of processes outside, tracing. What it does not know (metadata, UDP, multipath TCP) the filter of seccomp.h refuses.
** Memory    nothing is kept; one descriptor while the ruleset is made.
** Threads   confines the calling thread and what it starts, for ever. Fork: inherited.
** Blocks    opens the granted paths.
** Errors    MP_ENOSUP with a sentence when the kernel's Landlock is too old for the policy; MP_ESYS.
*/
#ifndef MPI_LANDLOCK_H
#define MPI_LANDLOCK_H

#include "sandbox/policy.h"

int mpi_landlock_abi (void);               /* 0: there is none */
void mpi_landlock_pretend (int abi);       /* for tests: as if the kernel had this version; -1: the truth again. Also MP_LANDLOCK_ABI in
                                              the environment, in builds with fault points */

/* Can this kernel enforce the policy's paths and ports? */
int mpi_landlock_can (const struct mpi_policy *p);

/* The ruleset as a descriptor, before anything irreversible; *fd = -1 where the kernel has none and the policy needs none. */
int mpi_landlock_make (const struct mpi_policy *p, int *fd);
int mpi_landlock_enter (int fd); /* needs no_new_privs; does not close */

/* The files that a grant brings along: the resolver's with dns, the loader's with run. NULL after the last. */
const char *mpi_landlock_implied (const struct mpi_policy *p, int i);

#endif
