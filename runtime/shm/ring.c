/* ring.c -- longer than most files: putting, getting and waiting share the views `place` and `batch` and their rules, and are read together. */
#include "shm/ring.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/copy.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/futex.h"
#include "base/interrupt.h"
#include "base/spin.h"
#include "shm/carrier.h"
#include "shm/ring_impl.h"

#ifdef MP_HARD
#define WINDOW_BYTES 256u /* turn round all the time */
#define RECLAIM_BYTES 4096u
#else
#define WINDOW_BYTES (128u * 1024u)
#define RECLAIM_BYTES (1024u * 1024u)
#endif

#define WINDOW_MOST (32u * 1024u * 1024u)
#define WINDOW_MESSAGES 32u /* of the largest size of late */

#define ALWAYS_INLINE static inline __attribute__((always_inline)) /* once for one message, which is the rule, once for many */

#define AHEAD 16u /* units: what is fetched meanwhile */

#define UNITS_MAX (1u << 31)

/* ---- making ---- */

uint64_t mpi_ring_capacity (uint64_t maxbytes) {
  uint64_t c = 4096;
  /* Twice the bound and room for headers: a message of maxbytes fits in one piece wherever the positions are. Small messages take a unit each
  ** however short they are: for small bounds there is room for that too. */
  uint64_t least = 2 * maxbytes + 4096;
  if (least < UINT64_C(1) << 30) least = 32 * maxbytes + 4096 < UINT64_C(1) << 30 ? 32 * maxbytes + 4096 : UINT64_C(1) << 30;
  while (c < least && c < (uint64_t)UNITS_MAX * MPI_RING_UNIT) c *= 2;
  return c;
}

void mpi_ring_format (struct mpi_ring_shared *s, uint64_t maxbytes, uint32_t maxsize) {
  s->capacity = mpi_ring_capacity(maxbytes);
  s->maxbytes = maxbytes;
  s->maxsize = maxsize;
}

int mpi_ring_attach (struct mpi_ring *r, struct mpi_ring_shared *s, const mpi_seg *seg, size_t data_offset, size_t room) {
  uint64_t capacity = *(volatile uint64_t *)&s->capacity; /* once: a peer may be changing it */
  uint64_t maxbytes = *(volatile uint64_t *)&s->maxbytes;
  if (capacity < 4096 || (capacity & (capacity - 1)) != 0 || capacity > room || capacity / MPI_RING_UNIT > UNITS_MAX ||
      maxbytes > capacity / 2)
    return mpi_fail(MP_ECORRUPT, "a ring's bounds are impossible");
  r->s = s;
  r->seg = seg;
  r->data_offset = data_offset;
  r->data = mpi_seg_at(seg, data_offset);
  r->units = (uint32_t)(capacity / MPI_RING_UNIT);
  r->window = WINDOW_BYTES / MPI_RING_UNIT < r->units / 2 ? WINDOW_BYTES / MPI_RING_UNIT : r->units / 2;
  r->maxbytes = maxbytes;
  r->maxsize = *(volatile uint32_t *)&s->maxsize;
  r->send_fd = -1;
  r->recv_fd = -1;
  r->bell_fd = -1;
  return 0;
}

/* ---- putting ---- */

struct place { /* the putters' view while they hold put_latch */
  uint64_t tail;
  uint64_t head;
  uint64_t taken; /* head, or with redelivery the cursor: what no longer waits */
  uint64_t in;  /* bytes ever put, at tail */
  uint64_t out; /* bytes ever got, at head or later */
  uint32_t s, m; /* the layout (ring.h) */
};

struct spot { /* where a message goes */
  uint32_t at;
  uint32_t s, m; /* the layout then */
  int jump;      /* a SKIP record at the tail leads there */
};

/* bytes_out's slot of head's parity; if getters run on meanwhile it is a later value, which only means more room. */
static uint64_t bytes_out (const struct mpi_ring *r, uint64_t head) {
  return mpi_load_acquire(&r->s->bytes_out[count_of(head) & 1]);
}

static uint32_t window_of (const struct mpi_ring *r) {
  uint32_t w = mpi_load_relaxed(&r->s->window), span = mpi_load_relaxed(&r->s->span);
  if (w < span) w = span;
  return w < r->window ? r->window : w > r->units ? r->units : w;
}

/* The window follows the size of the messages: up at once, down by half a lap. Latch held. */
static void fit_window (const struct mpi_ring *r, uint32_t need, int turned) {
  uint32_t w = mpi_load_relaxed(&r->s->window);
  uint64_t want = (uint64_t)need * WINDOW_MESSAGES;
  if (want > WINDOW_MOST / MPI_RING_UNIT) want = WINDOW_MOST / MPI_RING_UNIT;
  if (turned && want < w / 2) want = w / 2;
  if (want > w || turned) mpi_store_relaxed(&r->s->window, (uint32_t)want);
}

/* So does the span follow a backlog that stays: where putters went on behind the window, each page would be a new one. p's head is fresh. Latch held. */
static void fit_span (const struct mpi_ring *r, const struct place *p, uint32_t need, int turned) {
  uint32_t span = mpi_load_relaxed(&r->s->span);
  uint32_t t = pos_of(p->tail), h = pos_of(p->head);
  uint64_t live = h <= t ? t - h : (uint64_t)p->s + t - (h < p->s ? h : p->s);
  uint64_t want = 2 * (live + need);
  want += want / 4;
  if (turned) {
    if (want < span / 2) mpi_store_relaxed(&r->s->span, span / 2);
  } else if (want > window_of(r) && want <= WINDOW_MOST / MPI_RING_UNIT) {
    mpi_store_relaxed(&r->s->span, (uint32_t)want);
  }
}

/* What the getters have passed since is no longer in the layout. An old head only makes less of it. */
static void settle_layout (struct place *p) {
  uint32_t h = pos_of(p->head);
  if (p->s == 0) return;
  if (count_of(p->head) == count_of(p->tail) || (p->m == 0 ? h <= pos_of(p->tail) : h > p->s)) p->s = p->m = 0;
}

/* Where `need` units go; a unit behind them stays free for a SKIP record. 0 if they do not fit now. */
static int fits (const struct mpi_ring *r, const struct place *now, size_t size, uint32_t need, struct spot *spot) {
  struct place p = *now;
  uint64_t backlog = p.in - p.out;
  uint32_t t = pos_of(p.tail), h = pos_of(p.head);
  int over;
  if (r->maxsize != 0 && count_of(p.tail) - count_of(p.taken) >= r->maxsize) return 0;
  if (count_of(p.tail) != count_of(p.head) && backlog + size > r->maxbytes) return 0;
  settle_layout(&p);
  *spot = (struct spot){t, p.s, p.m, 0};
  over = (uint64_t)t + need + 1 > r->units;
  if (p.s == 0) {
    int small = backlog + size <= (uint64_t)window_of(r) * (MPI_RING_UNIT / 2);
    if ((over || (small && (uint64_t)t + need > window_of(r))) && t > 0 && (uint64_t)need + 1 <= h) {
      *spot = (struct spot){0, t, 0, 1};
      return 1;
    }
    return !over;
  }
  if (p.m != 0) return !over;
  if ((uint64_t)t + need + 1 <= h) return 1;
  if ((uint64_t)p.s + 1 + need + 1 > r->units) return 0;
  *spot = (struct spot){p.s + 1, p.s, t, 1};
  return 1;
}

static void refresh (const struct mpi_ring *r, struct place *p) {
  p->head = mpi_load_acquire(&r->s->head);
  p->out = bytes_out(r, p->head);
  p->taken = r->owned ? mpi_load_acquire(r->cursor) : p->head;
  mpi_store_relaxed(&r->s->head_seen, p->head);
  mpi_store_relaxed(&r->s->bytes_seen, p->out);
}

static void note_dirty (const struct mpi_ring *r, uint32_t from, uint32_t to) {
  struct mpi_ring_shared *s = r->s;
  uint32_t lo = mpi_load_relaxed(&s->dirty_lo);
  uint32_t hi = mpi_load_relaxed(&s->dirty_hi);
  if (from < r->window) from = r->window;
  if (hi <= lo) {
    mpi_store_relaxed(&s->dirty_lo, from);
    mpi_store_relaxed(&s->dirty_hi, to);
    return;
  }
  if (from < lo) mpi_store_relaxed(&s->dirty_lo, from);
  if (to > hi) mpi_store_relaxed(&s->dirty_hi, to);
}

/* ---- by the file ---- */

/* Behind the window each page is a new one. Through the mapping it costs a fault when it is written and another when it is read: 13 us each where the page
** tables are a hypervisor's. By the file, which is the same memory, it takes 1 us with the copy (same machine): so go large messages. Whether one
** goes this way or that makes no difference to what is where. */
#define BULK 4096u /* bytes */

static int is_bulk (const struct mpi_ring *r, uint32_t pos, size_t size) {
  return size >= BULK && pos + size / MPI_RING_UNIT > window_of(r) && !r->owned;
}

static off_t place_in_file (const struct mpi_ring *r, uint32_t pos) {
  return (off_t)(r->data_offset + (size_t)pos * MPI_RING_UNIT);
}

/* How much of it was written: all, unless there is a limit for files (whose price is a signal), or no memory. */
static size_t write_file (const struct mpi_ring *r, off_t to, const void *data, size_t size) {
  struct rlimit most;
  size_t done = 0;
  int e = errno;
  if (mpi_seg_is_open(r->seg) && getrlimit(RLIMIT_FSIZE, &most) == 0 && (most.rlim_cur == RLIM_INFINITY || most.rlim_cur >= (uint64_t)to + size)) {
    while (done < size) {
      ssize_t n = pwrite(r->seg->fd, (const char *)data + done, size - done, to + (off_t)done);
      if (n <= 0) break;
      done += (size_t)n;
    }
  }
  errno = e;
  return done;
}

static size_t read_file (const struct mpi_ring *r, off_t from, void *data, size_t size) {
  size_t done = 0;
  int e = errno;
  while (mpi_seg_is_open(r->seg) && done < size) {
    ssize_t n = pread(r->seg->fd, (char *)data + done, size - done, from + (off_t)done);
    if (n <= 0) break;
    done += (size_t)n;
  }
  errno = e;
  return done;
}

static void write_bulk (const struct mpi_ring *r, uint32_t pos, const struct mpi_msg *m) {
  const struct header h = {(uint32_t)m->size, 0};
  off_t to = place_in_file(r, pos);
  size_t done = write_file(r, to + (off_t)sizeof h, m->data, m->size);
  if (done < m->size) mpi_copy(address(r, pos) + sizeof h + done, (const char *)m->data + done, m->size - done);
  if (write_file(r, to, &h, sizeof h) < sizeof h) memcpy(address(r, pos), &h, sizeof h);
}

/* The payload of the record at pos. */
static void read_bulk (const struct mpi_ring *r, uint32_t pos, unsigned char *to, size_t size) {
  size_t done = read_file(r, place_in_file(r, pos) + (off_t)sizeof(struct header), to, size);
  if (done < size) mpi_copy(to + done, address(r, pos) + sizeof(struct header) + done, size - done);
}

/* Its header: by the file where a large message is to be expected. */
static void read_header (const struct mpi_ring *r, uint32_t pos, struct header *h) {
  if (r->bulk && is_bulk(r, pos, BULK) && read_file(r, place_in_file(r, pos), h, sizeof *h) == sizeof *h) return;
  memcpy(h, address(r, pos), sizeof *h);
  __asm__ __volatile__("" ::: "memory"); /* *h is a copy: it is not read from shared memory again */
}

static void write_record (const struct mpi_ring *r, uint32_t pos, const struct mpi_msg *m, uint32_t attempt) {
  char *at = address(r, pos);
  struct header h = {(uint32_t)m->size, m->nfds > 0 ? FDS : 0};
  memcpy(at, &h, sizeof h);
  at += sizeof h;
  if (r->owned) {
    memset(at, 0, 8); /* nobody's */
    at += 8;
  }
  if (m->nfds > 0) {
    uint64_t a = attempt;
    memcpy(at, &a, sizeof a);
    at += sizeof a;
  }
  mpi_copy(at, m->data, m->size);
}

/* Writes one message at the end of what is there; moves p->tail, publishes nothing. 1 written, 0 does not fit, or negative. */
static int append (const struct mpi_ring *r, struct place *p, const struct mpi_msg *m) {
  uint32_t need = (uint32_t)units_for(r, m->size, m->nfds);
  uint32_t t = pos_of(p->tail), eighth = window_of(r) / 8;
  uint32_t attempt = 0;
  struct spot spot;
  if (t >= r->units) return mpi_fail(MP_ECORRUPT, "a ring's position is impossible");
  /* Past the window it matters how far the getters really are: look every eighth of a window. */
  if ((uint64_t)t + need > window_of(r) && (t <= window_of(r) || t / eighth != (t + need) / eighth)) {
    refresh(r, p);
    fit_span(r, p, need, 0);
  }
  if (!fits(r, p, m->size, need, &spot)) {
    refresh(r, p);
    if (!fits(r, p, m->size, need, &spot)) return 0;
  }
  /* The head and the layout are what peers wrote: whatever they say, nothing is written outside. */
  if ((uint64_t)spot.at + need > r->units) return mpi_fail(MP_ECORRUPT, "a ring's layout is impossible");
  if (m->nfds > 0) {
    int rc;
    attempt = ++r->s->attempt;
    rc = mpi_carrier_send(r->send_fd, MPI_REC_FDS, count_of(p->tail) + 1, attempt, m->fds, m->nfds);
    if (rc != 0) return rc;
    MPI_POINT("ring.put.carried");
  }
  if (spot.jump) {
    struct header h = {spot.at, SKIP};
    memcpy(address(r, t), &h, sizeof h);
  }
  if (spot.jump || need > r->window / WINDOW_MESSAGES) fit_window(r, need, spot.jump);
  if (spot.jump) fit_span(r, p, need, 1);
  if (m->nfds == 0 && is_bulk(r, spot.at, m->size)) write_bulk(r, spot.at, m);
  else write_record(r, spot.at, m, attempt);
  if (spot.at + need > r->window) note_dirty(r, spot.at, spot.at + need);
  p->tail = side_of(spot.at + need, count_of(p->tail) + 1);
  p->s = spot.s;
  p->m = spot.m;
  p->in += m->size;
  return 1;
}

/* Wakes a pipe's sleeping receiver, which polls; as mpi_waitq_wake, and for the same reasons in this order. */
static void wake_poller (const struct mpi_ring *r, mpi_waitq *w, int fd, int as_record) {
  uint32_t seen = mpi_load(&w->sleepers);
  if (as_record) (void)mpi_carrier_send(fd, MPI_REC_SPACE, 0, 0, NULL, 0);
  else (void)mpi_bell_say(fd);
  (void)mpi_cas(&w->sleepers, &seen, seen & ~1u);
  (void)r;
}

static struct mpi_bell_fds bell_fds (const struct mpi_ring *r) {
  struct mpi_bell_fds fds = {r->bell_fd, r->bell_fd};
  return fds;
}

/* The tail's line is what a waiting getter looks at: a small message goes along in it, so that nothing else must travel. It also lies in the ring,
** which alone counts: a getter takes it from here only if it is the one that it wants, and is whole, as under a seqlock. */
ALWAYS_INLINE void write_express (const struct mpi_ring *r, uint32_t count, const struct mpi_msg *m) {
  struct mpi_ring_shared *s = r->s;
  uint64_t words[MPI_EXPRESS_MOST / 8];
  uint32_t size = (uint32_t)m->size, i;
  words[size > 0 ? (size - 1) / 8 : 0] = 0; /* nothing of our stack goes along */
  mpi_copy(words, m->data, size);
  mpi_store_relaxed(&s->express_head, 0);
  for (i = 0; i * 8 < size; i++) mpi_store_release(&s->express[i], words[i]); /* behind the 0 */
  mpi_store_release(&s->express_head, (uint64_t)count << 32 | MPI_EXPRESS | size); /* behind the words */
}

/* The message that ends at `tail`: 1 if it was there. */
ALWAYS_INLINE int take_express (const struct mpi_ring *r, uint64_t tail, struct mpi_sink *sink) {
  struct mpi_ring_shared *s = r->s;
  uint64_t words[MPI_EXPRESS_MOST / 8];
  uint64_t head = mpi_load_acquire(&s->express_head);
  uint32_t size = (uint32_t)(head & (MPI_EXPRESS - 1)), i;
  if (count_of(head) != count_of(tail) || !(head & MPI_EXPRESS) || size > MPI_EXPRESS_MOST || size > sink->room - sink->size) return 0;
  for (i = 0; i * 8 < size; i++) words[i] = mpi_load_acquire(&s->express[i]); /* before the second look at the head */
  if (mpi_load_relaxed(&s->express_head) != head) return 0; /* another is being written over it */
  mpi_copy(sink->data + sink->size, words, size);
  sink->size += size;
  return 1;
}

/* Tells those who sleep, then makes the messages visible; architecture 2. m: the last one, if it is small enough to go along with the tail. */
ALWAYS_INLINE void publish (const struct mpi_ring *r, const struct place *p, const struct mpi_msg *m) {
  struct mpi_ring_shared *s = r->s;
  mpi_store_relaxed(&s->bytes_in[count_of(p->tail) & 1], p->in);
  mpi_store_relaxed(&s->layout[count_of(p->tail) & 1], (uint64_t)p->m << 32 | p->s);
  MPI_POINT("ring.put.written");
  if (__builtin_expect(!r->polls, 1)) mpi_announce(&s->nonempty, 1);
  else if (mpi_load(&s->nonempty.sleepers) & 1) wake_poller(r, &s->nonempty, r->bell_fd, 0);
  mpi_bell_ring_if_armed(&s->bell, bell_fds(r));
  MPI_POINT("ring.put.announced");
  if (m != NULL) write_express(r, count_of(p->tail), m);
  else mpi_store_relaxed(&s->express_head, 0);
  MPI_POINT("ring.put.expressed");
  mpi_store_release(&s->tail, p->tail); /* orders the payload before it */
  MPI_POINT("ring.put.committed");
  mpi_store_relaxed(&s->put_tail, p->tail);
}

/* The latch of the putters. */
static int lock_put (const struct mpi_ring *r, int64_t deadline) {
  int rc = mpi_latch_lock(&r->s->put_latch, deadline);
  if (__builtin_expect(rc == MP_ABANDONED, 0)) mpi_store_relaxed(&r->s->put_tail, mpi_load(&r->s->tail));
  return rc;
}

/* The same on the way that must be had. */
static int enter_put (const struct mpi_ring *r, int64_t deadline) {
  int rc = mpi_gate_enter(&r->s->put_latch, deadline);
  if (rc == MP_ABANDONED) mpi_store_relaxed(&r->s->put_tail, mpi_load(&r->s->tail));
  return rc;
}

/* What belongs to p's tail and head; bytes_out lies in the getters' line, so `out` is for the caller to read, or to know. */
static void read_place (const struct mpi_ring *r, struct place *p) {
  struct mpi_ring_shared *s = r->s;
  uint64_t layout = mpi_load_relaxed(&s->layout[count_of(p->tail) & 1]);
  p->s = (uint32_t)layout;
  p->m = (uint32_t)(layout >> 32);
  p->in = mpi_load_relaxed(&s->bytes_in[count_of(p->tail) & 1]);
  p->taken = r->owned ? mpi_load_acquire(r->cursor) : p->head;
}

/* As many as fit now. Latch held. bytes_in has one slot for each parity of the count, so each store of the tail moves it by an odd number: an
** even batch goes in two. A message with descriptors goes alone. */
static int put_some (const struct mpi_ring *r, const struct mpi_msg *msgs, int n, int *done) {
  struct mpi_ring_shared *s = r->s;
  struct place p, previous;
  uint64_t published;
  int put = 0;
  int rc = 1;
  p.tail = mpi_load_relaxed(&s->put_tail);
  p.head = mpi_load_relaxed(&s->head_seen);
  p.out = mpi_load_relaxed(&s->bytes_seen);
  read_place(r, &p);
  published = p.tail;
  previous = p;
  while (put < n && rc == 1) {
    struct place before = p;
    int alone = msgs[put].nfds > 0;
    if (alone && before.tail != published) break; /* the batch so far first; the caller comes again */
    rc = append(r, &p, &msgs[put]);
    if (rc != 1) break;
    previous = before;
    put++;
    if (alone) break;
  }
  if (put > 0) {
    if (put % 2 == 0) publish(r, &previous, NULL);
    publish(r, &p, NULL);
  }
  *done += put;
  if (rc < 0) return rc;
  return rc == 0 ? 1 : 0;
}

/* The short way of small messages that go behind the last one, within the least window: nothing turns, grows or needs the getters' real position.
** Where the putters have turned, the head as last seen is the bound: getters only go on from there. How many are in; put_some looks at the
** next. Latch held. */
ALWAYS_INLINE int put_quick (const struct mpi_ring *r, const struct mpi_msg *msgs, int n) {
  struct mpi_ring_shared *s = r->s;
  struct place p = {0}, previous = {0};
  uint64_t seen = mpi_load_relaxed(&s->bytes_seen);
  uint64_t layout, head = mpi_load_relaxed(&s->head_seen);
  uint32_t t, room, end = r->window;
  int put = 0;
  p.tail = mpi_load_relaxed(&s->put_tail);
  layout = mpi_load_relaxed(&s->layout[count_of(p.tail) & 1]);
  if (r->owned || layout > UINT32_MAX) return 0; /* jumped over what was live: put_some knows */
  p.s = (uint32_t)layout;
  if (p.s != 0 && pos_of(head) <= end) end = pos_of(head) > 0 ? pos_of(head) - 1 : 0;
  p.in = mpi_load_relaxed(&s->bytes_in[count_of(p.tail) & 1]);
  t = pos_of(p.tail);
  room = r->maxsize == 0 ? UINT32_MAX : r->maxsize + count_of(head) - count_of(p.tail);
  if (room > r->maxsize && r->maxsize != 0) return 0; /* impossible numbers */
  while (put < n) {
    const struct mpi_msg *m = &msgs[put];
    uint64_t need = units_for(r, m->size, 0);
    if (m->size > WINDOW_BYTES / WINDOW_MESSAGES || m->nfds > 0 || t + need > end) break; /* so it is inside, whatever a peer wrote */
    if (room-- == 0 || p.in + m->size - seen > r->maxbytes) break;
    previous = p;
    write_record(r, t, m, 0);
    t += (uint32_t)need;
    p.tail = side_of(t, count_of(p.tail) + 1);
    p.in += m->size;
    put++;
  }
  if (put > 0 && put % 2 == 0) publish(r, &previous, NULL); /* as in put_some */
  if (put > 0) publish(r, &p, put == 1 && msgs->size <= MPI_EXPRESS_MOST ? msgs : NULL);
  mpi_prefetch_write(address(r, t + AHEAD));
  return put;
}

struct fit_query {
  struct mpi_ring *r;
  size_t size;
  uint32_t need;
};

static int can_put (void *ud) {
  const struct fit_query *q = ud;
  const struct mpi_ring_shared *s = q->r->s;
  struct place p;
  struct spot spot;
  if (mpi_load(&s->closed) != 0) return 1;
  p.tail = mpi_load(&s->tail);
  p.head = mpi_load(&s->head);
  p.out = bytes_out(q->r, p.head);
  read_place(q->r, &p);
  return fits(q->r, &p, q->size, q->need, &spot);
}

/* One sleep on descriptors: 0 (look at revents, look again), MP_EINTR, MP_ETIMEDOUT (look at revents once more: a peer may make a descriptor readable for
** ever). */
static int sleep_in_poll (struct pollfd *p, nfds_t n, int64_t deadline, int *slice) {
  int rc = mpi_sleep_in_poll(p, n, deadline, slice);
  if (rc <= 0) return rc;
  return deadline != MP_NEVER && mp_now() >= deadline ? MP_ETIMEDOUT : 0;
}

/* A pipe's sender that waits for room polls its end of the carrier: getters send SPACE, and the end of all getters is a hang-up. */
static int wait_space_polling (struct mpi_ring *r, struct fit_query *q, int64_t deadline) {
  struct mpi_ring_shared *s = r->s;
  int slice = 0;
  int rc = mpi_turnstile_enter(&s->put_turnstile, deadline);
  if (rc != 0) return rc;
  for (;;) {
    struct pollfd p = {r->send_fd, POLLIN, 0};
    (void)mpi_fetch_add(&s->space.sleepers, 2);
    (void)mpi_fetch_or(&s->space.sleepers, 1);
    rc = mpi_latch_pass(&s->get_latch, deadline);
    if (rc == 0) rc = mpi_latch_pass(&s->put_latch, deadline);
    if (rc != 0 || can_put(q)) break;
    rc = sleep_in_poll(&p, 1, deadline, &slice);
    if (p.revents & (POLLHUP | POLLERR)) {
      rc = MP_ECLOSED;
      break;
    }
    if (p.revents & POLLIN) mpi_carrier_drop_all(r->send_fd);
    if (rc != 0) break;
  }
  mpi_latch_unlock(&s->put_turnstile);
  return rc;
}

int mpi_ring_spin (struct mpi_ring *r, int *credit, int (*ready) (void *ud), void *ud) {
  (void)r;
  return mpi_spin_until(credit, 2, ready, ud);
}

static int wait_space (struct mpi_ring *r, const struct mpi_msg *m, int64_t deadline) {
  struct mpi_ring_shared *s = r->s;
  struct fit_query q = {r, m->size, (uint32_t)units_for(r, m->size, m->nfds)};
  if (deadline == 0) return can_put(&q) ? 0 : MP_ETIMEDOUT;
  if (mpi_ring_spin(r, &r->put_credit, can_put, &q)) return 0;
  if (r->polls) return wait_space_polling(r, &q, deadline);
  return mpi_waitq_wait2(&s->nonfull, &s->get_latch, &s->put_latch, &s->put_turnstile, can_put, &q, deadline);
}

/* The socket takes no more descriptors: back-pressure. Records leave as messages are got; too many in flight for the user is rarer, so the
** naps are short. */
static int wait_carrier (const struct mpi_ring *r, int64_t deadline) {
  int64_t now = mp_now();
  int64_t nap = now + 10 * MPI_NS_PER_MS;
  int slice = 0;
  struct pollfd p = {r->send_fd, POLLOUT, 0};
  int rc;
  if (now >= deadline) return MP_ETIMEDOUT;
  rc = sleep_in_poll(&p, 1, nap < deadline ? nap : deadline, &slice);
  if (p.revents & POLLHUP) return MP_ECLOSED;
  return rc == MP_ETIMEDOUT && nap < deadline ? 0 : rc;
}

/* Is a reader of the pipe left? The kernel knows, so asking costs a system call: once a tick of the coarse clock (a few ms), and whenever there
** is reason to think that somebody has gone. */
static int reader_gone (struct mpi_ring *r, int now) {
  struct timespec ts;
  int64_t tick;
  uint32_t leavers = mpi_load(&r->s->leavers);
  unsigned deaths = atomic_load(&mpi_deaths);
  (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
  tick = (int64_t)ts.tv_sec * MPI_NS_PER_S + ts.tv_nsec;
  if (!now && tick == r->peer_checked && leavers == r->peer_leavers && deaths == r->peer_deaths) return 0;
  r->peer_checked = tick;
  r->peer_leavers = leavers;
  r->peer_deaths = deaths;
  if (!mpi_carrier_hung_up(r->send_fd)) return 0;
  r->peer_checked = 0; /* no tick: what is said once is said to every call */
  return 1;
}

/* A peer that flips words for ever could keep us going in circles: past some turns, which it can make last 0.2 s each, the deadline holds all the same. */
static int late (int *turns, int64_t deadline) {
  return ++*turns > 4 && deadline != MP_NEVER && mp_now() >= deadline;
}

/* ---- lingering: at the last look there was nothing to get, or no room; base/linger.h ---- */

#define GATHERS 32u /* a smaller queue is full, or empty, before that has gathered */

static uint32_t known_messages (const struct mpi_ring *r) {
  const struct mpi_ring_shared *s = r->s;
  return count_of(mpi_load_relaxed(&s->tail_seen)) - count_of(mpi_load_relaxed(&s->head));
}

static uint32_t known_room (const struct mpi_ring *r) {
  const struct mpi_ring_shared *s = r->s;
  uint32_t inside = count_of(mpi_load_relaxed(&s->put_tail)) - count_of(mpi_load_relaxed(&s->head_seen));
  return r->maxsize > inside ? r->maxsize - inside : 0;
}

int mpi_ring_put (struct mpi_ring *r, const struct mpi_msg *msgs, int n, int *done, int64_t deadline) {
  struct mpi_ring_shared *s = r->s;
  int i, rc, turns = 0;
  *done = 0;
  for (i = 0; i < n; i++)
    if (msgs[i].size > size_limit(r))
      return mpi_fail(MP_E2BIG, "a message of %zu bytes is larger than the limit of %llu", msgs[i].size, (unsigned long long)size_limit(r));
  if (r->polls && reader_gone(r, 0)) return MP_ECLOSED;
  for (;;) {
    int inherited, before = *done;
    int looks = r->maxsize >= GATHERS && !r->owned && known_room(r) == 0;
    if (looks) mpi_linger(&r->put_linger);
    rc = lock_put(r, deadline);
    if (rc < 0) return rc;
    inherited = rc == MP_ABANDONED;
    if (mpi_load(&s->closed) != 0) rc = MP_ECLOSED;
    else if ((i = n == 1 ? put_quick(r, msgs, 1) : put_quick(r, msgs + *done, n - *done)) > 0) rc = 0, *done += i;
    else rc = put_some(r, msgs + *done, n - *done, done);
    if (looks) mpi_linger_learn(&r->put_linger, known_room(r) + (uint32_t)(*done - before));
    mpi_latch_unlock(&s->put_latch);
    if (inherited) mpi_ring_tidy(r);
    if (rc == 0) {
      if (*done == n) return 0;
      continue;
    }
    if (rc == 1) {
      if (r->polls && reader_gone(r, 1)) return MP_ECLOSED;
      rc = wait_space(r, &msgs[*done], deadline);
    } else if (rc == MP_EFULL) {
      rc = wait_carrier(r, deadline);
    }
    if (rc != 0) return rc;
    if (late(&turns, deadline)) return MP_ETIMEDOUT;
  }
}

/* ---- getting ---- */

static int has_message (const struct mpi_ring *r) {
  return count_of(mpi_load(&r->s->tail)) != count_of(mpi_load(r->owned ? r->cursor : &r->s->head));
}

static int can_get (void *ud) {
  const struct mpi_ring *r = ud;
  return has_message(r) || mpi_load(&r->s->closed) != 0;
}

static void punch (const struct mpi_ring *r, uint32_t from, uint32_t to) {
  if (to > from) mpi_seg_punch(r->seg, r->data_offset + (size_t)from * MPI_RING_UNIT, (size_t)(to - from) * MPI_RING_UNIT);
}

/* Gives pages back that neither live messages nor the warm window use; only when what is live is in one piece, which it soon is. No latch held. */
static void reclaim (struct mpi_ring *r) {
  struct mpi_ring_shared *s = r->s;
  struct place p;
  uint32_t h, t, lo, hi, window;
  if (lock_put(r, 0) < 0) return;
  p.tail = mpi_load(&s->tail);
  p.head = mpi_load(&s->head);
  p.out = bytes_out(r, p.head);
  read_place(r, &p);
  settle_layout(&p);
  h = pos_of(p.head);
  t = pos_of(p.tail);
  if (p.head == p.tail) mpi_store_relaxed(&s->span, 0);
  window = window_of(r);
  lo = mpi_load_relaxed(&s->dirty_lo);
  hi = mpi_load_relaxed(&s->dirty_hi);
  if (p.s == 0 && h <= t && t < r->units && hi > lo && hi <= r->units) {
    uint32_t from = lo > window ? lo : window;
    punch(r, from, h < hi ? h : hi);
    punch(r, t + 1 > from ? t + 1 : from, hi);
    if (h != t) { /* what is live, and what the window covers until it shrinks */
      mpi_store_relaxed(&s->dirty_lo, h > window ? h : lo);
      mpi_store_relaxed(&s->dirty_hi, t + 1 > window ? t + 1 : hi < window ? hi : window);
    } else {
      mpi_store_relaxed(&s->dirty_hi, lo < window ? (hi < window ? hi : window) : 0);
    }
  }
  mpi_latch_unlock(&s->put_latch);
}

struct batch { /* the getters' view while they hold get_latch */
  uint64_t head;
  uint64_t tail;
  uint64_t out;
};

static void refresh_tail (const struct mpi_ring *r, struct batch *b) {
  b->tail = mpi_load_acquire(&r->s->tail);
  mpi_store_relaxed(&r->s->tail_seen, b->tail);
}

/* Copies the next message to the sink and moves b->head. 1 taken, 0 none there, or negative. `attempt`: of its descriptors, 0 if none. */
static int take (struct mpi_ring *r, struct batch *b, struct mpi_sink *sink, int first, uint32_t *attempt) {
  int skips = 0;
  for (;;) {
    uint32_t off = pos_of(b->head);
    const char *at = address(r, off);
    struct header h;
    uint64_t need, a;
    int rc;
    if (count_of(b->tail) == count_of(b->head)) return 0;
    if (off >= r->units) return mpi_fail(MP_ECORRUPT, "a ring's position is impossible");
    read_header(r, off, &h);
    if (h.flags & SKIP) {
      if (h.size >= r->units || ++skips > SKIPS_MOST) return mpi_fail(MP_ECORRUPT, "a ring's skip is impossible");
      b->head = side_of(h.size, count_of(b->head));
      continue;
    }
    need = units_for(r, h.size, (h.flags & FDS) ? 1 : 0);
    if (need > r->units - off) return mpi_fail(MP_ECORRUPT, "a message's length is impossible");
    if (h.size > sink->room - sink->size) {
      if (!first) return 0; /* just the batch is full */
      if (!believable(r, h.size)) return mpi_fail(MP_ECORRUPT, "a message's length is impossible");
      sink->size = h.size;
      return MP_E2BIG;
    }
    at += sizeof h;
    if (h.flags & FDS) {
      if (!first) return 0; /* goes alone */
      memcpy(&a, at, sizeof a);
      at += sizeof a;
      rc = mpi_carrier_find(r->recv_fd, count_of(b->head) + 1, (uint32_t)a, sink->fds, &sink->nfds);
      if (rc != 0) {
        if (rc == MP_ECORRUPT) b->head = side_of(off + (uint32_t)need, count_of(b->head) + 1);
        return rc;
      }
      *attempt = (uint32_t)a;
    }
    r->bulk = h.size >= BULK;
    if (!(h.flags & FDS) && is_bulk(r, off, h.size)) read_bulk(r, off, sink->data + sink->size, h.size);
    else mpi_copy(sink->data + sink->size, at, h.size);
    if (sink->accept != NULL && !sink->accept(sink->accept_ud, sink->data + sink->size, h.size < 8 ? h.size : 8)) {
      while (sink->nfds > 0) (void)close(sink->fds[--sink->nfds]);
      return mpi_fail(MP_ERANGE, "the next message is not of the kind that was asked for");
    }
    sink->size += h.size;
    b->out += h.size;
    b->head = side_of(off + (uint32_t)need, count_of(b->head) + 1);
    return 1;
  }
}

void mpi_ring_commit_head (const struct mpi_ring *r, uint64_t head, uint64_t out) {
  struct mpi_ring_shared *s = r->s;
  mpi_store_relaxed(&s->bytes_out[count_of(head) & 1], out);
  MPI_POINT("ring.get.copied");
  mpi_announce(&s->nonfull, 1);
  if (__builtin_expect(r->polls, 0) && (mpi_load(&s->space.sleepers) & 1)) wake_poller(r, &s->space, r->recv_fd, 1);
  MPI_POINT("ring.get.announced");
  mpi_store_release(&s->head, head); /* the payload was read before */
  MPI_POINT("ring.get.committed");
}

static int get_some (struct mpi_ring *r, struct mpi_sink *sink, int max, int *got) {
  struct mpi_ring_shared *s = r->s;
  struct batch b, previous;
  uint32_t attempt = 0;
  uint64_t start;
  int rc = 0;
  if (mpi_load(&s->closed) == 2) return 0;
  b.head = mpi_load_relaxed(&s->head);
  b.tail = mpi_load_relaxed(&s->tail_seen);
  b.out = mpi_load_relaxed(&s->bytes_out[count_of(b.head) & 1]);
  start = b.head;
  if (count_of(b.tail) == count_of(b.head)) refresh_tail(r, &b);
  previous = b;
  while (*got < max && attempt == 0) {
    struct batch before = b;
    rc = take(r, &b, sink, *got == 0, &attempt);
    if (rc == 0 && count_of(b.tail) == count_of(b.head)) { /* empty as far as we knew: look again, once */
      refresh_tail(r, &b);
      rc = take(r, &b, sink, *got == 0, &attempt);
    }
    if (rc != 1) break;
    previous = before;
    if (sink->ends != NULL) sink->ends[*got] = sink->size;
    (*got)++;
  }
  if (b.head != start) { /* as in put_some: an odd number of messages a store */
    if (*got > 0 && *got % 2 == 0) {
      mpi_ring_commit_head(r, previous.head, previous.out);
    }
    mpi_ring_commit_head(r, b.head, b.out);
    if (attempt != 0) mpi_carrier_drop_first(r->recv_fd);
  }
  return rc < 0 && *got == 0 ? rc : 0;
}

/* The short way of plain messages; as put_quick. How many were got; get_some looks at the next if there is none. Latch held. */
ALWAYS_INLINE int get_quick (const struct mpi_ring *r, struct mpi_sink *sink, int max) {
  struct mpi_ring_shared *s = r->s;
  struct batch b, previous;
  int got = 0, skips = 0, again = 1;
  if (r->owned || sink->accept != NULL || mpi_load(&s->closed) == 2) return 0;
  b.head = mpi_load_relaxed(&s->head);
  b.tail = mpi_load_relaxed(&s->tail_seen);
  b.out = mpi_load_relaxed(&s->bytes_out[count_of(b.head) & 1]);
  previous = b;
  while (got < max) {
    uint32_t off = pos_of(b.head);
    struct header h;
    const char *at;
    uint64_t need;
    if (count_of(b.tail) == count_of(b.head)) { /* as far as we knew */
      if (!again) break;
      again = 0;
      refresh_tail(r, &b);
      if (got == 0 && count_of(b.tail) - count_of(b.head) == 1 && take_express(r, b.tail, sink)) {
        b.out += sink->size;
        b.head = b.tail;
        if (sink->ends != NULL) sink->ends[0] = sink->size;
        got = 1;
        break;
      }
      continue;
    }
    if (off >= r->units || r->bulk) break;
    at = address(r, off);
    memcpy(&h, at, sizeof h);
    __asm__ __volatile__("" ::: "memory"); /* as in take */
    if (h.flags & SKIP) {
      if (h.size >= r->units || ++skips > SKIPS_MOST) break;
      b.head = side_of(h.size, count_of(b.head));
      continue;
    }
    need = units_for(r, h.size, 0);
    if (h.flags != 0 || h.size >= BULK || h.size > sink->room - sink->size || need > r->units - off) break;
    skips = 0;
    at += sizeof h;
    mpi_copy(sink->data + sink->size, at, h.size);
    sink->size += h.size;
    if (sink->ends != NULL) sink->ends[got] = sink->size;
    previous = b;
    b.out += h.size;
    b.head = side_of(off + (uint32_t)need, count_of(b.head) + 1);
    got++;
  }
  if (got == 0) return 0;
  if (count_of(b.tail) - count_of(b.head) > AHEAD) __builtin_prefetch(address(r, pos_of(b.head) + AHEAD)); /* written already */
  if (got % 2 == 0) mpi_ring_commit_head(r, previous.head, previous.out);
  mpi_ring_commit_head(r, b.head, b.out);
  return got;
}

/* Puts the bell right: what is not armed is only the receivers' alarm clock, and is emptied. */
void mpi_ring_settle_bell (struct mpi_ring *r, int only_if_quiet) {
  struct mpi_ring_shared *s = r->s;
  int ready;
  if (lock_put(r, 0) < 0) return;
  ready = can_get(r);
  if (mpi_load(&s->bell.word) & MPI_BELL_ARMED) {
    if (!ready) mpi_bell_silence(&s->bell, bell_fds(r));
    if (!only_if_quiet) mpi_bell_settle(&s->bell, bell_fds(r), ready);
  } else if (r->polls) {
    (void)mpi_bell_take(r->bell_fd);
  }
  mpi_latch_unlock(&s->put_latch);
}

static int wait_message_polling (struct mpi_ring *r, int64_t deadline) {
  struct mpi_ring_shared *s = r->s;
  int slice = 0;
  int woken = 0;
  int rc = mpi_turnstile_enter(&s->get_turnstile, deadline);
  if (rc != 0) return rc;
  while (!woken) {
    struct pollfd p[2] = {{r->bell_fd, POLLIN, 0}, {r->recv_fd, 0, 0}};
    (void)mpi_fetch_add(&s->nonempty.sleepers, 2);
    (void)mpi_fetch_or(&s->nonempty.sleepers, 1);
    rc = mpi_latch_pass(&s->put_latch, deadline);
    if (rc != 0 || can_get(r)) break;
    rc = sleep_in_poll(p, 2, deadline, &slice);
    woken = p[0].revents != 0; /* the latch is not ours to take inside the turnstile */
    if (can_get(r)) break;
    if (p[1].revents & (POLLHUP | POLLERR)) {
      rc = can_get(r) ? 0 : MP_EEOF;
      break;
    }
    if (rc != 0) break;
  }
  mpi_latch_unlock(&s->get_turnstile);
  if (woken) mpi_ring_settle_bell(r, 0);
  return rc;
}

static int wait_message (struct mpi_ring *r, int64_t deadline) {
  struct mpi_ring_shared *s = r->s;
  if (deadline <= 0) {
    if (can_get(r)) return 0;
    if (deadline != MPI_LOOK && r->polls && mpi_carrier_hung_up(r->recv_fd)) return can_get(r) ? 0 : MP_EEOF;
    return MP_ETIMEDOUT;
  }
  if (mpi_ring_spin(r, &r->get_credit, can_get, r)) return 0;
  if (r->polls) return wait_message_polling(r, deadline);
  return mpi_waitq_wait(&s->nonempty, &s->put_latch, &s->get_turnstile, can_get, r, deadline);
}

/* The backlog that the span was for is gone. */
static int drained (const struct mpi_ring *r) {
  return known_messages(r) == 0 && mpi_load_relaxed(&r->s->span) != 0 && mpi_load_relaxed(&r->s->tail) == mpi_load_relaxed(&r->s->head);
}

/* Time to look for memory to give back: the head has left the window and gone on far enough, or the ring is empty as far as we know. The tail itself is not
** looked at: that is for who has nothing left to get. */
static int reclaim_due (const struct mpi_ring *r) {
  struct mpi_ring_shared *s = r->s;
  uint32_t pos, gone;
  if (mpi_load_relaxed(&s->dirty_hi) <= mpi_load_relaxed(&s->dirty_lo)) return 0;
  pos = pos_of(mpi_load_relaxed(&s->head));
  gone = pos - mpi_load_relaxed(&s->reclaim_mark);
  if (gone < RECLAIM_BYTES / MPI_RING_UNIT && (known_messages(r) != 0 || gone < 4096 / MPI_RING_UNIT) && !drained(r)) return 0;
  mpi_store_relaxed(&s->reclaim_mark, pos);
  return 1;
}

int mpi_ring_get (struct mpi_ring *r, struct mpi_sink *sink, int max, int *got, int64_t deadline) {
  struct mpi_ring_shared *s = r->s;
  int rc, turns = 0;
  *got = 0;
  for (;;) {
    uint32_t closed = mpi_load(&s->closed); /* before the look: what was put before a close is drained */
    int looks = known_messages(r) == 0 && (r->maxsize == 0 || r->maxsize >= GATHERS); /* as far as we know there is nothing: the tail must be looked at */
    sink->size = 0;
    sink->nfds = 0;
    if (looks) mpi_linger(&r->get_linger);
    rc = mpi_latch_lock(&s->get_latch, deadline);
    if (rc < 0) return rc;
    if (rc == MP_ABANDONED && r->recv_fd >= 0) mpi_carrier_drop_stale(r->recv_fd, count_of(mpi_load(&s->head)));
    *got = max == 1 ? get_quick(r, sink, 1) : get_quick(r, sink, max);
    rc = *got > 0 ? 0 : get_some(r, sink, max, got);
    if (looks) mpi_linger_learn(&r->get_linger, known_messages(r) + (uint32_t)*got);
    mpi_latch_unlock(&s->get_latch);
    if (*got > 0) {
      if (__builtin_expect(mpi_bell_rings(&s->bell), 0) && !can_get(r)) mpi_ring_settle_bell(r, 1);
      if (__builtin_expect(reclaim_due(r), 0)) reclaim(r);
      return 0;
    }
    if (rc != 0) return rc;
    if (closed != 0) return MP_ECLOSED;
    rc = wait_message(r, deadline);
    if (rc != 0) return rc;
    if (late(&turns, deadline)) return MP_ETIMEDOUT;
  }
}

/* ---- looking, closing, settling ---- */

int mpi_ring_await (struct mpi_ring *r, int64_t deadline) {
  int turns = 0;
  for (;;) {
    int rc;
    if (can_get(r)) return 0;
    rc = wait_message(r, deadline);
    if (rc != 0) return rc;
    if (late(&turns, deadline)) return MP_ETIMEDOUT;
  }
}

uint32_t mpi_ring_size (const struct mpi_ring *r) {
  struct mpi_ring_shared *s = r->s;
  int tries = 0;
  for (;;) { /* both sides as of one moment */
    uint64_t head = mpi_load(&s->head);
    uint64_t tail = mpi_load(&s->tail);
    if (mpi_load(&s->head) == head || ++tries > 1000) return mpi_load(&s->closed) == 2 ? 0 : count_of(tail) - count_of(head);
  }
}

int mpi_ring_full (const struct mpi_ring *r) {
  if (r->maxsize != 0) return mpi_ring_size(r) >= r->maxsize;
  {
    uint64_t head = mpi_load(&r->s->head);
    uint64_t tail = mpi_load(&r->s->tail);
    return mpi_load(&r->s->bytes_in[count_of(tail) & 1]) - bytes_out(r, head) >= r->maxbytes;
  }
}

int mpi_ring_ready (struct mpi_ring *r) {
  if (can_get(r)) return 1;
  if (r->polls && mpi_carrier_hung_up(r->recv_fd)) return 1;
  return 0;
}

int mpi_ring_close (struct mpi_ring *r, int drop) {
  struct mpi_ring_shared *s = r->s;
  uint32_t want = drop ? 2 : 1;
  int rc = enter_put(r, MP_NEVER);
  if (rc < 0) return rc;
  if (mpi_load(&s->closed) < want) {
    mpi_announce(&s->nonempty, INT_MAX);
    mpi_announce(&s->nonfull, INT_MAX);
    mpi_announce(&s->joiners, INT_MAX);
    mpi_bell_ring_if_armed(&s->bell, bell_fds(r));
    MPI_POINT("ring.close.announced");
    mpi_store(&s->closed, want);
    MPI_POINT("ring.close.committed");
  }
  mpi_latch_unlock(&s->put_latch);
  if (drop) { /* descriptors in flight and memory go at once */
    rc = mpi_gate_enter(&s->get_latch, MP_NEVER);
    if (rc < 0) return rc;
    if (!r->owned) mpi_carrier_drop_attempts(r->recv_fd, s->attempt);
    if (!r->owned) mpi_seg_punch(r->seg, r->data_offset, (size_t)r->units * MPI_RING_UNIT);
    mpi_latch_unlock(&s->get_latch);
  }
  return 0;
}

static int all_done (void *ud) {
  const struct mpi_ring *r = ud;
  return mpi_load(&r->s->closed) == 2 || count_of(mpi_load(&r->s->tail)) == mpi_load(&r->s->done);
}

int mpi_ring_task_done (struct mpi_ring *r) {
  struct mpi_ring_shared *s = r->s;
  uint32_t done;
  int rc = mpi_gate_enter(&s->done_latch, MP_NEVER);
  if (rc < 0) return rc;
  done = mpi_load_relaxed(&s->done);
  if (done == count_of(mpi_load(&s->head))) {
    rc = mpi_fail(MP_EMISUSE, "called more often than items were got");
  } else {
    rc = 0;
    if (done + 1 == count_of(mpi_load(&s->tail))) mpi_announce(&s->joiners, INT_MAX);
    MPI_POINT("ring.task_done.announced");
    mpi_store(&s->done, done + 1);
  }
  mpi_latch_unlock(&s->done_latch);
  return rc;
}

int mpi_ring_join (struct mpi_ring *r, int64_t deadline) {
  struct mpi_ring_shared *s = r->s;
  int turns = 0;
  if (all_done(r)) return 0;
  if (deadline == 0) return MP_ETIMEDOUT;
  for (;;) {
    int rc = mpi_waitq_wait2(&s->joiners, &s->done_latch, &s->put_latch, NULL, all_done, r, deadline);
    if (rc != 0) return rc;
    if (all_done(r)) return 0;
    if (late(&turns, deadline)) return MP_ETIMEDOUT;
  }
}

static int begin_bell (struct mpi_ring *r, void (*begin) (mpi_bell *b, struct mpi_bell_fds fds, int ready)) {
  struct mpi_ring_shared *s = r->s;
  int rc = enter_put(r, mp_now() + MPI_GATE_PARTING);
  if (rc == MP_ETIMEDOUT) return mpi_fail(MP_ECORRUPT, "a peer has been inside the object for long");
  if (rc < 0) return rc;
  begin(&s->bell, bell_fds(r), can_get(r));
  mpi_latch_unlock(&s->put_latch);
  return 0;
}

int mpi_ring_arm (struct mpi_ring *r) {
  return begin_bell(r, mpi_bell_arm);
}

int mpi_ring_watch (struct mpi_ring *r) {
  return begin_bell(r, mpi_bell_watch);
}

void mpi_ring_unwatch (struct mpi_ring *r) {
  if (lock_put(r, 0) < 0) return;
  mpi_bell_unwatch(&r->s->bell, bell_fds(r), can_get(r));
  mpi_latch_unlock(&r->s->put_latch);
}

void mpi_ring_tidy (struct mpi_ring *r) {
  struct mpi_ring_shared *s = r->s;
  uint32_t attempt;
  mpi_ring_settle_bell(r, 0);
  if (r->recv_fd < 0 || mpi_latch_lock(&s->get_latch, 0) < 0) return;
  attempt = s->attempt;
  if (mpi_latch_pass(&s->put_latch, 0) == 0 && !has_message(r)) mpi_carrier_drop_attempts(r->recv_fd, attempt);
  mpi_latch_unlock(&s->get_latch);
}
