/* decode.c -- bytes to Lua values; the bytes may be anybody's.
**
** As in encode.c a value that contains others is a frame of ours. Stack of a frame: its object at `base` (an array's or map's table; an
** extension's placeholder), above it what is not yet delivered (a map's key). A finished value is on the top and is given to the frame
** below it.
**
** Longer than 500 lines: a function for each extension to begin it, one to go on with it, and nothing else.
**
** Bounds: every item takes at least a byte, so what all open frames still expect must fit into the bytes that are left (`owed`): nothing
** is allocated for more. Inside an extension `end` is the extension's, and its items must fill it exactly.
*/
#include <lauxlib.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "bind/codec_state.h"
#include "bind/udata.h"
#include "wire/wire.h"

enum { K_ARRAY, K_MAP, K_FUNC, K_HANDLE, K_CLASS, K_NAMED, K_ERROR, K_TRAVEL };

struct dec {
  lua_State *L;
  struct mpl_codec *c;
  struct mpl_level *v;
  struct mpl_parcel *p;
  const unsigned char *at, *end;
  uint64_t owed; /* items that the open frames (the innermost aside) still expect */
  size_t depth, checked;
  uint32_t id, ids; /* numbered so far; in all, when the message has references, else 0 */
  int refs;         /* stack index of number -> thing, and behind it of number -> upvalue's index; 0: none */
  int fd;           /* the next descriptor */
  int top;
  unsigned flags;
  char inner, failed; /* under a pcall of our own; which `bad` ended */
  char reason[300];
};

/* ---- failing ---- */

static void bad (struct dec *d, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
static void bad (struct dec *d, const char *fmt, ...) {
  lua_State *L = d->L;
  char text[sizeof d->reason];
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  lua_settop(L, d->top);
  if (d->inner) {
    memcpy(d->reason, text, sizeof text);
    d->failed = 1;
    lua_pushnil(L);
    (void)lua_error(L);
  }
  mpl_level_leave(d->c);
  luaL_checkstack(L, 12, NULL);
  mpl_push_where(L);
  mpl_push_who(L);
  lua_pushfstring(L, "%s%sa message cannot be read: %s", lua_tostring(L, -2), lua_tostring(L, -1), text);
  mpl_error_new(L, "encode", lua_tostring(L, -1));
  lua_pushstring(L, text);
  lua_setfield(L, -2, "reason");
  (void)lua_error(L);
  abort(); /* not reached */
}

static const unsigned char *get (struct dec *d, const unsigned char *at, struct mpi_item *it) {
  at = mpi_wire_get(at, d->end, it);
  if (at == NULL) bad(d, it->kind == MPI_W_CUT ? "it is cut off" : "a byte that begins no item, or an integer beyond Lua's");
  return at;
}

static int64_t get_integer (struct dec *d, int64_t least, int64_t most) {
  struct mpi_item it;
  d->at = get(d, d->at, &it);
  if (it.kind != MPI_W_INT || it.u.i < least || it.u.i > most) bad(d, "a number in it is impossible");
  return it.u.i;
}

static void get_string (struct dec *d, struct mpi_item *it) {
  d->at = get(d, d->at, it);
  if (it->kind != MPI_W_STR) bad(d, "a name is missing in it");
}

static void need_trust (struct dec *d, const char *what) {
  if (!(d->flags & MPL_TRUST_CODE)) bad(d, "%s from a process that is not trusted with code", what);
}

/* ---- numbers ---- */

/* The value at the top is the next numbered thing. */
static void number (struct dec *d) {
  d->id++;
  if (d->refs == 0) return;
  if (d->id > d->ids) bad(d, "more things than it says");
  lua_pushvalue(d->L, -1);
  lua_rawseti(d->L, d->refs, d->id);
}

static void number_at (struct dec *d, uint32_t id) {
  if (d->refs == 0) return;
  lua_pushvalue(d->L, -1);
  lua_rawseti(d->L, d->refs, id);
}

static uint32_t number_later (struct dec *d) {
  d->id++;
  if (d->refs != 0 && d->id > d->ids) bad(d, "more things than it says");
  return d->id;
}

static lua_Integer ref_of (struct dec *d, const struct mpi_item *it) {
  uint64_t id;
  if (d->refs == 0 || !mpi_wire_uint(it->data, it->len, &id) || id == 0 || id > d->id) bad(d, "a reference to nothing");
  return (lua_Integer)id;
}

/* ---- frames ---- */

static struct mpl_frame *push_frame (struct dec *d, int kind) {
  struct mpl_frame *f;
  if (d->depth >= d->checked) {
    if (d->depth >= ((d->flags & MPL_TRUST_CODE) ? MPL_DEPTH_MAX : MPL_DEPTH_UNTRUSTED) || !lua_checkstack(d->L, 16 * 5 + 20)) bad(d, "it is nested too deep");
    d->checked = d->depth + 16;
  }
  if (d->depth == d->v->room) {
    size_t n = d->v->room == 0 ? 32 : d->v->room * 2;
    f = realloc(d->v->frames, n * sizeof *f);
    if (f == NULL) luaL_error(d->L, "not enough memory");
    d->v->frames = f;
    d->v->room = n;
  }
  f = &d->v->frames[d->depth++];
  f->kind = (unsigned char)kind;
  f->stage = f->flag = 0;
  f->base = lua_gettop(d->L) + 1;
  f->i = f->n = 0;
  f->owed = d->owed;
  f->end = d->end;
  return f;
}

/* n items are to come, apart from what the frame below still expects. */
static void owe (struct dec *d, uint64_t n) {
  if (d->depth > 0) {
    const struct mpl_frame *f = &d->v->frames[d->depth - 1];
    if (f->kind == K_ARRAY) d->owed += f->n - f->i - 1;
    else if (f->kind == K_MAP || f->kind == K_ERROR) d->owed += 2 * (uint64_t)(f->n - f->i) - 1 - f->stage;
  }
  if (n + d->owed > (uint64_t)(d->end - d->at)) bad(d, "it claims more than it has bytes");
}

static void open_table (struct dec *d, const struct mpi_item *it, int map) {
  lua_State *L = d->L;
  uint64_t before = d->owed;
  struct mpl_frame *f;
  owe(d, map ? 2 * (uint64_t)it->len : it->len);
  f = push_frame(d, map ? K_MAP : K_ARRAY);
  f->owed = before;
  f->n = it->len;
  if (map) lua_createtable(L, 0, (int)(it->len < INT32_MAX ? it->len : INT32_MAX));
  else lua_createtable(L, (int)(it->len < INT32_MAX ? it->len : INT32_MAX), 0);
  number(d);
}

static struct mpl_frame *open_ext (struct dec *d, int kind, const struct mpi_item *it) {
  uint64_t before = d->owed;
  struct mpl_frame *f;
  owe(d, 0);
  d->owed = 0; /* inside, only its own bytes count */
  f = push_frame(d, kind);
  f->owed = before;
  d->end = it->data + it->len;
  d->at = it->data;
  return f;
}

/* ---- extensions ---- */

static int take_fds (struct dec *d, int nfds) {
  int first = d->fd;
  if (nfds > d->p->nfds - d->fd) bad(d, "descriptors are missing");
  d->fd += nfds;
  return first;
}

static void open_handle (struct dec *d, const struct mpi_item *it) {
  int type, detail, nfds, first, rc, i, copy[MPI_OBJECT_FDS];
  mp_object *o;
  (void)open_ext(d, K_HANDLE, it);
  type = (int)get_integer(d, 1, 1000);
  detail = (int)get_integer(d, INT32_MIN, INT32_MAX);
  nfds = (int)get_integer(d, 1, MPI_OBJECT_FDS);
  first = take_fds(d, nfds);
  for (i = 0; i < nfds; i++) {
    copy[i] = d->p->fds[first + i];
    d->p->fds[first + i] = -1;
  }
  rc = mpi_object_adopt(type, detail, copy, nfds, &o);
  if (rc != 0) bad(d, "%s", rc == MP_ENOMEM ? "not enough memory" : mp_errmsg());
  mpl_push(d->L, o);
  number(d);
}

static void open_ref (struct dec *d, const struct mpi_item *it) {
  lua_State *L = d->L;
  lua_Integer id = ref_of(d, it);
  if (lua_rawgeti(L, d->refs, id) == LUA_TNIL) bad(d, "a reference to what is not there yet");
  if (lua_rawgeti(L, d->refs + 1, id) != LUA_TNIL) bad(d, "a reference to an upvalue");
  lua_pop(L, 1);
}

/* Is the next item the receiver's globals? */
static int is_env (struct dec *d) {
  struct mpi_item it;
  return mpi_wire_get(d->at, d->end, &it) != NULL && it.kind == MPI_W_EXT && it.ext == MPI_X_ENV;
}

static void load_body (struct dec *d, const char *s, size_t len) {
  if (luaL_loadbufferx(d->L, s, len, "=(message)", "b") != LUA_OK) bad(d, "a function in it cannot be loaded: %s", lua_tostring(d->L, -1));
}

/* Pushes a function for a body that is kept, or that the message asks to keep. One without upvalues of its own is the same function
** each time: nothing tells its copies apart. */
static void kept_body (struct dec *d, const unsigned char hash[16], const struct mpi_item *body, int shareable) {
  lua_State *L = d->L;
  size_t len;
  const char *s;
  mpl_codec_table(L, MPL_C_KEPT);
  if (body != NULL) {
    lua_pushlstring(L, (const char *)hash, 16);
    lua_pushlstring(L, (const char *)body->data, body->len);
    lua_rawset(L, -3);
  }
  if (shareable) {
    lua_pushlstring(L, (const char *)hash, 16);
    lua_pushliteral(L, "=");
    lua_concat(L, 2);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) == LUA_TFUNCTION) {
      lua_replace(L, -3);
      lua_pop(L, 1);
      return;
    }
    lua_pop(L, 1);
    lua_insert(L, -2); /* key, table */
  }
  lua_pushlstring(L, (const char *)hash, 16);
  if (lua_rawget(L, -2) != LUA_TSTRING) bad(d, "it needs the body of a function that was never sent here");
  s = lua_tolstring(L, -1, &len);
  load_body(d, s, len);
  if (shareable) { /* key, table, body, function */
    lua_pushvalue(L, -4);
    lua_pushvalue(L, -2);
    lua_rawset(L, -5);
    lua_replace(L, -4);
    lua_pop(L, 2);
  } else {
    lua_replace(L, -3);
    lua_pop(L, 1);
  }
}

static void open_function (struct dec *d, const struct mpi_item *it) {
  lua_State *L = d->L;
  struct mpi_item body;
  const unsigned char *hash = NULL;
  lua_Debug ar;
  int nups;
  need_trust(d, "a function");
  (void)open_ext(d, K_FUNC, it);
  nups = (int)get_integer(d, 0, 255);
  d->at = get(d, d->at, &body);
  if (body.kind == MPI_W_EXT && (body.ext == MPI_X_BODY || body.ext == MPI_X_KEPT) && body.len == 16) {
    hash = body.data;
    if (body.ext == MPI_X_BODY) get_string(d, &body);
    kept_body(d, hash, body.kind == MPI_W_STR ? &body : NULL, nups == 0 || (nups == 1 && is_env(d)));
  } else if (body.kind == MPI_W_STR) {
    load_body(d, (const char *)body.data, body.len);
  } else {
    bad(d, "a function in it has no body");
  }
  lua_pushvalue(L, -1);
  (void)lua_getinfo(L, ">u", &ar);
  if (ar.nups != nups) bad(d, "a function in it has another number of upvalues than it says");
  d->v->frames[d->depth - 1].n = (uint32_t)nups;
  number(d);
}

static void open_class (struct dec *d, const struct mpi_item *it) {
  lua_State *L = d->L;
  struct mpl_frame *f;
  struct mpi_item name, dumped;
  (void)open_ext(d, K_CLASS, it);
  get_string(d, &name);
  d->at = get(d, d->at, &dumped);
  if (dumped.kind != MPI_W_BOOL) bad(d, "an object in it is malformed");
  mpl_codec_table(L, MPL_C_CLASSES);
  lua_pushlstring(L, (const char *)name.data, name.len);
  if (lua_rawget(L, -2) != LUA_TTABLE) bad(d, "the class '%.*s' is not registered here (mp.register)", name.len < 100 ? (int)name.len : 100, name.data);
  lua_replace(L, -2);
  if (lua_rawgeti(L, -1, 4) == LUA_TNIL) {
    if (dumped.u.i) bad(d, "the class '%.*s' is registered here without load", name.len < 100 ? (int)name.len : 100, name.data);
    need_trust(d, "an object of a class that is registered without load,");
  }
  lua_pop(L, 1);
  f = &d->v->frames[d->depth - 1];
  f->flag = dumped.u.i != 0;
  f->id = f->flag ? number_later(d) : d->id + 1;
}

/* The metatable {__name = ...} lies at the frame's base; one for each name, as long as something has it. */
static void open_named (struct dec *d, const struct mpi_item *it) {
  lua_State *L = d->L;
  struct mpi_item name;
  int base = open_ext(d, K_NAMED, it)->base;
  get_string(d, &name);
  mpl_codec_table(L, MPL_C_NAMED);
  lua_pushlstring(L, (const char *)name.data, name.len);
  lua_pushvalue(L, -1);
  if (lua_rawget(L, base) == LUA_TNIL) { /* known metatables, name, nil */
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "__name");
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, base);
  }
  lua_replace(L, base);
  lua_settop(L, base);
}

static void open_error (struct dec *d, const struct mpi_item *it) {
  struct mpi_item head;
  (void)open_ext(d, K_ERROR, it);
  d->at = get(d, d->at, &head);
  if (head.kind != MPI_W_MAP || 2 * (uint64_t)head.len > (uint64_t)(d->end - d->at)) bad(d, "an error in it is malformed");
  d->v->frames[d->depth - 1].n = head.len;
  lua_createtable(d->L, 0, (int)head.len);
  number(d);
}

static void open_travel (struct dec *d, const struct mpi_item *it) {
  lua_State *L = d->L;
  const struct mpl_travel *t;
  struct mpl_frame *f;
  struct mpi_item name;
  int nfds;
  (void)open_ext(d, K_TRAVEL, it);
  get_string(d, &name);
  nfds = (int)get_integer(d, 0, 253);
  mpl_codec_table(L, MPL_C_TRAVELS);
  lua_pushlstring(L, (const char *)name.data, name.len);
  if (lua_rawget(L, -2) != LUA_TLIGHTUSERDATA) bad(d, "'%.*s' is not known here", name.len < 100 ? (int)name.len : 100, name.data);
  t = lua_touserdata(L, -1);
  if (t->code) need_trust(d, t->name);
  lua_replace(L, -2);
  f = &d->v->frames[d->depth - 1];
  f->n = (uint32_t)nfds;
  f->i = (uint32_t)take_fds(d, nfds);
  f->id = number_later(d);
}

static void open_other (struct dec *d, const struct mpi_item *it) {
  switch (it->ext) {
    case MPI_X_REF: open_ref(d, it); break;
    case MPI_X_NAME:
      need_trust(d, "a function or table of a module");
      if (!mpl_names_find(d->L, it->data, it->len, 1)) bad(d, "%s", lua_tostring(d->L, -1));
      break;
    case MPI_X_FUNC: open_function(d, it); break;
    case MPI_X_HANDLE: open_handle(d, it); break;
    case MPI_X_CLASS: open_class(d, it); break;
    case MPI_X_NAMED: open_named(d, it); break;
    case MPI_X_ERROR: open_error(d, it); break;
    case MPI_X_TRAVEL: open_travel(d, it); break;
    default: bad(d, "an extension of unknown type %d", it->ext);
  }
}

/* ---- values ---- */

/* Reads one item: 1: a finished value is at the top; 0: a frame was begun. */
static int value (struct dec *d) {
  lua_State *L = d->L;
  struct mpi_item it;
  size_t before;
  d->at = get(d, d->at, &it);
  switch (it.kind) {
    case MPI_W_NIL: lua_pushnil(L); return 1;
    case MPI_W_BOOL: lua_pushboolean(L, (int)it.u.i); return 1;
    case MPI_W_INT: lua_pushinteger(L, (lua_Integer)it.u.i); return 1;
    case MPI_W_FLOAT: lua_pushnumber(L, it.u.f); return 1;
    case MPI_W_STR: lua_pushlstring(L, (const char *)it.data, it.len); return 1;
    case MPI_W_ARRAY: open_table(d, &it, 0); return 0;
    case MPI_W_MAP: open_table(d, &it, 1); return 0;
    default:
      before = d->depth;
      open_other(d, &it);
      return d->depth == before;
  }
}

/* The same, with short cuts for what most messages are made of. */
static inline int quick_value (struct dec *d) {
  const unsigned char *at = d->at;
  size_t left = (size_t)(d->end - at);
  if (left > 0) {
    unsigned c = *at;
    if (c < 0x80) {
      d->at = at + 1;
      lua_pushinteger(d->L, (lua_Integer)c);
      return 1;
    }
    if (c >= 0xa0 && c < 0xc0 && left > (c & 31u)) {
      d->at = at + 1 + (c & 31u);
      mpl_push_known(d->L, d->c, at + 1, c & 31u);
      return 1;
    }
    if (c == 0xcb && left >= 9) {
      uint64_t bits = mpi_get64(at + 1);
      double f;
      memcpy(&f, &bits, 8);
      d->at = at + 9;
      lua_pushnumber(d->L, f);
      return 1;
    }
    if (c == 0xcd && left >= 3) {
      d->at = at + 3;
      lua_pushinteger(d->L, mpi_get16(at + 1));
      return 1;
    }
    if (c == 0xce && left >= 5) {
      d->at = at + 5;
      lua_pushinteger(d->L, (lua_Integer)mpi_get32(at + 1));
      return 1;
    }
  }
  return value(d);
}

/* ---- frames going on: 1: finished, its value is at the top, alone above what was there before; 0: another frame was begun ---- */

static int step_array (struct dec *d) {
  lua_State *L = d->L;
  size_t me = d->depth - 1;
  struct mpl_frame *f = &d->v->frames[me];
  if (f->flag) { /* a child is done */
    f->flag = 0;
    lua_rawseti(L, f->base, ++f->i);
  }
  while (f->i < f->n) {
    if (!quick_value(d)) {
      d->v->frames[me].flag = 1;
      return 0;
    }
    lua_rawseti(L, f->base, ++f->i);
  }
  return 1;
}

static void check_key (struct dec *d) {
  lua_State *L = d->L;
  int t = lua_type(L, -1);
  if (d->v->frames[d->depth - 1].kind == K_ERROR && t != LUA_TSTRING) bad(d, "an error in it is malformed");
  if (t == LUA_TNIL) bad(d, "a key is nil");
  if (t == LUA_TNUMBER && isnan(lua_tonumber(L, -1))) bad(d, "a key is not a number");
}

static int step_map (struct dec *d) {
  lua_State *L = d->L;
  size_t me = d->depth - 1;
  struct mpl_frame *f = &d->v->frames[me];
  int had = f->flag;
  f->flag = 0;
  if (had && f->stage == 0) goto key;
  if (had) goto pair;
  while (f->i < f->n) {
    const unsigned char *at = d->at;
    if (at < d->end && *at >= 0xa0 && *at < 0xc0 && (size_t)(d->end - at) > (*at & 31u)) { /* a short string */
      d->at = at + 1 + (*at & 31u);
      mpl_push_known(L, d->c, at + 1, *at & 31u);
    } else {
      if (!value(d)) {
        d->v->frames[me].flag = 1;
        return 0;
      }
    key:
      check_key(d);
    }
    f->stage = 1;
    if (!quick_value(d)) {
      d->v->frames[me].flag = 1;
      return 0;
    }
  pair:
    f->stage = 0;
    f->i++;
    lua_rawset(L, f->base);
  }
  return 1;
}

static void leave_ext (struct dec *d, const struct mpl_frame *f) {
  if (d->at != d->end) bad(d, "an extension has bytes left");
  d->end = f->end;
}

/* The one value of an extension: 1 when it is at the top. */
static int only_child (struct dec *d, int table) {
  struct mpl_frame *f = &d->v->frames[d->depth - 1];
  if (f->stage == 0) {
    f->stage = 1;
    if (table) {
      struct mpi_item it;
      (void)get(d, d->at, &it);
      if (it.kind != MPI_W_ARRAY && it.kind != MPI_W_MAP) bad(d, "an object in it is no table");
    }
    return value(d);
  }
  return 1;
}

static int step_handle (struct dec *d) {
  lua_State *L = d->L;
  struct mpl_frame *f;
  if (!only_child(d, 0)) return 0;
  f = &d->v->frames[d->depth - 1];
  /* Known here already, with its companion: that is the same or a copy. */
  if (lua_getiuservalue(L, f->base, 1) == LUA_TNIL) {
    lua_pop(L, 1);
    (void)lua_setiuservalue(L, f->base, 1);
  } else {
    lua_pop(L, 2);
  }
  leave_ext(d, f);
  return 1;
}

static int step_function (struct dec *d) {
  lua_State *L = d->L;
  size_t me = d->depth - 1;
  struct mpl_frame *f = &d->v->frames[me];
  if (f->flag) {
    f->flag = 0;
    (void)lua_setupvalue(L, f->base, (int)++f->i);
  }
  while (f->i < f->n) {
    struct mpi_item it;
    const unsigned char *next = get(d, d->at, &it);
    if (it.kind == MPI_W_EXT && it.ext == MPI_X_UPREF) {
      lua_Integer id = ref_of(d, &it);
      if (lua_rawgeti(L, d->refs, id) != LUA_TFUNCTION || lua_rawgeti(L, d->refs + 1, id) != LUA_TNUMBER) bad(d, "a reference to no upvalue");
      lua_upvaluejoin(L, f->base, (int)++f->i, -2, (int)lua_tointeger(L, -1));
      lua_pop(L, 2);
      d->at = next;
    } else if (it.kind == MPI_W_EXT && it.ext == MPI_X_ENV) {
      lua_pushglobaltable(L);
      (void)lua_setupvalue(L, f->base, (int)++f->i);
      d->at = next;
    } else {
      uint32_t id = number_later(d);
      if (d->refs != 0) {
        lua_pushvalue(L, f->base);
        lua_rawseti(L, d->refs, id);
        lua_pushinteger(L, (lua_Integer)f->i + 1);
        lua_rawseti(L, d->refs + 1, id);
      }
      if (!value(d)) {
        d->v->frames[me].flag = 1;
        return 0;
      }
      f = &d->v->frames[me];
      (void)lua_setupvalue(L, f->base, (int)++f->i);
    }
  }
  leave_ext(d, f);
  return 1;
}

/* Function and arguments are at the top: one result, or the message cannot be read. */
static void call (struct dec *d, int nargs, const char *what) {
  lua_State *L = d->L;
  const char *s;
  if (lua_pcall(L, nargs, 1, 0) == LUA_OK) return;
  s = luaL_tolstring(L, -1, NULL);
  bad(d, "%s: %s", what, s);
}

static int step_class (struct dec *d) {
  lua_State *L = d->L;
  struct mpl_frame *f = &d->v->frames[d->depth - 1];
  int base = f->base, loads;
  uint32_t id;
  if (!only_child(d, !f->flag)) return 0;
  f = &d->v->frames[d->depth - 1];
  id = f->id;
  leave_ext(d, f);
  loads = lua_rawgeti(L, base, 4) != LUA_TNIL;
  if (loads) {
    lua_insert(L, -2);
    call(d, 1, "load of a class");
    lua_replace(L, base);
    number_at(d, id);
  } else {
    lua_pop(L, 1);
    (void)lua_rawgeti(L, base, 2);
    (void)lua_setmetatable(L, -2);
    lua_replace(L, base);
  }
  return 1;
}

static int step_named (struct dec *d) {
  lua_State *L = d->L;
  int base = d->v->frames[d->depth - 1].base;
  if (!only_child(d, 1)) return 0;
  leave_ext(d, &d->v->frames[d->depth - 1]);
  lua_pushvalue(L, base);
  (void)lua_setmetatable(L, -2);
  lua_replace(L, base);
  return 1;
}

static void want (struct dec *d, int base, const char *field, int type, int must) {
  int t;
  lua_pushstring(d->L, field);
  t = lua_rawget(d->L, base);
  if (t != type && (must || t != LUA_TNIL)) bad(d, "an error in it is malformed");
  lua_pop(d->L, 1);
}

static int step_error (struct dec *d) {
  lua_State *L = d->L;
  int base;
  if (!step_map(d)) return 0;
  base = d->v->frames[d->depth - 1].base;
  leave_ext(d, &d->v->frames[d->depth - 1]);
  want(d, base, "kind", LUA_TSTRING, 1);
  want(d, base, "message", LUA_TSTRING, 1);
  want(d, base, "traceback", LUA_TSTRING, 0);
  want(d, base, "name", LUA_TSTRING, 0);
  want(d, base, "pid", LUA_TNUMBER, 0);
  want(d, base, "exitcode", LUA_TNUMBER, 0);
  want(d, base, "signal", LUA_TNUMBER, 0);
  (void)luaL_newmetatable(L, "mp.Error");
  (void)lua_setmetatable(L, base);
  return 1;
}

static int l_travel_load (lua_State *L) {
  const struct mpl_travel *t = lua_touserdata(L, 2);
  int *fds = lua_touserdata(L, 3);
  int n = (int)lua_tointeger(L, 4);
  lua_settop(L, 1);
  t->load(L, fds, n);
  return 1;
}

static int step_travel (struct dec *d) {
  lua_State *L = d->L;
  struct mpl_frame *f;
  const struct mpl_travel *t;
  if (!only_child(d, 0)) return 0;
  f = &d->v->frames[d->depth - 1];
  leave_ext(d, f);
  t = lua_touserdata(L, f->base);
  lua_pushcfunction(L, l_travel_load);
  lua_insert(L, -2);
  lua_pushlightuserdata(L, (void *)(uintptr_t)t);
  lua_pushlightuserdata(L, d->p->fds + f->i);
  lua_pushinteger(L, (lua_Integer)f->n);
  call(d, 4, t->name);
  f = &d->v->frames[d->depth - 1];
  lua_replace(L, f->base);
  number_at(d, f->id);
  return 1;
}

static void run (struct dec *d) {
  while (d->depth > 0) {
    int r;
    switch (d->v->frames[d->depth - 1].kind) {
      case K_ARRAY: r = step_array(d); break;
      case K_MAP: r = step_map(d); break;
      case K_FUNC: r = step_function(d); break;
      case K_HANDLE: r = step_handle(d); break;
      case K_CLASS: r = step_class(d); break;
      case K_NAMED: r = step_named(d); break;
      case K_ERROR: r = step_error(d); break;
      default: r = step_travel(d); break;
    }
    if (r) {
      d->depth--;
      d->owed = d->v->frames[d->depth].owed;
    }
  }
}

/* ---- flat tables ---- */

/* A scalar of a few bytes; NULL: something else, or cut off. */
static inline const unsigned char *short_scalar (lua_State *L, struct mpl_codec *c, const unsigned char *at, const unsigned char *end) {
  size_t left = (size_t)(end - at);
  unsigned b;
  if (left == 0) return NULL;
  b = *at;
  if (b < 0x80) {
    lua_pushinteger(L, (lua_Integer)b);
    return at + 1;
  }
  if (b >= 0xa0 && b < 0xc0 && left > (b & 31u)) {
    mpl_push_known(L, c, at + 1, b & 31u);
    return at + 1 + (b & 31u);
  }
  if (b == 0xcb && left >= 9) {
    uint64_t bits = mpi_get64(at + 1);
    double f;
    memcpy(&f, &bits, 8);
    lua_pushnumber(L, f);
    return at + 9;
  }
  if (b >= 0xc2) {
    struct mpi_item it;
    const unsigned char *next = mpi_wire_get(at, end, &it);
    if (next == NULL) return NULL;
    switch (it.kind) {
      case MPI_W_BOOL: lua_pushboolean(L, (int)it.u.i); return next;
      case MPI_W_INT: lua_pushinteger(L, (lua_Integer)it.u.i); return next;
      case MPI_W_FLOAT: lua_pushnumber(L, it.u.f); return next;
      case MPI_W_STR: lua_pushlstring(L, (const char *)it.data, it.len); return next;
      default: return NULL;
    }
  }
  return NULL;
}

/* A small table that holds nothing but scalars needs no frames and no numbers. 1: pushed; 0: it is something else or malformed, and nothing has
** happened. Finalizers may run: the parcel is held. */
static int flat_table (lua_State *L, struct mpl_codec *c, const unsigned char *at, const unsigned char *end) {
  int map = *at < 0x90, top = lua_gettop(L);
  unsigned i, n = *at++ & 15u;
  if ((size_t)(end - at) < (map ? 2 * n : n) || !lua_checkstack(L, 8)) return 0;
  if (map) lua_createtable(L, 0, (int)n);
  else lua_createtable(L, (int)n, 0);
  for (i = 1; i <= n; i++) {
    if (map) {
      if (at == end || (*at & 0xe0u) != 0xa0u || (size_t)(end - at) <= (*at & 31u)) goto other;
      mpl_push_known(L, c, at + 1, *at & 31u);
      at += 1 + (*at & 31u);
    }
    at = short_scalar(L, c, at, end);
    if (at == NULL) goto other;
    if (map) lua_rawset(L, -3);
    else lua_rawseti(L, -2, (lua_Integer)i);
  }
  if (at == end) return 1;
other:
  lua_settop(L, top);
  return 0;
}

/* ---- whole messages ---- */

static void decode_deep (struct dec *d) {
  lua_State *L = d->L;
  struct mpi_item it;
  const unsigned char *next;
  luaL_checkstack(L, 16 * 5 + 40, NULL);
  d->checked = 16;
  if (d->at < d->end && *d->at >= 0xc7 && *d->at <= 0xd7 && (next = mpi_wire_get(d->at, d->end, &it)) != NULL && it.kind == MPI_W_EXT &&
      it.ext == MPI_X_HEAD) {
    uint64_t n;
    if (!mpi_wire_uint(it.data, it.len, &n) || n == 0 || n > (uint64_t)(d->end - next)) bad(d, "it claims more than it has bytes");
    d->at = next;
    d->ids = (uint32_t)n;
    lua_createtable(L, (int)(n < INT32_MAX ? n : INT32_MAX), 0);
    lua_newtable(L);
    d->refs = d->top + 1;
  }
  if (!value(d)) run(d);
  if (d->at != d->end) bad(d, "bytes follow it");
  if (d->refs != 0 && d->id != d->ids) bad(d, "fewer things than it says");
  if (d->refs != 0) {
    lua_replace(L, d->top + 1);
    lua_settop(L, d->top + 1);
  }
}

static int l_decode (lua_State *L) {
  struct dec *d = lua_touserdata(L, 1);
  d->L = L;
  d->top = 1;
  decode_deep(d);
  return 1;
}

static void close_rest (struct dec *d) {
  struct mpl_parcel *p = d->p;
  int i;
  for (i = 0; i < p->nfds; i++) mpi_fd_close(&p->fds[i]); /* those that found an owner are -1 */
  p->nfds = 0;
}

void mpl_decode (lua_State *L, struct mpl_parcel *p, unsigned flags) {
  struct dec d;
  struct mpi_item it;
  d.at = p->size > 0 ? p->data : (const unsigned char *)"";
  d.end = d.at + p->size;
  if (p->nfds == 0 && p->size > 0 && (p->data[0] < 0x80 || p->data[0] >= 0xa0)) { /* one scalar? */
    const unsigned char *next = mpi_wire_get(d.at, d.end, &it);
    if (next == d.end && it.kind <= MPI_W_STR) {
      switch (it.kind) {
        case MPI_W_NIL: lua_pushnil(L); return;
        case MPI_W_BOOL: lua_pushboolean(L, (int)it.u.i); return;
        case MPI_W_INT: lua_pushinteger(L, (lua_Integer)it.u.i); return;
        case MPI_W_FLOAT: lua_pushnumber(L, it.u.f); return;
        default: lua_pushlstring(L, (const char *)it.data, it.len); return;
      }
    }
  }
  d.L = L;
  d.p = p;
  d.owed = 0;
  d.depth = d.checked = 0;
  d.id = d.ids = 0;
  d.refs = 0;
  d.fd = 0;
  d.top = lua_gettop(L);
  d.flags = flags;
  d.inner = d.failed = 0;
  d.c = mpl_codec_for(L, p);
  d.v = mpl_level_enter(L, d.c, __builtin_frame_address(0));
  if (p->nfds == 0 && p->size > 0 && *d.at >= 0x80 && *d.at < 0xa0 && flat_table(L, d.c, d.at, d.end)) {
    mpl_level_leave(d.c);
    return;
  }
  if (p->nfds == 0) {
    decode_deep(&d);
  } else { /* whatever raises, the descriptors are ours to close */
    int rc, top = d.top;
    luaL_checkstack(L, 20, NULL); /* if this raises, the next message closes them, or the next user of the parcel */
    lua_pushcfunction(L, l_decode);
    lua_pushlightuserdata(L, &d);
    d.inner = 1;
    rc = lua_pcall(L, 1, 1, 0);
    d.inner = 0;
    d.L = L;
    d.top = top;
    close_rest(&d);
    if (rc != LUA_OK && d.failed) bad(&d, "%s", d.reason);
    if (rc != LUA_OK) {
      mpl_level_leave(d.c);
      (void)lua_error(L);
    }
  }
  mpl_level_leave(d.c);
}
