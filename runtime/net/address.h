/* address.h -- where programs meet: "tcp://host:port" and "unix:/path".
** Owner    a descriptor that is given is the caller's. Sockets are nonblocking and closed on exec.
** Blocks   dial until the deadline (names are looked up first, for as long as that takes); the others not.
** Files    a socket file is for its user only (0600). One that a dead server left is replaced, one that somebody listens at is not,
**          whatever else has the name neither; two who try at once are kept apart by a lock on the folder. mpi_address_remove removes the file that
**          listen made, and no other that took its place; it may be called from a signal handler.
** Errors   MP_EMISUSE: no such address. MP_ESYS: refused by the system, with the address. MP_ETIMEDOUT.
*/
#ifndef MPI_ADDRESS_H
#define MPI_ADDRESS_H

#include <netinet/in.h>
#include <sys/un.h>

#include "mp.h"

struct mpi_address {
  int unix_domain;
  char host[256];
  char port[8];
  char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
  /* of a listener's file */
  uint64_t dev, ino;
};

int mpi_address_parse (const char *text, struct mpi_address *a);

/* Where the port was 0 the one that was found is put into a->port. */
int mpi_address_listen (struct mpi_address *a, int *fd);
void mpi_address_remove (const struct mpi_address *a);
void mpi_address_text (const struct mpi_address *a, char *text, size_t size);

int mpi_address_dial (const struct mpi_address *a, int64_t deadline, int *fd);
void mpi_address_tune (int fd); /* small packets at once, and a peer whose machine is gone is noticed */

#endif
