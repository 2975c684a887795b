#include "pool/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/fd.h"

/* The board is an Array of bytes; its first page is the Array's. */
#define SLOTS_AT MPI_PAGE
#define BITS_AT (SLOTS_AT + MPI_POOL_WORKERS * sizeof(struct mpi_pool_slot))
#define BITS (1u << 20) /* tasks whose bits are apart */
#define STORE_AT (BITS_AT + BITS / 8)
#define STORE_SIZE (UINT64_C(64) << 20)
#define BOARD_CELLS_AT 128 /* shm/value.h */
#define BOARD_SIZE (STORE_AT + STORE_SIZE)

static int look (struct mpi_pool *p) {
  if (mp_array_count(p->board) != BOARD_SIZE - BOARD_CELLS_AT) return mpi_fail(MP_ECORRUPT, "a pool's board is malformed");
  p->slots = mpi_seg_at(&p->board->seg, SLOTS_AT);
  p->cancelled = mpi_seg_at(&p->board->seg, BITS_AT);
  p->store = mpi_seg_at(&p->board->seg, STORE_AT);
  return 0;
}

int mpi_pool_make (int workers, struct mpi_pool *out) {
  struct mpi_pool p;
  int rc;
  memset(&p, 0, sizeof p);
  if (workers < 1 || workers > MPI_POOL_WORKERS) return mpi_fail(MP_EMISUSE, "a pool has 1 to %d workers", MPI_POOL_WORKERS);
  p.workers = workers;
  rc = mp_queue_new(NULL, &p.tasks);
  if (rc == 0) rc = mp_queue_new(NULL, &p.answers);
  if (rc == 0) rc = mp_array_new('B', BOARD_SIZE - BOARD_CELLS_AT, &p.board);
  if (rc == 0) rc = look(&p);
  if (rc == 0) *out = p;
  else mpi_pool_fini(&p);
  return rc;
}

int mpi_pool_bind (mp_object *tasks, mp_object *answers, mp_object *board, struct mpi_pool *out) {
  struct mpi_pool p;
  int rc;
  memset(&p, 0, sizeof p);
  p.tasks = tasks;
  p.answers = answers;
  p.board = board;
  p.workers = MPI_POOL_WORKERS;
  rc = look(&p);
  if (rc != 0) return rc;
  mp_retain(tasks);
  mp_retain(answers);
  mp_retain(board);
  *out = p;
  return 0;
}

void mpi_pool_fini (struct mpi_pool *p) {
  mp_release(p->tasks);
  mp_release(p->answers);
  mp_release(p->board);
  free(p->scratch);
  memset(p, 0, sizeof *p);
}

/* ---- messages ---- */

static int reserve (struct mpi_pool *p, size_t size) {
  unsigned char *bigger;
  size_t room = p->room * 2 > size ? p->room * 2 : size + 256;
  if (p->room >= size) return 0;
  bigger = realloc(p->scratch, room);
  if (bigger == NULL) return mpi_fail(MP_ENOMEM, "not enough memory for a message of %zu bytes", size);
  p->scratch = bigger;
  p->room = room;
  return 0;
}

#define SCRATCH_KEPT ((size_t)1 << 20)

static void trim (struct mpi_pool *p) {
  if (p->room <= SCRATCH_KEPT) return;
  free(p->scratch);
  p->scratch = NULL;
  p->room = 0;
}

static int put (struct mpi_pool *p, mp_object *ring, const void *head, size_t size, const struct mpi_pool_part *part, int n, int64_t deadline) {
  int fds[MPI_MAX_FDS];
  struct mpi_msg m = {NULL, size, fds, 0};
  int i, k, done, rc;
  for (i = 0; i < n; i++) {
    m.size += part[i].size;
    if (part[i].nfds > MPI_MAX_FDS - m.nfds) return mpi_fail(MP_E2BIG, "more than %d descriptors in one message", MPI_MAX_FDS);
    for (k = 0; k < part[i].nfds; k++) fds[m.nfds++] = part[i].fds[k];
  }
  rc = reserve(p, m.size);
  if (rc != 0) return rc;
  memcpy(p->scratch, head, size);
  for (i = 0; i < n; i++) {
    if (part[i].size > 0) memcpy(p->scratch + size, part[i].data, part[i].size);
    size += part[i].size;
  }
  m.data = p->scratch;
  rc = mpi_ring_put(mpi_queue_ring(ring), &m, 1, &done, deadline);
  trim(p);
  return rc;
}

int mpi_pool_submit (struct mpi_pool *p, struct mpi_pool_task *head, const struct mpi_pool_part *function, const struct mpi_pool_part *args,
                     int64_t deadline) {
  struct mpi_pool_part parts[2];
  int rc;
  parts[0] = *function;
  parts[1] = *args;
  head->id = p->next;
  rc = put(p, p->tasks, head, sizeof *head, parts, 2, deadline);
  if (rc == 0) p->next++;
  return rc;
}

int mpi_pool_answer (struct mpi_pool *p, const struct mpi_pool_answer *head, const struct mpi_pool_part *value, int64_t deadline) {
  return put(p, p->answers, head, sizeof *head, value, 1, deadline);
}

/* Under the ring's get_latch, before the task is taken. */
static int note (void *ud, const unsigned char *head, size_t n) {
  struct mpi_pool_slot *slot = ud;
  uint64_t id;
  if (n < sizeof id) return 1;
  memcpy(&id, head, sizeof id);
  mpi_store(&slot->task, id + 1); /* ordered before the store of head, which is a release */
  return 1;
}

int mpi_pool_take (struct mpi_pool *p, int worker, struct mpi_sink *sink, int64_t deadline) {
  int got;
  sink->accept = note;
  sink->accept_ud = &p->slots[worker];
  return mpi_ring_get(mpi_queue_ring(p->tasks), sink, 1, &got, deadline);
}

/* ---- the store ---- */

int mpi_pool_keep (struct mpi_pool *p, const void *data, size_t size, uint64_t *where) {
  if (size > STORE_SIZE - p->store_used) return MP_EFULL;
  memcpy(p->store + p->store_used, data, size);
  *where = p->store_used;
  p->store_used += size;
  return 0;
}

void mpi_pool_forget (struct mpi_pool *p) {
  p->store_used = 0;
  mpi_seg_punch(&p->board->seg, STORE_AT, STORE_SIZE);
}

const unsigned char *mpi_pool_kept (struct mpi_pool *p, uint64_t where, size_t size) {
  return where > STORE_SIZE || size > STORE_SIZE - where ? NULL : p->store + where;
}

/* ---- who has what ---- */

/* Was the task taken from the ring? Numbers are the ring's counts. */
static int taken (struct mpi_pool *p, uint64_t id) {
  uint32_t head = (uint32_t)(mpi_load(&mpi_queue_ring(p->tasks)->s->head) >> 32);
  return (int32_t)(head - (uint32_t)id) > 0;
}

int mpi_pool_victim (struct mpi_pool *p, int worker, uint64_t *id) {
  uint64_t note_of = mpi_load(&p->slots[worker].task);
  int i;
  if (note_of == 0 || note_of > p->next || !taken(p, note_of - 1)) return 0;
  /* Taken: by this one, or by another that came after it died. The other's note is older than the head that we have read, and stays until
  ** it has answered. */
  for (i = 0; i < p->workers; i++)
    if (i != worker && mpi_load(&p->slots[i].task) == note_of) return 0;
  *id = note_of - 1;
  return 1;
}

void mpi_pool_reset (struct mpi_pool *p, int worker) {
  struct mpi_pool_slot *s = &p->slots[worker];
  mpi_store(&s->task, 0);
  mpi_store(&s->stop, 0);
  mpi_store(&s->deadline, 0);
  mpi_store(&s->item, 0);
  mpi_store(&s->stopped, 0);
  mpi_store(&s->running, 0);
  mpi_store(&s->state, MPI_WORKER_STARTING);
}

int mpi_pool_holder (struct mpi_pool *p, uint64_t id) {
  int i;
  if (!taken(p, id)) return -1;
  for (i = 0; i < p->workers; i++)
    if (mpi_load(&p->slots[i].task) == id + 1) return i;
  return -1;
}

void mpi_pool_cancel (struct mpi_pool *p, uint64_t id, int on) {
  mpi_a64 *word = &p->cancelled[id % BITS / 64];
  uint64_t bit = UINT64_C(1) << (id % 64);
  if (on) (void)mpi_fetch_or(word, bit);
  else if (mpi_load_relaxed(word) & bit) (void)mpi_fetch_and(word, ~bit);
}

int mpi_pool_is_cancelled (struct mpi_pool *p, uint64_t id) {
  return (mpi_load(&p->cancelled[id % BITS / 64]) >> (id % 64) & 1) != 0;
}
