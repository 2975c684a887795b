/* The harness tests itself: what it must call a failure is a hidden case, run by this program called with its name. */
#include "test/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs this program with on the one case and gives what it printed last. */
static void last_line (const char *name, char *line, size_t size) {
  char command[512], path[256];
  FILE *f;
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  CHECK(n > 0);
  path[n] = 0;
  snprintf(command, sizeof command, "ASAN_OPTIONS= UBSAN_OPTIONS= TSAN_OPTIONS= TEST_LIMIT=1 TEST_SLOW=1 '%s' '%s' 2>&1", path, name);
  f = popen(command, "re");
  CHECK(f != NULL);
  line[0] = 0;
  while (fgets(line, (int)size, f)) {}
  pclose(f);
}

#define CHECK_BAD(name) \
  do { char line_[256]; last_line(name, line_, sizeof line_); CHECK_STR(line_, "0 passed, 1 failed\n"); } while (0)


TEST("passes when nothing is wrong", .clean = 1) {
  CHECK(1 + 1 == 2);
  CHECK_EQ(-1, -1);
  CHECK_STR("a", "a");
  CHECK_MEM("abc", "abd", 2);
  CHECK_OK(0);
  CHECK_OK(1);
  CHECK_ERR(-1, -1);
}

static void exit_with (void *arg) { exit(*(int *)arg); }
static void killed (void *arg) { (void)arg; raise(SIGKILL); }

TEST("tells how a child ended", .clean = 1) {
  int n = 7;
  CHECK_EQ(wait_child(fork_child(exit_with, &n)), 7);
  n = 0;
  CHECK_EQ(wait_child(fork_child(exit_with, &n)), 0);
  CHECK_EQ(wait_child(fork_child(killed, NULL)), -SIGKILL);
}

static void wrong (void *arg) { (void)arg; CHECK_EQ(1, 2); }

TEST("a check that fails in a child gives status 99") { CHECK_EQ(wait_child(fork_child(wrong, NULL)), 99); }

TEST("waits until another process has done something") {
  int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pid_t pid = fork();
  if (pid == 0) {
    __atomic_store_n(shared, 1, __ATOMIC_RELEASE);
    _exit(0);
  }
  CHECK(wait_until(__atomic_load_n(shared, __ATOMIC_ACQUIRE) == 1, 5000));
  CHECK(!wait_until(__atomic_load_n(shared, __ATOMIC_ACQUIRE) == 2, 5));
  CHECK_EQ(wait_child(pid), 0);
}

TEST("bad: a failing check", .hidden = 1) { CHECK_EQ(2 + 2, 5); }
TEST("counts a failing check as a failure") { CHECK_BAD("bad: a failing check"); }

static void *check_in_thread (void *arg) { CHECK(arg != NULL); return NULL; }
TEST("bad: a check in a thread", .hidden = 1) {
  pthread_t t;
  pthread_create(&t, NULL, check_in_thread, NULL);
  pthread_join(t, NULL);
}
TEST("counts a check that fails in a thread") { CHECK_BAD("bad: a check in a thread"); }

TEST("bad: a crash", .hidden = 1) { abort(); }
TEST("counts a crash as a failure") { CHECK_BAD("bad: a crash"); }

TEST("bad: a hang", .hidden = 1) { for (;;) pause(); }
TEST("ends a case that hangs", .limit = 30) { CHECK_BAD("bad: a hang"); }

TEST("bad: a descriptor", .hidden = 1, .clean = 1) { CHECK(open("/dev/null", O_RDONLY) >= 0); }
TEST("sees a descriptor that was left open") { CHECK_BAD("bad: a descriptor"); }

TEST("bad: a child", .hidden = 1, .clean = 1) { if (fork() == 0) for (;;) pause(); }
TEST("sees a child that was left") { CHECK_BAD("bad: a child"); }

TEST("bad: an orphan", .hidden = 1, .clean = 1) {
  pid_t pid;
  pid = fork();
  if (pid == 0) {
    setsid();
    if (fork() == 0) for (;;) pause();
    _exit(0);
  }
  waitpid(pid, NULL, 0);
}
TEST("sees an orphan in another session", .limit = 30) { CHECK_BAD("bad: an orphan"); }

static void *idle (void *arg) { (void)arg; for (;;) pause(); return NULL; }
TEST("bad: a thread", .hidden = 1, .clean = 1) { pthread_t t; pthread_create(&t, NULL, idle, NULL); }
TEST("sees a thread that was left", .limit = 30) { CHECK_BAD("bad: a thread"); }

TEST("bad: a mapping", .hidden = 1, .clean = 1) {
  int fd;
  fd = memfd_create("left", MFD_CLOEXEC);
  CHECK(ftruncate(fd, 4096) == 0);
  CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
  close(fd);
}
TEST("sees a mapping of a memfd that was left") { CHECK_BAD("bad: a mapping"); }

TEST("an unknown word runs nothing and fails") {
  char line[256];
  last_line("no case has this name", line, sizeof line);
  CHECK_STR(line, "0 passed, 0 failed\n");
}

TEST("the same seed gives the same numbers") {
  uint64_t a, b;
  setenv("TEST_SEED", "42", 1);
  a = test_random();
  b = test_random();
  CHECK(a != b);
  CHECK_EQ(a, 13679457532755275413u);
}

/* That the sanitizers see what they are for, in the builds that have them. */
#if defined(__SANITIZE_ADDRESS__)
static void *volatile forgotten;
TEST("bad: a leak", .hidden = 1) {
  int i;
  for (i = 0; i < 100; i++) forgotten = malloc(100); /* of one the address may still lie on the stack */
  forgotten = NULL;
}
TEST("sees a leak", .limit = 30) { CHECK_BAD("bad: a leak"); }

TEST("bad: a write behind the end", .hidden = 1) {
  volatile int behind = 10;
  volatile char *p = malloc(10);
  p[behind] = 1;
  free((char *)(uintptr_t)p);
}
TEST("sees a write behind the end", .limit = 30) { CHECK_BAD("bad: a write behind the end"); }

TEST("bad: an overflow", .hidden = 1) {
  volatile int n = 0x7fffffff;
  n = n + 1;
}
TEST("sees undefined behaviour", .limit = 30) { CHECK_BAD("bad: an overflow"); }
#elif defined(__SANITIZE_THREAD__)
static int raced;
static void *race (void *arg) { (void)arg; raced++; return NULL; }
TEST("bad: a race", .hidden = 1) {
  pthread_t a, b;
  pthread_create(&a, NULL, race, NULL);
  pthread_create(&b, NULL, race, NULL);
  pthread_join(a, NULL);
  pthread_join(b, NULL);
}
TEST("sees a race", .limit = 30) { CHECK_BAD("bad: a race"); }
#endif
