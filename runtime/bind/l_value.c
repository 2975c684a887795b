/* l_value.c -- mp.Value, and what it shares with mp.Array. Contract: docs/reference/value.md. */
#include "bind/l_cells.h"

#include <string.h>

static const mpl_type value_type;

/* ---- scalars ---- */

void mpl_push_scalar (lua_State *L, mp_scalar v) {
  char byte;
  switch (v.kind) {
    case 'i': lua_pushinteger(L, v.i); break;
    case 'f': lua_pushnumber(L, v.f); break;
    case '?': lua_pushboolean(L, v.i != 0); break;
    default:
      byte = (char)v.i;
      lua_pushlstring(L, &byte, 1);
  }
}

mp_scalar mpl_to_scalar (lua_State *L, int idx, const struct mpi_cells *c, const char *function) {
  mp_scalar v = {c->kind, 0, 0};
  size_t n;
  switch (lua_type(L, idx)) {
    case LUA_TNUMBER:
      v.kind = lua_isinteger(L, idx) ? 'i' : 'f';
      if (v.kind == 'i') v.i = lua_tointeger(L, idx);
      else v.f = lua_tonumber(L, idx);
      if (c->kind == 'i' || c->kind == 'f') return v;
      break;
    case LUA_TBOOLEAN:
      v.i = lua_toboolean(L, idx);
      if (c->kind == '?') return v;
      break;
    case LUA_TSTRING:
      if (c->kind != 'c') break;
      v.i = (unsigned char)*lua_tolstring(L, idx, &n);
      if (n == 1) return v;
      (void)mpl_misuse(L, function, "type 'c' holds strings of one byte, not of %zu", n);
      break;
    default: break;
  }
  (void)mpl_misuse(L, function, "type '%c' holds %s, not a %s", c->code,
                   c->kind == 'i' ? "integers" : c->kind == 'f' ? "numbers" : c->kind == '?' ? "booleans" : "strings of one byte",
                   luaL_typename(L, idx));
  return v;
}

char mpl_check_code (lua_State *L, int arg) {
  size_t n;
  const char *s = luaL_checklstring(L, arg, &n);
  luaL_argcheck(L, n == 1 && mpi_code_width(s[0]) != 0, arg, "a type code expected: one of c b B h H i I l L q Q f d ?");
  return s[0];
}

/* ---- the lock ---- */

void mpl_push_lock_option (lua_State *L, int opts, const char *constructor) {
  mp_object *o = NULL;
  int given = 0, rc;
  if (!lua_isnoneornil(L, opts)) {
    luaL_checktype(L, opts, LUA_TTABLE);
    mpl_options_begin(L, opts);
    given = mpl_option(L, opts, "lock");
    mpl_options_done(L, opts, constructor);
  }
  if (given && lua_isboolean(L, -1)) {
    int own = lua_toboolean(L, -1);
    lua_pop(L, 1);
    if (!own) {
      lua_pushnil(L);
      return;
    }
  } else if (given) {
    o = mpl_test(L, -1);
    if (o == NULL || !mpi_is_lock(o)) luaL_error(L, "%s: option 'lock' must be an mp.Lock, an mp.RLock or false", constructor);
    return;
  }
  MPL_NEW(L, rc, mp_rlock_new(&o));
  if (rc != 0) (void)mpl_raise(L, constructor, rc);
  mpl_push(L, o);
}

int mpl_get_lock (lua_State *L) {
  lua_getiuservalue(L, 1, 1);
  return 1;
}

static mp_object *lock_of (lua_State *L, int arg, const char *function) {
  mp_object *o;
  lua_getiuservalue(L, arg, 1);
  o = mpl_test(L, -1);
  if (o == NULL) (void)mpl_misuse(L, function, "the lock's handle is closed");
  lua_pop(L, 1); /* the user value keeps it */
  return o;
}

static int acquire (lua_State *L, int arg, const char *function) {
  mp_object *o = lock_of(L, arg, function);
  int rc;
  MPL_WAIT(L, rc, mp_lock_acquire(o, MP_NEVER));
  if (rc < 0) (void)mpl_raise(L, function, rc);
  return rc;
}

static int release (lua_State *L, int arg) {
  return mpl_result(L, "with", mp_lock_release(lock_of(L, arg, "with")));
}

int mpl_with_lock (lua_State *L, const char *type_name) {
  mpl_checkcallable(L, 2);
  if (lua_getiuservalue(L, 1, 1) == LUA_TNIL) return mpl_misuse(L, "with", "the %s was made with lock = false", type_name);
  lua_pop(L, 1);
  lua_pushvalue(L, 1);
  lua_insert(L, 3); /* f's first argument */
  return mpl_with(L, acquire, release);
}

/* ---- mp.Value ---- */

static mp_object *check_value (lua_State *L) {
  return mpl_check(L, 1, &value_type);
}

static struct mpi_cells *cell (mp_object *o) {
  return (struct mpi_cells *)o;
}

static int push_value (lua_State *L, mp_object *o) {
  const struct mpi_cells *c = cell(o);
  uint64_t bits = mpi_cell_load(c, 0);
  double d;
  switch (c->code) { /* what is used most */
    case 'd':
      memcpy(&d, &bits, sizeof d);
      lua_pushnumber(L, d);
      break;
    case 'q':
    case 'l': lua_pushinteger(L, (lua_Integer)bits); break;
    case 'i': lua_pushinteger(L, (int32_t)(uint32_t)bits); break;
    default: mpl_push_scalar(L, mpi_cell_decode(c->code, bits));
  }
  return 1;
}

static int set_value (lua_State *L, mp_object *o, int idx, const char *function) {
  int rc;
  luaL_checkany(L, idx);
  rc = mp_value_set(o, mpl_to_scalar(L, idx, cell(o), function));
  return mpl_result(L, function, rc);
}

static int l_get (lua_State *L) {
  return push_value(L, check_value(L));
}

static int l_set (lua_State *L) {
  return set_value(L, check_value(L), 2, "set");
}

static int l_add (lua_State *L) {
  mp_object *o = check_value(L);
  mp_scalar out;
  int rc;
  luaL_checkany(L, 2);
  if (cell(o)->kind != 'i' && cell(o)->kind != 'f') return mpl_misuse(L, "add", "type '%c' is no number", cell(o)->code);
  rc = mp_value_add(o, mpl_to_scalar(L, 2, cell(o), "add"), &out);
  if (rc < 0) return mpl_raise(L, "add", rc);
  mpl_push_scalar(L, out);
  return 1;
}

static int l_cas (lua_State *L) {
  mp_object *o = check_value(L);
  mp_scalar now = {0, 0, 0};
  int rc;
  luaL_checkany(L, 3);
  rc = mp_value_cas(o, mpl_to_scalar(L, 2, cell(o), "cas"), mpl_to_scalar(L, 3, cell(o), "cas"), &now);
  if (rc < 0) return mpl_raise(L, "cas", rc);
  lua_pushboolean(L, rc);
  if (rc == 1) return 1;
  mpl_push_scalar(L, now);
  return 2;
}

static int l_get_lock (lua_State *L) {
  (void)check_value(L);
  return mpl_get_lock(L);
}

static int l_with (lua_State *L) {
  (void)check_value(L);
  return mpl_with_lock(L, "Value");
}

static int is_value (lua_State *L) {
  size_t n;
  const char *s = lua_tolstring(L, 2, &n); /* a number among our arguments may become a string */
  return s != NULL && n == 5 && memcmp(s, "value", 5) == 0;
}

/* Replaces the general __index, since v.value is what a value is for. Upvalue 1: the methods. */
static int l_index (lua_State *L) {
  if (is_value(L)) return push_value(L, check_value(L));
  lua_settop(L, 2);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  return luaL_error(L, "mp.Value has no field '%s'", luaL_tolstring(L, 2, NULL));
}

static int set_field (lua_State *L) {
  mp_object *o = check_value(L);
  if (!is_value(L)) return luaL_error(L, "mp.Value: field '%s' cannot be set", luaL_tolstring(L, 2, NULL));
  (void)set_value(L, o, 3, "value");
  return 0;
}

static void describe (mp_object *o, char *text, size_t size) {
  mp_scalar v = mpi_cell_decode(cell(o)->code, mpi_cell_load(cell(o), 0));
  if (v.kind == 'f') (void)snprintf(text, size, "%c %.14g", cell(o)->code, v.f);
  else if (v.kind == '?') (void)snprintf(text, size, "? %s", v.i ? "true" : "false");
  else if (v.kind == 'c' && v.i > ' ' && v.i < 127) (void)snprintf(text, size, "c '%c'", (int)v.i);
  else (void)snprintf(text, size, "%c %lld", cell(o)->code, (long long)v.i);
}

static const luaL_Reg methods[] = {{"get", l_get}, {"set", l_set}, {"add", l_add}, {"cas", l_cas}, {"with", l_with}, {"get_lock", l_get_lock}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__index", l_index}, {NULL, NULL}};
static const mpl_type value_type = {MPI_T_VALUE, "mp.Value", methods, meta, NULL, set_field, describe};

static int l_new (lua_State *L) {
  char code = mpl_check_code(L, 1);
  mp_object *o;
  int rc;
  mpl_no_more(L, 3, "mp.Value");
  lua_settop(L, 3);
  if (lua_istable(L, 2) && lua_isnil(L, 3)) { /* mp.Value("i", {lock = false}) */
    lua_insert(L, 2); /* the nil at 3 */
  }
  mpl_push_lock_option(L, 3, "mp.Value");
  MPL_NEW(L, rc, mp_value_new(code, &o));
  if (rc != 0) return mpl_raise(L, "mp.Value", rc);
  mpl_push(L, o);
  lua_insert(L, -2);
  lua_setiuservalue(L, -2, 1);
  if (!lua_isnil(L, 2)) {
    rc = mp_value_set(o, mpl_to_scalar(L, 2, cell(o), "mp.Value"));
    if (rc != 0) return mpl_raise(L, "mp.Value", rc);
  }
  return 1;
}

int mpl_open_value (lua_State *L) {
  mpl_newtype(L, &value_type);
  lua_pushcfunction(L, l_new);
  lua_setfield(L, -2, "Value");
  return 0;
}
