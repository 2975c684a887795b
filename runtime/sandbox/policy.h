/* policy.h -- what a confined process may do: a plain struct of grants on top of nothing.
** Units     bytes, nanoseconds, counts; -1 is "no limit was asked for". Ports in host order.
** Memory    flat: no pointers, so it can be copied, compared (memcmp after mpi_policy_init) and sent to another process as it is.
** Safety    no shared state; any thread.
** Blocks    the checks look at the file system (stat), else nothing.
** Errors    MP_EMISUSE with a sentence that names the grant: a missing path, one that may never be granted, too many.
*/
#ifndef MPI_POLICY_H
#define MPI_POLICY_H

#include <stddef.h>
#include <stdint.h>

#include "mp.h"

#define MPI_POLICY_ITEMS 64    /* of each kind */
#define MPI_POLICY_TEXT 16384  /* bytes of all names together */

enum mpi_violation_rule { MPI_DENY, MPI_KILL };

struct mpi_names { /* offsets into mpi_policy.text */
  uint32_t n;
  uint32_t at[MPI_POLICY_ITEMS];
};

struct mpi_ports {
  uint32_t n;
  uint16_t port[MPI_POLICY_ITEMS];
};

struct mpi_policy {
  struct mpi_names read;    /* files and directories, with all below */
  struct mpi_names write;   /* the same; implies reading */
  struct mpi_names run;     /* programs */
  struct mpi_names modules; /* C modules, by the name that `require` knows; the Lua side's matter */
  struct mpi_ports connect; /* TCP */
  struct mpi_ports bind;    /* TCP */
  int32_t dns;              /* nonzero: the resolver: its files, and UDP */
  int32_t on_violation;     /* MPI_DENY or MPI_KILL */
  int64_t memory;           /* private memory beyond what the process has when it is confined */
  int64_t output;           /* bytes to standard output and standard error together */
  int64_t cpu;
  int64_t wall;
  int64_t files;            /* descriptors beyond the granted ones */
  int64_t threads;          /* beyond the first; 0 by default */
  uint32_t used;            /* bytes of text in use */
  char text[MPI_POLICY_TEXT];
};

void mpi_policy_init (struct mpi_policy *p); /* grants nothing, no limits, no threads */

/* Add a grant. Paths are made absolute; they must exist. Granting /proc, /dev, /sys, the root directory for writing, or something that is
** not a regular file or directory is refused. */
int mpi_policy_read (struct mpi_policy *p, const char *path);
int mpi_policy_write (struct mpi_policy *p, const char *path);
int mpi_policy_run (struct mpi_policy *p, const char *path);
int mpi_policy_module (struct mpi_policy *p, const char *name);
int mpi_policy_connect (struct mpi_policy *p, int64_t port); /* 0: any port */
int mpi_policy_bind (struct mpi_policy *p, int64_t port); /* 0: any free port */

const char *mpi_policy_name (const struct mpi_policy *p, const struct mpi_names *names, uint32_t i);

/* A policy that came over a wire: every count and offset is in range, every name ends. MP_ECORRUPT if not. */
int mpi_policy_check (const struct mpi_policy *p);

/* Does `path` (absolute, resolved) lie in or below one of the names? */
int mpi_policy_covers (const struct mpi_policy *p, const struct mpi_names *names, const char *path);

#endif
