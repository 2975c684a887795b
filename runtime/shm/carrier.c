#include "shm/carrier.h"

#include <poll.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/fd.h"

int mpi_carrier_send (int fd, uint32_t kind, uint32_t count, uint32_t attempt, const int *fds, int nfds) {
  struct mpi_record rec = {kind, count, attempt, 0};
  return mpi_fd_send(fd, &rec, sizeof rec, fds, nfds);
}

/* Reads the first record without its descriptors and without taking it. */
static int peek (int fd, struct mpi_record *rec) {
  return recv(fd, rec, sizeof *rec, MSG_DONTWAIT | MSG_PEEK) == (ssize_t)sizeof *rec;
}

void mpi_carrier_drop_first (int fd) {
  struct mpi_record rec;
  (void)!recv(fd, &rec, sizeof rec, MSG_DONTWAIT); /* descriptors that are not asked for are closed by the kernel */
}

int mpi_carrier_find (int fd, uint32_t count, uint32_t attempt, int *fds, int *nfds) {
  struct mpi_record rec;
  size_t got;
  while (peek(fd, &rec)) {
    if (rec.kind == MPI_REC_FDS && rec.count == count && rec.attempt == attempt) {
      *nfds = MPI_MAX_FDS;
      return mpi_fd_recv(fd, &rec, sizeof rec, &got, fds, nfds, MSG_PEEK);
    }
    mpi_carrier_drop_first(fd);
  }
  return mpi_fail(MP_ECORRUPT, "the descriptors of a message are missing");
}

void mpi_carrier_drop_stale (int fd, uint32_t count) {
  struct mpi_record rec;
  while (peek(fd, &rec) && (int32_t)(rec.count - count) <= 0) mpi_carrier_drop_first(fd);
}

void mpi_carrier_drop_attempts (int fd, uint32_t attempt) {
  struct mpi_record rec;
  while (peek(fd, &rec) && (int32_t)(rec.attempt - attempt) <= 0) mpi_carrier_drop_first(fd);
}

void mpi_carrier_drop_all (int fd) {
  struct mpi_record rec;
  while (peek(fd, &rec)) mpi_carrier_drop_first(fd);
}

int mpi_carrier_hung_up (int fd) {
  struct pollfd p = {fd, 0, 0};
  return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) != 0;
}
