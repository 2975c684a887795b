#include "shm/queue.h"

#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "shm/carrier.h"

#define RING_AT 64u
#define HANDS_AT MPI_PAGE /* with redelivery: struct mpi_hands_shared, then the seats; then the data */
#define HANDS_PAGES ((sizeof(struct mpi_hands_shared) + MPI_PAGE - 1) / MPI_PAGE)
#define REDELIVER 1u /* in mpi_ring_shared.reserved: the kind of queue, never changed */

static size_t data_at (uint32_t kind) {
  return kind & REDELIVER ? HANDS_AT + HANDS_PAGES * MPI_PAGE + mpi_seats_size(MPI_REDELIVER_SEATS) : MPI_PAGE;
}

static int attach (struct mpi_object *o) {
  struct mpi_queue *q = (struct mpi_queue *)o;
  struct mpi_ring_shared *s = mpi_seg_at(&o->seg, RING_AT);
  uint32_t kind = *(volatile uint32_t *)&s->reserved & REDELIVER;
  int rc;
  if (o->seg.size < data_at(kind) + MPI_PAGE || !mpi_carrier_fits(o->fds[1]) || !mpi_carrier_fits(o->fds[2]) || !mpi_bell_fits(o->fds[3])) return mpi_fail(MP_ECORRUPT, "a queue that arrived is malformed");
  rc = mpi_ring_attach(&q->ring, s, &o->seg, data_at(kind), o->seg.size - data_at(kind));
  if (rc != 0) return rc;
  q->ring.send_fd = o->fds[1];
  q->ring.recv_fd = o->fds[2];
  q->ring.bell_fd = o->fds[3];
  if (kind & REDELIVER) {
    q->hands.s = mpi_seg_at(&o->seg, HANDS_AT);
    q->hands.r = &q->ring;
    q->ring.owned = 1;
    q->ring.cursor = &q->hands.s->cursor;
    rc = mpi_seats_init(&q->hands.seats, o, HANDS_AT + HANDS_PAGES * MPI_PAGE, MPI_REDELIVER_SEATS);
  }
  return rc;
}

static void detach (struct mpi_object *o) {
  struct mpi_queue *q = (struct mpi_queue *)o;
  if (q->hands.s != NULL) mpi_seats_fini(&q->hands.seats);
}

const struct mpi_type mpi_type_queue = {
  .type = MPI_T_QUEUE, .name = "Queue", .size = sizeof(struct mpi_queue), .nfds = 4, .attach = attach, .detach = detach};

int mpi_queue_get (struct mpi_queue *q, struct mpi_sink *sink, int max, int *got, int64_t deadline) {
  int rc;
  if (q->hands.s == NULL) return mpi_ring_get(&q->ring, sink, max, got, deadline);
  rc = mpi_hands_get(&q->hands, sink, deadline);
  *got = rc == 0;
  if (rc == 0 && sink->ends != NULL) sink->ends[0] = sink->size;
  return rc;
}

int mpi_queue_task_done (struct mpi_queue *q) {
  return q->hands.s != NULL ? mpi_hands_task_done(&q->hands) : mpi_ring_task_done(&q->ring);
}

int mpi_queue_join (struct mpi_queue *q, int64_t deadline) {
  return q->hands.s != NULL ? mpi_hands_join(&q->hands, deadline) : mpi_ring_join(&q->ring, deadline);
}

uint32_t mpi_queue_size (struct mpi_queue *q) {
  return q->hands.s != NULL ? mpi_hands_size(&q->hands) : mpi_ring_size(&q->ring);
}

int mpi_queue_full (struct mpi_queue *q) {
  if (q->hands.s != NULL && q->ring.maxsize != 0) return mpi_hands_size(&q->hands) >= q->ring.maxsize;
  return mpi_ring_full(&q->ring);
}

int mpi_queue_ready (struct mpi_queue *q) {
  return q->hands.s != NULL ? mpi_hands_ready(&q->hands) : mpi_ring_ready(&q->ring);
}

uint64_t mpi_queue_default_maxbytes (void) {
  long pages = sysconf(_SC_PHYS_PAGES);
  uint64_t bytes = pages > 0 ? (uint64_t)pages * MPI_PAGE / 8 : UINT64_C(1) << 30;
  return bytes > UINT64_C(4) << 30 ? UINT64_C(4) << 30 : bytes;
}

/* Under a limit of address space: as large a ring as may be, whose bound is what surely fits it. */
static uint64_t limited_capacity (void) {
  uint64_t capacity = UINT64_C(1) << 20;
  while (capacity * 2 <= mpi_seg_share()) capacity *= 2;
  return capacity;
}

int mp_queue_new (const struct mp_queue_options *options, mp_object **out) {
  uint64_t maxbytes = options != NULL && options->maxbytes != 0 ? options->maxbytes : mpi_queue_default_maxbytes();
  uint64_t capacity = 0;
  uint32_t maxsize = options != NULL ? options->maxsize : 0;
  struct mpi_ring_shared *s;
  struct mpi_object *o;
  uint32_t kind;
  int rc;
  if (maxbytes > MPI_QUEUE_MOST_BYTES) return mpi_fail(MP_EMISUSE, "maxbytes is larger than %llu", (unsigned long long)MPI_QUEUE_MOST_BYTES);
  kind = options != NULL && options->redeliver ? REDELIVER : 0;
  if (options == NULL || options->maxbytes == 0) {
    if (mpi_ring_capacity(maxbytes) > mpi_seg_share()) {
      capacity = limited_capacity();
      maxbytes = capacity / 2 - 4096;
    }
  }
  if (capacity == 0) capacity = mpi_ring_capacity(maxbytes);
  rc = mpi_object_new(&mpi_type_queue, data_at(kind) + capacity, &o);
  if (rc != 0) return rc;
  s = mpi_seg_at(&o->seg, RING_AT);
  mpi_ring_format(s, maxbytes, maxsize);
  s->capacity = capacity;
  s->reserved = kind;
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
  rc = mpi_queue_get((struct mpi_queue *)q, &sink, 1, &got, deadline);
  if (rc == 0 || rc == MP_E2BIG) *size = sink.size;
  while (rc == 0 && sink.nfds > 0) mpi_fd_close(&fds[--sink.nfds]); /* handles in a message are for those who decode it */
  return rc;
}

uint32_t mp_queue_size (mp_object *q) {
  struct mpi_ring *r = checked(q);
  return r == NULL ? 0 : mpi_queue_size((struct mpi_queue *)q);
}

int mp_queue_close (mp_object *q, int drop) {
  struct mpi_ring *r = checked(q);
  return r == NULL ? MP_EMISUSE : mpi_ring_close(r, drop);
}

int mp_queue_task_done (mp_object *q) {
  struct mpi_ring *r = checked(q);
  return r == NULL ? MP_EMISUSE : mpi_queue_task_done((struct mpi_queue *)q);
}

int mp_queue_join (mp_object *q, int64_t deadline) {
  struct mpi_ring *r = checked(q);
  return r == NULL ? MP_EMISUSE : mpi_queue_join((struct mpi_queue *)q, deadline);
}

int mp_queue_fd (mp_object *q) {
  struct mpi_ring *r = checked(q);
  int rc = r == NULL ? MP_EMISUSE : mpi_ring_arm(r);
  return rc != 0 ? rc : r->bell_fd;
}
