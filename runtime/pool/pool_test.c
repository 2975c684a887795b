/* pool_test.c -- tasks and answers from C: order, who has what in hand, deaths at the named points. */
#include <signal.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "pool/pool.h"
#include "test/test.h"

static struct mpi_pool make (int workers) {
  struct mpi_pool p;
  CHECK_OK(mpi_pool_make(workers, &p));
  return p;
}

static uint64_t submit (struct mpi_pool *p, const char *args) {
  struct mpi_pool_task head = {.count = 1};
  struct mpi_pool_part function = {"f", 1, NULL, 0}, part = {args, strlen(args), NULL, 0};
  head.fsize = 1;
  CHECK_OK(mpi_pool_submit(p, &head, &function, &part, 0));
  return head.id;
}

struct taken {
  struct mpi_pool_task head;
  char args[64];
};

static int take (struct mpi_pool *p, int worker, struct taken *t, int64_t deadline) {
  unsigned char data[256];
  int fds[MPI_MAX_FDS];
  struct mpi_sink sink = {.data = data, .room = sizeof data, .fds = fds};
  int rc = mpi_pool_take(p, worker, &sink, deadline);
  if (rc != 0) return rc;
  memcpy(&t->head, data, sizeof t->head);
  CHECK(sink.size > sizeof t->head + 1 && data[sizeof t->head] == 'f');
  memset(t->args, 0, sizeof t->args);
  memcpy(t->args, data + sizeof t->head + 1, sink.size - sizeof t->head - 1);
  return 0;
}

TEST("gives tasks in order, numbered from 0, with function and arguments", .clean = 1) {
  struct mpi_pool p = make(2);
  struct taken t;
  CHECK_EQ(submit(&p, "one"), 0);
  CHECK_EQ(submit(&p, "two"), 1);
  CHECK_OK(take(&p, 0, &t, 0));
  CHECK_EQ(t.head.id, 0);
  CHECK_STR(t.args, "one");
  CHECK_OK(take(&p, 1, &t, 0));
  CHECK_EQ(t.head.id, 1);
  CHECK_STR(t.args, "two");
  CHECK_ERR(take(&p, 1, &t, 0), MP_ETIMEDOUT);
  mpi_pool_fini(&p);
}

TEST("knows who has a task in hand") {
  struct mpi_pool p = make(3);
  struct taken t;
  (void)submit(&p, "one");
  (void)submit(&p, "two");
  CHECK_EQ(mpi_pool_holder(&p, 0), -1);
  CHECK_OK(take(&p, 2, &t, 0));
  CHECK_OK(take(&p, 1, &t, 0));
  CHECK_EQ(mpi_pool_holder(&p, 0), 2);
  CHECK_EQ(mpi_pool_holder(&p, 1), 1);
  mpi_pool_fini(&p);
}

TEST("cancels one task and not its neighbours") {
  struct mpi_pool p = make(1);
  mpi_pool_cancel(&p, 65, 1);
  CHECK(mpi_pool_is_cancelled(&p, 65));
  CHECK(!mpi_pool_is_cancelled(&p, 64));
  CHECK(!mpi_pool_is_cancelled(&p, 66));
  mpi_pool_cancel(&p, 65, 0);
  CHECK(!mpi_pool_is_cancelled(&p, 65));
  mpi_pool_fini(&p);
}

TEST("keeps bytes for all workers and refuses places outside") {
  struct mpi_pool p = make(1);
  uint64_t a, b;
  CHECK_OK(mpi_pool_keep(&p, "hello", 5, &a));
  CHECK_OK(mpi_pool_keep(&p, "world", 5, &b));
  CHECK_MEM(mpi_pool_kept(&p, a, 5), "hello", 5);
  CHECK_MEM(mpi_pool_kept(&p, b, 5), "world", 5);
  CHECK(mpi_pool_kept(&p, UINT64_MAX, 5) == NULL);
  CHECK(mpi_pool_kept(&p, 0, SIZE_MAX) == NULL);
  CHECK_ERR(mpi_pool_keep(&p, "x", (size_t)1 << 40, &a), MP_EFULL);
  mpi_pool_fini(&p);
}

struct death {
  struct mpi_pool *p;
  const char *point; /* NULL: after the task was taken */
};

static void dies_taking (void *ud) {
  struct death *d = ud;
  struct taken t;
#ifdef MP_FAULTS
  if (d->point != NULL) mpi_fault_arm(d->point, 1, MPI_FAULT_KILL);
#endif
  (void)take(d->p, 0, &t, MP_NEVER);
  (void)kill(getpid(), SIGKILL);
}

static int victim_after (struct mpi_pool *p, const char *point, uint64_t *id) {
  struct death d = {p, point};
  (void)wait_child(fork_child(dies_taking, &d));
  return mpi_pool_victim(p, 0, id);
}

TEST("a worker that dies with a task in hand is its victim") {
  struct mpi_pool p = make(2);
  uint64_t id = 99;
  (void)submit(&p, "one");
  CHECK_EQ(victim_after(&p, NULL, &id), 1);
  CHECK_EQ(id, 0);
  mpi_pool_fini(&p);
}

#ifdef MP_FAULTS
TEST("one that dies before it has taken the task has none, and the task is there for the next") {
  struct mpi_pool p = make(2);
  struct taken t;
  uint64_t id;
  (void)submit(&p, "one");
  CHECK_EQ(victim_after(&p, "ring.get.copied", &id), 0);
  CHECK_EQ(mpi_pool_holder(&p, 0), -1);
  CHECK_OK(take(&p, 1, &t, 0));
  CHECK_STR(t.args, "one");
  CHECK_EQ(mpi_pool_victim(&p, 0, &id), 0); /* the other has it */
  CHECK_EQ(mpi_pool_victim(&p, 1, &id), 0 /* as worker 0 has noted it, too */);
  mpi_pool_reset(&p, 0);
  CHECK_EQ(mpi_pool_victim(&p, 1, &id), 1);
  CHECK_EQ(id, 0);
  mpi_pool_fini(&p);
}

TEST("one that dies right after it has taken the task is its victim") {
  struct mpi_pool p = make(2);
  uint64_t id = 99;
  (void)submit(&p, "one");
  CHECK_EQ(victim_after(&p, "ring.get.committed", &id), 1);
  CHECK_EQ(id, 0);
  mpi_pool_fini(&p);
}
#endif

TEST("a worker that has taken nothing is nobody's end") {
  struct mpi_pool p = make(2);
  uint64_t id;
  (void)submit(&p, "one");
  CHECK_EQ(mpi_pool_victim(&p, 0, &id), 0);
  mpi_pool_fini(&p);
}

TEST("answers come back whole") {
  struct mpi_pool p = make(1);
  struct mpi_pool_answer head = {.id = 7, .worker = 0, .item = 3, .status = 2}, got;
  struct mpi_pool_part value = {"value", 5, NULL, 0};
  unsigned char data[256];
  int fds[MPI_MAX_FDS], n;
  struct mpi_sink sink = {.data = data, .room = sizeof data, .fds = fds};
  CHECK_OK(mpi_pool_answer(&p, &head, &value, 0));
  CHECK_OK(mpi_ring_get(mpi_queue_ring(p.answers), &sink, 1, &n, 0));
  memcpy(&got, data, sizeof got);
  CHECK_EQ(got.id, 7);
  CHECK_EQ(got.item, 3);
  CHECK_EQ(got.status, 2);
  CHECK_MEM(data + sizeof got, "value", 5);
  mpi_pool_fini(&p);
}

TEST("refuses impossible sizes and foreign boards") {
  struct mpi_pool p = make(1), q;
  mp_object *a;
  CHECK_ERR(mpi_pool_make(0, &q), MP_EMISUSE);
  CHECK_ERR(mpi_pool_make(MPI_POOL_WORKERS + 1, &q), MP_EMISUSE);
  CHECK_OK(mp_array_new('B', 100, &a));
  CHECK_ERR(mpi_pool_bind(p.tasks, p.answers, a, &q), MP_ECORRUPT);
  mp_release(a);
  mpi_pool_fini(&p);
}
