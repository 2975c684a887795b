/* l_queue.c -- mp.Queue (mp.JoinableQueue and mp.SimpleQueue are the same). Contract: docs/reference/queue.md. */
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "bind/channel.h"
#include "bind/codec.h"
#include "bind/wait.h"
#include "shm/queue.h"

static const mpl_type queue_type;

static struct mpi_queue *check_queue (lua_State *L) {
  return (struct mpi_queue *)mpl_check(L, 1, &queue_type);
}

static struct mpi_ring *check_ring (lua_State *L) {
  return mpi_queue_ring(mpl_check(L, 1, &queue_type));
}

/* ---- making ---- */

static uint64_t size_option (lua_State *L, const char *constructor, const char *name, lua_Integer most) {
  lua_Integer n;
  int ok;
  n = lua_tointegerx(L, -1, &ok);
  if (lua_type(L, -1) != LUA_TNUMBER || !ok || n < 0 || n > most)
    luaL_error(L, "%s: %s must be an integer from 0 to %I", constructor, name, most);
  lua_pop(L, 1);
  return (uint64_t)n;
}

static int new_queue (lua_State *L, const char *name) {
  struct mp_queue_options options = {0, 0, 0};
  mp_object *o;
  int rc;
  mpl_no_more(L, 1, name);
  lua_settop(L, 1);
  if (lua_istable(L, 1)) {
    mpl_options_begin(L, 1);
    if (mpl_option(L, 1, "maxsize")) options.maxsize = (uint32_t)size_option(L, name, "maxsize", INT32_MAX);
    if (mpl_option(L, 1, "maxbytes")) options.maxbytes = size_option(L, name, "maxbytes", (lua_Integer)MPI_QUEUE_MOST_BYTES);
    if (mpl_option(L, 1, "redeliver")) {
      if (!lua_isboolean(L, -1)) return luaL_error(L, "%s: redeliver must be a boolean", name);
      options.redeliver = lua_toboolean(L, -1);
      lua_pop(L, 1);
    }
    mpl_options_done(L, 1, name);
  } else if (!lua_isnil(L, 1)) {
    options.maxsize = (uint32_t)mpl_checkint(L, 1, 0, INT32_MAX);
  }
  MPL_NEW(L, rc, mp_queue_new(&options, &o));
  if (rc != 0) return mpl_raise(L, name, rc);
  mpl_push(L, o);
  return 1;
}

/* One C function a name, so that an error names what was called. */
static int l_Queue (lua_State *L) {
  return new_queue(L, "Queue");
}
static int l_JoinableQueue (lua_State *L) {
  return new_queue(L, "JoinableQueue");
}
static int l_SimpleQueue (lua_State *L) {
  return new_queue(L, "SimpleQueue");
}

/* ---- one message ---- */

static int put (lua_State *L, int64_t deadline, const char *function, int refused) {
  struct mpi_ring *r = check_ring(L);
  int rc = mpl_ring_put(L, r, 2, deadline);
  if (rc == MP_ETIMEDOUT) rc = refused;
  return mpl_result(L, function, rc);
}

static int l_put (lua_State *L) {
  luaL_checkany(L, 2);
  return put(L, mpl_deadline(L, 3), "put", MP_ETIMEDOUT);
}

static int l_put_nowait (lua_State *L) {
  luaL_checkany(L, 2);
  return put(L, 0, "put_nowait", MP_EFULL);
}

static int get (lua_State *L, int64_t deadline, const char *function, int refused) {
  int rc = mpl_queue_get(L, check_queue(L), deadline);
  if (rc == 0) return 1;
  if (rc == MP_ETIMEDOUT) rc = refused;
  return mpl_result(L, function, rc);
}

static int l_get (lua_State *L) {
  return get(L, mpl_deadline(L, 2), "get", MP_ETIMEDOUT);
}

static int l_get_nowait (lua_State *L) {
  return get(L, 0, "get_nowait", MP_EEMPTY);
}

/* for v in q:items(timeout): ends when closed and drained, at a nil message, or at the timeout. Upvalues: queue, timeout. */
static int l_next_item (lua_State *L) {
  lua_settop(L, 0);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, lua_upvalueindex(2));
  (void)get(L, mpl_deadline(L, 2), "items", MP_ETIMEDOUT);
  lua_settop(L, 3); /* the value, or the nil of a failure */
  return 1;
}

static int l_items (lua_State *L) {
  (void)check_ring(L);
  (void)mpl_deadline(L, 2);
  lua_settop(L, 2);
  lua_pushcclosure(L, l_next_item, 2);
  return 1;
}

/* ---- many ---- */

struct spans { /* encoded messages one behind the other; all in userdata, so that an error frees them */
  unsigned char *data;
  size_t size, room;
};

/* Appends to the buffer userdata at `idx`, which is replaced when it must grow. */
static void append (lua_State *L, int idx, struct spans *s, const void *data, size_t size) {
  if (s->room - s->size < size) {
    size_t room = (s->room + size) * 2;
    void *bigger = lua_newuserdatauv(L, room, 0);
    if (s->size > 0) memcpy(bigger, s->data, s->size);
    lua_replace(L, idx);
    s->data = bigger;
    s->room = room;
  }
  memcpy(s->data + s->size, data, size);
  s->size += size;
}

/* The value at the top stays in the list at idx, which is made when there is none. */
static void keep (lua_State *L, int idx, lua_Integer i) {
  if (lua_isnil(L, idx)) {
    lua_newtable(L);
    lua_replace(L, idx);
  }
  lua_pushvalue(L, -1);
  lua_rawseti(L, idx, i);
}

/* Encodes list[1..n] into a buffer at the top of the stack; msgs gets offsets for addresses, which are turned into addresses at the end. */
static void encode_list (lua_State *L, const mp_object *o, const struct mpi_ring *r, int n, struct mpi_msg *msgs) {
  struct spans bytes = {NULL, 0, 0};
  struct spans fds = {NULL, 0, 0};
  int at, i;
  lua_pushnil(L); /* the buffers' places, */
  lua_pushnil(L);
  lua_pushnil(L); /* and that of a list of what dump functions gave */
  at = lua_gettop(L) - 2;
  for (i = 0; i < n; i++) {
    struct mpl_parcel *p = mpl_parcel_out(L);
    struct mpl_encoding how = {"put_many", NULL, NULL, MPL_ONE_RECORD, i + 1};
    lua_geti(L, 2, i + 1);
    mpl_encode_as(L, -1, p, &how);
    mpl_still(L, 1, o);
    mpl_ring_share(r, p->fds, p->nfds);
    msgs[i].size = p->size;
    msgs[i].nfds = p->nfds;
    if (p->nfds > 0) mpl_encoded_push(L);
    mpl_parcels_hold(L, __builtin_frame_address(0)); /* what is allocated may let finalizers run, and these may send */
    append(L, at, &bytes, p->data, p->size);
    if (p->nfds > 0) {
      append(L, at + 1, &fds, p->fds, (size_t)p->nfds * sizeof(int));
      if (!lua_isnil(L, -1)) keep(L, at + 2, i + 1);
    }
    mpl_parcels_release(L);
    lua_settop(L, at + 2); /* the list keeps the value, and so its handles */
  }
  bytes.size = 0;
  fds.size = 0;
  for (i = 0; i < n; i++) {
    msgs[i].data = bytes.data + bytes.size;
    bytes.size += msgs[i].size;
    msgs[i].fds = (const int *)(const void *)(fds.data + fds.size);
    fds.size += (size_t)msgs[i].nfds * sizeof(int);
  }
}

/* The number at the top as a length; 2.0 counts. */
static lua_Integer length_given (lua_State *L) {
  int ok;
  lua_Integer n = lua_tointegerx(L, -1, &ok);
  return ok ? n : -1;
}

static int l_put_many (lua_State *L) {
  mp_object *o = mpl_check(L, 1, &queue_type);
  struct mpi_ring *r = mpi_queue_ring(o);
  int64_t deadline = mpl_deadline(L, 3);
  struct mpi_msg *msgs;
  lua_Integer n;
  int put_now, total = 0, rc = 0;
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 3);
  lua_getfield(L, 2, "n");
  n = lua_type(L, -1) == LUA_TNUMBER ? length_given(L) : luaL_len(L, 2);
  luaL_argcheck(L, n >= 0 && n <= 100000000, 2, "impossible length");
  msgs = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *msgs, 0);
  encode_list(L, o, r, (int)n, msgs);
  mpl_still(L, 1, o);
  while (total < (int)n) {
    mpl_enter(L);
    rc = mpi_ring_put(r, msgs + total, (int)n - total, &put_now, deadline);
    mpl_leave();
    total += put_now;
    if (rc == MP_EINTR) mpl_interrupt(L);
    else if (rc != 0) break;
  }
  if (rc != 0 && rc != MP_EINTR && !mpl_expected(rc)) return mpl_raise(L, "put_many", rc);
  mpl_encoded_done(L);
  lua_pushinteger(L, total);
  if (total == (int)n) return 1;
  lua_pushstring(L, mp_errname(rc));
  return 2;
}

#define MANY_BYTES (64u * 1024u) /* first room for a batch */
#define MANY_MOST 4096
#define MANY_EVER 100000000 /* in one list: whoever wants more (math.huge) gets so many */

/* Decodes messages of `bytes` into the table at the top from index `first` on; descriptors belong to the last one. */
static void decode_batch (lua_State *L, struct mpl_parcel *all, const size_t *ends, int got, lua_Integer first, unsigned trust) {
  size_t start = 0;
  int i;
  for (i = 0; i < got; i++) {
    struct mpl_parcel one = {all->data + start, ends[i] - start, ends[i] - start, NULL, 0, 0};
    if (i == got - 1) {
      one.fds = all->fds;
      one.nfds = all->nfds;
      one.fds_room = all->fds_room;
    }
    mpl_decode(L, &one, trust);
    lua_rawseti(L, -2, first + i);
    start = ends[i];
  }
}

static int l_get_many (lua_State *L) {
  struct mpi_queue *q = check_queue(L);
  lua_Integer max = lua_type(L, 2) == LUA_TNUMBER && lua_tonumber(L, 2) > MANY_EVER ? MANY_EVER : mpl_checkint(L, 2, 1, MANY_EVER);
  int64_t deadline = mpl_deadline(L, 3);
  int most = max < MANY_MOST ? (int)max : MANY_MOST;
  size_t *ends = lua_newuserdatauv(L, (size_t)most * sizeof *ends, 0);
  lua_Integer total = 0;
  size_t want = MANY_BYTES;
  lua_createtable(L, most < 256 ? most : 256, 1);
  while (total < max) { /* waits for the first; then what is there */
    struct mpl_parcel *p = mpl_parcel_in(L);
    struct mpi_sink sink = {0};
    int rc, got;
    if (mpl_parcel_reserve(p, want, MPI_MAX_FDS) != 0) return luaL_error(L, "get_many: not enough memory");
    sink.data = p->data;
    sink.room = p->room;
    sink.fds = p->fds;
    sink.ends = ends;
    mpl_enter(L);
    rc = mpi_queue_get(q, &sink, max - total < most ? (int)(max - total) : most, &got, total == 0 ? deadline : 0);
    mpl_leave();
    p->size = sink.size;
    p->nfds = sink.nfds;
    if (rc == MP_E2BIG) want = sink.size;
    else if (rc == MP_EINTR) mpl_interrupt(L);
    else if (rc != 0 && total > 0) break;
    else if (rc != 0) return mpl_result(L, "get_many", rc);
    else {
      decode_batch(L, p, ends, got, total + 1, mpl_ring_trust(&q->ring));
      mpl_still(L, 1, (mp_object *)q);
      total += got;
    }
  }
  lua_pushinteger(L, total);
  lua_setfield(L, -2, "n");
  return 1;
}

/* ---- the rest ---- */

static int l_qsize (lua_State *L) {
  lua_pushinteger(L, mpi_queue_size(check_queue(L)));
  return 1;
}

static int l_empty (lua_State *L) {
  lua_pushboolean(L, mpi_queue_size(check_queue(L)) == 0);
  return 1;
}

static int l_full (lua_State *L) {
  lua_pushboolean(L, mpi_queue_full(check_queue(L)));
  return 1;
}

static int l_task_done (lua_State *L) {
  return mpl_result(L, "task_done", mpi_queue_task_done(check_queue(L)));
}

static int l_join (lua_State *L) {
  struct mpi_queue *q = check_queue(L);
  int64_t deadline = mpl_deadline(L, 2);
  int rc;
  MPL_WAIT(L, rc, mpi_queue_join(q, deadline));
  return mpl_result(L, "join", rc);
}

static int l_close (lua_State *L) {
  struct mpi_ring *r = check_ring(L);
  if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TBOOLEAN);
  return mpl_result(L, "close", mpi_ring_close(r, lua_toboolean(L, 2)));
}

static int l_is_closed (lua_State *L) {
  lua_pushboolean(L, mpi_load(&check_ring(L)->s->closed) != 0);
  return 1;
}

static void describe (mp_object *o, char *text, size_t size) {
  struct mpi_ring *r = mpi_queue_ring(o);
  const char *closed = mpi_load(&r->s->closed) != 0 ? " closed" : "";
  if (r->maxsize != 0) (void)snprintf(text, size, "%u/%u%s", mpi_queue_size((struct mpi_queue *)o), r->maxsize, closed);
  else (void)snprintf(text, size, "%u%s", mpi_queue_size((struct mpi_queue *)o), closed);
}

static int wait_ready (lua_State *L, int idx) {
  return mpi_queue_ready((struct mpi_queue *)mpl_test(L, idx));
}

static int wait_poll (lua_State *L, int idx, struct pollfd *p) {
  struct mpi_ring *r = mpi_queue_ring(mpl_test(L, idx));
  int rc = mpi_ring_watch(r);
  if (rc != 0) return mpl_raise(L, "wait", rc);
  p[0] = (struct pollfd){r->bell_fd, POLLIN, 0};
  return 1;
}

static void wait_tidy (lua_State *L, int idx) {
  mpi_ring_tidy(mpi_queue_ring(mpl_test(L, idx)));
}

static void wait_leave (lua_State *L, int idx) {
  mpi_ring_unwatch(mpi_queue_ring(mpl_test(L, idx)));
}

/* No bell is rung by who dies with items in hand. */
static int wait_restless (lua_State *L, int idx) {
  const struct mpi_queue *q = (const struct mpi_queue *)mpl_test(L, idx);
  return q->hands.s != NULL && mpi_hands_held(&q->hands);
}

static const mpl_waitable waitable = {wait_ready, wait_poll, wait_tidy, wait_leave, wait_restless};

static const luaL_Reg methods[] = {{"put", l_put},
                                   {"put_nowait", l_put_nowait},
                                   {"get", l_get},
                                   {"get_nowait", l_get_nowait},
                                   {"put_many", l_put_many},
                                   {"get_many", l_get_many},
                                   {"items", l_items},
                                   {"qsize", l_qsize},
                                   {"empty", l_empty},
                                   {"full", l_full},
                                   {"task_done", l_task_done},
                                   {"join", l_join},
                                   {"close", l_close},
                                   {"is_closed", l_is_closed},
                                   {NULL, NULL}};

static const mpl_type queue_type = {MPI_T_QUEUE, "mp.Queue", methods, NULL, NULL, NULL, describe};

int mpl_open_queue (lua_State *L);
int mpl_open_queue (lua_State *L) {
  mpl_newtype(L, &queue_type);
  mpl_set_waitable(L, "mp.Queue", &waitable);
  lua_pushcfunction(L, l_Queue);
  lua_setfield(L, -2, "Queue");
  lua_pushcfunction(L, l_JoinableQueue);
  lua_setfield(L, -2, "JoinableQueue");
  lua_pushcfunction(L, l_SimpleQueue);
  lua_setfield(L, -2, "SimpleQueue");
  return 0;
}
