/* codec_state.h -- what encode.c, decode.c, codec.c and names.c share. Not for others: codec.h is.
** Memory   one struct mpl_codec in a userdata of the registry, freed with the Lua state. Levels are added when Lua code that runs inside a
**          coding codes itself; a level is in use while a C frame above ours on the stack is (`live`): an error that unwound it needs no notice.
** Threads  as the Lua state.
*/
#ifndef MPL_CODEC_STATE_H
#define MPL_CODEC_STATE_H

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "bind/codec.h"

#define MPL_LEVELS 64 /* pointers; a level is made when it is first used */
#define MPL_DEPTH_MAX 150000u      /* nested values; two or three Lua stack slots each, of a million */
#define MPL_DEPTH_UNTRUSTED 10000u /* in what an untrusted peer sent, or a container holds */
#define MPL_DEPTH_KEPT 9900u       /* in what is put into a container: can be read again */
#define MPL_KEEP (4u << 20)        /* bytes that an idle parcel may keep */

struct mpl_slot { /* address -> number, valid when gen is the level's */
  const void *what;
  uint32_t gen;
  uint32_t id;
};

struct mpl_frame { /* a value that is being encoded or decoded; who uses which field is said there */
  unsigned char kind, stage, flag;
  int base;
  uint32_t n, i, id;
  size_t mark;
  uint64_t owed;
  const unsigned char *end;
};

struct mpl_level {
  struct mpl_parcel out, in;
  int idle_out, idle_in;
  struct mpl_slot *slots;
  uint32_t mask, used, gen;
  struct mpl_frame *frames;
  size_t room;
  const char *live;
};

#define MPL_KNOWN 64      /* strings; a power of two */
#define MPL_KNOWN_MOST 16 /* bytes */
struct mpl_known { /* a string that came twice: it is pushed from the registry instead of being hashed and looked for. Its bytes are `a`, `b`, `len` */
  uint64_t a, b;
  uint64_t next_a, next_b; /* what came last: if it comes again, it takes the place */
  unsigned char len, next_len;
  int ref; /* in the registry */
};

struct mpl_codec {
  struct mpl_level *levels[MPL_LEVELS];
  int depth; /* levels in use, some perhaps by frames that are gone */
  const void *error_meta;
  int scanned;
  uint64_t signature;         /* of package.loaded when it was scanned */
  unsigned char filter[1024]; /* a bit for each address of something that has a name: false positives only */
  unsigned char hash_key[16];
  lua_Integer bodies; /* kept */
  unsigned char *scratch; /* a function's dump in the making */
  size_t scratch_used, scratch_room;
  int anchored;
  struct mpl_known known[MPL_KNOWN];
};

/* The integer keys of the codec userdata's user value, a table. */
enum {
  MPL_C_NAMES = 1, /* object -> payload of MPI_X_NAME */
  MPL_C_CLASS_OF,  /* metatable -> {name, metatable, dump, load} */
  MPL_C_CLASSES,   /* name -> the same */
  MPL_C_TRAVEL_OF, /* metatable -> light pointer of struct mpl_travel */
  MPL_C_TRAVELS,   /* name -> the same */
  MPL_C_DUMPS,     /* weak: function -> hash .. dump */
  MPL_C_KEPT,      /* hash -> dump */
  MPL_C_ANCHORS,   /* what dump functions returned: keeps borrowed descriptors alive until mpl_encoded_done, or the next encoding */
  MPL_C_NAMED,     /* weak: __name -> metatable made here */
  MPL_C_MP,        /* the table mp */
  MPL_C_CORE       /* the table core */
};

/* ---- finding it fast ----
** A message of one integer takes 10 ns: two look-ups in the registry would double that. The thread remembers the last registry and its
** codec. A closed state's registry may lie at the same address later: each codec that ends turns the epoch. */
extern _Atomic uint64_t mpl_codec_epoch;
struct mpl_codec_last {
  const void *registry;
  uint64_t epoch;
  struct mpl_codec *codec;
};
extern _Thread_local struct mpl_codec_last mpl_codec_last __attribute__((tls_model("initial-exec")));
struct mpl_codec *mpl_codec_find (lua_State *L);

static inline struct mpl_codec *mpl_codec_of (lua_State *L) {
  if (__builtin_expect(mpl_codec_last.registry == lua_topointer(L, LUA_REGISTRYINDEX) &&
                         mpl_codec_last.epoch == atomic_load_explicit(&mpl_codec_epoch, memory_order_relaxed), 1))
    return mpl_codec_last.codec;
  return mpl_codec_find(L);
}

/* The same, quicker when p is the parcel that this thread has just been given. */
static inline struct mpl_codec *mpl_codec_for (lua_State *L, const struct mpl_parcel *p) {
  struct mpl_codec *c = mpl_codec_last.codec;
  if (mpl_codec_last.epoch == atomic_load_explicit(&mpl_codec_epoch, memory_order_relaxed) && c->depth < MPL_LEVELS) {
    const struct mpl_level *v = c->levels[c->depth];
    if (v != NULL && (p == &v->out || p == &v->in)) return c;
  }
  return mpl_codec_of(L);
}

/* The level that a coding beginning now would use. The stack grows down: a frame at or below `here` is not the caller's, so it is gone. */
struct mpl_level *mpl_level_search (lua_State *L, struct mpl_codec *c, const char *here); /* raises when too many */
void mpl_level_trim (struct mpl_level *v);
static inline struct mpl_level *mpl_level_at (lua_State *L, struct mpl_codec *c, const char *here) {
  return __builtin_expect(c->depth == 0 && c->levels[0] != NULL, 1) ? c->levels[0] : mpl_level_search(L, c, here);
}

static inline struct mpl_level *mpl_level_enter (lua_State *L, struct mpl_codec *c, const char *frame) {
  struct mpl_level *v = mpl_level_at(L, c, frame);
  if (__builtin_expect(v->room > 4096, 0)) mpl_level_trim(v); /* after something very deep */
  v->live = frame;
  c->depth++;
  return v;
}

static inline void mpl_level_leave (struct mpl_codec *c) {
  c->depth--;
}
void mpl_codec_table (lua_State *L, int which); /* pushes it */
void mpl_codec_set (lua_State *L, int which, int idx);

/* names.c: a scan of package.loaded, if it changed: 1 if it did. push: the payload of the name of the value at idx, if it has one and
** the name still leads to it: 1, else 0 and nothing. find: 1 and what the payload at `data` leads to, or 0 and a sentence why not; `load`:
** modules that are not there are required. */
int mpl_names_scan (lua_State *L, struct mpl_codec *c);
void mpl_names_changed (lua_State *L); /* mp has more of them now */
int mpl_names_push (lua_State *L, struct mpl_codec *c, int idx);
int mpl_names_find (lua_State *L, const unsigned char *data, size_t size, int load);

static inline uint32_t mpl_address_hash (const void *p) {
  uint64_t x = ((uint64_t)(uintptr_t)p >> 4) * 0x9e3779b97f4a7c15u;
  return (uint32_t)(x >> 32);
}
static inline int mpl_maybe_named (const struct mpl_codec *c, const void *p) {
  uint32_t h = mpl_address_hash(p) >> 19; /* 13 bits */
  return c->filter[h >> 3] & (1u << (h & 7));
}

void mpl_push_unknown (lua_State *L, struct mpl_known *k, const unsigned char *s, size_t len, uint64_t a, uint64_t b);

/* Pushes a string that is likely to have been here before: a field's name. */
static inline void mpl_push_known (lua_State *L, struct mpl_codec *c, const unsigned char *s, size_t len) {
  uint64_t a = 0, b = 0;
  struct mpl_known *k;
  if (len - 1 >= MPL_KNOWN_MOST) { /* 0 too */
    lua_pushlstring(L, (const char *)s, len);
    return;
  }
  if (len >= 8) {
    memcpy(&a, s, 8);
    memcpy(&b, s + len - 8, 8);
  } else if (len >= 4) {
    uint32_t x, y;
    memcpy(&x, s, 4);
    memcpy(&y, s + len - 4, 4);
    a = (uint64_t)y << 32 | x;
  } else {
    a = s[0] | (uint32_t)s[len / 2] << 8 | (uint32_t)s[len - 1] << 16;
  }
  k = &c->known[((a ^ (b + len)) * 0x9e3779b97f4a7c15u) >> 58];
  if (k->a == a && k->b == b && k->len == len && lua_rawgeti(L, LUA_REGISTRYINDEX, k->ref) == LUA_TSTRING) return;
  mpl_push_unknown(L, k, s, len, a, b);
}

/* Where the script called us: "script.lua:12: " (or ""), and the name of the running C function: "queue:put". Push one string each. */
void mpl_push_where (lua_State *L);
void mpl_push_who (lua_State *L);

/* Bodies of the message in the making are pending: add gives 0 when full; mark and back undo; commit makes them known. */
int mpl_bodies_has (const struct mpl_bodies *b, const unsigned char hash[16]);
int mpl_bodies_add (struct mpl_bodies *b, const unsigned char hash[16]);
unsigned mpl_bodies_mark (const struct mpl_bodies *b);
void mpl_bodies_back (struct mpl_bodies *b, unsigned mark);
void mpl_bodies_commit (struct mpl_bodies *b);

void mpl_codec_anchors_drop (lua_State *L, struct mpl_codec *c);

#endif
