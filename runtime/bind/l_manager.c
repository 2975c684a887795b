/* l_manager.c -- what lua/mp/manager.lua and server.lua stand on: the userdata of a proxy, requests that can be answered although they
** cannot be read, and who has hung up.
** Proxy     no C state: user value 1 is the table of its fields, which Lua code keeps. Its metatable is made in Lua, but for what needs C.
** Request   a message {client, number, operation, ...}. Its first two items are read before the rest is decoded, so that whoever sent
**           what this process cannot decode gets the reason.
*/
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "bind/channel.h"
#include "bind/codec.h"
#include "net/hangup.h"
#include "wire/wire.h"

#define PROXY "mp.Proxy"

/* ---- proxies ---- */

/* proxy_new(fields) -> userdata */
static int l_new (lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  (void)lua_newuserdatauv(L, 0, 1);
  lua_pushvalue(L, 1);
  (void)lua_setiuservalue(L, -2, 1);
  luaL_setmetatable(L, PROXY);
  return 1;
}

/* proxy_fields(v) -> the table, or nil if v is no proxy */
static int l_fields (lua_State *L) {
  if (luaL_testudata(L, 1, PROXY) == NULL) return 0;
  (void)lua_getiuservalue(L, 1, 1);
  return 1;
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

/* request_get(queue) -> table | nil, client, number, error: it cannot be decoded | nil: malformed. Waits for ever. */
static int l_request_get (lua_State *L) {
  mp_object *o = mpl_test(L, 1);
  struct mpi_queue *q;
  struct reading r;
  int64_t sender[2];
  int rc, got, known;
  size_t want = 512;
  luaL_argcheck(L, o != NULL && o->type->type == MPI_T_QUEUE, 1, "an open queue expected");
  q = (struct mpi_queue *)o;
  lua_settop(L, 1);
  do {
    struct mpi_sink sink = {0};
    r.p = mpl_parcel_in(L);
    if (mpl_parcel_reserve(r.p, want, MPI_MAX_FDS) != 0) return luaL_error(L, "not enough memory for a message of %I bytes", (lua_Integer)want);
    sink.data = r.p->data;
    sink.room = r.p->room;
    sink.fds = r.p->fds;
    rc = mpi_queue_get(q, &sink, 1, &got, MP_NEVER);
    want = sink.size;
    r.p->size = sink.size;
    r.p->nfds = sink.nfds;
  } while (rc == MP_EINTR || rc == MP_E2BIG);
  if (rc != 0) return mpl_raise(L, "request_get", rc);
  known = first_items(r.p->data, r.p->data + r.p->size, 2, sender);
  r.flags = mpl_ring_trust(&q->ring);
  lua_pushcfunction(L, l_decode);
  lua_pushlightuserdata(L, &r);
  if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
    if (known && lua_type(L, -1) == LUA_TTABLE) return 1;
    lua_pushnil(L);
    return 1;
  }
  lua_pushnil(L);
  if (!known) return 1;
  lua_pushinteger(L, sender[0]);
  lua_pushinteger(L, sender[1]);
  lua_pushvalue(L, -4);
  return 4;
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

static const luaL_Reg functions[] = {{"proxy_new", l_new}, {"proxy_fields", l_fields},        {"request_get", l_request_get}, {"hangups", l_hangups},
                                     {"hangup_watch", l_watch}, {"link_number", l_number}, {"ignore_interrupts", l_ignore}, {NULL, NULL}};

extern int mpl_open_manager (lua_State *L);
int mpl_open_manager (lua_State *L) { /* core, mp */
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 0);
  lua_getfield(L, -2, "Fd");
  lua_pushcclosure(L, l_pipe_pair, 1);
  lua_setfield(L, -2, "pipe_pair");
  (void)luaL_newmetatable(L, PROXY);
  lua_setfield(L, -2, "proxy_meta");
  lua_pop(L, 1);
  return 0;
}
