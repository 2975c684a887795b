/* l_dict.c -- mp.Dict. Contract: docs/reference/dict.md. */
#include "bind/l_items.h"

#include <string.h>

static const mpl_type dict_type;

static mp_object *check_dict (lua_State *L) {
  return mpl_check(L, 1, &dict_type);
}

static void need_key (lua_State *L, int idx, struct mpl_item *k, const char *function) {
  if (mpl_to_key(L, idx, k, function)) return;
  (void)mpl_misuse(L, function, "a key must not be %s", lua_isnil(L, idx) ? "nil" : "nan");
}

/* Pushes the value at this key; 0 and nothing if there is none. */
static int push_at (lua_State *L, mp_object *o, const struct mpl_item *k, const char *function) {
  struct mpl_room r;
  size_t size = 0;
  int64_t dl;
  int rc;
  MPL_ROOM(r);
  for (;;) {
    CONTAINER_WAIT(L, o, rc, dl, mpi_dict_get(o, &k->item, r.p, r.room, &size, dl));
    if (rc != MP_E2BIG) break;
    mpl_more_room(L, &r, size);
  }
  if (rc == MP_EEMPTY) return 0;
  if (rc != 0) return mpl_container_raise(L, function, rc);
  mpl_push_item(L, r.p, size, function);
  return 1;
}

static int set_at (lua_State *L, mp_object *o, int key, int value, const char *function) {
  struct mpl_item k, v;
  int64_t dl;
  int rc;
  need_key(L, key, &k, function);
  if (lua_isnil(L, value)) {
    CONTAINER_WAIT(L, o, rc, dl, mpi_dict_set(o, &k.item, NULL, dl));
  } else {
    mpl_to_item(L, value, &v, function);
    CONTAINER_WAIT(L, o, rc, dl, mpi_dict_set(o, &k.item, &v.item, dl));
  }
  if (rc != 0) return mpl_container_raise(L, function, rc);
  return 0;
}

static int l_get (lua_State *L) {
  mp_object *o = check_dict(L);
  struct mpl_item k;
  luaL_checkany(L, 2);
  lua_settop(L, 3);
  if (!mpl_to_key(L, 2, &k, "get") || !push_at(L, o, &k, "get")) lua_pushvalue(L, 3);
  return 1;
}

static int l_set (lua_State *L) {
  mp_object *o = check_dict(L);
  luaL_checkany(L, 3);
  (void)set_at(L, o, 2, 3, "set");
  lua_pushboolean(L, 1);
  return 1;
}

static int get_key (lua_State *L) {
  mp_object *o = check_dict(L);
  struct mpl_item k;
  if (!mpl_to_key(L, 2, &k, "mp.Dict") || !push_at(L, o, &k, "mp.Dict")) lua_pushnil(L);
  return 1;
}

static int set_key (lua_State *L) {
  return set_at(L, check_dict(L), 2, 3, "mp.Dict");
}

/* d:update(k, f): the container is held while f runs, so nobody sees or changes the value in between. */
static int l_update (lua_State *L) {
  mp_object *o = check_dict(L);
  struct mpl_item k;
  need_key(L, 2, &k, "update");
  mpl_checkcallable(L, 3);
  lua_settop(L, 3);
  mpl_hold(L, 1, "update");
  lua_pushvalue(L, 3);
  if (!push_at(L, o, &k, "update")) lua_pushnil(L);
  if (lua_gettop(L) != 6) { /* a large value came through a buffer */
    lua_replace(L, 6);
    lua_settop(L, 6);
  }
  lua_call(L, 1, 1);
  (void)set_at(L, o, 2, 5, "update");
  return 1;
}

static int l_incr (lua_State *L) {
  mp_object *o = check_dict(L);
  struct mpi_number n = {0, 1, 0};
  struct mpl_item k;
  int64_t dl;
  int rc;
  need_key(L, 2, &k, "incr");
  if (!lua_isnoneornil(L, 3)) {
    if (lua_type(L, 3) != LUA_TNUMBER) return luaL_typeerror(L, 3, "number");
    n.is_float = !lua_isinteger(L, 3);
    if (n.is_float) n.d = lua_tonumber(L, 3);
    else n.i = lua_tointeger(L, 3);
  }
  CONTAINER_WAIT(L, o, rc, dl, mpi_dict_incr(o, &k.item, &n, dl));
  if (rc != 0) return mpl_container_raise(L, "incr", rc);
  if (n.is_float) lua_pushnumber(L, n.d);
  else lua_pushinteger(L, n.i);
  return 1;
}

static int l_setdefault (lua_State *L) {
  mp_object *o = check_dict(L);
  struct mpl_item k, v;
  struct mpl_room r;
  size_t size = 0;
  int64_t dl;
  int rc;
  need_key(L, 2, &k, "setdefault");
  luaL_argcheck(L, !lua_isnoneornil(L, 3), 3, "a value other than nil expected");
  lua_settop(L, 3);
  mpl_to_item(L, 3, &v, "setdefault");
  MPL_ROOM(r);
  for (;;) { /* nothing is encoded meanwhile, so the parcel keeps the value */
    CONTAINER_WAIT(L, o, rc, dl, mpi_dict_setdefault(o, &k.item, &v.item, r.p, r.room, &size, dl));
    if (rc != MP_E2BIG || size <= r.room) break;
    mpl_more_room(L, &r, size);
    if (v.item.kind == MPI_ITEM_CODED) mpl_to_item(L, 3, &v, "setdefault"); /* a finalizer may have encoded */
  }
  if (rc < 0) return mpl_container_raise(L, "setdefault", rc);
  if (rc == 1) lua_pushvalue(L, 3);
  else mpl_push_item(L, r.p, size, "setdefault");
  return 1;
}

static int l_pop (lua_State *L) {
  mp_object *o = check_dict(L);
  struct mpl_item k;
  struct mpl_room r;
  size_t size = 0;
  int64_t dl;
  int rc;
  luaL_checkany(L, 2);
  lua_settop(L, 3);
  if (!mpl_to_key(L, 2, &k, "pop")) return 1; /* the default */
  MPL_ROOM(r);
  for (;;) {
    CONTAINER_WAIT(L, o, rc, dl, mpi_dict_pop(o, &k.item, r.p, r.room, &size, dl));
    if (rc != MP_E2BIG) break;
    mpl_more_room(L, &r, size);
  }
  if (rc == MP_EEMPTY) {
    lua_pushvalue(L, 3);
    return 1;
  }
  if (rc != 0) return mpl_container_raise(L, "pop", rc);
  mpl_push_item(L, r.p, size, "pop");
  return 1;
}

static int l_clear (lua_State *L) {
  mp_object *o = check_dict(L);
  int64_t dl;
  int rc;
  CONTAINER_WAIT(L, o, rc, dl, mpi_dict_clear(o, dl));
  if (rc != 0) return mpl_container_raise(L, "clear", rc);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_len (lua_State *L) {
  mp_object *o = check_dict(L);
  uint64_t n = 0;
  int64_t dl;
  int rc;
  CONTAINER_WAIT(L, o, rc, dl, mpi_dict_count(o, &n, dl));
  if (rc != 0) return mpl_container_raise(L, "#", rc);
  lua_pushinteger(L, (lua_Integer)n);
  return 1;
}

/* ---- snapshots ---- */

struct reader { /* over packed items, in memory of this state */
  const char *at;
  const char *end;
};

/* Pushes the userdata that holds the copy. */
static struct reader snapshot (lua_State *L, const char *function, uint64_t *n) {
  mp_object *o = check_dict(L);
  struct mpl_room r = {NULL, 0, ""};
  struct reader out;
  size_t size = 0;
  int64_t dl;
  int rc;
  mpl_more_room(L, &r, 64);
  for (;;) {
    CONTAINER_WAIT(L, o, rc, dl, mpi_dict_snapshot(o, r.p, r.room, &size, n, dl));
    if (rc != MP_E2BIG) break;
    lua_pop(L, 1);
    mpl_more_room(L, &r, size);
  }
  if (rc != 0) (void)mpl_container_raise(L, function, rc);
  out.at = r.p;
  out.end = r.p + size;
  return out;
}

/* The packing is our own, the bytes inside are not. */
static void push_next (lua_State *L, struct reader *r, int wanted, const char *function) {
  uint32_t size;
  memcpy(&size, r->at, 4);
  if (wanted) mpl_push_item(L, r->at + 4, size, function);
  r->at += 4 + (size_t)size;
}

static int list_of (lua_State *L, const char *function, int keys, int values) {
  struct reader r;
  uint64_t n = 0;
  lua_Integer i = 0;
  lua_settop(L, 1);
  r = snapshot(L, function, &n);
  lua_createtable(L, n < 1 << 24 ? (int)n : 0, 0);
  while (r.at < r.end) {
    if (keys && values) {
      lua_createtable(L, 2, 0);
      push_next(L, &r, 1, function);
      lua_rawseti(L, -2, 1);
      push_next(L, &r, 1, function);
      lua_rawseti(L, -2, 2);
    } else {
      push_next(L, &r, keys, function);
      push_next(L, &r, values, function);
    }
    lua_rawseti(L, -2, ++i);
  }
  return 1;
}

static int l_keys (lua_State *L) {
  return list_of(L, "keys", 1, 0);
}

static int l_values (lua_State *L) {
  return list_of(L, "values", 0, 1);
}

static int l_copy (lua_State *L) {
  struct reader r;
  uint64_t n = 0;
  lua_settop(L, 1);
  r = snapshot(L, "copy", &n);
  lua_createtable(L, 0, n < 1 << 24 ? (int)n : 0);
  while (r.at < r.end) {
    push_next(L, &r, 1, "copy");
    if (lua_isnil(L, -1)) return mpl_misuse(L, "copy", "the container's memory holds what no correct process writes");
    push_next(L, &r, 1, "copy");
    lua_rawset(L, -3);
  }
  return 1;
}

/* The iterator. Upvalues: the copy, how far it was read, its size. */
static int l_next (lua_State *L) {
  const char *p = lua_touserdata(L, lua_upvalueindex(1));
  struct reader r;
  r.at = p + lua_tointeger(L, lua_upvalueindex(2));
  r.end = p + lua_tointeger(L, lua_upvalueindex(3));
  if (r.at >= r.end) return 0;
  lua_settop(L, 0);
  push_next(L, &r, 1, "pairs");
  push_next(L, &r, 1, "pairs");
  lua_pushinteger(L, (lua_Integer)(r.at - p));
  lua_replace(L, lua_upvalueindex(2));
  return 2;
}

static int l_pairs (lua_State *L) {
  struct reader r;
  uint64_t n;
  lua_settop(L, 1);
  r = snapshot(L, "pairs", &n);
  lua_pushinteger(L, 0);
  lua_pushinteger(L, (lua_Integer)(r.end - r.at));
  lua_pushcclosure(L, l_next, 3);
  return 1;
}

/* A list of {key, value}; lua/mp/containers.lua makes it callable, so that it is an iterator too. */
static int l_items (lua_State *L) {
  return list_of(L, "items", 1, 1);
}

static int l_with (lua_State *L) {
  (void)check_dict(L);
  return mpl_container_with(L);
}

static void describe (mp_object *o, char *text, size_t size) {
  /* Only looks, so that tostring never waits. */
  (void)snprintf(text, size, "%llu", (unsigned long long)mpi_peek(&((struct mpi_store *)o)->root->word[2]));
}

static const luaL_Reg methods[] = {
  {"get", l_get},   {"set", l_set},       {"update", l_update}, {"incr", l_incr}, {"setdefault", l_setdefault}, {"pop", l_pop},
  {"keys", l_keys}, {"values", l_values}, {"items", l_items},   {"copy", l_copy}, {"clear", l_clear},           {"with", l_with},
  {NULL, NULL}};
static const luaL_Reg meta[] = {{"__len", l_len}, {"__pairs", l_pairs}, {NULL, NULL}};
static const mpl_type dict_type = {MPI_T_DICT, "mp.Dict", methods, meta, get_key, set_key, describe};

static int l_new (lua_State *L) {
  mp_object *o;
  int rc;
  mpl_no_more(L, 1, "mp.Dict");
  lua_settop(L, 1);
  if (!lua_isnil(L, 1)) luaL_checktype(L, 1, LUA_TTABLE);
  MPL_NEW(L, rc, mp_dict_new(&o));
  if (rc != 0) return mpl_container_raise(L, "mp.Dict", rc);
  mpl_push(L, o);
  if (lua_isnil(L, 1)) return 1;
  lua_pushnil(L);
  while (lua_next(L, 1) != 0) {
    (void)set_at(L, o, 3, 4, "mp.Dict");
    lua_settop(L, 3);
  }
  return 1;
}

int mpl_open_dict (lua_State *L) {
  mpl_newtype(L, &dict_type);
  lua_pushcfunction(L, l_new);
  lua_setfield(L, -2, "Dict");
  return 0;
}
