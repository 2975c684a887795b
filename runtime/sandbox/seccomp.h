/* seccomp.h -- the system-call filter: compiled from the table of calls.h by libseccomp, installed as plain bytes.
** What      a program of classic BPF. Compiling costs about a millisecond and is done once for each set of features (cached in the process);
**           installing costs a tenth. A few instructions of our own come first: a foreign machine's call or an x32 number ends the process,
**           numbers that the table cannot know get ENOSYS.
** Two forms with a listener what is not allowed is handed to a supervisor (warden.h), which answers, records and kills; without one it
**           fails with EPERM, or, for a policy that kills, ends the process.
** Memory    mpi_filter is flat; the caller's.
** Threads   compiling: any thread (a lock guards the cache). Installing: covers the calling thread and what it starts.
** Fork      the filter is inherited; so is the cache.
** Errors    MP_ENOSUP (no seccomp here), MP_ESYS, MP_ENOMEM.
*/
#ifndef MPI_SECCOMP_H
#define MPI_SECCOMP_H

#include <stdint.h>

#include "sandbox/calls.h"

#define MPI_FILTER_MAX 2048 /* instructions; the kernel takes 4096 */

struct mpi_bpf { /* the kernel's struct sock_filter */
  uint16_t code;
  uint8_t jt;
  uint8_t jf;
  uint32_t k;
};

struct mpi_filter {
  uint32_t n;
  struct mpi_bpf insn[MPI_FILTER_MAX];
};

enum mpi_filter_form {
  MPI_FILTER_LISTENER,
  MPI_FILTER_DENY,
  MPI_FILTER_KILL,
  MPI_FILTER_LEARN, /* what is not allowed is handed over, all of it: the supervisor lets it pass and takes note */
  MPI_FILTER_NONE   /* limits only */
};

int mpi_filter_compile (unsigned features, enum mpi_filter_form form, struct mpi_filter *out);
int mpi_filter_compile_for (uint32_t arch, unsigned features, enum mpi_filter_form form, struct mpi_filter *out); /* uncached */

/* The calling thread, for ever; needs no_new_privs. `pid`: the process's own. With listener != NULL the descriptor of the notifications. */
int mpi_filter_install (const struct mpi_filter *f, uint32_t pid, int *listener);

uint32_t mpi_filter_arch (void); /* of this machine */
int mpi_filter_available (void); /* 1, or a negative code with the reason */

#endif
