#include "main/small.h"

#include <stdlib.h>

#include "base/warm.h"

#define CHUNK 8192u

MPI_WARM struct mpi_small *mpi_small_free[MPI_SMALL_MOST / 16 + 1];

void *mpi_small_more (size_t size) {
#ifdef MPI_SMALL_NONE
  (void)size;
  return NULL;
#else
  static MPI_WARM struct {
    char *at, *end;
  } chunks[2]; /* the last ones: of others, of calls */
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
