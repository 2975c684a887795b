/* link.h -- frames over a stream: between programs encrypted (the calling side of a gate), or plain between a gate and its deputy.
** Units    a frame is four bytes of length, big-endian, and that many bytes; at most MPI_FRAME_MOST.
** Owner    the link has the descriptor and the session. Received bytes lie in the link until the next receive.
** Threads  one at a time. Fork: a copy may be closed, and not used.
** Blocks   send and receive until the deadline. What was begun to be sent must be finished: after MP_ETIMEDOUT or MP_EINTR of a send call it again
**          with data == NULL. A receive may just be repeated.
** Signals  no SIGPIPE. Errors: MP_EEOF (the other side is gone), MP_ECORRUPT, MP_E2BIG, MP_ETIMEDOUT, MP_EINTR, MP_ENOMEM.
*/
#ifndef MPI_LINK_H
#define MPI_LINK_H

#include <stddef.h>

#include "net/address.h"

#define MPI_FRAME_MOST (256u << 20)
#define MPI_FRAME_FORGET 0xffffffffu /* instead of a length: four bytes follow, the number of the request that nobody waits for any more */

struct mpi_link;

/* Dials and proves the key: MP_ECORRUPT if that is not accepted; dials again if the other side hangs up without a word. */
int mpi_link_open (const struct mpi_address *a, const void *secret, size_t size, int64_t deadline, struct mpi_link **out);
int mpi_link_adopt (int fd, struct mpi_link **out); /* plain; takes the descriptor if it succeeds */
void mpi_link_close (struct mpi_link *l);           /* NULL is fine */

int mpi_link_send (struct mpi_link *l, const void *data, size_t size, int64_t deadline);
int mpi_link_forget (struct mpi_link *l, uint32_t number, int64_t deadline);
int mpi_link_receive (struct mpi_link *l, const unsigned char **data, size_t *size, int64_t deadline);

#endif
