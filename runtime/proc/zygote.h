/* zygote.h -- what passes between spawn.c and zygote.c: fixed records over a SOCK_SEQPACKET pair between two processes of one user, the second
** started by the first. Request: one descriptor, the new process's end of its report socket. Reply: its pid, or minus errno; the zygote's
** first reply is its version. Values are checked by both.
*/
#ifndef MPI_ZYGOTE_H
#define MPI_ZYGOTE_H

#include <stdint.h>

#define MPI_ZYGOTE_MAGIC 0x5a47504du
#define MPI_ZYGOTE_VERSION 2
#define MPI_ZYGOTE_CLONE 1

struct mpi_zygote_request {
  uint32_t magic;
  uint32_t what;
};

struct mpi_zygote_reply {
  uint32_t magic;
  int32_t value;
};

/* The first descriptors of a task: directory, standard output, standard error, the program's page. Anything else in a place: none. */
#define MPI_TASK_FDS 4

#endif
