#include "shm/value.h"

#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "test/test.h"

static mp_scalar I (int64_t i) { mp_scalar v = {'i', 0, 0}; v.i = i; return v; }
static mp_scalar F (double f) { mp_scalar v = {'f', 0, 0}; v.f = f; return v; }
static mp_scalar C (int b) { mp_scalar v = {'c', 0, 0}; v.i = b; return v; }
static mp_scalar B (int b) { mp_scalar v = {'?', 0, 0}; v.i = b; return v; }

static int64_t get_int (mp_object *o) {
  mp_scalar v = {0, 0, 0};
  CHECK_OK(mp_value_get(o, &v));
  return v.i;
}

static double get_float (mp_object *o) {
  mp_scalar v = {0, 0, 0};
  CHECK_OK(mp_value_get(o, &v));
  return v.f;
}

TEST("keeps the least and the greatest integer of every code, and refuses the next", .clean = 1) {
  static const struct { char code; int64_t least, most; } t[] = {
    {'b', -128, 127}, {'B', 0, 255}, {'h', -32768, 32767}, {'H', 0, 65535}, {'i', INT_MIN, INT_MAX}, {'I', 0, UINT_MAX},
    {'l', INT64_MIN, INT64_MAX}, {'L', 0, INT64_MAX}, {'q', INT64_MIN, INT64_MAX}, {'Q', 0, INT64_MAX}};
  size_t i;
  for (i = 0; i < sizeof t / sizeof t[0]; i++) {
    mp_object *o;
    mp_scalar sum = {0, 77, 0};
    CHECK_OK(mp_value_new(t[i].code, &o));
    CHECK_EQ(get_int(o), 0);
    CHECK_OK(mp_value_set(o, I(t[i].least)));
    CHECK_EQ(get_int(o), t[i].least);
    CHECK_ERR(mp_value_add(o, I(-1), &sum), MP_ERANGE);
    CHECK_EQ(get_int(o), t[i].least);
    CHECK_OK(mp_value_set(o, I(t[i].most)));
    CHECK_EQ(get_int(o), t[i].most);
    CHECK_ERR(mp_value_add(o, I(1), &sum), MP_ERANGE);
    CHECK_EQ(sum.i, 77);
    if (t[i].most != INT64_MAX) CHECK_ERR(mp_value_set(o, I(t[i].most + 1)), MP_ERANGE);
    if (t[i].least != INT64_MIN) CHECK_ERR(mp_value_set(o, I(t[i].least - 1)), MP_ERANGE);
    CHECK_EQ(get_int(o), t[i].most);
    mp_release(o);
  }
}

TEST("takes a float with an integer value as an integer, and no other") {
  mp_object *o;
  CHECK_OK(mp_value_new('q', &o));
  CHECK_OK(mp_value_set(o, F(-9223372036854775808.0)));
  CHECK_EQ(get_int(o), INT64_MIN);
  CHECK_ERR(mp_value_set(o, F(9223372036854775808.0)), MP_ERANGE);
  CHECK_ERR(mp_value_set(o, F(1.5)), MP_EMISUSE);
  CHECK_ERR(mp_value_set(o, F((double)NAN)), MP_ERANGE);
  CHECK_ERR(mp_value_set(o, F((double)INFINITY)), MP_ERANGE);
  CHECK_ERR(mp_value_set(o, C('a')), MP_EMISUSE);
  CHECK_ERR(mp_value_set(o, B(1)), MP_EMISUSE);
  CHECK_EQ(get_int(o), INT64_MIN);
}

TEST("keeps infinities and nan in floats, and refuses what would become infinite") {
  mp_object *f, *d;
  mp_scalar v;
  CHECK_OK(mp_value_new('f', &f));
  CHECK_OK(mp_value_new('d', &d));
  CHECK_OK(mp_value_set(f, F(-(double)INFINITY)));
  CHECK(isinf(get_float(f)) && get_float(f) < 0);
  CHECK_OK(mp_value_set(d, F((double)NAN)));
  CHECK(isnan(get_float(d)));
  CHECK_OK(mp_value_set(f, F(0.1)));
  CHECK(get_float(f) == (double)0.1f);
  CHECK_ERR(mp_value_set(f, F(1e39)), MP_ERANGE);
  CHECK_OK(mp_value_set(f, F(3e38)));
  CHECK_ERR(mp_value_add(f, F(3e38), &v), MP_ERANGE);
  CHECK(get_float(f) == (double)3e38f);
  CHECK_OK(mp_value_set(d, I(3)));
  CHECK_OK(mp_value_add(d, I(-1), &v));
  CHECK(v.f == 2.0 && get_float(d) == 2.0);
}

TEST("holds bytes and booleans, which do not add") {
  mp_object *c, *b;
  mp_scalar v;
  CHECK_OK(mp_value_new('c', &c));
  CHECK_OK(mp_value_new('?', &b));
  CHECK_OK(mp_value_set(c, C(200)));
  CHECK_EQ(get_int(c), 200);
  CHECK_OK(mp_value_set(b, B(5)));
  CHECK_EQ(get_int(b), 1);
  CHECK_ERR(mp_value_set(b, I(1)), MP_EMISUSE);
  CHECK_ERR(mp_value_add(c, I(1), &v), MP_EMISUSE);
  CHECK_ERR(mp_value_add(b, I(1), &v), MP_EMISUSE);
}

TEST("swaps only what it compared equal") {
  mp_object *o, *d;
  mp_scalar now;
  CHECK_OK(mp_value_new('i', &o));
  CHECK_EQ(mp_value_cas(o, I(0), I(-5), &now), 1);
  CHECK_EQ(mp_value_cas(o, I(0), I(7), &now), 0);
  CHECK_EQ(now.i, -5);
  CHECK_ERR(mp_value_cas(o, I(-5), I((int64_t)1 << 40), &now), MP_ERANGE);
  CHECK_EQ(get_int(o), -5);
  CHECK_OK(mp_value_new('d', &d));
  CHECK_OK(mp_value_set(d, F(-0.0)));
  CHECK_EQ(mp_value_cas(d, F(0.0), F((double)NAN), &now), 1);
  CHECK_EQ(mp_value_cas(d, F((double)NAN), F(1), &now), 1);
  CHECK(get_float(d) == 1.0);
}

struct adding { mp_object *o; mp_scalar by; };
static void *add_many (void *arg) {
  struct adding *a = arg;
  mp_scalar v;
  int i;
  for (i = 0; i < 20000; i++) CHECK_OK(mp_value_add(a->o, a->by, &v));
  return NULL;
}

TEST("loses no addition of threads", .limit = 30) {
  const char *code;
  for (code = "bhifd"; *code != 0; code++) {
    struct adding a = {NULL, {'i', 0, 0}};
    pthread_t t[4];
    int i;
    a.by.i = 1;
    CHECK_OK(mp_value_new(*code, &a.o));
    if (*code == 'b') a.by.i = 0;
    if (*code == 'h') { struct adding minus = a; minus.by.i = -1; a.by.i = 1;
      pthread_create(&t[0], NULL, add_many, &a);
      pthread_create(&t[1], NULL, add_many, &minus);
      pthread_join(t[0], NULL);
      pthread_join(t[1], NULL);
      CHECK_EQ(get_int(a.o), 0);
      mp_release(a.o);
      continue;
    }
    for (i = 0; i < 4; i++) pthread_create(&t[i], NULL, add_many, &a);
    for (i = 0; i < 4; i++) pthread_join(t[i], NULL);
    if (*code == 'f' || *code == 'd') CHECK(get_float(a.o) == 80000.0);
    else CHECK_EQ(get_int(a.o), *code == 'b' ? 0 : 80000);
    mp_release(a.o);
  }
}

TEST("an array keeps each element to itself", .clean = 1) {
  const char *code;
  for (code = "bBhHiIlLqQ"; *code != 0; code++) {
    mp_object *o;
    mp_scalar v;
    size_t i;
    CHECK_OK(mp_array_new(*code, 1000, &o));
    CHECK_EQ(mp_array_count(o), 1000);
    for (i = 1; i <= 1000; i++) CHECK_OK(mp_array_set(o, i, I((int64_t)(i * 7 % 100))));
    CHECK_OK(mp_array_add(o, 500, I(20), &v));
    for (i = 1; i <= 1000; i++) {
      CHECK_OK(mp_array_get(o, i, &v));
      CHECK_EQ(v.i, (int64_t)(i * 7 % 100) + (i == 500 ? 20 : 0));
    }
    mp_release(o);
  }
}

TEST("an array refuses indices that it does not have, no length, and no memory for it") {
  mp_object *o;
  mp_scalar v;
  CHECK_ERR(mp_array_new('i', 0, &o), MP_EMISUSE);
  CHECK_ERR(mp_array_new('x', 1, &o), MP_EMISUSE);
  CHECK_ERR(mp_value_new('s', &o), MP_EMISUSE);
  CHECK_ERR(mp_array_new('d', SIZE_MAX / 8, &o), MP_ENOMEM);
  CHECK_OK(mp_array_new('i', 3, &o));
  CHECK_ERR(mp_array_get(o, 0, &v), MP_ERANGE);
  CHECK_ERR(mp_array_get(o, 4, &v), MP_ERANGE);
  CHECK_ERR(mp_array_set(o, SIZE_MAX, I(1)), MP_ERANGE);
  CHECK_ERR(mp_value_get(o, &v), MP_EMISUSE);
}

TEST("a large array is sparse") {
  mp_object *o;
  mp_scalar v;
  CHECK_OK(mp_array_new('d', (size_t)1 << 32, &o)); /* 32 GiB */
  CHECK_OK(mp_array_set(o, (size_t)1 << 32, F(2.5)));
  CHECK_OK(mp_array_get(o, (size_t)1 << 32, &v));
  CHECK(v.f == 2.5);
}

TEST("an arriving array that lies about its length or type is refused") {
  mp_object *o, *p;
  int fd;
  CHECK_OK(mp_array_new('i', 10, &o));
  *(uint64_t *)(void *)(o->seg.base + 72) = (uint64_t)1 << 60;
  fd = fcntl(o->fds[0], F_DUPFD_CLOEXEC, 3);
  o->seg.ino++; /* so that the table does not know it */
  CHECK_ERR(mpi_object_adopt(MPI_T_ARRAY, 0, &fd, 1, &p), MP_ECORRUPT);
  *(uint64_t *)(void *)(o->seg.base + 72) = 10;
  o->seg.base[64] = 'z';
  fd = fcntl(o->fds[0], F_DUPFD_CLOEXEC, 3);
  CHECK_ERR(mpi_object_adopt(MPI_T_ARRAY, 0, &fd, 1, &p), MP_ECORRUPT);
  o->seg.base[64] = 'i';
  fd = fcntl(o->fds[0], F_DUPFD_CLOEXEC, 3);
  CHECK_OK(mpi_object_adopt(MPI_T_ARRAY, 0, &fd, 1, &p));
  CHECK_EQ(mp_array_count(p), 10);
}
