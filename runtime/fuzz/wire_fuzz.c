/* wire_fuzz.c -- the plain part of the wire format against another implementation: msgpack-c, where it is installed. What we accept it must
** accept, with the same values; what we write again must be, byte for byte, what it writes. Without it, only the bounds are tried. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/wire.h"

#if defined(__has_include)
#if __has_include(<msgpack.h>)
#define ORACLE 1
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <msgpack.h>
#pragma GCC diagnostic pop
#endif
#endif

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

#define MUST(cond)                                              \
  do {                                                          \
    if (!(cond)) {                                              \
      fprintf(stderr, "wire_fuzz.c:%d: %s\n", __LINE__, #cond); \
      abort();                                                  \
    }                                                           \
  } while (0)

struct shape {
  int deepest, floats32, bins;
};

/* Reads the one item at `at`, nested less than 30 deep, and writes it again behind *out. */
static const unsigned char *copy (const unsigned char *at, const unsigned char *end, unsigned char **out, struct shape *s, int depth) {
  struct mpi_item it;
  unsigned char first = *at;
  uint64_t i, n = 0;
  at = mpi_wire_get(at, end, &it);
  MUST(at != NULL);
  if (depth > s->deepest) s->deepest = depth;
  if (depth > 28) return NULL;
  s->floats32 += first == 0xca;
  s->bins += first >= 0xc4 && first <= 0xc6;
  switch (it.kind) {
    case MPI_W_NIL: *out = mpi_put_nil(*out); break;
    case MPI_W_BOOL: *out = mpi_put_bool(*out, (int)it.u.i); break;
    case MPI_W_INT: *out = mpi_put_int(*out, it.u.i); break;
    case MPI_W_FLOAT: *out = mpi_put_float(*out, it.u.f); break;
    case MPI_W_STR:
      *out = mpi_put_str_head(*out, it.len);
      memcpy(*out, it.data, it.len);
      *out += it.len;
      break;
    case MPI_W_EXT:
      *out = mpi_put_ext_head(*out, it.ext, it.len);
      memcpy(*out, it.data, it.len);
      *out += it.len;
      break;
    case MPI_W_ARRAY:
      *out = mpi_put_array_head(*out, it.len);
      n = it.len;
      break;
    default:
      *out = mpi_put_map_head(*out, it.len);
      n = 2 * (uint64_t)it.len;
      break;
  }
  for (i = 0; i < n && at != NULL; i++) at = copy(at, end, out, s, depth + 1);
  return at;
}

#ifdef ORACLE
static msgpack_unpack_return (*unpack_next) (msgpack_unpacked *, const char *, size_t, size_t *);
static int (*pack_object) (msgpack_packer *, msgpack_object);
static void (*zone_free) (msgpack_zone *);

static int find_oracle (void) {
  static int tried;
  if (!tried) {
    void *lib = dlopen("libmsgpackc.so.2", RTLD_NOW);
    tried = 1;
    if (lib != NULL) {
      *(void **)&unpack_next = dlsym(lib, "msgpack_unpack_next");
      *(void **)&pack_object = dlsym(lib, "msgpack_pack_object");
      *(void **)&zone_free = dlsym(lib, "msgpack_zone_free");
    }
    if (lib == NULL || unpack_next == NULL || pack_object == NULL || zone_free == NULL) {
      unpack_next = NULL;
      fprintf(stderr, "wire_fuzz: no libmsgpackc.so.2: without its judgement\n");
    }
  }
  return unpack_next != NULL;
}

struct text {
  unsigned char *at;
};

static int append (void *ud, const char *p, size_t n) {
  struct text *t = ud;
  if (n > 0) memcpy(t->at, p, n); /* p may be NULL */
  t->at += n;
  return 0;
}

static void judge (const uint8_t *data, size_t size, const unsigned char *ours, size_t n, const struct shape *s) {
  msgpack_unpacked u;
  size_t off = 0;
  memset(&u, 0, sizeof u);
  MUST(unpack_next(&u, (const char *)data, size, &off) == MSGPACK_UNPACK_SUCCESS);
  MUST(off == size);
  if (s->floats32 == 0 && s->bins == 0) {
    unsigned char *theirs = malloc(size * 10 + 16);
    struct text t = {theirs};
    msgpack_packer k = {&t, append};
    MUST(theirs != NULL);
    MUST(pack_object(&k, u.data) == 0);
    MUST((size_t)(t.at - theirs) == n && memcmp(theirs, ours, n) == 0);
    free(theirs);
  }
  if (u.zone != NULL) zone_free(u.zone);
}

/* What we refuse it refuses, where its own memory allows to ask: without large claims. */
static void judge_refusal (const uint8_t *data, size_t size) {
  msgpack_unpacked u;
  size_t off = 0, i;
  for (i = 0; i < size; i++)
    if ((data[i] >= 0xdc && data[i] <= 0xdf) || data[i] == 0xcf) return;
  memset(&u, 0, sizeof u);
  MUST(unpack_next(&u, (const char *)data, size, &off) != MSGPACK_UNPACK_SUCCESS || off != size);
  if (u.zone != NULL) zone_free(u.zone);
}
#endif

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size) {
  unsigned char *out, *at;
  struct shape s = {0, 0, 0};
  if (mpi_wire_check(data, size) != 0) {
    (void)mpi_wire_count(data, size);
#ifdef ORACLE
    if (size < 500 && find_oracle()) judge_refusal(data, size);
#endif
    return 0;
  }
  (void)mpi_wire_count(data, size);
  at = out = malloc(size * 10 + 16); /* a 32-bit float grows, nothing else */
  MUST(out != NULL);
  if (copy(data, data + size, &at, &s, 1) != NULL) {
    MUST(mpi_wire_check(out, (size_t)(at - out)) == 0);
#ifdef ORACLE
    if (find_oracle()) judge(data, size, out, (size_t)(at - out), &s);
#endif
  }
  free(out);
  return 0;
}
