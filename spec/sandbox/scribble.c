/* scribble.c -- a Lua module that stands for native code of a hostile peer: it overwrites the memory of a shared object, as fast as it can, and
** puts junk into the sockets beside it. Only for the specs and spec/stress/hostile.lua.
**   segments() -> list of { fd, type, size, cookie } of the shared objects in this process
**   descriptors() -> { [fd] = true }, how many
**   mark(fd, cookie)            writes a number into a segment's header, where nobody else looks, so that another process can find it
**   target{ fd = n, fds = {..}, tids = {..}, owner = pid, counters = fd }   what to scribble over; junk goes into fds; tids, and those of the owner's
**                               threads, are forged; counters: an mp.Array of type 'q' that counts what was done, by kind
**   burst(seed, microseconds, kinds)   in this thread
**   thread(seed, kinds)         in a thread of its own, until the process ends
**   spoil(fd)                   tries to change the file itself
**   poke(fd, offset, bytes)  peek(fd, offset, n)    one change at a time
**   flip(fd, offset, a, b, size, microseconds)      one word between two values
** `kinds` is a mask; names are in `kinds`.
*/
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <linux/futex.h>
#include <lua.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u
#define COOKIE_AT 24u /* in the header: the first reserved word */
#define IMAGE_PAGES 96
#define HOT 1024u /* bytes of page 0 that matter, beside its end */
#define MOST 8

enum { BYTES, WORDS, WIDE, NEAR, FLIP, BODY, COPY, FUTEX, PUNCH, JUNK, ZERO, ONES, ODD, TIDS, SWAP, RECORD, KINDS };
static const char *const names[KINDS] = {"bytes", "words", "wide", "near", "flip", "body", "copy", "futex",
                                         "punch", "junk",  "zero", "ones", "odd",  "tids", "swap", "record"};

struct segment {
  uint64_t magic;
  uint16_t layout, type;
  uint32_t flags;
  uint64_t size, cookie;
};

static struct target {
  char *base;
  size_t size;
  int fd;
  size_t npages;
  uint64_t page[IMAGE_PAGES];
  char *image; /* as it was when last looked at */
  char *fresh; /* page 0 as it was at first */
} targets[MOST];
static int ntargets;
static int junk[16], njunk;
static uint32_t tids[64];
static unsigned ntids, given_tids;
static int owner_pid;
static volatile int64_t *counters;

/* ---- chance ---- */

struct chance {
  uint64_t s;
};

static uint64_t any (struct chance *c) {
  c->s ^= c->s << 13;
  c->s ^= c->s >> 7;
  c->s ^= c->s << 17;
  return c->s * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t below (struct chance *c, uint64_t n) {
  return n == 0 ? 0 : (any(c) >> 11) % n;
}

static uint64_t chosen (struct chance *c, size_t size) {
  static const uint64_t list[] = {0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 63, 64, 255, 256, 4095, 4096, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe,
                                  0xffffffff, 0x100000000, 0x100000001, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff,
                                  0xfffffffffffffff0, 0x40000000, 0xc0000000, 0x3fffffff, 0x51, 0x52, 0x53, 65536, 0x10000000, 0xffffffff00000000};
  switch (below(c, 8)) {
    case 0: return any(c);
    case 1: return ntids > 0 ? tids[below(c, ntids)] | (below(c, 3) << 30) : 0;
    case 2: return below(c, size) & ~UINT64_C(15);
    case 3: return below(c, size);
    case 4: return (below(c, 4096) << 32) | below(c, 65536);
    default: return list[below(c, sizeof list / sizeof list[0])];
  }
}

static int64_t now_ns (void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* ---- the memory ---- */

static struct segment *map_head (int fd) {
  struct segment *h;
  off_t at = lseek(fd, 0, SEEK_CUR), end = at < 0 ? -1 : lseek(fd, 0, SEEK_END); /* fstat is refused to the confined */
  if (end < 0) return NULL;
  (void)lseek(fd, at, SEEK_SET);
  if (end < (off_t)PAGE) return NULL;
  h = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (h == MAP_FAILED) return NULL;
  if (h->magic == UINT64_C(0x31535047504d5f5f)) return h;
  (void)munmap(h, PAGE);
  return NULL;
}

/* Which pages exist: those are looked at. Page 0 first. */
static void look (struct target *t) {
  off_t at = 0;
  t->npages = 0;
  while (t->npages < IMAGE_PAGES) {
    off_t end;
    at = lseek(t->fd, at, SEEK_DATA);
    if (at < 0) break;
    end = lseek(t->fd, at, SEEK_HOLE);
    if (end < 0) break;
    for (; at < end && t->npages < IMAGE_PAGES; at += PAGE) t->page[t->npages++] = (uint64_t)at / PAGE;
  }
  if (t->npages == 0) t->page[t->npages++] = 0;
}

/* The owner's threads of today. */
static void look_for_tids (void) {
  char path[64];
  DIR *d;
  struct dirent *e;
  (void)snprintf(path, sizeof path, "/proc/%d/task", owner_pid);
  d = owner_pid > 0 ? opendir(path) : NULL;
  if (d == NULL) return;
  ntids = given_tids;
  while ((e = readdir(d)) != NULL && ntids < 64)
    if (e->d_name[0] != '.') tids[ntids++] = (uint32_t)strtoul(e->d_name, NULL, 10);
  (void)closedir(d);
}

static int is_tid (uint32_t v) {
  unsigned i;
  for (i = 0; i < ntids; i++)
    if ((v & 0x3fffffff) == tids[i]) return 1;
  return 0;
}

/* Locks that are held at this moment are free in the picture: restored later, they would be held by nobody, which is worth trying, but not often. */
static void take_image (struct target *t, struct chance *c) {
  size_t i, k;
  int release = below(c, 8) != 0;
  look(t);
  for (i = 0; i < t->npages; i++) {
    uint32_t *w = (uint32_t *)(void *)(t->image + i * PAGE);
    memcpy(w, t->base + t->page[i] * PAGE, PAGE);
    if (!release) continue;
    for (k = i == 0 ? 16 : PAGE / 4 - 8; k < PAGE / 4; k++)
      if (is_tid(w[k])) w[k] = 0;
  }
  if (t->fresh == NULL) {
    t->fresh = malloc(PAGE);
    if (t->fresh != NULL) memcpy(t->fresh, t->image, PAGE);
  }
}

static void wake (const struct target *t, size_t at) {
  (void)syscall(SYS_futex, t->base + at, FUTEX_WAKE, 1000, NULL, NULL, 0);
}

static void restore (const struct target *t, struct chance *c) {
  size_t i;
  for (i = 0; i < t->npages; i++) memcpy(t->base + t->page[i] * PAGE, t->image + i * PAGE, PAGE);
  if (t->fresh != NULL && below(c, 2) == 0) memcpy(t->base, t->fresh, PAGE);
  if (below(c, 4) == 0) return;
  /* who sleeps on what was never so looks again, or little would happen in between */
  for (i = 0; i < t->npages; i++) {
    wake(t, t->page[i] * PAGE + PAGE - 32);
    wake(t, t->page[i] * PAGE + PAGE - 16);
  }
  for (i = 64; i < 512; i += 4) wake(t, i);
}

/* A place that somebody is likely to read. */
static size_t place (struct target *t, struct chance *c, size_t size, int body) {
  size_t at;
  if (body && t->npages > 1) {
    size_t p = 1 + below(c, t->npages - 1);
    /* structures stand at the beginning of their area more often than not */
    at = t->page[p] * PAGE + (below(c, 2) ? below(c, 256) : below(c, PAGE));
  } else if (below(c, 4) == 0) {
    at = PAGE - 32 + below(c, 32); /* lock words */
  } else {
    at = 64 + below(c, HOT);
  }
  at &= ~(size_t)(size - 1);
  return at + size <= t->size ? at : 64;
}

static void put32 (struct target *t, size_t at, uint64_t v) {
  __atomic_store_n((uint32_t *)(void *)(t->base + at), (uint32_t)v, __ATOMIC_SEQ_CST);
}

static uint32_t get32 (struct target *t, size_t at) {
  return __atomic_load_n((uint32_t *)(void *)(t->base + at), __ATOMIC_SEQ_CST);
}

static void put64 (struct target *t, size_t at, uint64_t v) {
  __atomic_store_n((uint64_t *)(void *)(t->base + at), v, __ATOMIC_SEQ_CST);
}

static uint64_t get64 (struct target *t, size_t at) {
  return __atomic_load_n((uint64_t *)(void *)(t->base + at), __ATOMIC_SEQ_CST);
}

static uint64_t neighbour (struct chance *c, uint64_t v) {
  static const int64_t steps[] = {1, -1, 2, -2, 8, -8, 16, -16, 64, 4096, INT64_C(1) << 32, -(INT64_C(1) << 32)};
  switch (below(c, 4)) {
    case 0: return v ^ UINT64_C(1) << below(c, 64);
    case 1: return below(c, 2) ? v << 1 : v >> 1;
    default: return v + (uint64_t)steps[below(c, sizeof steps / sizeof steps[0])];
  }
}

static void flip_word (struct target *t, size_t at, uint64_t a, uint64_t b, int wide, int64_t until) {
  do {
    int i;
    for (i = 0; i < 64; i++) {
      if (wide) put64(t, at, i & 1 ? a : b);
      else put32(t, at, i & 1 ? a : b);
      if (i % 8 == 0) __asm__ __volatile__("" ::: "memory");
    }
  } while (now_ns() < until);
}

static void nap (int64_t ns) {
  struct timespec ts = {0, ns};
  (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

/* A channel's ring: where its words lie in page 0 (runtime/shm/ring.h), and its data. */
enum { RING_TAIL = 16, RING_HEAD = 144, RING_CAPACITY = 320, RING_KIND = 340, RING_SIZE = 384 };

/* Positions at the very end of the data, and the header of the record that is got next. */
static void record_once (struct target *t, struct chance *c) {
  const struct segment *h = (const struct segment *)(const void *)t->base;
  size_t ring = 64, data = PAGE, at;
  uint64_t capacity, v;
  uint32_t units;
  if (h->type != 7 && h->type != 8) return;
  if (h->type == 8 && below(c, 2)) ring += RING_SIZE;
  capacity = get64(t, ring + RING_CAPACITY);
  if (capacity < PAGE || capacity > t->size) return;
  if (h->type == 8 && ring != 64) data += capacity;
  if (h->type == 7 && (get32(t, ring + RING_KIND) & 1)) data = t->size - capacity;
  units = (uint32_t)(capacity / 16);
  if (below(c, 3) == 0) {
    at = ring + (below(c, 2) ? RING_TAIL : RING_HEAD);
    v = get64(t, at);
    v = (v & ~UINT64_C(0xffffffff)) | (units - (uint32_t)below(c, below(c, 2) ? 8 : 300000));
    if (below(c, 4) == 0) v += below(c, 5) << 32;
    put64(t, at, v);
    if (below(c, 2)) { /* both sides there: what is got next is made below */
      put64(t, ring + RING_HEAD, v);
      put64(t, ring + RING_TAIL, v + (UINT64_C(1) << 32));
    }
  }
  at = data + (size_t)((uint32_t)get64(t, ring + RING_HEAD) & (units - 1)) * 16;
  if (at + 16 > t->size) return;
  switch (below(c, 5)) {
    case 0: v = below(c, 200); break;
    case 1: v = below(c, capacity); break;
    case 2: v = below(c, 8 << 20); break;
    default: v = chosen(c, capacity); break;
  }
  put64(t, at, (uint64_t)(below(c, 2) ? 0 : below(c, 4)) << 32 | (uint32_t)v);
  if (below(c, 3) == 0) put64(t, at + 8, chosen(c, capacity));
}

/* ---- junk ---- */

static void send_junk (int sock, struct chance *c) {
  union {
    struct cmsghdr h;
    char room[CMSG_SPACE(sizeof(int) * 253)];
  } control;
  uint32_t rec[16];
  struct iovec iov = {rec, 16};
  struct msghdr msg = {0};
  int fds[253], n = 0, i, owned[4] = {-1, -1, -1, -1}, pair[2];
  for (i = 0; i < 16; i++) rec[i] = (uint32_t)below(c, 8);
  rec[0] = (uint32_t)below(c, 4);
  if (below(c, 4) == 0) iov.iov_len = below(c, sizeof rec + 1);
  switch (below(c, 5)) {
    case 0: n = 0; break;
    case 1: n = 253; break;
    case 2: n = 250; break;
    default: n = 1 + (int)below(c, 5); break;
  }
  owned[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (pipe2(pair, O_CLOEXEC) == 0) {
    owned[1] = pair[0];
    owned[2] = pair[1];
  }
  owned[3] = memfd_create("junk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (owned[3] >= 0) (void)!ftruncate(owned[3], 8192);
  for (i = 0; i < n; i++) {
    int fd = below(c, 8) == 0 && ntargets > 0 ? targets[0].fd : owned[below(c, 4)];
    fds[i] = fd >= 0 ? fd : 0;
  }
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  if (n > 0) {
    struct cmsghdr *h;
    memset(&control, 0, sizeof control);
    msg.msg_control = &control;
    msg.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)n);
    h = CMSG_FIRSTHDR(&msg);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)n);
    memcpy(CMSG_DATA(h), fds, sizeof(int) * (size_t)n);
  }
  (void)!sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
  for (i = 0; i < 4; i++)
    if (owned[i] >= 0) (void)close(owned[i]);
}

static void junk_once (struct chance *c) {
  static const uint64_t one = 1, brim = UINT64_MAX - 1;
  char buf[64];
  int fd;
  if (njunk == 0) return;
  fd = junk[below(c, (uint64_t)njunk)];
  switch (below(c, 8)) {
    case 0: (void)!recv(fd, buf, sizeof buf, MSG_DONTWAIT); break;
    case 1:
      if (fcntl(fd, F_GETFL) & O_NONBLOCK) (void)!read(fd, buf, sizeof buf);
      break;
    case 2:
      if (fcntl(fd, F_GETFL) & O_NONBLOCK) (void)!write(fd, below(c, 2) ? &one : &brim, 8);
      break;
    case 3: { /* whoever reads or writes next had better say itself that it does not wait */
      int f = fcntl(fd, F_GETFL);
      if (f >= 0) (void)fcntl(fd, F_SETFL, below(c, 2) ? f & ~O_NONBLOCK : f | O_NONBLOCK);
      break;
    }
    case 4:
      if (below(c, 50) == 0) (void)shutdown(fd, (int)below(c, 3));
      break;
    default: send_junk(fd, c);
  }
}

/* ---- bursts ---- */

static void burst_on (struct target *t, struct chance *c, int kind) {
  size_t i, n = 1 + below(c, 32);
  uint32_t aside = 0;
  switch (kind) {
    case BYTES:
      for (i = 0; i < n; i++) t->base[place(t, c, 1, 0)] = (char)any(c);
      break;
    case WORDS:
      for (i = 0; i < n; i++) put32(t, place(t, c, 4, 0), chosen(c, t->size));
      break;
    case WIDE:
      for (i = 0; i < n; i++) put64(t, place(t, c, 8, 0), chosen(c, t->size));
      break;
    case NEAR:
      for (i = 0; i < n; i++) {
        size_t at = place(t, c, 8, (int)below(c, 2));
        put64(t, at, neighbour(c, get64(t, at)));
      }
      break;
    case FLIP: {
      int wide = (int)below(c, 2);
      size_t at = place(t, c, wide ? 8 : 4, (int)below(c, 3) == 0);
      uint64_t a = wide ? get64(t, at) : get32(t, at), b = below(c, 2) ? chosen(c, t->size) : neighbour(c, a);
      if (below(c, 4) == 0) a = chosen(c, t->size);
      flip_word(t, at, a, b, wide, now_ns() + (int64_t)below(c, 3000000));
      break;
    }
    case BODY:
      for (i = 0; i < n; i++) {
        if (below(c, 2)) put64(t, place(t, c, 8, 1), chosen(c, t->size));
        else put32(t, place(t, c, 4, 1), chosen(c, t->size));
      }
      break;
    case COPY: {
      char buf[128];
      size_t len = 8u << below(c, 5), from = place(t, c, 8, (int)below(c, 2)), to = place(t, c, 8, (int)below(c, 2));
      if (from + len > t->size || to + len > t->size) break;
      memcpy(buf, t->base + from, len);
      memcpy(t->base + to, buf, len);
      break;
    }
    case FUTEX: {
      int64_t until = now_ns() + (int64_t)below(c, 2000000);
      do {
        size_t at = place(t, c, 4, (int)below(c, 4) == 0);
        uint32_t *w = (uint32_t *)(void *)(t->base + at);
        if (below(c, 2)) (void)syscall(SYS_futex, w, FUTEX_WAKE, 1000, NULL, NULL, 0);
        else (void)syscall(SYS_futex, w, FUTEX_REQUEUE, 0, 1000, below(c, 2) ? (uint32_t *)(void *)(t->base + place(t, c, 4, 0)) : &aside, 0);
      } while (now_ns() < until);
      break;
    }
    case PUNCH: {
      size_t p = below(c, 3) == 0 ? 0 : t->page[below(c, t->npages)];
      (void)fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(p * PAGE), (off_t)(PAGE * (1 + below(c, 4))));
      break;
    }
    case JUNK:
      for (i = 0; i < n; i++) junk_once(c);
      break;
    case ZERO: memset(t->base + 64, 0, HOT); break;
    case ONES: memset(t->base + 64 + below(c, 512), 0xff, 8 * n); break;
    case ODD:
      for (i = 0; i < n; i++) {
        uint64_t v = chosen(c, t->size);
        size_t at = place(t, c, 8, (int)below(c, 2)) + below(c, 8);
        if (at + 8 <= t->size) memcpy(t->base + at, &v, 8);
      }
      break;
    case TIDS:
      for (i = 0; i < n; i++) {
        uint32_t v = (ntids > 0 ? tids[below(c, ntids)] : 1) | (uint32_t)(below(c, 4) << 30);
        if (below(c, 4) == 0) v = (uint32_t)(below(c, 4) << 30);
        put32(t, place(t, c, 4, (int)below(c, 2)), v);
        if (below(c, 2)) put32(t, PAGE - 32 + 16 * below(c, 2), v);
      }
      break;
    case SWAP:
      for (i = 0; i < n; i++) {
        size_t a = place(t, c, 8, (int)below(c, 2)), b = place(t, c, 8, (int)below(c, 2));
        uint64_t v = get64(t, a);
        put64(t, a, get64(t, b));
        put64(t, b, v);
      }
      break;
    case RECORD:
      for (i = 0; i < n; i++) {
        record_once(t, c);
        if (below(c, 2)) nap((int64_t)below(c, 100000));
      }
      break;
    default: break;
  }
  if (counters != NULL) __atomic_fetch_add(&counters[kind], (int64_t)n, __ATOMIC_RELAXED);
}

static void bursts (uint64_t seed, uint64_t kinds, int64_t until) {
  struct chance c = {seed * 2 + 1};
  int started = 0;
  while (ntargets > 0 && (until == 0 || now_ns() < until)) {
    struct target *t = &targets[below(&c, (uint64_t)ntargets)];
    int kind, i, n = 1 + (int)below(&c, 6);
    /* An object that is broken for good shows only its first checks, so it is mended most of the time, and its picture renewed while it is well. */
    if (!started || below(&c, 8) == 0) {
      look_for_tids();
      for (i = 0; i < ntargets; i++) take_image(&targets[i], &c);
      started = 1;
    }
    for (i = 0; i < n; i++) {
      do kind = (int)below(&c, KINDS);
      while (!(kinds >> kind & 1));
      burst_on(t, &c, kind);
    }
    if (kinds == UINT64_C(1) << FUTEX) continue; /* nothing was written, and nothing is to be */
    if (below(&c, 4) != 0) {
      if (below(&c, 2)) nap((int64_t)below(&c, 300000));
      restore(t, &c);
      if (below(&c, 2)) nap((int64_t)below(&c, 3000000)); /* the others get somewhere */
    } else if (below(&c, 3) == 0) {
      nap((int64_t)below(&c, 3000000)); /* damage that stays */
    }
  }
}

/* ---- Lua ---- */

/* descriptors() -> { [fd] = true }, how many */
static int l_descriptors (lua_State *L) {
  int fd, n = 0;
  lua_newtable(L);
  for (fd = 0; fd < 1024; fd++) {
    if (fcntl(fd, F_GETFD) < 0) continue;
    lua_pushboolean(L, 1);
    lua_rawseti(L, -2, fd);
    n++;
  }
  lua_pushinteger(L, n);
  return 2;
}

static int l_segments (lua_State *L) {
  int fd, n = 0;
  lua_newtable(L);
  for (fd = 3; fd < 512; fd++) {
    struct segment *h = map_head(fd);
    if (h == NULL) continue;
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, fd);
    lua_setfield(L, -2, "fd");
    lua_pushinteger(L, h->type);
    lua_setfield(L, -2, "type");
    lua_pushinteger(L, (lua_Integer)h->size);
    lua_setfield(L, -2, "size");
    lua_pushinteger(L, (lua_Integer)h->cookie);
    lua_setfield(L, -2, "cookie");
    lua_rawseti(L, -2, ++n);
    (void)munmap(h, PAGE);
  }
  return 1;
}

static int l_mark (lua_State *L) {
  struct segment *h = map_head((int)luaL_checkinteger(L, 1));
  if (h == NULL) return luaL_error(L, "no segment");
  h->cookie = (uint64_t)luaL_checkinteger(L, 2);
  (void)munmap(h, PAGE);
  return 0;
}

static int list_of (lua_State *L, const char *name, lua_Integer *out, int most) {
  int i, n = 0;
  if (lua_getfield(L, 1, name) == LUA_TTABLE)
    for (i = 1; n < most && lua_rawgeti(L, -1, i) == LUA_TNUMBER; i++) {
      out[n++] = lua_tointeger(L, -1);
      lua_pop(L, 1);
    }
  return n;
}

static int l_target (lua_State *L) {
  lua_Integer list[16];
  struct segment *h;
  struct target *t;
  int i, n;
  luaL_checktype(L, 1, LUA_TTABLE);
  if (ntargets == MOST) return luaL_error(L, "too many targets");
  t = &targets[ntargets];
  lua_getfield(L, 1, "fd");
  t->fd = (int)luaL_checkinteger(L, -1);
  h = map_head(t->fd);
  if (h == NULL) return luaL_error(L, "no segment");
  t->size = h->size;
  (void)munmap(h, PAGE);
  t->base = mmap(NULL, t->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, t->fd, 0);
  t->image = mmap(NULL, IMAGE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (t->base == MAP_FAILED || t->image == MAP_FAILED) return luaL_error(L, "mmap: %s", strerror(errno));
  lua_settop(L, 1);
  n = list_of(L, "fds", list, 16);
  for (i = 0; i < n && njunk < 16; i++) junk[njunk++] = (int)list[i];
  n = list_of(L, "tids", list, 16);
  for (i = 0; i < n; i++) tids[i] = (uint32_t)list[i];
  given_tids = ntids = (unsigned)n;
  if (lua_getfield(L, 1, "owner") == LUA_TNUMBER) owner_pid = (int)lua_tointeger(L, -1);
  if (lua_getfield(L, 1, "counters") == LUA_TNUMBER) {
    char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, (int)lua_tointeger(L, -1), 0);
    if (p != MAP_FAILED) counters = (volatile int64_t *)(void *)(p + 128);
  }
  ntargets++;
  return 0;
}

static int l_burst (lua_State *L) {
  uint64_t seed = (uint64_t)luaL_checkinteger(L, 1);
  int64_t us = luaL_checkinteger(L, 2);
  bursts(seed, (uint64_t)luaL_checkinteger(L, 3), now_ns() + us * 1000);
  return 0;
}

struct order {
  uint64_t seed, kinds;
};

static void *in_thread (void *ud) {
  struct order o = *(struct order *)ud;
  free(ud);
  bursts(o.seed, o.kinds, 0);
  return NULL;
}

static int l_thread (lua_State *L) {
  struct order *o = malloc(sizeof *o);
  pthread_t t;
  int rc;
  if (o == NULL) return luaL_error(L, "not enough memory");
  o->seed = (uint64_t)luaL_checkinteger(L, 1);
  o->kinds = (uint64_t)luaL_checkinteger(L, 2);
  rc = pthread_create(&t, NULL, in_thread, o);
  if (rc != 0) return luaL_error(L, "pthread_create: %s", strerror(rc));
  (void)pthread_detach(t);
  return 0;
}

static char *window (lua_State *L, size_t *size) {
  struct segment *h = map_head((int)luaL_checkinteger(L, 1));
  char *p;
  if (h == NULL) luaL_error(L, "no segment");
  *size = h->size;
  (void)munmap(h, PAGE);
  p = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, (int)luaL_checkinteger(L, 1), 0);
  if (p == MAP_FAILED) luaL_error(L, "mmap: %s", strerror(errno));
  return p;
}

static int l_poke (lua_State *L) {
  size_t size, len, at = (size_t)luaL_checkinteger(L, 2);
  const char *s = luaL_checklstring(L, 3, &len);
  char *p = window(L, &size);
  if (at > size || len > size - at) return luaL_error(L, "outside");
  if (len == 4 && at % 4 == 0) __atomic_store_n((uint32_t *)(void *)(p + at), *(const uint32_t *)(const void *)s, __ATOMIC_SEQ_CST);
  else if (len == 8 && at % 8 == 0) __atomic_store_n((uint64_t *)(void *)(p + at), *(const uint64_t *)(const void *)s, __ATOMIC_SEQ_CST);
  else memcpy(p + at, s, len);
  (void)munmap(p, size);
  return 0;
}

static int l_peek (lua_State *L) {
  size_t size, at = (size_t)luaL_checkinteger(L, 2), len = (size_t)luaL_checkinteger(L, 3);
  char *p = window(L, &size);
  if (at > size || len > size - at) return luaL_error(L, "outside");
  lua_pushlstring(L, p + at, len);
  (void)munmap(p, size);
  return 1;
}

static int l_flip (lua_State *L) {
  struct target t = {0};
  size_t at = (size_t)luaL_checkinteger(L, 2);
  uint64_t a = (uint64_t)luaL_checkinteger(L, 3), b = (uint64_t)luaL_checkinteger(L, 4);
  int wide = luaL_checkinteger(L, 5) == 8;
  int64_t us = luaL_checkinteger(L, 6);
  t.base = window(L, &t.size);
  if (at > t.size - 8) return luaL_error(L, "outside");
  flip_word(&t, at, a, b, wide, now_ns() + us * 1000);
  (void)munmap(t.base, t.size);
  return 0;
}

/* spoil(fd) -> what became of: shrinking, growing, sealing, punching a hole over everything. true or an errno each. */
static int l_spoil (lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1), i;
  struct segment *h = map_head(fd);
  off_t size = h == NULL ? 0 : (off_t)h->size;
  long r[4];
  int e[4];
  if (h == NULL) return luaL_error(L, "no segment");
  (void)munmap(h, PAGE);
  for (i = 0; i < 4; i++) {
    errno = 0;
    switch (i) {
      case 0: r[i] = ftruncate(fd, 0); break;
      case 1: r[i] = ftruncate(fd, size + PAGE); break;
      case 2: r[i] = fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE); break;
      default: r[i] = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size); break;
    }
    e[i] = errno;
  }
  for (i = 0; i < 4; i++) {
    if (r[i] == 0) lua_pushboolean(L, 1);
    else lua_pushinteger(L, e[i]);
  }
  return 4;
}

static const luaL_Reg functions[] = {{"segments", l_segments}, {"mark", l_mark}, {"target", l_target}, {"burst", l_burst},
                                     {"thread", l_thread},     {"poke", l_poke}, {"peek", l_peek},     {"flip", l_flip},
                                     {"descriptors", l_descriptors},           {"spoil", l_spoil}, {NULL, NULL}};

int luaopen_scribble (lua_State *L);
int luaopen_scribble (lua_State *L) {
  int i;
  luaL_newlib(L, functions);
  lua_newtable(L);
  for (i = 0; i < KINDS; i++) {
    lua_pushinteger(L, i);
    lua_setfield(L, -2, names[i]);
  }
  lua_setfield(L, -2, "kinds");
  return 1;
}
