#include "base/pidfd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "test/test.h"

static pid_t sleeper (void) {
  pid_t pid = fork();
  if (pid == 0) {
    for (;;) (void)pause();
  }
  return pid;
}

TEST("a process that lives is not reaped, one that was killed gives minus the signal", .clean = 1) {
  pid_t pid = sleeper();
  int fd = mpi_pidfd_open(pid);
  int code = 77;
  CHECK(fd >= 0);
  CHECK_EQ(mpi_pidfd_reap(fd, &code), 0);
  CHECK_EQ(code, 77);
  CHECK_ERR(mpi_fd_wait(fd, POLLIN, 0), MP_ETIMEDOUT);
  CHECK_ERR(mpi_fd_wait(fd, POLLIN, mp_now() + 10 * MPI_NS_PER_MS), MP_ETIMEDOUT);
  CHECK_OK(mpi_pidfd_signal(fd, SIGTERM));
  CHECK_OK(mpi_fd_wait(fd, POLLIN, MP_NEVER));
  CHECK_EQ(mpi_pidfd_reap(fd, &code), 1);
  CHECK_EQ(code, -SIGTERM);
  CHECK_OK(mpi_pidfd_signal(fd, SIGTERM)); /* it is gone: no failure */
  close(fd);
}

TEST("gives the exit status", .clean = 1) {
  int fd, code = 0;
  pid_t pid = fork();
  if (pid == 0) _exit(7);
  fd = mpi_pidfd_open(pid);
  CHECK(fd >= 0);
  CHECK_OK(mpi_fd_wait(fd, POLLIN, MP_NEVER));
  CHECK_EQ(mpi_pidfd_reap(fd, &code), 1);
  CHECK_EQ(code, 7);
  close(fd);
}

TEST("says 255 where somebody else has reaped the child", .clean = 1) {
  int fd, code = 0;
  pid_t pid = fork();
  if (pid == 0) _exit(7);
  fd = mpi_pidfd_open(pid);
  CHECK(fd >= 0);
  CHECK_EQ(waitpid(pid, NULL, 0), pid);
  CHECK_EQ(mpi_pidfd_reap(fd, &code), 1);
  CHECK_EQ(code, 255);
  close(fd);
}

static int yes (void *ud) {
  (void)ud;
  return 1;
}

static void nothing (int sig) {
  (void)sig;
}

TEST("a wait is interrupted by a signal if the callback says so", .clean = 1) {
  struct sigaction sa = {.sa_handler = nothing};
  pid_t pid = sleeper(), waker;
  int fd = mpi_pidfd_open(pid);
  int code;
  CHECK(fd >= 0);
  (void)sigaction(SIGUSR1, &sa, NULL);
  mp_set_interrupt(yes, NULL);
  waker = fork();
  if (waker == 0) {
    pid_t target = getppid();
    for (;;) {
      (void)kill(target, SIGUSR1);
      test_pause();
    }
  }
  CHECK_ERR(mpi_fd_wait(fd, POLLIN, MP_NEVER), MP_EINTR);
  mp_set_interrupt(NULL, NULL);
  (void)kill(waker, SIGKILL);
  while (waitpid(waker, NULL, 0) < 0 && errno == EINTR) {}
  CHECK_OK(mpi_pidfd_signal(fd, SIGKILL));
  CHECK_OK(mpi_fd_wait(fd, POLLIN, MP_NEVER));
  CHECK_EQ(mpi_pidfd_reap(fd, &code), 1);
  close(fd);
}
