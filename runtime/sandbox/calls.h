/* calls.h -- which system calls a confined process may make: one table, read by the filter's compiler and by the supervisor.
** What      a verdict for (features, call, arguments). The table is data; seccomp.c turns it into a kernel filter, warden.c asks it about the
**           calls that the kernel hands over. Only "equal" and "equal under a mask" are used: libseccomp 2.5.4 makes filters that let
**           calls through when it is asked for ordered comparisons.
** Units     call numbers of the machine that is named by libseccomp's token (SCMP_ARCH_...).
** Safety    no shared state; any thread.
** Blocks    never. Errors: none; an unknown call gets MPI_CALL_DENY.
*/
#ifndef MPI_CALLS_H
#define MPI_CALLS_H

#include <stdint.h>

#include "sandbox/policy.h"

enum { /* features: what a policy needs of the table */
  MPI_F_ANY = 1,
  MPI_F_THREADS = 2,
  MPI_F_READ = 4,
  MPI_F_WRITE = 8,
  MPI_F_CONNECT = 16,
  MPI_F_BIND = 32,
  MPI_F_DNS = 64,
  MPI_F_RUN = 128,
  MPI_F_ALL = 255
};

enum mpi_call_verdict {
  MPI_CALL_DENY,   /* EPERM, and a record */
  MPI_CALL_ALLOW,
  MPI_CALL_WATCH,  /* allowed here, judged by Landlock: the supervisor looks whether a refusal is to be recorded */
  MPI_CALL_SILENT, /* EPERM without a record: what the C library asks and can do without */
  MPI_CALL_NOSYS,  /* ENOSYS: the C library falls back to an older call */
  MPI_CALL_KILL    /* only an exploit would try */
};

/* Stands for "the process's own id" in the table; patched into a filter when it is installed. */
#define MPI_OWN_PID 0x3f5a17c3u

#define MPI_NEWEST_CALL 450 /* numbers above get ENOSYS: they do not exist for the table */

struct mpi_call_cond {
  uint8_t arg;
  uint64_t mask;
  uint64_t value;
};

struct mpi_call_rule {
  const char *name; /* NULL ends the table */
  uint8_t features; /* any of these */
  uint8_t verdict;
  uint8_t n;
  struct mpi_call_cond c[4];
};

extern const struct mpi_call_rule mpi_call_rules[];

unsigned mpi_calls_features (const struct mpi_policy *p);

/* The verdict; *plain (may be NULL) is set when it comes from a rule without conditions. `pid`: the process's own. */
enum mpi_call_verdict mpi_calls_judge (unsigned features, uint32_t arch, int nr, const uint64_t args[6], uint32_t pid, int *plain);

/* Has the call any rule that allows it (perhaps under conditions)? */
int mpi_calls_has_allow (unsigned features, uint32_t arch, int nr);

/* The number of a name on a machine; -1 if it has none. */
int mpi_calls_number (uint32_t arch, const char *name);

#endif
