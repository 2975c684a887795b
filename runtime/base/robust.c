#include "base/robust.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/warm.h"

_Thread_local struct mpi_thread mpi_self_;

static pthread_once_t fork_hook = PTHREAD_ONCE_INIT;

/* The child's only thread has a new id and an empty list; the head stays where it is. */
static MPI_HOT void in_child (void) {
  if (mpi_self_.tid != 0) mpi_self_.tid = 0; /* what is not written is not copied */
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

void mpi_robust_remove_deep (mpi_a32 *word) {
  struct mpi_robust_head *head = mpi_self_.head;
  struct mpi_robust_node *node = mpi_robust_entry(word);
  struct mpi_robust_node *before = &head->list;
  for (;;) { /* the list is as long as the thread holds locks */
    struct mpi_robust_node *next = (struct mpi_robust_node *)((uintptr_t)before->next & ~(uintptr_t)1);
    if (next == node) break;
    if (next == &head->list) return;
    before = next;
  }
  before->next = node->next;
  mpi_robust_set_back(node->next, before);
  mpi_compiler_barrier();
}
