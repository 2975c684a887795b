#include "sandbox/away.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define STACK 65536

enum { AT_NET, AT_IPC, AT_USER }; /* AT_USER: only without privileges; then it owns the other two */

/* ---- making one ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int asked;
static int made[MPI_AWAY_FDS] = {-1, -1, -1};

/* Shares the maker's memory and table of descriptors, as after vfork: system calls only. */
static int open_them (void *arg) {
  (void)arg;
  made[AT_NET] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  made[AT_IPC] = open("/proc/self/ns/ipc", O_RDONLY | O_CLOEXEC);
  if (made[AT_USER] == -2) made[AT_USER] = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
  return 0;
}

static void make (void) {
  int flags = CLONE_VM | CLONE_FILES | CLONE_VFORK | CLONE_NEWNET | CLONE_NEWIPC | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
  char *stack = malloc(STACK);
  sigset_t all, before;
  pid_t pid;
  int i;
  if (stack == NULL) return;
  if (flags & CLONE_NEWUSER) made[AT_USER] = -2;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* a handler would run on memory that is not its own */
  pid = clone(open_them, stack + STACK, flags, NULL); /* it sends no signal when it ends: a host's handler is not disturbed */
  if (pid > 0)
    while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR) continue;
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  free(stack);
  if (made[AT_USER] == -2) made[AT_USER] = -1;
  if (made[AT_NET] < 0 || made[AT_IPC] < 0 || ((flags & CLONE_NEWUSER) && made[AT_USER] < 0))
    for (i = 0; i < MPI_AWAY_FDS; i++) mpi_fd_close(&made[i]);
}

int mpi_away_get (int fds[MPI_AWAY_FDS]) {
  int n = 0;
  (void)pthread_mutex_lock(&lock);
  if (!asked) {
    asked = 1;
    make();
  }
  while (n < MPI_AWAY_FDS && made[n] >= 0) {
    fds[n] = made[n];
    n++;
  }
  (void)pthread_mutex_unlock(&lock);
  return n;
}

/* ---- going there ---- */

static int taken[MPI_AWAY_FDS] = {-1, -1, -1};

void mpi_away_take (const int *fds, int n) {
  int i;
  for (i = 0; i < n && i < MPI_AWAY_FDS; i++) {
    mpi_fd_close(&taken[i]);
    taken[i] = fds[i];
  }
}

int mpi_away_holds (int fd) {
  int i;
  for (i = 0; i < MPI_AWAY_FDS; i++)
    if (taken[i] == fd) return fd >= 0;
  return 0;
}

void mpi_away_forget (void) {
  int i;
  for (i = 0; i < MPI_AWAY_FDS; i++) mpi_fd_close(&taken[i]);
}

static int enter_taken (int net) {
  if (taken[AT_NET] < 0 || taken[AT_IPC] < 0) return 0;
  if (taken[AT_USER] >= 0 && setns(taken[AT_USER], CLONE_NEWUSER) != 0) return 0;
  if (net && setns(taken[AT_NET], CLONE_NEWNET) != 0) return 0;
  return setns(taken[AT_IPC], CLONE_NEWIPC) == 0;
}

int mpi_away_enter (int net) {
  int root = geteuid() == 0, there = enter_taken(net), apart = 0;
  int flags = there ? 0 : CLONE_NEWIPC | (net ? CLONE_NEWNET : 0);
  if (root) (void)(flags != 0 && unshare(flags) != 0);
  else apart = unshare(flags | CLONE_NEWUSER) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWIPC) == 0;
  mpi_away_forget();
  return apart;
}
