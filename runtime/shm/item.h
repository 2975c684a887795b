/* item.h -- what Dict and List hold: a kind byte and its payload.
** Kinds    integers, floats, booleans and strings as they are, so that C hosts, keys and counters need no codec; everything else as a
**          message of the codec (opaque here).
** Units    bytes; an item is at most MPI_ITEM_MAX. Integers and floats are 8 bytes in the machine's order (shared memory does not travel).
** Memory   struct mpi_item borrows; items in a buffer are packed as [uint32 size][kind][payload], size counting the kind.
*/
#ifndef MPI_ITEM_H
#define MPI_ITEM_H

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { MPI_ITEM_INT = 1, MPI_ITEM_FLOAT = 2, MPI_ITEM_BOOL = 3, MPI_ITEM_STR = 4, MPI_ITEM_CODED = 5 };

#define MPI_ITEM_MAX 0x7fffffffu

struct mpi_item {
  uint8_t kind;
  size_t size;      /* of the payload */
  const void *data;
};

struct mpi_number {
  int is_float;
  int64_t i;
  double d;
};

/* A float with an integer value that an int64 holds? */
static inline int mpi_float_is_int (double d, int64_t *i) {
  if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0) || floor(d) != d) return 0;
  *i = (int64_t)d;
  return 1;
}

/* Number from the bytes of an item (size counts the kind); 0: it is none. */
static inline int mpi_item_number (const char *item, size_t size, struct mpi_number *n) {
  if (size != 9 || (item[0] != MPI_ITEM_INT && item[0] != MPI_ITEM_FLOAT)) return 0;
  n->is_float = item[0] == MPI_ITEM_FLOAT;
  if (n->is_float) memcpy(&n->d, item + 1, 8);
  else memcpy(&n->i, item + 1, 8);
  return 1;
}

/* Lua's == between plain items; coded ones by their bytes. */
static inline int mpi_item_equal (const char *a, size_t na, const char *b, size_t nb) {
  struct mpi_number x = {0, 0, 0}, y = {0, 0, 0};
  if (mpi_item_number(a, na, &x) && mpi_item_number(b, nb, &y)) {
    int64_t i = 0;
    if (x.is_float && y.is_float) return x.d >= y.d && x.d <= y.d;
    if (x.is_float) return mpi_float_is_int(x.d, &i) && i == y.i;
    if (y.is_float) return mpi_float_is_int(y.d, &i) && i == x.i;
    return x.i == y.i;
  }
  return na == nb && memcmp(a, b, na) == 0;
}

#endif
