/* The supervisor: what it records, what it ends, and how its end tells about the child's. */
#include "sandbox/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "test/test.h"

static struct mpi_policy policy;
static struct mpi_jail jail;
static struct mpi_jail_report *report;
static int report_fd;

static void prepare (void) {
  CHECK_OK(mpi_jail_make(&policy, MPI_FILTER_LISTENER, &jail));
  CHECK_OK(mpi_jail_report_make(&report_fd, &report));
}

static void inside (void *arg) {
  void (*fn)(void) = *(void (**)(void))arg;
  CHECK_OK(mpi_warden_enter(&jail, report_fd, NULL, 0));
  fn();
}

static int run (void (*fn)(void)) {
  prepare();
  return wait_child(fork_child(inside, &fn));
}

static void nothing (void) {}

static void ends_with_7 (void) {
  _exit(7);
}

static void kills_itself (void) {
  (void)raise(SIGABRT);
}

TEST("the warden ends as the child ended", .clean = 1) {
  mpi_policy_init(&policy);
  CHECK_EQ(run(nothing), 0);
  CHECK(mpi_load(&report->pid) > 0);
  mpi_jail_report_unmap(report);
  (void)close(report_fd);
  CHECK_EQ(run(ends_with_7), 7);
  mpi_jail_report_unmap(report);
  (void)close(report_fd);
  CHECK_EQ(run(kills_itself), -SIGABRT);
  CHECK_EQ(mpi_load(&report->end), MPI_END_NONE);
  mpi_jail_report_unmap(report);
  (void)close(report_fd);
}

static void opens_passwd (void) {
  int i;
  if (mpi_warden_where() != NULL) (void)snprintf(mpi_warden_where(), MPI_WHERE_SIZE, "job.lua:12");
  for (i = 0; i < 3; i++)
    if (open("/etc/passwd", O_RDONLY) != -1 || errno != EPERM) _exit(1);
}

TEST("a refusal is recorded once, with its target, its grant, its line, and counted") {
  mpi_policy_init(&policy);
  CHECK_EQ(run(opens_passwd), 0);
  CHECK_EQ(mpi_load(&report->n), 1);
  CHECK_STR(report->v[0].call, "openat");
  CHECK_STR(report->v[0].target, "/etc/passwd");
  CHECK_STR(report->v[0].need, "read");
  CHECK_STR(report->v[0].fix, "read = {\"/etc/passwd\"}");
  CHECK_STR(report->v[0].where, "job.lua:12");
  CHECK_EQ(mpi_load(&report->v[0].count), 3);
}

TEST("with on_violation = kill the first refusal ends the process") {
  mpi_policy_init(&policy);
  policy.on_violation = MPI_KILL;
  CHECK_EQ(run(opens_passwd), -SIGKILL);
  CHECK_EQ(mpi_load(&report->end), MPI_END_VIOLATION);
  CHECK_EQ(mpi_load(&report->n), 1);
  CHECK_EQ(report->v[0].fatal, 1);
}

static char dir[64];

static void reads_inside_and_outside (void) {
  char name[128], text[8] = "";
  int fd;
  (void)snprintf(name, sizeof name, "%s/file", dir);
  fd = open(name, O_RDONLY);
  if (fd < 0) _exit(1);
  if (read(fd, text, 5) != 5 || memcmp(text, "hello", 5) != 0) _exit(2);
  if (open("/etc/passwd", O_RDONLY) >= 0) _exit(3);
  if (open(name, O_WRONLY) >= 0) _exit(4);
  if (open("/etc/no such file", O_RDONLY) >= 0 || errno != ENOENT) _exit(5);
}

static void make_dir (void) {
  char name[128];
  int fd;
  (void)snprintf(dir, sizeof dir, "/tmp/mp-warden-XXXXXX");
  CHECK(mkdtemp(dir) != NULL);
  (void)snprintf(name, sizeof name, "%s/file", dir);
  fd = open(name, O_CREAT | O_WRONLY, 0600);
  CHECK(fd >= 0 && write(fd, "hello", 5) == 5 && close(fd) == 0);
}

static void remove_dir (void) {
  char name[128];
  (void)snprintf(name, sizeof name, "%s/file", dir);
  (void)unlink(name);
  (void)snprintf(name, sizeof name, "%s/new", dir);
  (void)unlink(name);
  CHECK(rmdir(dir) == 0);
}

TEST("what Landlock refuses is recorded too; a file that is not there is no refusal") {
  mpi_policy_init(&policy);
  make_dir();
  CHECK_OK(mpi_policy_read(&policy, dir));
  CHECK_EQ(run(reads_inside_and_outside), 0);
  CHECK_EQ(mpi_load(&report->n), 2);
  CHECK_STR(report->v[0].target, "/etc/passwd");
  CHECK_STR(report->v[1].need, "write");
  remove_dir();
}

static void writes_a_new_file (void) {
  char name[128];
  int fd;
  struct stat st;
  (void)snprintf(name, sizeof name, "%s/new", dir);
  fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0600);
  if (fd < 0 || write(fd, "x", 1) != 1) _exit(1);
  if (fstat(fd, &st) != 0) _exit(2);
  (void)snprintf(name, sizeof name, "%s/file", dir);
  if (open(name, O_WRONLY) < 0) _exit(3);
}

TEST("a granted directory is as writable as it is for the caller, also when root has been given up") {
  mpi_policy_init(&policy);
  make_dir();
  CHECK_OK(mpi_policy_write(&policy, dir));
  CHECK_EQ(run(writes_a_new_file), 0);
  CHECK_EQ(mpi_load(&report->n), 0);
  remove_dir();
}

static void computes (void) {
  for (;;) mpi_relax();
}

static void sleeps (void) {
  for (;;) (void)pause(), (void)mp_sleep(MP_NEVER);
}

TEST("a wall limit ends a sleeper") {
  mpi_policy_init(&policy);
  policy.wall = 200 * MPI_NS_PER_MS;
  CHECK_EQ(run(sleeps), -SIGKILL);
  CHECK_EQ(mpi_load(&report->end), MPI_END_WALL);
}

TEST("a CPU limit ends a loop") {
  mpi_policy_init(&policy);
  policy.cpu = 200 * MPI_NS_PER_MS;
  CHECK_EQ(run(computes), -SIGKILL);
  CHECK_EQ(mpi_load(&report->end), MPI_END_CPU);
}

static void allocates (void) {
  char *p;
  size_t size;
  for (size = 1 << 20; size < (size_t)1 << 40; size *= 2) {
    p = malloc(size);
    if (p == NULL) _exit(size > (size_t)32 << 20 ? 1 : 0);
    memset(p, 1, size);
  }
}

TEST("a memory limit makes allocation fail, also of shared memory") {
  mpi_policy_init(&policy);
  policy.memory = 16 << 20;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  SKIP("the sanitizers' allocator ends the process instead");
#endif
  CHECK_EQ(run(allocates), 0);
}

static void floods (void) {
  char text[1000];
  int i;
  memset(text, 'x', sizeof text);
  for (i = 0; i < 1000; i++)
    if (write(1, text, sizeof text) != (ssize_t)sizeof text) _exit(1);
}

TEST("output beyond its limit is dropped and recorded") {
  int p[2];
  char buf[4096];
  size_t all = 0;
  ssize_t k;
  pid_t pid;
  void (*fn)(void) = floods;
  mpi_policy_init(&policy);
  policy.output = 50000;
  prepare();
  CHECK(pipe(p) == 0);
  (void)fflush(NULL);
  if ((pid = fork()) == 0) {
    (void)dup2(p[1], 1);
    inside(&fn);
    _exit(0);
  }
  (void)close(p[1]);
  while ((k = read(p[0], buf, sizeof buf)) > 0) all += (size_t)k;
  CHECK_EQ(wait_child(pid), 0);
  CHECK_EQ(all, 50000);
  CHECK_EQ(mpi_load(&report->dropped), 950000);
  CHECK_STR(report->v[0].need, "limits.output");
}

static void prints (void) {
  (void)!write(1, "out\n", 4);
  (void)!write(2, "err\n", 4);
}

TEST("what the child wrote before its end arrives") {
  int p[2];
  char buf[64] = "";
  pid_t pid;
  size_t all = 0;
  ssize_t k;
  void (*fn)(void) = prints;
  mpi_policy_init(&policy);
  prepare();
  CHECK(pipe(p) == 0);
  (void)fflush(NULL);
  if ((pid = fork()) == 0) {
    (void)dup2(p[1], 1);
    (void)dup2(p[1], 2);
    inside(&fn);
    _exit(0);
  }
  (void)close(p[1]);
  while ((k = read(p[0], buf + all, sizeof buf - 1 - all)) > 0) all += (size_t)k;
  CHECK_EQ(wait_child(pid), 0);
  CHECK_EQ(all, 8);
  CHECK(strstr(buf, "out") != NULL && strstr(buf, "err") != NULL);
}

static int alive (pid_t pid) {
  char name[64], text[256] = "";
  int fd;
  (void)snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
  fd = open(name, O_RDONLY);
  if (fd < 0) return 0;
  (void)!read(fd, text, sizeof text - 1);
  (void)close(fd);
  return strstr(text, ") Z ") == NULL;
}

TEST("a killed warden takes its child along") {
  void (*fn)(void) = sleeps;
  pid_t warden;
  mpi_policy_init(&policy);
  prepare();
  warden = fork_child(inside, &fn);
  CHECK(wait_until(mpi_load(&report->pid) != 0, 5000));
  CHECK(alive((pid_t)mpi_load(&report->pid)));
  CHECK(kill(warden, SIGKILL) == 0);
  CHECK_EQ(wait_child(warden), -SIGKILL);
  CHECK(wait_until(!alive((pid_t)mpi_load(&report->pid)), 2000));
}

TEST("SIGTERM to the warden ends the child, and shows") {
  void (*fn)(void) = sleeps;
  pid_t warden;
  mpi_policy_init(&policy);
  prepare();
  warden = fork_child(inside, &fn);
  CHECK(wait_until(mpi_load(&report->pid) != 0, 5000));
  CHECK(kill(warden, SIGTERM) == 0);
  CHECK_EQ(wait_child(warden), -SIGTERM);
}

TEST("what cannot be confined says why") {
  mpi_policy_init(&policy);
  make_dir();
  CHECK_OK(mpi_policy_read(&policy, dir));
  remove_dir();
  CHECK_EQ(run(nothing), 1);
  CHECK_EQ(mpi_load(&report->end), MPI_END_FAILED);
  CHECK(strstr(report->message, "no longer there") != NULL);
}

static void runs_a_program (void) {
  if (system("exit 3") != 3 << 8) _exit(1);
  if (system("/usr/bin/sort /dev/null 2>&1 | /usr/bin/sort") != 0) _exit(2);
  if (system("/bin/cat /dev/null 2>/dev/null") != 126 << 8) _exit(3);
}

TEST("granted programs run, others do not") {
  mpi_policy_init(&policy);
  CHECK_OK(mpi_policy_run(&policy, "/usr/bin/sort"));
  CHECK_EQ(run(runs_a_program), 0);
}

static pid_t told_pid (void) { /* what the child has written where the script's line is told */
  uint32_t i;
  for (i = 0; i < mpi_load(&report->n); i++) /* sanitizers have refusals of their own */
    if (atoi(report->v[i].where) > 0) return atoi(report->v[i].where);
  return 0;
}

static void tells (pid_t pid) {
  (void)snprintf(mpi_warden_where(), MPI_WHERE_SIZE, "%d", (int)pid);
  (void)open("/etc/passwd", O_RDONLY); /* the record has the number */
}

static void listens_in_a_child (void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  pid_t pid = fork();
  int status = 0, s;
  if (pid == 0) {
    s = socket(AF_INET, SOCK_STREAM, 0);
    _exit(s >= 0 && bind(s, (struct sockaddr *)&a, sizeof a) == 0 && listen(s, 4) == 0 ? 0 : 1);
  }
  if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) _exit(1);
}

TEST("a process of its own listens on its own socket") {
  uint32_t i;
  mpi_policy_init(&policy);
  CHECK_OK(mpi_policy_run(&policy, "/usr/bin/sort"));
  CHECK_OK(mpi_policy_bind(&policy, 0));
  CHECK_EQ(run(listens_in_a_child), 0);
  for (i = 0; i < mpi_load(&report->n); i++) CHECK(strcmp(report->v[i].call, "listen") != 0); /* sanitizers have refusals of their own */
}

static void leaves_something (void) {
  pid_t pid = fork();
  if (pid == 0) for (;;) (void)mp_sleep(MP_NEVER);
  tells(pid);
  if (pid < 0) _exit(1);
}

TEST("nothing that the child started survives it") {
  mpi_policy_init(&policy);
  CHECK_OK(mpi_policy_run(&policy, "/usr/bin/sort"));
  CHECK_EQ(run(leaves_something), 0);
  CHECK(told_pid() > 0 && !alive(told_pid()));
}

static void leaves_an_orphan (void) { /* the second fork's parent is gone before we are */
  pid_t pid = fork();
  if (pid == 0) {
    pid = fork();
    if (pid > 0) tells(pid), _exit(0);
    for (;;) (void)mp_sleep(MP_NEVER);
  }
  (void)waitpid(pid, NULL, 0);
}

TEST("nor does what that has started") {
  mpi_policy_init(&policy);
  CHECK_OK(mpi_policy_run(&policy, "/usr/bin/sort"));
  CHECK_EQ(run(leaves_an_orphan), 0);
  CHECK(told_pid() > 0 && !alive(told_pid()));
}

static void bombs (void) {
  int n;
  for (n = 0; n < 2000; n++) {
    pid_t pid = fork();
    if (pid == 0) for (;;) (void)mp_sleep(MP_NEVER);
    if (pid < 0) break;
  }
  if (n == 0 || errno != EAGAIN) _exit(1);
  if (n >= 100) _exit(2); /* there is a cap: jail.c has it at 64 */
}

TEST("a fork bomb ends at the cap, and nothing of it is left", .limit = 30) {
  int before, after;
  mpi_policy_init(&policy);
  CHECK_OK(mpi_policy_run(&policy, "/usr/bin/sort"));
  (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* whatever escaped its warden would come to us */
  before = waitpid(-1, NULL, WNOHANG) < 0 ? errno : 0;
  CHECK_EQ(before, ECHILD);
  CHECK_EQ(run(bombs), 0);
  after = waitpid(-1, NULL, WNOHANG) < 0 ? errno : 0;
  CHECK_EQ(after, ECHILD);
}

static void bombs_on (void) { /* every one of them starts others, for as long as it lives */
  int i;
  for (i = 0; i < 20; i++)
    if (fork() == 0) {
      for (;;)
        if (fork() == 0) (void)setsid();
    }
}

TEST("nor is of one that goes on while it is ended", .limit = 30) {
  mpi_policy_init(&policy);
  CHECK_OK(mpi_policy_run(&policy, "/usr/bin/sort"));
  (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  (void)run(bombs_on);
  CHECK_EQ(waitpid(-1, NULL, WNOHANG) < 0 ? errno : 0, ECHILD);
}

static void *sleeps_on (void *arg) {
  (void)mp_sleep(MP_NEVER);
  return arg;
}

static void bombs_with_threads (void) {
  pthread_t t;
  int n, rc = 0;
  for (n = 0; n < 1000 && (rc = pthread_create(&t, NULL, sleeps_on, NULL)) == 0; n++) continue;
  if (rc != EAGAIN) _exit(1);
  if (n != 4) _exit(2);
  tells(getpid()); /* it lives, and is watched */
}

TEST("a thread bomb ends at the number that was granted") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  SKIP("the sanitizers have threads and memory of their own");
#endif
  mpi_policy_init(&policy);
  policy.threads = 4;
  CHECK_EQ(run(bombs_with_threads), 0);
  CHECK_EQ(mpi_load(&report->n), 1);
}

static void computes_deafly (void) {
  sigset_t all;
  sigfillset(&all);
  (void)sigprocmask(SIG_SETMASK, &all, NULL);
  if (signal(SIGXCPU, SIG_IGN) != SIG_ERR) _exit(1);
  computes();
}

TEST("a CPU limit ends also who hears no signals") {
  mpi_policy_init(&policy);
  policy.cpu = 200 * MPI_NS_PER_MS;
  CHECK_EQ(run(computes_deafly), -SIGKILL);
  CHECK_EQ(mpi_load(&report->end), MPI_END_CPU);
}

TEST("a wall limit ends also who is stopped") {
  void (*fn)(void) = sleeps;
  pid_t warden;
  mpi_policy_init(&policy);
  policy.wall = 500 * MPI_NS_PER_MS;
  prepare();
  warden = fork_child(inside, &fn);
  CHECK(wait_until(mpi_load(&report->pid) != 0, 5000));
  CHECK(kill((pid_t)mpi_load(&report->pid), SIGSTOP) == 0);
  CHECK_EQ(wait_child(warden), -SIGKILL);
  CHECK_EQ(mpi_load(&report->end), MPI_END_WALL);
}

static void asks_for_ever (void) {
  long i;
  for (i = 0; i < 100L * MPI_REFUSALS_MAX; i++) {
    char name[32];
    (void)snprintf(name, sizeof name, "/etc/passwd%ld", i % 1000);
    (void)open(i % 2 == 0 ? "/etc/passwd" : "/etc/shadow", O_RDONLY);
    (void)mkdir(name, 0700);
  }
}

TEST("who asks for ever is ended, and the records have an end", .limit = 60) {
#if !defined(MP_HARD)
  SKIP("there the end comes after a hundred thousand");
#endif
  mpi_policy_init(&policy);
  CHECK_EQ(run(asks_for_ever), -SIGKILL);
  CHECK_EQ(mpi_load(&report->end), MPI_END_VIOLATION);
  CHECK_EQ(mpi_load(&report->n), MPI_REPORT_RECORDS);
  CHECK(mpi_load(&report->more) > 0);
}

static void asks_in_colour (void) {
  (void)open("/etc/\33[31mred\n\"x", O_RDONLY | O_CREAT, 0600);
}

TEST("what a record repeats is printable") {
  const char *s;
  mpi_policy_init(&policy);
  CHECK_EQ(run(asks_in_colour), 0);
  CHECK_EQ(mpi_load(&report->n), 1);
  for (s = report->v[0].target; *s != '\0'; s++) CHECK((unsigned char)*s >= 0x20);
  for (s = report->v[0].fix; *s != '\0'; s++) CHECK((unsigned char)*s >= 0x20);
  CHECK(strstr(report->v[0].target, "red") != NULL);
}

static void learns (void *arg) {
  int in_child = 0, status = -1, fd;
  (void)arg;
  CHECK_OK(mpi_warden_split(&jail, report, NULL, 0, &in_child, &status));
  if (in_child) {
    fd = open("/etc/passwd", O_RDONLY);
    (void)socket(AF_INET, SOCK_STREAM, 0);
    _exit(fd >= 0 ? 5 : 1);
  }
  CHECK_EQ(WEXITSTATUS(status), 5);
}

TEST("a learner refuses nothing and records what was needed") {
  uint32_t i, n;
  int file = 0, net = 0;
  mpi_policy_init(&policy);
  CHECK_OK(mpi_jail_make_learner(&jail));
  CHECK_OK(mpi_jail_report_make(&report_fd, &report));
  CHECK_EQ(wait_child(fork_child(learns, NULL)), 0);
  n = mpi_load(&report->n);
  for (i = 0; i < n; i++) {
    file |= strcmp(report->v[i].target, "/etc/passwd") == 0 && strcmp(report->v[i].need, "read") == 0;
    net |= strcmp(report->v[i].need, "net") == 0;
  }
  CHECK(file && net);
}

static void no_privileges_left (void) {
  if (getuid() == 0 || geteuid() == 0) _exit(1);
  if (getenv("SECRET") != NULL) _exit(2);
  if (fcntl(9, F_GETFD) != -1) _exit(3);
  if (getppid() <= 1) _exit(4);
}

TEST("identity, environment and descriptors are gone inside") {
  mpi_policy_init(&policy);
  (void)setenv("SECRET", "1", 1);
  CHECK(dup2(1, 9) == 9);
  CHECK_EQ(run(no_privileges_left), 0);
}

TEST("a sandbox survives the way to another process, and bytes that are none are refused") {
  static unsigned char bytes[MPI_JAIL_PACKED_MAX];
  static struct mpi_jail copy;
  size_t size, cut;
  mpi_policy_init(&policy);
  CHECK_OK(mpi_policy_read(&policy, "/usr"));
  CHECK_OK(mpi_jail_make(&policy, MPI_FILTER_LISTENER, &jail));
  size = mpi_jail_pack(&jail, bytes);
  CHECK(size < 16384);
  CHECK_OK(mpi_jail_unpack(bytes, size, &copy));
  CHECK_EQ(copy.filter.n, jail.filter.n);
  CHECK_MEM(copy.filter.insn, jail.filter.insn, jail.filter.n * sizeof jail.filter.insn[0]);
  CHECK_MEM(&copy.policy, &jail.policy, sizeof copy.policy);
  for (cut = 0; cut < size; cut += 97) CHECK_ERR(mpi_jail_unpack(bytes, cut, &copy), MP_ECORRUPT);
  bytes[0] ^= 1;
  CHECK_ERR(mpi_jail_unpack(bytes, size, &copy), MP_ECORRUPT);
}

static void opens_then_computes (void) {
  if (open("/etc/passwd", O_RDONLY) < 0) _exit(1);
  computes();
}

TEST("limits without a sandbox refuse nothing and still end a loop") {
  mpi_policy_init(&policy);
  policy.cpu = 100 * MPI_NS_PER_MS;
  CHECK_OK(mpi_jail_make(&policy, MPI_FILTER_NONE, &jail));
  CHECK_OK(mpi_jail_report_make(&report_fd, &report));
  {
    void (*fn)(void) = opens_then_computes;
    CHECK_EQ(wait_child(fork_child(inside, &fn)), -SIGKILL);
  }
  CHECK_EQ(mpi_load(&report->end), MPI_END_CPU);
  CHECK_EQ(mpi_load(&report->n), 0);
}

static void starts_sleepers (void) {
  pid_t pid = fork();
  if (pid == 0) for (;;) (void)mp_sleep(MP_NEVER);
  (void)snprintf(mpi_warden_where(), MPI_WHERE_SIZE, "%d", (int)pid);
  (void)open("/etc/passwd", O_RDONLY); /* the record's place tells the number */
  sleeps();
}

/* Not the first record for sure: a sanitizer's runtime may have been refused something before. */
static pid_t told (void) {
  unsigned i, n = mpi_load(&report->n);
  for (i = 0; i < n && i < sizeof report->v / sizeof report->v[0]; i++) {
    pid_t pid = atoi(report->v[i].where);
    if (pid > 0) return pid;
  }
  return 0;
}

TEST("the signal of the end takes along what the child has started") {
  void (*fn)(void) = starts_sleepers;
  pid_t warden, grandchild;
  mpi_policy_init(&policy);
  CHECK_OK(mpi_policy_run(&policy, "/usr/bin/sort"));
  prepare();
  warden = fork_child(inside, &fn);
  CHECK(wait_until((grandchild = told()) > 0, 5000));
  CHECK(alive(grandchild));
  CHECK(kill(warden, MPI_WARDEN_END) == 0);
  CHECK_EQ(wait_child(warden), -SIGKILL);
  CHECK_EQ(mpi_load(&report->end), MPI_END_NONE);
  CHECK(!alive((pid_t)mpi_load(&report->pid)) && !alive(grandchild));
}
