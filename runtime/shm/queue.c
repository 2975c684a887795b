#include "shm/queue.h"

#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"

#define RING_AT 64u

static int attach (struct mpi_object *o) {
  struct mpi_queue *q = (struct mpi_queue *)o;
  int rc = mpi_ring_attach(&q->ring, mpi_seg_at(&o->seg, RING_AT), &o->seg, MPI_PAGE, o->seg.size - MPI_PAGE);
  if (rc != 0) return rc;
  q->ring.send_fd = o->fds[1];
  q->ring.recv_fd = o->fds[2];
  q->ring.bell_fd = o->fds[3];
  return 0;
}

const struct mpi_type mpi_type_queue = {
  .type = MPI_T_QUEUE, .name = "Queue", .size = sizeof(struct mpi_queue), .nfds = 4, .attach = attach};

uint64_t mpi_queue_default_maxbytes (void) {
  long pages = sysconf(_SC_PHYS_PAGES);
  uint64_t bytes = pages > 0 ? (uint64_t)pages * MPI_PAGE / 8 : UINT64_C(1) << 30;
  return bytes > UINT64_C(4) << 30 ? UINT64_C(4) << 30 : bytes;
}

int mp_queue_new (const struct mp_queue_options *options, mp_object **out) {
  uint64_t maxbytes = options != NULL && options->maxbytes != 0 ? options->maxbytes : mpi_queue_default_maxbytes();
  uint32_t maxsize = options != NULL ? options->maxsize : 0;
  struct mpi_object *o;
  int rc;
  if (maxbytes > MPI_QUEUE_MOST_BYTES) return mpi_fail(MP_EMISUSE, "maxbytes is larger than %llu", (unsigned long long)MPI_QUEUE_MOST_BYTES);
  rc = mpi_object_new(&mpi_type_queue, MPI_PAGE + mpi_ring_capacity(maxbytes), &o);
  if (rc != 0) return rc;
  mpi_ring_format(mpi_seg_at(&o->seg, RING_AT), maxbytes, maxsize);
  rc = mpi_socketpair(&o->fds[1]);
  if (rc == 0) {
    o->fds[3] = mpi_eventfd();
    rc = o->fds[3] < 0 ? o->fds[3] : mpi_object_publish(o);
  }
  if (rc != 0) {
    mpi_object_abandon(o);
    return rc;
  }
  *out = o;
  return 0;
}

static struct mpi_ring *checked (mp_object *o) {
  if (o != NULL && o->type == &mpi_type_queue) return mpi_queue_ring(o);
  (void)mpi_fail(MP_EMISUSE, "not a queue");
  return NULL;
}

int mp_queue_put (mp_object *q, const void *data, size_t size, int64_t deadline) {
  struct mpi_ring *r = checked(q);
  struct mpi_msg m = {data, size, NULL, 0};
  int done;
  return r == NULL ? MP_EMISUSE : mpi_ring_put(r, &m, 1, &done, deadline);
}

int mp_queue_get (mp_object *q, void *buffer, size_t *size, int64_t deadline) {
  struct mpi_ring *r = checked(q);
  int fds[MPI_MAX_FDS];
  struct mpi_sink sink = {.data = buffer, .room = *size, .fds = fds};
  int got, rc;
  if (r == NULL) return MP_EMISUSE;
  rc = mpi_ring_get(r, &sink, 1, &got, deadline);
  if (rc == 0 || rc == MP_E2BIG) *size = sink.size;
  while (rc == 0 && sink.nfds > 0) mpi_fd_close(&fds[--sink.nfds]); /* handles in a message are for those who decode it */
  return rc;
}

uint32_t mp_queue_size (mp_object *q) {
  struct mpi_ring *r = checked(q);
  return r == NULL ? 0 : mpi_ring_size(r);
}

int mp_queue_close (mp_object *q, int drop) {
  struct mpi_ring *r = checked(q);
  return r == NULL ? MP_EMISUSE : mpi_ring_close(r, drop);
}

int mp_queue_task_done (mp_object *q) {
  struct mpi_ring *r = checked(q);
  return r == NULL ? MP_EMISUSE : mpi_ring_task_done(r);
}

int mp_queue_join (mp_object *q, int64_t deadline) {
  struct mpi_ring *r = checked(q);
  return r == NULL ? MP_EMISUSE : mpi_ring_join(r, deadline);
}

int mp_queue_fd (mp_object *q) {
  struct mpi_ring *r = checked(q);
  int rc = r == NULL ? MP_EMISUSE : mpi_ring_arm(r);
  return rc != 0 ? rc : r->bell_fd;
}
