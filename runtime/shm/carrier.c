#include "shm/carrier.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"

int mpi_carrier_send (int fd, uint32_t kind, uint32_t count, uint32_t attempt, const int *fds, int nfds) {
  struct mpi_record rec = {kind, count, attempt, 0};
  return mpi_fd_send(fd, &rec, sizeof rec, fds, nfds);
}

#define MOST 4096 /* records that are looked at in one call; a socket holds fewer, but a peer may put in more all the time */

/* Reads the first record without its descriptors and without taking it. */
static int peek (int fd, struct mpi_record *rec) {
  ssize_t n;
  int junk = 0;
  do n = recv(fd, rec, sizeof *rec, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
  while (n > 0 && n != (ssize_t)sizeof *rec && ++junk < MOST && recv(fd, rec, sizeof *rec, MSG_DONTWAIT) > 0); /* no record of ours has another size */
  return n == (ssize_t)sizeof *rec;
}

void mpi_carrier_drop_first (int fd) {
  struct mpi_record rec;
  (void)!recv(fd, &rec, sizeof rec, MSG_DONTWAIT); /* descriptors that are not asked for are closed by the kernel */
}

int mpi_carrier_find (int fd, uint32_t count, uint32_t attempt, int *fds, int *nfds) {
  struct mpi_record rec;
  size_t got;
  int n;
  for (n = 0; n < MOST && peek(fd, &rec); n++) {
    if (rec.kind == MPI_REC_FDS && rec.count == count && rec.attempt == attempt) {
      *nfds = MPI_MAX_FDS;
      return mpi_fd_recv(fd, &rec, sizeof rec, &got, fds, nfds, MSG_PEEK);
    }
    mpi_carrier_drop_first(fd);
  }
  return mpi_fail(MP_ECORRUPT, "the descriptors of a message are missing");
}

int mpi_carrier_find_any (int fd, int send_fd, uint32_t count, uint32_t attempt, uint32_t settled, int *fds, int *nfds) {
  struct mpi_record rec, first = {0, 0, 0, 0};
  int spare[MPI_MAX_FDS];
  size_t got;
  int turn;
  for (turn = 0; turn < MOST && peek(fd, &rec); turn++) {
    int n = MPI_MAX_FDS, i, rc;
    if (rec.kind == MPI_REC_FDS && rec.count == count && rec.attempt == attempt) {
      if (nfds == NULL) return 0;
      *nfds = MPI_MAX_FDS;
      return mpi_fd_recv(fd, &rec, sizeof rec, &got, fds, nfds, MSG_PEEK);
    }
    if (rec.count == count || (int32_t)(rec.count - settled) <= 0) {
      mpi_carrier_drop_first(fd);
      continue;
    }
    if (first.kind != 0 && first.count == rec.count && first.attempt == rec.attempt) break; /* once round */
    if (first.kind == 0) first = rec;
    rc = mpi_fd_recv(fd, &rec, sizeof rec, &got, spare, &n, MSG_PEEK);
    if (rc != 0) return rc;
    rc = mpi_fd_send(send_fd, &rec, sizeof rec, spare, n);
    if (rc == MP_EFULL) { /* no room for both: take the first off before; killed in between, its message has lost them */
      mpi_carrier_drop_first(fd);
      rc = mpi_fd_send(send_fd, &rec, sizeof rec, spare, n);
    } else if (rc == 0) {
      mpi_carrier_drop_first(fd);
    }
    for (i = 0; i < n; i++) mpi_fd_close(&spare[i]);
    if (rc != 0) return rc;
  }
  return mpi_fail(MP_ECORRUPT, "the descriptors of a message are missing");
}

void mpi_carrier_drop_stale (int fd, uint32_t count) {
  struct mpi_record rec;
  int n;
  for (n = 0; n < MOST && peek(fd, &rec) && (int32_t)(rec.count - count) <= 0; n++) mpi_carrier_drop_first(fd);
}

void mpi_carrier_drop_attempts (int fd, uint32_t attempt) {
  struct mpi_record rec;
  int n;
  for (n = 0; n < MOST && peek(fd, &rec) && (int32_t)(rec.attempt - attempt) <= 0; n++) mpi_carrier_drop_first(fd);
}

void mpi_carrier_drop_all (int fd) {
  struct mpi_record rec;
  int n;
  for (n = 0; n < MOST && recv(fd, &rec, sizeof rec, MSG_DONTWAIT) >= 0; n++) {} /* records of any size, so that the socket is empty after */
}

int mpi_carrier_fits (int fd) {
  struct stat st;
  return mpi_fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

int mpi_carrier_hung_up (int fd) {
  struct pollfd p = {fd, 0, 0};
  return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) != 0;
}
