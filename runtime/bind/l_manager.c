/* l_manager.c -- what lua/mp/manager.lua and server.lua stand on: the userdata of a proxy, the calls, requests that can be answered although
** they cannot be read, and who has hung up.
** Proxy     no C state but the mark: user value 1 is the table of its fields, which Lua code keeps. Its metatable is made in Lua.
** Request   a message {client, number, operation, object, ...}. Its first two items are read before the rest is decoded, so that whoever sent
**           what this process cannot decode gets the reason.
** Quick     a call whose arguments and results are scalars makes no table at either end: the items go from the stack into the message and back. It
**           is the same message as the long way's. What is unusual (other values, no room, no connection, an error) is left to Lua code.
**           Longer than 500 lines: both ends of such a call are read together.
** Line      how a client reaches the server, one a server and Lua state: the queue, the pipe for the answers, the number of the last request.
*/
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "bind/channel.h"
#include "bind/codec.h"
#include "net/hangup.h"
#include "shm/pipe.h"
#include "wire/wire.h"

#define PROXY "mp.Proxy"

/* ---- proxies ---- */

static const char proxy_tag = 0;
struct proxy {
  const void *tag; /* &proxy_tag: told from others without a look at metatables */
};

/* proxy_new(fields) -> userdata */
static int l_new (lua_State *L) {
  struct proxy *p;
  luaL_checktype(L, 1, LUA_TTABLE);
  p = lua_newuserdatauv(L, sizeof *p, 1);
  p->tag = &proxy_tag;
  lua_pushvalue(L, 1);
  (void)lua_setiuservalue(L, -2, 1);
  luaL_setmetatable(L, PROXY);
  return 1;
}

/* proxy_fields(v) -> the table, or nil if v is no proxy */
static int l_fields (lua_State *L) {
  const struct proxy *p = lua_touserdata(L, 1);
  if (p == NULL || lua_rawlen(L, 1) != sizeof *p || p->tag != &proxy_tag) return 0; /* a light userdata has no length */
  (void)lua_getiuservalue(L, 1, 1);
  return 1;
}

/* ---- scalars between the stack and a message ---- */

#define FLAT_ROOM 512  /* bytes of a message that is made in the quick way */
#define FLAT_ITEMS 250 /* that are pushed in the quick way */
#define QUICK_ITEMS 10 /* of a request: server.lua has a name for each */

/* Writes the values at from..to; NULL: one is no scalar, or there is no room. */
static unsigned char *put_scalars (lua_State *L, int from, int to, unsigned char *at, const unsigned char *end) {
  int i;
  for (i = from; i <= to; i++) {
    size_t len;
    const char *s;
    if (end - at < MPI_W_HEAD_ROOM) return NULL;
    switch (lua_type(L, i)) {
      case LUA_TNIL: at = mpi_put_nil(at); break;
      case LUA_TBOOLEAN: at = mpi_put_bool(at, lua_toboolean(L, i)); break;
      case LUA_TNUMBER:
        if (lua_isinteger(L, i)) at = mpi_put_int(at, lua_tointegerx(L, i, NULL));
        else at = mpi_put_float(at, lua_tonumberx(L, i, NULL));
        break;
      case LUA_TSTRING:
        s = lua_tolstring(L, i, &len);
        if (len > (size_t)(end - at) - MPI_W_HEAD_ROOM) return NULL;
        at = mpi_put_str_head(at, (uint32_t)len);
        memcpy(at, s, len);
        at += len;
        break;
      default: return NULL;
    }
  }
  return at;
}

static int push_scalar (lua_State *L, const struct mpi_item *it) {
  switch (it->kind) {
    case MPI_W_NIL: lua_pushnil(L); return 1;
    case MPI_W_BOOL: lua_pushboolean(L, (int)it->u.i); return 1;
    case MPI_W_INT: lua_pushinteger(L, (lua_Integer)it->u.i); return 1;
    case MPI_W_FLOAT: lua_pushnumber(L, it->u.f); return 1;
    case MPI_W_STR: lua_pushlstring(L, (const char *)it->data, it->len); return 1;
    default: return 0;
  }
}

/* Pushes the n items that end a message; 0: they are something else, and nothing is pushed. Strings may set the collector going, and finalizers
** may receive messages: the parcel is held. */
static int push_scalars (lua_State *L, const unsigned char *at, const unsigned char *end, uint32_t n) {
  int top = lua_gettop(L);
  if (n > FLAT_ITEMS) return 0;
  luaL_checkstack(L, (int)n + 4, NULL);
  mpl_parcels_hold(L, __builtin_frame_address(0));
  while (n > 0) {
    struct mpi_item it;
    at = mpi_wire_get(at, end, &it);
    if (at == NULL || !push_scalar(L, &it)) break;
    n--;
  }
  mpl_parcels_release(L);
  if (n == 0 && at == end) return 1;
  lua_settop(L, top);
  return 0;
}

static int put_now (struct mpi_ring *r, const unsigned char *data, const unsigned char *end) {
  struct mpi_msg m = {data, (size_t)(end - data), NULL, 0};
  int done;
  return mpi_ring_put(r, &m, 1, &done, 0);
}

/* ---- requests ---- */

/* The first n items of a list, integers; 0 if there are none. A list with holes is written as a map, its beginning first. */
static int first_items (const unsigned char *at, const unsigned char *end, int n, int64_t *out) {
  struct mpi_item it;
  int i, map;
  at = mpi_wire_get(at, end, &it);
  if (at != NULL && it.kind == MPI_W_EXT && it.ext == MPI_X_HEAD) at = mpi_wire_get(at, end, &it);
  if (at == NULL || (it.kind != MPI_W_ARRAY && it.kind != MPI_W_MAP) || it.len < (uint32_t)n) return 0;
  map = it.kind == MPI_W_MAP;
  for (i = 0; i < n; i++) {
    at = mpi_wire_get(at, end, &it);
    if (map && at != NULL && it.kind == MPI_W_INT && it.u.i == i + 1) at = mpi_wire_get(at, end, &it);
    if (at == NULL || it.kind != MPI_W_INT) return 0;
    out[i] = it.u.i;
  }
  return 1;
}

/* link_number(bytes) -> the first item of a message, if it is an integer, else 0 */
static int l_number (lua_State *L) {
  int64_t n = 0;
  size_t size;
  const unsigned char *s = (const unsigned char *)luaL_checklstring(L, 1, &size);
  lua_pushinteger(L, first_items(s, s + size, 1, &n) ? n : 0);
  return 1;
}

struct reading {
  struct mpl_parcel *p;
  unsigned flags;
};

static int l_decode (lua_State *L) {
  struct reading *r = lua_touserdata(L, 1);
  mpl_decode(L, r->p, r->flags);
  return 1;
}

/* How many items the list has that begins at *at, which is moved behind its head; 0: it is no list, or empty. */
static uint32_t list_begins (const unsigned char **at, const unsigned char *end) {
  struct mpi_item it;
  const unsigned char *next = mpi_wire_get(*at, end, &it);
  if (next == NULL || it.kind != MPI_W_ARRAY) return 0;
  *at = next;
  return it.len;
}

/* Decodes protectedly: LUA_OK and the value, or the error. */
static int decode (lua_State *L, struct mpl_parcel *p, const struct mpi_ring *from) {
  struct reading r = {p, mpl_ring_trust(from)};
  lua_pushcfunction(L, l_decode);
  lua_pushlightuserdata(L, &r);
  return lua_pcall(L, 1, 1, 0);
}

/* request_get(queue) -> client, number, operation, object, ... | client, number, nil, table: not all of it are scalars, or it is long
**                     | client, number, nil, nil, error: it cannot be decoded | nil: malformed. Waits for ever. */
static int l_request_get (lua_State *L) {
  mp_object *o = mpl_test(L, 1);
  struct mpi_queue *q;
  struct mpl_parcel *p;
  const unsigned char *at;
  int64_t sender[2];
  int rc, got;
  uint32_t n;
  size_t want = 512;
  luaL_argcheck(L, o != NULL && o->type->type == MPI_T_QUEUE, 1, "an open queue expected");
  q = (struct mpi_queue *)o;
  lua_settop(L, 1);
  do {
    struct mpi_sink sink = {0};
    p = mpl_parcel_in(L);
    if (mpl_parcel_reserve(p, want, MPI_MAX_FDS) != 0) return luaL_error(L, "not enough memory for a message of %I bytes", (lua_Integer)want);
    sink.data = p->data;
    sink.room = p->room;
    sink.fds = p->fds;
    rc = mpi_queue_get(q, &sink, 1, &got, MP_NEVER);
    want = sink.size;
    p->size = sink.size;
    p->nfds = sink.nfds;
  } while (rc == MP_EINTR || rc == MP_E2BIG);
  if (rc != 0) return mpl_raise(L, "request_get", rc);
  at = p->data;
  n = p->nfds == 0 ? list_begins(&at, p->data + p->size) : 0;
  if (n >= 4 && n <= QUICK_ITEMS && push_scalars(L, at, p->data + p->size, n)) {
    if (lua_isinteger(L, 2) && lua_isinteger(L, 3)) return (int)n;
    lua_pushnil(L);
    return 1;
  }
  if (!first_items(p->data, p->data + p->size, 2, sender)) {
    (void)decode(L, p, &q->ring); /* for its descriptors */
    lua_pushnil(L);
    return 1;
  }
  lua_pushinteger(L, sender[0]);
  lua_pushinteger(L, sender[1]);
  lua_pushnil(L);
  rc = decode(L, p, &q->ring);
  if (rc == LUA_OK) return lua_type(L, -1) == LUA_TTABLE ? 4 : 0;
  lua_pushnil(L);
  lua_insert(L, -2);
  return 5;
}

/* request_run(pipe, number, handler, f, ...) -> nothing: f(...) was called and its results, scalars, are the answer {number, 0, how many, ...}, which is
** sent | true, results of f: it is for Lua code to send them | false, what the handler made of the error */
static int l_run (lua_State *L) {
  mp_object *o;
  struct mpi_ring *out;
  unsigned char m[FLAT_ROOM], *at = m;
  int n;
  lua_Integer number = lua_tointeger(L, 2);
  if (lua_pcall(L, lua_gettop(L) - 4, LUA_MULTRET, 3) != LUA_OK) {
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
  }
  n = lua_gettop(L) - 3;
  o = mpl_test(L, 1); /* only now: f may have closed it */
  if (n <= FLAT_ITEMS && o != NULL && o->type->type == MPI_T_PIPE && (out = &((struct mpi_pipe *)o)->out)->s != NULL) {
    at = mpi_put_array_head(at, (uint32_t)n + 3);
    at = mpi_put_int(at, number);
    at = mpi_put_int(at, 0);
    at = mpi_put_int(at, n);
    at = put_scalars(L, 4, n + 3, at, m + sizeof m);
    if (at != NULL && put_now(out, m, at) == 0) return 0;
  }
  lua_pushboolean(L, 1);
  lua_replace(L, 3);
  return n + 1;
}

/* ---- lines ---- */

#define LINE "mp.Line"

static _Atomic unsigned forks; /* of this process and those it comes from, since the first line */

static void in_child (void) {
  atomic_fetch_add(&forks, 1);
}

static void watch_forks (void) {
  (void)pthread_atfork(NULL, NULL, in_child);
}

struct line {
  struct mpi_queue *requests; /* retained; NULL: there is no connection */
  struct mpi_pipe *reply;     /* retained */
  int64_t client, number;     /* who we are; the last request's number */
  unsigned forks;             /* a connection is of one process */
};

/* line_close(line) */
static int l_line_close (lua_State *L) {
  struct line *l = luaL_checkudata(L, 1, LINE);
  struct mpi_queue *q = l->requests;
  struct mpi_pipe *p = l->reply;
  l->requests = NULL;
  l->reply = NULL;
  if (q != NULL) mp_release(&q->o);
  if (p != NULL) mp_release(&p->o);
  return 0;
}

/* line_new() -> a line without a connection */
static int l_line_new (lua_State *L) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  struct line *l = lua_newuserdatauv(L, sizeof *l, 0);
  (void)pthread_once(&once, watch_forks);
  memset(l, 0, sizeof *l);
  luaL_setmetatable(L, LINE);
  return 1;
}

/* line_open(line, queue, pipe, client): from now on there is one */
static int l_line_open (lua_State *L) {
  struct line *l = luaL_checkudata(L, 1, LINE);
  mp_object *q = mpl_test(L, 2), *p = mpl_test(L, 3);
  int64_t client = luaL_checkinteger(L, 4);
  luaL_argcheck(L, q != NULL && q->type->type == MPI_T_QUEUE, 2, "an open queue expected");
  luaL_argcheck(L, p != NULL && p->type->type == MPI_T_PIPE && ((struct mpi_pipe *)p)->in.s != NULL, 3, "an open pipe to receive from expected");
  lua_settop(L, 1);
  (void)l_line_close(L);
  mp_retain(q);
  mp_retain(p);
  *l = (struct line){(struct mpi_queue *)q, (struct mpi_pipe *)p, client, 0, atomic_load(&forks)};
  return 0;
}

static int usable (const struct line *l) {
  return l != NULL && l->requests != NULL && l->forks == atomic_load_explicit(&forks, memory_order_relaxed);
}

/* line_number(line) -> number of the last request, or nil: there is no connection of this process. line_number(line, true): of one more */
static int l_line_number (lua_State *L) {
  struct line *l = luaL_checkudata(L, 1, LINE);
  if (!usable(l)) return 0;
  if (lua_toboolean(L, 2)) l->number++;
  lua_pushinteger(L, l->number);
  return 1;
}

/* ---- calls ---- */

static int l_interrupt (lua_State *L) {
  mpl_interrupt(L);
  return 0;
}

/* Upvalues of call: what it leaves to Lua code. */
enum { LONG_WAY = 1, UNUSUAL, GIVE_UP };

/* An error, at the top, ends the waiting for an answer: the server is told before it goes on. */
static int given_up (lua_State *L, int64_t number) {
  lua_pushvalue(L, lua_upvalueindex(GIVE_UP));
  lua_pushvalue(L, 1);
  lua_pushinteger(L, (lua_Integer)number);
  if (lua_pcall(L, 2, 0, 0) != LUA_OK) lua_pop(L, 1);
  return lua_error(L);
}

/* What the answer `a` at the top means, or the reason why there is none: everything but results that are scalars. */
static int unusual (lua_State *L) {
  int top = lua_gettop(L);
  lua_pushvalue(L, lua_upvalueindex(UNUSUAL));
  lua_insert(L, top);
  lua_pushvalue(L, 1);
  lua_insert(L, top + 1);
  lua_pushvalue(L, 2);
  lua_insert(L, top + 2); /* function, fields, name, a */
  lua_call(L, 3, LUA_MULTRET);
  return lua_gettop(L) - top + 1;
}

/* The answer to request `number`, if it is one and has only scalars: how many were pushed, or -1. */
static int push_results (lua_State *L, const struct mpl_parcel *p, int64_t number, int *stale) {
  const unsigned char *at = p->data, *end = p->data + p->size;
  struct mpi_item seq, status, count;
  uint32_t n = p->nfds == 0 ? list_begins(&at, end) : 0;
  *stale = 0;
  if (n < 3) return -1;
  at = mpi_wire_get(at, end, &seq);
  if (at == NULL || seq.kind != MPI_W_INT) return -1;
  *stale = seq.u.i != number;
  at = mpi_wire_get(at, end, &status);
  if (*stale || at == NULL || status.kind != MPI_W_INT || status.u.i != 0) return -1;
  at = mpi_wire_get(at, end, &count);
  if (at == NULL || count.kind != MPI_W_INT || count.u.i < n - 3 || count.u.i > FLAT_ITEMS) return -1;
  if (!push_scalars(L, at, end, n - 3)) return -1;
  luaL_checkstack(L, FLAT_ITEMS, NULL);
  for (; count.u.i > n - 3; n++) lua_pushnil(L); /* nils at the end of a table do not travel */
  return (int)count.u.i;
}

/* Waits for the answer to request `number` and gives what it says. */
static int answer (lua_State *L, struct line *l, int64_t number) {
  struct mpi_pipe *pipe = l->reply;
  size_t want = 256;
  for (;;) {
    struct mpl_parcel *p = mpl_parcel_in(L);
    struct mpi_sink sink = {0};
    int rc, got, n, stale, top = lua_gettop(L);
    if (l->reply != pipe) { /* a hook has closed it */
      lua_pushliteral(L, "closed");
      return unusual(L);
    }
    if (mpl_parcel_reserve(p, want, MPI_MAX_FDS) != 0) return luaL_error(L, "not enough memory for a message of %I bytes", (lua_Integer)want);
    sink.data = p->data;
    sink.room = p->room;
    sink.fds = p->fds;
    mpl_enter(L);
    rc = mpi_ring_get(&pipe->in, &sink, 1, &got, MP_NEVER);
    mpl_leave();
    p->size = sink.size;
    p->nfds = sink.nfds;
    if (rc == MP_EINTR) {
      lua_pushcfunction(L, l_interrupt);
      if (lua_pcall(L, 0, 0, 0) != LUA_OK) return given_up(L, number);
    } else if (rc == MP_E2BIG) {
      want = sink.size;
    } else if (rc != 0) {
      lua_pushstring(L, mp_errname(rc));
      return unusual(L);
    } else {
      n = push_results(L, p, number, &stale);
      if (n >= 0) return n;
      if (stale && p->nfds == 0) continue; /* somebody gave up waiting for it */
      if (decode(L, p, &pipe->in) != LUA_OK) return given_up(L, number);
      if (lua_type(L, -1) == LUA_TTABLE && lua_rawgeti(L, -1, 1) == LUA_TNUMBER && lua_tointeger(L, -1) == number) {
        lua_pop(L, 1);
        return unusual(L);
      }
      lua_settop(L, top);
    }
  }
}

/* call(fields, name, operation, ...) -> results. fields[1] is the line, fields[2] the object's number. */
static int l_call (lua_State *L) {
  unsigned char m[FLAT_ROOM], *at = m;
  int top = lua_gettop(L);
  struct line *l;
  if (lua_type(L, 1) == LUA_TTABLE && lua_rawgeti(L, 1, 1) == LUA_TUSERDATA && usable(l = lua_touserdata(L, -1)) && top - 3 <= FLAT_ITEMS &&
      lua_rawgeti(L, 1, 2) == LUA_TNUMBER) {
    at = mpi_put_array_head(at, (uint32_t)(top - 3 + 4));
    at = mpi_put_int(at, l->client);
    at = mpi_put_int(at, l->number + 1);
    at = put_scalars(L, 3, 3, at, m + sizeof m);
    if (at != NULL) at = put_scalars(L, top + 2, top + 2, at, m + sizeof m);
    if (at != NULL) at = put_scalars(L, 4, top, at, m + sizeof m);
    if (at != NULL && put_now(&l->requests->ring, m, at) == 0) {
      int64_t number = ++l->number;
      lua_settop(L, top); /* the proxy's fields keep the line */
      lua_rawgeti(L, 1, 1);
      return answer(L, l, number);
    }
  }
  lua_settop(L, top);
  lua_pushvalue(L, lua_upvalueindex(LONG_WAY));
  lua_insert(L, 1);
  lua_call(L, top, LUA_MULTRET);
  return lua_gettop(L);
}

/* proxy_caller(long way, unusual, give up) -> call */
static int l_caller (lua_State *L) {
  lua_settop(L, 3);
  lua_pushcclosure(L, l_call, 3);
  return 1;
}

/* ---- hang-ups ---- */

static int l_push_fd (lua_State *L, int *fd) {
  lua_pushvalue(L, lua_upvalueindex(1)); /* mp.Fd duplicates */
  lua_pushinteger(L, *fd);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK) return 0;
  mpi_fd_close(fd);
  return 1;
}

/* pipe_pair() -> mp.Fd to read, mp.Fd to write */
static int l_pipe_pair (lua_State *L) {
  int fd[2], rc;
  MPL_NEW(L, rc, mpi_pipe_pair(fd));
  if (rc != 0) return mpl_raise(L, "Manager", rc);
  if (l_push_fd(L, &fd[0]) && l_push_fd(L, &fd[1])) return 2;
  mpi_fd_close(&fd[0]);
  mpi_fd_close(&fd[1]);
  return lua_error(L);
}

static struct mpi_hangups *hangups; /* of this process: a server */

/* hangups(queue): starts the watching */
static int l_hangups (lua_State *L) {
  mp_object *o = mpl_test(L, 1);
  int rc;
  luaL_argcheck(L, o != NULL && o->type->type == MPI_T_QUEUE, 1, "an open queue expected");
  if (hangups != NULL) return luaL_error(L, "a process is one manager's server");
  rc = mpi_hangups_start(o, &hangups);
  return rc == 0 ? 0 : mpl_raise(L, "Manager", rc);
}

/* hangup_watch(fd, number): takes the descriptor */
static int l_watch (lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  int rc = hangups == NULL ? MP_EMISUSE : mpi_hangups_watch(hangups, fd, luaL_checkinteger(L, 2));
  if (rc == 0) return 0;
  mpi_fd_close(&fd);
  return mpl_raise(L, "Manager", rc);
}

/* ignore_interrupts(): Ctrl-C is for the program, not for its servers */
static int l_ignore (lua_State *L) {
  struct sigaction sa;
  (void)L;
  memset(&sa, 0, sizeof sa);
  (void)sigemptyset(&sa.sa_mask);
  sa.sa_handler = SIG_IGN;
  (void)sigaction(SIGINT, &sa, NULL);
  return 0;
}

static const luaL_Reg functions[] = {{"proxy_new", l_new},           {"proxy_fields", l_fields}, {"proxy_caller", l_caller},
                                     {"request_get", l_request_get}, {"request_run", l_run}, {"line_new", l_line_new},
                                     {"line_open", l_line_open},     {"line_close", l_line_close}, {"line_number", l_line_number},
                                     {"hangups", l_hangups},         {"hangup_watch", l_watch},  {"link_number", l_number},
                                     {"ignore_interrupts", l_ignore}, {NULL, NULL}};

extern int mpl_open_manager (lua_State *L);
int mpl_open_manager (lua_State *L) { /* core, mp */
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 0);
  lua_getfield(L, -2, "Fd");
  lua_pushcclosure(L, l_pipe_pair, 1);
  lua_setfield(L, -2, "pipe_pair");
  (void)luaL_newmetatable(L, PROXY);
  lua_setfield(L, -2, "proxy_meta");
  (void)luaL_newmetatable(L, LINE);
  lua_pushcfunction(L, l_line_close);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 2);
  return 0;
}
