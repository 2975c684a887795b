/* l_sandbox.c -- what lua/mp/sandbox.lua stands on: policies made ready, reports, confining this process, the memory cap, the script's line.
** Userdata  mp.jail is a struct mpi_jail, flat. mp.jail.report has a mapping and a descriptor, given back by __gc.
** Trust     the parts that run in a confined process serve comfort (lines, messages, a cap that is an error before it is a death); the kernel
**           refuses without them.
*/
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "bind/child.h"
#include "bind/codec.h"
#include "bind/udata.h"
#include "bind/zygote.h"
#include "proc/distrust.h"
#include "proc/spawn.h"
#include "sandbox/away.h"
#include "sandbox/landlock.h"
#include "sandbox/warden.h"

#define JAIL "mp.jail"
#define REPORT "mp.jail.report"

/* ---- policies ---- */

typedef int (*grant_fn) (struct mpi_policy *p, const char *name);
typedef int (*port_fn) (struct mpi_policy *p, int64_t port);

/* Errors of this file are sentences without a place: the Lua side knows the caller. */
static int sentence (lua_State *L) {
  lua_pushstring(L, mp_errmsg());
  return lua_error(L);
}

static void grant_names (lua_State *L, struct mpi_policy *p, const char *key, grant_fn grant) {
  lua_Integer i;
  if (lua_getfield(L, 1, key) == LUA_TTABLE) {
    for (i = 1; lua_rawgeti(L, -1, i) == LUA_TSTRING; i++) {
      if (grant(p, lua_tostring(L, -1)) != 0) sentence(L);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static void grant_ports (lua_State *L, struct mpi_policy *p, const char *key, port_fn grant) {
  lua_Integer i;
  if (lua_getfield(L, 1, key) == LUA_TTABLE) {
    for (i = 1; lua_rawgeti(L, -1, i) == LUA_TNUMBER; i++) {
      if (grant(p, lua_tointeger(L, -1)) != 0) sentence(L);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

static void set_limit (lua_State *L, const char *key, int64_t *to) {
  if (lua_getfield(L, 1, key) == LUA_TNUMBER) *to = lua_tointeger(L, -1);
  lua_pop(L, 1);
}

static struct mpi_jail *new_jail (lua_State *L) {
  struct mpi_jail *j = lua_newuserdatauv(L, sizeof *j, 0);
  memset(j, 0, sizeof *j);
  (void)luaL_newmetatable(L, JAIL);
  lua_setmetatable(L, -2);
  return j;
}

static struct mpi_jail *check_jail (lua_State *L, int arg) {
  return luaL_checkudata(L, arg, JAIL);
}

/* jail_make(plain policy, form) -> jail. form: "listener", "deny", "kill", "learn", "none" */
static int l_jail_make (lua_State *L) {
  static const char *const forms[] = {"listener", "deny", "kill", "learn", "none", NULL}; /* as mpi_filter_form */
  int form = luaL_checkoption(L, 2, "listener", forms);
  struct mpi_policy *p;
  struct mpi_jail *j;
  luaL_checktype(L, 1, LUA_TTABLE);
  p = lua_newuserdatauv(L, sizeof *p, 0);
  mpi_policy_init(p);
  grant_names(L, p, "read", mpi_policy_read);
  grant_names(L, p, "write", mpi_policy_write);
  grant_names(L, p, "run", mpi_policy_run);
  grant_names(L, p, "modules", mpi_policy_module);
  grant_ports(L, p, "connect", mpi_policy_connect);
  grant_ports(L, p, "bind", mpi_policy_bind);
  lua_getfield(L, 1, "dns");
  p->dns = lua_toboolean(L, -1);
  lua_getfield(L, 1, "kill");
  p->on_violation = lua_toboolean(L, -1) ? MPI_KILL : MPI_DENY;
  lua_pop(L, 2);
  set_limit(L, "memory", &p->memory);
  set_limit(L, "output", &p->output);
  set_limit(L, "cpu", &p->cpu);
  set_limit(L, "wall", &p->wall);
  set_limit(L, "files", &p->files);
  set_limit(L, "threads", &p->threads);
  j = new_jail(L);
  if ((form == MPI_FILTER_LEARN ? mpi_jail_make_learner(j) : mpi_jail_make(p, (enum mpi_filter_form)form, j)) != 0) return sentence(L);
  return 1;
}

/* ---- reports ---- */

struct report {
  struct mpi_jail_report *r;
  int fd;
};

static struct report *check_report (lua_State *L, int arg) {
  struct report *r = luaL_checkudata(L, arg, REPORT);
  luaL_argcheck(L, r->r != NULL, arg, "a closed report");
  return r;
}

static int l_report_gc (lua_State *L) {
  struct report *r = luaL_checkudata(L, 1, REPORT);
  mpi_jail_report_unmap(r->r);
  r->r = NULL;
  mpi_fd_close(&r->fd);
  return 0;
}

static int l_report_new (lua_State *L) {
  struct report *r = lua_newuserdatauv(L, sizeof *r, 0);
  r->r = NULL;
  r->fd = -1;
  luaL_setmetatable(L, REPORT);
  if (mpi_jail_report_make(&r->fd, &r->r) != 0) return sentence(L);
  return 1;
}

static void set_text (lua_State *L, const char *key, const char *text, size_t size) {
  lua_pushlstring(L, text, strnlen(text, size));
  lua_setfield(L, -2, key);
}

static void push_violation (lua_State *L, struct mpi_violation *v) {
  lua_createtable(L, 0, 7);
  set_text(L, "call", v->call, sizeof v->call);
  set_text(L, "target", v->target, sizeof v->target);
  set_text(L, "need", v->need, sizeof v->need);
  set_text(L, "fix", v->fix, sizeof v->fix);
  set_text(L, "where", v->where, sizeof v->where);
  lua_pushinteger(L, mpi_load_relaxed(&v->count));
  lua_setfield(L, -2, "count");
  if (v->fatal) {
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "fatal");
  }
}

/* jail_report(report) -> {reason=, pid=, message=, more=, dropped=, list of violations} */
static int l_report_read (lua_State *L) {
  static const char *const reasons[] = {NULL, "sandbox", "cpu", "wall", "failed"};
  struct mpi_jail_report *r = check_report(L, 1)->r;
  uint32_t n = mpi_load_acquire(&r->n), end = mpi_load_acquire(&r->end), i;
  if (n > MPI_REPORT_RECORDS) n = MPI_REPORT_RECORDS;
  lua_createtable(L, (int)n, 5);
  lua_pushstring(L, end < sizeof reasons / sizeof reasons[0] ? reasons[end] : NULL);
  lua_setfield(L, -2, "reason");
  lua_pushinteger(L, mpi_load_relaxed(&r->pid));
  lua_setfield(L, -2, "pid");
  lua_pushinteger(L, (lua_Integer)mpi_load_relaxed(&r->more));
  lua_setfield(L, -2, "more");
  lua_pushinteger(L, (lua_Integer)mpi_load_relaxed(&r->dropped));
  lua_setfield(L, -2, "dropped");
  set_text(L, "message", r->message, sizeof r->message);
  for (i = 0; i < n; i++) {
    push_violation(L, &r->v[i]);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

/* ---- starting a confined process ---- */

static int spawned (const char *what, lua_State *L, int rc) {
  if (rc == 0) return 0;
  lua_pushfstring(L, "start: %s: %s", what, mp_errmsg());
  return lua_error(L);
}

/* process_spawn_confined(process, daemon, task, jail, report, secret): the task is read before the process is confined, the secret (whatever a
** script could have a say in: functions, arguments, classes) after it. All that can be refused is refused before anything starts. */
static int l_spawn_confined (lua_State *L) {
  mpi_child **slot = luaL_checkudata(L, 1, "mp.Process");
  struct mpi_jail *j = check_jail(L, 4);
  struct report *r = check_report(L, 5);
  struct mpl_encoding how = {"start", NULL, NULL, 0};
  struct mpl_parcel *out;
  unsigned char *secret, *jail;
  int *fds, with_jail[1 + MPI_AWAY_FDS];
  size_t size, jail_size;
  int nfds, rc, away;
  mpi_child *c = NULL;
  mpi_task t;
  out = mpl_parcel_out(L);
  mpl_encode_as(L, 6, out, &how);
  mpl_encoded_push(L); /* the descriptors are needed after the next encoding */
  mpl_parcels_hold(L, __builtin_frame_address(0)); /* what is allocated may let finalizers run, and these may send */
  size = out->size;
  nfds = out->nfds;
  secret = lua_newuserdatauv(L, size + 1, 0);
  memcpy(secret, out->data, size);
  fds = lua_newuserdatauv(L, sizeof(int) * ((size_t)nfds + 1), 0);
  if (nfds > 0) memcpy(fds, out->fds, sizeof(int) * (size_t)nfds);
  mpl_parcels_release(L);
  if (j->form != MPI_FILTER_NONE)
    for (rc = 0; rc < nfds; rc++) mpi_distrust(fds[rc]);
  jail = lua_newuserdatauv(L, MPI_JAIL_PACKED_MAX, 0);
  jail_size = mpi_jail_pack(j, jail);
  out = mpl_parcel_out(L);
  mpl_encode_as(L, 3, out, &how);
  memset(&t, 0, sizeof t);
  t.data = out->data;
  t.size = out->size;
  t.fds = out->fds;
  t.nfds = out->nfds;
  t.daemon = lua_toboolean(L, 2);
  t.confined = j->form != MPI_FILTER_NONE;
  (void)spawned("the process", L, mpi_spawn(&t, &c));
  *slot = c;
  with_jail[0] = r->fd;
  away = t.confined ? mpi_away_get(with_jail + 1) : 0;
  rc = mpi_record_send(c->sock, MPI_REPORT_TASK, jail, jail_size, with_jail, 1 + away);
  if (rc == 0) rc = mpi_record_send(c->sock, MPI_REPORT_TASK, secret, size, fds, nfds);
  if (rc != 0 && rc != MP_ECLOSED) { /* closed: it has ended already, and its report tells why */
    *slot = NULL;
    (void)mpi_child_signal(c, SIGKILL);
    (void)mpi_child_wait(c, MP_NEVER);
    mpi_child_release(c);
    (void)spawned("the task", L, rc);
  }
  mpl_encoded_done(L);
  return 0;
}

/* ---- in the process to confine ---- */

static int next_record (mpi_record *r) {
  struct pollfd p = {mpi_report_socket(), POLLIN, 0};
  while (poll(&p, 1, -1) < 0 && errno == EINTR) continue;
  memset(r, 0, sizeof *r);
  mpi_record_take(p.fd, r);
  return r->kind == MPI_REPORT_TASK ? 0 : mpi_fail(MP_EEOF, "the maker of this process is gone");
}

/* All open descriptors but one and the standard ones. This process began clean: what is open has been granted to it. */
static int open_descriptors (lua_State *L, int but, int **list) {
  DIR *d = opendir("/proc/self/fd");
  struct dirent *e;
  int n = 0, room = 64;
  *list = lua_newuserdatauv(L, sizeof(int) * (size_t)room, 0);
  if (d == NULL) return mpi_fail_errno("/proc/self/fd");
  while ((e = readdir(d)) != NULL && n < room) {
    int fd = atoi(e->d_name);
    if (fd > 2 && fd != but && fd != dirfd(d) && !mpi_away_holds(fd)) (*list)[n++] = fd;
  }
  (void)closedir(d);
  return n;
}

/* jail_receive() -> jail, report: what the maker has sent. */
static int l_jail_receive (lua_State *L) {
  mpi_record task;
  struct mpi_jail *j = new_jail(L);
  struct report *r = lua_newuserdatauv(L, sizeof *r, 0);
  int rc;
  r->r = NULL;
  r->fd = -1;
  luaL_setmetatable(L, REPORT);
  if (next_record(&task) != 0) return sentence(L);
  rc = task.nfds >= 1 && task.nfds <= 1 + MPI_AWAY_FDS ? mpi_jail_unpack(task.data, task.size, j) : mpi_fail(MP_ECORRUPT, "this is not a sandbox");
  if (rc == 0) {
    r->fd = task.fds[0];
    mpi_away_take(task.fds + 1, task.nfds - 1);
    task.nfds = 0;
  }
  mpi_record_fini(&task);
  return rc == 0 ? 2 : sentence(L);
}

/* jail_receive_report() -> report: for a process whose maker has no Lua, and leaves it to this one to read the policy. */
static int l_jail_receive_report (lua_State *L) {
  mpi_record task;
  struct report *r = lua_newuserdatauv(L, sizeof *r, 0);
  int rc;
  r->r = NULL;
  r->fd = -1;
  luaL_setmetatable(L, REPORT);
  if (next_record(&task) != 0) return sentence(L);
  rc = task.nfds >= 1 && task.nfds <= 1 + MPI_AWAY_FDS ? 0 : mpi_fail(MP_ECORRUPT, "this is not a report");
  if (rc == 0) {
    r->fd = task.fds[0];
    mpi_away_take(task.fds + 1, task.nfds - 1);
    task.nfds = 0;
  }
  mpi_record_fini(&task);
  return rc == 0 ? 1 : sentence(L);
}

/* jail_enter(jail, report): the confined process goes on from here, its warden never comes back. */
static int l_jail_enter (lua_State *L) {
  struct mpi_jail *j = check_jail(L, 1);
  struct report *r = luaL_checkudata(L, 2, REPORT);
  int *keep;
  int n;
  mpi_report_reserve();
  n = open_descriptors(L, r->fd, &keep);
  if (n < 0 || mpi_warden_enter(j, r->fd, keep, n) != 0) return sentence(L);
  mpi_fd_close(&r->fd);
  mpi_child_moved();
  mpl_child_signals(L);
  return 0;
}

/* jail_secret() -> the value that was sent for after the confinement */
static int l_jail_secret (lua_State *L) {
  mpi_record task;
  if (next_record(&task) != 0) return sentence(L);
  mpl_decode_report(L, &task, MPL_TRUST_CODE);
  return 1;
}

/* jail_apply(jail): this process, for ever, without a supervisor. */
static int l_jail_apply (lua_State *L) {
  struct mpi_jail *j = check_jail(L, 1);
  int *keep;
  int n;
  if (mpi_thread_count() > 1) {
    lua_pushliteral(L, "this process has other threads, which would stay outside");
    return lua_error(L);
  }
  n = open_descriptors(L, -1, &keep);
  if (n < 0 || mpi_jail_confine(j, keep, n, -1) != 0) return sentence(L);
  return 0;
}

/* jail_split(jail, report) -> true in the confined copy; false, exit code (minus the signal) in this process, when it is over. */
static int l_jail_split (lua_State *L) {
  struct mpi_jail *j = check_jail(L, 1);
  struct report *r = check_report(L, 2);
  int in_child = 0, status = 0;
  int *keep;
  int n;
  mpi_fd_close(&r->fd); /* both sides have it mapped; the confined one would close the number once more when another has it */
  n = open_descriptors(L, -1, &keep);
  if (n < 0 || mpi_warden_split(j, r->r, keep, n, &in_child, &status) != 0) return sentence(L);
  lua_pushboolean(L, in_child);
  if (in_child) {
    mpi_spawn_forget();
    return 1;
  }
  lua_pushinteger(L, WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
  return 2;
}

/* ---- the memory cap ---- */

struct cap { /* for the life of the state */
  lua_Alloc alloc;
  void *ud;
  int64_t used; /* beyond what there was when the cap was set */
  int64_t most;
};

static void *capped_alloc (void *ud, void *p, size_t old, size_t new) {
  struct cap *c = ud;
  int64_t change = (int64_t)new - (p == NULL ? 0 : (int64_t)old);
  void *q;
  if (change > 0 && c->used + change > c->most) return NULL; /* Lua collects garbage and asks again, then raises "not enough memory" */
  q = c->alloc(c->ud, p, old, new);
  if (q != NULL || new == 0) c->used += change;
  return q;
}

static int l_jail_cap (lua_State *L) {
  lua_Integer most = luaL_checkinteger(L, 1);
  struct cap *c = malloc(sizeof *c);
  if (c == NULL) return luaL_error(L, "not enough memory");
  c->alloc = lua_getallocf(L, &c->ud);
  c->used = 0;
  c->most = most;
  lua_setallocf(L, capped_alloc, c);
  return 0;
}

/* ---- further Lua states of a confined process ---- */

static _Atomic int marked; /* 1: confined, 2: files are granted, 4: programs */
static _Atomic int64_t marked_memory = -1;

/* jail_mark(flags, memory or nil): threads that are started from now on find it. */
static int l_jail_mark (lua_State *L) {
  marked_memory = luaL_optinteger(L, 2, -1);
  marked = (int)luaL_checkinteger(L, 1);
  return 0;
}

/* jail_marked() -> flags, memory or nil; nothing in a free process */
static int l_jail_marked (lua_State *L) {
  if (marked == 0) return 0;
  lua_pushinteger(L, marked);
  if (marked_memory < 0) lua_pushnil(L);
  else lua_pushinteger(L, marked_memory);
  return 2;
}

/* ---- the script's line ---- */

/* "script.lua:12" of the innermost function of the script's; NULL: there is none. */
static const char *script_line (lua_State *L, char *to, size_t size) {
  lua_Debug ar;
  int level;
  for (level = 1; lua_getstack(L, level, &ar); level++) {
    if (!lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0 || strncmp(ar.source, "@mp/", 4) == 0) continue;
    (void)snprintf(to, size, "%s:%d", ar.short_src, ar.currentline);
    return to;
  }
  to[0] = '\0';
  return NULL;
}

/* The standard library finds a function's name, and its caller's place, one step too near: at us. */
static int put_right (lua_State *L) {
  const char *name = lua_tostring(L, lua_upvalueindex(1)), *text = lua_tostring(L, 1), *colon;
  char place[MPI_WHERE_SIZE];
  lua_settop(L, 1);
  if (text == NULL || lua_type(L, 1) != LUA_TSTRING) return 1;
  colon = strstr(text, ": ");
  if (colon != NULL && colon > text && colon[-1] >= '0' && colon[-1] <= '9') place[0] = '\0'; /* it has a place */
  else (void)script_line(L, place, sizeof place);
  text = luaL_gsub(L, text, "'?'", lua_pushfstring(L, "'%s'", name));
  if (place[0] != '\0') lua_pushfstring(L, "%s: %s", place, text);
  return 1;
}

/* A refusal says which grant would allow it: "x: Operation not permitted" becomes "... (sandbox: needs read)". "open": what the mode says. */
static int noted (lua_State *L) {
  char *page = mpi_warden_where();
  const char *need = lua_tostring(L, lua_upvalueindex(2));
  int n, args = lua_gettop(L), rc = LUA_OK;
  if (need != NULL && strcmp(need, "open") == 0)
    need = lua_type(L, 2) == LUA_TSTRING && strpbrk(lua_tostring(L, 2), "wa+") != NULL ? "write" : "read";
  if (page != NULL) (void)script_line(L, page, MPI_WHERE_SIZE);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  if (lua_isnil(L, lua_upvalueindex(3))) {
    lua_call(L, args, LUA_MULTRET);
  } else {
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_insert(L, 1);
    rc = lua_pcall(L, args, LUA_MULTRET, 1);
    lua_remove(L, 1);
  }
  n = lua_gettop(L);
  if (page != NULL) page[0] = '\0';
  if (rc != LUA_OK) return lua_error(L);
  if (n >= 2 && lua_isnil(L, 1) && lua_type(L, 2) == LUA_TSTRING && strstr(lua_tostring(L, 2), "not permitted") != NULL &&
      need != NULL) {
    lua_pushfstring(L, "%s (sandbox: needs %s)", lua_tostring(L, 2), need);
    lua_replace(L, 2);
  }
  return n;
}

/* jail_noted(f, need or nil, name or nil) -> f that tells its line. With a name (of a function that calls no script) its errors say it. */
static int l_jail_noted (lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 3);
  if (!lua_isnil(L, 3)) lua_pushcclosure(L, put_right, 1);
  lua_pushcclosure(L, noted, 3);
  return 1;
}

/* ---- what this machine can do ---- */

/* jail_end(report) -> the signal that kills a confined process with all that it has started; nil: its warden does not listen yet */
static int l_jail_end (lua_State *L) {
  if (mpi_load(&check_report(L, 1)->r->pid) == 0) return 0;
  lua_pushinteger(L, MPI_WARDEN_END);
  return 1;
}

static int l_jail_away (lua_State *L) { /* -> is there an empty network for confined processes? */
  int fds[MPI_AWAY_FDS];
  lua_pushboolean(L, mpi_away_get(fds) > 0);
  return 1;
}

static int l_landlock_abi (lua_State *L) {
  lua_pushinteger(L, mpi_landlock_abi());
  return 1;
}

static int l_seccomp (lua_State *L) {
  lua_pushboolean(L, mpi_filter_available() == 1);
  return 1;
}

static int l_is_root (lua_State *L) {
  lua_pushboolean(L, geteuid() == 0);
  return 1;
}

static int l_own_program (lua_State *L) {
  char path[4096];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path);
  if (n <= 0) return 0;
  lua_pushlstring(L, path, (size_t)n);
  return 1;
}

static const luaL_Reg functions[] = {
  {"jail_make", l_jail_make},       {"jail_report_new", l_report_new},
  {"jail_report", l_report_read},   {"process_spawn_confined", l_spawn_confined},
  {"jail_receive", l_jail_receive}, {"jail_enter", l_jail_enter},
  {"jail_secret", l_jail_secret},   {"jail_apply", l_jail_apply},
  {"jail_split", l_jail_split},     {"jail_cap", l_jail_cap},
  {"jail_noted", l_jail_noted},     {"landlock_abi", l_landlock_abi},
  {"seccomp_available", l_seccomp}, {"is_root", l_is_root},
  {"own_program", l_own_program},   {"jail_end", l_jail_end},
  {"jail_away", l_jail_away},       {"jail_mark", l_jail_mark},       {"jail_marked", l_jail_marked},
  {"jail_receive_report", l_jail_receive_report},
  {NULL, NULL}};

extern int mpl_open_sandbox (lua_State *L);

/* Stack: core, mp. */
int mpl_open_sandbox (lua_State *L) {
  (void)luaL_newmetatable(L, REPORT);
  lua_pushcfunction(L, l_report_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
  return 0;
}
