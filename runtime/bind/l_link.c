/* l_link.c -- links between programs for lua/mp/link.lua and gate.lua: the gate's loop, frames, values for the far side, and what interrupts a
** deputy. Only core functions; no type that a user sees.
** Values    link_encode writes shared objects as proxies (MPL_BY_PROXY) and refuses functions and descriptors; link_decode takes data only.
*/
#include <signal.h>
#include <string.h>

#include "base/fd.h"
#include "base/interrupt.h"
#include "bind/codec.h"
#include "bind/udata.h"
#include "net/gate.h"
#include "net/link.h"

#define LINK "mp.link"
#define GATE "mp.gate"

static int fail (lua_State *L) { /* nil, sentence */
  luaL_pushfail(L);
  lua_pushstring(L, mp_errmsg());
  return 2;
}

/* address_check(text) -> true | nil, sentence */
static int l_address (lua_State *L) {
  struct mpi_address a;
  if (mpi_address_parse(luaL_checkstring(L, 1), &a) != 0) return fail(L);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- links ---- */

struct l_link {
  struct mpi_link *l;
};

static struct mpi_link *check_link (lua_State *L) {
  struct l_link *u = luaL_checkudata(L, 1, LINK);
  luaL_argcheck(L, u->l != NULL, 1, "the link is closed");
  return u->l;
}

static struct l_link *new_link (lua_State *L) {
  struct l_link *u = lua_newuserdatauv(L, sizeof *u, 0);
  u->l = NULL;
  luaL_setmetatable(L, LINK);
  return u;
}

/* link_open(address, key, timeout) -> link | nil, sentence, was it the key? */
static int l_open (lua_State *L) {
  struct mpi_address a;
  size_t size;
  const char *address = luaL_checkstring(L, 1), *key = luaL_checklstring(L, 2, &size);
  int64_t deadline = mpl_deadline(L, 3);
  struct l_link *u = new_link(L);
  int rc = mpi_address_parse(address, &a);
  if (rc == 0) {
    mpl_enter(L);
    rc = mpi_link_open(&a, key, size, deadline, &u->l);
    mpl_leave();
    if (rc == MP_EINTR) {
      mpl_interrupt(L);
      rc = MP_ETIMEDOUT;
    }
  }
  if (rc == 0) return 1;
  luaL_pushfail(L);
  if (rc == MP_ETIMEDOUT) lua_pushliteral(L, "no answer in time");
  else lua_pushstring(L, mp_errmsg());
  lua_pushboolean(L, rc == MP_ECORRUPT);
  return 3;
}

/* link_adopt(fd) -> link; takes the number */
static int l_adopt (lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  struct l_link *u = new_link(L);
  int rc = mpi_link_adopt(fd, &u->l);
  return rc == 0 ? 1 : mpl_raise(L, "link", rc);
}

static int l_close (lua_State *L) {
  struct l_link *u = luaL_checkudata(L, 1, LINK);
  mpi_link_close(u->l);
  u->l = NULL;
  return 0;
}

#define GRACE INT64_C(500000000) /* ns: what was begun is finished, or the link is lost */

/* link_send(link, bytes) -> true | nil, sentence. An interruption is raised when the frame is out. */
static int l_send (lua_State *L) {
  struct mpi_link *l = check_link(L);
  size_t size;
  const char *s = luaL_checklstring(L, 2, &size);
  int rc, interrupted;
  mpl_enter(L);
  rc = mpi_link_send(l, s, size, MP_NEVER);
  mpl_leave();
  interrupted = rc == MP_EINTR;
  if (interrupted) {
    rc = mpi_link_send(l, NULL, 0, mp_now() + GRACE);
    if (rc != 0) (void)l_close(L);
    mpl_interrupt(L);
    rc = rc == 0 ? 0 : MP_EEOF;
  }
  if (rc != 0) return fail(L);
  lua_pushboolean(L, 1);
  return 1;
}

/* link_receive(link) -> bytes | nil, sentence. Waits for ever; can be interrupted. */
static int l_receive (lua_State *L) {
  struct mpi_link *l = check_link(L);
  const unsigned char *data;
  size_t size;
  int rc;
  MPL_WAIT(L, rc, mpi_link_receive(l, &data, &size, MP_NEVER));
  if (rc != 0) return fail(L);
  lua_pushlstring(L, (const char *)data, size);
  return 1;
}

/* link_forget(link, number) */
static int l_forget (lua_State *L) {
  struct mpi_link *l = check_link(L);
  if (mpi_link_forget(l, (uint32_t)luaL_checkinteger(L, 2), mp_now() + GRACE) != 0) (void)l_close(L);
  return 0;
}

/* link_encode(v) -> bytes; raises as encode does */
static int l_encode (lua_State *L) {
  struct mpl_parcel *p = mpl_parcel_out(L);
  struct mpl_encoding how = {"link", NULL, NULL, MPL_BY_PROXY};
  lua_settop(L, 1);
  mpl_encode_as(L, 1, p, &how);
  if (p->nfds > 0) {
    mpl_error_new(L, "encode", "a file descriptor cannot be sent to another program");
    lua_getfield(L, -1, "message");
    lua_setfield(L, -2, "reason");
    lua_pushliteral(L, "");
    lua_setfield(L, -2, "path");
    return lua_error(L);
  }
  lua_pushlstring(L, (const char *)p->data, p->size);
  return 1;
}

/* link_decode(bytes) -> v */
static int l_decode (lua_State *L) {
  struct mpl_parcel *p = mpl_parcel_in(L);
  size_t n;
  const char *s = luaL_checklstring(L, 1, &n);
  if (mpl_parcel_reserve(p, n, 0) != 0) return luaL_error(L, "not enough memory");
  if (n > 0) memcpy(p->data, s, n);
  p->size = n;
  mpl_decode(L, p, 0);
  return 1;
}

/* ---- the gate ---- */

struct l_gate {
  struct mpi_gate *g;
};

static struct mpi_gate *check_gate (lua_State *L) {
  struct l_gate *u = luaL_checkudata(L, 1, GATE);
  luaL_argcheck(L, u->g != NULL, 1, "the gate is closed");
  return u->g;
}

/* gate_open(address, key, alive) -> gate, address | nil, sentence */
static int l_gate_open (lua_State *L) {
  struct mpi_address a;
  char text[400];
  size_t size;
  const char *address = luaL_checkstring(L, 1), *key = luaL_checklstring(L, 2, &size);
  int alive = (int)luaL_checkinteger(L, 3);
  struct l_gate *u = lua_newuserdatauv(L, sizeof *u, 0);
  u->g = NULL;
  luaL_setmetatable(L, GATE);
  if (mpi_address_parse(address, &a) != 0 || mpi_gate_open(&a, key, size, alive, &u->g) != 0) return fail(L);
  mpi_gate_guard(u->g);
  mpi_address_text(&a, text, sizeof text);
  lua_pushstring(L, text);
  return 2;
}

/* gate_next(gate) -> "client", id, fd | "gone", id | "end" */
static int l_gate_next (lua_State *L) {
  static const char *const what[] = {"end", "client", "gone"};
  struct mpi_gate *g = check_gate(L);
  struct mpi_gate_event e = {MPI_GATE_END, 0, -1};
  int rc = mpi_gate_next(g, &e);
  if (rc != 0) return mpl_raise(L, "gate", rc);
  lua_pushstring(L, what[e.what]);
  lua_pushinteger(L, e.id);
  lua_pushinteger(L, e.fd);
  return 3;
}

static int l_gate_deputy (lua_State *L) {
  mpi_gate_deputy(check_gate(L), luaL_checkinteger(L, 2), (pid_t)luaL_checkinteger(L, 3));
  return 0;
}

static int l_gate_drop (lua_State *L) {
  mpi_gate_drop(check_gate(L), luaL_checkinteger(L, 2));
  return 0;
}

static int l_gate_close (lua_State *L) {
  struct l_gate *u = luaL_checkudata(L, 1, GATE);
  mpi_gate_close(u->g);
  u->g = NULL;
  return 0;
}

/* close_fd(number) */
static int l_close_fd (lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  mpi_fd_close(&fd);
  return 0;
}

/* ---- the deputy ---- */

/* The request that is at work may be given up by its client: a signal with its number. Of one thread, the only one. */
static struct {
  volatile sig_atomic_t number; /* 0: none */
  lua_State *L, *main;
} at_work;

static void give_up (lua_State *L, lua_Debug *ar) {
  (void)ar;
  lua_sethook(at_work.L, NULL, 0, 0);
  lua_sethook(at_work.main, NULL, 0, 0);
  luaL_error(L, "interrupted!");
}

static void on_forget (int sig, siginfo_t *info, void *ctx) {
  (void)sig;
  (void)ctx;
  if (at_work.number == 0 || info->si_value.sival_int != at_work.number) return;
  lua_sethook(at_work.L, give_up, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
  lua_sethook(at_work.main, give_up, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
  mpi_interrupt_note();
}

static int l_guard (lua_State *L) {
  struct sigaction sa;
  sigset_t set;
  (void)L;
  memset(&sa, 0, sizeof sa);
  (void)sigemptyset(&sa.sa_mask);
  sa.sa_sigaction = on_forget;
  sa.sa_flags = SA_SIGINFO;
  (void)sigaction(MPI_GATE_SIGNAL, &sa, NULL);
  (void)sigemptyset(&set);
  (void)sigaddset(&set, MPI_GATE_SIGNAL);
  (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
  return 0;
}

/* deputy_call(number, f, ...) -> as pcall: what f does may be given up */
static int l_call (lua_State *L) {
  int number = (int)luaL_checkinteger(L, 1), rc;
  at_work.L = L;
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  at_work.main = lua_tothread(L, -1);
  lua_pop(L, 1);
  at_work.number = number;
  rc = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0);
  at_work.number = 0;
  lua_sethook(L, NULL, 0, 0);
  lua_sethook(at_work.main, NULL, 0, 0);
  lua_pushboolean(L, rc == LUA_OK);
  lua_replace(L, 1);
  return lua_gettop(L);
}

static const luaL_Reg functions[] = {
  {"address_check", l_address},     {"link_open", l_open},       {"link_adopt", l_adopt},     {"link_close", l_close},
  {"link_send", l_send},            {"link_receive", l_receive}, {"link_forget", l_forget},   {"link_encode", l_encode},
  {"link_decode", l_decode},        {"gate_open", l_gate_open},  {"gate_next", l_gate_next},  {"gate_deputy", l_gate_deputy},
  {"gate_drop", l_gate_drop},       {"gate_close", l_gate_close}, {"close_fd", l_close_fd},   {"deputy_guard", l_guard},
  {"deputy_call", l_call},          {NULL, NULL}};

static void plain_type (lua_State *L, const char *name, lua_CFunction letgo) {
  (void)luaL_newmetatable(L, name);
  lua_pushcfunction(L, letgo);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

extern int mpl_open_link (lua_State *L);
int mpl_open_link (lua_State *L) { /* core, mp */
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
  plain_type(L, LINK, l_close);
  plain_type(L, GATE, l_gate_close);
  return 0;
}
