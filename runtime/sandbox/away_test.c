/* The namespaces that all confined processes of a program share. */
#include "sandbox/away.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test/test.h"

struct seen { /* shared with the children */
  char net[64];
  char ipc[64];
  int up; /* interfaces that are */
  int done;
};

static int own_namespace (const char *kind, char to[64]) {
  char name[64];
  ssize_t k;
  (void)snprintf(name, sizeof name, "/proc/self/ns/%s", kind);
  k = readlink(name, to, 63);
  to[k > 0 ? k : 0] = '\0';
  return k > 0;
}

static int interfaces_up (void) {
  struct ifaddrs *list, *i;
  int n = 0;
  if (getifaddrs(&list) != 0) return -1;
  for (i = list; i != NULL; i = i->ifa_next) n += (i->ifa_flags & IFF_UP) != 0;
  freeifaddrs(list);
  return n;
}

static int fds[MPI_AWAY_FDS], nfds;

static void go_away (void *arg) {
  struct seen *s = arg;
  int mine[MPI_AWAY_FDS], i;
  for (i = 0; i < nfds; i++) CHECK((mine[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3)) >= 0);
  mpi_away_take(mine, nfds);
  CHECK(nfds == 0 || mpi_away_holds(mine[0]));
  CHECK(!mpi_away_holds(0) && !mpi_away_holds(-1));
  (void)mpi_away_enter(1);
  for (i = 0; i < nfds; i++) CHECK(fcntl(mine[i], F_GETFD) < 0 && errno == EBADF);
  CHECK(own_namespace("net", s->net) && own_namespace("ipc", s->ipc));
  s->up = interfaces_up();
  s->done = 1;
}

static void as_one_user (void *arg) {
  struct seen *s = arg, out;
  int again[MPI_AWAY_FDS];
  nfds = mpi_away_get(fds);
  if (nfds == 0) return; /* a kernel that gives none */
  CHECK_EQ(nfds, geteuid() == 0 ? 2 : 3);
  CHECK_EQ(mpi_away_get(again), nfds);
  CHECK_EQ(again[0], fds[0]);
  CHECK_EQ(wait_child(fork_child(go_away, &s[0])), 0);
  CHECK_EQ(wait_child(fork_child(go_away, &s[1])), 0);
  CHECK(own_namespace("net", out.net) && own_namespace("ipc", out.ipc));
  CHECK(s[0].done && s[1].done);
  CHECK_STR(s[0].net, s[1].net);
  CHECK_STR(s[0].ipc, s[1].ipc);
  CHECK(strcmp(s[0].net, out.net) != 0 && strcmp(s[0].ipc, out.ipc) != 0);
  CHECK_EQ(s[0].up, 0);
}

static void as_a_user (void *arg) {
  if (geteuid() == 0) CHECK(setresgid(12345, 12345, 12345) == 0 && setresuid(12345, 12345, 12345) == 0);
  as_one_user(arg);
}

static struct seen *board (void) {
  struct seen *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(s != MAP_FAILED);
  return s;
}

TEST("confined processes of a program share one network that has nothing in it, and it is not the program's") {
  struct seen *s = board();
  CHECK_EQ(wait_child(fork_child(as_one_user, s)), 0);
  if (!s->done) SKIP("this kernel gives no namespaces");
}

TEST("the same without privileges") {
  struct seen *s = board();
  CHECK_EQ(wait_child(fork_child(as_a_user, s)), 0);
  if (!s->done) SKIP("this kernel gives no namespaces");
}

static void change_user_and_go (void *arg) {
  nfds = mpi_away_get(fds);
  if (geteuid() == 0) CHECK(setresgid(12345, 12345, 12345) == 0 && setresuid(12345, 12345, 12345) == 0);
  go_away(arg);
}

TEST("who may not enter what was made gets namespaces of its own") {
  struct seen *s = board(), out;
  CHECK(own_namespace("net", out.net));
  CHECK_EQ(wait_child(fork_child(change_user_and_go, s)), 0);
  if (strcmp(s->net, out.net) == 0) SKIP("this kernel gives no namespaces");
  CHECK_EQ(s->up, 0);
}

static void asks_once (void *arg) {
  int i, n;
  (void)arg;
  n = mpi_away_get(fds);
  for (i = 0; i < 100; i++) CHECK_EQ(mpi_away_get(fds), n);
}

TEST("asking again costs no descriptors and leaves no children") {
  CHECK_EQ(wait_child(fork_child(asks_once, NULL)), 0);
}
