#include "shm/bell.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "test/test.h"

static int readable (int fd) {
  struct pollfd p = {fd, POLLIN, 0};
  return poll(&p, 1, 0) == 1;
}

static struct mpi_bell_fds event_fds (void) {
  int fd = mpi_eventfd();
  CHECK_OK(fd);
  return (struct mpi_bell_fds){fd, fd};
}

static struct mpi_bell_fds socket_fds (void) {
  int sv[2];
  CHECK_OK(mpi_socketpair(sv));
  return (struct mpi_bell_fds){sv[0], sv[1]};
}

static void follows (struct mpi_bell_fds f) {
  mpi_bell b = {0};
  mpi_bell_ring_if_armed(&b, f);
  CHECK(!readable(f.rfd));
  mpi_bell_arm(&b, f, 0);
  CHECK(!readable(f.rfd));
  mpi_bell_ring_if_armed(&b, f);
  CHECK(readable(f.rfd));
  mpi_bell_ring_if_armed(&b, f);
  mpi_bell_silence(&b, f);
  CHECK(!readable(f.rfd));
  mpi_bell_ring_if_armed(&b, f);
  CHECK(readable(f.rfd));
}

TEST("an eventfd is readable while the object is ready, once armed") { follows(event_fds()); }
TEST("a socket pair is readable while the object is ready, once armed") { follows(socket_fds()); }

TEST("armed on a ready object rings at once") {
  mpi_bell b = {0};
  struct mpi_bell_fds f = event_fds();
  mpi_bell_arm(&b, f, 1);
  CHECK(readable(f.rfd));
  mpi_bell_silence(&b, f);
  CHECK(!readable(f.rfd));
}

TEST("is kept while somebody watches, and for ever once somebody has armed it") {
  mpi_bell b = {0};
  struct mpi_bell_fds f = event_fds();
  mpi_bell_watch(&b, f, 0);
  mpi_bell_watch(&b, f, 0);
  mpi_bell_ring_if_armed(&b, f);
  CHECK(readable(f.rfd));
  mpi_bell_unwatch(&b, f, 1);
  CHECK(readable(f.rfd) && mpi_bell_rings(&b));
  mpi_bell_silence(&b, f);
  CHECK(!readable(f.rfd));
  mpi_bell_unwatch(&b, f, 0); /* the last one */
  CHECK_EQ(b.word, 0);
  mpi_bell_ring_if_armed(&b, f);
  CHECK(!readable(f.rfd));
  mpi_bell_watch(&b, f, 1);
  CHECK(readable(f.rfd) && mpi_bell_rings(&b));
  mpi_bell_unwatch(&b, f, 1);
  CHECK(readable(f.rfd)); /* others may not have seen it yet */
  CHECK_EQ(b.word, 0);
  mpi_bell_watch(&b, f, 0); /* what was left is no message */
  CHECK(!readable(f.rfd));
  mpi_bell_arm(&b, f, 0);
  mpi_bell_unwatch(&b, f, 0);
  mpi_bell_ring_if_armed(&b, f);
  CHECK(readable(f.rfd) && mpi_bell_rings(&b));
  mpi_bell_unwatch(&b, f, 0); /* once too often, which a peer may do */
  CHECK(readable(f.rfd) && mpi_bell_rings(&b));
}

TEST("settles what was left behind, in both directions") {
  mpi_bell b = {0};
  struct mpi_bell_fds f = socket_fds();
  mpi_bell_settle(&b, f, 1);
  CHECK(!readable(f.rfd)); /* not armed */
  mpi_bell_arm(&b, f, 0);
  CHECK(write(f.wfd, "12345678", 8) == 8); /* a ring whose mark was never set */
  mpi_bell_silence(&b, f);
  CHECK(readable(f.rfd));
  mpi_bell_settle(&b, f, 0);
  CHECK(!readable(f.rfd));
  mpi_store(&b.word, MPI_BELL_ARMED | MPI_BELL_RUNG); /* a mark without a ring */
  mpi_bell_settle(&b, f, 1);
  CHECK(readable(f.rfd));
}

TEST("does not wait when a peer made the descriptors blocking") {
  mpi_bell b = {0};
  struct mpi_bell_fds f[2] = {event_fds(), socket_fds()};
  uint64_t most = UINT64_MAX - 1;
  int i;
  for (i = 0; i < 2; i++) {
    mpi_store(&b.word, 0);
    CHECK(fcntl(f[i].rfd, F_SETFL, 0) == 0 && fcntl(f[i].wfd, F_SETFL, 0) == 0);
    mpi_bell_arm(&b, f[i], 0);
    mpi_bell_drain(&b, f[i]);
    CHECK(!readable(f[i].rfd));
  }
  CHECK(write(f[0].wfd, &most, sizeof most) == sizeof most); /* an eventfd at its brim */
  mpi_bell_ring(&b, f[0]);
  CHECK(readable(f[0].rfd));
}

TEST("a peer that is gone neither raises SIGPIPE nor counts as ready for ever") {
  mpi_bell b = {0};
  struct mpi_bell_fds f = socket_fds();
  mpi_bell_arm(&b, f, 0);
  (void)close(f.rfd);
  mpi_bell_ring_if_armed(&b, f);
  CHECK(mpi_bell_rings(&b));
}

#ifdef MP_FAULTS
struct shared {
  mpi_bell b;
  mpi_a32 ready;
  struct mpi_bell_fds f;
};
static void change (void *ud) {
  struct shared *s = ud;
  mpi_bell_ring_if_armed(&s->b, s->f);
  mpi_store(&s->ready, 1);
  mpi_store(&s->ready, 0);
  mpi_bell_silence(&s->b, s->f);
}
static void watch_and_leave (void *ud) {
  struct shared *s = ud;
  mpi_bell_watch(&s->b, s->f, 1);
  mpi_bell_unwatch(&s->b, s->f, 0);
}
static void armed_is_not_silent (void *ud, const char *point) {
  struct shared *s = ud;
  if ((s->b.word & MPI_BELL_ARMED) && !readable(s->f.rfd)) FAIL("armed and silent after a death at %s", point);
  mpi_bell_settle(&s->b, s->f, 0);
  mpi_store(&s->b.word, 0);
}
static void never_silent_though_ready (void *ud, const char *point) {
  struct shared *s = ud;
  if (mpi_load(&s->ready)) CHECK(readable(s->f.rfd));
  mpi_bell_settle(&s->b, s->f, 0);
  if (readable(s->f.rfd)) FAIL("still rings after a death at %s", point);
  mpi_store(&s->ready, 0);
}
TEST("a death at any point leaves at most a ring for nothing, which settling ends") {
  struct shared *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  s->f = event_fds();
  mpi_bell_arm(&s->b, s->f, 0);
  CHECK(for_each_kill_point(1, change, never_silent_though_ready, s) >= 3);
  mpi_store(&s->b.word, 0);
  CHECK(for_each_kill_point(1, watch_and_leave, armed_is_not_silent, s) >= 4);
}
#endif
