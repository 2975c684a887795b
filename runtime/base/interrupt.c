#include "base/interrupt.h"

#include "base/clock.h"

static _Thread_local mp_interrupt_fn callback;
static _Thread_local void *callback_ud;
static _Thread_local int held;

void mp_set_interrupt (mp_interrupt_fn fn, void *ud) {
  callback = fn;
  callback_ud = ud;
}

int mpi_interrupted (void) {
  return callback != NULL && !held && callback(callback_ud);
}

int mpi_interrupt_hold (int hold) {
  int before = held;
  held = hold;
  return before;
}

int64_t mpi_slice_end (int64_t now, int64_t deadline, int *slice) {
  int64_t length = 100 * MPI_NS_PER_MS;
  int i;
  for (i = 0; i < *slice; i++) length *= 4;
  if (*slice < 8) (*slice)++; /* 0.1 s ... 1.8 h */
  return deadline - now < length ? deadline : now + length;
}
