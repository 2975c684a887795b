/* l_array.c -- mp.Array. Contract: docs/reference/array.md. */
#include "bind/l_cells.h"

#include <string.h>

static const mpl_type array_type;

static struct mpi_cells *check_array (lua_State *L) {
  return (struct mpi_cells *)mpl_check(L, 1, &array_type);
}

/* Index `arg` for reading: 0 for the one past the end. Else it must be one of the array's. */
static uint64_t check_index (lua_State *L, int arg, const struct mpi_cells *c, const char *function, int past_end) {
  lua_Integer i;
  int ok;
  if (lua_type(L, arg) != LUA_TNUMBER) (void)mpl_misuse(L, function, "an index must be an integer, not a %s", luaL_typename(L, arg));
  i = lua_tointegerx(L, arg, &ok);
  if (!ok) (void)mpl_misuse(L, function, "an index must be an integer");
  if (i >= 1 && (uint64_t)i <= c->count) return (uint64_t)i;
  if (past_end && i >= 1 && (uint64_t)i == c->count + 1) return 0;
  (void)mpl_misuse(L, function, "index %lld is out of range (1 to %llu)", (long long)i, (unsigned long long)c->count);
  return 0;
}

static void push_cell (lua_State *L, const struct mpi_cells *c, uint64_t i) {
  mpl_push_scalar(L, mpi_cell_decode(c->code, mpi_cell_load(c, i - 1)));
}

static uint64_t encode (lua_State *L, int idx, const struct mpi_cells *c, const char *function) {
  uint64_t bits = 0;
  int rc = mpi_cell_encode(c->code, mpl_to_scalar(L, idx, c, function), &bits);
  if (rc != 0) (void)mpl_raise(L, function, rc);
  return bits;
}

/* Bounds of a slice in args arg and arg + 1, by default all; i = j + 1 is the empty slice. */
static void check_slice (lua_State *L, int arg, const struct mpi_cells *c, const char *function, uint64_t *i, uint64_t *j) {
  *i = 1;
  *j = c->count;
  if (!lua_isnoneornil(L, arg)) {
    *i = check_index(L, arg, c, function, 1);
    if (*i == 0) *i = c->count + 1;
  }
  if (!lua_isnoneornil(L, arg + 1)) {
    if (lua_isinteger(L, arg + 1) && (uint64_t)lua_tointeger(L, arg + 1) == *i - 1) *j = *i - 1;
    else *j = check_index(L, arg + 1, c, function, 0);
  }
  if (*j + 1 < *i) (void)mpl_misuse(L, function, "the slice ends before it begins");
}

static int l_get (lua_State *L) {
  struct mpi_cells *c = check_array(L);
  uint64_t i, j, k;
  if (lua_isnoneornil(L, 3)) {
    i = check_index(L, 2, c, "get", 1);
    if (i == 0) lua_pushnil(L);
    else push_cell(L, c, i);
    return 1;
  }
  check_slice(L, 2, c, "get", &i, &j);
  lua_createtable(L, j - i + 1 < 1 << 20 ? (int)(j - i + 1) : 0, 0);
  for (k = i; k <= j; k++) {
    push_cell(L, c, k);
    lua_rawseti(L, -2, (lua_Integer)k - (lua_Integer)i + 1);
  }
  return 1;
}

/* a:set(i, x), a:set(i, list), and for 'c' a:set(i, string). Everything is checked before anything is stored. */
static int l_set (lua_State *L) {
  struct mpi_cells *c = check_array(L);
  uint64_t i = check_index(L, 2, c, "set", 1), n, k, *bits;
  size_t length;
  luaL_checkany(L, 3);
  lua_settop(L, 3);
  if (i == 0) i = c->count + 1;
  if (c->code == 'c' && lua_type(L, 3) == LUA_TSTRING) {
    const char *s = lua_tolstring(L, 3, &length);
    if (length > c->count - i + 1) return mpl_misuse(L, "set", "%zu bytes do not fit from index %llu on", length, (unsigned long long)i);
    for (k = 0; k < length; k++) mpi_cell_store(c, i - 1 + k, (unsigned char)s[k]);
  } else if (lua_istable(L, 3)) {
    n = (uint64_t)luaL_len(L, 3);
    mpl_still(L, 1, (mp_object *)c);
    if (n > c->count - i + 1)
      return mpl_misuse(L, "set", "%llu elements do not fit from index %llu on", (unsigned long long)n, (unsigned long long)i);
    bits = lua_newuserdatauv(L, (size_t)n * sizeof *bits + 1, 0);
    for (k = 0; k < n; k++) {
      (void)lua_geti(L, 3, (lua_Integer)k + 1);
      mpl_still(L, 1, (mp_object *)c);
      bits[k] = encode(L, -1, c, "set");
      lua_pop(L, 1);
    }
    for (k = 0; k < n; k++) mpi_cell_store(c, i - 1 + k, bits[k]);
  } else {
    uint64_t one = encode(L, 3, c, "set");
    if (i > c->count) return mpl_misuse(L, "set", "index %llu is out of range (1 to %llu)", (unsigned long long)i, (unsigned long long)c->count);
    mpi_cell_store(c, i - 1, one);
  }
  lua_pushboolean(L, 1);
  return 1;
}

static int l_fill (lua_State *L) {
  struct mpi_cells *c = check_array(L);
  uint64_t i, j, k, bits;
  luaL_checkany(L, 2);
  bits = encode(L, 2, c, "fill");
  check_slice(L, 3, c, "fill", &i, &j);
  for (k = i; k <= j; k++) {
    /* What is zero already, as in a large array that was never written, is not given pages. */
    if (mpi_cell_load(c, k - 1) != bits) mpi_cell_store(c, k - 1, bits);
  }
  lua_pushboolean(L, 1);
  return 1;
}

static int l_add (lua_State *L) {
  struct mpi_cells *c = check_array(L);
  uint64_t i = check_index(L, 2, c, "add", 0);
  mp_scalar out;
  int rc;
  luaL_checkany(L, 3);
  if (c->kind != 'i' && c->kind != 'f') return mpl_misuse(L, "add", "type '%c' is no number", c->code);
  rc = mpi_cell_add(c, i - 1, mpl_to_scalar(L, 3, c, "add"), &out);
  if (rc < 0) return mpl_raise(L, "add", rc);
  mpl_push_scalar(L, out);
  return 1;
}

static int l_cas (lua_State *L) {
  struct mpi_cells *c = check_array(L);
  uint64_t i = check_index(L, 2, c, "cas", 0);
  mp_scalar now = {0, 0, 0};
  int rc;
  luaL_checkany(L, 4);
  rc = mpi_cell_cas(c, i - 1, mpl_to_scalar(L, 3, c, "cas"), mpl_to_scalar(L, 4, c, "cas"), &now);
  if (rc < 0) return mpl_raise(L, "cas", rc);
  lua_pushboolean(L, rc);
  if (rc == 1) return 1;
  mpl_push_scalar(L, now);
  return 2;
}

static int l_tostring_slice (lua_State *L) {
  struct mpi_cells *c = check_array(L);
  uint64_t i, j, k;
  luaL_Buffer b;
  if (c->width != 1 || c->kind == '?') return mpl_misuse(L, "tostring", "only the types c, b and B hold bytes, not '%c'", c->code);
  check_slice(L, 2, c, "tostring", &i, &j);
  luaL_buffinit(L, &b);
  for (k = i; k <= j; k++) luaL_addchar(&b, (char)mpi_cell_load(c, k - 1));
  luaL_pushresult(&b);
  return 1;
}

static int l_get_lock (lua_State *L) {
  (void)check_array(L);
  return mpl_get_lock(L);
}

static int l_with (lua_State *L) {
  (void)check_array(L);
  return mpl_with_lock(L, "Array");
}

static int l_len (lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check_array(L)->count);
  return 1;
}

/* Replaces the general __index: numbers first. Upvalue 1: the methods. */
static int l_index (lua_State *L) {
  struct mpi_cells *c;
  uint64_t i;
  if (lua_type(L, 2) != LUA_TNUMBER) {
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
    return luaL_error(L, "mp.Array has no field '%s'", luaL_tolstring(L, 2, NULL));
  }
  c = check_array(L);
  i = check_index(L, 2, c, "mp.Array", 1);
  if (i == 0) lua_pushnil(L);
  else push_cell(L, c, i);
  return 1;
}

static int set_element (lua_State *L) {
  struct mpi_cells *c = check_array(L);
  uint64_t i;
  if (lua_type(L, 2) != LUA_TNUMBER) return luaL_error(L, "mp.Array: field '%s' cannot be set", luaL_tolstring(L, 2, NULL));
  i = check_index(L, 2, c, "mp.Array", 0);
  mpi_cell_store(c, i - 1, encode(L, 3, c, "mp.Array"));
  return 0;
}

static void describe (mp_object *o, char *text, size_t size) {
  const struct mpi_cells *c = (const struct mpi_cells *)o;
  (void)snprintf(text, size, "%c %llu", c->code, (unsigned long long)c->count);
}

static const luaL_Reg methods[] = {{"get", l_get},           {"set", l_set},   {"fill", l_fill}, {"add", l_add}, {"cas", l_cas},
                                   {"tostring", l_tostring_slice}, {"with", l_with}, {"get_lock", l_get_lock}, {NULL, NULL}};
static const luaL_Reg meta[] = {{"__index", l_index}, {"__len", l_len}, {NULL, NULL}};
static const mpl_type array_type = {MPI_T_ARRAY, "mp.Array", methods, meta, NULL, set_element, describe};

/* A list has nothing but its elements (and perhaps n, as table.pack leaves it): what would be dropped is misuse. */
static void check_list (lua_State *L, int idx, lua_Integer n) {
  for (lua_pushnil(L); lua_next(L, idx) != 0; lua_pop(L, 1)) {
    if (lua_isinteger(L, -2) && lua_tointeger(L, -2) >= 1 && lua_tointeger(L, -2) <= n) continue;
    if (lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), "n") == 0) continue;
    (void)mpl_misuse(L, "mp.Array", "a list expected, but it has the key '%s'", luaL_tolstring(L, -2, NULL));
  }
}

/* mp.Array(code, n | list | string for 'c'[, options]) */
static int l_new (lua_State *L) {
  char code = mpl_check_code(L, 1);
  lua_Integer n = 0;
  struct mpi_cells *c;
  mp_object *o;
  int rc;
  mpl_no_more(L, 3, "mp.Array");
  lua_settop(L, 3);
  if (lua_istable(L, 2)) {
    n = luaL_len(L, 2);
    check_list(L, 2, n);
  } else if (code == 'c' && lua_type(L, 2) == LUA_TSTRING) {
    n = (lua_Integer)lua_rawlen(L, 2);
  } else if (lua_type(L, 2) == LUA_TNUMBER) {
    n = mpl_checkint(L, 2, 1, LUA_MAXINTEGER);
  } else {
    return luaL_typeerror(L, 2, "size or list");
  }
  luaL_argcheck(L, n > 0, 2, "an array has at least one element");
  mpl_push_lock_option(L, 3, "mp.Array");
  MPL_NEW(L, rc, mp_array_new(code, (size_t)n, &o));
  if (rc == MP_ENOMEM) return mpl_misuse(L, "mp.Array", "%lld elements do not fit this machine", (long long)n);
  if (rc != 0) return mpl_raise(L, "mp.Array", rc);
  mpl_push(L, o);
  lua_insert(L, -2);
  lua_setiuservalue(L, -2, 1);
  c = (struct mpi_cells *)o;
  if (lua_istable(L, 2)) {
    lua_Integer i;
    for (i = 1; i <= n; i++) {
      (void)lua_geti(L, 2, i);
      mpi_cell_store(c, (uint64_t)i - 1, encode(L, -1, c, "mp.Array"));
      lua_pop(L, 1);
    }
  } else if (lua_type(L, 2) == LUA_TSTRING) {
    const char *s = lua_tostring(L, 2);
    lua_Integer i;
    for (i = 0; i < n; i++) mpi_cell_store(c, (uint64_t)i, (unsigned char)s[i]);
  }
  return 1;
}

int mpl_open_array (lua_State *L) {
  mpl_newtype(L, &array_type);
  lua_pushcfunction(L, l_new);
  lua_setfield(L, -2, "Array");
  return 0;
}
