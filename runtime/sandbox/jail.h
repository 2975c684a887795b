/* jail.h -- a policy made ready, and the one function that confines a process by it.
** What      mpi_jail_make checks that this kernel can enforce the policy and compiles its filter: done by who makes the process, once for each
**           policy. mpi_jail_confine gives up, in this order: the environment, the terminal, all descriptors but the granted ones, the
**           network and IPC (away.h), resources, the user's identity and capabilities, core dumps and new executable memory, paths and ports, system calls.
** Memory    struct mpi_jail is flat: it may be sent to the process to confine as bytes (mpi_jail_pack and mpi_jail_unpack keep it short).
** Threads   only a process with one thread may be confined: other threads would stay outside.
** Fork      all of it is inherited.
** Errors    whatever can fail is tried before anything irreversible; afterwards an error leaves a process that is confined in part: it must end.
** Death     nothing is shared, nothing is left behind.
*/
#ifndef MPI_JAIL_H
#define MPI_JAIL_H

#include "sandbox/policy.h"
#include "sandbox/seccomp.h"

#define MPI_JAIL_MAGIC 0x6d706a31u

struct mpi_jail {
  uint32_t magic;
  uint32_t features;
  uint32_t form;  /* enum mpi_filter_form */
  uint32_t learn; /* nonzero: nothing is refused, everything beyond computing is recorded */
  struct mpi_policy policy;
  struct mpi_filter filter;
};

int mpi_jail_make (const struct mpi_policy *p, enum mpi_filter_form form, struct mpi_jail *out);
int mpi_jail_make_learner (struct mpi_jail *out);

/* To bytes and back, without the unused parts. pack: room for MPI_JAIL_PACKED_MAX bytes; gives the size. unpack checks everything. */
#define MPI_JAIL_PACKED_MAX (sizeof(struct mpi_jail))
size_t mpi_jail_pack (const struct mpi_jail *j, unsigned char *to);
int mpi_jail_unpack (const unsigned char *from, size_t size, struct mpi_jail *out);

/* Confines this process. keep[n]: descriptors that stay, beside 0, 1 and 2. `supervisor`: with a listener form, a socket to hand the
** notifications' descriptor and one of this process's memory to, waiting for a byte in return (it stays open); else -1. Environment variables, descriptors and
** identity are lost; returns 0 inside. */
int mpi_jail_confine (const struct mpi_jail *j, const int *keep, int n, int supervisor);

/* For who makes copies of itself that are to be confined: does once what each of them would do. Not beside other threads. */
void mpi_jail_warm (void);

/* The unprivileged user that a process with this id gets when root starts it: one of its own, so that workers cannot reach each other. */
uint32_t mpi_jail_uid (uint32_t pid);

#endif
