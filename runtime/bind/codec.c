/* codec.c -- the codec's state, parcels and errors. */
#include <lauxlib.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/fault.h"
#include "bind/codec_state.h"
#include "bind/udata.h"

static const char codec_key = 0;

_Atomic uint64_t mpl_codec_epoch = 1;
_Thread_local struct mpl_codec_last mpl_codec_last;

static void parcel_free (struct mpl_parcel *p) {
  free(p->data);
  free(p->fds);
  memset(p, 0, sizeof *p);
}

static int l_codec_gc (lua_State *L) {
  struct mpl_codec *c = lua_touserdata(L, 1);
  int i;
  (void)atomic_fetch_add_explicit(&mpl_codec_epoch, 1, memory_order_relaxed);
  for (i = 0; i < MPL_LEVELS; i++) {
    struct mpl_level *v = c->levels[i];
    if (v == NULL) continue;
    parcel_free(&v->out);
    parcel_free(&v->in);
    free(v->slots);
    free(v->frames);
    free(v);
    c->levels[i] = NULL;
  }
  free(c->scratch);
  c->scratch = NULL;
  c->depth = 0;
  return 0;
}

static void new_table (lua_State *L, int t, int which, const char *mode) {
  lua_newtable(L);
  if (mode != NULL) {
    lua_newtable(L);
    lua_pushstring(L, mode);
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
  }
  lua_rawseti(L, t, which);
}

/* The references are never given back: a state has one codec. */
static struct mpl_codec *make (lua_State *L) {
  struct mpl_codec *c;
  int i;
  luaL_checkstack(L, 8, NULL);
  c = lua_newuserdatauv(L, sizeof *c, 1);
  memset(c, 0, sizeof *c);
  if (getrandom(c->hash_key, sizeof c->hash_key, GRND_NONBLOCK) < 0) memcpy(c->hash_key, &c, sizeof c);
  lua_newtable(L);
  lua_pushcfunction(L, l_codec_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_newtable(L);
  {
    int t = lua_gettop(L);
    new_table(L, t, MPL_C_NAMES, NULL);
    new_table(L, t, MPL_C_CLASS_OF, "k");
    new_table(L, t, MPL_C_CLASSES, NULL);
    new_table(L, t, MPL_C_TRAVEL_OF, NULL);
    new_table(L, t, MPL_C_TRAVELS, NULL);
    new_table(L, t, MPL_C_DUMPS, "k");
    new_table(L, t, MPL_C_KEPT, NULL);
    new_table(L, t, MPL_C_ANCHORS, NULL);
    new_table(L, t, MPL_C_NAMED, "v");
  }
  (void)lua_setiuservalue(L, -2, 1);
  (void)luaL_newmetatable(L, "mp.Error");
  c->error_meta = lua_topointer(L, -1);
  lua_pop(L, 1);
  for (i = 0; i < MPL_KNOWN; i++) { /* all at once: so many that they come into the registry's array part */
    lua_pushboolean(L, 0);
    c->known[i].ref = luaL_ref(L, LUA_REGISTRYINDEX);
  }
  lua_rawsetp(L, LUA_REGISTRYINDEX, &codec_key);
  return c;
}

struct mpl_codec *mpl_codec_find (lua_State *L) {
  struct mpl_codec *c;
  luaL_checkstack(L, 4, NULL);
  (void)lua_rawgetp(L, LUA_REGISTRYINDEX, &codec_key);
  c = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (c == NULL) c = make(L);
  mpl_codec_last.registry = lua_topointer(L, LUA_REGISTRYINDEX);
  mpl_codec_last.epoch = atomic_load_explicit(&mpl_codec_epoch, memory_order_relaxed);
  mpl_codec_last.codec = c;
  return c;
}

void mpl_codec_table (lua_State *L, int which) {
  (void)mpl_codec_of(L);
  (void)lua_rawgetp(L, LUA_REGISTRYINDEX, &codec_key);
  (void)lua_getiuservalue(L, -1, 1);
  (void)lua_rawgeti(L, -1, which);
  lua_replace(L, -3);
  lua_pop(L, 1);
}

void mpl_codec_set (lua_State *L, int which, int idx) {
  lua_pushvalue(L, idx);
  (void)lua_rawgetp(L, LUA_REGISTRYINDEX, &codec_key);
  (void)lua_getiuservalue(L, -1, 1);
  lua_pushvalue(L, -3);
  lua_rawseti(L, -2, which);
  lua_pop(L, 3);
}

/* ---- strings that come again and again ---- */

_Static_assert(MPL_KNOWN == 64, "the index is the highest six bits of a hash");

void mpl_push_unknown (lua_State *L, struct mpl_known *k, const unsigned char *s, size_t len, uint64_t a, uint64_t b) {
  if (k->a == a && k->b == b && k->len == len) { /* somebody wrote over our place in the registry */
    lua_pop(L, 1);
    k->len = 0;
  }
  lua_pushlstring(L, (const char *)s, len);
  if (k->next_a == a && k->next_b == b && k->next_len == len) {
    lua_pushvalue(L, -1);
    k->len = 0;
    lua_rawseti(L, LUA_REGISTRYINDEX, k->ref);
    k->a = a;
    k->b = b;
    k->len = (unsigned char)len;
  }
  k->next_a = a;
  k->next_b = b;
  k->next_len = (unsigned char)len;
}

/* ---- levels ---- */

struct mpl_level *mpl_level_search (lua_State *L, struct mpl_codec *c, const char *here) {
  struct mpl_level *v;
  while (c->depth > 0 && c->levels[c->depth - 1]->live <= here) c->depth--;
  if (c->depth == MPL_LEVELS) {
    luaL_error(L, "messages within messages: more than %d levels of dump, load or finalizer functions", MPL_LEVELS);
    return NULL;
  }
  v = c->levels[c->depth];
  if (v == NULL) {
    v = calloc(1, sizeof *v);
    if (v == NULL) luaL_error(L, "not enough memory");
    c->levels[c->depth] = v;
  }
  return v;
}

void mpl_level_trim (struct mpl_level *v) {
  free(v->frames);
  v->frames = NULL;
  v->room = 0;
}

void mpl_parcels_hold (lua_State *L, const void *frame) {
  (void)mpl_level_enter(L, mpl_codec_of(L), frame);
}

void mpl_parcels_release (lua_State *L) {
  mpl_level_leave(mpl_codec_of(L));
}

/* ---- parcels ---- */

/* Emptied; what one large message left is given back after some small ones. */
static struct mpl_parcel *empty (struct mpl_parcel *p, int *idle) {
  if (p->room > MPL_KEEP) {
    *idle = p->size < p->room / 8 ? *idle + 1 : 0;
    if (*idle > 16) {
      free(p->data);
      p->data = NULL;
      p->room = 0;
      *idle = 0;
    }
  }
  p->size = 0;
  p->nfds = 0;
  return p;
}

struct mpl_parcel *mpl_parcel_out (lua_State *L) {
  struct mpl_level *v = mpl_level_at(L, mpl_codec_of(L), __builtin_frame_address(0));
  return empty(&v->out, &v->idle_out);
}

struct mpl_parcel *mpl_parcel_in (lua_State *L) {
  struct mpl_level *v = mpl_level_at(L, mpl_codec_of(L), __builtin_frame_address(0));
  return empty(&v->in, &v->idle_in);
}

int mpl_parcel_reserve (struct mpl_parcel *p, size_t size, int nfds) {
  if (p->room < size) {
    size_t room = size < 512 ? 512 : size + size / 2;
    unsigned char *d = MPI_FAULT_HERE("parcel.alloc.fail") ? NULL : realloc(p->data, room);
    if (d == NULL) return MP_ENOMEM;
    p->data = d;
    p->room = room;
  }
  if (p->fds_room < nfds) {
    int room = nfds + nfds / 2 + 8;
    int *f = MPI_FAULT_HERE("parcel.alloc.fail") ? NULL : realloc(p->fds, (size_t)room * sizeof *f);
    if (f == NULL) return MP_ENOMEM;
    p->fds = f;
    p->fds_room = room;
  }
  return 0;
}

int mpl_parcel_add_fd (struct mpl_parcel *p, int fd) {
  if (p->nfds == p->fds_room && mpl_parcel_reserve(p, 0, p->nfds + 1) != 0) return MP_ENOMEM;
  p->fds[p->nfds++] = fd;
  return 0;
}

/* ---- errors ---- */

void mpl_error_new (lua_State *L, const char *kind, const char *message) {
  luaL_checkstack(L, 6, NULL);
  if (message != NULL) lua_pushstring(L, message);
  lua_createtable(L, 0, 6);
  if (lua_type(L, -2) != LUA_TSTRING) {
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "value");
    (void)luaL_tolstring(L, -2, NULL);
    lua_replace(L, -3);
  }
  lua_insert(L, -2);
  lua_setfield(L, -2, "message");
  lua_pushstring(L, kind);
  lua_setfield(L, -2, "kind");
  (void)luaL_newmetatable(L, "mp.Error");
  lua_setmetatable(L, -2);
}

int mpl_iserror (lua_State *L, int idx) {
  int is;
  if (lua_type(L, idx) != LUA_TTABLE || !lua_getmetatable(L, idx)) return 0;
  is = lua_topointer(L, -1) == mpl_codec_of(L)->error_meta;
  lua_pop(L, 1);
  return is;
}

void mpl_push_where (lua_State *L) {
  lua_Debug ar;
  int level;
  for (level = 1; lua_getstack(L, level, &ar); level++) {
    (void)lua_getinfo(L, "Sl", &ar);
    if (ar.currentline > 0 && strncmp(ar.source, "@mp/", 4) != 0) {
      lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
      return;
    }
  }
  lua_pushliteral(L, "");
}

/* "queue:put" for a method of an mp.Queue (its first argument), "explain" for a function. */
void mpl_push_who (lua_State *L) {
  lua_Debug ar;
  char text[64];
  int called = mpl_called(L, &ar);
  text[0] = '\0';
  if (called && lua_type(L, 1) == LUA_TUSERDATA && lua_getmetatable(L, 1)) {
    lua_pushliteral(L, "__name");
    if (lua_rawget(L, -2) == LUA_TSTRING && strncmp(lua_tostring(L, -1), "mp.", 3) == 0) {
      (void)snprintf(text, sizeof text, "%s:", lua_tostring(L, -1) + 3);
      if (text[0] >= 'A' && text[0] <= 'Z') text[0] = (char)(text[0] + 32);
    }
    lua_pop(L, 2);
  }
  if (!called && mpl_push_name(L, &ar)) {
    lua_pushliteral(L, ": ");
    lua_concat(L, 2);
  } else if (!called) {
    lua_pushliteral(L, "");
  } else {
    lua_pushfstring(L, "%s%s: ", text, ar.name);
  }
}

/* ---- bodies ---- */

#define BODIES 512u /* slots; half of them are filled at most */
#define PENDING 64u

struct mpl_bodies {
  unsigned used, pending;
  unsigned char set[BODIES], hash[BODIES][16], next[PENDING][16];
};

struct mpl_bodies *mpl_bodies_new (void) {
  return calloc(1, sizeof(struct mpl_bodies));
}

void mpl_bodies_forget (struct mpl_bodies *b) {
  memset(b, 0, sizeof *b);
}

void mpl_bodies_free (struct mpl_bodies *b) {
  free(b);
}

static unsigned body_slot (const struct mpl_bodies *b, const unsigned char hash[16]) {
  unsigned i = (hash[0] | (unsigned)hash[1] << 8) % BODIES;
  while (b->set[i] && memcmp(b->hash[i], hash, 16) != 0) i = (i + 1) % BODIES;
  return i;
}

int mpl_bodies_has (const struct mpl_bodies *b, const unsigned char hash[16]) {
  unsigned i;
  if (b->set[body_slot(b, hash)]) return 1;
  for (i = 0; i < b->pending; i++)
    if (memcmp(b->next[i], hash, 16) == 0) return 1;
  return 0;
}

int mpl_bodies_add (struct mpl_bodies *b, const unsigned char hash[16]) {
  if (b->pending == PENDING || b->used + b->pending >= BODIES / 2) return 0;
  memcpy(b->next[b->pending++], hash, 16);
  return 1;
}

unsigned mpl_bodies_mark (const struct mpl_bodies *b) {
  return b->pending;
}

void mpl_bodies_back (struct mpl_bodies *b, unsigned mark) {
  b->pending = mark;
}

void mpl_bodies_commit (struct mpl_bodies *b) {
  while (b->pending > 0) {
    const unsigned char *h = b->next[--b->pending];
    unsigned i = body_slot(b, h);
    b->set[i] = 1;
    memcpy(b->hash[i], h, 16);
    b->used++;
  }
}

void mpl_codec_anchors_drop (lua_State *L, struct mpl_codec *c) {
  lua_newtable(L);
  mpl_codec_set(L, MPL_C_ANCHORS, -1);
  lua_pop(L, 1);
  c->anchored = 0;
}

static int l_drop (lua_State *L) {
  mpl_codec_anchors_drop(L, mpl_codec_of(L));
  return 0;
}

void mpl_encoded_done (lua_State *L) {
  const struct mpl_codec *c = mpl_codec_of(L);
  if (!c->anchored || c->depth != 0 || !lua_checkstack(L, 4)) return; /* inside another coding: its parcel needs them still */
  lua_pushcfunction(L, l_drop);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK) lua_pop(L, 1);
}

void mpl_encoded_push (lua_State *L) {
  luaL_checkstack(L, 2, NULL);
  if (mpl_codec_of(L)->anchored) mpl_codec_table(L, MPL_C_ANCHORS); /* letting go replaces it */
  else lua_pushnil(L);
}

/* ---- types that travel in their own way ---- */

void mpl_travel_register (lua_State *L, const struct mpl_travel *t) {
  luaL_checkstack(L, 6, NULL);
  mpl_codec_table(L, MPL_C_TRAVEL_OF);
  lua_pushvalue(L, -2);
  lua_pushlightuserdata(L, (void *)(uintptr_t)t);
  lua_rawset(L, -3);
  mpl_codec_table(L, MPL_C_TRAVELS);
  lua_pushlightuserdata(L, (void *)(uintptr_t)t);
  lua_setfield(L, -2, t->name);
  lua_pop(L, 2);
}
