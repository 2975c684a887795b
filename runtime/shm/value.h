/* value.h -- one number, or a row of them, in shared memory.
** What     cells of one type code: c b B h H i I l L q Q f d ? (docs/reference/value.md). Each access is one atomic instruction or a
**          compare-and-swap loop; there is no lock in here.
** Layout   Value: cell at 64, code at 72. Array: code at 64, length at 72, cells from 128. The array's memory is sparse: what was never
**          written is zero and takes no pages.
** Units    indices from 1. Scalars (mp_scalar): kind 'i' (integers), 'f' (f, d), '?' (0 or 1 in i), 'c' (the byte in i).
** Sharing  threads, processes, signal handlers.
** Blocks   nothing.
** Death    a cell is old or new.
** Errors   MP_EMISUSE wrong kind for the code; MP_ERANGE out of range or overflow: nothing has changed.
** Trust    code and length are copied and checked on arrival and never read again; cells can hold any bytes.
*/
#ifndef MPI_VALUE_H
#define MPI_VALUE_H

#include "shm/object.h"

struct mpi_cells { /* the private part of Value and Array */
  struct mpi_object o;
  char *first;
  uint64_t count;
  int width;
  char code;
  char kind; /* of its scalars */
};

extern const struct mpi_type mpi_type_value;
extern const struct mpi_type mpi_type_array;

int mpi_code_width (int code); /* bytes of a cell; 0: no such code */

/* Will this scalar fit a cell? On success *bits is what would be stored. */
int mpi_cell_encode (char code, mp_scalar v, uint64_t *bits);
mp_scalar mpi_cell_decode (char code, uint64_t bits);
uint64_t mpi_cell_load (const struct mpi_cells *c, uint64_t i); /* i from 0, below count */
void mpi_cell_store (const struct mpi_cells *c, uint64_t i, uint64_t bits);
int mpi_cell_add (const struct mpi_cells *c, uint64_t i, mp_scalar by, mp_scalar *out);
int mpi_cell_cas (const struct mpi_cells *c, uint64_t i, mp_scalar old, mp_scalar new_value, mp_scalar *now); /* 1: swapped, 0: *now */

#endif
