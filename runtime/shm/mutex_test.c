#include "shm/mutex.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "shm/object.h"
#include "test/test.h"

static mpi_seg new_seg (void) {
  mpi_seg s;
  CHECK_OK(mpi_seg_create(&s, MPI_T_LOCK, MPI_PAGE, MPI_SEG_LOCKPAGE));
  return s;
}

/* The claims of this process, by word. */
static mpi_a32 *claim_of (mpi_a32 *word) {
  static mpi_a32 claims[2];
  return &claims[((uintptr_t)word & (MPI_PAGE - 1)) == MPI_SEG_WORD1];
}

static int lock (mpi_a32 *word, int64_t deadline) {
  int first;
  return mpi_mutex_lock(word, claim_of(word), &first, deadline);
}

static int unlock (mpi_a32 *word) {
  return mpi_mutex_unlock(word, claim_of(word));
}

TEST("two words of a page are two mutexes", .clean = 1) {
  mpi_seg s = new_seg();
  mpi_a32 *a = mpi_seg_word(&s, MPI_SEG_WORD0), *b = mpi_seg_word(&s, MPI_SEG_WORD1);
  CHECK_EQ(lock(a, 0), 0);
  CHECK_EQ(mpi_mutex_owner(b), 0);
  CHECK_EQ(lock(b, 0), 0);
  CHECK_EQ(mpi_mutex_owner(a), mpi_tid());
  CHECK_EQ(lock(a, MP_NEVER), MP_EDEADLK);
  CHECK_EQ(unlock(a), 0);
  CHECK_EQ(unlock(a), MP_ENOTOWNER);
  CHECK_EQ(mpi_mutex_mine(b), 1);
  CHECK_EQ(unlock(b), 0);
  CHECK(mpi_self_.head->list.next == &mpi_self_.head->list);
  mpi_seg_fini(&s);
}

static void lock_both_and_die (void *ud) {
  mpi_seg *s = ud;
  CHECK_EQ(lock(mpi_seg_word(s, MPI_SEG_WORD0), 0), 0);
  CHECK_EQ(lock(mpi_seg_word(s, MPI_SEG_WORD1), 0), 0);
  (void)raise(SIGKILL);
}

TEST("a dead holder's mutexes are free, and the next is told once") {
  mpi_seg s = new_seg();
  int i;
  CHECK_EQ(wait_child(fork_child(lock_both_and_die, &s)), -SIGKILL);
  for (i = 0; i < 2; i++) {
    mpi_a32 *w = mpi_seg_word(&s, i ? MPI_SEG_WORD1 : MPI_SEG_WORD0);
    CHECK_EQ(mpi_mutex_owner(w), 0);
    CHECK_EQ(lock(w, 0), MP_ABANDONED);
    CHECK_EQ(unlock(w), 0);
    CHECK_EQ(lock(w, 0), 0);
    CHECK_EQ(unlock(w), 0);
  }
}

static void *try_in_thread (void *w) {
  int64_t now = mp_now();
  CHECK_EQ(unlock(w), MP_ENOTOWNER);
  CHECK_EQ(lock(w, 0), MP_ETIMEDOUT);
  CHECK_EQ(lock(w, now + 20 * MPI_NS_PER_MS), MP_ETIMEDOUT);
  CHECK(mp_now() >= now + 20 * MPI_NS_PER_MS);
  return NULL;
}

TEST("belongs to a thread; a poll and a deadline are kept") {
  mpi_seg s = new_seg();
  mpi_a32 *w = mpi_seg_word(&s, MPI_SEG_WORD0);
  pthread_t t;
  CHECK_EQ(lock(w, MP_NEVER), 0);
  CHECK(pthread_create(&t, NULL, try_in_thread, w) == 0);
  CHECK(pthread_join(t, NULL) == 0);
  CHECK_EQ(mpi_mutex_mine(w), 1);
  CHECK_EQ(unlock(w), 0);
}

struct scribbled {
  mp_object *l;
  mpi_a32 held, done;
};

static void *hold_until_told (void *ud) {
  struct scribbled *s = ud;
  CHECK_OK(mp_lock_acquire(s->l, MP_NEVER));
  mpi_store(&s->held, mpi_tid());
  while (!mpi_load(&s->done)) mpi_relax();
  CHECK_OK(mp_lock_release(s->l));
  CHECK(mpi_self_.head->list.next == &mpi_self_.head->list);
  return NULL;
}

/* Else the entry would be in the lists of two threads, and whoever walked the first would never come to its end. */
TEST("a word that a peer frees is not taken by a second thread of the process", .limit = 30) {
  struct scribbled s = {NULL, 0, 0};
  mpi_a32 *word;
  pthread_t t;
  int i;
  CHECK_OK(mp_lock_new(&s.l));
  word = mpi_seg_word(&s.l->seg, MPI_SEG_WORD0);
  CHECK(pthread_create(&t, NULL, hold_until_told, &s) == 0);
  CHECK(wait_until(mpi_load(&s.held) != 0, 5000));
  for (i = 0; i < 4; i++) {
    mpi_store(word, i % 2 ? MPI_LOCK_DIED : 0); /* a death that did not happen is not believed either */
    CHECK_EQ(mp_lock_acquire(s.l, 0), MP_ECORRUPT);
    CHECK_EQ(mpi_mutex_owner(word), mpi_load(&s.held));
    CHECK(mpi_self_.head->list.next == &mpi_self_.head->list);
  }
  mpi_store(&s.done, 1);
  CHECK(pthread_join(t, NULL) == 0);
  CHECK_OK(mp_lock_acquire(s.l, 0));
  CHECK_OK(mp_lock_release(s.l));
  mp_release(s.l);
}

TEST("a holder whose word was overwritten is out of its list once it releases, and holds no reference") {
  mp_object *l = NULL;
  mpi_a32 *word;
  int i;
  CHECK_OK(mp_lock_new(&l));
  word = mpi_seg_word(&l->seg, MPI_SEG_WORD0);
  for (i = 0; i < 3; i++) {
    CHECK_OK(mp_lock_acquire(l, 0));
    mpi_store(word, i == 1 ? 1 : 0);
    CHECK_EQ(mp_lock_release(l), MP_ENOTOWNER);
    CHECK(mpi_self_.head->list.next == &mpi_self_.head->list);
    CHECK_EQ(atomic_load(&l->refs), 1);
    mpi_store(word, 0);
    CHECK_OK(mp_lock_acquire(l, 0)); /* and once more, this time without noticing */
    mpi_store(word, 0);
    CHECK_OK(mp_lock_acquire(l, 0));
    CHECK(mpi_self_.head->list.next->next == &mpi_self_.head->list);
    CHECK_OK(mp_lock_release(l));
    CHECK_EQ(atomic_load(&l->refs), 1);
  }
  mp_release(l);
}

static void *hold_and_end (void *ud) {
  CHECK_OK(mp_lock_acquire(ud, MP_NEVER));
  return NULL;
}

TEST("a thread that ended holding it leaves it to the next of its process") {
  mp_object *l = NULL;
  pthread_t t;
#ifdef __SANITIZE_THREAD__
  SKIP("the thread sanitizer does not see the kernel free a lock");
#endif
  CHECK_OK(mp_lock_new(&l));
  CHECK(pthread_create(&t, NULL, hold_and_end, l) == 0);
  CHECK(wait_until(mpi_load(mpi_seg_word(&l->seg, MPI_SEG_WORD0)) != 0, 5000));
  CHECK_EQ(mp_lock_acquire(l, MP_NEVER), MP_ABANDONED);
  CHECK(pthread_join(t, NULL) == 0);
  CHECK_OK(mp_lock_release(l));
  CHECK_EQ(atomic_load(&l->refs), 1);
  mp_release(l);
}

TEST("lives in peace with the C library's robust mutexes") {
  mpi_seg s = new_seg();
  mpi_a32 *a = mpi_seg_word(&s, MPI_SEG_WORD0), *b = mpi_seg_word(&s, MPI_SEG_WORD1);
  pthread_mutexattr_t attr;
  pthread_mutex_t m[3];
  int i;
  CHECK(pthread_mutexattr_init(&attr) == 0 && pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) == 0);
  for (i = 0; i < 3; i++) CHECK(pthread_mutex_init(&m[i], &attr) == 0);
  CHECK(pthread_mutex_lock(&m[0]) == 0);
  CHECK_EQ(lock(a, 0), 0);
  CHECK(pthread_mutex_lock(&m[1]) == 0);
  CHECK_EQ(lock(b, 0), 0);
  CHECK(pthread_mutex_lock(&m[2]) == 0);
  CHECK(pthread_mutex_unlock(&m[1]) == 0);
  CHECK_EQ(unlock(a), 0);
  CHECK(pthread_mutex_unlock(&m[0]) == 0);
  CHECK_EQ(unlock(b), 0);
  CHECK(pthread_mutex_unlock(&m[2]) == 0);
  CHECK(mpi_self_.head->list.next == &mpi_self_.head->list);
}

#if defined(MP_FAULTS) && !defined(MP_HARD) /* the hard mode's early returns wake sleepers out of turn */
static void stops_when_woken (void *l) {
  mpi_fault_arm("latch.wait.woken", 1, MPI_FAULT_STOP);
  (void)mp_lock_acquire(l, MP_NEVER);
}

/* Sleeps as a locker does, but for ever: nothing except a wake-up ends it, so that a lost one shows. */
static void sleeps_for_good (void *ud) {
  mpi_a32 *word = mpi_seg_word(&((mp_object *)ud)->seg, MPI_SEG_WORD0);
  uint32_t v;
  do {
    v = mpi_load(word);
    (void)mpi_fetch_add(word + 1, 2);
    (void)mpi_fetch_or(word + 1, 1);
  } while ((!(v & MPI_LOCK_WAITERS) && !mpi_cas(word, &v, v | MPI_LOCK_WAITERS)) ||
           syscall(SYS_futex, word, FUTEX_WAIT, v | MPI_LOCK_WAITERS, NULL, NULL, 0) != 0);
}

TEST("a sleeper killed between its wake-up and the lock does not take the others' wake-up along", .limit = 30) {
  mp_object *l = NULL;
  mpi_a32 *word;
  pid_t first, second;
  CHECK_OK(mp_lock_new(&l));
  word = mpi_seg_word(&l->seg, MPI_SEG_WORD0);
  CHECK_OK(mp_lock_acquire(l, 0));
  first = fork_child(stops_when_woken, l);
  CHECK(wait_until(mpi_load(word + 1) >> 1 >= 1 && test_state(first) != 'R', 5000));
  second = fork_child(sleeps_for_good, l);
  CHECK(wait_until(mpi_load(word + 1) >> 1 >= 2 && test_state(second) == 'S', 5000));
  CHECK_OK(mp_lock_release(l)); /* wakes the first, which stops before it looks */
  CHECK_OK(mp_lock_acquire(l, 0)); /* the newcomer */
  CHECK(wait_until(test_state(first) == 'T', 5000));
  CHECK_EQ(kill(first, SIGKILL), 0);
  CHECK_EQ(wait_child(first), -SIGKILL);
  CHECK_OK(mp_lock_release(l)); /* wakes the second */
  CHECK_EQ(wait_child(second), 0);
}

static void dies_holding (void *l) {
  CHECK_OK(mp_lock_acquire(l, 0));
  (void)pause();
}

TEST("the death of a holder and of whom the kernel woke for it leaves the lock to the next", .limit = 30) {
  mp_object *l = NULL;
  mpi_a32 *word;
  pid_t holder, first, second;
  CHECK_OK(mp_lock_new(&l));
  word = mpi_seg_word(&l->seg, MPI_SEG_WORD0);
  holder = fork_child(dies_holding, l);
  CHECK(wait_until((mpi_load(word) & MPI_LOCK_TID) != 0, 5000));
  first = fork_child(stops_when_woken, l);
  CHECK(wait_until(mpi_load(word + 1) >> 1 >= 1 && test_state(first) != 'R', 5000));
  second = fork_child(sleeps_for_good, l);
  CHECK(wait_until(mpi_load(word + 1) >> 1 >= 2 && test_state(second) == 'S', 5000));
  CHECK_EQ(kill(holder, SIGKILL), 0);
  CHECK_EQ(wait_child(holder), -SIGKILL);
  CHECK(wait_until(test_state(first) == 'T', 5000));
  CHECK_EQ(kill(first, SIGKILL), 0);
  CHECK_EQ(wait_child(first), -SIGKILL);
  CHECK_EQ(wait_child(second), 0);
}
#endif
