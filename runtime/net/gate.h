/* gate.h -- where other programs come in: listens, lets in who knows the key, and passes frames between each and a deputy of its own.
** What      one loop over all connections. A connection that has proved the key within MPI_GATE_PATIENCE gets a socket pair; its far end
**           goes to whoever serves it (a deputy process). What is encrypted outside is plain inside. Who proves nothing is dropped.
** Limits    MPI_GATE_STRANGERS connections that have proved nothing yet (the oldest gives way), MPI_GATE_CLIENTS that have, MPI_FRAME_MOST a frame.
**           A client that does not read is not read from: nothing piles up here.
** Owner     the gate has listener, connections and key. The far end of a pair is given to the caller.
** Process   one gate a process: mpi_gate_guard installs a SIGTERM handler that removes the socket file and ends the process, makes SIGTERM what
**           arrives when the parent dies, and ignores SIGPIPE and SIGINT. Threads: one.
** Blocks    mpi_gate_next until there is something to say.
** Errors    MP_ESYS, MP_ENOMEM, MP_EMISUSE (address), MP_ENOSUP (OpenSSL).
*/
#ifndef MPI_GATE_H
#define MPI_GATE_H

#include <stddef.h>
#include <sys/types.h>

#include "net/address.h"

#define MPI_GATE_PATIENCE 900 /* ms */
#define MPI_GATE_STRANGERS 64
#define MPI_GATE_CLIENTS 256

enum { MPI_GATE_END, MPI_GATE_CLIENT, MPI_GATE_GONE }; /* the server is gone; somebody has come in; he has left */

struct mpi_gate_event {
  int what;
  int64_t id; /* never used again */
  int fd;     /* MPI_GATE_CLIENT: the far end, the caller's */
};

struct mpi_gate;

/* alive: hangs up when there is nobody left to serve; borrowed. */
int mpi_gate_open (struct mpi_address *a, const void *secret, size_t size, int alive, struct mpi_gate **out);
void mpi_gate_guard (struct mpi_gate *g);
int mpi_gate_next (struct mpi_gate *g, struct mpi_gate_event *out);
void mpi_gate_deputy (struct mpi_gate *g, int64_t id, pid_t pid); /* gets MPI_GATE_SIGNAL with the number when a request is to be forgotten */
void mpi_gate_drop (struct mpi_gate *g, int64_t id);
void mpi_gate_close (struct mpi_gate *g); /* removes the file; NULL is fine */

#define MPI_GATE_SIGNAL (SIGRTMIN + 3)

#endif
