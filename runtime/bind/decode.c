/* decode.c -- bytes to Lua values; the bytes may be anybody's.
**
** As in encode.c a value that contains others is a frame of ours. Stack of a frame: its object at `base` (an array's or map's table; an
** extension's placeholder), above it what is not yet delivered (a map's key). A finished value is on the top and is given to the frame
** below it.
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
};

/* ---- failing ---- */

static void bad (struct dec *d, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
static void bad (struct dec *d, const char *fmt, ...) {
  lua_State *L = d->L;
  char text[300];
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  lua_settop(L, d->top);
  luaL_checkstack(L, 12, NULL);
  if (d->v != NULL) mpl_level_leave(d->c);
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

__attribute__((unused)) static void get_string (struct dec *d, struct mpi_item *it) {
  d->at = get(d, d->at, it);
  if (it->kind != MPI_W_STR) bad(d, "a name is missing in it");
}

__attribute__((unused)) static void need_trust (struct dec *d, const char *what) {
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

__attribute__((unused)) static void number_at (struct dec *d, uint32_t id) {
  if (d->refs == 0) return;
  lua_pushvalue(d->L, -1);
  lua_rawseti(d->L, d->refs, id);
}

__attribute__((unused)) static uint32_t number_later (struct dec *d) {
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
    else if (f->kind == K_MAP) d->owed += 2 * (uint64_t)(f->n - f->i) - 1 - f->stage;
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

static void open_handle (struct dec *d, const struct mpi_item *it) {
  struct mpl_frame *f = open_ext(d, K_HANDLE, it);
  int type = (int)get_integer(d, 1, 1000), detail = (int)get_integer(d, INT32_MIN, INT32_MAX);
  int nfds = (int)get_integer(d, 0, MPI_OBJECT_FDS), rc;
  mp_object *o;
  (void)f;
  if (nfds == 0 || nfds > d->p->nfds - d->fd) bad(d, "descriptors are missing");
  rc = mpi_object_adopt(type, detail, d->p->fds + d->fd, nfds, &o);
  d->fd += nfds;
  if (rc != 0) bad(d, "%s", rc == MP_ENOMEM ? "not enough memory" : mp_errmsg());
  mpl_push(d->L, o);
  number(d);
}

static void open_other (struct dec *d, const struct mpi_item *it) {
  switch (it->ext) {
    case MPI_X_HANDLE: open_handle(d, it); break;
    case MPI_X_REF: {
      lua_State *L = d->L;
      lua_Integer id = ref_of(d, it);
      if (lua_rawgeti(L, d->refs, id) == LUA_TNIL) bad(d, "a reference to what is not there yet");
      if (lua_rawgeti(L, d->refs + 1, id) != LUA_TNIL) bad(d, "a reference to an upvalue");
      lua_pop(L, 1);
      break;
    }
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
    if (!value(d)) {
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
    if (!value(d)) {
      d->v->frames[me].flag = 1;
      return 0;
    }
  key:
    check_key(d);
    f->stage = 1;
    if (!value(d)) {
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

static int step_handle (struct dec *d) {
  lua_State *L = d->L;
  size_t me = d->depth - 1;
  struct mpl_frame *f = &d->v->frames[me];
  if (!f->flag) {
    f->flag = 1;
    if (!value(d)) return 0;
    f = &d->v->frames[me];
  }
  if (lua_getiuservalue(L, f->base, 1) == LUA_TNIL) {
    lua_pop(L, 1);
    (void)lua_setiuservalue(L, f->base, 1);
  } else {
    lua_pop(L, 2);
  }
  leave_ext(d, f);
  return 1;
}

static void run (struct dec *d) {
  while (d->depth > 0) {
    int r;
    switch (d->v->frames[d->depth - 1].kind) {
      case K_ARRAY: r = step_array(d); break;
      case K_MAP: r = step_map(d); break;
      default: r = step_handle(d); break;
    }
    if (r) {
      d->depth--;
      d->owed = d->v->frames[d->depth].owed;
    }
  }
}

/* ---- whole messages ---- */

static void decode_deep (struct dec *d) {
  lua_State *L = d->L;
  struct mpi_item it;
  const unsigned char *next = mpi_wire_get(d->at, d->end, &it);
  luaL_checkstack(L, 20, NULL);
  if (next != NULL && it.kind == MPI_W_EXT && it.ext == MPI_X_HEAD) {
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
  for (; d->fd < p->nfds; d->fd++) mpi_fd_close(&p->fds[d->fd]);
  p->nfds = 0;
}

void mpl_decode (lua_State *L, struct mpl_parcel *p, unsigned flags) {
  struct dec d;
  struct mpi_item it;
  d.at = p->data;
  d.end = p->data + p->size;
  if (p->nfds == 0 && p->size > 0) { /* one scalar? */
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
  d.v = NULL;
  d.c = mpl_codec_of(L);
  d.v = mpl_level_enter(L, d.c, __builtin_frame_address(0));
  if (p->nfds == 0) {
    decode_deep(&d);
  } else { /* whatever raises, the descriptors are ours to close */
    int rc;
    luaL_checkstack(L, 20, NULL);
    lua_pushcfunction(L, l_decode);
    lua_pushlightuserdata(L, &d);
    rc = lua_pcall(L, 1, 1, 0);
    close_rest(&d);
    if (rc != LUA_OK) (void)lua_error(L);
  }
  mpl_level_leave(d.c);
}
