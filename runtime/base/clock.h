/* clock.h -- monotonic time. Units: nanoseconds; MP_NEVER never comes, 0 is always past. Any thread, signal-safe. */
#ifndef MPI_CLOCK_H
#define MPI_CLOCK_H

#include <time.h>

#include "mp.h"

#define MPI_NS_PER_S INT64_C(1000000000)
#define MPI_NS_PER_MS INT64_C(1000000)

static inline struct timespec mpi_timespec (int64_t ns) {
  struct timespec ts;
  ts.tv_sec = (time_t)(ns / MPI_NS_PER_S);
  ts.tv_nsec = (long)(ns % MPI_NS_PER_S);
  return ts;
}

#endif
