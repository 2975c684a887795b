/* atomics.h -- C11 atomics under short names. Shared words are always accessed through these.
** The suffix is the ordering: _relaxed, _acquire, _release; none means sequentially consistent.
** All types used across processes are lock-free on our targets (asserted below).
*/
#ifndef MPI_ATOMICS_H
#define MPI_ATOMICS_H

#include <stdatomic.h>
#include <stdint.h>

typedef _Atomic uint8_t mpi_a8;
typedef _Atomic uint16_t mpi_a16;
typedef _Atomic uint32_t mpi_a32;
typedef _Atomic uint64_t mpi_a64;

_Static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "atomics must not hide locks");
_Static_assert(sizeof(mpi_a32) == 4 && sizeof(mpi_a64) == 8, "atomics have their plain size");

#define mpi_load(p) atomic_load_explicit((p), memory_order_seq_cst)
#define mpi_load_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define mpi_load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define mpi_store(p, v) atomic_store_explicit((p), (v), memory_order_seq_cst)
#define mpi_store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
#define mpi_store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define mpi_xchg(p, v) atomic_exchange_explicit((p), (v), memory_order_seq_cst)
#define mpi_fetch_add(p, v) atomic_fetch_add_explicit((p), (v), memory_order_seq_cst)
#define mpi_fetch_or(p, v) atomic_fetch_or_explicit((p), (v), memory_order_seq_cst)
#define mpi_fetch_and(p, v) atomic_fetch_and_explicit((p), (v), memory_order_seq_cst)
/* Compare and swap: *expected is updated on failure. */
#define mpi_cas(p, expected, v) \
  atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_seq_cst, memory_order_seq_cst)

/* Tells the processor that this is a spin loop. */
static inline void mpi_relax (void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield" ::: "memory");
#endif
}

/* Asks for the cache line of an address that will soon be written: another processor has it. Any address will do. */
static inline void mpi_prefetch_write (const void *p) {
#if defined(__x86_64__)
  __asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)p)); /* nothing where the processor does not know it */
#else
  __builtin_prefetch(p, 1);
#endif
}

/* Keeps the compiler (not the processor) from moving memory accesses across: what orders our own stores as
** the kernel sees them when it ends this thread. */
#define mpi_compiler_barrier() atomic_signal_fence(memory_order_seq_cst)

#endif
