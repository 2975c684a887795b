/* copy.h -- memcpy for what is nearly always a few bytes: not worth a call.
** Up to 32 bytes are copied by words that may overlap, so the source may be read twice; whoever copies from memory that others write to gets some mixture
** of what was there, as from memcpy. The spans themselves do not overlap.
*/
#ifndef MPI_COPY_H
#define MPI_COPY_H

#include <string.h>

static inline __attribute__((always_inline)) void mpi_copy (void *to, const void *from, size_t n) {
  char *d = to;
  const char *s = from;
  if (n > 32) {
    memcpy(d, s, n);
  } else if (n >= 8) {
    memcpy(d, s, 8);
    if (n > 16) memcpy(d + 8, s + 8, 8);
    if (n > 24) memcpy(d + 16, s + 16, 8);
    memcpy(d + n - 8, s + n - 8, 8);
  } else if (n >= 4) {
    memcpy(d, s, 4);
    memcpy(d + n - 4, s + n - 4, 4);
  } else if (n > 0) {
    d[0] = s[0];
    d[n / 2] = s[n / 2];
    d[n - 1] = s[n - 1];
  }
}

#endif
