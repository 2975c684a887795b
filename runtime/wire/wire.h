/* wire.h -- items of a message: MessagePack, and the extensions for what Lua adds. Bytes only: no Lua, no descriptors.
** Units    bytes; lengths of strings, arrays and maps below 2^32.
** Memory   nothing is allocated. What an item points to is the caller's span.
** Writing  mpi_put_* write at `at`, where the caller has made the room that each states, and give the position behind.
** Reading  mpi_wire_get reads one item's head at `at` (below `end`) and checks every length against `end`. It gives NULL and a kind of
**          MPI_W_CUT or MPI_W_BAD if there is none. A string's and an extension's bytes are skipped; an array's and a map's items follow.
** Plain    nil, booleans, integers, floats (always 64 bits), strings, arrays and maps are ordinary MessagePack. A Lua string is a `str`,
**          whatever its bytes; `bin` and 32-bit floats are read too. An unsigned integer above 2^63-1 is refused: Lua has none.
** Beyond   the extensions below. Their payload contains whole items, so that any MessagePack reader can skip them.
** Numbers  tables, functions, upvalues, handles and objects are numbered 1, 2, ... in the order in which they *begin* in the message; a second
**          appearance is MPI_X_REF with that number. A message with references begins with MPI_X_HEAD.
** Safety   any thread, signal handlers too.
*/
#ifndef MPI_WIRE_H
#define MPI_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum mpi_wire_kind {
  MPI_W_NIL,
  MPI_W_BOOL,
  MPI_W_INT,
  MPI_W_FLOAT,
  MPI_W_STR,   /* str or bin */
  MPI_W_ARRAY, /* len items follow */
  MPI_W_MAP,   /* len pairs follow */
  MPI_W_EXT,
  MPI_W_CUT, /* the span ends inside the item */
  MPI_W_BAD  /* no such item, or an integer that Lua cannot hold */
};

/* Extension types. "uint" is a big-endian unsigned number of 1, 2, 4 or 8 bytes that fills the payload. */
enum mpi_wire_ext {
  MPI_X_HEAD = 1,  /* first in a message that has references: uint, how many things are numbered */
  MPI_X_REF = 2,   /* uint: what began as that number */
  MPI_X_NAME = 3,  /* 1 to 3 strings: module, field, field. The module "_G" alone is the globals */
  MPI_X_FUNC = 4,  /* integer: upvalues; body: string (a dump), or MPI_X_KEPT, or MPI_X_BODY and a string; then the upvalues: a value, or
                   ** MPI_X_UPREF, or MPI_X_ENV. Numbered; an upvalue that is a value is numbered, too, before its value */
  MPI_X_UPREF = 5, /* uint: the upvalue with that number is shared */
  MPI_X_ENV = 6,   /* one byte 0: the receiver's globals */
  MPI_X_HANDLE = 7, /* integers: type, detail, descriptors; then the companion: a value. Numbered */
  MPI_X_CLASS = 8,  /* string: the class; boolean: was it dumped; then a value: the dump, or the object's table. Numbered here if dumped, else
                    ** the table is */
  MPI_X_NAMED = 9,  /* string: __name of the metatable; then the table */
  MPI_X_ERROR = 10, /* a map: the fields of an mp.Error */
  MPI_X_TRAVEL = 11, /* string: type; integer: descriptors; then a value that represents it. Numbered */
  MPI_X_BODY = 12,   /* 16 bytes: a body's hash; the receiver keeps the body that follows */
  MPI_X_KEPT = 13    /* 16 bytes: the hash of a body that the receiver has kept */
};

struct mpi_item {
  int kind;
  int ext;                   /* MPI_W_EXT */
  uint32_t len;              /* bytes, items or pairs */
  const unsigned char *data; /* MPI_W_STR, MPI_W_EXT: the bytes */
  union {
    int64_t i; /* also MPI_W_BOOL */
    double f;
  } u;
};

/* ---- big-endian numbers ---- */

static inline unsigned char *mpi_put16 (unsigned char *at, uint32_t v) {
  uint16_t b = __builtin_bswap16((uint16_t)v);
  memcpy(at, &b, 2);
  return at + 2;
}
static inline unsigned char *mpi_put32 (unsigned char *at, uint32_t v) {
  uint32_t b = __builtin_bswap32(v);
  memcpy(at, &b, 4);
  return at + 4;
}
static inline unsigned char *mpi_put64 (unsigned char *at, uint64_t v) {
  uint64_t b = __builtin_bswap64(v);
  memcpy(at, &b, 8);
  return at + 8;
}
static inline uint16_t mpi_get16 (const unsigned char *at) {
  uint16_t b;
  memcpy(&b, at, 2);
  return __builtin_bswap16(b);
}
static inline uint32_t mpi_get32 (const unsigned char *at) {
  uint32_t b;
  memcpy(&b, at, 4);
  return __builtin_bswap32(b);
}
static inline uint64_t mpi_get64 (const unsigned char *at) {
  uint64_t b;
  memcpy(&b, at, 8);
  return __builtin_bswap64(b);
}

/* ---- writing: at most MPI_W_HEAD_ROOM bytes each, strings' bytes not counted ---- */

#define MPI_W_HEAD_ROOM 10

static inline unsigned char *mpi_put_nil (unsigned char *at) {
  *at = 0xc0;
  return at + 1;
}
static inline unsigned char *mpi_put_bool (unsigned char *at, int b) {
  *at = b ? 0xc3 : 0xc2;
  return at + 1;
}
unsigned char *mpi_put_int_long (unsigned char *at, int64_t i); /* any, in its shortest form */
static inline unsigned char *mpi_put_int (unsigned char *at, int64_t i) {
  if ((uint64_t)i < 128u) {
    *at = (unsigned char)i;
    return at + 1;
  }
  return mpi_put_int_long(at, i);
}
static inline unsigned char *mpi_put_float (unsigned char *at, double f) {
  uint64_t bits;
  memcpy(&bits, &f, 8);
  *at = 0xcb;
  return mpi_put64(at + 1, bits);
}
unsigned char *mpi_put_head_long (unsigned char *at, int what, uint32_t len);
static inline unsigned char *mpi_put_str_head (unsigned char *at, uint32_t len) {
  if (len < 32) {
    *at = (unsigned char)(0xa0u | len);
    return at + 1;
  }
  return mpi_put_head_long(at, MPI_W_STR, len);
}
static inline unsigned char *mpi_put_array_head (unsigned char *at, uint32_t len) {
  if (len < 16) {
    *at = (unsigned char)(0x90u | len);
    return at + 1;
  }
  return mpi_put_head_long(at, MPI_W_ARRAY, len);
}
static inline unsigned char *mpi_put_map_head (unsigned char *at, uint32_t pairs) {
  if (pairs < 16) {
    *at = (unsigned char)(0x80u | pairs);
    return at + 1;
  }
  return mpi_put_head_long(at, MPI_W_MAP, pairs);
}
/* An extension whose payload's length is set afterwards: MPI_W_EXT_OPEN bytes, then the payload, then close. */
#define MPI_W_EXT_OPEN 6
static inline unsigned char *mpi_put_ext_open (unsigned char *at, int ext) {
  at[0] = 0xc9;
  at[5] = (unsigned char)ext;
  return at + 6;
}
static inline void mpi_put_ext_close (unsigned char *open, uint32_t payload) {
  (void)mpi_put32(open + 1, payload);
}
unsigned char *mpi_put_ext_uint (unsigned char *at, int ext, uint64_t v); /* at most MPI_W_HEAD_ROOM */
unsigned char *mpi_put_ext_head (unsigned char *at, int ext, uint32_t len); /* at most 6, the shortest form; the payload is to follow */

/* ---- reading ---- */

const unsigned char *mpi_wire_get (const unsigned char *at, const unsigned char *end, struct mpi_item *out);

/* The uint that fills a payload; 0 if the length is none of 1, 2, 4, 8. */
int mpi_wire_uint (const unsigned char *data, uint32_t len, uint64_t *out);

/* Is this exactly one whole item (extensions' payloads are not looked into)? 0 or MP_ECORRUPT. */
int mpi_wire_check (const unsigned char *data, size_t size);

/* How many values and keys a message of ours has, those in extensions included; meaningful for what mpl_encode wrote. */
size_t mpi_wire_count (const unsigned char *data, size_t size);
size_t mpi_wire_handles (const unsigned char *data, size_t size); /* how many of them are handles */

/* 128 bits of SipHash-2-4 under a key of 128 bits: names a function's body between a sender and a receiver. */
void mpi_wire_hash (const unsigned char key[16], const void *data, size_t size, unsigned char out[16]);

#endif
