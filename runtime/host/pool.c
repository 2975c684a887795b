/* pool.c -- a pool for C hosts (mp.h): the tasks that were submitted, and who hears of their end.
** Supervisor a process made by the zygote that has the workers and everything that can be said of them (lua/mp/host.lua, lua/mp/pool.lua). It takes requests
**            from one queue and puts answers into another, one array each:
**              { SUBMIT, id, kind, text, name, deadline, timeout, retries, most, input, objects... }   { CANCEL, id }   { CLOSE }
**              { id, status, value }
** Task       a mp_task has a place in the table from its submission to its end: its id is the place and how often that was taken, so that a late answer
**            finds nobody. An ended one is in the list `told` until mp_pool_next, mp_task_wait or mp_task_free takes it out.
** Threads    one lock. Whoever waits and finds nobody reading takes answers for all, without the lock; the others wait for it (`reading`, `changed`).
** Freed      the pool's memory lives until its last task is freed (refs).
** Death      of the supervisor: all tasks that were submitted have failed, with kind "died"; the next submission starts another with queues of its own. Of a worker:
**            the supervisor's matter.
*/
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/interrupt.h"
#include "base/pidfd.h"
#include "host/start.h"
#include "shm/queue.h"
#include "wire/wire.h"

enum { SUBMIT = 1, CANCEL, CLOSE };           /* as in lua/mp/host.lua */
enum { VALUE = 1, FAILED, CANCELLED };
enum { NAME = 1, CHUNK };

#define SLICE (100 * MPI_NS_PER_MS) /* between two looks whether the supervisor lives */
#define BATCH 64
#define PENDING_MOST 65536u
#define PENDING_LIMIT (1u << 24)

struct mp_task {
  mp_pool *pool;
  mp_task *next, *prev; /* in told, or NULL */
  uint64_t id;
  int state;  /* 0: pending, else VALUE, FAILED, CANCELLED */
  int listed; /* in told */
  unsigned char *data;
  size_t size;
  struct mpi_failure failure;
  void *ud;
};

struct place {
  mp_task *task; /* NULL: free */
  uint32_t turn; /* how often it was taken */
  uint32_t next; /* free place after this one, plus 1 */
};

struct mp_pool {
  pthread_mutex_t lock;
  pthread_cond_t changed; /* a task ended, or nobody reads any more */
  unsigned refs;          /* the caller's, and one a task */
  pid_t owner;
  int closed, freed;
  int reading;   /* somebody takes answers */
  int starting;  /* somebody starts a supervisor */
  mpi_child *supervisor; /* NULL: it has ended */
  mp_object *requests, *answers;
  struct mpi_out spec; /* what a supervisor is told, without its queues */
  mp_object **objects; /* that spec names: retained */
  unsigned nobjects;
  struct place *places;
  uint32_t nplaces, free_place; /* plus 1 */
  unsigned pending, most;
  mp_task *first, *last; /* told */
  unsigned char *buffer; /* the reader's */
  size_t room;
  int sources; /* epoll: readable when there may be an answer, or the supervisor has ended */
  int bell;    /* eventfd: readable while `told` is not empty */
  int epoll;   /* of both: the caller's to poll */
};

static int check (mp_pool *p) {
  if (p == NULL) return mpi_fail(MP_EMISUSE, "the pool is NULL");
  return p->owner == getpid() ? 0 : mpi_fail(MP_EMISUSE, "the pool belongs to process %d", (int)p->owner);
}

/* ---- the list of those that ended ---- */

static void ring_bell (mp_pool *p, int on) {
  uint64_t n = 1;
  if (on) (void)!write(p->bell, &n, sizeof n);
  else (void)!read(p->bell, &n, sizeof n);
}

static void tell (mp_pool *p, mp_task *t) {
  t->listed = 1;
  t->next = NULL;
  t->prev = p->last;
  if (p->last != NULL) p->last->next = t;
  else p->first = t;
  p->last = t;
  if (p->first == t) ring_bell(p, 1);
}

static void untell (mp_pool *p, mp_task *t) {
  if (!t->listed) return;
  if (t->prev != NULL) t->prev->next = t->next;
  else p->first = t->next;
  if (t->next != NULL) t->next->prev = t->prev;
  else p->last = t->prev;
  t->listed = 0;
  if (p->first == NULL) ring_bell(p, 0);
}

/* ---- places ---- */

static int take_place (mp_pool *p, mp_task *t) {
  uint32_t i;
  if (p->free_place == 0) {
    uint32_t n = p->nplaces == 0 ? 64 : p->nplaces * 2;
    struct place *bigger = realloc(p->places, n * sizeof *bigger);
    if (bigger == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
    for (i = p->nplaces; i < n; i++) bigger[i] = (struct place){NULL, 0, i + 2 <= n ? i + 2 : 0};
    p->free_place = p->nplaces + 1;
    p->places = bigger;
    p->nplaces = n;
  }
  i = p->free_place - 1;
  p->free_place = p->places[i].next;
  p->places[i].task = t;
  p->places[i].turn = (p->places[i].turn + 1) & 0x7fffffffu; /* ids are Lua integers */
  t->id = (uint64_t)p->places[i].turn << 32 | i;
  p->pending++;
  return 0;
}

static void leave_place (mp_pool *p, mp_task *t) {
  struct place *place = &p->places[(uint32_t)t->id];
  place->task = NULL;
  place->next = p->free_place;
  p->free_place = (uint32_t)t->id + 1;
  p->pending--;
}

static mp_task *find (mp_pool *p, int64_t id) {
  const uint32_t i = (uint32_t)id;
  return id >= 0 && i < p->nplaces && p->places[i].task != NULL && p->places[i].task->id == (uint64_t)id ? p->places[i].task : NULL;
}

static void end_task (mp_pool *p, mp_task *t, int state) {
  t->state = state;
  leave_place(p, t);
  tell(p, t);
}

static void fail_task (mp_pool *p, mp_task *t, const char *kind, const char *message) {
  static char none[] = "";
  if (mpi_failure_make(kind, message, NULL, &t->failure) != 0) t->failure.public.kind = t->failure.public.message = none;
  end_task(p, t, FAILED);
}

/* ---- memory ---- */

static void destroy (mp_pool *p) {
  unsigned i;
  for (i = 0; i < p->nobjects; i++) mp_release(p->objects[i]);
  free(p->objects);
  mp_release(p->requests);
  mp_release(p->answers);
  mpi_out_fini(&p->spec);
  free(p->places);
  free(p->buffer);
  mpi_fd_close(&p->epoll);
  mpi_fd_close(&p->sources);
  mpi_fd_close(&p->bell);
  (void)pthread_cond_destroy(&p->changed);
  (void)pthread_mutex_destroy(&p->lock);
  free(p);
}

static void release (mp_pool *p) { /* the lock is held, and no more after it */
  int last = --p->refs == 0;
  (void)pthread_mutex_unlock(&p->lock);
  if (last) destroy(p);
}

/* ---- answers ---- */

static void take_value (mp_pool *p, mp_task *t, const unsigned char *data, size_t size) {
  const unsigned char *bytes = NULL;
  size_t length = 0;
  if (mpi_message_bytes(data, size, &bytes, &length) != 0) {
    fail_task(p, t, "encode", "the result cannot be read");
    return;
  }
  t->data = malloc(length + 1);
  if (t->data == NULL) {
    fail_task(p, t, "memory", "not enough memory for the result");
    return;
  }
  if (length > 0) memcpy(t->data, bytes, length);
  t->data[length] = '\0';
  t->size = length;
  end_task(p, t, VALUE);
}

static void take_answer (mp_pool *p, const unsigned char *data, size_t size) {
  const unsigned char *end = data + size, *at = data;
  struct mpi_item head, id, status;
  static const unsigned char nil = 0xc0;
  mp_task *t;
  at = at < end ? mpi_wire_get(at, end, &head) : NULL;
  at = at != NULL && at < end && head.kind == MPI_W_ARRAY && head.len >= 2 ? mpi_wire_get(at, end, &id) : NULL;
  at = at != NULL && at < end && id.kind == MPI_W_INT ? mpi_wire_get(at, end, &status) : NULL;
  if (at == NULL || status.kind != MPI_W_INT) return;
  t = find(p, id.u.i);
  if (t == NULL) return; /* cancelled, freed */
  if (head.len == 2) {
    at = &nil;
    end = at + 1;
  }
  if (status.u.i == VALUE) {
    take_value(p, t, at, (size_t)(end - at));
  } else if (status.u.i == CANCELLED) {
    end_task(p, t, CANCELLED);
  } else {
    if (mpi_failure_read(at, (size_t)(end - at), &t->failure) != 0) t->failure.public.kind = t->failure.public.message = "memory";
    end_task(p, t, FAILED);
  }
}

static void supervisor_ended (mp_pool *p) {
  char text[128];
  mpi_child *c = p->supervisor;
  uint32_t i;
  p->supervisor = NULL;
  (void)epoll_ctl(p->sources, EPOLL_CTL_DEL, c->pidfd, NULL);
  if (c->exitcode < 0) (void)snprintf(text, sizeof text, "the pool's supervisor was ended by signal %d", -c->exitcode);
  else (void)snprintf(text, sizeof text, "the pool's supervisor ended with exit code %d", c->exitcode);
  for (i = 0; i < p->nplaces; i++)
    if (p->places[i].task != NULL) fail_task(p, p->places[i].task, "died", text);
  mpi_child_release(c);
}

/* A batch of answers, or none after `deadline`. Without the lock; the caller is the reader. */
static int read_answers (mp_pool *p, mp_object *answers, size_t *ends, int *got, int64_t deadline) {
  int fds[MPI_MAX_FDS];
  int rc;
  for (;;) {
    struct mpi_sink sink = {.data = p->buffer, .room = p->room, .fds = fds, .ends = ends};
    *got = 0;
    rc = mpi_ring_get(mpi_queue_ring(answers), &sink, BATCH, got, deadline);
    while (sink.nfds > 0) mpi_fd_close(&fds[--sink.nfds]);
    if (rc != MP_E2BIG) return rc;
    {
      unsigned char *bigger = realloc(p->buffer, sink.size);
      if (bigger == NULL) return mpi_fail(MP_ENOMEM, "not enough memory for an answer of %zu bytes", sink.size);
      p->buffer = bigger;
      p->room = sink.size;
    }
  }
}

#define BUFFER_KEPT ((size_t)1 << 20)

/* Answers of this supervisor, until `deadline`: first from the ring, which spins and sleeps; after a while by poll(2), which sees its end too. */
static int read_some (mp_pool *p, mp_object *answers, mpi_child *c, size_t *ends, int *got, int *ended, int64_t deadline) {
  const int64_t slice = mp_now() + SLICE;
  int rc = read_answers(p, answers, ends, got, deadline < slice ? deadline : slice);
  *ended = rc == MP_ETIMEDOUT && mpi_child_poll(c) == 1;
  if (rc == MP_ETIMEDOUT && !*ended && deadline > slice) {
    rc = mpi_fd_wait(p->sources, POLLIN, deadline);
    if (rc == 0) rc = read_answers(p, answers, ends, got, 0);
    *ended = rc == MP_ETIMEDOUT && mpi_child_poll(c) == 1;
  }
  if (*ended) rc = read_answers(p, answers, ends, got, 0); /* what it put before its end counts */
  if (rc == MP_ETIMEDOUT) mpi_ring_tidy(mpi_queue_ring(answers)); /* a descriptor that said otherwise is put right */
  return rc;
}

/* Takes answers until `deadline`, or waits for who does so: 0 if something may have changed, MP_ETIMEDOUT, MP_EINTR ... The lock is held, is
** let go while waiting, and is held again. */
static int attend (mp_pool *p, int64_t deadline) {
  size_t ends[BATCH];
  mp_object *answers = p->answers;
  mpi_child *c = p->supervisor;
  int rc, got = 0, i, ended = 0;
  if (p->reading || p->starting || c == NULL) {
    int64_t slice = mp_now() + SLICE; /* a signal does not end this wait */
    struct timespec ts = mpi_timespec(deadline < slice ? deadline : slice);
    rc = deadline <= 0 ? ETIMEDOUT : pthread_cond_timedwait(&p->changed, &p->lock, &ts);
    if (mpi_interrupted()) return mpi_fail(MP_EINTR, "interrupted");
    return rc == 0 ? 0 : MP_ETIMEDOUT;
  }
  p->reading = 1;
  (void)pthread_mutex_unlock(&p->lock);
  rc = read_some(p, answers, c, ends, &got, &ended, deadline);
  (void)pthread_mutex_lock(&p->lock);
  for (i = 0; i < got; i++) take_answer(p, p->buffer + (i > 0 ? ends[i - 1] : 0), ends[i] - (i > 0 ? ends[i - 1] : 0));
  if (p->room > BUFFER_KEPT) {
    free(p->buffer);
    p->buffer = NULL;
    p->room = 0;
  }
  if (ended && got == 0) {
    supervisor_ended(p);
    rc = 0;
  }
  p->reading = 0;
  (void)pthread_cond_broadcast(&p->changed);
  return rc;
}

/* ---- making ---- */

/* A supervisor with queues of its own. The lock is held, and let go meanwhile. */
static int start_supervisor (mp_pool *p) {
  struct mp_queue_options small = {0, UINT64_C(64) << 20, 0};
  mp_object *requests = NULL, *answers = NULL;
  struct epoll_event ev = {.events = EPOLLIN};
  struct mpi_out task;
  struct mpi_start s = {&task, -1, NULL};
  mpi_child *c = NULL;
  int rc;
  p->starting = 1;
  (void)pthread_mutex_unlock(&p->lock);
  mpi_out_init(&task);
  rc = mp_queue_new(&small, &requests);
  if (rc == 0) rc = mp_queue_new(NULL, &answers);
  if (rc == 0) {
    task = p->spec;
    task.room = 0;
    task.data = malloc(task.size + 256);
    if (task.data == NULL) rc = mpi_fail(MP_ENOMEM, "not enough memory");
  }
  if (rc == 0) {
    memcpy(task.data, p->spec.data, task.size);
    task.room = task.size + 256;
    mpi_out_text(&task, "requests");
    mpi_out_object(&task, requests);
    mpi_out_text(&task, "answers");
    mpi_out_object(&task, answers);
    rc = mpi_out_done(&task);
  }
  if (rc == 0) rc = mpi_start(&s, &c);
  mpi_out_fini(&task);
  if (rc == 0) {
    int fd = mp_queue_fd(answers);
    (void)epoll_ctl(p->sources, EPOLL_CTL_ADD, c->pidfd, &ev);
    if (fd >= 0) (void)epoll_ctl(p->sources, EPOLL_CTL_ADD, fd, &ev);
  }
  (void)pthread_mutex_lock(&p->lock);
  p->starting = 0;
  if (rc == 0) {
    if (p->answers != NULL) /* those of the last one; its workers may still have them open */
      (void)epoll_ctl(p->sources, EPOLL_CTL_DEL, mp_queue_fd(p->answers), NULL);
    mp_release(p->requests);
    mp_release(p->answers);
    p->requests = requests;
    p->answers = answers;
    p->supervisor = c;
  } else {
    mp_release(requests);
    mp_release(answers);
  }
  (void)pthread_cond_broadcast(&p->changed);
  return rc;
}

static void specify (mp_pool *p, const struct mp_pool_options *o) {
  struct mpi_out *s = &p->spec;
  char name[32];
  (void)snprintf(name, sizeof name, "Pool-%d", mpi_next_number());
  mpi_out_map(s, 12);
  mpi_out_text(s, "host");
  mpi_out_text(s, "pool");
  mpi_out_text(s, "name");
  mpi_out_text(s, name);
  mpi_out_text(s, "identity");
  mpi_out_text(s, name);
  mpi_out_text(s, "processes");
  mpi_out_int(s, o->processes != 0 ? o->processes : mp_cpu_count());
  mpi_out_text(s, "sandbox");
  mpi_out_text(s, o->sandbox);
  mpi_out_text(s, "limits");
  mpi_out_limits(s, &o->limits);
  mpi_out_text(s, "most");
  if (o->max_tasks_per_worker > 0) mpi_out_int(s, o->max_tasks_per_worker);
  else mpi_out_text(s, NULL);
  mpi_out_text(s, "chunk");
  if (o->chunk != NULL) mpi_out_bytes(s, o->chunk, o->chunk_size != 0 ? o->chunk_size : strlen(o->chunk));
  else mpi_out_text(s, NULL);
  mpi_out_text(s, "chunk_name");
  mpi_out_text(s, o->chunk_name != NULL ? o->chunk_name : "=chunk");
  mpi_out_text(s, "objects");
  mpi_out_objects(s, o->objects, o->nobjects);
  /* then start_supervisor's: requests, answers */
}

/* The condition waits by the clock that deadlines are of. */
static int init_sync (mp_pool *p) {
  pthread_condattr_t attr;
  int rc = pthread_condattr_init(&attr);
  if (rc == 0) {
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (rc == 0) rc = pthread_cond_init(&p->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
  }
  if (rc == 0) rc = pthread_mutex_init(&p->lock, NULL);
  return rc == 0 ? 0 : mpi_fail(MP_ENOMEM, "not enough memory");
}

static int keep_objects (mp_pool *p, const struct mp_pool_options *o) {
  if (o->nobjects == 0) return 0;
  p->objects = calloc(o->nobjects, sizeof *p->objects);
  if (p->objects == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  for (; p->nobjects < o->nobjects; p->nobjects++) {
    if (o->objects[p->nobjects] == NULL) return mpi_fail(MP_EMISUSE, "a shared object is NULL");
    mp_retain(o->objects[p->nobjects]);
    p->objects[p->nobjects] = o->objects[p->nobjects];
  }
  return 0;
}

int mp_pool_new (const struct mp_pool_options *options, mp_pool **out) {
  struct mp_pool_options o;
  struct epoll_event ev = {.events = EPOLLIN};
  mp_pool *p;
  int rc = mpi_options(options, options != NULL ? options->size : 0, &o, sizeof o);
  if (rc != 0) return rc;
  if (o.processes < 0 || o.processes > 256) return mpi_fail(MP_EMISUSE, "a pool has 1 to 256 processes");
  if (o.max_tasks_per_worker < 0) return mpi_fail(MP_EMISUSE, "max_tasks_per_worker is negative");
  if (o.max_pending > PENDING_LIMIT) return mpi_fail(MP_EMISUSE, "max_pending is above %u", PENDING_LIMIT);
  p = calloc(1, sizeof *p);
  if (p == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  if (init_sync(p) != 0) {
    free(p);
    return mpi_fail(MP_ENOMEM, "not enough memory");
  }
  p->refs = 1;
  p->owner = getpid();
  p->most = o.max_pending != 0 ? o.max_pending : PENDING_MOST;
  mpi_out_init(&p->spec);
  p->epoll = epoll_create1(EPOLL_CLOEXEC);
  p->sources = epoll_create1(EPOLL_CLOEXEC);
  p->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (p->epoll < 0 || p->sources < 0 || p->bell < 0 || epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->bell, &ev) != 0 ||
      epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->sources, &ev) != 0)
    rc = mpi_fail_errno("a descriptor for the pool");
  if (rc == 0) rc = keep_objects(p, &o);
  if (rc == 0) {
    specify(p, &o);
    rc = mpi_out_done(&p->spec);
  }
  if (rc == 0) {
    (void)pthread_mutex_lock(&p->lock);
    rc = start_supervisor(p);
    (void)pthread_mutex_unlock(&p->lock);
  }
  if (rc != 0) {
    destroy(p);
    return rc;
  }
  *out = p;
  return 0;
}

/* ---- submitting ---- */

/* Never waits: MP_ETIMEDOUT if there is no room. The lock is held. */
static int put_request (mp_pool *p, const struct mpi_out *m) {
  struct mpi_msg msg = {m->data, m->size, m->fds, m->nfds};
  int done;
  if (p->supervisor == NULL) return mpi_fail(MP_ECLOSED, "the pool's supervisor has ended");
  return mpi_ring_put(mpi_queue_ring(p->requests), &msg, 1, &done, 0);
}

static int encode_task (struct mpi_out *m, const mp_task *t, const struct mp_task_options *o) {
  unsigned i;
  mpi_out_array(m, 10 + o->nobjects);
  mpi_out_int(m, SUBMIT);
  mpi_out_int(m, (int64_t)t->id);
  mpi_out_int(m, o->function != NULL ? NAME : CHUNK);
  if (o->function != NULL) mpi_out_text(m, o->function);
  else mpi_out_bytes(m, o->chunk, o->chunk_size != 0 ? o->chunk_size : strlen(o->chunk));
  mpi_out_text(m, o->chunk_name != NULL ? o->chunk_name : "=chunk");
  if (o->deadline > 0 && o->deadline != MP_NEVER) mpi_out_seconds(m, o->deadline);
  else mpi_out_bool(m, 0);
  if (o->timeout > 0) mpi_out_seconds(m, o->timeout);
  else mpi_out_bool(m, 0);
  mpi_out_int(m, o->retries);
  mpi_out_int(m, (int64_t)(o->max_result > INT64_MAX ? INT64_MAX : o->max_result));
  mpi_out_bytes(m, o->input != NULL ? o->input : "", o->input != NULL ? o->input_size : 0);
  for (i = 0; i < o->nobjects; i++) mpi_out_object(m, o->objects[i]);
  return mpi_out_done(m);
}

/* Room for one more task, and a supervisor. The lock is held. */
static int make_room (mp_pool *p, int64_t deadline) {
  for (;;) {
    int rc;
    if (p->freed || p->closed) return mpi_fail(MP_ECLOSED, "the pool is closed");
    if (p->supervisor == NULL && !p->starting && !p->reading) {
      rc = start_supervisor(p);
      if (rc != 0) return rc;
      continue;
    }
    if (p->pending < p->most && p->supervisor != NULL && !p->starting) return 0;
    rc = attend(p, deadline);
    if (rc == MP_ETIMEDOUT && deadline <= mp_now()) return rc;
    if (rc != 0 && rc != MP_ETIMEDOUT) return rc;
  }
}

int mp_pool_submit (mp_pool *p, const struct mp_task_options *options, mp_task **out, int64_t deadline) {
  struct mp_task_options o;
  struct mpi_out m;
  mp_task *t;
  int rc = check(p), full;
  if (rc == 0) rc = mpi_options(options, options != NULL ? options->size : 0, &o, sizeof o);
  if (rc != 0) return rc;
  if ((o.function != NULL) == (o.chunk != NULL)) return mpi_fail(MP_EMISUSE, "a task needs a function's name or a chunk, and not both");
  if (o.retries < 0 || o.timeout < 0) return mpi_fail(MP_EMISUSE, "%s is negative", o.retries < 0 ? "retries" : "timeout");
  t = calloc(1, sizeof *t);
  if (t == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  t->pool = p;
  t->ud = o.ud;
  (void)pthread_mutex_lock(&p->lock);
  do { /* the task is nobody's business before it is in the queue: it gives its place up while it waits */
    mpi_out_init(&m);
    rc = make_room(p, deadline);
    if (rc == 0) rc = take_place(p, t);
    if (rc == 0) {
      rc = encode_task(&m, t, &o);
      if (rc == 0) rc = put_request(p, &m);
      full = rc == MP_ETIMEDOUT;
      if (rc != 0) leave_place(p, t);
      if (full) {
        rc = attend(p, deadline < mp_now() + MPI_NS_PER_MS ? deadline : mp_now() + MPI_NS_PER_MS);
        if (rc == 0 || (rc == MP_ETIMEDOUT && deadline > mp_now())) rc = MP_EFULL;
      }
    }
    mpi_out_fini(&m);
  } while (rc == MP_EFULL);
  if (rc == 0) p->refs++;
  (void)pthread_mutex_unlock(&p->lock);
  if (rc != 0) {
    free(t);
    return rc;
  }
  *out = t;
  return 0;
}

/* ---- ends ---- */

/* Until `done` or the deadline, by turns reading and waiting for who reads. The lock is held. */
static int wait_until (mp_pool *p, int (*done) (mp_pool *p, mp_task *t), mp_task *t, int64_t deadline) {
  int last = 0;
  while (!done(p, t)) {
    int rc;
    if (last) return MP_ETIMEDOUT;
    rc = attend(p, deadline);
    last = rc == MP_ETIMEDOUT && deadline <= mp_now(); /* look once more */
    if (rc != 0 && rc != MP_ETIMEDOUT) return rc;
  }
  return 0;
}

static int has_ended (mp_pool *p, mp_task *t) {
  (void)p;
  return t->state != 0;
}

static int has_told (mp_pool *p, mp_task *t) {
  (void)t;
  return p->first != NULL || (p->closed && p->pending == 0);
}

static int has_drained (mp_pool *p, mp_task *t) {
  (void)t;
  return p->pending == 0;
}

int mp_pool_next (mp_pool *p, mp_task **out, int64_t deadline) {
  int rc = check(p);
  if (rc != 0) return rc;
  (void)pthread_mutex_lock(&p->lock);
  rc = wait_until(p, has_told, NULL, deadline);
  if (rc == 0 && p->first != NULL) {
    *out = p->first;
    untell(p, p->first);
  } else if (rc == 0) {
    rc = mpi_fail(MP_ECLOSED, "the pool is closed, and has told of all its tasks");
  }
  (void)pthread_mutex_unlock(&p->lock);
  return rc;
}

int mp_pool_fd (mp_pool *p) {
  int rc = check(p);
  return rc != 0 ? rc : p->epoll;
}

size_t mp_pool_pending (mp_pool *p) {
  size_t n;
  (void)pthread_mutex_lock(&p->lock);
  n = p->pending;
  (void)pthread_mutex_unlock(&p->lock);
  return n;
}

int mp_pool_supervisor (mp_pool *p) {
  int pid;
  (void)pthread_mutex_lock(&p->lock);
  pid = p->supervisor != NULL ? p->supervisor->pid : 0;
  (void)pthread_mutex_unlock(&p->lock);
  return pid;
}

int mp_pool_close (mp_pool *p) {
  int rc = check(p);
  if (rc != 0) return rc;
  (void)pthread_mutex_lock(&p->lock);
  p->closed = 1;
  (void)pthread_cond_broadcast(&p->changed);
  (void)pthread_mutex_unlock(&p->lock);
  return 0;
}

static int say (mp_pool *p, int what, uint64_t id, int64_t deadline) {
  struct mpi_out m;
  int rc;
  mpi_out_init(&m);
  mpi_out_array(&m, what == CLOSE ? 1 : 2);
  mpi_out_int(&m, what);
  if (what != CLOSE) mpi_out_int(&m, (int64_t)id);
  rc = mpi_out_done(&m);
  while (rc == 0) { /* while there is no room answers are taken, for the supervisor may wait for room, too */
    rc = put_request(p, &m);
    if (rc != MP_ETIMEDOUT || deadline <= mp_now()) break;
    rc = attend(p, deadline < mp_now() + MPI_NS_PER_MS ? deadline : mp_now() + MPI_NS_PER_MS);
    if (rc == MP_ETIMEDOUT) rc = 0;
  }
  mpi_out_fini(&m);
  return rc;
}

int mp_pool_join (mp_pool *p, int64_t deadline) {
  int rc = check(p);
  if (rc != 0) return rc;
  (void)pthread_mutex_lock(&p->lock);
  if (!p->closed) {
    rc = mpi_fail(MP_EMISUSE, "the pool is open; close it first");
  } else {
    rc = wait_until(p, has_drained, NULL, deadline);
    if (rc == 0 && p->supervisor != NULL && p->closed == 1) {
      rc = say(p, CLOSE, 0, deadline);
      if (rc == 0) p->closed = 2;
    }
    while (rc == 0 && p->supervisor != NULL) {
      mpi_child *c = p->supervisor; /* whoever else sees its end lets go of it */
      mpi_child_retain(c);
      (void)pthread_mutex_unlock(&p->lock);
      rc = mpi_fd_wait(c->pidfd, POLLIN, deadline);
      mpi_child_release(c);
      (void)pthread_mutex_lock(&p->lock);
      if (rc == 0) rc = attend(p, 0);
      if (rc == MP_ETIMEDOUT && deadline > mp_now()) rc = 0;
    }
    if (rc == MP_ECLOSED) rc = 0; /* it has ended meanwhile */
  }
  (void)pthread_mutex_unlock(&p->lock);
  return rc;
}

void mp_pool_free (mp_pool *p) {
  mpi_child *c;
  uint32_t i;
  if (p == NULL || p->owner != getpid()) return; /* a child's copy: whoever held the lock is not here */
  (void)pthread_mutex_lock(&p->lock);
  p->freed = 1;
  c = p->supervisor;
  p->supervisor = NULL;
  for (i = 0; i < p->nplaces; i++)
    if (p->places[i].task != NULL) end_task(p, p->places[i].task, CANCELLED);
  while (p->first != NULL) untell(p, p->first);
  (void)pthread_mutex_unlock(&p->lock);
  mpi_end(c, SIGKILL); /* the workers die with it */
  (void)pthread_mutex_lock(&p->lock);
  release(p);
}

/* ---- tasks ---- */

int mp_task_wait (mp_task *t, int64_t deadline) {
  mp_pool *p;
  int rc = 0;
  if (t == NULL) return mpi_fail(MP_EMISUSE, "the task is NULL");
  p = t->pool;
  (void)pthread_mutex_lock(&p->lock);
  if (t->state == 0) rc = check(p);
  if (rc == 0) rc = wait_until(p, has_ended, t, deadline);
  if (rc == 0) untell(p, t);
  (void)pthread_mutex_unlock(&p->lock);
  return rc;
}

int mp_task_ready (mp_task *t) {
  int state;
  (void)pthread_mutex_lock(&t->pool->lock);
  state = t->state;
  (void)pthread_mutex_unlock(&t->pool->lock);
  return state != 0;
}

int mp_task_result (mp_task *t, const void **data, size_t *size) {
  if (t == NULL || !mp_task_ready(t)) return mpi_fail(MP_EMISUSE, "the task has not ended");
  if (t->state == CANCELLED) return mpi_fail(MP_ECANCELLED, "the task was cancelled");
  if (t->state == FAILED) return mpi_fail(MP_EFAILED, "%s", t->failure.public.message);
  *data = t->data;
  *size = t->size;
  return 0;
}

const struct mp_failure *mp_task_failure (mp_task *t) {
  return mp_task_ready(t) && t->state == FAILED ? &t->failure.public : NULL;
}

/* It has ended here at once; the supervisor stops it when it hears of it, and its answer finds nobody. The lock is held, and may be let go. */
static void cancel (mp_task *t, int told) {
  mp_pool *p = t->pool;
  if (t->state != 0) return;
  t->state = CANCELLED;
  leave_place(p, t);
  if (told) tell(p, t);
  (void)pthread_cond_broadcast(&p->changed);
  (void)say(p, CANCEL, t->id, mp_now() + MPI_NS_PER_S); /* not heard: it runs to its end for nobody */
}

int mp_task_cancel (mp_task *t) {
  mp_pool *p = t->pool; /* the task may be another thread's to free as soon as it is told of */
  int rc = check(p);
  if (rc != 0) return rc;
  (void)pthread_mutex_lock(&p->lock);
  cancel(t, 1);
  (void)pthread_mutex_unlock(&p->lock);
  return 0;
}

void *mp_task_ud (mp_task *t) {
  return t->ud;
}

void mp_task_free (mp_task *t) {
  mp_pool *p;
  if (t == NULL) return;
  p = t->pool;
  if (p->owner != getpid()) return; /* a copy; whoever held the lock is not here */
  (void)pthread_mutex_lock(&p->lock);
  untell(p, t);
  cancel(t, 0);
  mpi_failure_fini(&t->failure);
  free(t->data);
  free(t);
  release(p);
}
