/* l_wait.c -- mp.wait: which of several things are ready. Contract: docs/reference/wait.md.
** Level by level: ask all; if none is ready poll all their descriptors at once; ask again. */
#include "bind/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "bind/udata.h"

static const char field[] = "__wait"; /* in metatables: light pointer of the mpl_waitable */

void mpl_set_waitable (lua_State *L, const char *name, const mpl_waitable *w) {
  (void)luaL_getmetatable(L, name);
  lua_pushlightuserdata(L, (void *)(uintptr_t)w);
  lua_setfield(L, -2, field);
  lua_pop(L, 1);
}

static const mpl_waitable *waitable_of (lua_State *L, int idx) {
  const mpl_waitable *w = NULL;
  if (lua_type(L, idx) == LUA_TUSERDATA && lua_getmetatable(L, idx)) {
    lua_getfield(L, -1, field);
    w = lua_touserdata(L, -1);
    lua_pop(L, 2);
  }
  return w;
}

struct item {
  const mpl_waitable *w; /* NULL: a plain descriptor */
  int fd;
  int first, n; /* its entries among the polled */
};

/* Copies the list to a table at the top of the stack, each thing once, checked. */
static int collect (lua_State *L, struct item *items, int n) {
  int i, count = 0;
  int seen, things;
  lua_newtable(L);
  seen = lua_gettop(L);
  lua_newtable(L);
  things = lua_gettop(L);
  for (i = 1; i <= n; i++) {
    struct item it = {NULL, -1, 0, 0};
    int ok = 0;
    lua_geti(L, 1, i);
    if (lua_type(L, -1) == LUA_TNUMBER) {
      lua_Integer fd = lua_tointegerx(L, -1, &ok);
      if (!ok || fd < 0 || fd > INT32_MAX || fcntl((int)fd, F_GETFD) < 0)
        return luaL_error(L, "wait: [%d] is no open file descriptor: %s", i, lua_tostring(L, -1));
      it.fd = (int)fd;
      lua_pushinteger(L, fd); /* 7.0 is 7 */
      lua_replace(L, -2);
    } else {
      it.w = waitable_of(L, -1);
      if (it.w == NULL) {
        int at = lua_gettop(L);
        const char *name = luaL_getmetafield(L, at, "__name") == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, at);
        return luaL_error(L, "wait: [%d]: a %s cannot be waited for", i, name);
      }
      if (mpl_isobject(L, -1) && mpl_test(L, -1) == NULL) return luaL_error(L, "wait: [%d]: the handle is closed", i);
    }
    lua_pushvalue(L, -1);
    if (lua_rawget(L, seen) != LUA_TNIL) {
      lua_pop(L, 2);
      continue;
    }
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    lua_pushboolean(L, 1);
    lua_rawset(L, seen);
    items[count++] = it;
    lua_rawseti(L, things, count);
  }
  lua_remove(L, seen);
  for (i = 1; i <= count; i++) { /* the list's own functions may have closed one. The things are where `seen` was */
    lua_rawgeti(L, seen, i);
    if (mpl_isobject(L, -1) && mpl_test(L, -1) == NULL) return luaL_error(L, "wait: the handle of a thing in the list is closed");
    lua_pop(L, 1);
  }
  return count;
}

static int is_ready (lua_State *L, const struct item *it) {
  if (it->w != NULL) return it->w->ready(L, lua_gettop(L));
  {
    struct pollfd p = {it->fd, POLLIN, 0};
    return poll(&p, 1, 0) == 1;
  }
}

/* Pushes the list of what is ready; gives how many. */
static int push_ready (lua_State *L, const struct item *items, int n, int things) {
  int i, count = 0;
  lua_newtable(L);
  for (i = 0; i < n; i++) {
    int ready;
    lua_rawgeti(L, things, i + 1);
    ready = is_ready(L, &items[i]);
    if (ready) lua_rawseti(L, -2, ++count);
    else lua_pop(L, 1);
  }
  return count;
}

/* The results of a pool have the same descriptors: such neighbours share their entries, for poll takes no more than may be open. */
static int same_as_before (const struct item *it, const struct pollfd *p) {
  int i;
  if (it[-1].n != it->n || it->n == 0) return 0;
  for (i = 0; i < it->n; i++)
    if (p[it[-1].first + i].fd != p[it->first + i].fd || p[it[-1].first + i].events != p[it->first + i].events) return 0;
  return 1;
}

static int fill (lua_State *L, struct item *items, int n, int things, struct pollfd *p) {
  int i, np = 0;
  for (i = 0; i < n; i++) {
    items[i].first = np;
    if (items[i].w == NULL) {
      p[np++] = (struct pollfd){items[i].fd, POLLIN, 0};
    } else {
      lua_rawgeti(L, things, i + 1);
      np += items[i].w->poll(L, lua_gettop(L), p + np);
      lua_pop(L, 1);
    }
    items[i].n = np - items[i].first;
    if (i > 0 && same_as_before(&items[i], p)) {
      np = items[i].first;
      items[i].first = items[i - 1].first;
    }
  }
  return np;
}

#define LOOK_NS (100 * MPI_NS_PER_MS)

/* Until when to sleep: for what is restless, not long. */
static int64_t sleep_end (lua_State *L, const struct item *items, int n, int things, int64_t deadline) {
  int restless = 0, i;
  int64_t soon;
  for (i = 0; i < n && !restless; i++) {
    if (items[i].w == NULL || items[i].w->restless == NULL) continue;
    lua_rawgeti(L, things, i + 1);
    restless = items[i].w->restless(L, lua_gettop(L));
    lua_pop(L, 1);
  }
  if (!restless) return deadline;
  soon = mp_now() + LOOK_NS;
  return soon < deadline ? soon : deadline;
}

static void leave (lua_State *L, const struct item *items, int n, int things) {
  int i;
  for (i = 0; i < n; i++) {
    if (items[i].w == NULL || items[i].w->leave == NULL) continue;
    lua_rawgeti(L, things, i + 1);
    items[i].w->leave(L, lua_gettop(L));
    lua_pop(L, 1);
  }
}

/* What poll called ready and is not. */
static void tidy (lua_State *L, const struct item *items, int n, int things, const struct pollfd *p) {
  int i, k;
  for (i = 0; i < n; i++) {
    int rang = 0;
    if (items[i].w == NULL || items[i].w->tidy == NULL) continue;
    for (k = 0; k < items[i].n; k++) rang |= p[items[i].first + k].revents;
    if (!rang) continue;
    lua_rawgeti(L, things, i + 1);
    if (!items[i].w->ready(L, lua_gettop(L))) items[i].w->tidy(L, lua_gettop(L));
    lua_pop(L, 1);
  }
}

static int l_wait (lua_State *L) {
  int64_t deadline = mpl_deadline(L, 2);
  struct item *items;
  struct pollfd *p;
  lua_Integer len;
  int n, things, np, slice = 0;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 2);
  len = luaL_len(L, 1);
  luaL_argcheck(L, len <= 1000000, 1, "too long");
  items = lua_newuserdatauv(L, ((size_t)len + 1) * sizeof *items, 0);
  p = lua_newuserdatauv(L, ((size_t)len * MPL_WAIT_FDS + 1) * sizeof *p, 0);
  n = collect(L, items, (int)len);
  things = lua_gettop(L);
  if (n == 0) {
    lua_newtable(L);
    return 1;
  }
  for (;;) {
    int64_t until;
    int rc;
    lua_settop(L, things);
    if (push_ready(L, items, n, things) > 0 || deadline == 0) return 1;
    lua_settop(L, things);
    np = fill(L, items, n, things, p); /* arms; what became ready before is readable */
    mpl_enter(L);
    until = sleep_end(L, items, n, things, deadline);
    rc = mpi_sleep_in_poll(p, (nfds_t)np, until, &slice);
    if (rc == MP_ETIMEDOUT && until < deadline) rc = 0;
    mpl_leave();
    leave(L, items, n, things);
    if (rc == MP_EINTR) mpl_interrupt(L);
    else if (rc > 0) tidy(L, items, n, things, p);
    else if (rc < 0 && rc != MP_ETIMEDOUT) return mpl_raise(L, "wait", rc);
    if (rc == MP_ETIMEDOUT || (deadline != MP_NEVER && mp_now() >= deadline)) deadline = 0; /* one last look; what rings may ring for ever */
  }
}

int mpl_open_wait (lua_State *L);
int mpl_open_wait (lua_State *L) {
  lua_pushcfunction(L, l_wait);
  lua_setfield(L, -2, "wait");
  return 0;
}
