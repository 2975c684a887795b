/* message.h -- what passes between a C host and the processes that it started: lua/mp/host.lua is the other side.
** What     a message to them is built item by item (wire/wire.h); shared objects go along as handles. What comes back is plain: a string, or a map of
**          strings and numbers that tells of a failure.
** Memory   struct mpi_out owns its bytes, and borrows the objects' descriptors: the objects must live until it is sent. fini is harmless on zeroes.
** Errors   building remembers the first failure; mpi_out_done gives it. Reading believes nothing.
** Threads  one at a time. Blocks: never.
*/
#ifndef MPI_HOST_MESSAGE_H
#define MPI_HOST_MESSAGE_H

#include <stddef.h>

#include "base/fd.h"
#include "mp.h"

struct mpi_out {
  unsigned char *data;
  size_t size, room;
  int fds[MPI_MAX_FDS];
  int nfds;
  int rc;
};

void mpi_out_init (struct mpi_out *o);
void mpi_out_fini (struct mpi_out *o);
void mpi_out_map (struct mpi_out *o, unsigned pairs);
void mpi_out_array (struct mpi_out *o, unsigned items);
void mpi_out_bytes (struct mpi_out *o, const void *data, size_t size);
void mpi_out_text (struct mpi_out *o, const char *text); /* NULL: nil */
void mpi_out_int (struct mpi_out *o, int64_t i);
void mpi_out_bool (struct mpi_out *o, int b);
void mpi_out_seconds (struct mpi_out *o, int64_t ns);
void mpi_out_object (struct mpi_out *o, mp_object *object);
void mpi_out_objects (struct mpi_out *o, mp_object *const *objects, unsigned n); /* an array of them */
void mpi_out_limits (struct mpi_out *o, const struct mp_limits *l);             /* a map, or nil if there are none */
int mpi_out_done (const struct mpi_out *o);

/* Descriptors of objects that a confined process will have: what comes out of them is data (proc/distrust.h). */
void mpi_out_distrust (const struct mpi_out *o);

/* A failure, and the strings that it points to: one block. */
struct mpi_failure {
  struct mp_failure public;
  char *strings;
};
/* From the map; what is no such map gives kind "error" and a message that says so. 0 or MP_ENOMEM. */
int mpi_failure_read (const unsigned char *data, size_t size, struct mpi_failure *out);
int mpi_failure_make (const char *kind, const char *message, const char *traceback, struct mpi_failure *out);
void mpi_failure_fini (struct mpi_failure *f); /* fine on zeroes */

/* The one string (or nil: *size 0) that the message is: 0 or MP_ECORRUPT. */
int mpi_message_bytes (const unsigned char *data, size_t size, const unsigned char **bytes, size_t *length);

#endif
