#include "main/small.h"

#include <stdlib.h>

#define CHUNK 8192u

struct mpi_small *mpi_small_free[MPI_SMALL_MOST / 16 + 1];

void *mpi_small_more (size_t size) {
#ifdef MPI_SMALL_NONE
  (void)size;
  return NULL;
#else
  static char *at, *end; /* of the last chunk */
  static size_t taken;
  size_t n = (size + 15) / 16 * 16;
  char *b;
  if ((size_t)(end - at) < n) { /* what is left of the old chunk (less than 128 bytes) stays unused */
    char *chunk = taken < MPI_SMALL_BOUND ? malloc(CHUNK) : NULL;
    if (chunk == NULL) return NULL;
    taken += CHUNK;
    at = chunk + MPI_SMALL_MARK;
    end = chunk + CHUNK;
  }
  b = at;
  at += n;
  return b;
#endif
}
