/* l_pipe.c -- mp.Pipe and its two ends. Contract: docs/reference/pipe.md.
** A message of send_bytes travels as the MessagePack string it is, so that recv gives the string; recv_bytes refuses anything else, and leaves it. */
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "bind/channel.h"
#include "bind/codec.h"
#include "bind/wait.h"
#include "shm/pipe.h"

static const mpl_type pipe_type;

static struct mpi_pipe *check_pipe (lua_State *L, const char *function) {
  struct mpl_box *b = mpl_box_at(L, 1);
  if (b == NULL || b->type != &pipe_type) b = luaL_checkudata(L, 1, pipe_type.name); /* raises */
  if (b->o == NULL) mpl_misuse(L, function, "this end of the pipe is closed");
  return (struct mpi_pipe *)b->o;
}

static struct mpi_ring *check_out (lua_State *L, const char *function) {
  struct mpi_pipe *p = check_pipe(L, function);
  if (p->out.s == NULL) mpl_misuse(L, function, "this end of the pipe only receives");
  return &p->out;
}

static struct mpi_ring *check_in (lua_State *L, const char *function) {
  struct mpi_pipe *p = check_pipe(L, function);
  if (p->in.s == NULL) mpl_misuse(L, function, "this end of the pipe only sends");
  return &p->in;
}

static int l_new (lua_State *L) {
  mp_object *a, *b;
  int duplex = 1;
  int rc;
  mpl_no_more(L, 1, "Pipe");
  if (lua_istable(L, 1)) {
    mpl_options_begin(L, 1);
    if (mpl_option(L, 1, "duplex")) {
      if (!lua_isboolean(L, -1)) return luaL_error(L, "Pipe: duplex must be a boolean");
      duplex = lua_toboolean(L, -1);
      lua_pop(L, 1);
    }
    mpl_options_done(L, 1, "Pipe");
  } else if (!lua_isnoneornil(L, 1)) {
    luaL_checktype(L, 1, LUA_TBOOLEAN);
    duplex = lua_toboolean(L, 1);
  }
  MPL_NEW(L, rc, mp_pipe_new(duplex, &a, &b));
  if (rc != 0) return mpl_raise(L, "Pipe", rc);
  lua_settop(L, 0);
  mpl_push(L, a); /* if this raises, b stays until the process ends: no memory is left for more */
  mpl_push(L, b);
  return 2;
}

static int l_send (lua_State *L) {
  struct mpi_ring *r = check_out(L, "send");
  luaL_checkany(L, 2);
  return mpl_result(L, "send", mpl_ring_put(L, r, 2, mpl_deadline(L, 3)));
}

static int l_send_bytes (lua_State *L) {
  struct mpi_ring *r = check_out(L, "send_bytes");
  size_t len;
  const char *s = luaL_checklstring(L, 2, &len);
  lua_Integer i = luaL_optinteger(L, 3, 1);
  lua_Integer j = luaL_optinteger(L, 4, (lua_Integer)len);
  if (i < 0) i = (lua_Integer)len + i + 1;
  if (j < 0) j = (lua_Integer)len + j + 1;
  luaL_argcheck(L, i >= 1 && i <= (lua_Integer)len + 1, 3, "out of range");
  luaL_argcheck(L, j >= i - 1 && j <= (lua_Integer)len, 4, "out of range");
  lua_settop(L, 4);
  lua_pushlstring(L, s + i - 1, (size_t)(j - i + 1));
  return mpl_result(L, "send_bytes", mpl_ring_put(L, r, 5, MP_NEVER));
}

static int l_recv (lua_State *L) {
  struct mpi_ring *r = check_in(L, "recv");
  int rc = mpl_ring_get(L, r, mpl_deadline(L, 2));
  return rc == 0 ? 1 : mpl_result(L, "recv", rc);
}

/* Length of the string that is the whole message, by its head; -1 if the message is something else. */
static int64_t string_length (const unsigned char *h, size_t n) {
  if (n == 0) return -1;
  if ((h[0] & 0xe0) == 0xa0) return h[0] & 0x1f;
  if ((h[0] == 0xd9 || h[0] == 0xc4) && n >= 2) return h[1];
  if ((h[0] == 0xda || h[0] == 0xc5) && n >= 3) return h[1] << 8 | h[2];
  if ((h[0] == 0xdb || h[0] == 0xc6) && n >= 5)
    return (int64_t)((uint32_t)h[1] << 24 | (uint32_t)h[2] << 16 | (uint32_t)h[3] << 8 | h[4]);
  return -1;
}

struct limit {
  int64_t max;
};

/* Looks at the next message before it is taken: only strings of at most max bytes. */
static int acceptable (void *ud, const unsigned char *head, size_t n) {
  const struct limit *limit = ud;
  int64_t len = string_length(head, n);
  return len >= 0 && len <= limit->max;
}

static int l_recv_bytes (lua_State *L) {
  struct mpi_ring *r = check_in(L, "recv_bytes");
  struct limit limit = {INT64_MAX};
  int64_t deadline = mpl_deadline(L, 3);
  int rc;
  if (!lua_isnoneornil(L, 2)) limit.max = mpl_checkint(L, 2, 0, LUA_MAXINTEGER);
  rc = mpl_ring_get_if(L, r, deadline, acceptable, &limit);
  if (rc == MP_ERANGE)
    return mpl_misuse(L, "recv_bytes", limit.max == INT64_MAX ? "the next message is no string"
                                                               : "the next message is no string of at most %lld bytes",
                      (long long)limit.max);
  return rc == 0 ? 1 : mpl_result(L, "recv_bytes", rc);
}

static int l_poll (lua_State *L) {
  struct mpi_ring *r = check_in(L, "poll");
  int64_t deadline = lua_isnoneornil(L, 2) ? 0 : mpl_deadline(L, 2);
  int rc;
  MPL_WAIT(L, rc, mpi_ring_await(r, deadline));
  if (rc != 0 && rc != MP_EEOF && rc != MP_ETIMEDOUT && rc != MP_ECLOSED) return mpl_raise(L, "poll", rc);
  lua_pushboolean(L, rc != MP_ETIMEDOUT);
  return 1;
}

static int l_close (lua_State *L) {
  struct mpl_box *b = luaL_checkudata(L, 1, pipe_type.name);
  mp_object *o = b->o;
  b->o = NULL;
  mp_release(o);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_fileno (lua_State *L) {
  struct mpi_pipe *p = check_pipe(L, "fileno");
  int fd;
  if (p->in.s == NULL) return mpl_misuse(L, "fileno", "this end of the pipe only sends");
  fd = mpi_pipe_fd(p);
  if (fd < 0) return mpl_raise(L, "fileno", fd);
  lua_pushinteger(L, fd);
  return 1;
}

static int get (lua_State *L) {
  const struct mpl_box *b = lua_touserdata(L, 1);
  const struct mpi_pipe *p = (const struct mpi_pipe *)b->o;
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  if (strcmp(key, "closed") == 0) lua_pushboolean(L, p == NULL);
  else if (strcmp(key, "readable") == 0) lua_pushboolean(L, p != NULL && p->in.s != NULL);
  else if (strcmp(key, "writable") == 0) lua_pushboolean(L, p != NULL && p->out.s != NULL);
  else return 0;
  return 1;
}

static void describe (mp_object *o, char *text, size_t size) {
  const struct mpi_pipe *p = (const struct mpi_pipe *)o;
  (void)snprintf(text, size, "%s", p->in.s == NULL ? "sends" : p->out.s == NULL ? "receives" : "two-way");
}

static struct mpi_ring *incoming (lua_State *L, int idx) {
  struct mpi_pipe *p = (struct mpi_pipe *)mpl_test(L, idx);
  if (p->in.s == NULL) mpl_misuse(L, "wait", "an end of a pipe that only sends cannot be waited for");
  return &p->in;
}

static int wait_ready (lua_State *L, int idx) {
  return mpi_ring_ready(incoming(L, idx));
}

static int wait_poll (lua_State *L, int idx, struct pollfd *p) {
  struct mpi_ring *r = incoming(L, idx);
  int rc = mpi_ring_arm(r);
  if (rc != 0) return mpl_raise(L, "wait", rc);
  p[0] = (struct pollfd){r->bell_fd, POLLIN, 0};
  p[1] = (struct pollfd){r->recv_fd, 0, 0}; /* hang-up only */
  return 2;
}

static void wait_tidy (lua_State *L, int idx) {
  mpi_ring_tidy(incoming(L, idx));
}

/* Its bell is its receivers' alarm clock too, who may sleep on it: once armed it stays so, and nobody's ring is taken away. */
static const mpl_waitable waitable = {wait_ready, wait_poll, wait_tidy, NULL, NULL};

static const luaL_Reg methods[] = {{"send", l_send},
                                   {"recv", l_recv},
                                   {"poll", l_poll},
                                   {"send_bytes", l_send_bytes},
                                   {"recv_bytes", l_recv_bytes},
                                   {"close", l_close},
                                   {"fileno", l_fileno},
                                   {NULL, NULL}};

static const mpl_type pipe_type = {MPI_T_PIPE, "mp.Pipe", methods, NULL, get, NULL, describe};

int mpl_open_pipe (lua_State *L);
int mpl_open_pipe (lua_State *L) {
  mpl_newtype(L, &pipe_type);
  mpl_set_waitable(L, "mp.Pipe", &waitable);
  lua_pushcfunction(L, l_new);
  lua_setfield(L, -2, "Pipe");
  return 0;
}
