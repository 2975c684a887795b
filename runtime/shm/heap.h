/* heap.h -- blocks of a container's segment. Every change goes through the undo log, so an allocation is part of the change it serves.
** What     chunks of 64 KiB in a row. Blocks up to MPI_SMALL_MAX come from chunks that hold one size each; a chunk that has become empty
**          goes back, unless it is the last of its size with room. Larger blocks are runs of chunks, four lengths a
**          doubling; only the pages that are written exist. Free runs keep up to 1 MiB of pages in all.
** Units    bytes; offsets from the file's start, 16-aligned. 0: none.
** Sharing  under the store's lock, inside a change (undo.h).
** Death    the undo log's.
** Errors   sticky (undo.h): MP_ENOMEM full, MP_ECORRUPT.
*/
#ifndef MPI_HEAP_H
#define MPI_HEAP_H

#include "shm/undo.h"

#define MPI_SMALL_MAX 8192u

uint64_t mpi_heap_alloc (struct mpi_store *s, uint64_t size); /* 0 on failure */
void mpi_heap_free (struct mpi_store *s, uint64_t off);

/* Makes the heap as new (whatever was in it) and gives all its pages back after the commit. */
void mpi_heap_reset (struct mpi_store *s);

/* Room of the block at off, 0 if there is no such block in use: the bound for what its content claims. */
uint64_t mpi_heap_room (struct mpi_store *s, uint64_t off);

/* For tests: 0 if every list and count agrees and exactly `used` small blocks and runs are in use, else MP_ECORRUPT with a sentence. */
int mpi_heap_check (struct mpi_store *s, uint64_t used);

#endif
