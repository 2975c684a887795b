#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/warm.h"

MPI_WARM _Atomic unsigned mpi_deaths;

int mpi_fd_raise_limit (void) {
  struct rlimit r;
  if (errno != EMFILE || getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur >= r.rlim_max) return 0;
  r.rlim_cur = r.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &r) == 0;
}

void mpi_fd_close (int *fd) {
  int e = errno;
  if (*fd >= 0) (void)close(*fd);
  *fd = -1;
  errno = e;
}

int mpi_fd_dup (int fd) {
  int d;
  do d = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  while (d < 0 && mpi_fd_raise_limit());
  return d < 0 ? mpi_fail_errno("dup") : d;
}

int mpi_fstat (int fd, struct stat *st) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  memset(st, 0, sizeof *st); /* they do not see what a raw system call writes */
#endif
  return (int)syscall(SYS_fstat, fd, st);
}

int mpi_memfd (const char *name) {
  int fd;
  if (MPI_FAULT_HERE("fd.memfd.fail")) return mpi_fail(MP_ESYS, "memfd_create: pretended failure");
  do fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  while (fd < 0 && mpi_fd_raise_limit());
  return fd < 0 ? mpi_fail_errno("memfd_create") : fd;
}

int mpi_eventfd (void) {
  int fd;
  do fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  while (fd < 0 && mpi_fd_raise_limit());
  return fd < 0 ? mpi_fail_errno("eventfd") : fd;
}

int mpi_socketpair (int sv[2]) {
  int rc;
  do rc = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv);
  while (rc < 0 && mpi_fd_raise_limit());
  return rc < 0 ? mpi_fail_errno("socketpair") : 0;
}

union control { /* aligned room for one SCM_RIGHTS message */
  struct cmsghdr header;
  char room[CMSG_SPACE(sizeof(int) * MPI_MAX_FDS)];
};

int mpi_fd_send (int sock, const void *data, size_t size, const int *fds, int nfds) {
  struct iovec iov = {(void *)(uintptr_t)data, size};
  union control control;
  struct msghdr msg = {0};
  ssize_t n;
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  if (nfds > MPI_MAX_FDS) return mpi_fail(MP_E2BIG, "more than %d descriptors in one record", MPI_MAX_FDS);
  if (nfds > 0) {
    size_t bytes = sizeof(int) * (size_t)nfds;
    struct cmsghdr *c;
    memset(&control, 0, sizeof control);
    msg.msg_control = &control;
    msg.msg_controllen = CMSG_SPACE(bytes);
    c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(c), fds, bytes);
  }
  do n = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);
  if (n >= 0) return 0;
  if (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS) return mpi_fail(MP_EFULL, "the socket is full");
  if (errno == EPIPE || errno == ECONNRESET) return mpi_fail(MP_ECLOSED, "the other end is closed");
  return mpi_fail_errno("sendmsg");
}

int mpi_fd_recv (int sock, void *data, size_t size, size_t *got, int *fds, int *nfds, int flags) {
  struct iovec iov = {data, size};
  union control control;
  struct msghdr msg = {0};
  struct cmsghdr *c;
  int room = *nfds;
  int count = 0, resets = 0;
  ssize_t n;
  *nfds = 0;
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = &control;
  msg.msg_controllen = sizeof control;
  do n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT | flags);
  while (n < 0 && (errno == EINTR || (errno == ECONNRESET && resets++ == 0))); /* a peer that ended with records unread; its own come after */
  if (n < 0) {
    if (errno == EAGAIN) return MP_EEMPTY;
    if (errno == ECONNRESET) return MP_EEOF;
    return mpi_fail_errno("recvmsg");
  }
  for (c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
    size_t i, k;
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (i = 0; i < k; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      if (count < room) fds[count++] = fd;
      else (void)close(fd);
    }
  }
  if (n == 0 && count == 0 && !(msg.msg_flags & MSG_TRUNC)) return MP_EEOF; /* we never send empty records */
  if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
    int i;
    for (i = 0; i < count; i++) (void)close(fds[i]);
    *nfds = 0;
    if (msg.msg_flags & MSG_CTRUNC)
      return mpi_fail(MP_ESYS, "descriptors in a message could not be taken (the limit of open files, ulimit -n, is reached)");
    return mpi_fail(MP_ECORRUPT, "a record is larger than any we send");
  }
  *nfds = count;
  *got = (size_t)n;
  return 0;
}
