#include "shm/lock.h"

#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/interrupt.h"

struct shared { /* at 64 of the segment */
  /* thread id << 32 | process id of who took the lock last. Written by the holder after taking; believed only
  ** while the thread id is the word's. Informational. */
  mpi_a64 owner;
};

struct lock {
  struct mpi_object o;
  mpi_a32 mine;
  unsigned depth; /* of an RLock; touched only by the thread that `mine` names */
};

#define WORD(o) mpi_seg_word(&(o)->seg, MPI_SEG_WORD0)

static struct shared *shared_of (mp_object *o) {
  return mpi_seg_at(&o->seg, sizeof(struct mpi_seghdr));
}

const struct mpi_type mpi_type_lock = {
  .type = MPI_T_LOCK, .name = "Lock", .size = sizeof(struct lock), .seg_flags = MPI_SEG_LOCKPAGE, .nfds = 1};
const struct mpi_type mpi_type_rlock = {
  .type = MPI_T_RLOCK, .name = "RLock", .size = sizeof(struct lock), .seg_flags = MPI_SEG_LOCKPAGE, .nfds = 1};

static int make (const struct mpi_type *t, mp_object **out) {
  mp_object *o = NULL;
  int rc = mpi_object_new(t, MPI_PAGE, &o);
  if (rc != 0) return rc;
  rc = mpi_object_publish(o);
  if (rc != 0) mpi_object_abandon(o);
  else *out = o;
  return rc;
}

int mp_lock_new (mp_object **out) {
  return make(&mpi_type_lock, out);
}

int mp_rlock_new (mp_object **out) {
  return make(&mpi_type_rlock, out);
}

/* ---- taking and releasing ---- */

static int wrong_kind (mp_object *o) {
  return mpi_is_lock(o) ? 0 : mpi_fail(MP_EMISUSE, "a Lock or RLock expected, got a %s", o->type->name);
}

static int already_held (struct lock *l, int64_t deadline) {
  int rc;
  if (l->o.type == &mpi_type_rlock) {
    if (l->depth == UINT32_MAX) return mpi_fail(MP_ERANGE, "the lock is held %u times already", l->depth);
    l->depth++;
    return 0;
  }
  if (deadline == MP_NEVER) return mpi_fail(MP_EDEADLK, "the calling thread holds this lock already and would wait for ever");
  rc = mp_sleep(deadline);
  return rc != 0 ? rc : MP_ETIMEDOUT;
}

/* This process as the thread knows it; a forked child has another thread id. getpid() is a system call. */
static uint32_t own_pid (void) {
  static _Thread_local uint32_t of_tid, pid;
  if (of_tid != mpi_self_.tid) {
    pid = (uint32_t)getpid();
    of_tid = mpi_self_.tid;
  }
  return pid;
}

static int take (struct lock *l, int64_t deadline, unsigned depth) {
  int rc = mpi_word_take(&l->o, WORD(&l->o), &l->mine, deadline);
  if (rc == MP_EDEADLK) return mpi_fail(MP_ECORRUPT, "the lock's word names this thread, which does not hold it");
  if (rc < 0) return rc;
  l->depth = depth;
  MPI_POINT("lock.acquire.taken");
  mpi_store_relaxed(&shared_of(&l->o)->owner, (uint64_t)mpi_self_.tid << 32 | own_pid());
  return rc;
}

/* The ways of nearly every call, step by step as mpi_mutex_lock and mpi_mutex_unlock go: the process has one thread, and the lock is free, or it is
** the last one that was taken, once. 0: nothing has happened. */
static inline int take_quick (struct lock *l) {
  mpi_a32 *word = WORD(&l->o);
  uint32_t none = 0, tid = mpi_self_.tid;
  if (!__libc_single_threaded || tid == 0 || mpi_load_relaxed(&l->mine) != 0) return 0;
  mpi_robust_pending(word);
  if (__builtin_expect(!mpi_cas(word, &none, tid | mpi_lockword_mark(word)), 0)) {
    mpi_robust_pending(NULL);
    return 0;
  }
  MPI_POINT("mutex.lock.taken");
  mpi_store_relaxed(&l->mine, tid);
  mpi_robust_push(word);
  mpi_robust_pending(NULL);
  atomic_store_explicit(&l->o.refs, atomic_load_explicit(&l->o.refs, memory_order_relaxed) + 1, memory_order_relaxed);
  l->depth = 1;
  MPI_POINT("lock.acquire.taken");
  mpi_store_relaxed(&shared_of(&l->o)->owner, (uint64_t)tid << 32 | own_pid());
  return 1;
}

static inline int give_quick (struct lock *l) {
  mpi_a32 *word = WORD(&l->o);
  uint32_t tid = mpi_self_.tid;
  int refs = atomic_load_explicit(&l->o.refs, memory_order_relaxed);
  if (!__libc_single_threaded || tid == 0 || mpi_load_relaxed(&l->mine) != tid || (mpi_load(word) & MPI_LOCK_TID) != tid || l->depth != 1 ||
      mpi_self_.head->list.next != mpi_robust_entry(word) || refs < 2)
    return 0;
  l->depth = 0;
  MPI_POINT("lock.release.begin");
  mpi_robust_pending(word);
  mpi_robust_remove(word);
  mpi_store_release(&l->mine, 0);
  MPI_POINT("mutex.unlock.removed");
  if (__builtin_expect((mpi_xchg(word, 0) & MPI_LOCK_WAITERS) != 0, 0)) mpi_lockword_wake(word);
  mpi_robust_pending(NULL);
  atomic_store_explicit(&l->o.refs, refs - 1, memory_order_relaxed);
  return 1;
}

static __attribute__((noinline)) int acquire_slow (mp_object *o, int64_t deadline) {
  struct lock *l = (struct lock *)o;
  int rc = wrong_kind(o);
  if (rc != 0) return rc;
  if (mpi_mutex_held(WORD(o), &l->mine)) return already_held(l, deadline);
  return take(l, deadline, 1);
}

int mp_lock_acquire (mp_object *o, int64_t deadline) {
  return __builtin_expect(mpi_is_lock(o) && take_quick((struct lock *)o), 1) ? 0 : acquire_slow(o, deadline);
}

static int not_mine (mp_object *o) {
  int pid = mp_lock_owner(o);
  if (pid == 0) return mpi_fail(MP_ENOTOWNER, "the lock is not held");
  if (pid == getpid()) return mpi_fail(MP_ENOTOWNER, "the lock is held by another thread of this process");
  return mpi_fail(MP_ENOTOWNER, "the lock is held by process %d, not by this one", pid);
}

static __attribute__((noinline)) int release_slow (mp_object *o) {
  struct lock *l = (struct lock *)o;
  int rc = wrong_kind(o);
  if (rc != 0) return rc;
  if (__builtin_expect(!mpi_mutex_held(WORD(o), &l->mine), 0)) {
    if (mpi_load_relaxed(&l->mine) == mpi_tid()) (void)mpi_word_give_back(o, WORD(o), &l->mine); /* overwritten: what is left of it */
    return not_mine(o);
  }
  if (--l->depth > 0) return 0;
  MPI_POINT("lock.release.begin");
  return mpi_word_give_back(o, WORD(o), &l->mine);
}

int mp_lock_release (mp_object *o) {
  return __builtin_expect(mpi_is_lock(o) && give_quick((struct lock *)o), 1) ? 0 : release_slow(o);
}

int mp_lock_held (mp_object *o) {
  return mpi_is_lock(o) && mpi_mutex_held(WORD(o), &((struct lock *)o)->mine);
}

int mp_lock_locked (mp_object *o) {
  return mpi_is_lock(o) && mpi_mutex_owner(WORD(o)) != 0;
}

int mp_lock_owner (mp_object *o) {
  uint32_t tid = 0;
  int i;
  if (!mpi_is_lock(o)) return 0;
  for (i = 0; i < 1000; i++) {
    uint64_t owner = mpi_load_relaxed(&shared_of(o)->owner);
    tid = mpi_mutex_owner(WORD(o));
    if (tid == 0) return 0;
    if ((uint32_t)(owner >> 32) == tid) return (int)(uint32_t)owner;
    mpi_relax(); /* taken, and not yet written down */
  }
  return (int)tid; /* of a process's first thread this is the process */
}

int mpi_lock_give_up (mp_object *o, unsigned *depth) {
  struct lock *l = (struct lock *)o;
  if (!mp_lock_held(o)) return not_mine(o);
  *depth = l->depth;
  return mpi_word_give_back(o, WORD(o), &l->mine);
}

int mpi_lock_take_again (mp_object *o, unsigned depth, int64_t deadline) {
  int before = mpi_interrupt_hold(1);
  int rc = take((struct lock *)o, deadline, depth);
  (void)mpi_interrupt_hold(before);
  return rc;
}
