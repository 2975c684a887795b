#include "base/robust.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"

_Thread_local struct mpi_thread mpi_self_;

static pthread_once_t fork_hook = PTHREAD_ONCE_INIT;

/* The child's only thread has a new id and an empty list; the head stays where it is. */
static void in_child (void) {
  mpi_self_.tid = 0;
}

static void install_fork_hook (void) {
  (void)pthread_atfork(NULL, NULL, in_child);
}

int mpi_robust_init (void) {
  size_t size = 0;
  if (mpi_self_.tid != 0) return 0;
  (void)pthread_once(&fork_hook, install_fork_hook);
  if (mpi_self_.head == NULL) {
    struct mpi_robust_head *head = NULL;
    if (syscall(SYS_get_robust_list, 0, &head, &size) != 0) return mpi_fail_errno("get_robust_list");
    if (head == NULL || size != sizeof *head || head->futex_offset != -MPI_ROBUST_OFFSET)
      return mpi_fail(MP_ENOSUP, "this C library keeps its robust mutexes in a layout that mp does not know");
    mpi_self_.head = head;
  }
  mpi_self_.tid = (uint32_t)syscall(SYS_gettid);
  return 0;
}

/* glibc keeps a backward link in the word before each entry (the head's too) and relies on it when it removes one
** of its own mutexes; we keep it right for our neighbours and never read it. */
static void set_back (struct mpi_robust_node *node, struct mpi_robust_node *to) {
  ((struct mpi_robust_node **)(void *)node)[-1] = to;
}

static struct mpi_robust_node *entry (mpi_a32 *word) {
  return (struct mpi_robust_node *)(void *)((char *)(void *)word + MPI_ROBUST_OFFSET);
}

void mpi_robust_push (mpi_a32 *word) {
  struct mpi_robust_head *head = mpi_self_.head;
  struct mpi_robust_node *node = entry(word);
  struct mpi_robust_node *first = head->list.next;
  node->next = first;
  set_back(node, &head->list);
  /* Bit 0 of a link marks a priority-inheritance mutex of the host's. */
  set_back((struct mpi_robust_node *)((uintptr_t)first & ~(uintptr_t)1), node);
  mpi_compiler_barrier(); /* the entry is whole before the kernel can reach it */
  head->list.next = node;
}

void mpi_robust_remove (mpi_a32 *word) {
  struct mpi_robust_head *head = mpi_self_.head;
  struct mpi_robust_node *node = entry(word);
  struct mpi_robust_node *before = &head->list;
  for (;;) { /* the list is as long as the thread holds locks */
    struct mpi_robust_node *next = (struct mpi_robust_node *)((uintptr_t)before->next & ~(uintptr_t)1);
    if (next == node) break;
    if (next == &head->list) return;
    before = next;
  }
  before->next = node->next;
  set_back((struct mpi_robust_node *)((uintptr_t)node->next & ~(uintptr_t)1), before);
  mpi_compiler_barrier();
}
