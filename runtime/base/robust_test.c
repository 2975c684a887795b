#include "base/robust.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test/test.h"

static mpi_a32 *shared_word (void) { /* with private memory behind it, as a segment's lock page */
  char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(mmap(p + 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 4096);
  return (mpi_a32 *)(void *)(p + 4064);
}

static void *other_id (void *ud) {
  (void)ud;
  return (void *)(uintptr_t)mpi_tid();
}

static void child_id (void *parent) {
  CHECK(mpi_tid() == (uint32_t)gettid());
  CHECK(mpi_tid() != *(uint32_t *)parent);
}

TEST("each thread and each forked child has its own id") {
  pthread_t t;
  void *other;
  uint32_t tid = mpi_tid();
  CHECK(tid == (uint32_t)gettid());
  CHECK(pthread_create(&t, NULL, other_id, NULL) == 0);
  CHECK(pthread_join(t, &other) == 0);
  CHECK((uint32_t)(uintptr_t)other != tid);
  CHECK_EQ(wait_child(fork_child(child_id, &tid)), 0);
}

static void die_pending (void *word) {
  (void)mpi_tid();
  mpi_robust_pending(word);
  mpi_store((mpi_a32 *)word, mpi_tid() | MPI_LOCK_WAITERS);
}

static void die_listed (void *word) {
  (void)mpi_tid();
  mpi_store((mpi_a32 *)word, mpi_tid());
  mpi_robust_push(word);
}

static void die_removed (void *word) {
  die_listed(word);
  mpi_robust_remove(word);
}

TEST("the kernel marks the words of the dead: pending, listed, and not those removed") {
  mpi_a32 *word = shared_word();
  CHECK_EQ(wait_child(fork_child(die_pending, word)), 0);
  CHECK_EQ(mpi_load(word), MPI_LOCK_DIED | MPI_LOCK_WAITERS);
  mpi_store(word, 0);
  CHECK_EQ(wait_child(fork_child(die_listed, word)), 0);
  CHECK_EQ(mpi_load(word), MPI_LOCK_DIED);
  mpi_store(word, 0);
  CHECK_EQ(wait_child(fork_child(die_removed, word)), 0);
  CHECK((mpi_load(word) & MPI_LOCK_DIED) == 0);
}

TEST("entries are removed in any order, and one that is absent does nothing") {
  enum { N = 5 };
  mpi_a32 *w[N];
  int i;
  (void)mpi_tid();
  for (i = 0; i < N; i++) mpi_robust_push(w[i] = shared_word());
  mpi_robust_remove(w[2]);
  mpi_robust_remove(w[0]);
  mpi_robust_remove(w[4]);
  mpi_robust_remove(w[2]);
  mpi_robust_remove(w[3]);
  mpi_robust_remove(w[1]);
  CHECK(mpi_self_.head->list.next == &mpi_self_.head->list);
}
