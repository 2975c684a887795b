/* l_pool.c -- what lua/mp/pool.lua stands on: the owner's userdata over runtime/pool/pool.h, and a worker's loop.
** Owner    mp.Pool is struct l_pool; user value 1 its fields (Lua's), 2 the functions it knows by their bytes, 3 those that cannot
**          change by identity (weak keys).
** Worker   takes a task, decodes, calls, encodes, answers: all in C under one protected call a task, on a Lua thread of its own, so that
**          tracebacks end where the task began.
** Stopping SIGALRM in a worker means: look whether your task's time is up or its owner wants it no more. The handler sets a hook that raises at
**          each instruction until the task's function has returned, whatever that catches; if it has not returned after a grace (C code,
**          a finalizer, another coroutine) the process ends itself. Nobody else need be awake for that.
*/
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/interrupt.h"
#include "bind/channel.h"
#include "bind/child.h"
#include "bind/codec.h"
#include "bind/codec_state.h"
#include "bind/udata.h"
#include "bind/wait.h"
#include "pool/pool.h"
#include "proc/thread.h"

#define POOL "mp.Pool"
#define RESULT "mp.AsyncResult"
#define FUNCTION "mp.Pool.function"
#define WORKER "mp.Pool.worker"

enum mode { MODE_CALL = 1, MODE_EACH, MODE_STAR }; /* one call; one for each item; the same with items that are lists of arguments */

enum status { /* of an answer; lua/mp/pool.lua has the same numbers */
  VALUE = 1, /* the one result */
  NONE,      /* there was none */
  MANY,      /* a table of them, with n */
  LIST,      /* of results; before them `item` others have come in parts */
  FAILED,    /* { error, results before it }; the failure of number `item` */
  SKIPPED,   /* cancelled before it was begun, or between two items */
  READY,     /* a worker is: its initializer has returned */
  INIT_FAILED,
  RETIRED,   /* a worker has done its number of tasks */
  PART       /* some results of a list whose handles need more descriptors than one message takes; the rest follows */
};

#define GRACE_NS (300 * MPI_NS_PER_MS) /* for a stopped task to come to its end */
#define BATCH 256
#define FUNCTIONS_KEPT 256

/* ================ the owner ================ */

struct about { /* a task that was submitted and not answered */
  uint64_t id;
  uint32_t tag;   /* of its job, Lua's; 0: this place is free */
  uint32_t first; /* of the job's items */
  uint32_t count;
  uint32_t next;  /* of a free place: the free place after it, plus 1; else: 1 if its items have a timeout */
};

struct counts {
  lua_Integer tasks, work, wait;
};

struct l_pool {
  struct mpi_pool p;
  struct about *about;
  uint32_t nabout, free; /* free: first free place plus 1; 0: none */
  uint32_t timed;        /* tasks that are about and have a timeout */
  struct counts *counts; /* one a worker */
  lua_Integer submitted, reached;
  int epoll, timer; /* what mp.wait polls beside the bell */
  int64_t wake_at;  /* when the owner wants to look at its workers; 0: no such time */
  int64_t timer_at; /* what the timer is set to */
  unsigned char *data;
  size_t room;
  size_t ends[BATCH];
  int got, at; /* of the batch at hand */
  int fds[MPI_MAX_FDS];
  int nfds; /* of the batch's last message */
};

struct l_function { /* a function that was encoded */
  uint32_t number;
  uint32_t size;
  uint64_t store;
  int kept;
  int nfds;
  int fds[]; /* own copies; then the bytes, if not kept in the store */
};

static const char function_count = 0; /* its address: registry key of the last number given out */

static struct l_pool *check (lua_State *L) {
  struct l_pool *p = luaL_checkudata(L, 1, POOL);
  luaL_argcheck(L, p->p.tasks != NULL, 1, "the pool is closed");
  return p;
}

/* pool_new(fields, workers) -> userdata | nil, sentence */
static int l_new (lua_State *L) {
  struct l_pool *p;
  struct epoll_event ev;
  lua_Integer n = luaL_checkinteger(L, 2);
  luaL_checktype(L, 1, LUA_TTABLE);
  p = lua_newuserdatauv(L, sizeof *p, 3);
  memset(p, 0, sizeof *p);
  p->epoll = p->timer = -1;
  luaL_setmetatable(L, POOL);
  lua_pushvalue(L, 1);
  (void)lua_setiuservalue(L, -2, 1);
  lua_newtable(L);
  (void)lua_setiuservalue(L, -2, 2);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  (void)lua_setiuservalue(L, -2, 3);
  if (mpi_pool_make((int)n, &p->p) != 0) goto failed;
  p->counts = calloc((size_t)n, sizeof *p->counts);
  if (p->counts == NULL) return luaL_error(L, "not enough memory");
  p->epoll = epoll_create1(EPOLL_CLOEXEC);
  p->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  memset(&ev, 0, sizeof ev);
  ev.events = EPOLLIN;
  if (p->epoll < 0 || p->timer < 0 || epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->timer, &ev) != 0) {
    luaL_pushfail(L);
    lua_pushfstring(L, "a descriptor for the pool: %s", strerror(errno));
    return 2;
  }
  return 1;
failed:
  luaL_pushfail(L);
  lua_pushstring(L, mp_errmsg());
  return 2;
}

/* pool_letgo(pool): memory and descriptors. The processes are Lua's. */
static int l_letgo (lua_State *L) {
  struct l_pool *p = luaL_checkudata(L, 1, POOL);
  mpi_pool_fini(&p->p);
  while (p->nfds > 0) mpi_fd_close(&p->fds[--p->nfds]);
  free(p->data);
  free(p->about);
  free(p->counts);
  p->data = NULL;
  p->about = NULL;
  p->counts = NULL;
  p->nabout = p->free = 0;
  p->room = 0;
  p->got = p->at = 0;
  if (p->epoll >= 0) mpi_fd_close(&p->epoll);
  if (p->timer >= 0) mpi_fd_close(&p->timer);
  return 0;
}

/* pool_fields(v) -> table, whether it is open; or nil if it is no pool */
static int l_fields (lua_State *L) {
  struct l_pool *p = luaL_testudata(L, 1, POOL);
  if (p == NULL) return 0;
  (void)lua_getiuservalue(L, 1, 1);
  lua_pushboolean(L, p->p.tasks != NULL);
  return 2;
}

/* pool_objects(pool) -> tasks, answers, board */
static int l_objects (lua_State *L) {
  struct l_pool *p = check(L);
  mp_retain(p->p.tasks);
  mpl_push(L, p->p.tasks);
  mp_retain(p->p.answers);
  mpl_push(L, p->p.answers);
  mp_retain(p->p.board);
  mpl_push(L, p->p.board);
  return 3;
}

/* ---- functions ---- */

static int l_function_gc (lua_State *L) {
  struct l_function *f = luaL_checkudata(L, 1, FUNCTION);
  while (f->nfds > 0) mpi_fd_close(&f->fds[--f->nfds]);
  return 0;
}

/* Can its encoding change from call to call? Not if all that it refers to is the globals. */
static int is_constant (lua_State *L, int idx) {
  int i;
  if (lua_iscfunction(L, idx)) return lua_getupvalue(L, idx, 1) == NULL ? 1 : (lua_pop(L, 1), 0);
  for (i = 1; lua_getupvalue(L, idx, i) != NULL; i++) {
    int globals;
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    globals = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    if (!globals) return 0;
  }
  return 1;
}

/* Bytes and, for functions with handles, the identities behind the descriptors. */
static void push_fingerprint (lua_State *L, const struct mpl_parcel *out) {
  luaL_Buffer b;
  int i;
  luaL_buffinit(L, &b);
  luaL_addlstring(&b, (const char *)out->data, out->size);
  for (i = 0; i < out->nfds; i++) {
    struct stat st;
    uint64_t id[2] = {0, (uint64_t)out->fds[i]};
    if (fstat(out->fds[i], &st) == 0) {
      id[0] = (uint64_t)st.st_dev;
      id[1] = (uint64_t)st.st_ino;
    }
    luaL_addlstring(&b, (const char *)id, sizeof id);
  }
  luaL_pushresult(&b);
}

static lua_Integer next_number (lua_State *L) {
  lua_Integer n;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &function_count);
  n = lua_tointeger(L, -1) + 1;
  lua_pop(L, 1);
  lua_pushinteger(L, n);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &function_count);
  return n;
}

#define INLINE_MOST 512u /* bytes of a function that go along with each task */

/* pool_function(pool, f, who) -> what the workers are told about f. Raises what mpl_encode raises. */
static int l_function (lua_State *L) {
  struct l_pool *p = check(L);
  struct mpl_encoding how = {NULL, "f", NULL, 0};
  struct mpl_parcel *out;
  struct l_function *f;
  uint64_t where = 0;
  int constant, kept, i;
  how.who = luaL_checkstring(L, 3);
  lua_settop(L, 3);
  constant = lua_isfunction(L, 2) && is_constant(L, 2);
  (void)lua_getiuservalue(L, 1, 3); /* 4 */
  if (constant) {
    lua_pushvalue(L, 2);
    if (lua_rawget(L, 4) != LUA_TNIL) return 1;
    lua_pop(L, 1);
  }
  out = mpl_parcel_out(L);
  mpl_encode_as(L, 2, out, &how);
  push_fingerprint(L, out); /* 5 */
  (void)lua_getiuservalue(L, 1, 2); /* 6 */
  lua_pushvalue(L, 5);
  if (lua_rawget(L, 6) == LUA_TNIL) {
    lua_pop(L, 1);
    kept = out->nfds == 0 && out->size > INLINE_MOST && mpi_pool_keep(&p->p, out->data, out->size, &where) == 0;
    f = lua_newuserdatauv(L, sizeof *f + (size_t)out->nfds * sizeof(int) + (kept ? 0 : out->size), 0);
    memset(f, 0, sizeof *f);
    luaL_setmetatable(L, FUNCTION);
    f->size = (uint32_t)out->size;
    f->store = where;
    f->kept = kept;
    for (i = 0; i < out->nfds; i++) {
      int fd = fcntl(out->fds[i], F_DUPFD_CLOEXEC, 3);
      if (fd < 0) return luaL_error(L, "a descriptor that the function needs: %s", strerror(errno));
      f->fds[f->nfds++] = fd;
    }
    if (!kept) memcpy(f->fds + f->nfds, out->data, out->size);
    f->number = (uint32_t)next_number(L);
    lua_pushvalue(L, 5);
    lua_pushvalue(L, -2);
    lua_rawset(L, 6);
  }
  if (constant) {
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 4);
  }
  return 1;
}

/* pool_forget(pool): functions that were kept; only while no task is about. */
static int l_forget (lua_State *L) {
  struct l_pool *p = check(L);
  lua_newtable(L);
  (void)lua_setiuservalue(L, 1, 2);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  (void)lua_setiuservalue(L, 1, 3);
  mpi_pool_forget(&p->p);
  return 0;
}

/* pool_kept(pool) -> bytes in the store */
static int l_kept (lua_State *L) {
  lua_pushinteger(L, (lua_Integer)check(L)->p.store_used);
  return 1;
}

/* ---- tasks ---- */

/* A place for a task that is about to be submitted; it is taken by note_task. -1: no memory. */
static int64_t place_for_task (struct l_pool *p) {
  if (p->free == 0) {
    uint32_t n = p->nabout == 0 ? 256 : p->nabout * 2, i;
    struct about *bigger = n > (1u << 28) ? NULL : realloc(p->about, n * sizeof *bigger);
    if (bigger == NULL) return -1;
    memset(bigger + p->nabout, 0, (n - p->nabout) * sizeof *bigger);
    for (i = p->nabout; i < n; i++) bigger[i].next = i + 2 <= n ? i + 2 : 0;
    p->free = p->nabout + 1;
    p->about = bigger;
    p->nabout = n;
  }
  return p->free - 1;
}

static void note_task (struct l_pool *p, uint32_t place, uint64_t id, uint32_t tag, uint32_t first, uint32_t count, int timed) {
  struct about *a = &p->about[place];
  p->free = a->next;
  a->next = timed != 0;
  p->timed += a->next;
  a->id = id;
  a->tag = tag;
  a->first = first;
  a->count = count;
}

static void forget_task (struct l_pool *p, uint32_t place) {
  mpi_pool_cancel(&p->p, p->about[place].id, 0);
  p->timed -= p->about[place].next;
  p->about[place].tag = 0;
  p->about[place].next = p->free;
  p->free = place + 1;
}

static int64_t find_task (const struct l_pool *p, uint64_t id) {
  uint32_t i;
  for (i = 0; i < p->nabout; i++)
    if (p->about[i].tag != 0 && p->about[i].id == id) return i;
  return -1;
}

struct submission {
  struct l_function *f;
  int64_t timeout;
  const char *who;
  uint32_t tag;
  int mode;
  int parted; /* how many items go together is ours to choose */
};

enum submitted { FULL, DONE, TOO_MANY };

/* The value at idx as one task. FULL: the ring is. TOO_MANY: it needs more descriptors than one message takes, and could be parted. */
static enum submitted submit_one (lua_State *L, struct l_pool *p, const struct submission *s, int idx, uint32_t first, uint32_t count) {
  struct mpl_encoding how = {s->who, s->mode == MODE_CALL ? "args" : "list", NULL, 0};
  const struct l_function *f = s->f;
  struct mpl_parcel *out = mpl_parcel_out(L);
  struct mpi_pool_task head;
  struct mpi_pool_part function, args;
  int64_t place;
  int rc;
  mpl_encode_as(L, idx, out, &how);
  if (out->nfds > MPI_MAX_FDS - f->nfds) {
    if (s->parted && count > 1) return TOO_MANY;
    mpl_push_where(L);
    lua_pushfstring(L, "%s%s: the shared objects in it have %d descriptors, and one message carries %d", lua_tostring(L, -1), s->who, out->nfds + f->nfds,
                    MPI_MAX_FDS);
    mpl_error_new(L, "encode", NULL);
    (void)lua_error(L);
  }
  place = place_for_task(p);
  if (place < 0) return luaL_error(L, "not enough memory");
  memset(&head, 0, sizeof head);
  memset(&function, 0, sizeof function);
  head.mode = (uint16_t)s->mode;
  head.count = count;
  head.timeout = s->timeout;
  head.tag = (uint32_t)place;
  head.function = f->number;
  head.ffds = (uint16_t)f->nfds;
  if (f->kept) {
    head.store = f->store;
    head.ssize = f->size;
  } else {
    head.fsize = f->size;
    function.data = f->fds + f->nfds;
    function.size = f->size;
  }
  function.fds = f->fds;
  function.nfds = f->nfds;
  args.data = out->data;
  args.size = out->size;
  args.fds = out->fds;
  args.nfds = out->nfds;
  mpl_ring_share(mpi_queue_ring(p->p.tasks), f->fds, f->nfds);
  mpl_ring_share(mpi_queue_ring(p->p.tasks), out->fds, out->nfds);
  rc = mpi_pool_submit(&p->p, &head, &function, &args, 0);
  if (rc == MP_ETIMEDOUT) return FULL;
  if (rc != 0) (void)mpl_raise(L, s->who, rc);
  note_task(p, (uint32_t)place, head.id, s->tag, first, count, s->timeout != 0);
  mpl_encoded_done(L);
  return DONE;
}

static void check_submission (lua_State *L, struct submission *s, int function, int mode, int timeout) {
  s->f = luaL_checkudata(L, function, FUNCTION);
  s->mode = (int)luaL_checkinteger(L, mode);
  s->timeout = 0;
  if (!lua_isnoneornil(L, timeout)) {
    lua_Number t = luaL_checknumber(L, timeout);
    s->timeout = t > 1e9 ? 0 : t < 1e-6 ? 1000 : (int64_t)(t * 1e9);
  }
  s->parted = 0;
  s->who = luaL_checkstring(L, timeout + 1);
  s->tag = (uint32_t)luaL_checkinteger(L, timeout + 2);
}

/* pool_submit(pool, function, mode, value, first, count, timeout, who, tag) -> number | nil ("full") */
static int l_submit (lua_State *L) {
  struct l_pool *p = check(L);
  struct submission s;
  check_submission(L, &s, 2, 3, 7);
  if (submit_one(L, p, &s, 4, (uint32_t)luaL_checkinteger(L, 5), (uint32_t)luaL_checkinteger(L, 6)) == FULL) return 0;
  lua_pushinteger(L, (lua_Integer)p->p.next - 1);
  return 1;
}

/* pool_submit_slices(pool, function, mode, list, first, last, timeout, who, tag, chunk, fixed): puts tasks of `chunk` items each, the last one may
** have fewer; as many as there is room for. Not fixed: fewer items, too, if their handles do not fit one message. Raises where an item cannot be sent. */
static int l_submit_slices (lua_State *L) {
  struct l_pool *p = check(L);
  struct submission s;
  const lua_Integer first = luaL_checkinteger(L, 5), last = luaL_checkinteger(L, 6);
  lua_Integer chunk = luaL_checkinteger(L, 10), i;
  lua_Integer size = 0; /* of the slice at 11, which is used again */
  int raw;
  p->submitted = 0;
  p->reached = first;
  check_submission(L, &s, 2, 3, 7);
  s.parted = !lua_toboolean(L, 11);
  luaL_checktype(L, 4, LUA_TTABLE);
  lua_settop(L, 10);
  raw = !lua_getmetatable(L, 4);
  lua_settop(L, 11);
  while (p->reached <= last) {
    lua_Integer n = last - p->reached + 1 < chunk ? last - p->reached + 1 : chunk;
    enum submitted done;
    if (n != size) {
      lua_createtable(L, (int)n, 0);
      lua_replace(L, 11);
      size = n;
    }
    for (i = 0; i < n; i++) {
      if (raw) lua_rawgeti(L, 4, p->reached + i);
      else lua_geti(L, 4, p->reached + i);
      lua_rawseti(L, 11, i + 1);
    }
    done = submit_one(L, p, &s, 11, (uint32_t)p->reached, (uint32_t)n);
    if (done == FULL) break;
    if (done == TOO_MANY) {
      chunk = n / 2;
      continue;
    }
    p->reached += n;
    p->submitted++;
  }
  return 0;
}

/* pool_submitted(pool) -> how many tasks the last pool_submit_slices has put, the first item that it has not */
static int l_submitted (lua_State *L) {
  const struct l_pool *p = check(L);
  lua_pushinteger(L, p->submitted);
  lua_pushinteger(L, p->reached);
  return 2;
}

/* pool_slice(list, first, count) -> list[first ... first + count - 1], as a list */
static int l_slice (lua_State *L) {
  lua_Integer first = luaL_checkinteger(L, 2), n = luaL_checkinteger(L, 3), i;
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_createtable(L, (int)n, 0);
  if (lua_getmetatable(L, 1)) {
    lua_pop(L, 1);
    for (i = 0; i < n; i++) {
      lua_geti(L, 1, first + i);
      lua_rawseti(L, 4, i + 1);
    }
  } else {
    for (i = 0; i < n; i++) {
      lua_rawgeti(L, 1, first + i);
      lua_rawseti(L, 4, i + 1);
    }
  }
  return 1;
}

/* pool_list(n) -> { n = n } with room */
static int l_list (lua_State *L) {
  lua_Integer n = luaL_checkinteger(L, 1);
  lua_createtable(L, n < 1 << 26 ? (int)n : 0, 1);
  lua_pushinteger(L, n);
  lua_setfield(L, -2, "n");
  return 1;
}

struct decoding {
  struct mpl_parcel parcel;
  unsigned flags; /* no code from workers in a sandbox */
};

static int decode (lua_State *L) {
  struct decoding *d = lua_touserdata(L, 1);
  lua_settop(L, 0);
  mpl_decode(L, &d->parcel, d->flags);
  return 1;
}

/* Makes sure that there is a message at hand. 0, or a negative code. */
static int fill (lua_State *L, struct l_pool *p, int64_t deadline) {
  int rc = MP_EINTR, tried = 0;
  while (p->at == p->got) {
    struct mpi_sink sink;
    memset(&sink, 0, sizeof sink);
    if (p->room == 0) {
      p->data = malloc(64 * 1024);
      if (p->data == NULL) return MP_ENOMEM;
      p->room = 64 * 1024;
    }
    sink.data = p->data;
    sink.room = p->room;
    sink.fds = p->fds;
    sink.ends = p->ends;
    p->got = p->at = 0;
    if (!tried || deadline == 0) {
      rc = mpi_ring_get(mpi_queue_ring(p->p.answers), &sink, BATCH, &p->got, 0);
    } else {
      mpl_enter(L); /* only now: it takes time */
      rc = mpi_ring_get(mpi_queue_ring(p->p.answers), &sink, BATCH, &p->got, deadline);
      mpl_leave();
    }
    p->nfds = sink.nfds;
    if (rc == MP_E2BIG) {
      unsigned char *bigger = realloc(p->data, sink.size);
      if (bigger == NULL) return MP_ENOMEM;
      p->data = bigger;
      p->room = sink.size;
    } else if (rc == MP_EINTR) {
      mpl_interrupt(L);
    } else if (rc == MP_ETIMEDOUT && !tried && deadline != 0) {
      tried = 1;
    } else if (rc != 0) {
      return rc;
    }
  }
  return 0;
}

/* The message at hand, which becomes the past: its head, and its value ready to be decoded. *place is where its task was noted, or -1
** for what a worker tells about itself. 0: it was of a task that nobody waits for. */
static int open_message (lua_State *L, struct l_pool *p, struct mpi_pool_answer *head, struct decoding *d, int64_t *place) {
  size_t start = p->at == 0 ? 0 : p->ends[p->at - 1];
  size_t size = p->ends[p->at] - start;
  p->at++;
  memset(d, 0, sizeof *d);
  if (p->at == p->got) { /* descriptors come with the last one */
    d->parcel.fds = p->fds;
    d->parcel.nfds = d->parcel.fds_room = p->nfds;
    p->nfds = 0;
  }
  if (size < sizeof *head) return luaL_error(L, "pool: an answer is malformed");
  memcpy(head, p->data + start, sizeof *head);
  size -= sizeof *head;
  d->flags = mpl_ring_trust(mpi_queue_ring(p->p.answers));
  d->parcel.data = p->data + start + sizeof *head;
  d->parcel.size = d->parcel.room = size;
  *place = -1;
  if (head->worker >= (uint32_t)p->p.workers) head->worker = 0;
  if (head->status >= READY && head->status != PART) return 1;
  if (head->tag >= p->nabout || p->about[head->tag].tag == 0 || p->about[head->tag].id != head->id) {
    while (d->parcel.nfds > 0) mpi_fd_close(&d->parcel.fds[--d->parcel.nfds]);
    return 0;
  }
  *place = head->tag;
  if (head->status == PART) return 1;
  p->counts[head->worker].tasks++;
  p->counts[head->worker].work += head->work;
  p->counts[head->worker].wait += head->wait;
  return 1;
}

/* After the last message of a batch: a large one was rare. */
static void trim (struct l_pool *p) {
  if (p->at < p->got || p->room <= ((size_t)1 << 20)) return;
  free(p->data);
  p->data = NULL;
  p->room = 0;
}

/* Pushes the value, or the error; 1 if it is the value. */
static int push_value (lua_State *L, struct decoding *d) {
  lua_pushcfunction(L, decode);
  lua_pushlightuserdata(L, d);
  return lua_pcall(L, 1, 1, 0) == LUA_OK;
}

/* pool_next(pool, timeout) -> nothing | tag, number, status, worker, item, work, wait, first, count, value. tag 0: about the worker. A value
** that cannot be decoded: status 0 and the error. */
static int l_next (lua_State *L) {
  struct l_pool *p = check(L);
  int64_t deadline = mpl_deadline(L, 2), place = -1;
  struct mpi_pool_answer head;
  struct decoding d;
  struct about a;
  int rc;
  lua_settop(L, 2);
  do {
    rc = fill(L, p, deadline);
    if (rc == MP_ETIMEDOUT || rc == MP_ECLOSED) return 0;
    if (rc != 0) return mpl_raise(L, "pool", rc);
  } while (!open_message(L, p, &head, &d, &place));
  memset(&a, 0, sizeof a);
  if (place >= 0) {
    a = p->about[place];
    if (head.status != PART) forget_task(p, (uint32_t)place);
  }
  lua_pushinteger(L, a.tag);
  lua_pushinteger(L, (lua_Integer)head.id);
  lua_pushinteger(L, head.status);
  lua_pushinteger(L, (lua_Integer)head.worker + 1);
  lua_pushinteger(L, head.item);
  lua_pushinteger(L, head.work);
  lua_pushinteger(L, head.wait);
  lua_pushinteger(L, a.first);
  lua_pushinteger(L, a.count);
  if (d.parcel.size == 0) return 9;
  if (!push_value(L, &d)) {
    lua_pushinteger(L, 0);
    lua_replace(L, 5);
  }
  trim(p);
  return 10;
}

/* Is the message at hand a list of results for that job, and not remarkable? */
static int is_plain (const struct l_pool *p, uint32_t tag, lua_Integer slow_from) {
  size_t start = p->at == 0 ? 0 : p->ends[p->at - 1];
  struct mpi_pool_answer head;
  if (p->ends[p->at] - start < sizeof head) return 0;
  memcpy(&head, p->data + start, sizeof head);
  return head.status == LIST && head.item == 0 && head.work <= slow_from && head.tag < p->nabout && p->about[head.tag].tag == tag &&
         p->about[head.tag].id == head.id;
}

/* pool_gather(pool, tag, results, timeout, slow_from) -> nil (time is up) | items, tasks, work [, error]: puts the results of that job
** into their places, as far as they are here and nothing else comes first */
static int l_gather (lua_State *L) {
  struct l_pool *p = check(L);
  uint32_t tag = (uint32_t)luaL_checkinteger(L, 2);
  int64_t deadline = mpl_deadline(L, 4), place;
  lua_Integer slow_from = (lua_Integer)luaL_checknumber(L, 5), items = 0, tasks = 0, work = 0;
  struct mpi_pool_answer head;
  struct decoding d;
  int rc;
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 5);
  rc = fill(L, p, deadline);
  if (rc == MP_ETIMEDOUT || rc == MP_ECLOSED) return 0;
  if (rc != 0) return mpl_raise(L, "pool", rc);
  while (p->at < p->got && is_plain(p, tag, slow_from) && open_message(L, p, &head, &d, &place)) {
    struct about a = p->about[place];
    lua_Integer i;
    forget_task(p, (uint32_t)place);
    tasks++;
    work += head.work;
    if (!push_value(L, &d) || !lua_istable(L, -1)) {
      lua_pushinteger(L, items);
      lua_pushinteger(L, tasks);
      lua_pushinteger(L, work);
      lua_rotate(L, -4, 3);
      return 4;
    }
    for (i = 1; i <= a.count; i++) {
      lua_rawgeti(L, 6, i);
      lua_rawseti(L, 3, (lua_Integer)a.first + i - 1);
    }
    lua_settop(L, 5);
    items += a.count;
  }
  trim(p);
  lua_pushinteger(L, items);
  lua_pushinteger(L, tasks);
  lua_pushinteger(L, work);
  return 3;
}

/* ---- tasks that are about ---- */

/* pool_take_back(pool, number) -> tag, first, count of a task that will not be answered; nothing: it was */
static int l_take_back (lua_State *L) {
  struct l_pool *p = check(L);
  int64_t place = find_task(p, (uint64_t)luaL_checkinteger(L, 2));
  if (place < 0) return 0;
  lua_pushinteger(L, p->about[place].tag);
  lua_pushinteger(L, p->about[place].first);
  lua_pushinteger(L, p->about[place].count);
  forget_task(p, (uint32_t)place);
  return 3;
}

/* pool_is_about(pool, number) -> boolean */
static int l_is_about (lua_State *L) {
  struct l_pool *p = check(L);
  lua_pushboolean(L, find_task(p, (uint64_t)luaL_checkinteger(L, 2)) >= 0);
  return 1;
}

/* pool_cancel_job(pool, tag): none of its tasks is begun any more */
static int l_cancel_job (lua_State *L) {
  struct l_pool *p = check(L);
  uint32_t tag = (uint32_t)luaL_checkinteger(L, 2), i;
  for (i = 0; i < p->nabout; i++)
    if (tag != 0 && p->about[i].tag == tag) mpi_pool_cancel(&p->p, p->about[i].id, 1);
  return 0;
}

/* pool_held(pool, tag, i) -> number of the task of that job that worker i has in hand, or nothing */
static int l_held (lua_State *L) {
  struct l_pool *p = check(L);
  uint32_t tag = (uint32_t)luaL_checkinteger(L, 2);
  lua_Integer w = luaL_checkinteger(L, 3);
  uint64_t noted;
  int64_t place;
  luaL_argcheck(L, w >= 1 && w <= p->p.workers, 3, "no such worker");
  noted = mpi_load(&p->p.slots[w - 1].task);
  if (noted == 0 || mpi_pool_holder(&p->p, noted - 1) != w - 1) return 0;
  place = find_task(p, noted - 1);
  if (place < 0 || p->about[place].tag != tag) return 0;
  lua_pushinteger(L, (lua_Integer)noted - 1);
  return 1;
}

/* pool_suspect(pool) -> number of a task that no worker has in hand, or nothing: called when none waits in a ring */
static int l_suspect (lua_State *L) {
  struct l_pool *p = check(L);
  uint32_t i;
  for (i = 0; i < p->nabout; i++)
    if (p->about[i].tag != 0 && mpi_pool_holder(&p->p, p->about[i].id) < 0) {
      lua_pushinteger(L, (lua_Integer)p->about[i].id);
      return 1;
    }
  return 0;
}

/* pool_drop_tasks(pool): none is waited for */
static int l_drop_tasks (lua_State *L) {
  struct l_pool *p = check(L);
  uint32_t i;
  for (i = 0; i < p->nabout; i++)
    if (p->about[i].tag != 0) forget_task(p, i);
  return 0;
}

/* pool_counts(pool, worker) -> tasks, work, wait (ns) */
static int l_counts (lua_State *L) {
  struct l_pool *p = check(L);
  lua_Integer w = luaL_checkinteger(L, 2);
  luaL_argcheck(L, w >= 1 && w <= p->p.workers, 2, "no such worker");
  lua_pushinteger(L, p->counts[w - 1].tasks);
  lua_pushinteger(L, p->counts[w - 1].work);
  lua_pushinteger(L, p->counts[w - 1].wait);
  return 3;
}

/* ---- the board ---- */

static int check_worker (lua_State *L, const struct l_pool *p) {
  lua_Integer i = luaL_checkinteger(L, 2);
  luaL_argcheck(L, i >= 1 && i <= p->p.workers, 2, "no such worker");
  return (int)i - 1;
}

/* pool_victim(pool, worker) -> number or nil, state, item, stopped */
static int l_victim (lua_State *L) {
  struct l_pool *p = check(L);
  int w = check_worker(L, p);
  uint64_t id;
  if (mpi_pool_victim(&p->p, w, &id)) lua_pushinteger(L, (lua_Integer)id);
  else lua_pushnil(L);
  lua_pushinteger(L, mpi_load(&p->p.slots[w].state));
  lua_pushinteger(L, mpi_load(&p->p.slots[w].item));
  lua_pushinteger(L, mpi_load(&p->p.slots[w].stopped));
  return 4;
}

static int l_reset (lua_State *L) {
  struct l_pool *p = check(L);
  mpi_pool_reset(&p->p, check_worker(L, p));
  return 0;
}

/* pool_late(pool, worker) -> by how many seconds the running item is late, or nil */
static int l_late (lua_State *L) {
  struct l_pool *p = check(L);
  struct mpi_pool_slot *s = &p->p.slots[check_worker(L, p)];
  int64_t deadline = (int64_t)mpi_load(&s->deadline);
  int64_t now = mp_now();
  if (!mpi_load(&s->running) || deadline == 0 || now < deadline) return 0;
  lua_pushnumber(L, (lua_Number)(now - deadline) / 1e9);
  return 1;
}

/* pool_stop(pool, number) -> worker that has it in hand and is now told to stop it, or nil. The caller sends the signal. */
static int l_stop (lua_State *L) {
  struct l_pool *p = check(L);
  uint64_t id = (uint64_t)luaL_checkinteger(L, 2);
  int w = mpi_pool_holder(&p->p, id);
  if (w < 0) return 0;
  mpi_store(&p->p.slots[w].stop, id + 1);
  lua_pushinteger(L, w + 1);
  return 1;
}

/* pool_end(pool, drop): no more tasks; workers end when all are done (or at once) */
static int l_end (lua_State *L) {
  struct l_pool *p = check(L);
  (void)mpi_ring_close(mpi_queue_ring(p->p.tasks), lua_toboolean(L, 2));
  return 0;
}

/* pool_queued(pool) -> tasks that nobody has taken, answers that the owner has not */
static int l_queued (lua_State *L) {
  struct l_pool *p = check(L);
  lua_pushinteger(L, mpi_ring_size(mpi_queue_ring(p->p.tasks)));
  lua_pushinteger(L, (lua_Integer)mpi_ring_size(mpi_queue_ring(p->p.answers)) + p->got - p->at);
  return 2;
}

/* ---- results, and mp.wait ---- */

struct l_result {
  int nothing;
};

/* pool_result(fields) -> mp.AsyncResult */
static int l_result (lua_State *L) {
  struct l_result *r;
  r = lua_newuserdatauv(L, sizeof *r, 1);
  r->nothing = 0;
  luaL_setmetatable(L, RESULT);
  lua_pushvalue(L, 1);
  (void)lua_setiuservalue(L, -2, 1);
  return 1;
}

static int l_result_fields (lua_State *L) {
  if (luaL_testudata(L, 1, RESULT) == NULL) return 0;
  (void)lua_getiuservalue(L, 1, 1);
  return 1;
}

/* pool_watch(pool, fd, on): mp.wait looks at a worker's pidfd, too */
static int l_watch (lua_State *L) {
  struct l_pool *p = check(L);
  struct epoll_event ev;
  memset(&ev, 0, sizeof ev);
  ev.events = EPOLLIN;
  (void)epoll_ctl(p->epoll, lua_toboolean(L, 3) ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, (int)luaL_checkinteger(L, 2), &ev);
  return 0;
}

/* pool_timer(pool, seconds): mp.wait looks at the workers then; 0: it need not */
static int l_timer (lua_State *L) {
  struct l_pool *p = check(L);
  lua_Number s = luaL_checknumber(L, 2);
  p->wake_at = s > 0 ? mp_now() + (int64_t)(s * 1e9) : 0;
  return 0;
}

#define LOOK_NS (100 * MPI_NS_PER_MS)

/* A worker may have to be ended though nothing happens: its task has a time, which began while we waited, or it was told to stop. */
static int must_be_watched (const struct l_pool *p) {
  int i;
  for (i = 0; i < p->p.workers; i++) {
    const struct mpi_pool_slot *s = &p->p.slots[i];
    uint64_t told = mpi_load(&s->stop);
    if (told != 0 && told == mpi_load(&s->task) && mpi_load(&s->running)) return 1;
  }
  return p->timed > 0;
}

static void set_timer (struct l_pool *p) {
  int64_t at = p->wake_at;
  struct itimerspec it;
  if (must_be_watched(p)) {
    int64_t soon = mp_now() + LOOK_NS;
    if (at == 0 || soon < at) at = soon;
  }
  if (at == p->timer_at) return;
  p->timer_at = at;
  memset(&it, 0, sizeof it);
  if (at != 0) it.it_value = mpi_timespec(at);
  (void)timerfd_settime(p->timer, TFD_TIMER_ABSTIME, &it, NULL);
}

static int wait_ready (lua_State *L, int idx) {
  int ready;
  idx = lua_absindex(L, idx);
  luaL_checkstack(L, 6, NULL);
  (void)luaL_getmetafield(L, idx, "__ready");
  lua_pushvalue(L, idx);
  lua_call(L, 1, 1);
  ready = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return ready;
}

static int wait_poll (lua_State *L, int idx, struct pollfd *fd) {
  struct l_pool *p;
  int n = 0;
  luaL_checkstack(L, 4, NULL);
  (void)lua_getiuservalue(L, idx, 1);
  lua_getfield(L, -1, "pool");
  p = luaL_testudata(L, -1, POOL);
  if (p != NULL && p->p.answers != NULL) {
    struct mpi_ring *r = mpi_queue_ring(p->p.answers);
    int rc = mpi_ring_watch(r);
    if (rc != 0) return mpl_raise(L, "wait", rc);
    set_timer(p);
    fd[n].fd = r->bell_fd;
    fd[n++].events = POLLIN;
    fd[n].fd = p->epoll;
    fd[n++].events = POLLIN;
  }
  lua_pop(L, 2);
  return n;
}

static void wait_tidy (lua_State *L, int idx) {
  struct l_pool *p;
  luaL_checkstack(L, 5, NULL);
  (void)lua_getiuservalue(L, idx, 1);
  lua_getfield(L, -1, "pool");
  p = luaL_testudata(L, -1, POOL);
  if (p != NULL && p->p.answers != NULL) {
    uint64_t times;
    mpi_ring_tidy(mpi_queue_ring(p->p.answers));
    (void)!read(p->timer, &times, sizeof times);
  }
  if (lua_getfield(L, -2, "owner") == LUA_TTABLE) { /* look at the workers next time: one has died, or a pause is over */
    lua_pushinteger(L, 0);
    lua_setfield(L, -2, "looked");
  }
  lua_pop(L, 3);
}

static void wait_leave (lua_State *L, int idx) {
  struct l_pool *p;
  (void)lua_getiuservalue(L, idx, 1);
  lua_getfield(L, -1, "pool");
  p = luaL_testudata(L, -1, POOL);
  if (p != NULL && p->p.answers != NULL) mpi_ring_unwatch(mpi_queue_ring(p->p.answers));
  lua_pop(L, 2);
}

static const mpl_waitable waitable = {wait_ready, wait_poll, wait_tidy, wait_leave, NULL};

/* ================ a worker ================ */

struct worker {
  struct mpi_pool p;
  int index;
  int thread; /* not a process of its own, or one that may not have signals: its owner sees to its time */
  struct mpi_pool_slot *slot;
  lua_State *main, *L; /* L: the thread that tasks run on */
  volatile sig_atomic_t running;
  volatile sig_atomic_t stopping; /* enum mpi_stop_reason, once the hook is set */
  volatile int64_t stopping_since;
  uint64_t id; /* task at hand */
  const char *phase;
  struct mpi_pool_task head;
  unsigned char *data;
  size_t room, size;
  int fds[MPI_MAX_FDS];
  int nfds, fds_used; /* those below fds_used have another owner now */
  int functions;      /* kept */
  uint32_t item;
  int64_t work, wait;
};

static _Thread_local struct worker *self;

static void stop_hook (lua_State *L, lua_Debug *ar) {
  (void)ar;
  if (self == NULL || !self->running) {
    lua_sethook(L, NULL, 0, 0);
    return;
  }
  luaL_error(L, self->stopping == MPI_STOPPED_TIMEOUT ? "the task's time is up" : "the task was cancelled");
}

static void arm_timer (int64_t ns) {
  struct itimerval it;
  memset(&it, 0, sizeof it);
  if (ns > 0) {
    it.it_value.tv_sec = (time_t)(ns / MPI_NS_PER_S);
    it.it_value.tv_usec = (suseconds_t)(ns % MPI_NS_PER_S / 1000) + 1;
    if (it.it_value.tv_usec >= 1000000) {
      it.it_value.tv_sec++;
      it.it_value.tv_usec = 0;
    }
  }
  (void)setitimer(ITIMER_REAL, &it, NULL);
}

/* Async-signal-safe but for lua_sethook, which is made for this. */
static void look_whether_to_stop (struct worker *w) {
  int64_t now = mp_now();
  int64_t deadline = (int64_t)mpi_load(&w->slot->deadline);
  int reason = MPI_STOPPED_NOT;
  if (!w->running) return;
  if (mpi_load(&w->slot->stop) == w->id + 1) reason = MPI_STOPPED_CANCEL;
  else if (deadline != 0 && now >= deadline) reason = MPI_STOPPED_TIMEOUT;
  if (reason == MPI_STOPPED_NOT) {
    if (deadline != 0 && !w->thread) arm_timer(deadline - now + 1000);
  } else if (w->stopping == 0) {
    const int all = LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
    w->stopping = reason;
    w->stopping_since = now;
    lua_sethook(w->L, stop_hook, all, 1);
    lua_sethook(w->main, stop_hook, all, 1); /* so that blocked calls notice: bind/udata.c */
    if (!w->thread) arm_timer(GRACE_NS);
  } else if (w->thread) {
    return;
  } else if (now - w->stopping_since >= GRACE_NS) {
    mpi_store(&w->slot->stopped, (uint32_t)w->stopping);
    (void)kill(getpid(), SIGKILL);
  } else {
    arm_timer(GRACE_NS - (now - w->stopping_since) + 1000);
  }
}

static void on_alarm (int sig) {
  int saved = errno;
  (void)sig;
  if (self != NULL) look_whether_to_stop(self);
  mpi_interrupt_note();
  errno = saved;
}

/* In a thread: is the task at hand the one that the owner means? It may have ended, and the next begun, before the interruption came. */
static int stop_wanted (void) {
  const struct worker *w = self;
  uint64_t deadline;
  if (w == NULL) return 1;
  if (!w->running) return 0;
  deadline = mpi_load(&w->slot->deadline);
  return (deadline != 0 && mp_now() >= (int64_t)deadline) || mpi_load(&w->slot->stop) == w->id + 1;
}

static void begin_item (struct worker *w, int64_t now) {
  if (w->head.timeout == 0) return;
  mpi_store(&w->slot->deadline, (uint64_t)(now + w->head.timeout));
  if (!w->thread) arm_timer(w->head.timeout);
}

static void end_running (struct worker *w) {
  if (!w->running) return;
  if (w->thread && !w->stopping) { /* whoever interrupted it did so for one of these */
    uint64_t deadline = mpi_load(&w->slot->deadline);
    if (deadline != 0 && mp_now() >= (int64_t)deadline) w->stopping = MPI_STOPPED_TIMEOUT;
    else if (mpi_load(&w->slot->stop) == w->id + 1) w->stopping = MPI_STOPPED_CANCEL;
  }
  w->running = 0; /* from here on the handler leaves us alone */
  mpi_compiler_barrier();
  mpi_store(&w->slot->running, 0);
  if (w->head.timeout != 0 || w->stopping) {
    if (!w->thread) arm_timer(0);
    mpi_store(&w->slot->deadline, 0);
  }
  if (w->stopping) {
    if (lua_gethook(w->L) == stop_hook) lua_sethook(w->L, NULL, 0, 0);
    if (lua_gethook(w->main) == stop_hook) lua_sethook(w->main, NULL, 0, 0);
  }
}

static void begin_running (struct worker *w) {
  w->stopping = 0;
  mpi_store_relaxed(&w->slot->item, 0);
  mpi_store_release(&w->slot->running, 1);
  mpi_compiler_barrier();
  w->running = 1;
  if (mpi_load(&w->slot->stop) == w->id + 1) look_whether_to_stop(w);
}

/* Pushes the function of the task. Upvalue 1: those that are known, by number. */
static void push_function (lua_State *L, struct worker *w) {
  struct mpl_parcel p;
  const unsigned char *bytes = w->data + sizeof w->head;
  size_t size = w->head.fsize;
  if (w->head.ffds > w->nfds || size > w->size - sizeof w->head) luaL_error(L, "a task is malformed");
  if (lua_rawgeti(L, lua_upvalueindex(1), w->head.function) != LUA_TNIL) {
    while (w->fds_used < w->head.ffds) (void)close(w->fds[w->fds_used++]);
    return;
  }
  lua_pop(L, 1);
  if (size == 0) {
    size = w->head.ssize;
    bytes = mpi_pool_kept(&w->p, w->head.store, size);
    if (bytes == NULL) luaL_error(L, "a task is malformed");
  }
  memset(&p, 0, sizeof p);
  p.data = (unsigned char *)(uintptr_t)bytes;
  p.size = p.room = size;
  p.fds = w->fds;
  p.nfds = p.fds_room = w->head.ffds;
  w->fds_used = w->head.ffds;
  mpl_decode(L, &p, MPL_TRUST_CODE);
  if (++w->functions > FUNCTIONS_KEPT) { /* those in use are sent again */
    lua_newtable(L);
    lua_replace(L, lua_upvalueindex(1));
    w->functions = 1;
  }
  lua_pushvalue(L, -1);
  lua_rawseti(L, lua_upvalueindex(1), w->head.function);
}

static void push_arguments (lua_State *L, struct worker *w) {
  struct mpl_parcel p;
  size_t at = sizeof w->head + w->head.fsize;
  memset(&p, 0, sizeof p);
  p.data = w->data + at;
  p.size = p.room = w->size - at;
  p.fds = w->fds + w->fds_used;
  p.nfds = p.fds_room = w->nfds - w->fds_used;
  w->fds_used = w->nfds;
  mpl_decode(L, &p, MPL_TRUST_CODE);
}

/* The list at idx as arguments; gives how many. */
static int unpack (lua_State *L, int idx) {
  lua_Integer i, n;
  int ok;
  if (!lua_istable(L, idx)) return luaL_error(L, "a list of arguments expected, got %s", luaL_typename(L, idx));
  lua_getfield(L, idx, "n");
  n = lua_tointegerx(L, -1, &ok);
  lua_pop(L, 1);
  if (!ok) n = luaL_len(L, idx);
  if (n < 0 || n > 1000000 || !lua_checkstack(L, (int)n + 8)) return luaL_error(L, "too many arguments");
  for (i = 1; i <= n; i++) lua_geti(L, idx, i);
  return (int)n;
}

static void send_answer (lua_State *L, struct worker *w, int status, const struct mpl_parcel *out) {
  struct mpi_pool_answer head;
  struct mpi_pool_part value;
  int rc;
  memset(&head, 0, sizeof head);
  memset(&value, 0, sizeof value);
  head.id = w->id;
  head.work = w->work;
  head.wait = w->wait;
  head.worker = (uint32_t)w->index;
  head.item = w->item;
  head.tag = w->head.tag;
  head.status = (uint16_t)status;
  if (out != NULL) {
    value.data = out->data;
    value.size = out->size;
    value.fds = out->fds;
    value.nfds = out->nfds;
  }
  rc = mpi_pool_answer(&w->p, &head, &value, MP_NEVER);
  if (rc != 0 && rc != MP_ECLOSED) luaL_error(L, "%s", mp_errmsg()); /* closed: nobody wants it */
  mpl_encoded_done(L);
}

/* Stack: function at 1, arguments at 2. Gives the status and leaves the value at the top. */
static int call_once (lua_State *L, struct worker *w) {
  int base = lua_gettop(L), n;
  lua_pushvalue(L, 1);
  n = unpack(L, 2);
  begin_running(w);
  begin_item(w, mp_now());
  lua_call(L, n, LUA_MULTRET);
  end_running(w);
  n = lua_gettop(L) - base;
  if (n == 0) return NONE;
  if (n == 1) return VALUE;
  lua_createtable(L, n, 1);
  lua_insert(L, base + 1);
  lua_pushinteger(L, n);
  lua_setfield(L, base + 1, "n");
  for (; n > 0; n--) lua_rawseti(L, base + 1, n);
  return MANY;
}

static int call_each (lua_State *L, struct worker *w) {
  uint32_t i;
  int star = w->head.mode == MODE_STAR;
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_createtable(L, (int)w->head.count, 0); /* 3 */
  lua_pushvalue(L, 3);
  lua_replace(L, lua_upvalueindex(2)); /* what there is, if one fails */
  begin_running(w);
  for (i = 1; i <= w->head.count; i++) {
    int n = 1;
    mpi_store_relaxed(&w->slot->item, i);
    w->item = i;
    if (i > 1 && mpi_pool_is_cancelled(&w->p, w->id)) {
      end_running(w);
      return SKIPPED;
    }
    lua_pushvalue(L, 1);
    lua_rawgeti(L, 2, i);
    if (star) {
      n = unpack(L, 5);
      lua_remove(L, 5);
    }
    begin_item(w, w->head.timeout != 0 ? mp_now() : 0);
    lua_call(L, n, 1);
    lua_rawseti(L, 3, i);
  }
  end_running(w);
  return LIST;
}

/* The results at 3, in as many answers as their handles need. */
static void send_parts (lua_State *L, struct worker *w, const struct mpl_encoding *how, int nfds) {
  lua_Integer count = w->head.count, from = 0, i;
  lua_Integer step = count * MPI_MAX_FDS / nfds;
  if (step < 1) step = 1;
  while (from < count) {
    lua_Integer n = count - from < step ? count - from : step;
    struct mpl_parcel *out;
    lua_settop(L, 3);
    lua_createtable(L, (int)n, 0);
    for (i = 1; i <= n; i++) {
      lua_rawgeti(L, 3, from + i);
      lua_rawseti(L, 4, i);
    }
    out = mpl_parcel_out(L);
    mpl_encode_as(L, 4, out, how);
    if (out->nfds > MPI_MAX_FDS && n > 1) {
      step = n / 2;
      continue;
    }
    w->item = (uint32_t)from;
    send_answer(L, w, from + n < count ? PART : LIST, out);
    from += n;
  }
}

/* One task, from its bytes to the answer. Raises for what fails. */
static int run_task (lua_State *L) {
  struct worker *w = self;
  struct mpl_encoding how = {"pool", "result", NULL, 0};
  struct mpl_parcel *out = NULL;
  int64_t start;
  int status;
  lua_settop(L, 0);
  w->phase = "decode";
  push_function(L, w);
  push_arguments(L, w);
  w->phase = "run";
  start = mp_now();
  w->wait = start - w->wait;
  w->work = -start; /* so that a failure can finish the sum */
  status = w->head.mode == MODE_CALL ? call_once(L, w) : call_each(L, w);
  w->work = mp_now() - start;
  w->phase = "encode";
  if (status != NONE && status != SKIPPED) {
    out = mpl_parcel_out(L);
    mpl_encode_as(L, -1, out, &how);
    if (status == LIST && w->head.count > 1 && out->nfds > MPI_MAX_FDS) {
      send_parts(L, w, &how, out->nfds);
      return 0;
    }
    w->item = status == LIST ? 0 : w->item;
  }
  send_answer(L, w, status, out);
  return 0;
}

static const char traceback_key = 0;

static int message_handler (lua_State *L) {
  struct worker *w = self;
  if (w->running && w->stopping) end_running(w); /* else the hook raises here, too */
  luaL_traceback(L, L, NULL, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
  return 1;
}

/* failure(error, traceback, phase, stopped, memory) -> parts; then the answer. Arguments: failure, error, results before it, memory?, shall the
** error be turned into text? */
static int send_failure (lua_State *L) {
  struct worker *w = self;
  struct mpl_encoding how = {"pool", "error", NULL, 0};
  struct mpl_parcel *out;
  static const char *const why[] = {NULL, "timeout", "cancelled"};
  int memory = lua_toboolean(L, 4);
  if (lua_toboolean(L, 5)) { /* what it says, rather than what it is */
    (void)luaL_tolstring(L, 2, NULL);
    lua_replace(L, 2);
  }
  lua_settop(L, 4);
  lua_createtable(L, 2, 0); /* 5 */
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 2);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &traceback_key);
  lua_pushstring(L, w->phase);
  lua_pushstring(L, why[w->stopping]);
  lua_pushboolean(L, memory);
  lua_call(L, 5, 1);
  lua_rawseti(L, 5, 1);
  lua_pushvalue(L, 3);
  lua_rawseti(L, 5, 2);
  out = mpl_parcel_out(L);
  mpl_encode_as(L, 5, out, &how);
  send_answer(L, w, FAILED, out);
  return 0;
}

/* Tells about the failure whose value is at the top, in as much detail as can be sent. Stack: 1 failure function, 2 run_task. */
static void report_failure (lua_State *L, struct worker *w, int memory) {
  int error = lua_gettop(L), attempt;
  w->work += w->work < 0 ? mp_now() : 0;
  for (attempt = 0; attempt < 3; attempt++) {
    lua_pushcfunction(L, send_failure);
    lua_pushvalue(L, 1);
    if (attempt < 2) lua_pushvalue(L, error);
    else lua_pushliteral(L, "the task failed, and its error cannot be sent");
    if (attempt == 0 && w->head.mode != MODE_CALL) (void)lua_getupvalue(L, 2, 2);
    else lua_pushnil(L);
    lua_pushboolean(L, memory);
    lua_pushboolean(L, attempt == 1);
    if (lua_pcall(L, 5, 0, 0) == LUA_OK) break;
    lua_settop(L, error);
  }
}

static const char worker_key = 0;

static int l_worker_gc (lua_State *L) {
  struct worker *w = luaL_checkudata(L, 1, WORKER);
  if (self == w) self = NULL;
  mpi_pool_fini(&w->p);
  free(w->data);
  w->data = NULL;
  return 0;
}

/* pool_enter(tasks, answers, board, index, deaf): this process (or thread) is that worker now */
static int l_enter (lua_State *L) {
  lua_Integer index = luaL_checkinteger(L, 4);
  struct worker *w = lua_newuserdatauv(L, sizeof *w, 1);
  int rc;
  memset(w, 0, sizeof *w);
  luaL_setmetatable(L, WORKER);
  w->room = 4096;
  w->data = malloc(w->room);
  if (w->data == NULL) return luaL_error(L, "not enough memory");
  rc = mpi_pool_bind(mpl_test(L, 1), mpl_test(L, 2), mpl_test(L, 3), &w->p);
  if (rc != 0) return mpl_raise(L, "pool", rc);
  luaL_argcheck(L, index >= 1 && index <= MPI_POOL_WORKERS, 4, "no such worker");
  w->index = (int)index - 1;
  w->slot = &w->p.slots[w->index];
  w->thread = mpi_thread_self() != NULL || lua_toboolean(L, 5);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  w->main = lua_tothread(L, -1);
  lua_pop(L, 1);
  w->L = lua_newthread(L);
  (void)lua_setiuservalue(L, -2, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &worker_key);
  self = w;
  mpl_thread_filter(stop_wanted);
  if (!w->thread) {
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    (void)sigemptyset(&sa.sa_mask);
    sa.sa_handler = on_alarm;
    (void)sigaction(SIGALRM, &sa, NULL);
    sa.sa_handler = SIG_IGN; /* a Ctrl-C is the owner's to deal with */
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigemptyset(&sa.sa_mask);
    (void)sigaddset(&sa.sa_mask, SIGALRM);
    (void)sigprocmask(SIG_UNBLOCK, &sa.sa_mask, NULL);
    arm_timer(0);
  }
  return 0;
}

/* pool_tell(status, value): about this worker itself */
static int l_tell (lua_State *L) {
  struct mpl_parcel *out = NULL;
  int status = (int)luaL_checkinteger(L, 1);
  if (self == NULL) return luaL_error(L, "not a pool's worker");
  if (status == READY) mpi_store(&self->slot->state, MPI_WORKER_READY);
  if (!lua_isnoneornil(L, 2)) {
    out = mpl_parcel_out(L);
    mpl_encode(L, 2, out);
  }
  self->id = UINT64_MAX >> 1;
  send_answer(L, self, status, out);
  return 0;
}

static int take_task (struct worker *w) {
  struct mpi_sink sink;
  int rc;
  do {
    memset(&sink, 0, sizeof sink);
    sink.data = w->data;
    sink.room = w->room;
    sink.fds = w->fds;
    rc = mpi_pool_take(&w->p, w->index, &sink, MP_NEVER);
    if (rc == MP_E2BIG) {
      unsigned char *bigger = realloc(w->data, sink.size);
      if (bigger == NULL) return MP_ENOMEM;
      w->data = bigger;
      w->room = sink.size;
    }
  } while (rc == MP_E2BIG || rc == MP_EINTR);
  w->size = sink.size;
  w->nfds = rc == 0 ? sink.nfds : 0;
  w->fds_used = 0;
  return rc;
}

#define MESSAGE_KEPT ((size_t)1 << 20)

static void drop_message (struct worker *w) {
  while (w->fds_used < w->nfds) (void)close(w->fds[w->fds_used++]);
  w->nfds = w->fds_used = 0;
  if (w->room > MESSAGE_KEPT) {
    unsigned char *less = realloc(w->data, 4096);
    if (less != NULL) {
      w->data = less;
      w->room = 4096;
    }
  }
}

/* pool_work(failure, most): until there are no more tasks, or after `most`. */
static int l_work (lua_State *L) {
  struct worker *w = self;
  lua_Integer most = luaL_optinteger(L, 2, 0), done = 0;
  lua_State *T;
  if (w == NULL) return luaL_error(L, "not a pool's worker");
  T = w->L;
  lua_settop(L, 2);
  lua_settop(T, 0);
  lua_pushvalue(L, 1);
  lua_xmove(L, T, 1); /* 1: failure */
  lua_newtable(T);
  lua_pushnil(T);
  lua_pushcclosure(T, run_task, 2); /* 2 */
  for (;;) {
    int rc;
    w->wait = mp_now();
    rc = take_task(w);
    if (rc == MP_ECLOSED) return 0;
    if (rc != 0) return luaL_error(L, "pool: %s", mp_errmsg());
    w->item = 0;
    w->work = 0;
    w->stopping = 0;
    if (w->size < sizeof w->head) return luaL_error(L, "pool: a task is malformed");
    memcpy(&w->head, w->data, sizeof w->head);
    w->id = w->head.id;
    if (mpi_pool_is_cancelled(&w->p, w->id)) {
      drop_message(w);
      send_answer(L, w, SKIPPED, NULL);
      continue;
    }
    lua_pushcfunction(T, message_handler); /* 3 */
    lua_pushvalue(T, 2);
    rc = lua_pcall(T, 0, 0, 3);
    end_running(w);
    if (__fpending(stdout) > 0) (void)fflush(stdout);
    drop_message(w);
    if (rc != LUA_OK) {
      if (mpi_thread_self() != NULL && atomic_load(&mpi_thread_self()->request) == MPI_STOP_END) return luaL_error(L, "stopped");
      if (rc == LUA_ERRMEM) {
        lua_pushnil(T);
        lua_rawsetp(T, LUA_REGISTRYINDEX, &traceback_key);
        (void)lua_gc(T, LUA_GCCOLLECT);
      }
      report_failure(T, w, rc == LUA_ERRMEM);
    }
    lua_settop(T, 2);
    if (w->head.mode != MODE_CALL) {
      lua_pushnil(T);
      (void)lua_setupvalue(T, 2, 2);
    }
    if (most > 0 && ++done >= most) {
      mpi_store(&w->slot->state, MPI_WORKER_RETIRED);
      return 0;
    }
  }
}

/* columns(fd) -> how many a terminal has, 80 if it does not say; nothing for what is no terminal */
static int l_columns (lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  struct winsize size;
  if (!isatty(fd)) return 0;
  lua_pushinteger(L, ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80);
  return 1;
}

static const luaL_Reg functions[] = {
  {"pool_new", l_new},         {"pool_letgo", l_letgo},     {"pool_fields", l_fields}, {"pool_objects", l_objects},
  {"pool_function", l_function}, {"pool_forget", l_forget}, {"pool_kept", l_kept},     {"pool_submit", l_submit},
  {"pool_next", l_next},       {"pool_victim", l_victim},   {"pool_reset", l_reset},   {"pool_late", l_late},
  {"pool_cancel_job", l_cancel_job},   {"pool_stop", l_stop},       {"pool_end", l_end},       {"pool_queued", l_queued},
  {"pool_result", l_result},   {"pool_result_fields", l_result_fields}, {"pool_watch", l_watch}, {"pool_timer", l_timer},
  {"pool_enter", l_enter},     {"pool_tell", l_tell},       {"pool_work", l_work},     {"columns", l_columns},
  {"pool_submit_slices", l_submit_slices}, {"pool_submitted", l_submitted}, {"pool_gather", l_gather}, {"pool_take_back", l_take_back}, {"pool_is_about", l_is_about},
  {"pool_held", l_held},       {"pool_suspect", l_suspect}, {"pool_drop_tasks", l_drop_tasks}, {"pool_counts", l_counts},
    {"pool_slice", l_slice},   {"pool_list", l_list},
  {NULL, NULL}};

static void new_meta (lua_State *L, const char *name, const char *field, lua_CFunction gc, const char *nosend) {
  (void)luaL_newmetatable(L, name);
  if (gc != NULL) {
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
  }
  if (nosend != NULL) {
    lua_pushstring(L, nosend);
    lua_setfield(L, -2, "__nosend");
  }
  if (field != NULL) lua_setfield(L, -2, field);
  else lua_pop(L, 1);
}

extern int mpl_open_pool (lua_State *L);

/* Stack: core, mp. */
int mpl_open_pool (lua_State *L) {
  lua_pushvalue(L, -2);
  luaL_setfuncs(L, functions, 0);
  new_meta(L, POOL, "pool_meta", NULL, "a pool belongs to the process that made it and cannot be sent");
  new_meta(L, RESULT, "pool_result_meta", NULL, "an async result belongs to the process that owns the pool and cannot be sent");
  new_meta(L, FUNCTION, NULL, l_function_gc, NULL);
  new_meta(L, WORKER, NULL, l_worker_gc, NULL);
  mpl_set_waitable(L, RESULT, &waitable);
  lua_pop(L, 1);
  return 0;
}
