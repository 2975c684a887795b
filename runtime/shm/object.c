#include "shm/object.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/warm.h"

#define BUCKETS 1024u /* ten thousand objects: ten a bucket */

static struct mpi_object *table[BUCKETS];
static MPI_WARM pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_hooks = PTHREAD_ONCE_INIT;

/* Every type that exists; the entries are defined beside their code. Weak: a type whose file is not linked is unknown. */
#define TYPE(n) extern const struct mpi_type mpi_type_##n __attribute__((weak));
TYPE(lock) TYPE(rlock) TYPE(semaphore) TYPE(condition) TYPE(event) TYPE(barrier) TYPE(queue) TYPE(pipe) TYPE(value) TYPE(array)
TYPE(dict) TYPE(list)
#undef TYPE

const struct mpi_type *mpi_type_of (int type) {
  switch (type) {
    case MPI_T_LOCK: return &mpi_type_lock;
    case MPI_T_RLOCK: return &mpi_type_rlock;
    case MPI_T_SEMAPHORE: return &mpi_type_semaphore;
    case MPI_T_CONDITION: return &mpi_type_condition;
    case MPI_T_EVENT: return &mpi_type_event;
    case MPI_T_BARRIER: return &mpi_type_barrier;
    case MPI_T_QUEUE: return &mpi_type_queue;
    case MPI_T_PIPE: return &mpi_type_pipe;
    case MPI_T_VALUE: return &mpi_type_value;
    case MPI_T_ARRAY: return &mpi_type_array;
    case MPI_T_DICT: return &mpi_type_dict;
    case MPI_T_LIST: return &mpi_type_list;
    default: return NULL;
  }
}

static void before_fork (void) {
  (void)pthread_mutex_lock(&table_lock);
}

static void after_fork (void) {
  (void)pthread_mutex_unlock(&table_lock);
}

static MPI_HOT void renew_lock (void) { /* in the child */
  mpi_mutex_renew(&table_lock);
}

static void install_fork_hooks (void) {
  (void)pthread_atfork(before_fork, after_fork, renew_lock);
}

static struct mpi_object **bucket (uint64_t ino) {
  return &table[(ino ^ (ino >> 10)) % BUCKETS];
}

static struct mpi_object *find (uint64_t ino, uint64_t dev, int detail) {
  struct mpi_object *o;
  for (o = *bucket(ino); o != NULL; o = o->next)
    if (o->seg.ino == ino && o->seg.dev == dev && o->detail == detail) return o;
  return NULL;
}

static struct mpi_object *allocate (const struct mpi_type *t) {
  struct mpi_object *o = MPI_FAULT_HERE("object.alloc.fail") ? NULL : calloc(1, t->size);
  int i;
  if (o == NULL) return NULL;
  o->type = t;
  o->refs = 1;
  o->nfds = t->nfds;
  o->seg = (mpi_seg)MPI_SEG_NONE;
  for (i = 0; i < MPI_OBJECT_FDS; i++) o->fds[i] = -1;
  return o;
}

int mpi_object_new (const struct mpi_type *t, size_t segment_size, struct mpi_object **out) {
  struct mpi_object *o = allocate(t);
  int rc;
  if (o == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  rc = mpi_seg_create(&o->seg, t->type, segment_size, t->seg_flags);
  if (rc != 0) {
    free(o);
    return rc;
  }
  o->fds[0] = o->seg.fd;
  *out = o;
  return 0;
}

static void destroy (struct mpi_object *o) {
  int i;
  for (i = 1; i < MPI_OBJECT_FDS; i++) mpi_fd_close(&o->fds[i]);
  mpi_seg_fini(&o->seg);
  free(o);
}

void mpi_object_abandon (struct mpi_object *o) {
  destroy(o);
}

static void enter (struct mpi_object *o) {
  struct mpi_object **b = bucket(o->seg.ino);
  o->next = *b;
  *b = o;
}

int mpi_object_publish (struct mpi_object *o) {
  int rc = o->type->attach != NULL ? o->type->attach(o) : 0;
  if (rc != 0) return rc;
  (void)pthread_once(&fork_hooks, install_fork_hooks);
  (void)pthread_mutex_lock(&table_lock);
  enter(o);
  (void)pthread_mutex_unlock(&table_lock);
  return 0;
}

static void close_all (const int *fds, int nfds) {
  int i;
  for (i = 0; i < nfds; i++) {
    int fd = fds[i];
    mpi_fd_close(&fd);
  }
}

/* A new handle over descriptors that are all well; on failure they are the caller's still. */
static int build (const struct mpi_type *t, int detail, const int *fds, int nfds, struct mpi_object **out) {
  struct mpi_object *o = allocate(t);
  int rc, i;
  if (o == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  o->detail = detail;
  o->nfds = nfds;
  rc = mpi_seg_attach(&o->seg, fds[0], t->type, t->seg_flags);
  if (rc == 0) {
    for (i = 0; i < nfds; i++) o->fds[i] = fds[i];
    rc = t->attach != NULL ? t->attach(o) : 0;
    if (rc == 0) {
      *out = o;
      return 0;
    }
    for (i = 0; i < nfds; i++) o->fds[i] = -1;
    o->seg.fd = -1;
    mpi_seg_fini(&o->seg);
  }
  free(o);
  return rc;
}

int mpi_object_adopt (int type, int detail, const int *fds, int nfds, struct mpi_object **out) {
  const struct mpi_type *t = mpi_type_of(type);
  struct mpi_object *o;
  struct stat st;
  int rc = 0;
  if (t == NULL || nfds > t->nfds || (nfds < t->nfds && type != MPI_T_PIPE) || nfds < 1 || mpi_fstat(fds[0], &st) != 0) {
    close_all(fds, nfds);
    return mpi_fail(MP_ECORRUPT, "a handle of no known kind arrived");
  }
  (void)pthread_once(&fork_hooks, install_fork_hooks);
  (void)pthread_mutex_lock(&table_lock);
  o = find(st.st_ino, st.st_dev, detail);
  if (o != NULL && o->type == t) {
    mp_retain(o);
    close_all(fds, nfds);
  } else {
    rc = build(t, detail, fds, nfds, &o);
    if (rc == 0) enter(o);
    else close_all(fds, nfds);
  }
  (void)pthread_mutex_unlock(&table_lock);
  if (rc == 0) *out = o;
  return rc;
}

void mp_retain (mp_object *o) {
  (void)atomic_fetch_add(&o->refs, 1);
}

void mp_release (mp_object *o) {
  struct mpi_object **p;
  int n;
  if (o == NULL) return;
  n = atomic_load(&o->refs);
  while (n > 1)
    if (atomic_compare_exchange_weak(&o->refs, &n, n - 1)) return;
  /* The last one under the table's lock, so that an adoption cannot find an object on its way out. */
  (void)pthread_mutex_lock(&table_lock);
  if (atomic_fetch_sub(&o->refs, 1) != 1) {
    (void)pthread_mutex_unlock(&table_lock);
    return;
  }
  for (p = bucket(o->seg.ino); *p != NULL; p = &(*p)->next)
    if (*p == o) {
      *p = o->next;
      break;
    }
  (void)pthread_mutex_unlock(&table_lock);
  if (o->type->detach != NULL) o->type->detach(o);
  destroy(o);
}
