/* robust.h -- the kernel's list of locks that a dying thread holds.
** What     each thread registers a list head with the kernel (glibc does it at thread start). When the thread dies the kernel walks the
**          list and the head's pending entry: a word that holds the thread's id gets FUTEX_OWNER_DIED instead and one
**          sleeper is woken; a pending word that is 0 gets one sleeper woken. See the kernel's
**          Documentation/locking/robust-futex-ABI.rst.
** Words    hold TID | FUTEX_WAITERS | FUTEX_OWNER_DIED. The list entry of a word lies MPI_ROBUST_OFFSET bytes behind it.
** Pending  one per thread. It is only an address: the kernel never reads the entry itself.
** Threads  everything is the calling thread's. A forked child starts with an empty list (glibc) and a new thread id.
** Errors   mpi_robust_init: MP_ENOSUP where the C library's offset is another.
*/
#ifndef MPI_ROBUST_H
#define MPI_ROBUST_H

#include <stddef.h>

#include "base/atomics.h"
#include "mp.h"

#define MPI_ROBUST_OFFSET 32 /* glibc, 64 bit: offsetof(pthread_mutex_t, __data.__list.__next) - offsetof(__data.__lock) */

#define MPI_LOCK_WAITERS 0x80000000u
#define MPI_LOCK_DIED 0x40000000u
#define MPI_LOCK_TID 0x3fffffffu

struct mpi_robust_node { /* what the kernel reads: a link; glibc keeps the backward link right before it */
  struct mpi_robust_node *next;
};

struct mpi_robust_head { /* the kernel's struct robust_list_head */
  struct mpi_robust_node list;
  long futex_offset;
  struct mpi_robust_node *pending;
};

struct mpi_thread { /* this thread, as the locks know it */
  struct mpi_robust_head *head;
  uint32_t tid; /* 0: not initialised, or a forked child that has not looked yet */
};

extern _Thread_local struct mpi_thread mpi_self_ __attribute__((tls_model("initial-exec")));

int mpi_robust_init (void); /* fills mpi_self_; idempotent; every object's constructor and adoption calls it */

/* This thread's id; initialises on first use (a thread or forked child that did not make the object). */
static inline uint32_t mpi_tid (void) {
  if (__builtin_expect(mpi_self_.tid == 0, 0)) (void)mpi_robust_init();
  return mpi_self_.tid;
}

static inline void mpi_robust_pending (mpi_a32 *word) { /* NULL clears */
  mpi_compiler_barrier();
  *(struct mpi_robust_node *volatile *)&mpi_self_.head->pending =
    word == NULL ? NULL : (struct mpi_robust_node *)(void *)((char *)(void *)word + MPI_ROBUST_OFFSET);
  mpi_compiler_barrier();
}

static inline struct mpi_robust_node *mpi_robust_entry (mpi_a32 *word) {
  return (struct mpi_robust_node *)(void *)((char *)(void *)word + MPI_ROBUST_OFFSET);
}

/* glibc keeps a backward link in the word before each entry (the head's too) and relies on it when it removes one
** of its own mutexes; we keep it right for our neighbours and never read it. Bit 0 of a link marks a priority-inheritance mutex of the host's. */
static inline void mpi_robust_set_back (struct mpi_robust_node *node, struct mpi_robust_node *to) {
  ((struct mpi_robust_node **)(void *)((uintptr_t)node & ~(uintptr_t)1))[-1] = to;
}

/* Enter or remove the entry of `word`, which must lie in private writable memory (a segment's lock page sees to it). The word must be
** pending meanwhile. */
static inline void mpi_robust_push (mpi_a32 *word) {
  struct mpi_robust_head *head = mpi_self_.head;
  struct mpi_robust_node *node = mpi_robust_entry(word);
  struct mpi_robust_node *first = head->list.next;
  node->next = first;
  mpi_robust_set_back(node, &head->list);
  mpi_robust_set_back(first, node);
  mpi_compiler_barrier(); /* the entry is whole before the kernel can reach it */
  head->list.next = node;
}

void mpi_robust_remove_deep (mpi_a32 *word);

static inline void mpi_robust_remove (mpi_a32 *word) {
  struct mpi_robust_head *head = mpi_self_.head;
  struct mpi_robust_node *node = mpi_robust_entry(word);
  if (__builtin_expect(head->list.next != node, 0)) { /* not the lock taken last */
    mpi_robust_remove_deep(word);
    return;
  }
  head->list.next = node->next;
  mpi_robust_set_back(node->next, &head->list);
  mpi_compiler_barrier();
}

#endif
