#include "shm/pipe.h"

#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "shm/carrier.h"

#define RING_AT 64u /* of direction 0 (A sends); the other follows */
#define AREA (MPI_PIPE_MOST * 2)    /* of one direction: a power of two; less under a limit of address space */
#define AREA_LEAST (UINT64_C(4) << 20)

static uint64_t new_area (void) {
  uint64_t area = AREA;
  while (area > AREA_LEAST && area > mpi_seg_share() / 4) area /= 2; /* both ends are mapped, each with both directions */
  return area;
}

/* Which of fds[1..] are what: sending carrier and bell first, then receiving. */
static int attach (struct mpi_object *o) {
  struct mpi_pipe *p = (struct mpi_pipe *)o;
  int side = o->detail & 3;
  int simplex = (o->detail & MPI_PIPE_SIMPLEX) != 0;
  int sends = !simplex || side == MPI_PIPE_B;
  int receives = !simplex || side == MPI_PIPE_A;
  int out = side == MPI_PIPE_A ? 0 : 1;
  int next = 1;
  int d, rc;
  uint64_t area = o->seg.size > MPI_PAGE ? (o->seg.size - MPI_PAGE) / 2 : 0;
  p->pollfd = -1;
  if ((side != MPI_PIPE_A && side != MPI_PIPE_B) || o->detail > 6 || o->nfds != 1 + 2 * (sends + receives) ||
      o->seg.size != MPI_PAGE + 2 * area || area < AREA_LEAST || area > AREA || (area & (area - 1)) != 0)
    return mpi_fail(MP_ECORRUPT, "a pipe's end that arrived is malformed");
  for (d = 1; d < o->nfds; d += 2)
    if (!mpi_carrier_fits(o->fds[d]) || !mpi_bell_fits(o->fds[d + 1])) return mpi_fail(MP_ECORRUPT, "a pipe's end that arrived is malformed");
  for (d = 0; d < 2; d++) {
    struct mpi_ring *r = d == out ? &p->out : &p->in;
    if (d == out ? !sends : !receives) continue;
    rc = mpi_ring_attach(r, mpi_seg_at(&o->seg, RING_AT + (size_t)d * sizeof(struct mpi_ring_shared)), &o->seg,
                         MPI_PAGE + (size_t)d * area, area);
    if (rc != 0) return rc;
    r->polls = 1;
  }
  if (sends) {
    p->out.send_fd = o->fds[next++];
    p->out.bell_fd = o->fds[next++];
  }
  if (receives) {
    p->in.recv_fd = o->fds[next++];
    p->in.bell_fd = o->fds[next];
  }
  return 0;
}

static void detach (struct mpi_object *o) {
  struct mpi_pipe *p = (struct mpi_pipe *)o;
  mpi_fd_close(&p->pollfd);
  if (p->in.s != NULL) (void)mpi_fetch_add(&p->in.s->leavers, 1);
}

const struct mpi_type mpi_type_pipe = {.type = MPI_T_PIPE, .name = "Pipe", .size = sizeof(struct mpi_pipe), .nfds = 5,
                                       .attach = attach, .detach = detach};

static void close_array (int *fds, int n) {
  int i;
  for (i = 0; i < n; i++) mpi_fd_close(&fds[i]);
}

/* sv[d]: carrier of direction d, bell[d][side]: its bell for each end. */
static int make_descriptors (int duplex, int sv[2][2], int bell[2][2]) {
  int d, rc = 0;
  for (d = duplex ? 0 : 1; d < 2 && rc == 0; d++) {
    rc = mpi_socketpair(sv[d]);
    if (rc != 0) break;
    bell[d][0] = mpi_eventfd();
    if (bell[d][0] < 0) rc = bell[d][0];
    if (rc == 0) bell[d][1] = mpi_fd_dup(bell[d][0]);
    if (rc == 0 && bell[d][1] < 0) rc = bell[d][1];
  }
  return rc;
}

static int format (mp_object *o, uint64_t area) {
  struct mpi_ring_shared *s = mpi_seg_at(&o->seg, RING_AT);
  int d;
  for (d = 0; d < 2; d++) {
    mpi_ring_format(&s[d], MPI_PIPE_BYTES, 0);
    s[d].capacity = area;
  }
  return 0;
}

int mp_pipe_new (int duplex, mp_object **a, mp_object **b) {
  int sv[2][2] = {{-1, -1}, {-1, -1}};
  int bell[2][2] = {{-1, -1}, {-1, -1}};
  int fds[MPI_OBJECT_FDS];
  int memfd2, n = 0, rc;
  int simplex = duplex ? 0 : MPI_PIPE_SIMPLEX;
  uint64_t area = new_area();
  struct mpi_object *oa, *ob = NULL;
  rc = mpi_object_new(&mpi_type_pipe, MPI_PAGE + 2 * area, &oa);
  if (rc != 0) return rc;
  oa->detail = MPI_PIPE_A | simplex;
  rc = format(oa, area);
  if (rc == 0) rc = make_descriptors(duplex, sv, bell);
  memfd2 = rc == 0 ? mpi_fd_dup(oa->fds[0]) : -1;
  if (rc == 0 && memfd2 < 0) rc = memfd2;
  if (rc == 0) {
    /* A: sends in direction 0 (duplex), receives in direction 1. */
    oa->nfds = duplex ? 5 : 3;
    if (duplex) {
      oa->fds[++n] = sv[0][0];
      oa->fds[++n] = bell[0][0];
    }
    oa->fds[++n] = sv[1][1];
    oa->fds[++n] = bell[1][1];
    rc = mpi_object_publish(oa);
    if (rc != 0) {
      while (n > 0) oa->fds[n--] = -1;
    }
  }
  if (rc != 0) {
    close_array(sv[0], 2);
    close_array(sv[1], 2);
    close_array(bell[0], 2);
    close_array(bell[1], 2);
    mpi_fd_close(&memfd2);
    mpi_object_abandon(oa);
    return rc;
  }
  n = 0;
  fds[n++] = memfd2;
  fds[n++] = sv[1][0];
  fds[n++] = bell[1][0];
  if (duplex) {
    fds[n++] = sv[0][1];
    fds[n++] = bell[0][1];
  }
  rc = mpi_object_adopt(MPI_T_PIPE, MPI_PIPE_B | simplex, fds, n, &ob);
  if (rc != 0) {
    mp_release(oa);
    return rc;
  }
  *a = oa;
  *b = ob;
  return 0;
}

int mpi_pipe_fd (struct mpi_pipe *p) {
  struct epoll_event bell = {.events = EPOLLIN};
  struct epoll_event peer = {.events = EPOLLHUP};
  int fd, rc;
  if (p->in.s == NULL) return mpi_fail(MP_EMISUSE, "this end does not receive");
  if (p->pollfd >= 0) return p->pollfd;
  rc = mpi_ring_arm(&p->in);
  if (rc != 0) return rc;
  do fd = epoll_create1(EPOLL_CLOEXEC);
  while (fd < 0 && mpi_fd_raise_limit());
  if (fd < 0) return mpi_fail_errno("epoll_create1");
  if (epoll_ctl(fd, EPOLL_CTL_ADD, p->in.bell_fd, &bell) != 0 || epoll_ctl(fd, EPOLL_CTL_ADD, p->in.recv_fd, &peer) != 0) {
    rc = mpi_fail_errno("epoll_ctl");
    mpi_fd_close(&fd);
    return rc;
  }
  p->pollfd = fd;
  return fd;
}

static struct mpi_ring *direction (mp_object *o, int sending) {
  struct mpi_ring *r;
  if (o == NULL || o->type != &mpi_type_pipe) {
    (void)mpi_fail(MP_EMISUSE, "not a pipe's end");
    return NULL;
  }
  r = sending ? &((struct mpi_pipe *)o)->out : &((struct mpi_pipe *)o)->in;
  if (r->s != NULL) return r;
  (void)mpi_fail(MP_EMISUSE, sending ? "this end does not send" : "this end does not receive");
  return NULL;
}

int mp_pipe_send (mp_object *end, const void *data, size_t size, int64_t deadline) {
  struct mpi_ring *r = direction(end, 1);
  struct mpi_msg m = {data, size, NULL, 0};
  int done;
  return r == NULL ? MP_EMISUSE : mpi_ring_put(r, &m, 1, &done, deadline);
}

int mp_pipe_recv (mp_object *end, void *buffer, size_t *size, int64_t deadline) {
  struct mpi_ring *r = direction(end, 0);
  int fds[MPI_MAX_FDS];
  struct mpi_sink sink = {.data = buffer, .room = *size, .fds = fds};
  int got, rc;
  if (r == NULL) return MP_EMISUSE;
  rc = mpi_ring_get(r, &sink, 1, &got, deadline);
  if (rc == 0 || rc == MP_E2BIG) *size = sink.size;
  while (rc == 0 && sink.nfds > 0) mpi_fd_close(&fds[--sink.nfds]);
  return rc;
}

int mp_pipe_fd (mp_object *end) {
  return direction(end, 0) == NULL ? MP_EMISUSE : mpi_pipe_fd((struct mpi_pipe *)end);
}
