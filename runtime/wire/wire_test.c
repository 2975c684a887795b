#include "wire/wire.h"

#include <stdlib.h>

#include "mp.h"
#include "test/test.h"

/* The bytes in memory of exactly their size: a read behind them is seen by the sanitizer. */
static const unsigned char *span (const void *p, size_t n) {
  unsigned char *m = malloc(n > 0 ? n : 1);
  CHECK(m != NULL);
  memcpy(m, p, n);
  return m;
}

static int kind_of (const char *text, size_t n) {
  struct mpi_item it;
  const unsigned char *p = span(text, n);
  const unsigned char *q = mpi_wire_get(p, p + n, &it);
  int kind = it.kind;
  CHECK((q == NULL) == (kind == MPI_W_CUT || kind == MPI_W_BAD));
  if (q != NULL) CHECK(q > p && q <= p + n);
  free((void *)(uintptr_t)p);
  return kind;
}
#define KIND(text) kind_of(text, sizeof(text) - 1)

TEST("an integer is written in its shortest form and read as it was") {
  static const int64_t n[] = {0, 1, 127, 128, 255, 256, 65535, 65536, UINT32_MAX, (int64_t)UINT32_MAX + 1, INT64_MAX, -1, -32, -33, -128, -129,
                              -32768, -32769, INT32_MIN, (int64_t)INT32_MIN - 1, INT64_MIN};
  static const int size[] = {1, 1, 1, 2, 2, 3, 3, 5, 5, 9, 9, 1, 1, 2, 2, 3, 3, 5, 5, 9, 9};
  size_t i;
  for (i = 0; i < sizeof n / sizeof n[0]; i++) {
    unsigned char b[MPI_W_HEAD_ROOM];
    unsigned char *end = mpi_put_int(b, n[i]);
    struct mpi_item it;
    CHECK_EQ(end - b, size[i]);
    CHECK(mpi_wire_get(b, end, &it) == end);
    CHECK_EQ(it.kind, MPI_W_INT);
    CHECK_EQ(it.u.i, n[i]);
  }
}

TEST("every item but its last byte is cut off, at each length") {
  static const unsigned char heads[] = {0xa5, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3,
                                        0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf};
  size_t i, n;
  for (i = 0; i < sizeof heads; i++) {
    unsigned char b[64] = {0};
    struct mpi_item it;
    size_t whole;
    b[0] = heads[i];
    /* a length of 3, whatever the width of its field */
    if (heads[i] == 0xc4 || heads[i] == 0xc7 || heads[i] == 0xd9) b[1] = 3;
    if (heads[i] == 0xc5 || heads[i] == 0xc8 || heads[i] == 0xda) b[2] = 3;
    if (heads[i] == 0xc6 || heads[i] == 0xc9 || heads[i] == 0xdb) b[4] = 3;
    CHECK(mpi_wire_get(b, b + sizeof b, &it) != NULL);
    whole = (size_t)(mpi_wire_get(b, b + sizeof b, &it) - b);
    for (n = 0; n < whole; n++) CHECK_EQ(kind_of((const char *)b, n), MPI_W_CUT);
    CHECK(kind_of((const char *)b, whole) != MPI_W_CUT);
  }
}

TEST("lengths up to the limit of their field do not wrap") {
  CHECK_EQ(KIND("\xdb\xff\xff\xff\xff" "abc"), MPI_W_CUT);
  CHECK_EQ(KIND("\xc6\xff\xff\xff\xff" "abc"), MPI_W_CUT);
  CHECK_EQ(KIND("\xc9\xff\xff\xff\xff\x01" "abc"), MPI_W_CUT);
  CHECK_EQ(KIND("\xc9\xff\xff\xff\xff"), MPI_W_CUT);
  CHECK_EQ(KIND("\xdd\xff\xff\xff\xff"), MPI_W_ARRAY);
}

TEST("the reserved byte and integers beyond 63 bits are no items") {
  CHECK_EQ(KIND("\xc1"), MPI_W_BAD);
  CHECK_EQ(KIND("\xcf\x80\0\0\0\0\0\0\0"), MPI_W_BAD);
  CHECK_EQ(KIND("\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"), MPI_W_INT);
}

static int check (const char *text, size_t n) {
  const unsigned char *p = span(text, n);
  int rc = mpi_wire_check(p, n);
  free((void *)(uintptr_t)p);
  return rc;
}
#define CHECKED(text) check(text, sizeof(text) - 1)

TEST("a message is one whole item") {
  CHECK_OK(CHECKED("\x01"));
  CHECK_OK(CHECKED("\x93\x01\x91\xc0\x81\xa1\x61\x02"));
  CHECK_ERR(CHECKED(""), MP_ECORRUPT);
  CHECK_ERR(CHECKED("\x01\x02"), MP_ECORRUPT);
  CHECK_ERR(CHECKED("\x92\x01"), MP_ECORRUPT);
  CHECK_ERR(CHECKED("\xdf\xff\xff\xff\xff\x01"), MP_ECORRUPT);
  CHECK_ERR(CHECKED("\x91\xc1"), MP_ECORRUPT);
}

TEST("a claim of more items than bytes is refused at once, however it is nested") {
  static const unsigned char claim[5] = {0xdd, 0xff, 0xff, 0xff, 0xff};
  static unsigned char b[500000];
  size_t i;
  for (i = 0; i < sizeof b; i += 5) memcpy(b + i, claim, 5);
  CHECK_ERR(mpi_wire_check(b, sizeof b), MP_ECORRUPT);
  memset(b, 0x91, sizeof b); /* deep, but true */
  b[sizeof b - 1] = 1;
  CHECK_OK(mpi_wire_check(b, sizeof b));
}

TEST("values are counted inside extensions, what describes them is not") {
  /* {mp.Error with message and value {1}, a handle without companion} */
  static const char m[] = "\x92\xc9\0\0\0\x13\x0a\x82\xa7message\xa1m\xa5value\x91\x01\xc7\x04\x07\x05\x00\x02\xc0";
  CHECK_EQ(mpi_wire_count((const unsigned char *)m, sizeof m - 1), 8);
  CHECK_EQ(mpi_wire_handles((const unsigned char *)m, sizeof m - 1), 1);
  CHECK_EQ(mpi_wire_count((const unsigned char *)"\xd4\x01\x01\x90", 4), 1);
  CHECK_EQ(mpi_wire_count((const unsigned char *)"\x92\x01\xc1", 3), 2);
}

TEST("an extension's number fills its payload") {
  static const uint64_t n[] = {0, 255, 256, 65536, UINT64_C(1) << 32, UINT64_MAX};
  size_t i;
  for (i = 0; i < 6; i++) {
    unsigned char b[MPI_W_HEAD_ROOM];
    unsigned char *end = mpi_put_ext_uint(b, MPI_X_REF, n[i]);
    struct mpi_item it;
    uint64_t got;
    CHECK(end - b <= MPI_W_HEAD_ROOM);
    CHECK(mpi_wire_get(b, end, &it) == end);
    CHECK_EQ(it.ext, MPI_X_REF);
    CHECK(mpi_wire_uint(it.data, it.len, &got));
    CHECK(got == n[i]);
  }
  CHECK(!mpi_wire_uint((const unsigned char *)"abc", 3, &(uint64_t){0}));
}

TEST("the hash is SipHash-2-4 of 128 bits: the authors' first vectors") {
  static const unsigned char want0[16] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
  static const unsigned char want1[16] = {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45};
  unsigned char key[16], got[16];
  int i;
  for (i = 0; i < 16; i++) key[i] = (unsigned char)i;
  mpi_wire_hash(key, "", 0, got);
  CHECK_MEM(got, want0, 16);
  mpi_wire_hash(key, "\0", 1, got);
  CHECK_MEM(got, want1, 16);
}
