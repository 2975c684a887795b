#include "bind/channel.h"

#include "base/fd.h"
#include "bind/codec.h"
#include "proc/distrust.h"

void mpl_ring_share (const struct mpi_ring *r, const int *fds, int nfds) {
  int i;
  if (nfds == 0 || !mpi_distrusted(r->seg->ino)) return;
  for (i = 0; i < nfds; i++) mpi_distrust(fds[i]);
}

unsigned mpl_ring_trust (const struct mpi_ring *r) {
  return mpi_distrusted(r->seg->ino) ? 0u : MPL_TRUST_CODE;
}

static const struct mpl_encoding message = {NULL, NULL, NULL, MPL_ONE_RECORD};

int mpl_ring_put (lua_State *L, struct mpi_ring *r, int idx, int64_t deadline) {
  const mp_object *o = mpl_test(L, 1);
  int rc, done, nfds;
  do {
    struct mpl_parcel *p = mpl_parcel_out(L);
    struct mpi_msg m;
    mpl_encode_as(L, idx, p, &message); /* again after an interruption that raised nothing: a hook may have used the parcel */
    mpl_still(L, 1, o);
    m.data = p->data;
    m.size = p->size;
    m.fds = p->fds;
    m.nfds = nfds = p->nfds;
    mpl_ring_share(r, p->fds, p->nfds);
    rc = mpi_ring_put(r, &m, 1, &done, 0);
    if (rc != MP_ETIMEDOUT || deadline == 0) break;
    mpl_enter(L); /* only now: it takes time */
    rc = mpi_ring_put(r, &m, 1, &done, deadline);
    mpl_leave();
    if (rc == MP_EINTR) mpl_interrupt(L);
  } while (rc == MP_EINTR);
  if (__builtin_expect(nfds > 0, 0) && (rc == 0 || mpl_expected(rc))) mpl_encoded_done(L); /* else mp_errmsg is wanted still */
  return rc;
}

struct source { /* one of the two */
  struct mpi_ring *ring;
  struct mpi_queue *queue;
};

static int take (const struct source *from, struct mpi_sink *sink, int *got, int64_t deadline) {
  return from->queue != NULL ? mpi_queue_get(from->queue, sink, 1, got, deadline) : mpi_ring_get(from->ring, sink, 1, got, deadline);
}

static int get (lua_State *L, const struct source *from, int64_t deadline, int (*accept) (void *ud, const unsigned char *head, size_t n),
                void *ud) {
  int rc, got;
  struct mpl_parcel *p;
  size_t want = 256;
  do {
    struct mpi_sink sink = {0};
    p = mpl_parcel_in(L);
    if (mpl_parcel_reserve(p, want, MPI_MAX_FDS) != 0) return luaL_error(L, "not enough memory for a message of %I bytes", (lua_Integer)want);
    sink.data = p->data;
    sink.room = p->room;
    sink.fds = p->fds;
    sink.accept = accept;
    sink.accept_ud = ud;
    rc = take(from, &sink, &got, deadline != 0 ? MPI_LOOK : 0);
    if (rc == MP_ETIMEDOUT && deadline != 0) {
      mpl_enter(L); /* only now: it takes time */
      rc = take(from, &sink, &got, deadline);
      mpl_leave();
      if (rc == MP_EINTR) mpl_interrupt(L);
    }
    want = sink.size;
    p->size = sink.size;
    p->nfds = sink.nfds;
  } while (rc == MP_EINTR || rc == MP_E2BIG);
  if (rc == 0) mpl_decode(L, p, mpl_ring_trust(from->queue != NULL ? &from->queue->ring : from->ring));
  return rc;
}

int mpl_ring_get (lua_State *L, struct mpi_ring *r, int64_t deadline) {
  return mpl_ring_get_if(L, r, deadline, NULL, NULL);
}

int mpl_ring_get_if (lua_State *L, struct mpi_ring *r, int64_t deadline, int (*accept) (void *ud, const unsigned char *head, size_t n), void *ud) {
  struct source from = {r, NULL};
  return get(L, &from, deadline, accept, ud);
}

int mpl_queue_get (lua_State *L, struct mpi_queue *q, int64_t deadline) {
  struct source from = {NULL, q};
  return get(L, &from, deadline, NULL, NULL);
}
