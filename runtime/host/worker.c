/* worker.c -- a process that runs one chunk of Lua for a C host (mp.h). With a sandbox its parent side is a warden (sandbox/warden.h), and what it
** reports is a stranger's word; how it ended is the kernel's and the warden's.
*/
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/err.h"
#include "host/start.h"
#include "sandbox/warden.h"

struct mp_worker {
  pthread_mutex_t lock; /* for settling */
  mpi_child *c;
  struct mpi_jail_report *report; /* NULL: no sandbox and no limits */
  int report_fd;
  pid_t pid;
  pid_t owner;
  int settled;
  int failed;
  unsigned char *data;
  size_t size;
  struct mpi_failure failure;
  char name[64];
  struct mp_limits limits;
};

static int check (const mp_worker *w) {
  if (w == NULL) return mpi_fail(MP_EMISUSE, "the worker is NULL");
  return w->owner == getpid() ? 0 : mpi_fail(MP_EMISUSE, "the worker belongs to process %d", (int)w->owner);
}

/* ---- starting ---- */

static int start (mp_worker *w, const struct mp_worker_options *o) {
  struct mpi_out task, secret;
  struct mpi_start s = {&task, w->report_fd, &secret};
  const int confined = o->sandbox != NULL;
  int rc;
  mpi_out_init(&task);
  mpi_out_init(&secret);
  mpi_out_map(&task, 5);
  mpi_out_text(&task, "host");
  mpi_out_text(&task, "worker");
  mpi_out_text(&task, "name");
  mpi_out_text(&task, w->name);
  mpi_out_text(&task, "identity");
  mpi_out_text(&task, w->name);
  mpi_out_text(&task, "sandbox");
  mpi_out_text(&task, o->sandbox);
  mpi_out_text(&task, "limits");
  mpi_out_limits(&task, &o->limits);
  mpi_out_map(&secret, 4);
  mpi_out_text(&secret, "chunk");
  mpi_out_bytes(&secret, o->chunk, o->chunk_size != 0 ? o->chunk_size : strlen(o->chunk));
  mpi_out_text(&secret, "chunk_name");
  mpi_out_text(&secret, o->chunk_name != NULL ? o->chunk_name : "=chunk");
  mpi_out_text(&secret, "input");
  if (o->input != NULL) mpi_out_bytes(&secret, o->input, o->input_size);
  else mpi_out_text(&secret, NULL);
  mpi_out_text(&secret, "objects");
  mpi_out_objects(&secret, o->objects, o->nobjects);
  rc = mpi_out_done(&task);
  if (rc == 0) rc = mpi_out_done(&secret);
  if (rc == 0 && confined) mpi_out_distrust(&secret);
  if (rc == 0) rc = mpi_start(&s, &w->c);
  mpi_out_fini(&task);
  mpi_out_fini(&secret);
  return rc;
}

static int is_limited (const struct mp_limits *l) {
  return l->memory != 0 || l->cpu != 0 || l->wall != 0 || l->output != 0 || l->files != 0 || l->threads != 0;
}

static void destroy (mp_worker *w) {
  if (w->report != NULL) mpi_jail_report_unmap(w->report);
  mpi_fd_close(&w->report_fd);
  mpi_failure_fini(&w->failure);
  (void)pthread_mutex_destroy(&w->lock);
  free(w->data);
  free(w);
}

int mp_worker_start (const struct mp_worker_options *options, mp_worker **out) {
  struct mp_worker_options o;
  mp_worker *w;
  int rc = mpi_options(options, options != NULL ? options->size : 0, &o, sizeof o);
  if (rc != 0) return rc;
  if (o.chunk == NULL) return mpi_fail(MP_EMISUSE, "a worker needs a chunk");
  w = calloc(1, sizeof *w);
  if (w == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  (void)pthread_mutex_init(&w->lock, NULL);
  w->report_fd = -1;
  w->owner = getpid();
  w->limits = o.limits;
  if (o.name != NULL) (void)snprintf(w->name, sizeof w->name, "%s", o.name);
  else (void)snprintf(w->name, sizeof w->name, "Worker-%d", mpi_next_number());
  if (o.sandbox != NULL || is_limited(&o.limits)) rc = mpi_jail_report_make(&w->report_fd, &w->report);
  if (rc == 0) rc = start(w, &o);
  mpi_fd_close(&w->report_fd); /* the warden's now */
  if (rc != 0) {
    destroy(w);
    return rc;
  }
  w->pid = w->c->pid;
  *out = w;
  return 0;
}

/* ---- the end ---- */

static void failed (mp_worker *w, const char *kind, const char *message) {
  const struct mp_failure old = w->failure.public;
  struct mpi_failure f;
  w->failed = 1;
  if (mpi_failure_make(kind, message, old.traceback, &f) != 0) return;
  mpi_failure_fini(&w->failure);
  w->failure = f;
}

/* What the warden and the kernel say counts for more than what the worker says. */
static void judge (mp_worker *w) {
  const int code = w->c->exitcode;
  const uint32_t end = w->report != NULL ? mpi_load_acquire(&w->report->end) : MPI_END_NONE;
  char text[400];
  if (end == MPI_END_FAILED) {
    (void)snprintf(text, sizeof text, "%s could not be confined: %.*s", w->name, (int)sizeof w->report->message, w->report->message);
    failed(w, "sandbox", text);
  } else if (end == MPI_END_CPU) {
    (void)snprintf(text, sizeof text, "%s used up its %g s of processor time", w->name, (double)w->limits.cpu / 1e9);
    failed(w, "cpu", text);
  } else if (end == MPI_END_WALL) {
    (void)snprintf(text, sizeof text, "%s used up its %g s", w->name, (double)w->limits.wall / 1e9);
    failed(w, "wall", text);
  } else if (end == MPI_END_VIOLATION) {
    struct mp_violation v;
    int i, n = mp_worker_violations(w);
    (void)snprintf(text, sizeof text, "%s was ended by its sandbox", w->name);
    for (i = 0; i < n; i++)
      if (mp_worker_violation(w, i, &v) == 0 && (v.fatal || i == n - 1)) {
        (void)snprintf(text, sizeof text, "%s was ended by its sandbox: %s %.100s", w->name, v.call, v.target);
        break;
      }
    failed(w, "sandbox", text);
  } else if (code < 0) {
    (void)snprintf(text, sizeof text, "%s was ended by signal %d (%s)", w->name, -code, strsignal(-code));
    failed(w, "died", text);
  } else if (code > 0 && !w->failed) {
    (void)snprintf(text, sizeof text, "%s ended with exit code %d", w->name, code);
    failed(w, "died", text);
  }
  if (!w->failed) return;
  w->failure.public.pid = w->pid;
  w->failure.public.exitcode = code;
  w->failure.public.signal = code < 0 ? -code : 0;
}

/* It has ended: what is known of it, once. */
static int settle (mp_worker *w) {
  int rc = 0;
  (void)pthread_mutex_lock(&w->lock);
  if (!w->settled) {
    mpi_record *r = &w->c->report;
    const unsigned char *bytes = NULL;
    size_t size = 0;
    if (r->kind == MPI_REPORT_ERROR) {
      w->failed = 1;
      rc = mpi_failure_read(r->data, r->size, &w->failure);
    } else if (r->kind == MPI_REPORT_RESULT && mpi_message_bytes(r->data, r->size, &bytes, &size) != 0) {
      failed(w, "encode", "the worker's result cannot be read");
    }
    if (rc == 0 && !w->failed) {
      w->data = malloc(size + 1);
      if (w->data == NULL) rc = mpi_fail(MP_ENOMEM, "not enough memory");
      else {
        if (size > 0) memcpy(w->data, bytes, size);
        w->data[size] = '\0';
        w->size = size;
      }
    }
    if (rc == 0) {
      judge(w);
      mpi_record_fini(r);
      w->settled = 1;
    }
  }
  (void)pthread_mutex_unlock(&w->lock);
  return rc;
}

int mp_worker_wait (mp_worker *w, int64_t deadline) {
  int rc = check(w);
  if (rc == 0) rc = mpi_child_wait(w->c, deadline);
  return rc == 0 ? settle(w) : rc;
}

int mp_worker_result (mp_worker *w, const void **data, size_t *size) {
  int rc = mp_worker_wait(w, 0);
  if (rc == MP_ETIMEDOUT) return mpi_fail(MP_EMISUSE, "%s runs", w->name);
  if (rc != 0) return rc;
  if (w->failed) return mpi_fail(MP_EFAILED, "%s", w->failure.public.message);
  *data = w->data;
  *size = w->size;
  return 0;
}

const struct mp_failure *mp_worker_failure (mp_worker *w) {
  return mp_worker_wait(w, 0) == 0 && w->failed ? &w->failure.public : NULL;
}

int mp_worker_kill (mp_worker *w) {
  int rc = check(w);
  return rc != 0 ? rc : mpi_child_signal(w->c, w->report != NULL && mpi_load(&w->report->pid) != 0 ? MPI_WARDEN_END : SIGKILL);
}

int mp_worker_pid (mp_worker *w) {
  return w->pid;
}

int mp_worker_fd (mp_worker *w) {
  int rc = check(w);
  return rc != 0 ? rc : w->c->pidfd;
}

int mp_worker_violations (mp_worker *w) {
  uint32_t n = w->report == NULL ? 0 : mpi_load_acquire(&w->report->n);
  return (int)(n > MPI_REPORT_RECORDS ? MPI_REPORT_RECORDS : n);
}

static void copy_field (char *to, const char *from, size_t size) {
  memcpy(to, from, size);
  to[size - 1] = '\0';
}

int mp_worker_violation (mp_worker *w, int i, struct mp_violation *out) {
  const struct mpi_violation *v;
  if (i < 0 || i >= mp_worker_violations(w)) return mpi_fail(MP_ERANGE, "no refusal has the number %d", i);
  v = &w->report->v[i];
  copy_field(out->call, v->call, sizeof out->call);
  copy_field(out->target, v->target, sizeof out->target);
  copy_field(out->need, v->need, sizeof out->need);
  copy_field(out->fix, v->fix, sizeof out->fix);
  copy_field(out->where, v->where, sizeof out->where);
  out->count = mpi_load_relaxed(&v->count);
  out->fatal = v->fatal != 0;
  return 0;
}
_Static_assert(sizeof(((struct mpi_violation *)0)->call) == sizeof(((struct mp_violation *)0)->call), "the public copy has room");
_Static_assert(sizeof(((struct mpi_violation *)0)->target) == sizeof(((struct mp_violation *)0)->target), "the public copy has room");
_Static_assert(sizeof(((struct mpi_violation *)0)->need) == sizeof(((struct mp_violation *)0)->need), "the public copy has room");
_Static_assert(sizeof(((struct mpi_violation *)0)->fix) == sizeof(((struct mp_violation *)0)->fix), "the public copy has room");
_Static_assert(sizeof(((struct mpi_violation *)0)->where) == sizeof(((struct mp_violation *)0)->where), "the public copy has room");

void mp_worker_free (mp_worker *w) {
  if (w == NULL) return;
  if (w->owner == getpid() && mpi_child_poll(w->c) == 0) (void)mp_worker_kill(w);
  mpi_end(w->c, SIGKILL);
  destroy(w);
}
