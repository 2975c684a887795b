/* decode_fuzz.c -- any bytes, with any descriptors, into the decoder of a Lua state. The first byte chooses: 1 trusted with code, 2 with the
** descriptors of a lock and an event, 4 with duplicates of standard input. What is read must be writable and readable again; no
** descriptor may be left over. Bytecode itself is never tried (Lua says that it may crash on it): inputs with its signature are passed
** over, and functions come from bodies that the state was given. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bind/codec.h"
#include "bind/udata.h"
#include "wire/wire.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);
int luaopen_mp (lua_State *L);
void luaL_openlibs (lua_State *L);

#define MUST(cond, what)                                                                  \
  do {                                                                                    \
    if (!(cond)) {                                                                        \
      fprintf(stderr, "decode_fuzz.c:%d: %s: %s\n", __LINE__, #cond, what); \
      abort();                                                                            \
    }                                                                                     \
  } while (0)

static lua_State *L;
static int runs, borrowed[8], nborrowed, held;

/* Classes of every kind; and functions with 0, 1, 2 and 3 upvalues under the hashes "0000000000000000" ... "3333333333333333". */
static const char prepare[] =
  "package.path, package.cpath = '', '' "
  "mp.register('A', {}) "
  "mp.register('B', {}, {dump = function(t) return t[1] end, load = function(v) return {v} end}) "
  "mp.register('C', {}, {load = function(v) assert(v[1] ~= 1) return v end}) "
  "local a, b, c = 1, 2, 3 "
  "local keep = ... "
  "keep('0', function() return 1 end) "
  "keep('1', function() return print end) "
  "keep('2', function() return a, b end) "
  "keep('3', function() return a, b, function() c = c + 1 end end) "
  "held = {mp.Lock(), mp.Event()}";

static int l_keep (lua_State *l) { /* keep(digit, f): by way of a message, as a sender would */
  struct mpl_parcel *p = mpl_parcel_out(l);
  unsigned char text[4096], *at = text + 6, *end;
  struct mpi_item it;
  const unsigned char *from;
  const char *digit = luaL_checkstring(l, 1);
  int i;
  mpl_encode(l, 2, p);
  from = p->data;
  if (mpi_wire_get(from, p->data + p->size, &it) != NULL && it.ext == MPI_X_HEAD) from = it.data + it.len;
  MUST(mpi_wire_get(from, p->data + p->size, &it) != NULL && it.ext == MPI_X_FUNC && it.len < 4000, "a function");
  from = it.data;
  *at++ = *from++; /* the number of upvalues, then the marker, then the rest */
  at = mpi_put_ext_head(at, MPI_X_BODY, 16);
  for (i = 0; i < 16; i++) *at++ = (unsigned char)*digit;
  memcpy(at, from, (size_t)(it.data + it.len - from));
  end = at + (it.data + it.len - from);
  (void)mpi_put_ext_open(text, MPI_X_FUNC);
  mpi_put_ext_close(text, (uint32_t)(end - text - 6));
  p = mpl_parcel_in(l);
  MUST(mpl_parcel_reserve(p, sizeof text, 0) == 0, "memory");
  memcpy(p->data, text, (size_t)(end - text));
  p->size = (size_t)(end - text);
  mpl_decode(l, p, MPL_TRUST_CODE);
  return 1;
}

/* Descriptors of what the borrowed ones are of. (Others come and go: the fuzzer has its own.) */
static int copies (void) {
  int fd, i, n = 0;
  for (fd = 0; fd < 128; fd++) {
    struct stat a, b;
    if (fstat(fd, &a) != 0) continue;
    for (i = 0; i < nborrowed; i++)
      if (fstat(borrowed[i], &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev) break;
    n += i < nborrowed;
  }
  return n;
}

static void begin (void) {
  struct mpl_parcel *p;
  L = luaL_newstate();
  MUST(L != NULL, "a state");
  luaL_openlibs(L);
  luaL_requiref(L, "mp", luaopen_mp, 1);
  if (luaL_loadstring(L, prepare) != LUA_OK) MUST(0, lua_tostring(L, -1));
  lua_pushcfunction(L, l_keep);
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) MUST(0, luaL_tolstring(L, -1, NULL));
  lua_settop(L, 0);
  lua_getglobal(L, "held");
  p = mpl_parcel_out(L);
  mpl_encode(L, -1, p);
  nborrowed = p->nfds < 8 ? p->nfds : 8;
  memcpy(borrowed, p->fds, (size_t)nborrowed * sizeof(int));
  lua_settop(L, 0);
  held = copies();
}

struct input {
  const uint8_t *data;
  size_t size;
};

static int l_read (lua_State *l) {
  const struct input *in = lua_touserdata(l, 1);
  struct mpl_parcel *p = mpl_parcel_in(l);
  int i;
  MUST(mpl_parcel_reserve(p, in->size, 2 * nborrowed + 2) == 0, "memory");
  /* Exactly as large as the input, so that the sanitizer sees a read behind it. */
  free(p->data);
  p->data = malloc(in->size - 1 > 0 ? in->size - 1 : 1);
  MUST(p->data != NULL, "memory");
  p->room = in->size - 1;
  memcpy(p->data, in->data + 1, in->size - 1);
  p->size = in->size - 1;
  if (in->data[0] & 2)
    for (i = 0; i < nborrowed; i++) p->fds[p->nfds++] = fcntl(borrowed[i], F_DUPFD_CLOEXEC, 0);
  if (in->data[0] & 4)
    for (i = 0; i < 2; i++) p->fds[p->nfds++] = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
  lua_settop(l, 0);
  mpl_decode(l, p, in->data[0] & 1 ? MPL_TRUST_CODE : 0u);
  return 1;
}

static int l_again (lua_State *l) {
  struct mpl_parcel *out = mpl_parcel_out(l), *p;
  int i;
  mpl_encode(l, 1, out);
  p = mpl_parcel_in(l);
  MUST(mpl_parcel_reserve(p, out->size, out->nfds) == 0, "memory");
  memcpy(p->data, out->data, out->size);
  p->size = out->size;
  for (i = 0; i < out->nfds; i++) p->fds[p->nfds++] = fcntl(out->fds[i], F_DUPFD_CLOEXEC, 0);
  mpl_decode(l, p, MPL_TRUST_CODE);
  return 1;
}

#if defined(MP_LIBFUZZER) && !defined(__AFL_COMPILER)
/* The Lua state lives on from input to input: looking for leaks after each finds nothing and takes a hundred times longer than the input. */
int LLVMFuzzerInitialize (int *argc, char ***argv);
int LLVMFuzzerInitialize (int *argc, char ***argv) {
  static char no_leaks[] = "-detect_leaks=0";
  static char *more[64];
  int i;
  if (*argc > 62) return 0;
  for (i = 0; i < *argc; i++) more[i] = (*argv)[i];
  more[(*argc)++] = no_leaks;
  *argv = more;
  return 0;
}
#endif

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size) {
  struct input in = {data, size};
  if (size < 1 || memmem(data, size, "\x1bLua", 4) != NULL) return 0;
  if (L == NULL) begin();
  lua_pushcfunction(L, l_read);
  lua_pushlightuserdata(L, &in);
  if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
    lua_pushcfunction(L, l_again);
    lua_insert(L, -2);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
      const char *s = luaL_tolstring(L, -1, NULL);
      /* what a class of the preparation refuses is refused */
      MUST(strstr(s, "of class") != NULL || strstr(s, "of a class") != NULL || strstr(s, "C function") != NULL || strstr(s, "mp.register") != NULL, s);
    }
  }
  lua_settop(L, 0);
  if (++runs % 2000 == 0) {
    lua_gc(L, LUA_GCCOLLECT);
    lua_gc(L, LUA_GCCOLLECT);
    MUST(copies() == held, "descriptors are left over");
    lua_close(L);
    L = NULL;
  }
  return 0;
}
