/* l_semaphore.c -- mp.Semaphore, mp.BoundedSemaphore: one type, told apart by how it was made. */
#include "bind/l_sync.h"
#include "shm/semaphore.h"

static void describe (mp_object *o, char *text, size_t size) {
  unsigned flags = mpi_semaphore_flags(o);
  (void)snprintf(text, size, "%d/%u%s%s", mp_semaphore_value(o), mpi_semaphore_first(o), flags & MP_SEMAPHORE_BOUNDED ? " bounded" : "",
                 flags & MP_SEMAPHORE_OWNED ? " owned" : "");
}

static int l_acquire (lua_State *L);
static int l_release (lua_State *L);
static int l_value (lua_State *L);
static int l_guard (lua_State *L);
static int l_with (lua_State *L);

static const luaL_Reg methods[] = {{"acquire", l_acquire}, {"release", l_release}, {"value", l_value},
                                   {"guard", l_guard},     {"with", l_with},       {NULL, NULL}};
static const mpl_type semaphore_type = {MPI_T_SEMAPHORE, "mp.Semaphore", methods, NULL, NULL, NULL, describe};

static int acquire_for_ever (lua_State *L, int arg, const char *function) {
  mp_object *o = mpl_check(L, arg, &semaphore_type);
  int rc = mp_semaphore_acquire(o, 0);
  if (rc == MP_ETIMEDOUT) MPL_WAIT(L, rc, mp_semaphore_acquire(o, MP_NEVER));
  if (rc < 0) (void)mpl_raise(L, function, rc);
  return rc;
}

static int release_at (lua_State *L, int arg) {
  return mpl_result(L, "release", mp_semaphore_release(mpl_check(L, arg, &semaphore_type), 1));
}

static int l_acquire (lua_State *L) {
  mp_object *o = mpl_check(L, 1, &semaphore_type);
  int64_t deadline = mpl_deadline(L, 2);
  int rc = mp_semaphore_acquire(o, 0); /* a poll asks nobody whether it is interrupted */
  if (rc == MP_ETIMEDOUT && deadline != 0) MPL_WAIT(L, rc, mp_semaphore_acquire(o, deadline));
  return mpl_result(L, "acquire", rc);
}

static int l_release (lua_State *L) {
  mp_object *o = mpl_check(L, 1, &semaphore_type);
  unsigned n = lua_isnoneornil(L, 2) ? 1 : (unsigned)mpl_checkint(L, 2, 1, MPI_SEMAPHORE_MOST);
  return mpl_result(L, "release", mp_semaphore_release(o, n));
}

static int l_value (lua_State *L) {
  lua_pushinteger(L, mp_semaphore_value(mpl_check(L, 1, &semaphore_type)));
  return 1;
}

static int l_guard (lua_State *L) {
  (void)mpl_check(L, 1, &semaphore_type);
  return mpl_guard(L, acquire_for_ever, release_at);
}

static int l_with (lua_State *L) {
  (void)mpl_check(L, 1, &semaphore_type);
  return mpl_with(L, acquire_for_ever, release_at);
}

/* A number of permits at arg, or at the top of the stack from an option. */
static unsigned check_permits (lua_State *L, const char *constructor, unsigned flags) {
  lua_Integer most = flags & MP_SEMAPHORE_OWNED ? MPI_SEMAPHORE_MOST_OWNED : MPI_SEMAPHORE_MOST;
  lua_Integer least = flags & MP_SEMAPHORE_OWNED ? 1 : 0;
  int ok = 0;
  lua_Integer n = lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &ok) : 0;
  if (!ok || n < least || n > most)
    luaL_error(L, "%s: the number of permits must be an integer from %d to %d", constructor, (int)least, (int)most);
  lua_pop(L, 1);
  return (unsigned)n;
}

static int construct (lua_State *L, const char *constructor, unsigned flags) {
  mp_object *o = NULL;
  unsigned n = 1;
  int rc;
  mpl_no_more(L, 1, constructor);
  lua_settop(L, 1);
  if (lua_istable(L, 1)) {
    mpl_options_begin(L, 1);
    if (mpl_option(L, 1, "owned")) {
      if (!lua_isboolean(L, -1)) return luaL_error(L, "%s: option 'owned' must be a boolean", constructor);
      if (lua_toboolean(L, -1)) flags |= MP_SEMAPHORE_OWNED;
      lua_pop(L, 1);
    }
    if (mpl_option(L, 1, "n")) {
      n = check_permits(L, constructor, flags);
    } else if (lua_rawgeti(L, 1, 1) != LUA_TNIL) {
      n = check_permits(L, constructor, flags);
      lua_pushnil(L);
      lua_rawseti(L, 1, 1);
    }
    mpl_options_done(L, 1, constructor);
  } else if (!lua_isnil(L, 1)) {
    if (lua_type(L, 1) != LUA_TNUMBER) return luaL_typeerror(L, 1, "number of permits or table of options");
    lua_pushvalue(L, 1);
    n = check_permits(L, constructor, flags);
  }
  MPL_NEW(L, rc, mp_semaphore_new(n, flags, &o));
  if (rc != 0) return mpl_raise(L, constructor, rc);
  mpl_push(L, o);
  return 1;
}

static int l_new_semaphore (lua_State *L) {
  return construct(L, "mp.Semaphore", 0);
}

static int l_new_bounded (lua_State *L) {
  return construct(L, "mp.BoundedSemaphore", MP_SEMAPHORE_BOUNDED);
}

int mpl_open_semaphore (lua_State *L) {
  mpl_newtype(L, &semaphore_type);
  lua_pushcfunction(L, l_new_semaphore);
  lua_setfield(L, -2, "Semaphore");
  lua_pushcfunction(L, l_new_bounded);
  lua_setfield(L, -2, "BoundedSemaphore");
  return 0;
}
