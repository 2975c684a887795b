/* l_condition.c -- mp.Condition. Its companion (user value 1) is its lock, which so travels with it. */
#include <limits.h>

#include "base/clock.h"
#include "bind/l_sync.h"
#include "proc/distrust.h"
#include "shm/condition.h"

static void describe (mp_object *o, char *text, size_t size) {
  (void)snprintf(text, size, "%d waiting", mpi_condition_waiters(o));
}

static int l_acquire (lua_State *L);
static int l_release (lua_State *L);
static int l_guard (lua_State *L);
static int l_with (lua_State *L);
static int l_wait (lua_State *L);
static int l_wait_for (lua_State *L);
static int l_notify (lua_State *L);
static int l_notify_all (lua_State *L);

static const luaL_Reg methods[] = {{"acquire", l_acquire}, {"release", l_release},   {"guard", l_guard},   {"with", l_with},
                                   {"wait", l_wait},       {"wait_for", l_wait_for}, {"notify", l_notify}, {"notify_all", l_notify_all},
                                   {NULL, NULL}};
static const mpl_type condition_type = {MPI_T_CONDITION, "mp.Condition", methods, NULL, NULL, NULL, describe};

/* A condition that arrived has its lock as companion; one that a C host pushed has it in the handle. Each learns from the other. */
static mp_object *check (lua_State *L, int arg, mp_object **lock) {
  mp_object *o = mpl_check(L, arg, &condition_type);
  *lock = mpi_condition_lock(o);
  if (*lock == NULL) {
    (void)lua_getiuservalue(L, arg, 1);
    *lock = mpl_test(L, -1);
    if (*lock == NULL || mpi_condition_set_lock(o, *lock) != 0) luaL_argerror(L, arg, "the condition came without its lock");
    lua_pop(L, 1);
  } else if (lua_getiuservalue(L, arg, 1) == LUA_TNIL) {
    mp_retain(*lock);
    mpl_push(L, *lock);
    lua_setiuservalue(L, arg, 1);
    lua_pop(L, 1);
  } else {
    lua_pop(L, 1);
  }
  return o;
}

static int acquire_for_ever (lua_State *L, int arg, const char *function) {
  mp_object *lock;
  int rc;
  (void)check(L, arg, &lock);
  MPL_WAIT(L, rc, mp_lock_acquire(lock, MP_NEVER));
  if (rc < 0) (void)mpl_raise(L, function, rc);
  return rc;
}

static int release_at (lua_State *L, int arg) {
  mp_object *lock;
  (void)check(L, arg, &lock);
  return mpl_result(L, "release", mp_lock_release(lock));
}

static int l_acquire (lua_State *L) {
  mp_object *lock;
  int64_t deadline;
  int rc;
  (void)check(L, 1, &lock);
  deadline = mpl_deadline(L, 2);
  MPL_WAIT(L, rc, mp_lock_acquire(lock, deadline));
  return mpl_result(L, "acquire", rc);
}

static int l_release (lua_State *L) {
  return release_at(L, 1);
}

static int l_guard (lua_State *L) {
  mp_object *lock;
  (void)check(L, 1, &lock);
  return mpl_guard(L, acquire_for_ever, release_at);
}

static int l_with (lua_State *L) {
  mp_object *lock;
  (void)check(L, 1, &lock);
  return mpl_with(L, acquire_for_ever, release_at);
}

/* For having the lock back. */
static int64_t patience (const mp_object *o, const mp_object *lock) {
  return mpi_distrusted(o->seg.ino) || mpi_distrusted(lock->seg.ino) ? 5 * MPI_NS_PER_S : MP_NEVER;
}

static int l_wait (lua_State *L) {
  mp_object *lock, *o = check(L, 1, &lock);
  int64_t deadline = mpl_deadline(L, 2);
  int rc;
  MPL_WAIT(L, rc, mpi_condition_wait(o, lock, deadline, patience(o, lock)));
  return mpl_result(L, "wait", rc);
}

/* Stack: 1 the condition, 2 the predicate, 3 whether the time is up, 4 what the predicate gave. */
static int wait_for_step (lua_State *L, int status, lua_KContext deadline) {
  (void)status;
  while (!lua_toboolean(L, 4)) {
    mp_object *lock, *o;
    int rc;
    if (lua_toboolean(L, 3)) return mpl_fail(L, MP_ETIMEDOUT);
    lua_settop(L, 3);
    o = check(L, 1, &lock);
    MPL_WAIT(L, rc, mpi_condition_wait(o, lock, (int64_t)deadline, patience(o, lock)));
    if (rc < 0 && rc != MP_ETIMEDOUT) return mpl_raise(L, "wait_for", rc);
    lua_pushboolean(L, rc == MP_ETIMEDOUT);
    lua_replace(L, 3);
    lua_pushvalue(L, 2);
    lua_callk(L, 0, 1, deadline, wait_for_step);
  }
  return 1;
}

static int l_wait_for (lua_State *L) {
  mp_object *lock;
  int64_t deadline;
  (void)check(L, 1, &lock);
  mpl_checkcallable(L, 2);
  deadline = mpl_deadline(L, 3);
  if (!mp_lock_held(lock)) return mpl_misuse(L, "wait_for", "the condition's lock is not held by the calling thread");
  lua_settop(L, 2);
  lua_pushboolean(L, 0);
  lua_pushvalue(L, 2);
  lua_callk(L, 0, 1, (lua_KContext)deadline, wait_for_step);
  return wait_for_step(L, LUA_OK, (lua_KContext)deadline);
}

static int l_notify (lua_State *L) {
  mp_object *lock, *o = check(L, 1, &lock);
  unsigned n = lua_isnoneornil(L, 2) ? 1 : (unsigned)mpl_checkint(L, 2, 0, INT_MAX);
  return mpl_result(L, "notify", mp_condition_notify(o, lock, n));
}

static int l_notify_all (lua_State *L) {
  mp_object *lock, *o = check(L, 1, &lock);
  return mpl_result(L, "notify_all", mp_condition_notify(o, lock, UINT_MAX));
}

static int l_new_condition (lua_State *L) {
  mp_object *o = NULL, *lock = NULL;
  int rc;
  mpl_no_more(L, 1, "mp.Condition");
  lua_settop(L, 1);
  if (lua_istable(L, 1)) {
    mpl_options_begin(L, 1);
    if (!mpl_option(L, 1, "lock")) lua_pushnil(L);
    mpl_options_done(L, 1, "mp.Condition");
    lua_replace(L, 1);
  }
  if (!lua_isnil(L, 1)) {
    lock = mpl_test(L, 1);
    if (lock == NULL && (luaL_testudata(L, 1, "mp.Lock") != NULL || luaL_testudata(L, 1, "mp.RLock") != NULL))
      return mpl_misuse(L, "mp.Condition", "the handle of the lock is closed");
    if (lock == NULL || !mpi_is_lock(lock)) return luaL_typeerror(L, 1, "mp.Lock or mp.RLock");
  }
  MPL_NEW(L, rc, mp_condition_new(lock, &o));
  if (rc != 0) return mpl_raise(L, "mp.Condition", rc);
  mpl_push(L, o);
  (void)check(L, 2, &lock); /* sets the companion */
  return 1;
}

int mpl_open_condition (lua_State *L) {
  mpl_newtype(L, &condition_type);
  lua_pushcfunction(L, l_new_condition);
  lua_setfield(L, -2, "Condition");
  return 0;
}
