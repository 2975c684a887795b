/* l_thread.c -- mp.Thread: a Lua state of its own on a thread of this process; what lua/mp/thread.lua stands on.
** Stopping  a request comes as a signal to the one thread (proc/thread.h). Its handler sets the hook of every Lua thread of the state: they are
**           known from the allocator, which is told when one is made (a thread's block has our links before it, and is recognised by
**           its address, 8 modulo 16). An interruption raises once; an end raises until the function is left, so that no pcall eats it.
**           Both are for the function: what comes before it begins waits for it, what comes after it has ended is for nobody.
** Threads   each state is used by its thread alone. A handle's userdata belongs to the state that made it.
*/
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lualib.h>

#include "base/err.h"
#include "base/fd.h"
#include "bind/child.h"
#include "bind/codec.h"
#include "bind/udata.h"
#include "bind/wait.h"
#include "bind/zygote.h"
#include "mplua.h"
#include "proc/thread.h"

#define THREAD "mp.Thread"

/* ---- the Lua threads of a state ---- */

struct link {
  struct link *next, *prev;
  lua_State *L;
};
_Static_assert(sizeof(struct link) % 16 == 8, "a thread's block is recognised by its alignment");

struct state { /* of one OS thread; on its stack */
  struct link first; /* the main state's */
  struct link *embryo;
  lua_State *L;
  mpi_thread_handle *t;
  volatile sig_atomic_t inside; /* how many functions run, one in the other, that a request may stop */
  int exit_code; /* asked for by os.exit; -1: not */
  int left;      /* the function was left because of a request to end */
  int (*wanted) (void); /* or NULL: mpl_thread_filter */
};

static _Thread_local struct state *mine;

#define order() atomic_signal_fence(memory_order_seq_cst) /* the handler interrupts the same thread */

static void stop (lua_State *L, lua_Debug *ar);

static void arm (lua_State *L) {
  lua_sethook(L, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static void arm_all (void *ud) {
  struct state *s = ud;
  struct link *n;
  if (!s->inside) return;
  for (n = &s->first; n != NULL; n = n->next)
    if (n->L != NULL) arm(n->L);
}

static void disarm_all (struct state *s) {
  struct link *n;
  for (n = &s->first; n != NULL; n = n->next)
    if (n->L != NULL && lua_gethook(n->L) == stop) lua_sethook(n->L, NULL, 0, 0);
}

static void stop (lua_State *L, lua_Debug *ar) {
  int request = atomic_load(&mine->t->request);
  (void)ar;
  if (request == MPI_STOP_END) luaL_error(L, "stopped");
  disarm_all(mine);
  if (lua_gethook(L) == stop) lua_sethook(L, NULL, 0, 0);
  if (request == MPI_STOP_INTERRUPT) {
    atomic_store(&mine->t->request, MPI_STOP_NONE); /* before the question: one that comes now is asked about again */
    if (mine->wanted == NULL || mine->wanted()) mpl_interrupted(L);
  }
}

void mpl_thread_filter (int (*wanted) (void)) {
  if (mine != NULL) mine->wanted = wanted;
}

/* The next request after a thread's own is for its stack: by then it can be touched. */
static void link_embryo (struct state *s) {
  struct link *n = s->embryo;
  s->embryo = NULL;
  n->next = s->first.next;
  n->prev = &s->first;
  if (n->next != NULL) n->next->prev = n;
  order();
  s->first.next = n;
}

static void *allocate (void *ud, void *block, size_t osize, size_t nsize) {
  struct state *s = ud;
  struct link *n;
  if (s->embryo != NULL) link_embryo(s);
  if (block == NULL && osize == LUA_TTHREAD && nsize != 0 && s->L != NULL) {
    n = calloc(1, sizeof *n + nsize);
    if (n == NULL) return NULL;
    n->L = (lua_State *)(void *)((char *)(n + 1) + LUA_EXTRASPACE);
    s->embryo = n;
    return n + 1;
  }
  if ((uintptr_t)block & 8) { /* a thread's: it is only ever freed */
    n = (struct link *)block - 1;
    n->prev->next = n->next;
    order();
    if (n->next != NULL) n->next->prev = n->prev;
    free(n);
    return NULL;
  }
  if (nsize == 0) {
    free(block);
    return NULL;
  }
  return realloc(block, nsize);
}

/* ---- the thread's side ---- */

/* thread_exit(code): leaves the function, whatever it catches. */
static int l_exit (lua_State *L) {
  int code = lua_isboolean(L, 1) ? !lua_toboolean(L, 1) : (int)luaL_optinteger(L, 1, 0);
  mine->exit_code = code & 0xff;
  atomic_store(&mine->t->request, MPI_STOP_END);
  arm_all(mine);
  return luaL_error(L, "stopped");
}

void mpl_thread_begins (void) {
  if (mine == NULL) return;
  mine->inside = mine->inside + 1;
  order();
  if (atomic_load(&mine->t->request) != MPI_STOP_NONE) arm_all(mine); /* asked before it could be */
}

void mpl_thread_left (void) {
  if (mine == NULL) return;
  mine->inside = mine->inside - 1;
  order();
  if (mine->inside) return; /* the one around it is to be left too */
  if (atomic_load(&mine->t->request) == MPI_STOP_END) mine->left = 1;
  disarm_all(mine);
  atomic_store(&mine->t->request, MPI_STOP_NONE);
}

/* thread_settle() -> nil, or the exit code that was asked for (-15: by terminate) */
static int l_settle (lua_State *L) {
  if (mine == NULL || !mine->left) return 0;
  lua_pushinteger(L, mine->exit_code >= 0 ? mine->exit_code : -15);
  return 1;
}

static int l_main (lua_State *L) {
  struct state *s = lua_touserdata(L, 1);
  lua_settop(L, 0);
  lua_gc(L, LUA_GCSTOP);
  luaL_openlibs(L);
  luaL_requiref(L, "mp", luaopen_mp, 0);
  lua_gc(L, LUA_GCRESTART);
  lua_gc(L, LUA_GCGEN, 0, 0);
  lua_settop(L, 0);
  lua_getfield(L, LUA_REGISTRYINDEX, "mp.core");
  lua_getfield(L, -1, "arriving");
  lua_call(L, 0, 0);
  lua_getfield(L, -1, "threaded");
  mpl_decode_report(L, &s->t->task, MPL_TRUST_CODE);
  lua_call(L, 1, 1);
  return 1;
}

static int run (mpi_thread_handle *t) {
  struct state s;
  int code = 1;
  memset(&s, 0, sizeof s);
  s.t = t;
  s.exit_code = -1;
  mine = &s;
  s.L = lua_newstate(allocate, &s);
  if (s.L == NULL) {
    mine = NULL;
    return 1;
  }
  s.first.L = s.L;
  t->ud = &s; /* cppcheck-suppress autoVariables ; until `poked` is NULL again, below */
  order();
  t->poked = arm_all;
  lua_pushcfunction(s.L, l_main);
  lua_pushlightuserdata(s.L, &s);
  if (lua_pcall(s.L, 1, 1, 0) == LUA_OK) code = (int)lua_tointeger(s.L, -1);
  else {
    (void)fprintf(stderr, "mp: a thread could not begin: %s\n", luaL_tolstring(s.L, -1, NULL));
    lua_pop(s.L, 1);
    lua_getfield(s.L, LUA_REGISTRYINDEX, "mp.core");
    if (lua_istable(s.L, -1)) {
      lua_getfield(s.L, -1, "not_begun");
      lua_pushvalue(s.L, -3);
      (void)lua_pcall(s.L, 1, 0, 0);
    }
  }
  t->poked = NULL;
  order();
  disarm_all(&s);
  atomic_store(&t->request, MPI_STOP_NONE);
  lua_close(s.L);
  mine = NULL;
  return code;
}

/* ---- the maker's side ---- */

struct l_thread {
  mpi_thread_handle *t;
};

static mpi_thread_handle *check (lua_State *L) {
  struct l_thread *u = luaL_checkudata(L, 1, THREAD);
  luaL_argcheck(L, u->t != NULL, 1, "a started thread expected");
  return u->t;
}

static int l_new (lua_State *L) {
  struct l_thread *u;
  luaL_checktype(L, 1, LUA_TTABLE);
  u = lua_newuserdatauv(L, sizeof *u, 1);
  u->t = NULL;
  luaL_setmetatable(L, THREAD);
  lua_pushvalue(L, 1);
  (void)lua_setiuservalue(L, -2, 1);
  return 1;
}

static int l_letgo (lua_State *L) {
  struct l_thread *u = luaL_checkudata(L, 1, THREAD);
  mpi_thread_handle *t = u->t;
  u->t = NULL;
  mpi_thread_release(t);
  return 0;
}

int mpl_record_from (const struct mpl_parcel *p, int kind, mpi_record *r) {
  int i;
  memset(r, 0, sizeof *r);
  r->kind = kind;
  r->data = malloc(p->size + 1);
  r->fds = malloc(sizeof(int) * (size_t)(p->nfds + 1));
  if (r->data == NULL || r->fds == NULL) goto no_memory;
  if (p->size > 0) memcpy(r->data, p->data, p->size);
  r->size = p->size;
  for (i = 0; i < p->nfds; i++) {
    int fd = mpi_fd_dup(p->fds[i]);
    if (fd < 0) {
      mpi_record_fini(r);
      return fd;
    }
    r->fds[r->nfds++] = fd;
  }
  return 0;
no_memory:
  mpi_record_fini(r);
  return mpi_fail(MP_ENOMEM, "not enough memory");
}

/* thread_start(thread, daemon, task) */
static int l_start (lua_State *L) {
  struct l_thread *u = luaL_checkudata(L, 1, THREAD);
  struct mpl_encoding how = {"start", NULL, NULL, 0};
  struct mpl_parcel *out;
  mpi_record task;
  mpi_thread_handle *t = NULL;
  int rc;
  luaL_checktype(L, 3, LUA_TTABLE);
  out = mpl_parcel_out(L);
  mpl_encode_as(L, 3, out, &how);
  rc = mpl_record_from(out, MPI_REPORT_TASK, &task);
  if (rc == 0) rc = mpi_thread_start(run, &task, lua_toboolean(L, 2), &t);
  if (rc != 0) return mpl_raise(L, "start", rc);
  u->t = t;
  mpl_encoded_done(L);
  return 0;
}

static int l_poll (lua_State *L) {
  mpi_thread_handle *t = check(L);
  if (!mpi_thread_poll(t)) return 0;
  lua_pushinteger(L, t->exitcode);
  return 1;
}

static int l_wait (lua_State *L) {
  mpi_thread_handle *t = check(L);
  int64_t deadline = mpl_deadline(L, 2);
  int rc;
  MPL_WAIT(L, rc, mpi_thread_wait(t, deadline));
  return mpl_result(L, "join", rc);
}

/* thread_poke(thread, end): an interruption, or with true its end */
static int l_poke (lua_State *L) {
  return mpl_result(L, "interrupt", mpi_thread_poke(check(L), lua_toboolean(L, 2) ? MPI_STOP_END : MPI_STOP_INTERRUPT));
}

static int l_sentinel (lua_State *L) {
  lua_pushinteger(L, check(L)->event);
  return 1;
}

static int l_report (lua_State *L) {
  mpi_thread_handle *t = check(L);
  mpi_record r = t->report;
  memset(&t->report, 0, sizeof t->report);
  if (r.kind == MPI_REPORT_NONE) return 0;
  lua_pushstring(L, r.kind == MPI_REPORT_RESULT ? "result" : "error");
  mpl_decode_report(L, &r, MPL_TRUST_CODE);
  return 2;
}

static int wait_ready (lua_State *L, int idx) {
  struct l_thread *u = lua_touserdata(L, idx);
  if (u->t == NULL) return mpl_process_unwaitable(L, idx, "thread");
  return mpi_thread_poll(u->t);
}

static int wait_poll (lua_State *L, int idx, struct pollfd *fd) {
  struct l_thread *u = lua_touserdata(L, idx);
  fd->fd = u->t->event;
  fd->events = POLLIN;
  return 1;
}

static const mpl_waitable waitable = {wait_ready, wait_poll, NULL, NULL, NULL};

static const luaL_Reg functions[] = {
  {"thread_new", l_new},   {"thread_start", l_start},       {"thread_poll", l_poll},     {"thread_wait", l_wait},
  {"thread_poke", l_poke}, {"thread_sentinel", l_sentinel}, {"thread_report", l_report}, {"thread_letgo", l_letgo},
  {"thread_exit", l_exit}, {"thread_settle", l_settle},     {NULL, NULL}};

extern int mpl_open_thread (lua_State *L);
int mpl_open_thread (lua_State *L) { /* core, mp */
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 0);
  (void)luaL_newmetatable(L, THREAD);
  lua_pushcfunction(L, l_letgo);
  lua_setfield(L, -2, "__gc");
  lua_pushliteral(L, "a thread belongs to the process that made it and cannot be sent");
  lua_setfield(L, -2, "__nosend");
  mpl_set_waitable(L, THREAD, &waitable);
  lua_setfield(L, -2, "thread_meta");
  lua_pop(L, 1);
  return 0;
}
