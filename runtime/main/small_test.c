#include "main/small.h"

#include <stdlib.h>
#include <string.h>

#include "main/sigint.h"
#include <lauxlib.h>
#include <lualib.h>
#include "test/test.h"

#ifdef MPI_SMALL_NONE
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

TEST("blocks do not overlap, are told from malloc's by their address, and come again") {
  enum { N = 5000 };
  static unsigned char *b[N];
  static size_t size[N];
  int i, turn;
  if (SANITIZED) {
    CHECK(mpi_small_get(16) == NULL);
    return;
  }
  for (turn = 0; turn < 3; turn++) {
    for (i = 0; i < N; i++) {
      size[i] = (size_t)(i * 7 + turn * 3) % MPI_SMALL_MOST + 1;
      b[i] = mpi_small_get(size[i]);
      CHECK(b[i] != NULL);
      CHECK_EQ((uintptr_t)b[i] & 15, MPI_SMALL_MARK);
      memset(b[i], i & 255, size[i]);
    }
    for (i = 0; i < N; i++) {
      size_t k;
      for (k = 0; k < size[i]; k++)
        if (b[i][k] != (i & 255)) FAIL("block %d was written over", i);
      mpi_small_put(b[i], size[i]);
    }
  }
}

TEST("memory for small blocks is bounded") {
  size_t n = 0;
  void *b;
  while ((b = mpi_small_get(MPI_SMALL_MOST)) != NULL) {
    memset(b, 1, MPI_SMALL_MOST);
    n++;
    CHECK(n * MPI_SMALL_MOST <= MPI_SMALL_BOUND);
  }
  if (!SANITIZED) CHECK(n * MPI_SMALL_MOST > MPI_SMALL_BOUND / 2);
}

TEST("a state works on when the small blocks are used up") {
  lua_State *L = luaL_newstate();
  CHECK(L != NULL);
  mpi_sigint_watch(L);
  luaL_openlibs(L);
  if (luaL_dostring(L, "local all = {} for i = 1, 200000 do all[i] = {i, x = {}} end for i = 1, #all do assert(all[i][1] == i) end\n"
                       "local s = {} for i = 1, 300 do s[#s + 1] = ('x'):rep(i) end for i = 1, 300 do assert(#s[i] == i) end\n"
                       "for i = 1, #all, 2 do all[i] = nil end collectgarbage() for i = 1, 100000 do all[#all + 1] = coroutine.create(print) end\n"
                       "all = nil collectgarbage()") != LUA_OK)
    FAIL("%s", lua_tostring(L, -1));
  lua_close(L);
}
