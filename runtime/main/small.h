/* small.h -- small blocks for the interpreter's Lua state: what tables, strings and closures are made of, over and over.
** What     a list of free blocks for each size, so that taking and giving are a few instructions each; malloc's way through its bins costs some
**          hundred for garbage that is collected in bulk.
** Units    bytes; sizes 1 to MPI_SMALL_MOST, rounded up to 16.
** Lists    blocks of exactly MPI_SMALL_CALL bytes are for themselves, in chunks of their own: Lua's records of calls are so large, which every call in a
**          process and its forked child writes. Among all else they would lie in as many pages as there are, each to be copied.
** Memory   taken in chunks of malloc's, at most MPI_SMALL_BOUND of it, never given back: beyond the bound, get gives NULL and malloc serves.
**          Every block's address is 8 modulo 16, which malloc never gives: that tells where a block belongs. Put wants the size of the last
**          get, or a smaller one (then the block is used for smaller things from now on).
** Threads  one: the main thread's Lua state. After fork each process has its own. Not for signal handlers.
** Tests    with the address sanitizer there are no small blocks, so that it sees every one.
*/
#ifndef MPI_SMALL_H
#define MPI_SMALL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __SANITIZE_ADDRESS__
#define MPI_SMALL_NONE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MPI_SMALL_NONE 1
#endif
#endif

#define MPI_SMALL_MOST 128u
#define MPI_SMALL_BOUND (8u << 20)
#define MPI_SMALL_MARK 8u
#define MPI_SMALL_CALL 64u

struct mpi_small {
  struct mpi_small *next;
};
extern struct mpi_small *mpi_small_free[MPI_SMALL_MOST / 16 + 1];

void *mpi_small_more (size_t size);

/* The nest: a Lua thread and its stack, for what a forked child runs, in the program's own memory, beside the first records of calls and the variables that
** a fork writes (base/warm.h): no page more has to be copied for it; in the heap it would be one each. Never given back. Not there with the address
** sanitizer. */
#define MPI_NEST_SIZE 1152u
extern unsigned char mpi_nest_memory[];
void *mpi_nest_get (size_t size); /* at a multiple of 16, zeroed; NULL: no room */
static inline int mpi_nest_has (const void *block) {
  return (uintptr_t)block - (uintptr_t)mpi_nest_memory < MPI_NEST_SIZE;
}

static inline size_t mpi_small_list (size_t size) {
  return size == MPI_SMALL_CALL ? 0 : (size + 15) / 16;
}

static inline void *mpi_small_get (size_t size) {
  struct mpi_small **list = &mpi_small_free[mpi_small_list(size)];
  struct mpi_small *b = *list;
  if (__builtin_expect(b == NULL, 0)) return mpi_small_more(size);
  *list = b->next;
  return b;
}

static inline void mpi_small_put (void *block, size_t size) {
  struct mpi_small **list = &mpi_small_free[mpi_small_list(size)];
  struct mpi_small *b = block;
  b->next = *list;
  *list = b;
}

#endif
