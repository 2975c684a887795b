#include "shm/bell.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"

#define MOST_RECORDS 4096 /* of a socket that a peer has been filling; its buffer holds fewer */

/* A peer shares the open file and may have taken O_NONBLOCK away, so each call says itself that it does not wait. */
int mpi_bell_say (int eventfd) {
  static const uint64_t one = 1;
  struct pollfd p = {eventfd, POLLOUT, 0};
  if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT)) return 0; /* full: it is readable */
  return write(eventfd, &one, sizeof one) > 0;
}

int mpi_bell_take (int eventfd) {
  uint64_t value;
  struct iovec iov = {&value, sizeof value};
  ssize_t n = preadv2(eventfd, &iov, 1, -1, RWF_NOWAIT);
  if (n < 0 && errno != EAGAIN && errno != EINTR) { /* a kernel or filter that knows no preadv2 */
    struct pollfd p = {eventfd, POLLIN, 0};
    if (poll(&p, 1, 0) == 1) n = read(eventfd, &value, sizeof value);
  }
  return n > 0;
}

int mpi_bell_fits (int fd) {
  struct stat st;
  return mpi_fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == 0;
}

static int write_one (int fd) {
  static const uint64_t one = 1;
  ssize_t n = send(fd, &one, sizeof one, MSG_DONTWAIT | MSG_NOSIGNAL);
  return n >= 0 || errno != ENOTSOCK ? n >= 0 : mpi_bell_say(fd);
}

static int read_one (int fd) {
  uint64_t value;
  ssize_t n = recv(fd, &value, sizeof value, MSG_DONTWAIT);
  return n < 0 && errno == ENOTSOCK ? mpi_bell_take(fd) : n > 0;
}

void mpi_bell_ring (mpi_bell *b, struct mpi_bell_fds fds) {
  int e = errno;
  MPI_POINT("bell.ring.begin");
  (void)write_one(fds.wfd);
  MPI_POINT("bell.ring.written");
  mpi_store(&b->word, mpi_load_relaxed(&b->word) | MPI_BELL_ARMED | MPI_BELL_RUNG);
  errno = e;
}

void mpi_bell_drain (mpi_bell *b, struct mpi_bell_fds fds) {
  int e = errno;
  int i;
  mpi_store(&b->word, mpi_load_relaxed(&b->word) & ~MPI_BELL_RUNG);
  MPI_POINT("bell.drain.marked");
  for (i = 0; i < MOST_RECORDS && read_one(fds.rfd); i++) {}
  errno = e;
}

void mpi_bell_settle (mpi_bell *b, struct mpi_bell_fds fds, int ready) {
  if (!(mpi_load_relaxed(&b->word) & MPI_BELL_ARMED)) return;
  if (ready) mpi_bell_ring(b, fds); /* once too often does not matter */
  else mpi_bell_drain(b, fds);
}

static void begin (mpi_bell *b, struct mpi_bell_fds fds, int ready, uint32_t word) {
  if (word & MPI_BELL_ARMED) {
    mpi_store(&b->word, word);
  } else if (ready) {
    mpi_store(&b->word, word);
    mpi_bell_ring(b, fds); /* which arms it: an armed one is not silent on a ready object */
  } else {
    mpi_store(&b->word, word | MPI_BELL_ARMED);
    mpi_bell_drain(b, fds);
  }
}

void mpi_bell_arm (mpi_bell *b, struct mpi_bell_fds fds, int ready) {
  begin(b, fds, ready, mpi_load_relaxed(&b->word) | MPI_BELL_KEPT);
}

void mpi_bell_watch (mpi_bell *b, struct mpi_bell_fds fds, int ready) {
  begin(b, fds, ready, mpi_load_relaxed(&b->word) + MPI_BELL_WATCHER);
}

void mpi_bell_unwatch (mpi_bell *b, struct mpi_bell_fds fds, int ready) {
  uint32_t word = mpi_load_relaxed(&b->word);
  if (word >= MPI_BELL_WATCHER) word -= MPI_BELL_WATCHER;
  if (word >= MPI_BELL_WATCHER || (word & MPI_BELL_KEPT)) {
    mpi_store(&b->word, word);
    return;
  }
  mpi_store(&b->word, 0);
  MPI_POINT("bell.unwatch.marked");
  if (!ready) mpi_bell_drain(b, fds);
}
