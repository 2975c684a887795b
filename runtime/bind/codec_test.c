/* What of the codec cannot be seen from Lua: descriptors, bodies sent once, memory that runs out at every point. */
#include "bind/codec.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/udata.h"
#include "mplua.h"
#include "test/test.h"

static lua_State *open_state (void) {
  lua_State *L = luaL_newstate();
  CHECK(L != NULL);
  luaL_openlibs(L);
  luaL_requiref(L, "mp", luaopen_mp, 1);
  lua_pop(L, 1);
  return L;
}

static void eval (lua_State *L, const char *code) { /* pushes one value */
  if (luaL_loadstring(L, code) != LUA_OK || lua_pcall(L, 0, 1, 0) != LUA_OK) FAIL("%s", luaL_tolstring(L, -1, NULL));
}

/* The parcel as it would arrive: copied, with descriptors of its own. */
static struct mpl_parcel *arrive (lua_State *L, const struct mpl_parcel *out) {
  struct mpl_parcel *in = mpl_parcel_in(L);
  int i;
  CHECK_OK(mpl_parcel_reserve(in, out->size, out->nfds));
  memcpy(in->data, out->data, out->size);
  in->size = out->size;
  for (i = 0; i < out->nfds; i++) CHECK_OK(mpl_parcel_add_fd(in, fcntl(out->fds[i], F_DUPFD_CLOEXEC, 0)));
  return in;
}

static int l_decode (lua_State *L) {
  mpl_decode(L, lua_touserdata(L, 1), (unsigned)lua_tointeger(L, 2));
  return 1;
}

static int try_decode (lua_State *L, struct mpl_parcel *p, unsigned flags) {
  lua_pushcfunction(L, l_decode);
  lua_pushlightuserdata(L, p);
  lua_pushinteger(L, flags);
  return lua_pcall(L, 2, 1, 0);
}

static int l_encode (lua_State *L) {
  mpl_encode_as(L, 1, lua_touserdata(L, 2), lua_touserdata(L, 3));
  return 0;
}

static int try_encode (lua_State *L, struct mpl_parcel *p, struct mpl_encoding *how) { /* takes the value at the top */
  lua_pushcfunction(L, l_encode);
  lua_insert(L, -2);
  lua_pushlightuserdata(L, p);
  lua_pushlightuserdata(L, how);
  return lua_pcall(L, 3, 0, 0);
}

static int open_fds (void) {
  int n = 0, fd;
  for (fd = 0; fd < 256; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

TEST("a handle arrives in another state with descriptors of its own", .clean = 1) {
  lua_State *A = open_state(), *B = open_state();
  eval(A, "e = mp.Event() return {e, {e}, x = 1}");
  {
    struct mpl_parcel *out = mpl_parcel_out(A);
    mpl_encode(A, -1, out);
    CHECK(out->nfds > 0);
    mpl_decode(B, arrive(B, out), 0);
  }
  lua_setglobal(B, "r");
  eval(B, "r[1]:set() return r[1] == r[2][1]");
  CHECK(lua_toboolean(B, -1));
  eval(A, "return e:is_set()");
  CHECK(lua_toboolean(A, -1));
  lua_close(A);
  lua_close(B);
}

TEST("descriptors that arrive with an unreadable message are closed", .clean = 1) {
  lua_State *L = open_state();
  struct mpl_parcel *out, *in;
  int before, n;
  eval(L, "l, e = mp.Lock(), mp.Event() return {l, {e, e}}");
  out = mpl_parcel_out(L);
  mpl_encode(L, -1, out);
  before = open_fds();
  for (n = 0; n < (int)out->size; n++) {
    in = arrive(L, out);
    in->size = (size_t)n;
    CHECK_EQ(try_decode(L, in, 0), LUA_ERRRUN);
    CHECK(mpl_iserror(L, -1));
    lua_pop(L, 1);
    CHECK_EQ(open_fds(), before);
  }
  in = arrive(L, out); /* one too few, one too many */
  close(in->fds[--in->nfds]);
  CHECK_EQ(try_decode(L, in, 0), LUA_ERRRUN);
  CHECK_EQ(open_fds(), before);
  in = arrive(L, out);
  CHECK_OK(mpl_parcel_add_fd(in, dup(0)));
  CHECK_EQ(try_decode(L, in, 0), LUA_OK);
  CHECK_EQ(open_fds(), before);
  lua_close(L);
}

TEST("a function's body goes to a receiver once", .clean = 1) {
  lua_State *A = open_state(), *B = open_state();
  struct mpl_bodies *sent = mpl_bodies_new();
  struct mpl_encoding how = {NULL, NULL, sent, 0};
  struct mpl_parcel *out;
  size_t first = 0;
  int i;
  CHECK(sent != NULL);
  eval(A, "local k = 40 return function(x) return x + k end");
  for (i = 0; i < 3; i++) {
    out = mpl_parcel_out(A);
    mpl_encode_as(A, -1, out, &how);
    if (i == 0) first = out->size;
    else CHECK(out->size < 40 && first > out->size + 50);
    mpl_decode(B, arrive(B, out), MPL_TRUST_CODE);
    lua_pushinteger(B, 2);
    lua_call(B, 1, 1);
    CHECK_EQ(lua_tointeger(B, -1), 42);
    lua_pop(B, 1);
  }
  mpl_bodies_forget(sent);
  out = mpl_parcel_out(A);
  mpl_encode_as(A, -1, out, &how);
  CHECK_EQ(out->size, first);
  mpl_bodies_free(sent);
  lua_close(A);
  lua_close(B);
}

TEST("a body of a refused message does not count as sent", .clean = 1) {
  lua_State *A = open_state(), *B = open_state();
  struct mpl_bodies *sent = mpl_bodies_new();
  struct mpl_encoding how = {NULL, NULL, sent, 0};
  struct mpl_parcel *out;
  CHECK(sent != NULL);
  eval(A, "f = function() return 'whole' end return {f, coroutine.create(f)}");
  CHECK_EQ(try_encode(A, mpl_parcel_out(A), &how), LUA_ERRRUN);
  /* inside a message: the error's value is given up after the function was in it */
  eval(A, "return {mp.Error{message = 'm', value = {f, coroutine.create(f)}}, f}");
  out = mpl_parcel_out(A);
  mpl_encode_as(A, -1, out, &how);
  mpl_decode(B, arrive(B, out), MPL_TRUST_CODE);
  lua_setglobal(B, "r");
  eval(B, "return r[2]()");
  CHECK_STR(lua_tostring(B, -1), "whole");
  mpl_bodies_free(sent);
  lua_close(A);
  lua_close(B);
}

TEST("a body that was never sent is an error") {
  lua_State *A = open_state(), *B = open_state();
  struct mpl_bodies *sent = mpl_bodies_new();
  struct mpl_encoding how = {NULL, NULL, sent, 0};
  struct mpl_parcel *out;
  eval(A, "return function() end");
  mpl_encode_as(A, -1, mpl_parcel_out(A), &how);
  out = mpl_parcel_out(A);
  mpl_encode_as(A, -1, out, &how);
  CHECK_EQ(try_decode(B, arrive(B, out), MPL_TRUST_CODE), LUA_ERRRUN);
  CHECK(strstr(luaL_tolstring(B, -1, NULL), "never sent") != NULL);
  mpl_bodies_free(sent);
  lua_close(A);
  lua_close(B);
}

TEST("data only: functions, handles and objects are refused with a pointer to managers") {
  static const char *const no[] = {"return {print}", "return {function() end}", "return {a = {mp.Event()}}", "return {setmetatable({}, {__name = 'x'})}"};
  lua_State *L = open_state();
  struct mpl_encoding how = {NULL, NULL, NULL, MPL_DATA_ONLY};
  int i;
  eval(L, "return {1, 'x', {y = 2.5}}");
  mpl_encode_as(L, -1, mpl_parcel_out(L), &how);
  for (i = 0; i < 4; i++) {
    eval(L, no[i]);
    CHECK_EQ(try_encode(L, mpl_parcel_out(L), &how), LUA_ERRRUN);
    CHECK(strstr(luaL_tolstring(L, -1, NULL), "kept here") != NULL);
  }
  lua_close(L);
}

/* ---- memory ---- */

struct purse {
  long left; /* allocations until one fails; negative: never */
};

static void *scarce (void *ud, void *p, size_t old, size_t new) {
  struct purse *s = ud;
  (void)old;
  if (new == 0) {
    free(p);
    return NULL;
  }
  if (s->left == 0 && (p == NULL || new > old)) return NULL;
  if (s->left > 0 && (p == NULL || new > old)) s->left--;
  return realloc(p, new);
}

static const char everything[] =
  "local n = 0 local C = {__name = 'C'} mp.register('C', C, {dump = function(t) return {t.x} end, load = function(v) return setmetatable({x = v[1]}, C) end}) "
  "local t = {1, 2.5, 'text', {a = {b = {}}}, mp.Event(), function() n = n + 1 return n, t end, print, setmetatable({x = 5}, C), "
  "setmetatable({}, {__name = 'named'}), mp.Error{message = 'm', value = {coroutine.create(print)}}} t.me = t return t";

TEST("when memory runs out at any point, nothing leaks and the next message is whole", .clean = 1, .limit = 60) {
  struct purse s = {-1};
  struct mpl_encoding how = {NULL, NULL, NULL, 0};
  lua_State *L = lua_newstate(scarce, &s);
  struct mpl_parcel *out, *in;
  int before, k, failed = 0;
  CHECK(L != NULL);
  luaL_openlibs(L);
  luaL_requiref(L, "mp", luaopen_mp, 1);
  lua_settop(L, 0);
  eval(L, everything);
  out = mpl_parcel_out(L);
  mpl_encode(L, 1, out);
  mpl_decode(L, arrive(L, out), MPL_TRUST_CODE);
  lua_settop(L, 1);
  lua_gc(L, LUA_GCCOLLECT);
  before = open_fds();
  for (k = 0; k < 5000; k++) {
    int rc;
    out = mpl_parcel_out(L);
    lua_pushvalue(L, 1);
    lua_gc(L, LUA_GCSTOP);
    s.left = k;
    rc = try_encode(L, out, &how);
    s.left = -1;
    failed += rc != LUA_OK;
    lua_settop(L, 1);
    out = mpl_parcel_out(L);
    mpl_encode(L, 1, out);
    in = arrive(L, out);
    s.left = k;
    rc = try_decode(L, in, MPL_TRUST_CODE);
    s.left = -1;
    lua_gc(L, LUA_GCRESTART);
    if (rc != LUA_OK) failed++;
    lua_settop(L, 1);
    lua_gc(L, LUA_GCCOLLECT);
    CHECK_EQ(open_fds(), before);
    if (rc == LUA_OK && k > 40) break;
  }
  CHECK(failed > 20);
  CHECK(k < 5000);
  lua_close(L);
}

TEST("a parcel gives back what one large message left") {
  lua_State *L = open_state();
  struct mpl_parcel *p;
  int i;
  eval(L, "return ('x'):rep(20 << 20)");
  p = mpl_parcel_out(L);
  mpl_encode(L, -1, p);
  CHECK(p->room > (20u << 20));
  lua_pushinteger(L, 1);
  for (i = 0; i < 40; i++) {
    p = mpl_parcel_out(L);
    mpl_encode(L, -1, p);
  }
  CHECK(p->room < (1u << 20));
  lua_close(L);
}

TEST("two states in one thread do not mix their codecs, also when one is closed and another opened") {
  int i;
  for (i = 0; i < 20; i++) {
    lua_State *A = open_state(), *B = open_state();
    struct mpl_parcel *a = mpl_parcel_out(A), *b = mpl_parcel_out(B);
    CHECK(a != b);
    eval(A, "mp.register('K', {}) return {1, {2}}");
    eval(B, "return {3, {4}}");
    mpl_encode(A, -1, a);
    mpl_encode(B, -1, b);
    mpl_decode(A, arrive(A, b), 0);
    mpl_decode(B, arrive(B, a), 0);
    (void)lua_rawgeti(A, -1, 1);
    CHECK_EQ(lua_tointeger(A, -1), 3);
    lua_close(A);
    mpl_encode(B, -1, mpl_parcel_out(B));
    lua_close(B);
  }
}

TEST("what waits in a parcel is not touched by a hook that sends") {
  lua_State *L = open_state();
  struct mpl_parcel *waiting = mpl_parcel_out(L), *other;
  lua_pushliteral(L, "waiting");
  mpl_encode(L, -1, waiting);
  mpl_parcels_hold(L, __builtin_frame_address(0));
  other = mpl_parcel_out(L);
  CHECK(other != waiting);
  lua_pushliteral(L, "sent by the hook");
  mpl_encode(L, -1, other);
  mpl_parcels_release(L);
  CHECK_EQ(waiting->size, 8);
  CHECK_MEM(waiting->data, "\xa7waiting", 8);
  CHECK(mpl_parcel_out(L) == waiting);
  lua_close(L);
}

/* ---- the short ways ---- */

static const char *const tables[] = {
  "{}", "{1}", "{1, 2, 3}", "{x = 1}", "{id = 1, name = 'food', n = 3.5}", "{1, 2, x = 3}", "{[2] = 1}", "{[1.5] = 1}", "{[true] = 1}", "{[0] = 1, [-1] = 2}",
  "{true, false, 'x', -1, 1.5, -0.0, 1 << 40, math.mininteger, 1/0}", "{1, nil, 3}", "{a = '', [''] = 1}", "{s = ('x'):rep(31), t = ('x'):rep(32), u = ('x'):rep(70000)}",
  "many(15)", "many(16)", "many(17)", "many(64)", "many(65)", "many(300)", "list(15)", "list(16)", "list(64)", "list(65)", "list(70000)", NULL};

TEST("a flat table is written and read alike by the short way and by the long one") {
  lua_State *L = open_state();
  int i;
  eval(L, "function list(n) local t = {} for i = 1, n do t[i] = i end return t end\n"
          "function many(n) local t = {} for i = 1, n do t['k' .. i] = i % 2 == 0 and i or 'v' .. i end return t end\n"
          "function same(a, b) if type(a) ~= 'table' then return math.type(a) == math.type(b) and a == b end\n"
          "for k, v in pairs(a) do if not same(v, b[k]) then return false end end\n"
          "for k in pairs(b) do if a[k] == nil then return false end end return true end return 1");
  for (i = 0; tables[i] != NULL; i++) {
    struct mpl_parcel *p;
    char code[300];
    char *flat;
    size_t n;
    (void)snprintf(code, sizeof code, "v = %s return v", tables[i]);
    eval(L, code);
    p = mpl_parcel_out(L);
    mpl_encode(L, -1, p);
    n = p->size;
    flat = malloc(n);
    CHECK(flat != NULL);
    memcpy(flat, p->data, n);
    mpl_decode(L, arrive(L, p), 0);
    lua_setglobal(L, "r");
    eval(L, "return same(v, r)");
    if (!lua_toboolean(L, -1)) FAIL("%s came back as something else", tables[i]);
    eval(L, "return {v}");
    p = mpl_parcel_out(L);
    mpl_encode(L, -1, p);
    if (p->size != n + 1 || p->data[0] != 0x91 || memcmp(p->data + 1, flat, n) != 0) FAIL("%s: other bytes", tables[i]);
    mpl_decode(L, arrive(L, p), 0);
    lua_setglobal(L, "r");
    eval(L, "return same({v}, r)");
    if (!lua_toboolean(L, -1)) FAIL("{%s} came back as something else", tables[i]);
    free(flat);
    lua_settop(L, 0);
  }
  lua_close(L);
}

TEST("a flat table that is cut off or followed by bytes is an error, wherever") {
  lua_State *L = open_state();
  struct mpl_parcel *out, *in;
  size_t n;
  eval(L, "return {id = 1, name = 'food', n = 3.5}");
  out = mpl_parcel_out(L);
  mpl_encode(L, -1, out);
  for (n = 1; n < out->size; n++) {
    in = arrive(L, out);
    in->size = n;
    CHECK_EQ(try_decode(L, in, 0), LUA_ERRRUN);
    CHECK(mpl_iserror(L, -1));
    lua_pop(L, 1);
  }
  in = arrive(L, out);
  CHECK_OK(mpl_parcel_reserve(in, out->size + 1, 0));
  in->data[in->size++] = 1;
  CHECK_EQ(try_decode(L, in, 0), LUA_ERRRUN);
  CHECK_EQ(lua_gettop(L), 2); /* the table, and the error alone */
  lua_close(L);
}

TEST("strings that come again and again stay what they are, whatever else comes and whoever writes into the registry") {
  lua_State *L = open_state();
  int i, turn;
  eval(L, "names = {} for i = 1, 2000 do names[i] = ('%d'):rep(i % 5 + 1):format(i, i, i, i, i):sub(1, i % 19) end\n"
          "q = mp.Queue() function turn() for i, s in ipairs(names) do for n = 1, 3 do q:put {[s] = s, x = i}\n"
          "local t = q:get() if t[s] ~= s or t.x ~= i and s ~= 'x' or next(t, next(t, next(t))) then error(s) end end end end return 1");
  for (turn = 0; turn < 3; turn++) {
    eval(L, "turn() return 1");
    for (i = 1; i < 200; i++) { /* a library that writes where it has no business */
      if (lua_rawgeti(L, LUA_REGISTRYINDEX, i) == LUA_TSTRING) {
        if (turn == 0) lua_pushnil(L);
        else lua_pushinteger(L, i);
        lua_rawseti(L, LUA_REGISTRYINDEX, i);
      }
      lua_pop(L, 1);
    }
  }
  lua_close(L);
}
