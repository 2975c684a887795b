#include "base/pidfd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/interrupt.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

int mpi_pidfd_open (pid_t pid) {
  int fd;
  if (MPI_FAULT_HERE("pidfd.open.fail")) {
    errno = EMFILE;
    return mpi_fail_errno("pidfd_open");
  }
  do fd = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by itself */
  while (fd < 0 && mpi_fd_raise_limit());
  return fd < 0 ? mpi_fail_errno("pidfd_open") : fd;
}

int mpi_pidfd_signal (int pidfd, int sig) {
  if (syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) == 0 || errno == ESRCH) return 0;
  return mpi_fail_errno("pidfd_send_signal");
}

int mpi_pidfd_reap (int pidfd, int *exitcode) {
  siginfo_t si;
  int rc;
  memset(&si, 0, sizeof si);
  do rc = waitid((idtype_t)P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG | __WALL);
  while (rc != 0 && errno == EINTR);
  if (rc != 0) {
    if (errno != ECHILD) return mpi_fail_errno("waitid");
    *exitcode = 255;
    return 1;
  }
  if (si.si_pid == 0) return 0;
  mpi_deaths++; /* its ends of pipes are closed now */
  *exitcode = si.si_code == CLD_EXITED ? si.si_status : -si.si_status;
  return 1;
}

int mpi_fd_wait (int fd, short events, int64_t deadline) {
  int slice = 0;
  struct pollfd p = {fd, events, 0};
  int rc;
  do rc = mpi_sleep_in_poll(&p, 1, deadline, &slice);
  while (rc == 0);
  return rc > 0 ? 0 : rc;
}
