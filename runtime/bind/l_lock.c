/* l_lock.c -- mp.Lock, mp.RLock; and what everything with acquire and release shares: guard and with. */
#include "bind/l_sync.h"

/* ---- guards ---- */

/* A guard holds what it releases at the end of a scope. User value 1: the object, nil once released. */
struct guard {
  mpl_release_fn release;
};

static int release_guarded (lua_State *L) {
  struct guard *g = luaL_checkudata(L, 1, "mp.Guard");
  mpl_release_fn release = g->release;
  if (release == NULL) return 0;
  g->release = NULL;
  lua_getiuservalue(L, 1, 1);
  if (mpl_isobject(L, -1) && mpl_test(L, -1) == NULL) return luaL_error(L, "release: the handle has been closed meanwhile");
  return release(L, lua_gettop(L));
}

/* Arguments: the guard, and the error because of which the scope ends, or nil: that error is not hidden by one of the release. */
static int l_guard_close (lua_State *L) {
  if (lua_isnoneornil(L, 2)) return release_guarded(L);
  lua_pushcfunction(L, release_guarded);
  lua_pushvalue(L, 1);
  (void)lua_pcall(L, 1, 0, 0);
  return 0;
}

static const luaL_Reg guard_meta[] = {{"__close", l_guard_close}, {NULL, NULL}};
static const mpl_type guard_type = {0, "mp.Guard", NULL, guard_meta, NULL, NULL, NULL};

static void push_guard (lua_State *L, int arg) {
  struct guard *g = lua_newuserdatauv(L, sizeof *g, 1);
  g->release = NULL; /* born without anything to release */
  luaL_setmetatable(L, "mp.Guard");
  lua_pushvalue(L, arg);
  lua_setiuservalue(L, -2, 1);
}

int mpl_guard (lua_State *L, mpl_acquire_fn acquire, mpl_release_fn release) {
  int rc;
  lua_settop(L, 1);
  push_guard(L, 1);
  rc = acquire(L, 1, "guard");
  ((struct guard *)lua_touserdata(L, 2))->release = release;
  if (rc != MP_ABANDONED) return 1;
  lua_pushliteral(L, "abandoned");
  return 2;
}

static int with_results (lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return lua_gettop(L) - 2; /* the guard at 2 is closed as this function returns */
}

int mpl_with (lua_State *L, mpl_acquire_fn acquire, mpl_release_fn release) {
  int n;
  mpl_checkcallable(L, 2);
  push_guard(L, 1);
  lua_insert(L, 2);
  n = lua_gettop(L) - 3;
  lua_toclose(L, 2);
  (void)acquire(L, 1, "with"); /* whoever must know that it was abandoned uses acquire or guard */
  ((struct guard *)lua_touserdata(L, 2))->release = release;
  lua_callk(L, n, LUA_MULTRET, 0, with_results);
  return with_results(L, LUA_OK, 0);
}

/* ---- locks ---- */

static void describe (mp_object *o, char *text, size_t size) {
  int pid = mp_lock_owner(o);
  if (pid == 0) (void)snprintf(text, size, "free");
  else (void)snprintf(text, size, "held by %d", pid);
}

static mp_object *no_lock (lua_State *L, int arg) {
  const char *name = luaL_testudata(L, arg, "mp.RLock") != NULL ? "mp.RLock" : "mp.Lock";
  struct mpl_box *b = luaL_checkudata(L, arg, name);
  if (b->o == NULL) (void)mpl_closed(L, name);
  return b->o;
}

static inline mp_object *check_lock (lua_State *L, int arg) {
  mp_object *o = mpl_test(L, arg);
  return __builtin_expect(o != NULL && mpi_is_lock(o), 1) ? o : no_lock(L, arg);
}

static int acquire_for_ever (lua_State *L, int arg, const char *function) {
  mp_object *o = check_lock(L, arg);
  int rc = mp_lock_acquire(o, 0);
  if (rc == MP_ETIMEDOUT) MPL_WAIT(L, rc, mp_lock_acquire(o, MP_NEVER));
  if (rc < 0) (void)mpl_raise(L, function, rc);
  return rc;
}

static int release_at (lua_State *L, int arg) {
  return mpl_result(L, "release", mp_lock_release(check_lock(L, arg)));
}

static int l_acquire (lua_State *L) {
  mp_object *o = check_lock(L, 1);
  int64_t deadline = lua_gettop(L) == 1 ? MP_NEVER : mpl_deadline(L, 2);
  int rc = mp_lock_acquire(o, 0); /* a poll asks nobody whether it is interrupted */
  if (rc == MP_ETIMEDOUT && deadline != 0) MPL_WAIT(L, rc, mp_lock_acquire(o, deadline));
  return mpl_result(L, "acquire", rc);
}

static int l_release (lua_State *L) {
  return release_at(L, 1);
}

static int l_locked (lua_State *L) {
  lua_pushboolean(L, mp_lock_locked(check_lock(L, 1)));
  return 1;
}

static int l_owner (lua_State *L) {
  int pid = mp_lock_owner(check_lock(L, 1));
  if (pid == 0) lua_pushnil(L);
  else lua_pushinteger(L, pid);
  return 1;
}

static int l_guard (lua_State *L) {
  (void)check_lock(L, 1);
  return mpl_guard(L, acquire_for_ever, release_at);
}

static int l_with (lua_State *L) {
  (void)check_lock(L, 1);
  return mpl_with(L, acquire_for_ever, release_at);
}

static const luaL_Reg methods[] = {{"acquire", l_acquire}, {"release", l_release}, {"locked", l_locked}, {"owner", l_owner},
                                   {"guard", l_guard},     {"with", l_with},       {NULL, NULL}};

static const mpl_type lock_type = {MPI_T_LOCK, "mp.Lock", methods, NULL, NULL, NULL, describe};
static const mpl_type rlock_type = {MPI_T_RLOCK, "mp.RLock", methods, NULL, NULL, NULL, describe};

static int l_new_lock (lua_State *L) {
  mp_object *o = NULL;
  int rc;
  mpl_no_options(L, "mp.Lock");
  MPL_NEW(L, rc, mp_lock_new(&o));
  if (rc != 0) return mpl_raise(L, "mp.Lock", rc);
  mpl_push(L, o);
  return 1;
}

static int l_new_rlock (lua_State *L) {
  mp_object *o = NULL;
  int rc;
  mpl_no_options(L, "mp.RLock");
  MPL_NEW(L, rc, mp_rlock_new(&o));
  if (rc != 0) return mpl_raise(L, "mp.RLock", rc);
  mpl_push(L, o);
  return 1;
}

int mpl_open_lock (lua_State *L) {
  mpl_newtype(L, &guard_type);
  mpl_newtype(L, &lock_type);
  mpl_newtype(L, &rlock_type);
  lua_pushcfunction(L, l_new_lock);
  lua_setfield(L, -2, "Lock");
  lua_pushcfunction(L, l_new_rlock);
  lua_setfield(L, -2, "RLock");
  return 0;
}
