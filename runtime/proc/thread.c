#include "proc/thread.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "base/pidfd.h"
#include "base/warm.h"

#define STOP_GRACE (500 * MPI_NS_PER_MS)

static MPI_WARM pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static MPI_WARM mpi_thread_handle *table;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_once_t handler_once = PTHREAD_ONCE_INIT;
static _Thread_local mpi_thread_handle *self;

struct start {
  mpi_thread_handle *t;
  int (*fn) (mpi_thread_handle *);
};

MPI_HOT mpi_thread_handle *mpi_thread_self (void) {
  return self;
}

static void before_fork (void) {
  (void)pthread_mutex_lock(&lock);
}

static void after_fork (void) {
  (void)pthread_mutex_unlock(&lock);
}

static MPI_HOT void in_child (void) {
  mpi_thread_handle *t;
  for (t = table; t != NULL; t = t->next) {
    t->exitcode = 255;
    atomic_store(&t->ended, 1);
  }
  table = NULL;
  if (self != NULL) self = NULL;
  mpi_mutex_renew(&lock);
}

static void install_fork_hooks (void) {
  (void)pthread_atfork(before_fork, after_fork, in_child);
}

void mpi_thread_release (mpi_thread_handle *t) {
  if (t == NULL || atomic_fetch_sub(&t->refs, 1) != 1) return;
  mpi_fd_close(&t->event);
  mpi_record_fini(&t->task);
  mpi_record_fini(&t->report);
  free(t);
}

static void unlist (mpi_thread_handle *t) {
  mpi_thread_handle **p;
  (void)pthread_mutex_lock(&lock);
  for (p = &table; *p != NULL; p = &(*p)->next)
    if (*p == t) {
      *p = t->next;
      break;
    }
  (void)pthread_mutex_unlock(&lock);
}

static void *run (void *arg) {
  struct start s = *(struct start *)arg;
  mpi_thread_handle *t = s.t;
  uint64_t one = 1;
  int code;
  free(arg);
  self = t;
  t->tid = gettid();
  mpi_interrupts_are_noted(1); /* only MPI_THREAD_SIGNAL interrupts it */
  code = s.fn(t);
  mpi_exit_rules(code, t->tid); /* for the processes that this thread started: they die with it otherwise */
  (void)pthread_mutex_lock(&lock); /* a poke finds the thread alive or not at all */
  t->poked = NULL;
  self = NULL;
  (void)pthread_mutex_unlock(&lock);
  unlist(t);
  t->exitcode = code;
  atomic_store(&t->ended, 1);
  mpi_futex_wake(&t->ended, INT32_MAX);
  while (write(t->event, &one, sizeof one) < 0 && errno == EINTR) {}
  mpi_thread_release(t);
  return NULL;
}

static int new_handle (mpi_record *task, int daemon, mpi_thread_handle **out) {
  mpi_thread_handle *t = MPI_FAULT_HERE("thread.alloc.fail") ? NULL : calloc(1, sizeof *t);
  if (t == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  t->refs = 2; /* the caller's and the thread's */
  t->owner = getpid();
  t->daemon = daemon;
  t->event = mpi_eventfd();
  if (t->event < 0) {
    int rc = t->event;
    free(t);
    return rc;
  }
  t->task = *task;
  memset(task, 0, sizeof *task);
  *out = t;
  return 0;
}

int mpi_thread_start (int (*fn) (mpi_thread_handle *t), mpi_record *task, int daemon, mpi_thread_handle **out) {
  mpi_thread_handle *t = NULL;
  struct start *s = malloc(sizeof *s);
  sigset_t most, old;
  pthread_attr_t attr;
  int rc;
  (void)mpi_proc_init();
  (void)pthread_once(&once, install_fork_hooks);
  rc = s == NULL ? mpi_fail(MP_ENOMEM, "not enough memory") : mpi_exiting ? mpi_fail(MP_EMISUSE, "this process is ending") : new_handle(task, daemon, &t);
  if (rc != 0) {
    free(s);
    mpi_record_fini(task);
    return rc;
  }
  s->t = t;
  s->fn = fn;
  (void)pthread_mutex_lock(&lock);
  t->next = table;
  table = t;
  (void)pthread_mutex_unlock(&lock);
  (void)sigfillset(&most);
  (void)sigdelset(&most, MPI_THREAD_SIGNAL);
  (void)pthread_sigmask(SIG_SETMASK, &most, &old);
  (void)pthread_attr_init(&attr);
  (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  rc = MPI_FAULT_HERE("thread.create.fail") ? EAGAIN : pthread_create(&t->thread, &attr, run, s);
  (void)pthread_attr_destroy(&attr);
  (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
  if (rc != 0) {
    unlist(t);
    free(s);
    atomic_store(&t->refs, 1); /* there is no thread to give its own back */
    mpi_thread_release(t);
    errno = rc;
    return mpi_fail_errno("pthread_create");
  }
  *out = t;
  return 0;
}

int mpi_thread_poll (mpi_thread_handle *t) {
  return atomic_load(&t->ended) != 0;
}

int mpi_thread_wait (mpi_thread_handle *t, int64_t deadline) {
  int slice = 0;
  while (!mpi_thread_poll(t)) {
    int rc = mpi_sleep_on(&t->ended, 0, deadline, &slice);
    if (rc == MP_ETIMEDOUT && mpi_thread_poll(t)) break;
    if (rc != 0) return rc;
  }
  return 0;
}

static void on_signal (int sig) {
  int saved = errno;
  void (*poked) (void *) = self != NULL ? atomic_load(&self->poked) : NULL;
  (void)sig;
  if (poked != NULL) poked(self->ud);
  mpi_interrupt_note();
  errno = saved;
}

static void install_handler (void) {
  struct sigaction sa;
  memset(&sa, 0, sizeof sa);
  sa.sa_handler = on_signal; /* no SA_RESTART: what waits must look */
  (void)sigemptyset(&sa.sa_mask);
  (void)sigaction(MPI_THREAD_SIGNAL, &sa, NULL);
}

/* The lock is held: no thread of the table can end meanwhile. */
static void poke (mpi_thread_handle *t, int request) {
  int before = atomic_load(&t->request);
  if (before < request) atomic_store(&t->request, request);
  if (t->poked != NULL) (void)pthread_kill(t->thread, MPI_THREAD_SIGNAL);
}

int mpi_thread_poke (mpi_thread_handle *t, int request) {
  mpi_thread_handle *k;
  (void)pthread_once(&handler_once, install_handler);
  (void)pthread_mutex_lock(&lock);
  for (k = table; k != NULL; k = k->next)
    if (k == t) poke(t, request);
  (void)pthread_mutex_unlock(&lock);
  return 0;
}

/* A thread that waits here for others (it called exit) does not wait for itself. */
static mpi_thread_handle *first_thread (int daemons) {
  mpi_thread_handle *t;
  (void)pthread_mutex_lock(&lock);
  for (t = table; t != NULL; t = t->next)
    if (t != self && t->owner == getpid() && (daemons || !t->daemon)) {
      (void)atomic_fetch_add(&t->refs, 1);
      break;
    }
  (void)pthread_mutex_unlock(&lock);
  return t;
}

static int join_threads (int daemons, int64_t deadline) {
  mpi_thread_handle *t;
  while ((t = first_thread(daemons)) != NULL) {
    int rc = mpi_thread_wait(t, deadline); /* who has ended has left the table */
    mpi_thread_release(t);
    if (rc != 0) return rc;
  }
  return 0;
}

MPI_HOT void mpi_threads_exit (int status) {
  mpi_thread_handle *t;
  if (table == NULL) return;
  (void)join_threads(0, mpi_interrupt_deadline(status));
  (void)pthread_once(&handler_once, install_handler);
  (void)pthread_mutex_lock(&lock);
  for (t = table; t != NULL; t = t->next)
    if (t != self) poke(t, MPI_STOP_END);
  (void)pthread_mutex_unlock(&lock);
  (void)join_threads(1, mp_now() + STOP_GRACE); /* who computes in C is cut off by the end of the process */
}
