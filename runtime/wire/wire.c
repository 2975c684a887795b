#include "wire/wire.h"

#include "base/err.h"

unsigned char *mpi_put_int_long (unsigned char *at, int64_t i) {
  if (i >= 0) {
    if (i < 0x80) {
      *at = (unsigned char)i;
      return at + 1;
    }
    if (i <= 0xff) {
      at[0] = 0xcc;
      at[1] = (unsigned char)i;
      return at + 2;
    }
    if (i <= 0xffff) {
      *at = 0xcd;
      return mpi_put16(at + 1, (uint32_t)i);
    }
    if (i <= 0xffffffffLL) {
      *at = 0xce;
      return mpi_put32(at + 1, (uint32_t)i);
    }
    *at = 0xcf;
    return mpi_put64(at + 1, (uint64_t)i);
  }
  if (i >= -32) {
    *at = (unsigned char)i;
    return at + 1;
  }
  if (i >= INT8_MIN) {
    at[0] = 0xd0;
    at[1] = (unsigned char)i;
    return at + 2;
  }
  if (i >= INT16_MIN) {
    *at = 0xd1;
    return mpi_put16(at + 1, (uint32_t)i);
  }
  if (i >= INT32_MIN) {
    *at = 0xd2;
    return mpi_put32(at + 1, (uint32_t)i);
  }
  *at = 0xd3;
  return mpi_put64(at + 1, (uint64_t)i);
}

unsigned char *mpi_put_head_long (unsigned char *at, int what, uint32_t len) {
  /* first bytes of the forms with 1, 2 and 4 bytes of length; arrays and maps have none with 1 */
  unsigned char wide = what == MPI_W_STR ? 0xdb : what == MPI_W_ARRAY ? 0xdd : 0xdf;
  if (what == MPI_W_STR && len <= 0xff) {
    at[0] = 0xd9;
    at[1] = (unsigned char)len;
    return at + 2;
  }
  if (len <= 0xffff) {
    *at = (unsigned char)(wide - 1);
    return mpi_put16(at + 1, len);
  }
  *at = wide;
  return mpi_put32(at + 1, len);
}

unsigned char *mpi_put_ext_head (unsigned char *at, int ext, uint32_t len) {
  switch (len) {
    case 1: *at++ = 0xd4; break;
    case 2: *at++ = 0xd5; break;
    case 4: *at++ = 0xd6; break;
    case 8: *at++ = 0xd7; break;
    case 16: *at++ = 0xd8; break;
    default:
      if (len <= 0xff) {
        *at++ = 0xc7;
        *at++ = (unsigned char)len;
      } else if (len <= 0xffff) {
        *at++ = 0xc8;
        at = mpi_put16(at, len);
      } else {
        *at++ = 0xc9;
        at = mpi_put32(at, len);
      }
  }
  *at = (unsigned char)ext;
  return at + 1;
}

unsigned char *mpi_put_ext_uint (unsigned char *at, int ext, uint64_t v) {
  uint32_t len = v <= 0xff ? 1 : v <= 0xffff ? 2 : v <= 0xffffffffu ? 4 : 8;
  at = mpi_put_ext_head(at, ext, len);
  switch (len) {
    case 1: *at = (unsigned char)v; return at + 1;
    case 2: return mpi_put16(at, (uint32_t)v);
    case 4: return mpi_put32(at, (uint32_t)v);
    default: return mpi_put64(at, v);
  }
}

int mpi_wire_uint (const unsigned char *data, uint32_t len, uint64_t *out) {
  switch (len) {
    case 1: *out = data[0]; return 1;
    case 2: *out = mpi_get16(data); return 1;
    case 4: *out = mpi_get32(data); return 1;
    case 8: *out = mpi_get64(data); return 1;
    default: return 0;
  }
}

static const unsigned char *none (struct mpi_item *out, int kind) {
  out->kind = kind;
  return NULL;
}

static const unsigned char *counted (const unsigned char *at, uint32_t len, int kind, struct mpi_item *out) {
  out->kind = kind;
  out->len = len;
  return at;
}

static const unsigned char *bytes (const unsigned char *at, const unsigned char *end, uint32_t len, struct mpi_item *out) {
  if ((size_t)(end - at) < len) return none(out, MPI_W_CUT);
  out->kind = MPI_W_STR;
  out->len = len;
  out->data = at;
  return at + len;
}

/* at: the type byte, which the payload follows */
static const unsigned char *extension (const unsigned char *at, const unsigned char *end, uint32_t len, struct mpi_item *out) {
  if (at >= end || (size_t)(end - at) - 1 < len) return none(out, MPI_W_CUT);
  out->kind = MPI_W_EXT;
  out->ext = (signed char)*at;
  out->len = len;
  out->data = at + 1;
  return at + 1 + len;
}

static const unsigned char *integer (const unsigned char *at, int64_t i, struct mpi_item *out) {
  out->kind = MPI_W_INT;
  out->u.i = i;
  return at;
}

/* Bytes that follow the first one before anything of variable length: what must be there to read the head. By first byte - 0xc0. */
static const unsigned char fixed_part[32] = {
  /* nil, -, false, true */ 0, 0, 0, 0,
  /* bin 8 16 32, ext 8 16 32 */ 1, 2, 4, 1, 2, 4,
  /* float 32 64 */ 4, 8,
  /* uint 8 16 32 64, int 8 16 32 64 */ 1, 2, 4, 8, 1, 2, 4, 8,
  /* fixext 1 2 4 8 16 */ 0, 0, 0, 0, 0,
  /* str 8 16 32 */ 1, 2, 4,
  /* array 16 32, map 16 32 */ 2, 4, 2, 4};

const unsigned char *mpi_wire_get (const unsigned char *at, const unsigned char *end, struct mpi_item *out) {
  unsigned char c;
  if (at >= end) return none(out, MPI_W_CUT);
  c = *at++;
  if (c < 0x80) return integer(at, c, out);
  if (c >= 0xe0) return integer(at, (signed char)c, out);
  if (c < 0x90) return counted(at, c & 15u, MPI_W_MAP, out);
  if (c < 0xa0) return counted(at, c & 15u, MPI_W_ARRAY, out);
  if (c < 0xc0) return bytes(at, end, c & 31u, out);
  if (end - at < fixed_part[c - 0xc0]) return none(out, MPI_W_CUT);
  switch (c) {
    case 0xc0: out->kind = MPI_W_NIL; return at;
    case 0xc2:
    case 0xc3:
      out->kind = MPI_W_BOOL;
      out->u.i = c - 0xc2;
      return at;
    case 0xc4:
    case 0xd9: return bytes(at + 1, end, at[0], out);
    case 0xc5:
    case 0xda: return bytes(at + 2, end, mpi_get16(at), out);
    case 0xc6:
    case 0xdb: return bytes(at + 4, end, mpi_get32(at), out);
    case 0xc7: return extension(at + 1, end, at[0], out);
    case 0xc8: return extension(at + 2, end, mpi_get16(at), out);
    case 0xc9: return extension(at + 4, end, mpi_get32(at), out);
    case 0xca: {
      uint32_t b = mpi_get32(at);
      float f;
      memcpy(&f, &b, 4);
      out->kind = MPI_W_FLOAT;
      out->u.f = (double)f;
      return at + 4;
    }
    case 0xcb: {
      uint64_t b = mpi_get64(at);
      out->kind = MPI_W_FLOAT;
      memcpy(&out->u.f, &b, 8);
      return at + 8;
    }
    case 0xcc: return integer(at + 1, at[0], out);
    case 0xcd: return integer(at + 2, mpi_get16(at), out);
    case 0xce: return integer(at + 4, mpi_get32(at), out);
    case 0xcf: return mpi_get64(at) > INT64_MAX ? none(out, MPI_W_BAD) : integer(at + 8, (int64_t)mpi_get64(at), out);
    case 0xd0: return integer(at + 1, (int8_t)at[0], out);
    case 0xd1: return integer(at + 2, (int16_t)mpi_get16(at), out);
    case 0xd2: return integer(at + 4, (int32_t)mpi_get32(at), out);
    case 0xd3: return integer(at + 8, (int64_t)mpi_get64(at), out);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8: return extension(at, end, 1u << (c - 0xd4), out);
    case 0xdc: return counted(at + 2, mpi_get16(at), MPI_W_ARRAY, out);
    case 0xdd: return counted(at + 4, mpi_get32(at), MPI_W_ARRAY, out);
    case 0xde: return counted(at + 2, mpi_get16(at), MPI_W_MAP, out);
    case 0xdf: return counted(at + 4, mpi_get32(at), MPI_W_MAP, out);
    default: return none(out, MPI_W_BAD);
  }
}

int mpi_wire_check (const unsigned char *data, size_t size) {
  const unsigned char *at = data, *end = data + size;
  uint64_t owed = 1; /* items still to come; grows by at most 2^33 a byte: no overflow in any memory there is */
  struct mpi_item it;
  while (owed > 0) {
    at = mpi_wire_get(at, end, &it);
    if (at == NULL) return mpi_fail(MP_ECORRUPT, it.kind == MPI_W_CUT ? "a message is cut off" : "a message has a byte that begins no item");
    owed--;
    if (it.kind == MPI_W_ARRAY) owed += it.len;
    else if (it.kind == MPI_W_MAP) owed += 2 * (uint64_t)it.len;
    if (owed > (uint64_t)(end - at)) return mpi_fail(MP_ECORRUPT, "a message claims more items than it has bytes");
  }
  return at == end ? 0 : mpi_fail(MP_ECORRUPT, "bytes follow a message");
}

/* Payloads that are items: how many of them are no values of the sender's, before those that are; -1 for other payloads. */
static int items_before (int ext) {
  switch (ext) {
    case MPI_X_FUNC: return 2;
    case MPI_X_HANDLE: return 3;
    case MPI_X_CLASS: return 2;
    case MPI_X_NAMED: return 1;
    case MPI_X_ERROR: return 1;
    case MPI_X_TRAVEL: return 2;
    default: return -1;
  }
}

static size_t count (const unsigned char *data, size_t size, size_t *handles) {
  const unsigned char *at = data, *end = data + size;
  size_t n = 0;
  struct mpi_item it;
  while (at < end && (at = mpi_wire_get(at, end, &it)) != NULL) {
    int skip, ext = it.ext;
    if (it.kind != MPI_W_EXT || ext != MPI_X_HEAD) n++;
    if (it.kind != MPI_W_EXT) continue;
    if (ext == MPI_X_HANDLE || ext == MPI_X_TRAVEL) ++*handles;
    skip = items_before(ext);
    if (skip < 0) continue;
    at = it.data;
    while (at != NULL && skip-- > 0) at = mpi_wire_get(at, end, &it);
    if (ext == MPI_X_HANDLE && at != NULL && at < end && *at == 0xc0) at++; /* no companion */
    if (at == NULL) break;
  }
  return n;
}

size_t mpi_wire_count (const unsigned char *data, size_t size) {
  size_t handles = 0;
  return count(data, size, &handles);
}

size_t mpi_wire_handles (const unsigned char *data, size_t size) {
  size_t handles = 0;
  (void)count(data, size, &handles);
  return handles;
}

/* ---- SipHash-2-4 with 128 bits of output (Aumasson and Bernstein) ---- */

static inline uint64_t rotl (uint64_t x, int b) {
  return (x << b) | (x >> (64 - b));
}

static inline void sip_round (uint64_t v[4]) {
  v[0] += v[1];
  v[2] += v[3];
  v[1] = rotl(v[1], 13) ^ v[0];
  v[3] = rotl(v[3], 16) ^ v[2];
  v[0] = rotl(v[0], 32);
  v[2] += v[1];
  v[0] += v[3];
  v[1] = rotl(v[1], 17) ^ v[2];
  v[3] = rotl(v[3], 21) ^ v[0];
  v[2] = rotl(v[2], 32);
}

static uint64_t little (const unsigned char *p, size_t n) {
  uint64_t x = 0;
  size_t i;
  for (i = 0; i < n; i++) x |= (uint64_t)p[i] << (8 * i);
  return x;
}

static void put_little (unsigned char *p, uint64_t x) {
  int i;
  for (i = 0; i < 8; i++) p[i] = (unsigned char)(x >> (8 * i));
}

void mpi_wire_hash (const unsigned char key[16], const void *data, size_t size, unsigned char out[16]) {
  const unsigned char *p = data;
  uint64_t k0 = little(key, 8), k1 = little(key + 8, 8), m;
  uint64_t v[4] = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du ^ 0xee, k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u};
  size_t left;
  int i;
  for (left = size; left >= 8; left -= 8, p += 8) {
    m = little(p, 8);
    v[3] ^= m;
    sip_round(v);
    sip_round(v);
    v[0] ^= m;
  }
  m = little(p, left) | ((uint64_t)size << 56);
  v[3] ^= m;
  sip_round(v);
  sip_round(v);
  v[0] ^= m;
  v[2] ^= 0xee;
  for (i = 0; i < 4; i++) sip_round(v);
  put_little(out, v[0] ^ v[1] ^ v[2] ^ v[3]);
  v[1] ^= 0xdd;
  for (i = 0; i < 4; i++) sip_round(v);
  put_little(out + 8, v[0] ^ v[1] ^ v[2] ^ v[3]);
}
