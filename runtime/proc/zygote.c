/* zygote.c -- the helper's side of spawn.h. One thread; nothing here allocates before the clone. */
#include "proc/zygote.h"

#include <errno.h>
#include <poll.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/robust.h"
#include "proc/spawn.h"

/* As fork, but the child is our parent's. glibc's fork would also write the new thread id where pthread_self keeps it and register the
** robust list again: the kernel does the first if it is told where, the second is done by hand. */
static pid_t clone_sibling (void) {
  int *tid_address = NULL;
  void *robust = NULL;
  size_t robust_size = 0;
  unsigned long flags = CLONE_PARENT;
  long pid;
  if (prctl(PR_GET_TID_ADDRESS, &tid_address, 0, 0, 0) == 0 && tid_address != NULL) flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
  (void)syscall(SYS_get_robust_list, 0, &robust, &robust_size);
#if defined(__aarch64__)
  pid = syscall(SYS_clone, flags, NULL, NULL, NULL, tid_address);
#else
  pid = syscall(SYS_clone, flags, NULL, NULL, tid_address, NULL);
#endif
  if (pid == 0) {
    if (robust != NULL) (void)syscall(SYS_set_robust_list, robust, robust_size);
    mpi_self_.tid = 0;
  }
  return (pid_t)pid;
}

static void reply (int control, int32_t value) {
  struct mpi_zygote_reply r = {MPI_ZYGOTE_MAGIC, value};
  if (mpi_fd_send(control, &r, sizeof r, NULL, 0) != 0) _exit(0); /* the owner is gone */
}

static void quiet_streams (void) {
  int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  int i;
  if (fd < 0) return;
  for (i = 0; i < 3; i++) (void)dup2(fd, i);
  if (fd > 2) (void)close(fd);
}

static void use_stream (int fd, int number) {
  if (fd >= 0 && fd != number) (void)dup2(fd, number);
}

/* In the new process: waits for its task. */
static int receive (int sock, mpi_record *task) {
  struct pollfd p = {sock, POLLIN, 0};
  int i;
  while (poll(&p, 1, -1) < 0 && errno == EINTR) {}
  mpi_record_take(sock, task);
  if (task->kind == MPI_REPORT_LEAVE) { /* our maker lost us: see dismiss() in spawn.c */
    pid_t me = getpid();
    (void)mpi_record_send(sock, MPI_REPORT_LEAVE, &me, sizeof me, NULL, 0);
  }
  if (task->kind != MPI_REPORT_TASK || task->nfds < MPI_TASK_FDS) {
    mpi_record_fini(task);
    return MP_EEOF;
  }
  (void)fchdir(task->fds[0]);
  use_stream(task->fds[1], 1);
  use_stream(task->fds[2], 2);
  mpi_program_adopt(task->fds[3]);
  for (i = 0; i < MPI_TASK_FDS; i++) mpi_fd_close(&task->fds[i]);
  task->nfds -= MPI_TASK_FDS;
  memmove(task->fds, task->fds + MPI_TASK_FDS, sizeof(int) * (size_t)task->nfds);
  return 0;
}

int mpi_zygote_serve (int control, mpi_record *task) {
  pid_t owner = getppid();
  sigset_t held;
  (void)sigemptyset(&held);
  (void)sigaddset(&held, SIGINT); /* what is blocked is kept, even if it is ignored: a new process gets its first one too */
  (void)sigprocmask(SIG_SETMASK, &held, NULL);
  (void)signal(SIGINT, SIG_IGN); /* the terminal's is not for the zygote */
  (void)fcntl(control, F_SETFD, FD_CLOEXEC);
  quiet_streams();
  reply(control, MPI_ZYGOTE_VERSION);
  for (;;) {
    struct mpi_zygote_request q;
    struct pollfd p = {control, POLLIN, 0};
    int sock = -1, nfds = 1;
    size_t got = 0;
    pid_t pid;
    int rc = mpi_fd_recv(control, &q, sizeof q, &got, &sock, &nfds, 0);
    if (rc == MP_EEMPTY) {
      (void)poll(&p, 1, -1);
      continue;
    }
    if (rc != 0 || got != sizeof q || q.magic != MPI_ZYGOTE_MAGIC || q.what != MPI_ZYGOTE_CLONE || nfds != 1) _exit(0);
    pid = clone_sibling();
    if (pid == 0) {
      (void)close(control);
      mpi_child_become(owner, sock);
      if (receive(sock, task) != 0) _exit(255);
      return 0;
    }
    rc = errno;
    (void)close(sock);
    reply(control, pid > 0 ? pid : -rc);
  }
}
