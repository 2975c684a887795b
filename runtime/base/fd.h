/* fd.h -- descriptors: closed on exec always, the soft limit raised when it is reached, and passed between processes.
** Owner    every function that gives a descriptor gives it to the caller.
** Blocks   nothing here.
** Errors   negative MP_E codes; MP_ESYS with the name of the call. MP_EFULL: a socket cannot take another record now.
*/
#ifndef MPI_FD_H
#define MPI_FD_H

#include <stddef.h>
#include <sys/types.h>

#include "mp.h"

#define MPI_MAX_FDS 250 /* descriptors in one record; the kernel allows 253 */

/* After EMFILE: raises the soft limit of open files to the hard one. True if the call is worth another try. */
int mpi_fd_raise_limit (void);

void mpi_fd_close (int *fd); /* closes if >= 0 and sets to -1; errno is kept */
int mpi_fd_dup (int fd);     /* close-on-exec, numbered above the standard streams; or negative code */

/* fstat by its own system call: glibc uses one that also takes a name, which a confined process may not make. */
struct stat;
int mpi_fstat (int fd, struct stat *st);

int mpi_memfd (const char *name); /* empty, sealable; or negative code */
int mpi_eventfd (void);           /* nonblocking, 0; or negative code */
int mpi_socketpair (int sv[2]);   /* SOCK_SEQPACKET, nonblocking */

/* Grows whenever this process learns that another has ended (a wait for it succeeded): reason to look at hang-ups again. */
extern _Atomic unsigned mpi_deaths;

/* One record with up to MPI_MAX_FDS descriptors. 0, MP_EFULL (would block, or too many in flight), MP_ECLOSED (no peer), MP_ESYS. */
int mpi_fd_send (int sock, const void *data, size_t size, const int *fds, int nfds);

/* One record into data (at most size bytes; *got its length) and fds (*nfds: room in, count out; surplus ones are closed).
** flags: MSG_PEEK duplicates the descriptors and leaves the record. 0, MP_EEMPTY, MP_EEOF, MP_ECORRUPT (truncated), MP_ESYS. */
int mpi_fd_recv (int sock, void *data, size_t size, size_t *got, int *fds, int *nfds, int flags);

#endif
