#include "shm/bell.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fault.h"

#define MOST_RECORDS 4096 /* of a socket that a peer has been filling; its buffer holds fewer */

/* A peer shares the open file and may have taken O_NONBLOCK away, so each call says itself that it does not wait. */
static int write_one (int fd) {
  static const uint64_t one = 1;
  struct pollfd p = {fd, POLLOUT, 0};
  ssize_t n = send(fd, &one, sizeof one, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n >= 0 || errno != ENOTSOCK) return n >= 0;
  if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) return 0; /* full: it is readable */
  return write(fd, &one, sizeof one) > 0;
}

static int read_one (int fd) {
  uint64_t value;
  struct iovec iov = {&value, sizeof value};
  ssize_t n = recv(fd, &value, sizeof value, MSG_DONTWAIT);
  if (n < 0 && errno == ENOTSOCK) {
    n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) { /* a kernel or filter that knows no preadv2 */
      struct pollfd p = {fd, POLLIN, 0};
      if (poll(&p, 1, 0) == 1) n = read(fd, &value, sizeof value);
    }
  }
  return n > 0;
}

void mpi_bell_ring (mpi_bell *b, struct mpi_bell_fds fds) {
  int e = errno;
  MPI_POINT("bell.ring.begin");
  (void)write_one(fds.wfd);
  MPI_POINT("bell.ring.written");
  mpi_store(&b->word, MPI_BELL_ARMED | MPI_BELL_RUNG);
  errno = e;
}

void mpi_bell_drain (mpi_bell *b, struct mpi_bell_fds fds) {
  int e = errno;
  int i;
  mpi_store(&b->word, MPI_BELL_ARMED);
  MPI_POINT("bell.drain.marked");
  for (i = 0; i < MOST_RECORDS && read_one(fds.rfd); i++) {}
  errno = e;
}

void mpi_bell_settle (mpi_bell *b, struct mpi_bell_fds fds, int ready) {
  if (!(mpi_load_relaxed(&b->word) & MPI_BELL_ARMED)) return;
  if (ready) mpi_bell_ring(b, fds); /* once too often does not matter */
  else mpi_bell_drain(b, fds);
}

void mpi_bell_arm (mpi_bell *b, struct mpi_bell_fds fds, int ready) {
  if (mpi_load_relaxed(&b->word) & MPI_BELL_ARMED) return;
  if (ready) mpi_bell_ring(b, fds);
  else mpi_store(&b->word, MPI_BELL_ARMED);
}
