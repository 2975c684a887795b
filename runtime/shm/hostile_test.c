/* hostile_test.c -- what a peer that writes anything into an object's memory, or into the sockets beside it, does not achieve. Each case is one
** thing that did happen, or nearly; spec/stress/hostile.lua looks for more. */
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/futex.h"
#include "shm/barrier.h"
#include "shm/carrier.h"
#include "shm/condition.h"
#include "shm/dict.h"
#include "shm/pipe.h"
#include "shm/queue.h"
#include "shm/undo.h"
#include "test/test.h"
#undef SKIP /* the test's; a record's is needed here */
#include "shm/ring_impl.h"

#define SOMEBODY 1u /* a thread that lives, and is none of ours */

static int64_t in_ms (int64_t ms) {
  return mp_now() + ms * MPI_NS_PER_MS;
}

static mp_object *new_queue (uint64_t maxbytes, int redeliver) {
  struct mp_queue_options options = {0, maxbytes, redeliver};
  mp_object *q = NULL;
  CHECK_OK(mp_queue_new(&options, &q));
  return q;
}

TEST("a sleep ends at its deadline though the word changes all the time", .limit = 10) {
  mpi_a32 word = 1;
  const struct mpi_watched list[2] = {{&word, 0}, {&word, 0}};
  int slice = 0;
  CHECK_EQ(mpi_sleep_on(&word, 0, mp_now() - 1, &slice), MP_ETIMEDOUT);
  CHECK_EQ(mpi_sleep_on(&word, 0, 0, &slice), MP_ETIMEDOUT);
  CHECK_EQ(mpi_sleep_on_many(list, 2, mp_now() - 1, &slice), MP_ETIMEDOUT);
}

static void *flip (void *ud) {
  mpi_a32 *words = ud; /* [0] is flipped until [1] */
  uint32_t v = 0;
  while (!mpi_load_relaxed(&words[1])) mpi_store(&words[0], SOMEBODY + (v++ & 1));
  return NULL;
}

TEST("a lock whose word flips from one stranger to another times out", .limit = 30) {
  mpi_a32 words[4] = {SOMEBODY, 0, 0, 0};
  pthread_t t;
  CHECK(pthread_create(&t, NULL, flip, words) == 0);
  (void)mpi_tid();
  CHECK_EQ(mpi_lockword_wait(words, in_ms(50), 0, 1), MP_ETIMEDOUT);
  mpi_store(&words[1], 1);
  CHECK(pthread_join(t, NULL) == 0);
}

TEST("a door that a stranger keeps shut holds up who has a deadline no longer than that, and a little", .limit = 30) {
  mp_object *b = NULL;
  int rank, seat;
  int64_t start = mp_now();
  CHECK_OK(mp_barrier_new(2, 0, MP_NEVER, &b));
  mpi_store((mpi_a32 *)mpi_seg_at(&b->seg, sizeof(struct mpi_seghdr)), SOMEBODY); /* the gate */
  CHECK_EQ(mp_barrier_arrive(b, in_ms(10), &rank, &seat), MP_ETIMEDOUT);
  CHECK(mp_now() - start < 8 * MPI_NS_PER_S); /* it was 10 s */
  mp_release(b);
}

static void *breaks_without_ending (void *ud) {
  mp_object *b = ud;
  mpi_a64 *state = (mpi_a64 *)mpi_seg_at(&b->seg, sizeof(struct mpi_seghdr)) + 4;
  while ((mpi_load(state) & 0xffff) != 1) mpi_relax();
  mpi_store(state, (uint64_t)1 << 32 | 2u << 16 | 2); /* broken, but still the first generation, and the second to come sits nowhere */
  return NULL;
}

TEST("a barrier that is broken and not over is damaged, and nobody waits in it", .limit = 20) {
  mp_object *b = NULL;
  int rank, seat;
  pthread_t t;
  CHECK_OK(mp_barrier_new(3, 0, MP_NEVER, &b));
  CHECK(pthread_create(&t, NULL, breaks_without_ending, b) == 0);
  CHECK_EQ(mp_barrier_arrive(b, in_ms(15000), &rank, &seat), MP_ECORRUPT);
  CHECK(pthread_join(t, NULL) == 0);
  mp_release(b);
}

static void takes_the_lock_for_good (void *lock) {
  (void)mp_lock_acquire(lock, MP_NEVER);
  (void)pause();
}

TEST("who waits on a condition is not kept for ever by who keeps its lock, if it said so", .limit = 20) {
  mp_object *c = NULL, *lock;
  pid_t pid;
  int rc, tries = 0;
  CHECK_OK(mp_condition_new(NULL, &c));
  lock = mpi_condition_lock(c);
  CHECK_OK(mp_lock_acquire(lock, MP_NEVER));
  pid = fork_child(takes_the_lock_for_good, lock);
  CHECK(wait_until(mpi_load(mpi_seg_word(&lock->seg, MPI_SEG_WORD0)) & MPI_LOCK_WAITERS, 5000));
  do rc = mpi_condition_wait(c, NULL, in_ms(100), 50 * MPI_NS_PER_MS); /* until the other has been quick enough */
  while (rc == MP_ETIMEDOUT && ++tries < 100);
  CHECK_EQ(rc, MP_ECORRUPT);
  CHECK_EQ(mp_lock_held(lock), 0);
  CHECK_EQ(mpi_condition_waiters(c), 0);
  (void)kill(pid, SIGKILL);
  (void)wait_child(pid);
  CHECK_EQ(mp_lock_acquire(lock, MP_NEVER), MP_ABANDONED);
  CHECK_OK(mp_lock_release(lock));
  mp_release(c);
}

/* ---- channels ---- */

TEST("records of foreign sizes in a pipe's socket do not keep a sender awake past its deadline", .limit = 20) {
  mp_object *a = NULL, *b = NULL;
  static char m[60000];
  struct mpi_ring *in;
  int rc, i;
  CHECK_OK(mp_pipe_new(1, &a, &b));
  in = &((struct mpi_pipe *)b)->in;
  do rc = mp_pipe_send(a, m, sizeof m, 0);
  while (rc == 0);
  for (i = 0; i < 5; i++) CHECK(send(in->recv_fd, "junk junk junk junk junk junk", (size_t)(i * 6), MSG_DONTWAIT) >= 0);
  CHECK_EQ(mp_pipe_send(a, m, sizeof m, in_ms(50)), MP_ETIMEDOUT);
  mp_release(a);
  mp_release(b);
}

TEST("junk before a message's descriptors is passed over", .limit = 20) {
  mp_object *q = new_queue(1 << 20, 0);
  struct mpi_ring *r = mpi_queue_ring(q);
  int fds[MPI_MAX_FDS], mine = mpi_eventfd(), done, got;
  char m[8] = "message", out[64];
  struct mpi_msg msg = {m, sizeof m, &mine, 1};
  struct mpi_sink sink = {.data = (unsigned char *)out, .room = sizeof out, .fds = fds};
  CHECK_EQ(send(r->send_fd, "x", 1, MSG_DONTWAIT), 1);
  CHECK_OK(mpi_carrier_send(r->send_fd, MPI_REC_FDS, 77, 99, &mine, 1));
  CHECK_OK(mpi_ring_put(r, &msg, 1, &done, 0));
  CHECK_OK(mpi_ring_get(r, &sink, 1, &got, 0));
  CHECK_EQ(sink.nfds, 1);
  mpi_fd_close(&fds[0]);
  mpi_fd_close(&mine);
  mp_release(q);
}

TEST("a socket that is emptied between two looks leaves no descriptors behind") {
  int sv[2], fds[4] = {-1, -1, -1, -1}, n = 4;
  char byte;
  size_t got;
  CHECK_OK(mpi_socketpair(sv));
  CHECK_EQ(mpi_fd_recv(sv[0], &byte, 1, &got, fds, &n, 0), MP_EEMPTY);
  CHECK_EQ(n, 0);
}

TEST("the alarm clock of a pipe's receiver is not waited for, though a peer made it block", .limit = 20) {
  mp_object *a = NULL, *b = NULL;
  struct mpi_ring *in;
  CHECK_OK(mp_pipe_new(1, &a, &b));
  in = &((struct mpi_pipe *)b)->in;
  CHECK(fcntl(in->bell_fd, F_SETFL, 0) == 0);
  mpi_ring_settle_bell(in, 0);
  CHECK_EQ(mpi_bell_take(in->bell_fd), 0);
  CHECK_EQ(mpi_bell_say(in->bell_fd), 1);
  CHECK_EQ(write(in->bell_fd, &(uint64_t){UINT64_MAX - 2}, 8), 8); /* to the brim */
  CHECK_EQ(mpi_bell_say(in->bell_fd), 0);
  mp_release(a);
  mp_release(b);
}

TEST("a length that was not put, or not written, is an error before room is made for it") {
  int redeliver;
  for (redeliver = 0; redeliver < 2; redeliver++) {
    mp_object *q = new_queue(64u << 20, redeliver);
    struct mpi_ring *r = mpi_queue_ring(q);
    static const uint32_t lengths[] = {40u << 20 /* allowed, but most of it does not exist */, (64u << 20) + 1, UINT32_MAX, 0x80000000u};
    char out[64];
    size_t size, i;
    for (i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
      CHECK_OK(mp_queue_put(q, "hello", 5, 0));
      mpi_store(&r->s->express_head, 0); /* else it would be taken from beside the tail */
      ((struct header *)(void *)address(r, (uint32_t)mpi_load(redeliver ? r->cursor : &r->s->head)))->size = lengths[i];
      size = sizeof out;
      CHECK_EQ(mp_queue_get(q, out, &size, 0), MP_ECORRUPT);
      mp_release(q);
      q = new_queue(64u << 20, redeliver);
      r = mpi_queue_ring(q);
    }
    mp_release(q);
  }
}

TEST("records that lead round and round come to an end", .limit = 60) {
  mp_object *q = new_queue(UINT64_C(1) << 30, 1);
  struct mpi_ring *r = mpi_queue_ring(q);
  struct header h = {0, 0}, skip = {0, SKIP};
  uint64_t settled = UINT64_MAX;
  uint32_t n = r->units - 1;
  CHECK(n > 50000000);
  memcpy(address(r, 0), &h, sizeof h);
  memcpy(address(r, 0) + sizeof h, &settled, 8);
  memcpy(address(r, 1), &skip, sizeof skip); /* back to the first */
  mpi_store(&r->s->head, 0);
  mpi_store(r->cursor, side_of(1, n));
  mpi_store(&r->s->tail, side_of(1, n));
  mpi_store(&r->s->closed, 1);
  CHECK_EQ(mp_queue_join(q, in_ms(10)), MP_ECORRUPT);
  CHECK_EQ(mpi_queue_ready((struct mpi_queue *)q), 1); /* a get says it */
  {
    char out[8];
    size_t size = sizeof out;
    CHECK_EQ(mp_queue_get(q, out, &size, in_ms(10)), MP_ECORRUPT);
  }
  mp_release(q);
}

TEST("a channel that comes with descriptors of other kinds is refused", .clean = 1) {
  static const struct {
    int type, detail, nfds;
  } kinds[] = {{MPI_T_QUEUE, 0, 4}, {MPI_T_PIPE, MPI_PIPE_A, 5}, {MPI_T_EVENT, 0, 2}};
  size_t i;
  int k;
  for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    mp_object *o = NULL, *other = NULL, *again = NULL;
    if (kinds[i].type == MPI_T_QUEUE) o = new_queue(1 << 20, 0);
    else if (kinds[i].type == MPI_T_EVENT) CHECK_OK(mp_event_new(&o));
    else CHECK_OK(mp_pipe_new(1, &o, &other));
    for (k = 1; k < kinds[i].nfds; k++) {
      int fds[MPI_OBJECT_FDS], p[2], n;
      CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
      for (n = 0; n < kinds[i].nfds; n++) fds[n] = mpi_fd_dup(n == k ? p[1] : o->fds[n]);
      /* as another process would see it: not in our table */
      o->seg.ino++;
      CHECK_EQ(mpi_object_adopt(kinds[i].type, kinds[i].detail, fds, kinds[i].nfds, &again), MP_ECORRUPT);
      o->seg.ino--;
      mpi_fd_close(&p[0]);
      mpi_fd_close(&p[1]);
    }
    mp_release(o);
    mp_release(other);
  }
}

/* ---- containers ---- */

TEST("a container that claims to hold what it has no memory for is damaged, and nobody makes room for it") {
  mp_object *d = NULL;
  struct mpi_store *s;
  struct mpi_item key = {MPI_ITEM_STR, 1, "k"}, value = {MPI_ITEM_STR, 5, "value"};
  size_t size;
  uint64_t n;
  char buf[8];
  CHECK_OK(mp_dict_new(&d));
  s = (struct mpi_store *)d;
  CHECK_OK(mpi_dict_set(d, &key, &value, MP_NEVER));
  s->root->word[4] = s->heap_end - 64; /* bytes of all keys and values */
  CHECK_EQ(mpi_dict_snapshot(d, buf, sizeof buf, &size, &n, MP_NEVER), MP_ECORRUPT);
  mp_release(d);
}

static uint64_t blocks_of (const mp_object *o) {
  struct stat st;
  CHECK_EQ(mpi_fstat(o->seg.fd, &st), 0);
  return (uint64_t)st.st_blocks * 512;
}

TEST("a table that is only claimed is not walked, for that would make its pages") {
  mp_object *d = NULL;
  struct mpi_store *s;
  uint64_t off, n, *chunk;
  size_t size;
  char buf[8];
  CHECK_OK(mp_dict_new(&d));
  s = (struct mpi_store *)d;
  off = s->heap_at + 10 * (uint64_t)MPI_CHUNK;
  chunk = mpi_store_at(s, off);
  chunk[0] = 0x52; /* a run */
  chunk[2] = (s->heap_end - off) / MPI_CHUNK;
  s->root->word[0] = off + 64;
  for (s->root->word[1] = 8; s->root->word[1] * 32 < chunk[2] * MPI_CHUNK - 64; s->root->word[1] *= 2) {}
  CHECK(s->root->word[1] > 65536);
  CHECK_EQ(mpi_dict_snapshot(d, buf, sizeof buf, &size, &n, MP_NEVER), MP_ECORRUPT);
  CHECK(blocks_of(d) < 1 << 20);
  mp_release(d);
}

struct holding {
  mp_object *d;
  mpi_a32 held, done;
};

static void *holds (void *ud) {
  struct holding *h = ud;
  CHECK_OK(mpi_store_hold((struct mpi_store *)h->d, MP_NEVER));
  mpi_store(&h->held, 1);
  while (!mpi_load(&h->done)) mpi_relax();
  CHECK_OK(mpi_store_unhold((struct mpi_store *)h->d));
  CHECK(mpi_self_.head->list.next == &mpi_self_.head->list);
  return NULL;
}

TEST("a container that one thread holds is not entered by another, though a peer frees its lock", .limit = 30) {
  struct holding h = {NULL, 0, 0};
  mpi_a32 *word;
  pthread_t t;
  uint64_t n;
  CHECK_OK(mp_dict_new(&h.d));
  word = mpi_seg_word(&h.d->seg, MPI_SEG_WORD0);
  CHECK(pthread_create(&t, NULL, holds, &h) == 0);
  CHECK(wait_until(mpi_load(&h.held), 5000));
  mpi_store(word, 0);
  CHECK_EQ(mpi_dict_count(h.d, &n, 0), MP_ECORRUPT);
  CHECK(mpi_self_.head->list.next == &mpi_self_.head->list);
  mpi_store(&h.done, 1);
  CHECK(pthread_join(t, NULL) == 0);
  CHECK_OK(mpi_dict_count(h.d, &n, MP_NEVER));
  mp_release(h.d);
}

TEST("a container whose lock was taken from us while we held it says so, and is ours no more once we let go") {
  mp_object *d = NULL;
  uint64_t n;
  CHECK_OK(mp_dict_new(&d));
  CHECK_OK(mpi_store_hold((struct mpi_store *)d, MP_NEVER));
  mpi_store(mpi_seg_word(&d->seg, MPI_SEG_WORD0), 0);
  CHECK_EQ(mpi_dict_count(d, &n, 0), MP_ECORRUPT);
  CHECK_OK(mpi_store_unhold((struct mpi_store *)d));
  CHECK(mpi_self_.head->list.next == &mpi_self_.head->list);
  CHECK_OK(mpi_dict_count(d, &n, 0));
  CHECK_EQ(atomic_load(&d->refs), 1);
  mp_release(d);
}
