/* l_process.c -- what lua/mp/process.lua stands on: a userdata that holds a child, fork, wait, signal, report.
** A mp.Process is struct l_process; user value 1 is the table of its fields, which Lua code keeps. Its metatable is made in Lua.
*/
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/pidfd.h"
#include "base/warm.h"
#include "bind/child.h"
#include "bind/codec.h"
#include "bind/udata.h"
#include "bind/wait.h"
#include "bind/zygote.h"
#include "proc/child.h"
#include "proc/spawn.h"
#include "proc/thread.h"

#define PROCESS "mp.Process"

struct l_process {
  mpi_child *c; /* NULL: not started, closed, or not a child (this process, its parent) */
};

static struct l_process *check (lua_State *L) {
  return luaL_checkudata(L, 1, PROCESS);
}

static int has_child (const struct l_process *p) { /* in a forked child, its own handle has one that was not completed */
  return p->c != NULL && p->c->pid != 0;
}

static mpi_child *check_child (lua_State *L) {
  struct l_process *p = check(L);
  luaL_argcheck(L, has_child(p), 1, "a started process expected");
  return p->c;
}

static void settle_self (lua_State *L);

/* ---- where the caller stands ---- */

/* "script.lua:12: " of the nearest Lua function that is not the library's own. */
static void push_where (lua_State *L) {
  lua_Debug ar;
  int level;
  for (level = 1; lua_getstack(L, level, &ar); level++) {
    if (!lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0 || strncmp(ar.source, "@mp/", 4) == 0) continue;
    lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
    return;
  }
  lua_pushliteral(L, "");
}

/* misuse(function, sentence) */
static int l_misuse (lua_State *L) {
  push_where(L);
  lua_pushfstring(L, "%s%s: %s", lua_tostring(L, -1), luaL_checkstring(L, 1), luaL_checkstring(L, 2));
  return lua_error(L);
}

static int l_where (lua_State *L) {
  push_where(L);
  return 1;
}

/* ---- the userdata ---- */

/* process_new(fields) -> userdata */
static int l_new (lua_State *L) {
  struct l_process *p;
  luaL_checktype(L, 1, LUA_TTABLE);
  p = lua_newuserdatauv(L, sizeof *p, 1);
  p->c = NULL;
  luaL_setmetatable(L, PROCESS);
  lua_pushvalue(L, 1);
  (void)lua_setiuservalue(L, -2, 1);
  return 1;
}

/* process_fields(v) -> the table, or nil if v is no process */
static int l_fields (lua_State *L) {
  if (luaL_testudata(L, 1, PROCESS) == NULL && luaL_testudata(L, 1, "mp.Thread") == NULL) return 0;
  settle_self(L);
  (void)lua_getiuservalue(L, 1, 1);
  return 1;
}

static int l_letgo (lua_State *L) {
  struct l_process *p = check(L);
  mpi_child *c = p->c;
  if (c != NULL && !has_child(p)) return 0; /* our own, as lua_close comes by: l_own still looks for it */
  p->c = NULL;
  mpi_child_release(c);
  return 0;
}

/* ---- the parent's side ---- */

static int l_stderr (lua_State *L);

/* A forked child is told who it is when it asks: what nobody asks for is not written, and what is not written stays in the pages of its parent. */
static MPI_WARM const void *unsettled; /* in such a child: the registry of the state that forked. Another state in this process is not meant */

static int is_unsettled (lua_State *L) {
  return unsettled == lua_topointer(L, LUA_REGISTRYINDEX);
}

/* process_settle(): become() if that has not been done. process_settled() -> true: now is the time. */
static int l_settled (lua_State *L) {
  lua_pushboolean(L, is_unsettled(L));
  if (is_unsettled(L)) unsettled = NULL;
  return 1;
}

/* process_own(live) -> the process among these that was forked, and runs us; its fields. Not by where l_fork has it on its stack: hooks run on that,
** too, and lua_close takes it away before it calls the last finalizers. */
static int l_own (lua_State *L) {
  const struct l_process *p;
  lua_settop(L, 1);
  for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
    p = luaL_testudata(L, 2, PROCESS);
    if (p == NULL || p->c == NULL || has_child(p)) continue;
    lua_settop(L, 2);
    (void)lua_getiuservalue(L, 2, 1);
    return 2;
  }
  return 0;
}

static int become (lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "mp.core");
  lua_getfield(L, -1, "process_become");
  lua_call(L, 0, 0);
  return 0;
}

static void settle (lua_State *L) {
  lua_Hook hook;
  int mask, count, rc;
  sigset_t set, old;
  luaL_checkstack(L, 4, NULL);
  (void)sigemptyset(&set);
  (void)sigaddset(&set, SIGINT);
  (void)pthread_sigmask(SIG_BLOCK, &set, &old); /* an interruption does not come in the middle, nor does a script's hook */
  hook = lua_gethook(L);
  mask = lua_gethookmask(L);
  count = lua_gethookcount(L);
  lua_sethook(L, NULL, 0, 0);
  lua_pushcfunction(L, become);
  rc = lua_pcall(L, 0, 0, 0);
  lua_sethook(L, hook, mask, count);
  (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (rc != LUA_OK) (void)lua_error(L);
}

static void settle_self (lua_State *L) {
  if (__builtin_expect(unsettled != NULL, 0) && is_unsettled(L)) settle(L);
}

static int l_settle (lua_State *L) {
  settle_self(L);
  return 0;
}

/* After the function: finish(process, ok, results or error ...) -> exit code. Stack: process, finish, the thread, whether it went well. */
static int l_finish (lua_State *L) {
  lua_State *T = lua_tothread(L, 3);
  int ok = lua_toboolean(L, 4);
  int n = lua_gettop(T) - 1; /* above the message handler */
  settle_self(L);
  luaL_checkstack(L, n + 4, "too many results");
  lua_pushvalue(L, 2);
  lua_pushvalue(L, 1);
  lua_pushboolean(L, ok);
  lua_xmove(T, L, n);
  if (!ok) {
    mpl_child_traceback(L);
    n++;
  }
  lua_call(L, n + 2, 1);
  return 1;
}

static int l_lost (lua_State *L) {
  const char *e = lua_tostring(L, 1);
  (void)lua_pushfstring(L, "mp: a process could not go on: %s\n", e != NULL ? e : luaL_typename(L, 1));
  lua_replace(L, 1);
  return l_stderr(L);
}

enum { SELF = 1, DAEMON, FINISH, FUNCTION, COUNT, ARGS, KWARGS, LIVE, THREAD }; /* l_fork's stack */

/* Whatever an interruption that arrives at an unlucky moment raises here, it never gets back into the copy of the parent's code. */
static MPI_HOT _Noreturn void in_child (lua_State *L, lua_State *T, int nargs) {
  int status, code = 0;
  unsettled = lua_topointer(L, LUA_REGISTRYINDEX);
  mpl_child_signals(T);
  status = mpl_child_call(T, nargs);
  if (status == LUA_OK && lua_gettop(T) == 1 && unsettled != NULL) mpi_child_exit(0); /* nothing to tell, and nothing that was touched */
  mpl_child_ended(L);
  lua_pushcfunction(L, l_finish);
  lua_pushvalue(L, SELF);
  lua_pushvalue(L, FINISH);
  lua_pushvalue(L, THREAD);
  lua_pushboolean(L, status == LUA_OK);
  if (lua_pcall(L, 4, 1, 0) == LUA_OK) {
    code = (int)lua_tointeger(L, -1);
  } else {
    code = 1;
    lua_pushcfunction(L, l_lost);
    lua_insert(L, -2);
    (void)lua_pcall(L, 1, 0, 0);
  }
  mpl_child_let();
  mpi_child_exit(code);
}

/* Only the first step takes memory, and nothing here can be interrupted: it is all done or nothing. */
static void mark (lua_State *L, int started) {
  lua_pushvalue(L, SELF);
  if (started) lua_pushboolean(L, 1);
  else lua_pushnil(L);
  lua_rawset(L, LIVE);
  (void)lua_getiuservalue(L, SELF, 1);
  lua_pushstring(L, started ? "started" : "new");
  lua_setfield(L, -2, "state");
  lua_pop(L, 1);
}

static lua_State *main_state (lua_State *L) {
  lua_State *m;
  (void)lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  m = lua_tothread(L, -1);
  lua_pop(L, 1);
  return m;
}

/* SIGINT waits from here on. One that has come since `hook` was the main state's is raised first, and nothing is started: the child would have a copy of
** it, as if it had been for the child, too. */
static void hold (lua_State *L, lua_Hook hook, sigset_t *before) {
  sigset_t sigint;
  (void)sigemptyset(&sigint);
  (void)sigaddset(&sigint, SIGINT);
  (void)pthread_sigmask(SIG_BLOCK, &sigint, before);
  if (__builtin_expect(lua_gethook(main_state(L)) == hook, 1)) return;
  (void)pthread_sigmask(SIG_SETMASK, before, NULL);
  mark(L, 0);
  mpl_enter(L);
  mpl_leave();
  mpl_interrupt(L); /* gives back only where hooks do not run: it is for later then */
  mark(L, 1);
  (void)pthread_sigmask(SIG_BLOCK, &sigint, before);
}

/* process_fork(process, daemon, finish, f, n, args, kwargs, live) -> true; nil, sentence. The process is "started" and in the table `live` then. The child calls f with the n elements of args, and kwargs if it is not nil, in
** a thread (of Lua) that begins there, then finish as above if there is anything to be told or put in order, and ends. */
static MPI_HOT int l_fork (lua_State *L) {
  struct l_process *p = check(L);
  lua_State *T;
  lua_Hook hook;
  sigset_t before;
  int i, nargs, rc;
  luaL_checktype(L, FINISH, LUA_TFUNCTION);
  nargs = (int)luaL_checkinteger(L, COUNT);
  luaL_checktype(L, LIVE, LUA_TTABLE);
  lua_settop(L, LIVE);
  hook = lua_gethook(main_state(L));
  T = mpl_child_prepare(L); /* at THREAD */
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  if (nargs < 0 || !lua_checkstack(T, nargs + 2)) return luaL_error(L, "too many arguments"); /* never raised on T, which runs nothing */
  lua_pushvalue(L, FUNCTION);
  lua_xmove(L, T, 1);
  for (i = 1; i <= nargs; i++) {
    (void)lua_geti(L, ARGS, i);
    lua_xmove(L, T, 1);
  }
  if (!lua_isnil(L, KWARGS)) {
    lua_pushvalue(L, KWARGS);
    lua_xmove(L, T, 1);
    nargs++;
  }
  mark(L, 1);
  hold(L, hook, &before);
  rc = mpi_child_fork(lua_toboolean(L, DAEMON), &p->c);
  if (rc == 1) {
    mpl_child_held(&before);
    in_child(L, T, nargs);
  }
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (rc < 0) {
    mark(L, 0);
    lua_settop(T, 0);
    luaL_pushfail(L);
    lua_pushstring(L, mp_errmsg());
    return 2;
  }
  /* T keeps what was pushed until the process is seen to end: now its page is the child's, too */
  lua_pushboolean(L, 1);
  return 1;
}

/* process_spawn(process, daemon, task [, confined]). Raises what mpl_encode raises: nothing was started then. */
static int l_spawn (lua_State *L) {
  struct l_process *p = check(L);
  struct mpl_encoding how = {"start", NULL, NULL, 0};
  struct mpl_parcel *out;
  mpi_child *c = NULL;
  mpi_task t;
  int rc;
  luaL_checktype(L, 3, LUA_TTABLE);
  out = mpl_parcel_out(L);
  mpl_encode_as(L, 3, out, &how);
  memset(&t, 0, sizeof t);
  t.data = out->data;
  t.size = out->size;
  t.fds = out->fds;
  t.nfds = out->nfds;
  t.daemon = lua_toboolean(L, 2);
  t.confined = lua_toboolean(L, 4);
  rc = mpi_spawn(&t, &c);
  if (rc != 0) {
    push_where(L);
    lua_pushfstring(L, "%sstart: %s", lua_tostring(L, -1), mp_errmsg());
    return lua_error(L);
  }
  p->c = c;
  mpl_encoded_done(L);
  return 0;
}

/* A program that was started with SIGCHLD ignored (service managers, careless parents) learns no exit code: the kernel forgets them. In an
** interpreter that runs one script nobody wants that; lua/mp/process.lua knows whether this is one. */
static int l_expect_children (lua_State *L) {
  struct sigaction sa;
  (void)L;
  if (sigaction(SIGCHLD, NULL, &sa) != 0) return 0;
  if ((sa.sa_flags & SA_NOCLDWAIT) == 0 && ((sa.sa_flags & SA_SIGINFO) || sa.sa_handler != SIG_IGN)) return 0;
  sa.sa_flags &= ~SA_NOCLDWAIT;
  if ((sa.sa_flags & SA_SIGINFO) == 0 && sa.sa_handler == SIG_IGN) sa.sa_handler = SIG_DFL;
  (void)sigaction(SIGCHLD, &sa, NULL);
  return 0;
}

/* process_serves(process): others need it, so it is ended after them */
static int l_serves (lua_State *L) {
  check_child(L)->daemon = 2;
  return 0;
}

static int l_zygote (lua_State *L) {
  lua_pushinteger(L, mpi_spawn_zygote());
  return 1;
}

static int l_pid (lua_State *L) {
  lua_pushinteger(L, check_child(L)->pid);
  return 1;
}

static int l_sentinel (lua_State *L) {
  lua_pushinteger(L, check_child(L)->pidfd);
  return 1;
}

/* process_poll(process) -> exit code, or nil while it lives. In another process than its parent: false, sentence. */
static int l_poll (lua_State *L) {
  mpi_child *c = check_child(L);
  int rc = mpi_child_poll(c);
  if (rc < 0) {
    lua_pushboolean(L, 0);
    lua_pushstring(L, mp_errmsg());
    return 2;
  }
  if (rc == 0) return 0;
  mpl_child_forget(L);
  lua_pushinteger(L, c->exitcode);
  return 1;
}

/* process_forget(): the arguments of the last that was forked are not kept by us for its life */
static int l_forget (lua_State *L) {
  mpl_child_forget(L);
  return 0;
}

/* process_wait(process, timeout) -> true | nil, "timeout" */
static int l_wait (lua_State *L) {
  mpi_child *c = check_child(L);
  int64_t deadline = mpl_deadline(L, 2);
  int rc;
  MPL_WAIT(L, rc, mpi_child_wait(c, deadline));
  return mpl_result(L, "join", rc);
}

static int l_signal (lua_State *L) {
  mpi_child *c = check_child(L);
  return mpl_result(L, "signal", mpi_child_signal(c, (int)luaL_checkinteger(L, 2)));
}

/* process_report(process [, data]) -> nil (none) | "result" or "error", value. Once: the report is taken. data: no functions, the sender is confined. */
static int l_report (lua_State *L) {
  mpi_child *c = check_child(L);
  unsigned trust = lua_toboolean(L, 2) ? 0u : MPL_TRUST_CODE;
  mpi_record r = c->report;
  memset(&c->report, 0, sizeof c->report);
  if (r.kind == MPI_REPORT_NONE) {
    mpi_record_fini(&r);
    return 0;
  }
  lua_pushstring(L, r.kind == MPI_REPORT_RESULT ? "result" : "error");
  mpl_decode_report(L, &r, trust);
  return 2;
}

/* ---- the child's side ---- */

/* report("result" | "error", value). Raises what mpl_encode raises. */
static int l_send_report (lua_State *L) {
  struct mpl_parcel *out;
  int kind = strcmp(luaL_checkstring(L, 1), "result") == 0 ? MPI_REPORT_RESULT : MPI_REPORT_ERROR;
  lua_settop(L, 2);
  out = mpl_parcel_out(L);
  mpl_encode(L, 2, out);
  if (mpi_thread_self() != NULL) return mpl_result(L, "report", mpl_record_from(out, kind, &mpi_thread_self()->report));
  return mpl_result(L, "report", mpi_report_send(kind, out->data, out->size, out->fds, out->nfds));
}

static int l_child_exit (lua_State *L) {
  mpi_child_exit((int)luaL_checkinteger(L, 1));
}

/* stderr(text): in one piece, whatever state the stream is in. */
static int l_stderr (lua_State *L) {
  size_t size;
  const char *text = luaL_checklstring(L, 1, &size);
  struct sigaction ignore, old;
  memset(&ignore, 0, sizeof ignore);
  ignore.sa_handler = SIG_IGN;
  (void)sigaction(SIGPIPE, &ignore, &old);
  while (size > 0) {
    ssize_t n = write(2, text, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text += n;
    size -= (size_t)n;
  }
  (void)sigaction(SIGPIPE, &old, NULL);
  return 0;
}

/* interrupter() -> nil | "parent" | "terminal" */
static int l_interrupter (lua_State *L) {
  static const char *const who[] = {NULL, "parent", "terminal"};
  lua_pushstring(L, mpi_thread_self() != NULL ? NULL : who[mpl_child_interrupter()]);
  return 1;
}

/* parent_wait(timeout) -> true (it is gone) | nil, "timeout". We die with it, so that true is hardly ever seen. */
static int l_parent_wait (lua_State *L) {
  int64_t deadline = mpl_deadline(L, 1);
  int fd, rc;
  if (getppid() != mpi_parent() || (fd = mpi_pidfd_open(mpi_parent())) < 0) {
    lua_pushboolean(L, 1);
    return 1;
  }
  mpl_enter(L); /* no MPL_WAIT: the descriptor must be closed before anything is raised */
  rc = mpi_fd_wait(fd, 1 /* POLLIN */, deadline);
  mpl_leave();
  mpi_fd_close(&fd);
  if (rc == MP_EINTR) {
    mpl_interrupt(L);
    rc = MP_ETIMEDOUT;
  }
  return mpl_result(L, "join", rc);
}

static int l_parent_pid (lua_State *L) {
  lua_pushinteger(L, mpi_parent());
  return 1;
}

/* ---- odds and ends ---- */

static int l_random (lua_State *L) {
  unsigned char bytes[64];
  lua_Integer n = luaL_checkinteger(L, 1);
  luaL_argcheck(L, n > 0 && n <= (lua_Integer)sizeof bytes, 1, "1 to 64 expected");
  if (getrandom(bytes, (size_t)n, 0) != n) return luaL_error(L, "getrandom: %s", strerror(errno));
  lua_pushlstring(L, (const char *)bytes, (size_t)n);
  return 1;
}

static int l_next_number (lua_State *L) {
  lua_pushinteger(L, mpi_next_number());
  return 1;
}

static int l_in_thread (lua_State *L) {
  lua_pushboolean(L, mpi_thread_self() != NULL);
  return 1;
}

static int l_thread_count (lua_State *L) {
  lua_pushinteger(L, mpi_thread_count());
  return 1;
}

/* error_new(parts) -> the same table, an mp.Error now */
static int l_error_new (lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  (void)luaL_newmetatable(L, "mp.Error"); /* the codec's */
  lua_setmetatable(L, 1);
  return 1;
}

/* ---- in mp.wait: ready when it has ended ---- */

/* A process or thread without a child behind it: why is that? */
int mpl_process_unwaitable (lua_State *L, int idx, const char *noun) {
  const char *name, *state, *why = "cannot be waited for here";
  luaL_checkstack(L, 4, NULL);
  lua_getfield(L, LUA_REGISTRYINDEX, "mp.core");
  lua_getfield(L, -1, "process_name");
  lua_pushvalue(L, idx);
  lua_call(L, 1, 1);
  name = lua_tostring(L, -1);
  lua_getiuservalue(L, idx, 1);
  lua_getfield(L, -1, "state");
  state = lua_tostring(L, -1);
  if (state != NULL && strcmp(state, "new") == 0) why = "was not started";
  else if (state != NULL && strcmp(state, "closed") == 0) why = "is closed";
  return mpl_misuse(L, "wait", "%s %s %s", noun, name != NULL ? name : "?", why);
}

static int wait_ready (lua_State *L, int idx) {
  struct l_process *p = lua_touserdata(L, idx);
  int rc;
  if (!has_child(p)) return mpl_process_unwaitable(L, idx, "process");
  rc = mpi_child_poll(p->c);
  return rc < 0 ? mpl_raise(L, "wait", rc) : rc;
}

static int wait_poll (lua_State *L, int idx, struct pollfd *fd) {
  struct l_process *p = lua_touserdata(L, idx);
  fd->fd = p->c->pidfd;
  fd->events = POLLIN;
  return 1;
}

static const mpl_waitable waitable = {wait_ready, wait_poll, NULL, NULL, NULL};

/* The program's own file name, without folders: which interpreter is this? */
static int l_program (lua_State *L) {
  char path[4096];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  const char *base;
  path[n < 0 ? 0 : n] = '\0';
  base = strrchr(path, '/');
  lua_pushstring(L, n < 0 ? program_invocation_short_name : base != NULL ? base + 1 : path); /* there may be no /proc */
  return 1;
}

static const luaL_Reg functions[] = {
  {"misuse", l_misuse},           {"where", l_where},
  {"process_new", l_new},         {"process_fields", l_fields},
  {"process_fork", l_fork},       {"process_pid", l_pid},
  {"process_sentinel", l_sentinel}, {"process_poll", l_poll},
  {"process_wait", l_wait},       {"process_signal", l_signal},
  {"process_report", l_report},   {"process_letgo", l_letgo},
  {"run", mpl_child_run},         {"report", l_send_report},
  {"child_exit", l_child_exit},   {"stderr", l_stderr},
  {"interrupter", l_interrupter}, {"parent_wait", l_parent_wait},
  {"parent_pid", l_parent_pid},   {"random", l_random},
  {"thread_count", l_thread_count}, {"program", l_program},
  {"error_new", l_error_new},     {"process_spawn", l_spawn},
  {"next_number", l_next_number}, {"in_thread", l_in_thread},
  {"process_serves", l_serves},
  {"environment", mpl_environment}, {"zygote", l_zygote},
  {"expect_children", l_expect_children},
  {"process_settle", l_settle},   {"process_settled", l_settled},
  {"process_own", l_own},         {"process_forget", l_forget},
  {NULL, NULL}};

extern int mprun_interrupt_pending (void) __attribute__((weak)); /* there: this program is mprun */
extern int mpl_open_process (lua_State *L);

/* Stack: core, mp. */
int mpl_open_process (lua_State *L) {
  (void)mpi_proc_init();
  if (mprun_interrupt_pending != NULL) mpi_spawn_set_helper("/proc/self/exe");
  else mpi_spawn_locate();
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 0);
  (void)luaL_newmetatable(L, PROCESS);
  lua_pushcfunction(L, l_letgo);
  lua_setfield(L, -2, "__gc");
  lua_pushliteral(L, "a process belongs to the one that made it and cannot be sent");
  lua_setfield(L, -2, "__nosend");
  lua_setfield(L, -2, "process_meta");
  mpl_set_waitable(L, PROCESS, &waitable);
  lua_pop(L, 1);
  return 0;
}
