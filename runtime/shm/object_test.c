#include "shm/object.h"

#include <pthread.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "shm/event.h"
#include "test/test.h"

static int copies (mp_object *o, int *fds) {
  int i;
  for (i = 0; i < o->nfds; i++) CHECK_OK(fds[i] = mpi_fd_dup(o->fds[i]));
  return o->nfds;
}

TEST("an object that arrives again is the handle that is there, and its descriptors are closed", .clean = 1) {
  mp_object *e = NULL, *again = NULL;
  int fds[MPI_OBJECT_FDS], before;
  CHECK_OK(mp_event_new(&e));
  before = test_count_fds();
  CHECK_EQ(copies(e, fds), 2);
  CHECK_OK(mpi_object_adopt(MPI_T_EVENT, 0, fds, 2, &again));
  CHECK(again == e);
  CHECK_EQ(test_count_fds(), before);
  mp_release(again);
  CHECK_OK(mp_event_set(e));
  mp_release(e);
}

TEST("an object that was let go of and arrives is the same object", .clean = 1) {
  mp_object *e = NULL;
  int fds[MPI_OBJECT_FDS];
  CHECK_OK(mp_event_new(&e));
  CHECK_OK(mp_event_set(e));
  CHECK_EQ(copies(e, fds), 2);
  mp_release(e);
  CHECK_OK(mpi_object_adopt(MPI_T_EVENT, 0, fds, 2, &e));
  CHECK_EQ(mp_event_is_set(e), 1);
  mp_release(e);
}

TEST("what is not what it claims is refused, and all its descriptors are closed", .clean = 1) {
  mp_object *e = NULL, *l = NULL, *o = NULL;
  int fds[MPI_OBJECT_FDS], before;
  CHECK_OK(mp_event_new(&e));
  CHECK_OK(mp_lock_new(&l));
  before = test_count_fds();
  CHECK_EQ(copies(e, fds), 2);
  CHECK_EQ(mpi_object_adopt(MPI_T_LOCK, 0, fds, 2, &o), MP_ECORRUPT);
  CHECK_EQ(copies(e, fds), 2);
  CHECK_EQ(mpi_object_adopt(MPI_T_COUNT, 0, fds, 2, &o), MP_ECORRUPT);
  CHECK_EQ(copies(l, fds), 1);
  CHECK_EQ(mpi_object_adopt(MPI_T_EVENT, 0, fds, 1, &o), MP_ECORRUPT);
  CHECK_EQ(copies(l, fds), 1);
  CHECK_EQ(mpi_object_adopt(MPI_T_RLOCK, 0, fds, 1, &o), MP_ECORRUPT);
  fds[0] = mpi_eventfd();
  CHECK_EQ(mpi_object_adopt(MPI_T_LOCK, 0, fds, 1, &o), MP_ECORRUPT);
  CHECK(o == NULL);
  CHECK_EQ(test_count_fds(), before);
  mp_release(e);
  mp_release(l);
}

TEST("nothing is left of ten thousand objects", .clean = 1, .limit = 30) {
  mp_object *some[100];
  int i, k;
  for (i = 0; i < 100; i++) {
    for (k = 0; k < 100; k++) CHECK_OK(k % 2 ? mp_lock_new(&some[k]) : mp_event_new(&some[k]));
    for (k = 0; k < 100; k++) mp_release(some[k]);
  }
}

static void *adopt_and_release (void *ud) {
  mp_object *e = ud;
  int i;
  for (i = 0; i < 500; i++) {
    int fds[MPI_OBJECT_FDS];
    mp_object *o = NULL;
    CHECK_EQ(copies(e, fds), 2);
    CHECK_OK(mpi_object_adopt(MPI_T_EVENT, 0, fds, 2, &o));
    CHECK(o == e);
    mp_release(o);
  }
  return NULL;
}

TEST("threads may adopt and release one object at the same time", .clean = 1, .limit = 30) {
  mp_object *e = NULL;
  pthread_t t[3];
  int i;
  CHECK_OK(mp_event_new(&e));
  for (i = 0; i < 3; i++) CHECK(pthread_create(&t[i], NULL, adopt_and_release, e) == 0);
  for (i = 0; i < 3; i++) CHECK(pthread_join(t[i], NULL) == 0);
  CHECK_EQ(e->refs, 1);
  mp_release(e);
}

TEST("releasing NULL does nothing") { mp_release(NULL); }

#ifdef MP_FAULTS
TEST("a constructor that fails half way leaves nothing", .clean = 1) {
  mp_object *e = NULL;
  mpi_fault_arm("object.alloc.fail", 1, MPI_FAULT_FAIL);
  CHECK_EQ(mp_event_new(&e), MP_ENOMEM);
  mpi_fault_arm("fd.memfd.fail", 1, MPI_FAULT_FAIL);
  CHECK_EQ(mp_event_new(&e), MP_ESYS);
  CHECK(e == NULL);
}
#endif
