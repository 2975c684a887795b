/* l_fd.c -- mp.Fd: a file descriptor that travels in messages. Contract: docs/reference/fd.md.
** mp.Fd(n) duplicates n; the duplicate belongs to the handle. take() gives the number away. Each arrival is a descriptor of its own. */
#include <fcntl.h>

#include "base/err.h"
#include "base/fd.h"
#include "bind/codec.h"
#include "bind/udata.h"

struct fd {
  int fd; /* -1: taken or closed */
};

static const mpl_type fd_type;

static struct fd *check (lua_State *L, int idx, const char *function) {
  struct fd *f = luaL_checkudata(L, idx, fd_type.name);
  if (f->fd < 0) mpl_misuse(L, function, "the descriptor was taken or closed");
  return f;
}

static struct fd *push_new (lua_State *L) {
  struct fd *f = lua_newuserdatauv(L, sizeof *f, 0);
  f->fd = -1;
  luaL_setmetatable(L, fd_type.name);
  return f;
}

static int l_new (lua_State *L) {
  int n = (int)mpl_checkint(L, 1, 0, INT32_MAX);
  struct fd *f;
  int d;
  mpl_no_more(L, 1, "Fd");
  f = push_new(L);
  luaL_argcheck(L, fcntl(n, F_GETFD) >= 0, 1, "no open file descriptor");
  d = mpi_fd_dup(n);
  if (d < 0) return mpl_raise(L, "Fd", d);
  f->fd = d;
  return 1;
}

static int l_take (lua_State *L) {
  struct fd *f = check(L, 1, "take");
  lua_pushinteger(L, f->fd);
  f->fd = -1;
  return 1;
}

static int l_fileno (lua_State *L) {
  lua_pushinteger(L, check(L, 1, "fileno")->fd);
  return 1;
}

static int l_close (lua_State *L) {
  struct fd *f = luaL_checkudata(L, 1, fd_type.name);
  mpi_fd_close(&f->fd);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_tostring (lua_State *L) {
  const struct fd *f = luaL_checkudata(L, 1, fd_type.name);
  if (f->fd < 0) lua_pushliteral(L, "mp.Fd closed");
  else lua_pushfstring(L, "mp.Fd %d", f->fd);
  return 1;
}

static void dump (lua_State *L, int idx, struct mpl_parcel *p) {
  const struct fd *f = check(L, idx, "Fd");
  if (mpl_parcel_add_fd(p, f->fd) != 0) luaL_error(L, "not enough memory");
  lua_pushboolean(L, 1);
}

static void load (lua_State *L, int *fds, int nfds) {
  struct fd *f;
  if (nfds != 1) luaL_error(L, "an mp.Fd without its descriptor");
  f = push_new(L);
  f->fd = fds[0];
  fds[0] = -1;
}

static const struct mpl_travel travel = {"mp.Fd", dump, load, 0};

static const luaL_Reg methods[] = {{"take", l_take}, {"fileno", l_fileno}, {"close", l_close}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__tostring", l_tostring}, {"__gc", l_close}, {"__close", l_close}, {NULL, NULL}};
static const mpl_type fd_type = {0, "mp.Fd", methods, meta, NULL, NULL, NULL};

int mpl_open_fd (lua_State *L);
int mpl_open_fd (lua_State *L) {
  mpl_newtype(L, &fd_type);
  (void)luaL_getmetatable(L, fd_type.name);
  mpl_travel_register(L, &travel);
  lua_pop(L, 1);
  lua_pushcfunction(L, l_new);
  lua_setfield(L, -2, "Fd");
  return 0;
}
