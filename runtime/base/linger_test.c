/* linger_test.c -- when a getter lets messages gather, and for how long. */
#include "base/linger.h"

#include "base/clock.h"
#include "base/spin.h"
#include "test/test.h"

static int us (void) {
  int n = mpi_spin_limit(MPI_SPIN_LATCH) / MPI_SPIN_LATCH_US;
  if (n == 0) SKIP("one processor, or the hard mode: nothing lingers");
  return n;
}

/* Looks that find `found` until it lingers; how many it took, at most `most`. */
static int looks_until (struct mpi_linger *l, uint32_t found, int most) {
  int n;
  for (n = 1; n <= most; n++) {
    mpi_linger_learn(l, found);
    if (l->pause != 0) return n;
  }
  return n;
}

TEST("where each look finds one message it is tried soon, then ever more rarely") {
  struct mpi_linger l = {0};
  int tries = 0, i, first;
  (void)us();
  first = looks_until(&l, 1, 100);
  CHECK(first < 20);
  for (i = 0; i < 100000; i++) {
    int lingered = l.pause != 0;
    mpi_linger_learn(&l, 1);
    if (lingered) CHECK_EQ(l.pause, 0); /* nothing came of it */
    tries += lingered;
  }
  CHECK(tries > 50);
  CHECK(tries < 120);
}

TEST("nothing to get, or plenty, is no reason to try") {
  struct mpi_linger l = {0};
  (void)us();
  CHECK_EQ(looks_until(&l, 0, 10000), 10001);
  CHECK_EQ(looks_until(&l, 50, 10000), 10001);
}

TEST("in a stream it goes on, for longer as long as that finds more in proportion, and not for ever") {
  struct mpi_linger l = {0};
  int one = us(), i, most = 0;
  (void)looks_until(&l, 2, 100);
  CHECK(l.pause > 0);
  for (i = 0; i < 1000; i++) {
    int n = l.pause;
    if (n > most) most = n;
    mpi_linger_learn(&l, (uint32_t)(5 * n / one)); /* five come every microsecond */
    CHECK(l.pause > 0);
  }
  CHECK(most >= 8 * one);
  CHECK(most <= 16 * one);
}

TEST("eight that are answered and no more do not make it wait for longer") {
  struct mpi_linger l = {0};
  int one = us(), i, longer = 0;
  (void)looks_until(&l, 2, 100);
  for (i = 0; i < 1000; i++) {
    mpi_linger_learn(&l, 8);
    longer += l.pause > 2 * one;
    CHECK(l.pause > 0);
    CHECK(l.pause <= 4 * one);
  }
  CHECK(longer > 0); /* it tries */
  CHECK(longer < 40);
}

TEST("the end of a stream ends it, and the next is found soon") {
  struct mpi_linger l = {0};
  (void)us();
  (void)looks_until(&l, 2, 100);
  mpi_linger_learn(&l, 30);
  CHECK(l.pause > 0);
  mpi_linger_learn(&l, 0);
  CHECK_EQ(l.pause, 0);
  CHECK(looks_until(&l, 2, 100) < 20);
}

TEST("it waits as long as it says") {
  struct mpi_linger l = {0};
  int64_t start;
  l.pause = us() * 1000; /* a millisecond */
  start = mp_now();
  mpi_linger(&l);
  CHECK(mp_now() - start >= 100 * 1000); /* the measure was taken on a processor that others share: the order of it */
  l.pause = 0;
  mpi_linger(&l);
}
