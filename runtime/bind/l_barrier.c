/* l_barrier.c -- mp.Barrier. Its companion (user value 1) is its action, which so travels with it. */
#include <math.h>
#include <string.h>

#include "bind/l_sync.h"
#include "shm/barrier.h"

static void describe (mp_object *o, char *text, size_t size) {
  if (mp_barrier_broken(o)) (void)snprintf(text, size, "broken");
  else (void)snprintf(text, size, "%d/%d", mp_barrier_waiting(o), mp_barrier_parties(o));
}

static int get (lua_State *L);
static int l_wait (lua_State *L);
static int l_reset (lua_State *L);
static int l_abort (lua_State *L);

static const luaL_Reg methods[] = {{"wait", l_wait}, {"reset", l_reset}, {"abort", l_abort}, {NULL, NULL}};
static const mpl_type barrier_type = {MPI_T_BARRIER, "mp.Barrier", methods, NULL, get, NULL, describe};

static int get (lua_State *L) {
  struct mpl_box *b = lua_touserdata(L, 1);
  const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
  int parties = strcmp(key, "parties") == 0;
  int waiting = strcmp(key, "n_waiting") == 0;
  int broken = strcmp(key, "broken") == 0;
  if (!parties && !waiting && !broken) return 0;
  if (b->o == NULL) return mpl_misuse(L, key, "the handle is closed");
  if (broken) lua_pushboolean(L, mp_barrier_broken(b->o));
  else lua_pushinteger(L, parties ? mp_barrier_parties(b->o) : mp_barrier_waiting(b->o));
  return 1;
}

/* While the action runs, a to-be-closed value sees to it that its failure breaks the barrier. It keeps the object, whose handle the action
** may close. */
struct runner {
  mp_object *o; /* NULL: none yet, or no more */
  int seat;     /* -1: nothing to do */
};

static int l_runner_gc (lua_State *L) { /* of a coroutine that was dropped in the middle, else there is nothing left */
  struct runner *r = luaL_checkudata(L, 1, "mp.BarrierAction");
  mp_object *o = r->o;
  r->o = NULL;
  mp_release(o);
  return 0;
}

static int l_runner_close (lua_State *L) {
  struct runner *r = luaL_checkudata(L, 1, "mp.BarrierAction");
  if (r->seat >= 0) (void)mp_barrier_complete(r->o, r->seat, 0);
  r->seat = -1;
  return l_runner_gc(L);
}

static const luaL_Reg runner_meta[] = {{"__close", l_runner_close}, {"__gc", l_runner_gc}, {NULL, NULL}};
static const mpl_type runner_type = {0, "mp.BarrierAction", NULL, runner_meta, NULL, NULL, NULL};

/* Stack: 1 the barrier (which keeps the object), 2 the runner. */
static int action_done (lua_State *L, int status, lua_KContext rank) {
  struct runner *r = lua_touserdata(L, 2);
  int seat = r->seat;
  int rc;
  (void)status;
  r->seat = -1;
  rc = mp_barrier_complete(r->o, seat, 1);
  if (rc != 0) return mpl_result(L, "wait", rc);
  lua_pushinteger(L, (lua_Integer)rank);
  return 1;
}

static int64_t default_deadline (mp_object *o) {
  int64_t t = mpi_barrier_timeout(o);
  int64_t now = mp_now();
  return t == MP_NEVER || t > MP_NEVER - now ? MP_NEVER : t == 0 ? 0 : now + t;
}

static int l_wait (lua_State *L) {
  mp_object *o = mpl_check(L, 1, &barrier_type);
  int64_t deadline = lua_isnoneornil(L, 2) ? default_deadline(o) : mpl_deadline(L, 2);
  struct runner *r = NULL;
  int rc, rank = 0, seat = -1;
  lua_settop(L, 1);
  if (mpi_barrier_has_action(o)) {
    r = lua_newuserdatauv(L, sizeof *r, 0);
    r->o = NULL;
    r->seat = -1;
    luaL_setmetatable(L, "mp.BarrierAction");
    lua_toclose(L, 2);
    mp_retain(o);
    r->o = o;
    if (lua_getiuservalue(L, 1, 1) != LUA_TFUNCTION) return luaL_argerror(L, 1, "the barrier came without its action");
  }
  mpl_enter(L);
  rc = mp_barrier_arrive(o, deadline, &rank, &seat);
  mpl_leave();
  if (rc == MP_EINTR) {
    mpl_interrupt(L);
    rc = MP_EBROKEN; /* the interruption raised nothing, but the others have been let down */
  }
  if (rc == MP_BARRIER_RUN) {
    r->seat = seat;
    lua_callk(L, 0, 0, rank, action_done);
    return action_done(L, LUA_OK, rank);
  }
  if (rc != 0) return mpl_result(L, "wait", rc);
  lua_pushinteger(L, rank);
  return 1;
}

static int l_reset (lua_State *L) {
  return mpl_result(L, "reset", mp_barrier_reset(mpl_check(L, 1, &barrier_type)));
}

static int l_abort (lua_State *L) {
  return mpl_result(L, "abort", mp_barrier_abort(mpl_check(L, 1, &barrier_type)));
}

/* The value on the stack's top is the number of parties. */
static unsigned check_parties (lua_State *L) {
  int ok = 0;
  lua_Integer n = lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &ok) : 0;
  if (!ok || n < 1 || n > MPI_BARRIER_MOST)
    luaL_error(L, "mp.Barrier: the number of parties must be an integer from 1 to %d", MPI_BARRIER_MOST);
  lua_pop(L, 1);
  return (unsigned)n;
}

static int64_t check_timeout (lua_State *L) {
  lua_Number t = lua_tonumber(L, -1);
  if (lua_type(L, -1) != LUA_TNUMBER || isnan(t)) return luaL_error(L, "mp.Barrier: option 'timeout' must be a number of seconds");
  lua_pop(L, 1);
  return t <= 0 ? 0 : t >= 9e9 ? MP_NEVER : (int64_t)(t * 1e9);
}

/* mp.Barrier(n[, {action =, timeout =}]) or mp.Barrier{n, action =, timeout =} */
static int l_new_barrier (lua_State *L) {
  mp_object *o = NULL;
  unsigned parties = 0, flags = 0;
  int64_t timeout = MP_NEVER;
  int options, rc;
  options = lua_istable(L, 1) ? 1 : 2;
  mpl_no_more(L, options, "mp.Barrier");
  lua_settop(L, 2);
  if (options == 2 && !lua_isnil(L, 2)) luaL_checktype(L, 2, LUA_TTABLE);
  if (options == 2) {
    if (lua_type(L, 1) != LUA_TNUMBER) return luaL_typeerror(L, 1, "number of parties or table of options");
    lua_pushvalue(L, 1);
    parties = check_parties(L);
  }
  lua_pushnil(L); /* 3: the action */
  if (lua_istable(L, options)) {
    mpl_options_begin(L, options);
    if (options == 1) {
      if (!mpl_option(L, 1, "parties")) {
        (void)lua_rawgeti(L, 1, 1);
        lua_pushnil(L);
        lua_rawseti(L, 1, 1);
      }
      parties = check_parties(L);
    }
    if (mpl_option(L, options, "timeout")) timeout = check_timeout(L);
    if (mpl_option(L, options, "action")) {
      if (!lua_isfunction(L, -1)) return luaL_error(L, "mp.Barrier: option 'action' must be a function");
      flags = MP_BARRIER_ACTION;
      lua_replace(L, 3);
    }
    mpl_options_done(L, options, "mp.Barrier");
  }
  MPL_NEW(L, rc, mp_barrier_new(parties, flags, timeout, &o));
  if (rc != 0) return mpl_raise(L, "mp.Barrier", rc);
  mpl_push(L, o);
  lua_pushvalue(L, 3);
  lua_setiuservalue(L, -2, 1);
  return 1;
}

int mpl_open_barrier (lua_State *L) {
  mpl_newtype(L, &runner_type);
  mpl_newtype(L, &barrier_type);
  lua_pushcfunction(L, l_new_barrier);
  lua_setfield(L, -2, "Barrier");
  return 0;
}
