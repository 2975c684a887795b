#include "base/spin.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomics.h"
#include "mp.h"

static _Atomic int latch_spins = -1;
static _Atomic int message_spins = -1;

#define MOST_US 25 /* about a sleep and a wake on a virtual machine */
#define DENSE 16   /* iterations in which the looks follow each other directly: who answers at once is seen at once */

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

static void calibrate (void) {
#ifdef MP_HARD
  latch_spins = 0;
  message_spins = 0;
#else
  const char *wanted = getenv("MP_SPIN"); /* 0: never; for comparison (spec/bench) */
  if (mp_cpu_count() < 2 || (wanted != NULL && strcmp(wanted, "0") == 0)) {
    latch_spins = 0;
    message_spins = 0;
  } else {
    int per_us = measure_relax_per_us();
    latch_spins = per_us * MPI_SPIN_LATCH_US;
    message_spins = per_us * MOST_US;
  }
#endif
}

int mpi_spin_limit (mpi_spin_kind kind) {
  if (atomic_load_explicit(&message_spins, memory_order_relaxed) < 0) calibrate();
  return kind == MPI_SPIN_LATCH ? latch_spins : message_spins;
}

/* credit runs from -8 (never pays) to 8 (always pays). A look in vain takes off 2, one that pays adds 3: looking goes on while two in five pay, as
** where two workers wait for one task. Below that, for instance since whom we wait for does not run while we look, one wait in 128 tries again; if
** that pays, the next ones look too, for two that wait for each other must begin to look at the same time. */
int mpi_spin_begin (const int *credit) {
  static _Thread_local unsigned turn;
  int limit = mpi_spin_limit(MPI_SPIN_MESSAGE);
  if (__atomic_load_n(credit, __ATOMIC_RELAXED) >= -4) return limit; /* another thread may be writing it: any value will do */
  return (++turn & 127) == 0 ? limit : 0;
}

void mpi_spin_end (int *credit, int paid_off) {
  int c = __atomic_load_n(credit, __ATOMIC_RELAXED);
  c += !paid_off ? -2 : c < -4 ? 4 : 3;
  __atomic_store_n(credit, c > 8 ? 8 : c < -8 ? -8 : c, __ATOMIC_RELAXED);
}

int mpi_spin_until (int *credit, int most, int (*ready) (void *ud), void *ud) {
  int limit = mpi_spin_begin(credit), done = 0, pause = 1, seen, k;
  if (limit == 0) return 0;
  while (!(seen = ready(ud)) && done < limit) {
    for (k = 0; k < pause; k++) mpi_relax();
    done += pause;
    if (done >= DENSE && pause < most) pause *= 2;
  }
  mpi_spin_end(credit, seen);
  return seen;
}
