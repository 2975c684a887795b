#include "main/small.h"

#include <stdlib.h>

#include "base/warm.h"

#define CHUNK 8192u

MPI_WARM struct mpi_small *mpi_small_free[MPI_SMALL_MOST / 16 + 1];

MPI_HOT void *mpi_small_more (size_t size) {
#ifdef MPI_SMALL_NONE
  (void)size;
  return NULL;
#else
  static MPI_WARM _Alignas(16) char first_calls[1024 + MPI_SMALL_MARK];
  static MPI_WARM struct {
    char *at, *end;
  } chunks[2] = {{NULL, NULL}, {first_calls + MPI_SMALL_MARK, first_calls + sizeof first_calls}}; /* the last ones: of others, of calls */
  static MPI_WARM size_t taken;
  size_t n = (size + 15) / 16 * 16;
  int calls = size == MPI_SMALL_CALL;
  char *b;
  if ((size_t)(chunks[calls].end - chunks[calls].at) < n) { /* what is left of the old chunk (less than 128 bytes) stays unused */
    char *chunk = taken < MPI_SMALL_BOUND ? malloc(CHUNK) : NULL;
    if (chunk == NULL) return NULL;
    taken += CHUNK;
    chunks[calls].at = chunk + MPI_SMALL_MARK;
    chunks[calls].end = chunk + CHUNK;
  }
  b = chunks[calls].at;
  chunks[calls].at += n;
  return b;
#endif
}

MPI_WARM _Alignas(16) unsigned char mpi_nest_memory[MPI_NEST_SIZE];

void *mpi_nest_get (size_t size) {
#ifdef MPI_SMALL_NONE
  (void)size;
  return NULL;
#else
  static size_t used;
  void *b = mpi_nest_memory + used;
  size = (size + 15) / 16 * 16;
  if (size > sizeof mpi_nest_memory - used) return NULL;
  used += size;
  return b;
#endif
}
