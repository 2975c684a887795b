/* test.c -- runs the cases of one test program; see test.h.
**
** The runner is a single thread that forks one leader per case and watches it through a pidfd. It is a child subreaper, so
** whatever a case orphans comes here and is killed and reaped before the next case.
*/
#include "test/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "mp.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Forks are slow under the thread sanitizer, and one thread has no races. */
#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZED 1
#endif
#endif
#ifndef THREAD_SANITIZED
#define THREAD_SANITIZED 0
#endif

#define STATUS_FAILED 99
#define STATUS_SKIPPED 77
#define DEFAULT_LIMIT 10

/* ---- what the sanitizers ask a program ---------------------------------------------------------- */

/* Children of a case end without a leak check: they hold copies of what other threads of the parent, which do
** not exist in them, pointed to. */
static int leak_check_off;

const char *__asan_default_options (void);
const char *__tsan_default_options (void);
const char *__ubsan_default_options (void);
int __lsan_is_turned_off (void);
#define FOR_SANITIZER __attribute__((visibility("default"), used, no_sanitize("address", "thread", "undefined")))
FOR_SANITIZER const char *__asan_default_options (void) {
  return "exitcode=98:allocator_may_return_null=1:detect_stack_use_after_return=0";
}
FOR_SANITIZER const char *__tsan_default_options (void) { return "exitcode=66:die_after_fork=0:report_signal_unsafe=1"; }
FOR_SANITIZER const char *__ubsan_default_options (void) { return "print_stacktrace=1"; }
FOR_SANITIZER int __lsan_is_turned_off (void) { return leak_check_off; }

/* ---- cases and checks --------------------------------------------------------------------------- */

static struct test_case *first_case, **last_case = &first_case;
static const char *program = "test";
static int in_runner = 1; /* false in a case and its children */
static int no_fork;       /* -f */
static uint64_t seed, seed_state;

void test_add (struct test_case *c) {
  *last_case = c;
  last_case = &c->next;
}

void test_fail (const char *file, int line, const char *fmt, ...) {
  va_list ap;
  char text[4096];
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  fflush(NULL);
  dprintf(STDERR_FILENO, "%s:%d: failed: %s\n", file, line, text);
  _exit(STATUS_FAILED);
}

void test_skip (const char *why) {
  fflush(NULL);
  dprintf(STDERR_FILENO, "skipped: %s\n", why);
  _exit(STATUS_SKIPPED);
}

void test_eq (const char *file, int line, const char *what, intmax_t got, intmax_t want) {
  if (got == want) return;
  test_fail(file, line, "%s\n  got  %" PRIdMAX " (0x%" PRIxMAX ")\n  want %" PRIdMAX " (0x%" PRIxMAX ")", what, got,
            (uintmax_t)got, want, (uintmax_t)want);
}

void test_str (const char *file, int line, const char *what, const char *got, const char *want) {
  if (got == want || (got != NULL && want != NULL && strcmp(got, want) == 0)) return;
  test_fail(file, line, "%s\n  got  \"%s\"\n  want \"%s\"", what, got ? got : "(NULL)", want ? want : "(NULL)");
}

void test_mem (const char *file, int line, const char *what, const void *got, const void *want, size_t n) {
  const unsigned char *g = got, *w = want;
  size_t i;
  for (i = 0; i < n; i++)
    if (g[i] != w[i]) test_fail(file, line, "%s differs at byte %zu of %zu: got 0x%02x, want 0x%02x", what, i, n, g[i], w[i]);
}

void test_rc (const char *file, int line, const char *what, int rc, int want) {
  if (want == 0 ? rc >= 0 : rc == want) return;
  if (rc >= 0)
    test_fail(file, line, "%s\n  got  %d\n  want %d (%s)", what, rc, want, mp_errname(want));
  else if (want == 0)
    test_fail(file, line, "%s\n  got  %d (%s): %s", what, rc, mp_errname(rc), mp_errmsg());
  else
    test_fail(file, line, "%s\n  got  %d (%s): %s\n  want %d (%s)", what, rc, mp_errname(rc), mp_errmsg(), want, mp_errname(want));
}

int test_slow (void) {
  const char *s = getenv("TEST_SLOW");
  int n = s ? atoi(s) : 1;
  return (n > 0 ? n : 1) * (SANITIZED ? 3 : 1);
}

int64_t test_clock_ms (void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void test_pause (void) {
  struct timespec ts = {0, 1000000};
  nanosleep(&ts, NULL);
}

uint64_t test_random (void) { /* splitmix64; not for use by two threads at a time */
  uint64_t z;
  if (seed == 0) {
    const char *s = getenv("TEST_SEED");
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    seed = s ? strtoull(s, NULL, 0) : (uint64_t)ts.tv_nsec ^ ((uint64_t)getpid() << 32);
    if (seed == 0) seed = 1;
    seed_state = seed;
    printf("TEST_SEED=%" PRIu64 "\n", seed);
    fflush(stdout);
  }
  z = (seed_state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

/* ---- what a process has open -------------------------------------------------------------------- */

static int count_entries (const char *folder) {
  DIR *d = opendir(folder);
  int n = 0;
  if (d == NULL) return -1;
  while (readdir(d) != NULL) n++;
  closedir(d);
  return n - 2; /* . and .. */
}

int test_count_fds (void) {
  return count_entries("/proc/self/fd") - 1; /* the folder's own */
}

int test_count_threads (void) { return count_entries("/proc/self/task"); }

int test_count_memfds (void) {
  FILE *f = fopen("/proc/self/maps", "re");
  char line[1024];
  int n = 0;
  if (f == NULL) return -1;
  while (fgets(line, sizeof line, f)) n += strstr(line, "/memfd:") != NULL;
  fclose(f);
  return n;
}

static void list_fds (void) {
  char path[64], target[PATH_MAX];
  int fd;
  for (fd = 0; fd < 4096; fd++) {
    ssize_t n;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    n = readlink(path, target, sizeof target - 1);
    if (n >= 0) {
      target[n] = 0;
      fprintf(stderr, "  fd %d: %s\n", fd, target);
    }
  }
}

/* ---- children of a case ------------------------------------------------------------------------- */

pid_t fork_child (void (*fn)(void *), void *arg) {
  pid_t pid;
  fflush(NULL);
  pid = fork();
  if (pid < 0) FAIL("fork: %s", strerror(errno));
  if (pid > 0) return pid;
  in_runner = 0;
  leak_check_off = 1;
  fn(arg);
  exit(0);
}

int wait_child (pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) FAIL("waitpid(%d): %s", (int)pid, strerror(errno));
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

#ifdef MP_FAULTS

struct armed {
  const char *point;
  int nth;
  mpi_fault_action action;
  void (*fn)(void *);
  void *arg;
};

static void run_armed (void *p) {
  struct armed *a = p;
  mpi_fault_arm(a->point, a->nth, a->action);
  a->fn(a->arg);
  mpi_fault_arm(NULL, 0, MPI_FAULT_NONE);
}

static int run_at (const char *point, int nth, mpi_fault_action action, void (*fn)(void *), void *arg) {
  struct armed a = {point, nth, action, fn, arg};
  return wait_child(fork_child(run_armed, &a));
}

int run_killed_at (const char *point, int nth, void (*fn)(void *), void *arg) {
  return run_at(point, nth, MPI_FAULT_KILL, fn, arg);
}

int run_failing_at (const char *point, int nth, void (*fn)(void *), void *arg) {
  return run_at(point, nth, MPI_FAULT_FAIL, fn, arg);
}

#define MAX_POINTS 512

struct seen {
  void (*fn)(void *);
  void *arg;
  int n;
  const char *names[MAX_POINTS]; /* literals of this program: good in every fork of it */
};

static void see_points (void *p) {
  struct seen *s = p;
  s->fn(s->arg);
  s->n = mpi_fault_seen(s->names, MAX_POINTS);
}

int for_each_kill_point (int times, void (*fn)(void *), void (*check)(void *, const char *), void *arg) {
  struct seen *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int i, nth, status, deaths = 0;
#if THREAD_SANITIZED
  SKIP("deaths at every point are walked in the other modes");
#endif
  if (s == MAP_FAILED) FAIL("mmap: %s", strerror(errno));
  s->fn = fn;
  s->arg = arg;
  status = wait_child(fork_child(see_points, s));
  if (status != 0) FAIL("without a fault the child ended with %d", status);
  for (i = 0; i < s->n && i < MAX_POINTS; i++)
    for (nth = 1; nth <= times; nth++) {
      status = run_killed_at(s->names[i], nth, fn, arg);
      if (status == 0) break; /* not passed that often */
      if (status != -SIGKILL) FAIL("killed at %s (passing %d), the child ended with %d", s->names[i], nth, status);
      deaths++;
      if (check) check(arg, s->names[i]);
    }
  munmap(s, sizeof *s);
  return deaths;
}

#else

int run_killed_at (const char *point, int nth, void (*fn)(void *), void *arg) {
  (void)point; (void)nth; (void)fn; (void)arg;
  SKIP("this build has no fault points");
}

int run_failing_at (const char *point, int nth, void (*fn)(void *), void *arg) {
  (void)point; (void)nth; (void)fn; (void)arg;
  SKIP("this build has no fault points");
}

int for_each_kill_point (int times, void (*fn)(void *), void (*check)(void *, const char *), void *arg) {
  (void)times; (void)fn; (void)check; (void)arg;
  SKIP("this build has no fault points");
}

#endif

/* ---- one case, in its process ------------------------------------------------------------------- */

#if SANITIZED
static void *do_nothing (void *arg) { return arg; }
#endif

static void run_case (struct test_case *c) {
  int fds, threads, memfds;
#if SANITIZED
  { /* the thread sanitizer starts a thread of its own with the first one of a forked process */
    pthread_t t;
    if (c->clean && pthread_create(&t, NULL, do_nothing, NULL) == 0) pthread_join(t, NULL);
  }
#endif
  fds = test_count_fds();
  threads = test_count_threads();
  memfds = test_count_memfds();
  c->run();
  if (!c->clean) return;
  if (waitpid(-1, NULL, WNOHANG) >= 0) FAIL("the case leaves a child");
  if (!wait_until(test_count_threads() <= threads, 2000)) /* a joined thread may still be on its way out of /proc */
    FAIL("the case leaves %d threads", test_count_threads() - threads);
  if (test_count_fds() != fds) {
    int now = test_count_fds();
    list_fds();
    FAIL("the case began with %d descriptors and ends with %d", fds, now);
  }
  if (test_count_memfds() > memfds) FAIL("the case leaves %d mappings of memfds", test_count_memfds() - memfds);
}

/* ---- the runner --------------------------------------------------------------------------------- */

static volatile sig_atomic_t current; /* the leader of the running case, for on_signal */

static void on_signal (int sig) {
  if (in_runner && current > 0) kill(-current, SIGKILL);
  signal(sig, SIG_DFL);
  raise(sig);
}

static void show (int fd) { /* what the case printed */
  char buf[4096];
  ssize_t n;
  off_t at = 0, size = lseek(fd, 0, SEEK_END);
  if (size > 64 * 1024) {
    at = size - 64 * 1024;
    printf("  ...\n");
  }
  while ((n = pread(fd, buf, sizeof buf, at)) > 0) {
    fwrite(buf, 1, (size_t)n, stdout);
    at += n;
  }
}

static int read_stat (const char *pid, char *state, int *ppid, int *pgrp) {
  char path[300], stat[512], *p;
  FILE *f;
  snprintf(path, sizeof path, "/proc/%s/stat", pid);
  if ((f = fopen(path, "re")) == NULL) return 0;
  p = fgets(stat, sizeof stat, f) ? strrchr(stat, ')') : NULL;
  fclose(f);
  return p != NULL && sscanf(p + 1, " %c %d %d", state, ppid, pgrp) == 3;
}

int test_state (pid_t pid) {
  char name[16], state;
  int ppid, pgrp;
  snprintf(name, sizeof name, "%d", (int)pid);
  return read_stat(name, &state, &ppid, &pgrp) ? state : 0;
}

/* Where the processes of a group hang: for the report of a case that ran out of time. */
static void show_group (pid_t group) {
  DIR *d = opendir("/proc");
  struct dirent *e;
  if (d == NULL) return;
  while ((e = readdir(d)) != NULL) {
    char path[300], wchan[128] = "";
    int pgrp, ppid;
    char state;
    FILE *f;
    if (e->d_name[0] < '0' || e->d_name[0] > '9') continue;
    if (!read_stat(e->d_name, &state, &ppid, &pgrp) || pgrp != group) continue;
    snprintf(path, sizeof path, "/proc/%s/wchan", e->d_name);
    if ((f = fopen(path, "re")) != NULL) {
      if (!fgets(wchan, sizeof wchan, f)) wchan[0] = 0;
      fclose(f);
    }
    printf("  process %s (parent %d) is in state %c %s\n", e->d_name, ppid, state, wchan);
  }
  closedir(d);
}

/* Kills and reaps what is left of a case. Gives how many processes were left after `grace` ms. */
static int sweep (pid_t group, int grace) {
  int64_t end = test_clock_ms() + grace, give_up = end + 5000;
  int left = 0, killed = 0;
  for (;;) {
    pid_t pid = waitpid(-1, NULL, WNOHANG);
    if (pid > 0) {
      left += killed;
      continue;
    }
    if (pid < 0 && errno == ECHILD) return left;
    if (test_clock_ms() >= end) {
      char path[64], list[4096];
      FILE *f;
      killed = 1;
      kill(-group, SIGKILL);
      /* those that left the group: adopted by us, the subreaper */
      snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
      if ((f = fopen(path, "re")) != NULL) {
        if (fgets(list, sizeof list, f)) {
          char *p = list, *next;
          long child;
          while ((child = strtol(p, &next, 10)) > 0 && next != p) {
            kill((pid_t)child, SIGKILL);
            p = next;
          }
        }
        fclose(f);
      }
      if (test_clock_ms() > give_up) return left + 1;
    }
    test_pause();
  }
}

enum { PASSED, FAILED, SKIPPED };

static int run_forked (struct test_case *c, int verbose) {
  const char *env = getenv("TEST_LIMIT");
  int limit = (c->limit > 0 ? c->limit : env && atoi(env) > 0 ? atoi(env) : DEFAULT_LIMIT) * test_slow();
  int out = memfd_create("test output", MFD_CLOEXEC), pidfd, status, left, result;
  int64_t start = test_clock_ms(), end = start + (int64_t)limit * 1000;
  struct pollfd pfd;
  char why[200] = "";
  pid_t pid;
  if (out < 0) { perror("memfd_create"); exit(2); }
  fcntl(out, F_SETFL, O_APPEND); /* several processes write to it */
  fflush(NULL);
  pid = fork();
  if (pid < 0) { perror("fork"); exit(2); }
  if (pid == 0) {
    int null = open("/dev/null", O_RDONLY);
    in_runner = 0;
    signal(SIGINT, SIG_DFL); /* both are ignored in what a shell has started in the background */
    signal(SIGQUIT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    if (null > 2) close(null);
    close(out);
    run_case(c);
    exit(0);
  }
  setpgid(pid, pid); /* in both, so that it is done whoever comes first */
  current = pid;
  pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (pidfd < 0) { perror("pidfd_open"); exit(2); }
  pfd.fd = pidfd;
  pfd.events = POLLIN;
  for (;;) {
    int64_t rest = end - test_clock_ms();
    int n = rest > 0 ? poll(&pfd, 1, (int)rest) : 0;
    if (n > 0) break;
    if (n < 0 && errno == EINTR) continue;
    snprintf(why, sizeof why, "took longer than %d s", limit);
    if (verbose >= 0) show_group(pid);
    kill(-pid, SIGKILL);
    break;
  }
  close(pidfd);
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  left = sweep(pid, c->clean && why[0] == 0 ? 2000 : 0);
  current = 0;
  if (why[0] == 0) {
    if (WIFSIGNALED(status))
      snprintf(why, sizeof why, "was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == STATUS_FAILED)
      snprintf(why, sizeof why, "a check failed");
    else if (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != STATUS_SKIPPED)
      snprintf(why, sizeof why, "exited with status %d%s", WEXITSTATUS(status), SANITIZED ? " (a sanitizer's report?)" : "");
    else if (c->clean && left > 0)
      snprintf(why, sizeof why, "left %d processes running", left);
  }
  result = why[0] ? FAILED : WEXITSTATUS(status) == STATUS_SKIPPED ? SKIPPED : PASSED;
  if (result == FAILED) {
    printf("not ok - %s\n  %s:%d: %s\n", c->what, c->file, c->line, why);
    show(out);
  } else if (verbose || result == SKIPPED) {
    printf("%s - %s (%d ms)\n", result == PASSED ? "ok" : "skip", c->what, (int)(test_clock_ms() - start));
    show(out);
  }
  fflush(stdout);
  close(out);
  return result;
}

static int wanted (const struct test_case *c, char **words) {
  if (*words == NULL) return !c->hidden && !(THREAD_SANITIZED && c->one_thread);
  for (; *words != NULL; words++)
    if (strstr(c->what, *words) != NULL) return 1;
  return 0;
}

int main (int argc, char **argv) {
  int verbose = 0, list = 0, n[3] = {0, 0, 0}, opt;
  struct test_case *c;
  (void)argc;
  program = argv[0];
  while ((opt = getopt(argc, argv, "vlf")) != -1) {
    if (opt == 'v') verbose = 1;
    else if (opt == 'l') list = 1;
    else if (opt == 'f') no_fork = 1;
    else { fprintf(stderr, "usage: %s [-v] [-l] [-f] [words...]\n", program); return 2; }
  }
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  if (!no_fork) {
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
  }
  for (c = first_case; c != NULL; c = c->next) {
    if (!wanted(c, argv + optind)) continue;
    if (list) { printf("%s\n", c->what); continue; }
    if (no_fork) {
      printf("running: %s\n", c->what);
      fflush(stdout);
      in_runner = 0;
      run_case(c);
      n[PASSED]++;
    } else
      n[run_forked(c, verbose)]++;
  }
  if (list) return 0;
  if (n[SKIPPED]) printf("%d skipped\n", n[SKIPPED]);
  printf("%d passed, %d failed\n", n[PASSED], n[FAILED]);
  return n[FAILED] == 0 && n[PASSED] + n[SKIPPED] > 0 ? 0 : 1;
}
