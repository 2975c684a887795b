#include "base/spin.h"

#include <stdatomic.h>

#include "base/atomics.h"
#include "mp.h"

static _Atomic int latch_spins = -1;
static _Atomic int message_spins = -1;

#ifndef MP_HARD
#ifndef MP_HARD
static int measure_relax_per_us (void) {
  int i;
  int64_t start = mp_now();
  int64_t spent;
  for (i = 0; i < 2000; i++) mpi_relax();
  spent = mp_now() - start;
  if (spent < 1000) spent = 1000;
  return (int)(2000 * 1000 / spent) + 1;
}
#endif
#endif

static void calibrate (void) {
#ifdef MP_HARD
  latch_spins = 0;
  message_spins = 0;
#else
  if (mp_cpu_count() < 2) {
    latch_spins = 0;
    message_spins = 0;
  } else {
    int per_us = measure_relax_per_us();
    latch_spins = per_us * 2;
    message_spins = per_us * 25; /* about a sleep and a wake on a virtual machine */
  }
#endif
}

int mpi_spin_limit (mpi_spin_kind kind) {
  if (atomic_load_explicit(&message_spins, memory_order_relaxed) < 0) calibrate();
  return kind == MPI_SPIN_LATCH ? latch_spins : message_spins;
}

/* credit runs from -8 (never pays) to 8 (always pays). When it does not pay, one wait in sixteen tries again. */
int mpi_spin_begin (const int *credit) {
  int limit = mpi_spin_limit(MPI_SPIN_MESSAGE);
  static _Thread_local unsigned turn;
  if (__atomic_load_n(credit, __ATOMIC_RELAXED) >= -4) return limit; /* another thread may be writing it: any value will do */
  return (++turn & 15) == 0 ? limit : 0;
}

void mpi_spin_end (int *credit, int paid_off) {
  int c = __atomic_load_n(credit, __ATOMIC_RELAXED) + (paid_off ? 2 : -1);
  __atomic_store_n(credit, c > 8 ? 8 : c < -8 ? -8 : c, __ATOMIC_RELAXED);
}
