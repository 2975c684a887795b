#include "base/clock.h"

#include "base/interrupt.h"

int64_t mp_now (void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * MPI_NS_PER_S + ts.tv_nsec;
}

int64_t mp_deadline (double seconds) {
  int64_t now;
  if (seconds <= 0) return 0;
  if (!(seconds < 4e9)) return MP_NEVER; /* about 127 years, inf or NaN */
  now = mp_now();
  return now + (int64_t)(seconds * 1e9);
}

int mp_sleep (int64_t deadline) {
  int slice = 0;
  int rc;
  do rc = mpi_sleep_in_poll(NULL, 0, deadline, &slice);
  while (rc == 0);
  return rc == MP_ETIMEDOUT ? 0 : rc;
}
