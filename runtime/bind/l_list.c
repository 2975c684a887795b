/* l_list.c -- mp.List. Contract: docs/reference/list.md. */
#include "bind/l_items.h"

#include <string.h>

static const mpl_type list_type;

static mp_object *check_list (lua_State *L) {
  return mpl_check(L, 1, &list_type);
}

static int64_t check_position (lua_State *L, int idx, const char *function) {
  lua_Integer i;
  int ok;
  luaL_checkany(L, idx);
  if (lua_type(L, idx) != LUA_TNUMBER) (void)mpl_misuse(L, function, "a position must be an integer, not a %s", luaL_typename(L, idx));
  i = lua_tointegerx(L, idx, &ok);
  if (!ok) (void)mpl_misuse(L, function, "a position must be an integer");
  if (i < 1) (void)mpl_misuse(L, function, "position %lld is out of range", (long long)i); /* to the core 0 means the last */
  return i;
}

static void need_value (lua_State *L, int idx, struct mpl_item *v, const char *function) {
  if (lua_isnoneornil(L, idx)) (void)mpl_misuse(L, function, "a list holds no nil");
  mpl_to_item(L, idx, v, function);
}

static int get_at (lua_State *L, mp_object *o, int64_t at, const char *function) {
  struct mpl_room r;
  size_t size = 0;
  int64_t dl;
  int rc;
  MPL_ROOM(r);
  for (;;) {
    CONTAINER_WAIT(L, o, rc, dl, mpi_list_get(o, at, r.p, r.room, &size, dl));
    if (rc != MP_E2BIG) break;
    mpl_more_room(L, &r, size);
  }
  if (rc == MP_EEMPTY) lua_pushnil(L);
  else if (rc != 0) return mpl_container_raise(L, function, rc);
  else mpl_push_item(L, r.p, size, function);
  return 1;
}

static int pop_at (lua_State *L, mp_object *o, int64_t at, const char *function) {
  struct mpl_room r;
  size_t size = 0;
  int64_t dl;
  int rc;
  MPL_ROOM(r);
  for (;;) {
    CONTAINER_WAIT(L, o, rc, dl, mpi_list_pop(o, at, r.p, r.room, &size, dl));
    if (rc != MP_E2BIG) break;
    mpl_more_room(L, &r, size);
  }
  if (rc == MP_EEMPTY) lua_pushnil(L);
  else if (rc != 0) return mpl_container_raise(L, function, rc);
  else mpl_push_item(L, r.p, size, function);
  return 1;
}

static void set_at (lua_State *L, mp_object *o, int64_t at, int idx, const char *function) {
  struct mpl_item v;
  int64_t dl;
  int rc;
  need_value(L, idx, &v, function);
  CONTAINER_WAIT(L, o, rc, dl, mpi_list_set(o, at, &v.item, dl));
  if (rc != 0) (void)mpl_container_raise(L, function, rc);
}

static uint64_t count (lua_State *L, mp_object *o) {
  uint64_t n = 0;
  int64_t dl;
  int rc;
  CONTAINER_WAIT(L, o, rc, dl, mpi_list_count(o, &n, dl));
  if (rc != 0) (void)mpl_container_raise(L, "#", rc);
  return n;
}

static int l_get (lua_State *L) {
  mp_object *o = check_list(L);
  return get_at(L, o, check_position(L, 2, "get"), "get");
}

static int l_set (lua_State *L) {
  mp_object *o = check_list(L);
  set_at(L, o, check_position(L, 2, "set"), 3, "set");
  lua_pushboolean(L, 1);
  return 1;
}

static int get_element (lua_State *L) {
  mp_object *o = check_list(L);
  if (lua_type(L, 2) != LUA_TNUMBER) return 0;
  return get_at(L, o, check_position(L, 2, "mp.List"), "mp.List");
}

static int set_element (lua_State *L) {
  mp_object *o = check_list(L);
  if (lua_type(L, 2) != LUA_TNUMBER) return luaL_error(L, "mp.List: field '%s' cannot be set", luaL_tolstring(L, 2, NULL));
  if (lua_isnil(L, 3)) return mpl_misuse(L, "mp.List", "a list holds no nil; use pop or remove");
  set_at(L, o, check_position(L, 2, "mp.List"), 3, "mp.List");
  return 0;
}

static int l_append (lua_State *L) {
  mp_object *o = check_list(L);
  struct mpl_item v;
  int64_t dl;
  int rc;
  need_value(L, 2, &v, "append");
  CONTAINER_WAIT(L, o, rc, dl, mpi_list_append(o, &v.item, dl));
  if (rc != 0) return mpl_container_raise(L, "append", rc);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- packed items in a userdata ---- */

struct pack {
  char *p;
  size_t size;
  size_t room;
  int slot; /* of the userdata */
};

static void pack_item (lua_State *L, struct pack *b, const struct mpi_item *v) {
  size_t need = b->size + 5 + v->size;
  uint32_t size = (uint32_t)v->size + 1;
  if (v->size >= MPI_ITEM_MAX) (void)luaL_error(L, "a value of a container is at most 2 GiB");
  if (need > b->room) {
    size_t room = need + need / 2 + 256;
    char *p = lua_newuserdatauv(L, room, 0);
    if (b->size != 0) memcpy(p, b->p, b->size);
    lua_replace(L, b->slot);
    b->p = p;
    b->room = room;
  }
  memcpy(b->p + b->size, &size, 4);
  b->p[b->size + 4] = (char)v->kind;
  memcpy(b->p + b->size + 5, v->data, v->size);
  b->size = need;
}

/* A list has no other keys than 1 to its length, and perhaps n: others are not dropped without a word. */
static void refuse_other_keys (lua_State *L, int idx, lua_Integer n, const char *function) {
  if (luaL_getmetafield(L, idx, "__len") != LUA_TNIL || luaL_getmetafield(L, idx, "__index") != LUA_TNIL) { /* it says itself what is in it */
    lua_pop(L, 1);
    return;
  }
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
    int whole = lua_isinteger(L, -2);
    lua_Integer i = whole ? lua_tointeger(L, -2) : 0;
    if (whole ? i >= 1 && i <= n : lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), "n") == 0) continue;
    lua_pushvalue(L, -2);
    (void)mpl_misuse(L, function, "a list has no key '%s'", luaL_tolstring(L, -1, NULL));
  }
}

/* The elements of the table at idx, packed; pushes what holds them. The item's bytes may lie in the parcel, and making room may run
** a finalizer that encodes: so room for a coded item is made before it is encoded again. */
static struct pack pack_table (lua_State *L, int idx, lua_Integer *n, const char *function) {
  struct pack b = {NULL, 0, 0, 0};
  lua_Integer i;
  *n = luaL_len(L, idx);
  refuse_other_keys(L, idx, *n, function);
  lua_pushnil(L);
  b.slot = lua_gettop(L);
  for (i = 1; i <= *n; i++) {
    struct mpl_item v;
    (void)lua_geti(L, idx, i);
    if (lua_isnil(L, -1)) (void)mpl_misuse(L, function, "a list holds no nil (element %lld)", (long long)i);
    mpl_to_item(L, -1, &v, function);
    if (v.item.kind == MPI_ITEM_CODED && b.size + 5 + v.item.size > b.room) {
      struct mpi_item none = {MPI_ITEM_STR, v.item.size, ""};
      size_t size = b.size, room = size + 5 + none.size;
      char *p = lua_newuserdatauv(L, room + room / 2 + 256, 0);
      if (size != 0) memcpy(p, b.p, size);
      lua_replace(L, b.slot);
      b.p = p;
      b.room = room + room / 2 + 256;
      mpl_to_item(L, -1, &v, function);
    }
    pack_item(L, &b, &v.item);
    lua_pop(L, 1);
  }
  return b;
}

static int insert_packed (lua_State *L, mp_object *o, int64_t at, const char *p, size_t size, uint64_t n, const char *function) {
  int64_t dl;
  int rc;
  CONTAINER_WAIT(L, o, rc, dl, mpi_list_insert(o, at, p, size, n, dl));
  if (rc != 0) return mpl_container_raise(L, function, rc);
  lua_pushboolean(L, 1);
  return 1;
}

struct reader {
  const char *at;
  const char *end;
};

/* A copy of all items; pushes the userdata that holds it and, if slots are wanted, one with them. */
static struct reader snapshot (lua_State *L, mp_object *o, const char *function, uint64_t *n, uint64_t **slots) {
  struct reader out;
  size_t size = 0, room = 64;
  uint64_t slots_room = 8;
  char *p;
  int64_t dl;
  int rc;
  luaL_checkstack(L, 4, NULL);
  for (;;) {
    p = lua_newuserdatauv(L, room, 0);
    if (slots != NULL) *slots = lua_newuserdatauv(L, slots_room * sizeof **slots, 0);
    CONTAINER_WAIT(L, o, rc, dl, mpi_list_snapshot(o, p, room, &size, slots != NULL ? *slots : NULL, slots_room, n, dl));
    if (rc != MP_E2BIG) break;
    lua_pop(L, slots != NULL ? 2 : 1);
    room = size + size / 8 + 64;
    slots_room = *n + *n / 8 + 8;
  }
  if (rc != 0) (void)mpl_container_raise(L, function, rc);
  out.at = p;
  out.end = p + size;
  return out;
}

static void push_next (lua_State *L, struct reader *r, const char *function) {
  uint32_t size;
  memcpy(&size, r->at, 4);
  mpl_push_item(L, r->at + 4, size, function);
  r->at += 4 + (size_t)size;
}

static void push_table (lua_State *L, struct reader *r, uint64_t n, const char *function) {
  lua_Integer i = 0;
  lua_createtable(L, n < 1 << 24 ? (int)n : 0, 0);
  while (r->at < r->end) {
    push_next(L, r, function);
    lua_rawseti(L, -2, ++i);
  }
}

static int l_extend (lua_State *L) {
  mp_object *o = check_list(L), *other;
  lua_settop(L, 2);
  other = mpl_test(L, 2);
  if (other != NULL && other->type == &mpi_type_list) { /* plain bytes go over as they are */
    uint64_t n = 0;
    struct reader r = snapshot(L, other, "extend", &n, NULL);
    return insert_packed(L, o, 0, r.at, (size_t)(r.end - r.at), n, "extend");
  } else {
    lua_Integer n = 0;
    struct pack b;
    luaL_checktype(L, 2, LUA_TTABLE);
    b = pack_table(L, 2, &n, "extend");
    mpl_still(L, 1, o);
    return insert_packed(L, o, 0, b.p, b.size, (uint64_t)n, "extend");
  }
}

static int l_insert (lua_State *L) {
  mp_object *o = check_list(L);
  int64_t at = check_position(L, 2, "insert");
  struct pack b = {NULL, 0, 0, 0};
  lua_settop(L, 3);
  if (lua_isnil(L, 3)) return mpl_misuse(L, "insert", "a list holds no nil");
  lua_createtable(L, 1, 0);
  lua_pushvalue(L, 3);
  lua_rawseti(L, 4, 1);
  {
    lua_Integer n;
    b = pack_table(L, 4, &n, "insert");
  }
  mpl_still(L, 1, o);
  return insert_packed(L, o, at, b.p, b.size, 1, "insert");
}

static int l_pop (lua_State *L) {
  mp_object *o = check_list(L);
  return pop_at(L, o, lua_isnoneornil(L, 2) ? 0 : check_position(L, 2, "pop"), "pop");
}

/* The item to look for, as [kind][payload], on the stack. */
static const char *push_wanted (lua_State *L, int idx, size_t *size, const char *function) {
  struct pack b = {NULL, 0, 0, 0};
  struct mpl_item v;
  lua_pushnil(L);
  b.slot = lua_gettop(L);
  mpl_to_item(L, idx, &v, function);
  if (v.item.kind == MPI_ITEM_CODED) { /* room before bytes, as above */
    b.p = lua_newuserdatauv(L, v.item.size + 64, 0);
    b.room = v.item.size + 64;
    lua_replace(L, b.slot);
    mpl_to_item(L, idx, &v, function);
  }
  pack_item(L, &b, &v.item);
  *size = b.size - 4;
  return b.p + 4;
}

/* ---- finding tables ----
** How a table is written depends on how it was filled, so its bytes tell little: tables are compared as Lua values, the list being held. */

/* Have the tables at a and b (absolute) equal keys with equal values? What they hold as tables is put off: pairs of them go into the list at
** `later`. Keys that are tables equal none. */
static int same_fields (lua_State *L, int a, int b, int later) {
  lua_Integer fields = 0, more = (lua_Integer)lua_rawlen(L, later);
  lua_pushnil(L);
  while (lua_next(L, a) != 0) {
    fields++;
    lua_pushvalue(L, -2);
    (void)lua_rawget(L, b); /* key, value of a, value of b */
    if (lua_istable(L, -1) && lua_istable(L, -2)) {
      lua_rawseti(L, later, ++more);
      lua_rawseti(L, later, ++more);
    } else {
      if (!lua_rawequal(L, -1, -2)) return 0;
      lua_pop(L, 2);
    }
  }
  lua_pushnil(L);
  while (lua_next(L, b) != 0) {
    lua_pop(L, 1);
    fields--;
  }
  return fields == 0;
}

/* Notes that the tables at a and b are being compared; 0 if they were before. The table at `seen` has a set for each a. */
static int note_pair (lua_State *L, int a, int b, int seen) {
  int before;
  lua_pushvalue(L, a);
  if (lua_rawget(L, seen) == LUA_TNIL) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, a);
    lua_pushvalue(L, -2);
    lua_rawset(L, seen);
  }
  lua_pushvalue(L, b);
  before = lua_rawget(L, -2) != LUA_TNIL;
  lua_pop(L, 1);
  lua_pushvalue(L, b);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pop(L, 1);
  return !before;
}

/* Tables of any depth and with cycles: no recursion. */
static int same_tables (lua_State *L, int a, int b) {
  int top = lua_gettop(L), later = top + 1, seen = top + 2, same = 1;
  luaL_checkstack(L, 16, NULL);
  lua_newtable(L);
  lua_newtable(L);
  lua_pushvalue(L, b);
  lua_pushvalue(L, a);
  for (;;) { /* a pair is at the top */
    lua_Integer n;
    if (note_pair(L, top + 4, top + 3, seen)) same = same_fields(L, top + 4, top + 3, later);
    if (!same) break;
    lua_settop(L, seen);
    n = (lua_Integer)lua_rawlen(L, later);
    if (n == 0) break;
    (void)lua_rawgeti(L, later, n - 1);
    (void)lua_rawgeti(L, later, n);
    lua_pushnil(L);
    lua_rawseti(L, later, n);
    lua_pushnil(L);
    lua_rawseti(L, later, n - 1);
  }
  lua_settop(L, top);
  return same;
}

/* The position of the first item that equals the table at 2, or 0. Holds the list until the caller returns. */
static uint64_t find_table (lua_State *L, mp_object *o, const char *function) {
  uint64_t n = 0, at = 0;
  const char *item;
  size_t size;
  struct reader r;
  lua_settop(L, 2);
  mpl_hold(L, 1, function);
  item = push_wanted(L, 2, &size, function); /* refuses what can be in no list */
  r = snapshot(L, o, function, &n, NULL);
  while (r.at < r.end) {
    uint32_t len;
    int same;
    at++;
    memcpy(&len, r.at, 4);
    same = len == size && memcmp(r.at + 4, item, size) == 0;
    if (!same && len > 0 && r.at[4] == MPI_ITEM_CODED) {
      mpl_push_item(L, r.at + 4, len, function);
      same = lua_istable(L, -1) && same_tables(L, 2, lua_gettop(L));
      lua_pop(L, 1);
    }
    if (same) return at;
    r.at += 4 + (size_t)len;
  }
  return 0;
}

static int l_remove (lua_State *L) {
  mp_object *o = check_list(L);
  const char *item;
  size_t size;
  int64_t dl;
  int rc = 0;
  luaL_checkany(L, 2);
  if (lua_istable(L, 2)) {
    uint64_t at = find_table(L, o, "remove");
    if (at != 0) (void)pop_at(L, o, (int64_t)at, "remove");
    lua_pushboolean(L, at != 0);
    return 1;
  }
  if (!lua_isnil(L, 2)) {
    item = push_wanted(L, 2, &size, "remove");
    CONTAINER_WAIT(L, o, rc, dl, mpi_list_remove(o, item, size, dl));
  }
  if (rc < 0) return mpl_container_raise(L, "remove", rc);
  lua_pushboolean(L, rc);
  return 1;
}

static int l_index_of (lua_State *L) {
  mp_object *o = check_list(L);
  const char *item;
  uint64_t at = 0;
  size_t size;
  int64_t dl;
  int rc = 0;
  luaL_checkany(L, 2);
  if (lua_istable(L, 2)) {
    at = find_table(L, o, "index");
  } else if (!lua_isnil(L, 2)) {
    item = push_wanted(L, 2, &size, "index");
    CONTAINER_WAIT(L, o, rc, dl, mpi_list_index(o, item, size, &at, dl));
  }
  if (rc < 0) return mpl_container_raise(L, "index", rc);
  if (at == 0) lua_pushnil(L);
  else lua_pushinteger(L, (lua_Integer)at);
  return 1;
}

static int l_reverse (lua_State *L) {
  mp_object *o = check_list(L);
  int64_t dl;
  int rc;
  CONTAINER_WAIT(L, o, rc, dl, mpi_list_reverse(o, dl));
  if (rc != 0) return mpl_container_raise(L, "reverse", rc);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_clear (lua_State *L) {
  mp_object *o = check_list(L);
  int64_t dl;
  int rc;
  CONTAINER_WAIT(L, o, rc, dl, mpi_list_clear(o, dl));
  if (rc != 0) return mpl_container_raise(L, "clear", rc);
  lua_pushboolean(L, 1);
  return 1;
}

/* Is item a (a position in the table at 6) less than item b? By cmp at 2 if there is one. */
static int less (lua_State *L, uint64_t a, uint64_t b) {
  int yes;
  if (lua_isnil(L, 2)) {
    int ta = lua_rawgeti(L, 6, (lua_Integer)a);
    int tb = lua_rawgeti(L, 6, (lua_Integer)b);
    if (ta != tb || (ta != LUA_TNUMBER && ta != LUA_TSTRING))
      (void)mpl_misuse(L, "sort", "cannot compare a %s with a %s", lua_typename(L, ta), lua_typename(L, tb));
    yes = lua_compare(L, -2, -1, LUA_OPLT);
    lua_pop(L, 2);
  } else {
    lua_pushvalue(L, 2);
    (void)lua_rawgeti(L, 6, (lua_Integer)a);
    (void)lua_rawgeti(L, 6, (lua_Integer)b);
    lua_call(L, 2, 1);
    yes = lua_toboolean(L, -1);
    lua_pop(L, 1);
  }
  return yes;
}

/* Merge sort: equal items keep their order, and a comparison that contradicts itself does no harm. Gives the array that has the result. */
static uint64_t *merge_sort (lua_State *L, uint64_t *from, uint64_t *to, uint64_t n) {
  uint64_t width, low, k, *swap;
  for (k = 0; k < n; k++) from[k] = k + 1;
  for (width = 1; width < n; width *= 2) {
    for (low = 0; low < n; low += 2 * width) {
      uint64_t a = low, mid = low + width < n ? low + width : n, b = mid, high = mid + width < n ? mid + width : n;
      for (k = low; k < high; k++) {
        int right = a >= mid || (b < high && less(L, from[b], from[a]));
        to[k] = right ? from[b++] : from[a++];
      }
    }
    swap = from;
    from = to;
    to = swap;
  }
  return from;
}

/* l:sort([cmp]); the list is held meanwhile. */
static int l_sort (lua_State *L) {
  mp_object *o = check_list(L);
  uint64_t n = 0, *slots = NULL, *order;
  unsigned char *scratch;
  struct reader r;
  int64_t dl;
  int rc;
  if (!lua_isnoneornil(L, 2)) luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  mpl_hold(L, 1, "sort");
  r = snapshot(L, o, "sort", &n, &slots); /* 4, 5 */
  push_table(L, &r, n, "sort");           /* 6 */
  order = lua_newuserdatauv(L, 2 * (size_t)n * sizeof *order + 1, 0);
  scratch = lua_newuserdatauv(L, (size_t)n + 1, 0);
  order = merge_sort(L, order, order + n, n);
  CONTAINER_WAIT(L, o, rc, dl, mpi_list_reorder(o, slots, order, scratch, n, dl));
  if (rc != 0) return mpl_container_raise(L, "sort", rc);
  lua_pushboolean(L, 1);
  return 1;
}

static int l_copy (lua_State *L) {
  mp_object *o = check_list(L);
  uint64_t n = 0;
  struct reader r = snapshot(L, o, "copy", &n, NULL);
  push_table(L, &r, n, "copy");
  return 1;
}

static int l_len (lua_State *L) {
  mp_object *o = check_list(L);
  lua_pushinteger(L, (lua_Integer)count(L, o));
  return 1;
}

static int l_next (lua_State *L) { /* arguments: a table, a position */
  lua_Integer i = luaL_checkinteger(L, 2) + 1;
  lua_pushinteger(L, i);
  return lua_rawgeti(L, 1, i) == LUA_TNIL ? 1 : 2;
}

static int l_pairs (lua_State *L) { /* over a snapshot */
  lua_settop(L, 1);
  (void)l_copy(L);
  lua_pushcfunction(L, l_next);
  lua_insert(L, -2);
  lua_pushinteger(L, 0);
  return 3;
}

static int l_with (lua_State *L) {
  (void)check_list(L);
  return mpl_container_with(L);
}

static void describe (mp_object *o, char *text, size_t size) {
  (void)snprintf(text, size, "%llu", (unsigned long long)mpi_peek(&((struct mpi_store *)o)->root->word[2]));
}

static const luaL_Reg methods[] = {
  {"get", l_get},       {"set", l_set},     {"append", l_append}, {"extend", l_extend}, {"insert", l_insert}, {"pop", l_pop},
  {"remove", l_remove}, {"index", l_index_of}, {"sort", l_sort}, {"reverse", l_reverse}, {"copy", l_copy}, {"clear", l_clear}, {"with", l_with},
  {NULL, NULL}};
static const luaL_Reg meta[] = {{"__len", l_len}, {"__pairs", l_pairs}, {NULL, NULL}};
static const mpl_type list_type = {MPI_T_LIST, "mp.List", methods, meta, get_element, set_element, describe};

static int l_new (lua_State *L) {
  mp_object *o;
  int rc;
  mpl_no_more(L, 1, "mp.List");
  lua_settop(L, 1);
  if (!lua_isnil(L, 1)) luaL_checktype(L, 1, LUA_TTABLE);
  MPL_NEW(L, rc, mp_list_new(&o));
  if (rc != 0) return mpl_container_raise(L, "mp.List", rc);
  mpl_push(L, o);
  if (!lua_isnil(L, 1)) {
    lua_Integer n;
    struct pack b = pack_table(L, 1, &n, "mp.List");
    (void)insert_packed(L, o, 0, b.p, b.size, (uint64_t)n, "mp.List");
  }
  lua_settop(L, 2);
  return 1;
}

int mpl_open_list (lua_State *L) {
  mpl_newtype(L, &list_type);
  lua_pushcfunction(L, l_new);
  lua_setfield(L, -2, "List");
  return 0;
}
