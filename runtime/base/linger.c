#include "base/linger.h"

#include "base/atomics.h"
#include "base/spin.h"

#define FEW 4u      /* not worth having waited */
#define ENOUGH 128u /* what more would not make cheaper */
#define PLENTY 512u
#define FIRST_US 2
#define MOST_US 16
#define SOON 8      /* looks */
#define LATER 64
#define SELDOM 1024

static int get (const int *word) {
  return __atomic_load_n(word, __ATOMIC_RELAXED);
}

static void set (int *word, int value) {
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

static int pause_of (int us) {
  return mpi_spin_limit(MPI_SPIN_LATCH) / MPI_SPIN_LATCH_US * us;
}

void mpi_linger_wait (const struct mpi_linger *l) {
  int i, n = get(&l->pause);
  for (i = 0; i < n; i++) mpi_relax();
}

/* Counts a look; is it time to try? */
static int due (struct mpi_linger *l) {
  int looks = get(&l->looks) - 1;
  set(&l->looks, looks);
  return looks <= 0;
}

static void without (struct mpi_linger *l, uint32_t found) {
  int interval = get(&l->interval);
  if (found == 0 || found >= FEW) return; /* nothing came, or enough without waiting */
  if (interval == 0) {                    /* the first look of all */
    set(&l->interval, SOON);
    set(&l->looks, SOON);
  } else if (due(l)) {
    set(&l->looks, interval);
    set(&l->interval, interval >= SELDOM ? SELDOM : interval * 2);
    set(&l->before, 0);
    set(&l->pause, pause_of(FIRST_US));
  }
}

static void with (struct mpi_linger *l, uint32_t found, int pause) {
  uint32_t before = (uint32_t)get(&l->before);
  set(&l->before, 0);
  if (found < FEW) {
    set(&l->pause, 0);
    return;
  }
  set(&l->interval, SOON); /* a stream: should it falter, it is worth trying again soon */
  if (before != 0 && found < before + before / 2) {
    set(&l->pause, pause / 2);
    set(&l->looks, LATER);
  } else if (found > PLENTY && pause > pause_of(FIRST_US)) {
    set(&l->pause, pause / 2);
  } else if (found < ENOUGH && pause <= pause_of(MOST_US) / 2 && due(l)) {
    set(&l->before, (int)found);
    set(&l->pause, pause * 2);
  }
}

void mpi_linger_learn (struct mpi_linger *l, uint32_t found) {
  int pause = get(&l->pause);
  if (pause == 0) without(l, found);
  else with(l, found, pause);
}
