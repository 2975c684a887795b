/* test.h -- the C test harness.
**
**   TEST("wakes every waiter when set") { CHECK_OK(mp_event_set(e)); CHECK_EQ(n, 3); }
**   TEST("needs longer", .limit = 30, .clean = 1) { ... }
**
** Cases      register themselves and run in the order of the file, each in a forked child that leads a
**            process group of its own. When the case ends, whatever it left in that group is killed.
** Limits     10 s of wall time a case, or TEST_LIMIT (environment), or .limit; three times that under
**            sanitizers, and times TEST_SLOW (environment; for valgrind and slow machines).
** Clean      .clean = 1: the case fails if it leaves an open descriptor, a child, a thread or a mapping of a
**            memfd that was not there when it began.
** Checks     a failing check prints where and what and ends the process at once with status 99. It may be used in
**            threads, and in children that wait_child() looks at.
** Output     what a case prints is shown only when it fails (or with -v). The last line is
**            "N passed, M failed"; the status is 0 only if nothing failed and at least one case ran.
** Command    PROGRAM [-v] [-l] [-f] [WORDS...]  -l lists, -f runs in this process without fork (for gdb);
**            only cases whose name contains one of the WORDS run.
** Skipping   SKIP("this kernel has no Landlock") ends the case, which counts neither as passed nor as failed.
*/
#ifndef MP_TEST_H
#define MP_TEST_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

struct test_case {
  const char *what;
  int limit;                /* seconds; 0: the default */
  int clean;                /* nonzero: must leave nothing behind */
  int one_thread;           /* nonzero: has no threads and takes long; not run under the thread sanitizer */
  int hidden;               /* nonzero: runs only when a word of the command line names it */
  /* filled by TEST */
  const char *file;
  int line;
  void (*run)(void);
  struct test_case *next;
};

#define TEST_JOIN_(a, b) a##b
#define TEST_JOIN(a, b) TEST_JOIN_(a, b)
#define TEST(...) TEST_(__LINE__, __VA_ARGS__)
#define TEST_(id, ...)                                                                         \
  static void TEST_JOIN(test_run_, id)(void);                                                  \
  static void __attribute__((constructor)) TEST_JOIN(test_add_, id)(void) {                    \
    static struct test_case test_case_ = {.file = __FILE__, .line = id, .run = TEST_JOIN(test_run_, id), .what = __VA_ARGS__}; \
    test_add(&test_case_);                                                                     \
  }                                                                                            \
  static void TEST_JOIN(test_run_, id)(void)

void test_add (struct test_case *c);
_Noreturn void test_fail (const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void test_skip (const char *why);
void test_eq (const char *file, int line, const char *what, intmax_t got, intmax_t want);
void test_str (const char *file, int line, const char *what, const char *got, const char *want);
void test_mem (const char *file, int line, const char *what, const void *got, const void *want, size_t n);
void test_rc (const char *file, int line, const char *what, int rc, int want);

#define SKIP(why) test_skip(why)
#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(cond) ((cond) ? (void)0 : test_fail(__FILE__, __LINE__, "%s", #cond))
/* Integers; got first, wanted second. */
#define CHECK_EQ(got, want) test_eq(__FILE__, __LINE__, #got " == " #want, (intmax_t)(got), (intmax_t)(want))
#define CHECK_STR(got, want) test_str(__FILE__, __LINE__, #got, (got), (want))
#define CHECK_MEM(got, want, n) test_mem(__FILE__, __LINE__, #got, (got), (want), (n))
/* A call that gives 0 or a positive result, or a negative MP_E code: the message is printed. */
#define CHECK_OK(call) test_rc(__FILE__, __LINE__, #call, (call), 0)
#define CHECK_ERR(call, code) test_rc(__FILE__, __LINE__, #call, (call), (code))

/* A child in the case's process group, killed when the caller dies. It runs fn(arg), then exits with status 0 as
** by exit(). wait_child gives its exit status, or minus the signal that ended it. */
pid_t fork_child (void (*fn)(void *), void *arg);
int wait_child (pid_t pid);

/* A child that runs fn(arg) with the fault point armed to happen at its n-th passing (from 1); the status as by wait_child:
** -SIGKILL if it died there, 0 if it never came by. Skips the case in builds without fault points. */
int run_killed_at (const char *point, int nth, void (*fn)(void *), void *arg);
/* The same, but the point fails (MPI_FAULT_HERE gives true) instead of killing. */
int run_failing_at (const char *point, int nth, void (*fn)(void *), void *arg);
/* Runs fn(arg) in a child once for every fault point that it passes, killed at the n-th passing of each, n up to `times`;
** after each death calls check(arg, point) here. Gives the number of deaths. Points that the harness itself or the
** start of the process passes do not count. */
int for_each_kill_point (int times, void (*fn)(void *), void (*check)(void *, const char *point), void *arg);

/* Polls until the condition holds, at most ms milliseconds (more under sanitizers): true or false.
** For what another process does in its own time; not to assert that something is fast. */
#define wait_until(cond, ms)                                                      \
  __extension__({                                                                 \
    int64_t test_end_ = test_clock_ms() + (int64_t)(ms) * test_slow();            \
    int test_ok_;                                                                 \
    while (!(test_ok_ = !!(cond)) && test_clock_ms() < test_end_) test_pause();   \
    test_ok_ || !!(cond);                                                         \
  })
int64_t test_clock_ms (void);
int test_slow (void);       /* 1, or by how much this build is slower */
void test_pause (void);     /* a millisecond */

/* The state letter of a process's first thread as /proc shows it: 'S' asleep, 'T' stopped, 'R' running, 'Z' dead; 0: no such process.
** With wait_until: a child is known to sleep, instead of hoped to after a pause. */
int test_state (pid_t pid);

/* Open descriptors of this process; threads of it; mapped memfds of it. */
int test_count_fds (void);
int test_count_threads (void);
int test_count_memfds (void);

/* Pseudo-random numbers from TEST_SEED (environment) or the clock; the seed is printed when the case fails. */
uint64_t test_random (void);

#endif
