/* encode.c -- Lua values to bytes.
**
** A value that contains others is a frame on a stack of our own (level->frames), not a C call: depth costs memory only. A frame owns the Lua
** stack from `base` on, where its object lies; a table being walked has its key at base + 1. When a child is done it has been popped, and
** its parent goes on.
**
** Arrays and maps are told apart while they are written: a table with a border is written as an array as long as its keys come as
** 1, 2, 3 ... (they do, if they are nothing else). As soon as a child would be written before that is known, the rest of the keys is looked at
** first. So only scalars are ever written twice, and each table is walked at most twice, however they nest.
**
** Longer than 500 lines: one recursion, cut at its natural joints.
*/
#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/copy.h"
#include "base/fd.h"
#include "bind/codec_state.h"
#include "bind/udata.h"
#include "wire/wire.h"

enum { K_TABLE, K_ARRAY, K_MAP, K_FUNC, K_BODY, K_ERROR }; /* K_TABLE: an array or a map, the first key tells */
/* What a step says. AGAIN: go on with the frame that is now the last one. FAILED: the reason (a string) is on the stack's top. RESTART: the
** names of modules have changed under us. */
enum { DONE = 0, AGAIN = 1, FAILED = -1, RESTART = -2 };

/* A frame's flag. Tables: the head is right, and the keys of an array have been looked at. Bodies: the child is a dump, or the same table raw. */
enum { KNOWN = 1, DUMPED = 2, RAW = 3 };

struct enc {
  lua_State *L;
  struct mpl_codec *c;
  struct mpl_level *v;
  struct mpl_parcel *p;
  const struct mpl_encoding *how;
  unsigned char *at, *end;
  size_t depth, checked;
  uint32_t id;
  int top; /* the stack before us */
  char refs, fresh, dumping;
};

static const struct mpl_encoding ordinary = {NULL, NULL, NULL, 0};

/* ---- room ---- */

static void more (struct enc *e, size_t n) {
  size_t used = (size_t)(e->at - e->p->data);
  if (mpl_parcel_reserve(e->p, used + n, 0) != 0) luaL_error(e->L, "not enough memory");
  e->at = e->p->data + used;
  e->end = e->p->data + e->p->room;
}

static inline void room (struct enc *e, size_t n) {
  if ((size_t)(e->end - e->at) < n) more(e, n);
}

static size_t offset (const struct enc *e) {
  return (size_t)(e->at - e->p->data);
}

/* ---- refusing ---- */

static int refuse (struct enc *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int refuse (struct enc *e, const char *fmt, ...) {
  char text[300];
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  (void)lua_checkstack(e->L, 4);
  lua_pushstring(e->L, text);
  return FAILED;
}

/* ---- numbers of things ---- */

static void slots_new (struct enc *e, uint32_t count) {
  struct mpl_slot *s = calloc(count, sizeof *s);
  if (s == NULL) luaL_error(e->L, "not enough memory");
  free(e->v->slots);
  e->v->slots = s;
  e->v->mask = count - 1;
  e->v->gen = 1;
}

static void slots_begin (struct enc *e) {
  struct mpl_level *v = e->v;
  v->used = 0;
  if (v->slots == NULL || v->mask > 0xffff || v->gen == UINT32_MAX) slots_new(e, 256);
  else v->gen++;
}

static void slots_grow (struct enc *e) {
  struct mpl_level *v = e->v;
  struct mpl_slot *old = v->slots;
  uint32_t i, n = v->mask + 1, gen = v->gen;
  v->slots = NULL;
  slots_new(e, n * 4);
  for (i = 0; i < n; i++) {
    uint32_t h;
    if (old[i].gen != gen || old[i].what == NULL) continue;
    for (h = mpl_address_hash(old[i].what) & v->mask; v->slots[h].gen == 1; h = (h + 1) & v->mask) {}
    v->slots[h] = old[i];
    v->slots[h].gen = 1;
  }
  free(old);
}

/* The number of `what` if it has one, else 0, and it gets the next. */
static uint32_t number (struct enc *e, const void *what) {
  struct mpl_level *v = e->v;
  uint32_t h = mpl_address_hash(what) & v->mask;
  for (; v->slots[h].gen == v->gen; h = (h + 1) & v->mask)
    if (v->slots[h].what == what) return v->slots[h].id;
  v->slots[h].what = what;
  v->slots[h].gen = v->gen;
  v->slots[h].id = ++e->id;
  if (++v->used > v->mask / 2) slots_grow(e);
  return 0;
}

/* Forgets numbers above `id`. They stay as used slots, so that searches pass over them. */
static void renumber (struct enc *e, uint32_t id) {
  struct mpl_level *v = e->v;
  uint32_t i;
  for (i = 0; i <= v->mask; i++)
    if (v->slots[i].gen == v->gen && v->slots[i].id > id) v->slots[i].what = NULL;
  e->id = id;
}

static int put_ref (struct enc *e, uint32_t id) {
  size_t i;
  for (i = e->dumping ? e->depth : 0; i > 0; i--)
    if (e->v->frames[i - 1].flag == DUMPED && e->v->frames[i - 1].id == id)
      return refuse(e, "an object that its own dump function leads back to cannot be sent");
  room(e, MPI_W_HEAD_ROOM);
  e->at = mpi_put_ext_uint(e->at, MPI_X_REF, id);
  e->refs = 1;
  lua_pop(e->L, 1);
  return DONE;
}

/* ---- scalars ---- */

static inline int put_string (struct enc *e, int idx) {
  size_t len;
  const char *s = lua_tolstring(e->L, idx, &len);
  if (len < 32) {
    room(e, 40);
    *e->at = (unsigned char)(0xa0u | len);
    mpi_copy(e->at + 1, s, len);
    e->at += 1 + len;
    return 1;
  }
  if (len > UINT32_MAX - 64) return refuse(e, "a string of 4 GiB or more cannot be sent");
  room(e, len + MPI_W_HEAD_ROOM);
  e->at = mpi_put_str_head(e->at, (uint32_t)len);
  memcpy(e->at, s, len);
  e->at += len;
  return 1;
}

/* 1: written, 0: no scalar, FAILED. Strings are tolerated only in place (no number is converted). */
static inline int scalar (struct enc *e, int idx) {
  lua_State *L = e->L;
  switch (lua_type(L, idx)) {
    case LUA_TNUMBER:
      room(e, MPI_W_HEAD_ROOM);
      if (lua_isinteger(L, idx)) e->at = mpi_put_int(e->at, lua_tointegerx(L, idx, NULL));
      else e->at = mpi_put_float(e->at, lua_tonumberx(L, idx, NULL));
      return 1;
    case LUA_TSTRING: return put_string(e, idx);
    case LUA_TBOOLEAN:
      room(e, MPI_W_HEAD_ROOM);
      e->at = mpi_put_bool(e->at, lua_toboolean(L, idx));
      return 1;
    case LUA_TNIL:
      room(e, MPI_W_HEAD_ROOM);
      e->at = mpi_put_nil(e->at);
      return 1;
    default: return 0;
  }
}

static inline int scalar_key (struct enc *e) {
  return lua_type(e->L, -2) == LUA_TSTRING ? put_string(e, -2) : scalar(e, -2);
}

static void put_text (struct enc *e, const char *s) {
  size_t len = strlen(s);
  room(e, len + MPI_W_HEAD_ROOM);
  e->at = mpi_put_str_head(e->at, (uint32_t)len);
  memcpy(e->at, s, len);
  e->at += len;
}

static void put_integer (struct enc *e, int64_t i) {
  room(e, MPI_W_HEAD_ROOM);
  e->at = mpi_put_int(e->at, i);
}

static void put_bytes (struct enc *e, const void *p, size_t n) {
  room(e, n);
  memcpy(e->at, p, n);
  e->at += n;
}

static size_t ext_open (struct enc *e, int ext) {
  size_t mark;
  room(e, MPI_W_HEAD_ROOM);
  mark = offset(e);
  e->at = mpi_put_ext_open(e->at, ext);
  return mark;
}

static int ext_close (struct enc *e, size_t mark) {
  size_t payload = offset(e) - mark - MPI_W_EXT_OPEN;
  if (payload > UINT32_MAX) return refuse(e, "an object with 4 GiB of data or more cannot be sent");
  mpi_put_ext_close(e->p->data + mark, (uint32_t)payload);
  return DONE;
}

/* ---- frames ---- */

/* A frame whose object lies at the top of the stack. */
static struct mpl_frame *push_frame (struct enc *e, int kind) {
  struct mpl_frame *f;
  if (e->depth == e->v->room) {
    size_t n = e->v->room == 0 ? 32 : e->v->room * 2;
    f = realloc(e->v->frames, n * sizeof *f);
    if (f == NULL) luaL_error(e->L, "not enough memory");
    e->v->frames = f;
    e->v->room = n;
  }
  f = &e->v->frames[e->depth];
  f->kind = (unsigned char)kind;
  f->stage = f->flag = 0;
  f->base = lua_gettop(e->L);
  f->i = f->n = 0;
  e->depth++;
  return f;
}

/* Room on the Lua stack for one more level. */
static int deeper (struct enc *e) {
  if (e->depth < e->checked) return 1;
  if (e->depth >= (e->how->flags & MPL_DATA_ONLY ? MPL_DEPTH_KEPT : MPL_DEPTH_MAX) || !lua_checkstack(e->L, 16 * 4 + 20)) return 0;
  e->checked = e->depth + 16;
  return 1;
}

/* ---- tables ---- */

/* The one-byte head at mark becomes one for n entries. */
static void set_head (struct enc *e, size_t mark, int map, uint32_t n) {
  unsigned char head[8];
  size_t len;
  if (n < 16) {
    e->p->data[mark] = (unsigned char)((map ? 0x80u : 0x90u) | n);
    return;
  }
  len = (size_t)((map ? mpi_put_map_head(head, n) : mpi_put_array_head(head, n)) - head);
  if (len > 1) {
    unsigned char *from;
    room(e, len);
    from = e->p->data + mark + 1;
    memmove(from + len - 1, from, (size_t)(e->at - from));
    e->at += len - 1;
  }
  memcpy(e->p->data + mark, head, len);
}

enum { IN_VALUE = 0, IN_KEY = 1 }; /* stages of a map whose child is at work */

/* As an array, if it has a 1 and that comes first. */
static void begin_table (struct enc *e) {
  struct mpl_frame *f = push_frame(e, K_TABLE);
  room(e, MPI_W_HEAD_ROOM);
  f->mark = offset(e);
  e->at++;
  lua_pushnil(e->L);
}

/* Stack: table key value. Counts the pairs from this one on; 0 if it is an array and a key is not the next. */
static int look_ahead (lua_State *L, struct mpl_frame *f) {
  uint32_t n = f->i;
  lua_pushvalue(L, -2);
  do {
    n++;
    if (f->kind == K_ARRAY) {
      if (!lua_isinteger(L, -1) || lua_tointegerx(L, -1, NULL) != (lua_Integer)n) {
        lua_pop(L, 1);
        return 0;
      }
    }
    if (!lua_next(L, f->base)) break;
    lua_pop(L, 1);
  } while (1);
  f->n = n;
  return 1;
}

static int open_value (struct enc *e);

/* Written so far: scalars only. Again, as a map. */
static void not_an_array (struct enc *e, struct mpl_frame *f) {
  lua_settop(e->L, f->base);
  lua_pushnil(e->L);
  e->at = e->p->data + f->mark + 1;
  f->kind = K_MAP;
  f->i = 0;
}

/* Code that runs meanwhile (dump functions, finalizers) may change a table that has been counted. */
static int end_table (struct enc *e, struct mpl_frame *f, int map) {
  if (!f->flag) set_head(e, f->mark, map, f->i);
  else if (f->i != f->n) return refuse(e, "a table changed while it was being sent");
  return DONE;
}

static int step_array (struct enc *e, int first) {
  lua_State *L = e->L;
  size_t me = e->depth - 1;
  struct mpl_frame *f = &e->v->frames[me];
  int r;
  if (first) goto element;
  while (lua_next(L, f->base)) {
    if (!f->flag && (!lua_isinteger(L, -2) || lua_tointegerx(L, -2, NULL) != (lua_Integer)f->i + 1)) {
      not_an_array(e, f);
      return AGAIN;
    }
  element:
    r = scalar(e, -1);
    if (r == 0) {
      if (!f->flag) {
        if (!look_ahead(L, f)) {
          not_an_array(e, f);
          return AGAIN;
        }
        set_head(e, f->mark, 0, f->n);
        f->flag = KNOWN;
      }
      f->i++;
      r = open_value(e);
      if (r != DONE) return r;
      f = &e->v->frames[me];
      continue;
    }
    if (r < 0) return r;
    lua_pop(L, 1);
    f->i++;
  }
  return end_table(e, f, 0);
}

/* Stack: table key value. How many pairs there are; what is written behind the head moves along. */
static void know_map (struct enc *e, struct mpl_frame *f) {
  if (f->flag) return;
  (void)look_ahead(e->L, f);
  set_head(e, f->mark, 1, f->n);
  f->flag = KNOWN;
}

static int step_map (struct enc *e, int first) {
  lua_State *L = e->L;
  size_t me = e->depth - 1;
  struct mpl_frame *f = &e->v->frames[me];
  int r;
  if (first) goto pair; /* table key value, and nothing is written yet */
  if (f->stage == IN_KEY) { /* a key that is no scalar has been written: table key value */
    f->stage = IN_VALUE;
    goto value;
  }
  while (lua_next(L, f->base)) {
  pair:
    r = scalar_key(e);
    if (r < 0) return r;
    if (r == 0) {
      know_map(e, f);
      f->stage = IN_KEY;
      lua_pushvalue(L, -2);
      r = open_value(e);
      if (r != DONE) return r;
      f = &e->v->frames[me];
      f->stage = IN_VALUE;
    }
  value:
    r = scalar(e, -1);
    if (r < 0) return r;
    if (r == 0) {
      know_map(e, f);
      f->i++;
      r = open_value(e);
      if (r != DONE) return r;
      f = &e->v->frames[me];
      continue;
    }
    lua_pop(L, 1);
    f->i++;
  }
  return end_table(e, f, 1);
}

static int step_table (struct enc *e) {
  lua_State *L = e->L;
  struct mpl_frame *f = &e->v->frames[e->depth - 1];
  f->kind = K_MAP;
  if (!lua_next(L, f->base)) {
    set_head(e, f->mark, 1, 0);
    return DONE;
  }
  if (lua_type(L, -2) == LUA_TSTRING || !lua_isinteger(L, -2) || lua_tointegerx(L, -2, NULL) != 1) return step_map(e, 1);
  f->kind = K_ARRAY;
  return step_array(e, 1);
}

static int open_named (struct enc *e) {
  lua_State *L = e->L;
  size_t len;
  const char *s;
  if (!mpl_names_push(L, e->c, lua_gettop(L))) return 0;
  if (e->how->flags & MPL_DATA_ONLY) return refuse(e, "a %s of a module cannot be kept here, only data", luaL_typename(L, -2));
  s = lua_tolstring(L, -1, &len);
  room(e, len + MPI_W_HEAD_ROOM);
  e->at = mpi_put_ext_head(e->at, MPI_X_NAME, (uint32_t)len);
  put_bytes(e, s, len);
  lua_pop(L, 2);
  return 1;
}

/* ---- functions ---- */

static int add_dump (lua_State *L, const void *p, size_t n, void *ud) {
  struct mpl_codec *c = ud;
  (void)L;
  if (c->scratch_room - c->scratch_used < n) {
    size_t want = (c->scratch_used + n) * 2;
    unsigned char *s = realloc(c->scratch, want);
    if (s == NULL) return 1;
    c->scratch = s;
    c->scratch_room = want;
  }
  memcpy(c->scratch + c->scratch_used, p, n);
  c->scratch_used += n;
  return 0;
}

/* Pushes the hash and the dump of the function at the top, as one string. */
static void push_dump (struct enc *e) {
  static const unsigned char blank[16];
  lua_State *L = e->L;
  struct mpl_codec *c = e->c;
  mpl_codec_table(L, MPL_C_DUMPS);
  lua_pushvalue(L, -2);
  if (lua_rawget(L, -2) != LUA_TSTRING) {
    lua_pop(L, 1);
    c->scratch_used = 0;
    lua_pushvalue(L, -2);
    if (add_dump(L, blank, 16, c) != 0 || lua_dump(L, add_dump, c, 0) != 0) luaL_error(L, "not enough memory");
    lua_pop(L, 1);
    mpi_wire_hash(c->hash_key, c->scratch + 16, c->scratch_used - 16, c->scratch);
    lua_pushvalue(L, -2);
    lua_pushlstring(L, (char *)c->scratch, c->scratch_used);
    lua_pushvalue(L, -1);
    lua_insert(L, -3);
    lua_rawset(L, -4);
  }
  lua_replace(L, -2);
}

static void put_body (struct enc *e) {
  lua_State *L = e->L;
  struct mpl_bodies *b = e->how->bodies;
  size_t len;
  const unsigned char *s;
  push_dump(e);
  s = (const unsigned char *)lua_tolstring(L, -1, &len);
  if (b != NULL && mpl_bodies_has(b, s)) {
    room(e, MPI_W_HEAD_ROOM);
    e->at = mpi_put_ext_head(e->at, MPI_X_KEPT, 16);
    put_bytes(e, s, 16);
  } else {
    if (b != NULL && mpl_bodies_add(b, s)) {
      room(e, MPI_W_HEAD_ROOM);
      e->at = mpi_put_ext_head(e->at, MPI_X_BODY, 16);
      put_bytes(e, s, 16);
    }
    room(e, MPI_W_HEAD_ROOM);
    e->at = mpi_put_str_head(e->at, (uint32_t)(len - 16));
    put_bytes(e, s + 16, len - 16);
  }
  lua_pop(L, 1);
}

static int open_function (struct enc *e) {
  lua_State *L = e->L;
  const void *p = lua_topointer(L, -1);
  struct mpl_frame *f;
  lua_Debug ar;
  uint32_t id;
  if (!e->fresh) {
    e->fresh = 1;
    if (mpl_names_scan(L, e->c)) return RESTART;
  }
  if (mpl_maybe_named(e->c, p) && !(e->how->flags & MPL_BY_PROXY)) {
    int r = open_named(e);
    if (r != 0) return r < 0 ? r : DONE;
  }
  if (e->how->flags & MPL_BY_PROXY) return refuse(e, "a function cannot be sent to another program");
  if (lua_iscfunction(L, -1)) return refuse(e, "a C function that no loaded module has under a name cannot be sent");
  if (e->how->flags & MPL_DATA_ONLY) return refuse(e, "a function cannot be kept here, only data");
  id = number(e, p);
  if (id != 0) return put_ref(e, id);
  lua_pushvalue(L, -1);
  (void)lua_getinfo(L, ">u", &ar);
  f = push_frame(e, K_FUNC);
  f->n = ar.nups;
  f->mark = ext_open(e, MPI_X_FUNC);
  put_integer(e, ar.nups);
  put_body(e);
  return AGAIN;
}

static int step_function (struct enc *e) {
  lua_State *L = e->L;
  size_t me = e->depth - 1;
  struct mpl_frame *f = &e->v->frames[me];
  while (f->i < f->n) {
    const char *name = lua_getupvalue(L, f->base, (int)++f->i);
    uint32_t id;
    int r;
    if (name != NULL && strcmp(name, "_ENV") == 0) {
      room(e, MPI_W_HEAD_ROOM);
      e->at = mpi_put_ext_uint(e->at, MPI_X_ENV, 0);
      lua_pop(L, 1);
      continue;
    }
    id = number(e, lua_upvalueid(L, f->base, (int)f->i));
    if (id != 0) {
      room(e, MPI_W_HEAD_ROOM);
      e->at = mpi_put_ext_uint(e->at, MPI_X_UPREF, id);
      e->refs = 1;
      lua_pop(L, 1);
      continue;
    }
    r = scalar(e, -1);
    if (r > 0) {
      lua_pop(L, 1);
      continue;
    }
    if (r == 0) r = open_value(e);
    if (r != DONE) return r;
    f = &e->v->frames[me];
  }
  return ext_close(e, f->mark);
}

/* ---- extensions with one value in them ---- */

/* Stack: object, its child. The frame is the object's. */
static struct mpl_frame *push_body (struct enc *e, int kind, size_t mark) {
  struct mpl_frame *f = push_frame(e, kind);
  f->base--;
  f->mark = mark;
  return f;
}

static int step_body (struct enc *e) {
  size_t me = e->depth - 1;
  struct mpl_frame *f = &e->v->frames[me];
  if (f->stage == 0) {
    int r;
    f->stage = 1;
    if (f->flag == RAW) {
      begin_table(e);
      return AGAIN;
    }
    r = scalar(e, -1);
    if (r < 0) return r;
    if (r == 0) {
      r = open_value(e);
      if (r != DONE) return r;
      f = &e->v->frames[me];
    }
  }
  return ext_close(e, f->mark);
}

static int open_class (struct enc *e, uint32_t id);

static int open_handle (struct enc *e) {
  lua_State *L = e->L;
  mp_object *o = mpl_test(L, -1);
  uint32_t id;
  size_t mark;
  int i;
  if (o == NULL) {
    (void)luaL_getmetafield(L, -1, "__name");
    return refuse(e, "a closed %s cannot be sent", lua_tostring(L, -1));
  }
  if (e->how->flags & MPL_DATA_ONLY) return refuse(e, "a shared object (mp.%s) cannot be kept here; a manager can (mp.Manager)", o->type->name);
  id = number(e, o);
  if (id != 0) return put_ref(e, id);
  if (e->how->flags & MPL_BY_PROXY) {
    mpl_codec_table(L, MPL_C_CLASSES);
    lua_pushliteral(L, "mp.Proxy");
    (void)lua_rawget(L, -2);
    lua_replace(L, -2);
    return open_class(e, e->id);
  }
  for (i = 0; i < o->nfds; i++)
    if (mpl_parcel_add_fd(e->p, o->fds[i]) != 0) return luaL_error(L, "not enough memory");
  mark = ext_open(e, MPI_X_HANDLE);
  put_integer(e, o->type->type);
  put_integer(e, o->detail);
  put_integer(e, o->nfds);
  (void)lua_getiuservalue(L, -1, 1);
  (void)push_body(e, K_BODY, mark);
  return AGAIN;
}

/* ---- classes, errors, and what travels in its own way ---- */

/* Stack: object. Runs what is pushed above it (function and arguments); gives one value above the object, that outlives the encoding. */
static int protected_dump (struct enc *e, int nargs, const char *what) {
  lua_State *L = e->L;
  if (lua_pcall(L, nargs, 1, 0) != LUA_OK) {
    const char *s = luaL_tolstring(L, -1, NULL);
    return refuse(e, "%s: %s", what, s);
  }
  if (lua_type(L, -1) >= LUA_TTABLE) {
    mpl_codec_table(L, MPL_C_ANCHORS);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
    e->c->anchored = 1;
  }
  return DONE;
}

/* Stack: object, {name, metatable, dump, load}. */
static int open_class (struct enc *e, uint32_t id) {
  lua_State *L = e->L;
  struct mpl_frame *f;
  size_t mark = ext_open(e, MPI_X_CLASS);
  int dumped;
  (void)lua_rawgeti(L, -1, 1);
  if (put_string(e, -1) < 0) return FAILED;
  dumped = lua_rawgeti(L, -2, 3) != LUA_TNIL;
  room(e, MPI_W_HEAD_ROOM);
  e->at = mpi_put_bool(e->at, dumped);
  if (!dumped) {
    if (lua_type(L, -4) != LUA_TTABLE) return refuse(e, "a userdata of class '%s', registered without dump, cannot be sent", lua_tostring(L, -2));
    lua_pop(L, 3);
    lua_pushvalue(L, -1);
  } else {
    char what[120];
    int r;
    (void)snprintf(what, sizeof what, "dump of class '%s'", lua_tostring(L, -2));
    lua_replace(L, -3);
    lua_pop(L, 1);
    lua_pushvalue(L, -2);
    r = protected_dump(e, 1, what);
    if (r < 0) return r;
    e->dumping = 1;
  }
  f = push_body(e, K_BODY, mark);
  f->flag = dumped ? DUMPED : RAW;
  f->id = id;
  return AGAIN;
}

static int l_travel_dump (lua_State *L) {
  const struct mpl_travel *t = lua_touserdata(L, 2);
  struct mpl_parcel *p = lua_touserdata(L, 3);
  t->dump(L, 1, p);
  return 1;
}

/* Stack: object. */
static int open_travel (struct enc *e, const struct mpl_travel *t, uint32_t id) {
  lua_State *L = e->L;
  struct mpl_frame *f;
  int before = e->p->nfds, r;
  if (e->how->flags & MPL_DATA_ONLY) return refuse(e, "a shared object (%s) cannot be kept here; a manager can (mp.Manager)", t->name);
  lua_pushcfunction(L, l_travel_dump);
  lua_pushvalue(L, -2);
  lua_pushlightuserdata(L, (void *)(uintptr_t)t);
  lua_pushlightuserdata(L, e->p);
  r = protected_dump(e, 3, t->name);
  if (r < 0) return r;
  {
    size_t mark = ext_open(e, MPI_X_TRAVEL);
    put_text(e, t->name);
    put_integer(e, e->p->nfds - before);
    f = push_body(e, K_BODY, mark);
  }
  f->flag = DUMPED;
  f->id = id;
  e->dumping = 1;
  return AGAIN;
}

static int plain_field (lua_State *L) {
  int t = lua_type(L, -1);
  return lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), "value") != 0 && (t == LUA_TSTRING || t == LUA_TNUMBER || t == LUA_TBOOLEAN);
}

/* Stack: an mp.Error. Its plain fields, then its value: if that cannot be sent, its text. */
static int open_error (struct enc *e) {
  lua_State *L = e->L;
  int t = lua_gettop(L);
  uint32_t n = 0;
  size_t mark = ext_open(e, MPI_X_ERROR);
  for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1)) n += (uint32_t)plain_field(L);
  lua_pushliteral(L, "value");
  if (lua_rawget(L, t) != LUA_TNIL) n++;
  room(e, MPI_W_HEAD_ROOM);
  e->at = mpi_put_map_head(e->at, n);
  for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1))
    if (plain_field(L)) {
      if (put_string(e, -2) < 0) return FAILED;
      if (scalar(e, -1) < 0) return FAILED;
    }
  if (lua_type(L, -1) == LUA_TNIL) {
    int r = ext_close(e, mark);
    lua_settop(L, t - 1);
    return r;
  }
  put_text(e, "value");
  {
    struct mpl_frame *f = push_body(e, K_ERROR, mark);
    f->id = e->id;
    f->owed = offset(e);
    f->n = (uint32_t)e->p->nfds;
    f->i = e->how->bodies != NULL ? mpl_bodies_mark(e->how->bodies) : 0;
  }
  return AGAIN;
}

static int l_text (lua_State *L) {
  (void)luaL_tolstring(L, 1, NULL);
  return 1;
}

/* The innermost error whose value is being written gets the text of that value instead: 1. Else 0. */
static int recover (struct enc *e) {
  lua_State *L = e->L;
  struct mpl_frame *f;
  size_t k;
  for (k = e->depth; k > 0 && e->v->frames[k - 1].kind != K_ERROR; k--) {}
  if (k == 0) return 0;
  e->depth = k;
  f = &e->v->frames[k - 1];
  lua_settop(L, f->base);
  renumber(e, f->id);
  e->at = e->p->data + f->owed;
  e->p->nfds = (int)f->n;
  if (e->how->bodies != NULL) mpl_bodies_back(e->how->bodies, f->i);
  lua_pushcfunction(L, l_text);
  lua_pushliteral(L, "value");
  (void)lua_rawget(L, f->base);
  if (lua_pcall(L, 1, 1, 0) != LUA_OK || lua_type(L, -1) != LUA_TSTRING) put_text(e, "?");
  else (void)put_string(e, -1);
  f->stage = 1;
  return 1;
}

/* Stack: object, metatable. Something that a registration covers, or forbids; 0: neither, and the stack as it was. */
static int open_by_metatable (struct enc *e, uint32_t id, int *result) {
  lua_State *L = e->L;
  mpl_codec_table(L, MPL_C_CLASS_OF);
  lua_pushvalue(L, -2);
  if (lua_rawget(L, -2) == LUA_TTABLE) {
    lua_replace(L, -3);
    lua_pop(L, 1);
    *result = open_class(e, id);
    return 1;
  }
  lua_pop(L, 2);
  mpl_codec_table(L, MPL_C_TRAVEL_OF);
  lua_pushvalue(L, -2);
  if (lua_rawget(L, -2) == LUA_TLIGHTUSERDATA) {
    const struct mpl_travel *t = lua_touserdata(L, -1);
    lua_pop(L, 3);
    *result = open_travel(e, t, id);
    return 1;
  }
  lua_pop(L, 2);
  lua_pushliteral(L, "__nosend");
  if (lua_rawget(L, -2) != LUA_TNIL) {
    *result = refuse(e, "%s", lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "it belongs to its maker and cannot be sent");
    return 1;
  }
  lua_pop(L, 1);
  return 0;
}

/* Stack: metatable. */
static int only_name (lua_State *L) {
  int n = 0, named = 0;
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    n++;
    named = lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), "__name") == 0 && lua_type(L, -1) == LUA_TSTRING;
  }
  return n == 1 && named;
}

static void metatable_name (lua_State *L, char *text, size_t size) {
  lua_pushliteral(L, "__name");
  if (lua_rawget(L, -2) == LUA_TSTRING) (void)snprintf(text, size, " (%s)", lua_tostring(L, -1));
  else text[0] = '\0';
  lua_pop(L, 1);
}

/* Stack: table, metatable. */
static int open_with_metatable (struct enc *e, uint32_t id) {
  lua_State *L = e->L;
  char text[120];
  int r;
  if (e->how->flags & MPL_DATA_ONLY) return refuse(e, "a table with a metatable cannot be kept here, only data");
  if (lua_topointer(L, -1) == e->c->error_meta) {
    lua_pop(L, 1);
    return open_error(e);
  }
  if (open_by_metatable(e, id, &r)) return r;
  if (only_name(L)) {
    struct mpl_frame *f;
    size_t mark = ext_open(e, MPI_X_NAMED);
    lua_pushliteral(L, "__name");
    (void)lua_rawget(L, -2);
    if (put_string(e, -1) < 0) return FAILED;
    lua_pop(L, 2);
    lua_pushvalue(L, -1);
    f = push_body(e, K_BODY, mark);
    f->flag = RAW;
    return AGAIN;
  }
  if (!e->fresh) { /* it may be a module's, with a name */
    e->fresh = 1;
    if (mpl_names_scan(L, e->c)) return RESTART;
  }
  metatable_name(L, text, sizeof text);
  return refuse(e, "a table with a metatable%s that mp.register does not know cannot be sent", text);
}

static int open_table (struct enc *e) {
  lua_State *L = e->L;
  const void *p = lua_topointer(L, -1);
  uint32_t id;
  if (mpl_maybe_named(e->c, p)) {
    int r = open_named(e);
    if (r != 0) return r < 0 ? r : DONE;
  }
  id = number(e, p);
  if (id != 0) return put_ref(e, id);
  if (lua_getmetatable(L, -1)) return open_with_metatable(e, e->id);
  begin_table(e);
  return AGAIN;
}

static int open_userdata (struct enc *e) {
  lua_State *L = e->L;
  char text[120] = "";
  if (mpl_isobject(L, -1)) return open_handle(e);
  if (e->how->flags & MPL_DATA_ONLY) return refuse(e, "a userdata cannot be kept here, only data");
  if (lua_getmetatable(L, -1)) {
    uint32_t id;
    int r;
    lua_insert(L, -2);
    id = number(e, lua_topointer(L, -1));
    if (id != 0) {
      lua_replace(L, -2);
      return put_ref(e, id);
    }
    lua_insert(L, -2);
    if (open_by_metatable(e, e->id, &r)) return r;
    metatable_name(L, text, sizeof text);
  }
  return refuse(e, "a userdata%s cannot be sent", text);
}

/* ---- any value that is no scalar ---- */

/* The value at the top: written and popped (DONE), or its frame begun (AGAIN). */
static int open_value (struct enc *e) {
  lua_State *L = e->L;
  if (!deeper(e)) return refuse(e, "a value nested more than %zu deep cannot be sent", e->depth);
  switch (lua_type(L, -1)) {
    case LUA_TTABLE: return open_table(e);
    case LUA_TFUNCTION: return open_function(e);
    case LUA_TUSERDATA: return open_userdata(e);
    case LUA_TTHREAD: return refuse(e, "a coroutine cannot be sent");
    default: return refuse(e, "a light userdata cannot be sent");
  }
}

static int run (struct enc *e) {
  int r = AGAIN;
  while (e->depth > 0) {
    switch (e->v->frames[e->depth - 1].kind) {
      case K_TABLE: r = step_table(e); break;
      case K_ARRAY: r = step_array(e, 0); break;
      case K_MAP: r = step_map(e, 0); break;
      case K_FUNC: r = step_function(e); break;
      default: r = step_body(e); break; /* K_BODY, K_ERROR */
    }
    if (r == DONE) {
      e->depth--;
      lua_settop(e->L, e->v->frames[e->depth].base - 1);
    } else if (r == FAILED ? !recover(e) : r < 0) {
      return r;
    }
  }
  return DONE;
}

/* ---- the sentence of a refusal ---- */

struct path {
  char text[600];
  size_t used;
};

static void add (struct path *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add (struct path *p, const char *fmt, ...) {
  va_list ap;
  int n;
  va_start(ap, fmt);
  n = vsnprintf(p->text + p->used, sizeof p->text - p->used, fmt, ap);
  va_end(ap);
  if (n > 0) p->used += (size_t)n < sizeof p->text - p->used ? (size_t)n : sizeof p->text - p->used - 1;
}

static int is_name (const char *s) {
  if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || *s == '_')) return 0;
  for (; *s != '\0'; s++)
    if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || *s == '_')) return 0;
  return 1;
}

static void add_key (struct path *p, lua_State *L, int idx) {
  switch (lua_type(L, idx)) {
    case LUA_TSTRING: {
      const char *s = lua_tostring(L, idx);
      if (is_name(s)) add(p, p->used > 0 ? ".%.80s" : "%.80s", s);
      else add(p, "[\"%.80s\"]", s);
      break;
    }
    case LUA_TNUMBER:
      if (lua_isinteger(L, idx)) add(p, "[%lld]", (long long)lua_tointeger(L, idx));
      else add(p, "[%.14g]", lua_tonumber(L, idx));
      break;
    case LUA_TBOOLEAN: add(p, "[%s]", lua_toboolean(L, idx) ? "true" : "false"); break;
    default: add(p, "[a %s]", luaL_typename(L, idx)); break;
  }
}

/* Stack: ..., reason. The frames say where. */
static void find_path (struct enc *e, struct path *p) {
  lua_State *L = e->L;
  size_t i;
  p->used = 0;
  p->text[0] = '\0';
  if (e->how->root != NULL) add(p, "%s", e->how->root);
  if (e->how->index != 0) add(p, "[%d]", e->how->index);
  for (i = 0; i < e->depth; i++) {
    const struct mpl_frame *f = &e->v->frames[i];
    if (e->depth > 40 && i == 16) {
      add(p, " ... ");
      i = e->depth - 16;
    }
    switch (f->kind) {
      case K_TABLE:
      case K_ARRAY:
      case K_MAP:
        if (lua_gettop(L) <= f->base + 1) break;
        if (f->stage == IN_KEY) add(p, "(a key)");
        else add_key(p, L, f->base + 1);
        break;
      case K_FUNC: {
        const char *name = lua_getupvalue(L, f->base, (int)f->i);
        if (name == NULL) break;
        lua_pop(L, 1);
        add(p, "(upvalue %.60s)", name);
        break;
      }
      case K_ERROR: add(p, ".value"); break;
      default:
        if (f->flag == DUMPED) add(p, "(dump)");
        else if (f->flag != RAW) add(p, "(attached)");
        break;
    }
  }
}

static int raise (struct enc *e) {
  lua_State *L = e->L;
  struct path p;
  find_path(e, &p);
  (void)lua_checkstack(L, 12);
  if (lua_gettop(L) > e->top + 1) lua_replace(L, e->top + 1); /* the reason; the value itself stays where the caller has it */
  lua_settop(L, e->top + 1);
  mpl_level_leave(e->c);
  mpl_push_where(L);
  if (e->how->who != NULL) lua_pushfstring(L, "%s: ", e->how->who);
  else mpl_push_who(L);
  lua_pushfstring(L, "%s%s%s%s%s", lua_tostring(L, -2), lua_tostring(L, -1), p.text, p.used > 0 ? ": " : "", lua_tostring(L, -3));
  mpl_error_new(L, "encode", lua_tostring(L, -1));
  lua_pushstring(L, p.text);
  lua_setfield(L, -2, "path");
  lua_pushvalue(L, e->top + 1);
  lua_setfield(L, -2, "reason");
  return lua_error(L);
}

/* ---- flat tables ---- */

#define FLAT_MOST 64 /* pairs */

/* Most tables that are sent hold nothing but scalars: they need no frames and no numbers. 1: written; 0: it is none of those, and nothing has
** happened. The bytes are the same as the long way's. No Lua code runs in here. */
static int flat_table (struct enc *e, int idx) {
  lua_State *L = e->L;
  int map = 1;
  uint32_t n = 0;
  if (mpl_maybe_named(mpl_codec_for(L, e->p), lua_topointer(L, idx)) || !lua_checkstack(L, 4)) return 0;
  if (lua_getmetatable(L, idx)) goto other;
  e->at++; /* the parcel has room for the head */
  lua_pushnil(L);
  while (lua_next(L, idx)) {
    if (lua_type(L, -2) == LUA_TSTRING) {
      if (!map || put_string(e, -2) < 0) goto other;
    } else { /* the next of an array? */
      if (n == 0) map = 0;
      if (map || !lua_isinteger(L, -2) || lua_tointegerx(L, -2, NULL) != (lua_Integer)n + 1) goto other;
    }
    if (n++ == FLAT_MOST || scalar(e, -1) <= 0) goto other;
    lua_pop(L, 1);
  }
  set_head(e, 0, map, n);
  return 1;
other:
  lua_settop(L, e->top);
  e->at = e->p->data;
  return 0;
}

/* ---- whole messages ---- */

static void put_first (struct enc *e) {
  unsigned char head[16];
  size_t len = (size_t)(mpi_put_ext_uint(head, MPI_X_HEAD, e->id) - head);
  room(e, len);
  memmove(e->p->data + len, e->p->data, offset(e));
  memcpy(e->p->data, head, len);
  e->at += len;
}

static void encode_deep (struct enc *e, int idx) {
  lua_State *L = e->L;
  int r;
  luaL_checkstack(L, 16 * 4 + 40, NULL);
  e->checked = 16;
  do {
    e->depth = 0;
    e->id = 0;
    e->refs = e->dumping = 0;
    e->p->nfds = 0;
    e->at = e->p->data;
    if (e->how->bodies != NULL) mpl_bodies_back(e->how->bodies, 0);
    slots_begin(e);
    lua_settop(L, e->top);
    lua_pushvalue(L, idx);
    r = open_value(e);
    if (r == AGAIN) r = run(e);
  } while (r == RESTART);
  if (r == FAILED) (void)raise(e);
  if ((e->how->flags & MPL_ONE_RECORD) && e->p->nfds > MPI_MAX_FDS) {
    lua_settop(L, e->top);
    lua_pushfstring(L, "the shared objects in it have %d descriptors, and one message carries %d", e->p->nfds, MPI_MAX_FDS);
    (void)raise(e);
  }
  if (e->refs) put_first(e);
  if (e->how->bodies != NULL) mpl_bodies_commit(e->how->bodies);
  lua_settop(L, e->top);
}

void mpl_encode_as (lua_State *L, int idx, struct mpl_parcel *p, const struct mpl_encoding *how) {
  struct enc e;
  int r;
  if (p->room < 64 && mpl_parcel_reserve(p, 64, 0) != 0) luaL_error(L, "not enough memory");
  p->nfds = 0;
  if (lua_isinteger(L, idx)) { /* the shortest message has the shortest way */
    p->size = (size_t)(mpi_put_int(p->data, lua_tointegerx(L, idx, NULL)) - p->data);
    return;
  }
  e.L = L;
  e.p = p;
  e.how = how;
  e.at = p->data;
  e.end = p->data + p->room;
  e.depth = 0;
  e.fresh = 0;
  e.top = lua_gettop(L);
  r = scalar(&e, idx);
  if (idx < 0) idx += e.top + 1;
  if (r == 0 && lua_type(L, idx) == LUA_TTABLE) r = flat_table(&e, idx);
  if (r <= 0) {
    e.c = mpl_codec_for(L, p);
    e.v = mpl_level_enter(L, e.c, __builtin_frame_address(0));
    if (e.c->anchored && e.c->depth == 1) {
      luaL_checkstack(L, 6, NULL);
      mpl_codec_anchors_drop(L, e.c);
    }
    if (r < 0) (void)raise(&e);
    encode_deep(&e, idx);
    mpl_level_leave(e.c);
  }
  p->size = (size_t)(e.at - p->data);
}

void mpl_encode (lua_State *L, int idx, struct mpl_parcel *p) {
  mpl_encode_as(L, idx, p, &ordinary);
}
