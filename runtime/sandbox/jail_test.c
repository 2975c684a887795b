/* Attacks, in C: what native code in a confined process may try. Each is a function that gives 0 when it got what it wanted, else errno.
** It runs once outside, where it must succeed (or the test proves nothing; what the machine cannot do at all is left out, aloud), then in a
** fresh confined process for each tier that should refuse it, started by root and by an ordinary user. Expected inside:
**   REFUSED  an errno of refusal, the process lives, one record          QUIET  the same without a record (or ENOSYS)
**   ENDED    the warden records and kills                                  FILTER the kernel ends the process (SIGSYS)
**   FAILS    an error of any kind, no record needed (an object that is not there, a limit)
*/
#include "sandbox/warden.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/clock.h"
#include "sandbox/landlock.h"
#include "test/test.h"

enum expected { REFUSED, QUIET, ENDED, FILTER, FAILS };

enum tier { PURE = 1, THREADS = 2, READ = 4, WRITE = 8, CONNECT = 16, BIND = 32, DNS = 64, RUN = 128, ALL = 255 };
#define TIERS 8
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) /* slow; and their threads read /proc/self/maps */
#define TRIED (PURE | WRITE | RUN)
#else
#define TRIED ALL
#endif
static const char *const tier_names[TIERS] = {"pure", "threads", "read", "write", "net.connect", "net.bind", "net.dns", "run"};

struct attack {
  const char *what;
  int (*fn)(void);
  enum expected expected;
  unsigned tiers;
  int no_control; /* needs what this machine or user may lack: the control run may fail */
};

#define OR_ERRNO(call) ((call) >= 0 ? 0 : errno)

/* ---- the playing field, made before anything is confined ---- */

static struct field {
  char base[64], reads[80], writes[80], secret[96], readable[112], writable[112];
  int port_ok, port_bad, listener_ok, listener_bad, udp, udp_port;
  pid_t owner;
  char unix_path[100];
  char abstract_name[108];
  int unix_listener, abstract_listener;
  long victim_word;
} field;

static int listening (int *port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t n = sizeof a;
  int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(s >= 0 && bind(s, (struct sockaddr *)&a, sizeof a) == 0 && listen(s, 64) == 0 && getsockname(s, (struct sockaddr *)&a, &n) == 0);
  *port = ntohs(a.sin_port);
  return s;
}

static void put (const char *name, const char *text) {
  int fd = open(name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0666);
  CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0);
}

static void make_field (void) {
  struct sockaddr_in u = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  socklen_t n = sizeof u;
  char name[160];
  (void)umask(0);
  (void)snprintf(field.base, sizeof field.base, "/tmp/mp-jail-XXXXXX");
  CHECK(mkdtemp(field.base) != NULL && chmod(field.base, 0777) == 0);
  (void)snprintf(field.reads, sizeof field.reads, "%s/reads", field.base);
  (void)snprintf(field.writes, sizeof field.writes, "%s/writes", field.base);
  CHECK(mkdir(field.reads, 0777) == 0 && mkdir(field.writes, 0777) == 0);
  (void)snprintf(field.secret, sizeof field.secret, "%s/secret", field.base);
  (void)snprintf(field.readable, sizeof field.readable, "%s/file", field.reads);
  (void)snprintf(field.writable, sizeof field.writable, "%s/file", field.writes);
  put(field.secret, "secret");
  put(field.readable, "readable");
  put(field.writable, "writable");
  (void)snprintf(name, sizeof name, "%s/link", field.reads);
  CHECK(symlink(field.secret, name) == 0);
  (void)snprintf(name, sizeof name, "%s/moved", field.reads);
  put(name, "moved");
  field.listener_ok = listening(&field.port_ok);
  field.listener_bad = listening(&field.port_bad);
  field.udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  CHECK(bind(field.udp, (struct sockaddr *)&u, sizeof u) == 0 && getsockname(field.udp, (struct sockaddr *)&u, &n) == 0);
  field.udp_port = ntohs(u.sin_port);
  (void)snprintf(field.unix_path, sizeof field.unix_path, "%s/socket", field.writes);
  memcpy(un.sun_path, field.unix_path, sizeof field.unix_path);
  field.unix_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(field.unix_listener, (struct sockaddr *)&un, sizeof un) == 0 && listen(field.unix_listener, 64) == 0);
  memset(&un, 0, sizeof un);
  un.sun_family = AF_UNIX;
  (void)snprintf(un.sun_path + 1, sizeof un.sun_path - 1, "mp-jail-%d", (int)getpid());
  memcpy(field.abstract_name, un.sun_path, sizeof field.abstract_name);
  field.abstract_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(field.abstract_listener, (struct sockaddr *)&un, sizeof un) == 0 && listen(field.abstract_listener, 64) == 0);
  field.owner = getpid();
  field.victim_word = 0x1234;
  (void)signal(SIGCONT, SIG_DFL);
}

static int remove_tree (void) {
  char command[128];
  (void)snprintf(command, sizeof command, "rm -rf %s", field.base);
  return system(command);
}

static void policy_for (unsigned tier, struct mpi_policy *p) {
  mpi_policy_init(p);
  if (tier & (READ | WRITE)) CHECK_OK(mpi_policy_read(p, field.reads));
  if (tier & WRITE) CHECK_OK(mpi_policy_write(p, field.writes));
  if (tier & CONNECT) CHECK_OK(mpi_policy_connect(p, field.port_ok));
  if (tier & BIND) CHECK_OK(mpi_policy_bind(p, 0));
  if (tier & DNS) p->dns = 1;
  if (tier & RUN) CHECK_OK(mpi_policy_run(p, "/usr/bin/sort"));
  if (tier & THREADS) p->threads = 4;
}

/* ---- running one attack ---- */

static void outside (void *arg) {
  int e;
  (void)signal(SIGSEGV, SIG_DFL); /* not a sanitizer's report: the signal that says it */
  e = ((const struct attack *)arg)->fn();
  _exit(e == 0 ? 0 : e > 0 && e < 126 ? e : 126);
}

struct inside {
  const struct attack *a;
  struct mpi_jail *jail;
  int report_fd;
  int user;
};

static void be_ordinary (void) {
  if (geteuid() != 0) return;
  CHECK(setresgid(12345, 12345, 12345) == 0 && setresuid(12345, 12345, 12345) == 0);
  CHECK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0); /* as a process is that such a user has started */
}

static void in_jail (void *arg) {
  struct inside *in = arg;
  int e;
  if (in->user) be_ordinary();
  (void)signal(SIGSEGV, SIG_DFL);
  field.owner = getpid(); /* what stands for the owner is the warden, at least */
  if (mpi_warden_enter(in->jail, in->report_fd, NULL, 0) != 0) _exit(125);
  e = in->a->fn();
  /* It lives, and the report still works. */
  _exit(e == 0 ? 0 : e > 0 && e < 125 ? e : 124);
}

static const char *judge (const struct attack *a, int status, const struct mpi_jail_report *r, int *e) {
  uint32_t n = mpi_load(&((struct mpi_jail_report *)(uintptr_t)r)->n);
  *e = status;
  if (status == 125) return "it could not be confined";
  if (status == 0) return "it succeeded";
  switch (a->expected) {
    case FILTER: return status == -SIGSYS ? NULL : "the filter did not end the process";
    case ENDED: return status == -SIGKILL && n >= 1 && r->v[0].fatal ? NULL : "it was not ended with a record";
    case FAILS: return status > 0 ? NULL : "the process died";
    case QUIET: return status < 0 ? "the process died" : n == 0 ? NULL : "there is a record";
    default:
      if (status < 0) return "the process died";
      if (status != EPERM && status != EACCES) return "another error than a refusal";
      return n == 1 ? NULL : n == 0 ? "there is no record" : "there is more than one record";
  }
}

static int works_outside (const struct attack *a, char *why, size_t size) {
  int status = wait_child(fork_child(outside, (void *)(uintptr_t)a));
  if (a->expected == FILTER && status == 0) return 1;
  if (status == 0) return 1;
  if (status > 0) (void)snprintf(why, size, "%s", strerror(status));
  else (void)snprintf(why, size, "signal %d", -status);
  return 0;
}

static void attempt (const struct attack *a, struct mpi_jail *jail, const char *name, int user, int control) {
  struct mpi_jail_report *r;
  struct inside in = {a, jail, -1, user};
  const char *fault;
  int e;
  CHECK_OK(mpi_jail_report_make(&in.report_fd, &r));
  fault = judge(a, wait_child(fork_child(in_jail, &in)), r, &e);
  if (fault != NULL && !(control == 0 && a->no_control && (e == ENOSYS || e == ENODEV || e == EOPNOTSUPP || e == -SIGSEGV))) /* SIGSEGV: a kernel without that entry */
    FAIL("%s, in %s%s: %s (status %d: %s; %u records, the first: %s %s: %s)", a->what, name, user ? " as a user" : "", fault, e,
         e > 0 ? strerror(e) : "", mpi_load(&r->n), r->v[0].call, r->v[0].target, r->message);
  mpi_jail_report_unmap(r);
  (void)close(in.report_fd);
}

/* Has anybody come? Takes them all off. */
static int visitors (void) {
  int listeners[] = {field.listener_bad, field.unix_listener, field.abstract_listener}, n = 0, fd;
  char byte;
  size_t i;
  for (i = 0; i < sizeof listeners / sizeof listeners[0]; i++) {
    (void)fcntl(listeners[i], F_SETFL, O_NONBLOCK);
    while ((fd = accept(listeners[i], NULL, NULL)) >= 0) {
      (void)close(fd);
      n++;
    }
  }
  while (recv(field.udp, &byte, 1, 0) >= 0) n++;
  return n;
}

static void run_attacks (const struct attack *list) {
  static struct mpi_jail jails[TIERS]; /* making one takes longer than an attack */
  const struct attack *a;
  char why[64];
  int t;
  make_field();
  for (t = 0; t < TIERS; t++) {
    struct mpi_policy p;
    policy_for(1u << t, &p);
    CHECK_OK(mpi_jail_make(&p, MPI_FILTER_LISTENER, &jails[t]));
  }
  mpi_jail_warm();
  (void)malloc_trim(0);
  for (a = list; a->what != NULL; a++) {
    int control = works_outside(a, why, sizeof why);
    if (!control) {
      if (!a->no_control) FAIL("%s: the control run outside fails (%s): the test proves nothing", a->what, why);
      (void)fprintf(stderr, "note: %s: not possible on this machine outside either (%s)\n", a->what, why);
    }
    (void)visitors(); /* from outside */
    for (t = 0; t < TIERS; t++) {
      if (!(a->tiers & TRIED & (1u << t))) continue;
      attempt(a, &jails[t], tier_names[t], 0, control);
      if (geteuid() == 0) attempt(a, &jails[t], tier_names[t], 1, control);
    }
    if (visitors() != 0) FAIL("%s: something got out", a->what);
  }
  (void)remove_tree();
}

/* ---- ABI and filter (1-6) ---- */

#if defined(__x86_64__)
static int int80 (void) {
  long r;
  __asm__ __volatile__("int $0x80" : "=a"(r) : "a"(20L) : "memory", "r8", "r9", "r10", "r11"); /* getpid there */
  return r > 0 ? 0 : (int)-r;
}

static void *int80_thread (void *arg) {
  (void)arg;
  (void)int80();
  return NULL;
}

static int int80_in_a_thread (void) {
  pthread_t t;
  int rc = pthread_create(&t, NULL, int80_thread, NULL);
  if (rc != 0) return rc;
  (void)pthread_join(t, NULL);
  return 0;
}

static int x32 (void) {
  errno = 0;
  return syscall(0x40000000 | SYS_getpid) == -1 && errno != ENOSYS ? errno : 0; /* without x32 in the kernel: ENOSYS, not killed */
}
#endif

static int unknown (long nr) {
  errno = 0;
  (void)syscall(nr);
  return errno;
}
static int number_500 (void) { return unknown(500); }
static int number_huge (void) { return unknown(0x7fffffff); }
static int number_minus_1 (void) { return unknown(-1); }

static int high_bits (void) { /* mprotect's protection with more than 32 bits */
  void *p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return OR_ERRNO(syscall(SYS_fcntl, 0, (1UL << 32) | F_GETFD, 0) >= 0 && p != MAP_FAILED ? 0 : -1);
}
static int sign_extended (void) {
  return OR_ERRNO(syscall(SYS_futex, &field.victim_word, 0xffffffff00000001UL, 1, NULL, NULL, 0));
}
static int mmap_off_by_one (void) {
  return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0) == MAP_FAILED ? errno : 0;
}
static int second_listener (void) {
  struct { unsigned short n; void *f; } prog = {0, NULL};
  (void)syscall(SYS_seccomp, 1, 8, &prog);
  return errno == EINVAL || errno == EFAULT ? 0 : errno; /* outside: the kernel gets as far as the program */
}
static int prctl_seccomp (void) { return prctl(PR_SET_SECCOMP, 2, NULL, 0, 0) != 0 && errno != EFAULT && errno != EACCES ? errno : prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : errno; }
static int catch_sigsys (void) {
  struct sigaction sa;
  memset(&sa, 0, sizeof sa);
  sa.sa_handler = SIG_IGN;
  return OR_ERRNO(sigaction(SIGSYS, &sa, NULL));
}

TEST("foreign ABI, unknown numbers, malformed arguments and second filters get nothing", .limit = 60) {
  static const struct attack list[] = {
#if defined(__x86_64__)
    {"int 0x80", int80, FILTER, ALL, 1},
    {"int 0x80 in a second thread", int80_in_a_thread, FILTER, THREADS, 1},
    {"an x32 number", x32, FILTER, ALL, 0},
#endif
    {"number 500", number_500, QUIET, ALL, 1},
    {"number 0x7fffffff", number_huge, QUIET, ALL, 1},
    {"number -1", number_minus_1, QUIET, ALL, 1},
    {"fcntl with a high bit", high_bits, REFUSED, ALL, 0},
    {"futex sign-extended", sign_extended, REFUSED, ALL, 0},
    {"mmap with one flag more", mmap_off_by_one, REFUSED, ALL, 1},
    {"a second listener", second_listener, ENDED, ALL, 1},
    {"a second filter by prctl", prctl_seccomp, REFUSED, ALL, 0},
    {"a handler for SIGSYS", catch_sigsys, REFUSED, ALL & ~RUN, 0},
    {NULL, NULL, REFUSED, 0, 0}};
  run_attacks(list);
}

static int still_told (void) { /* a second refusal, after an attack on the filter itself */
  (void)prctl_seccomp();
  (void)catch_sigsys();
  return OR_ERRNO(open("/etc/passwd", O_RDONLY));
}

TEST("after an attack on the filter, refusals are told as before") {
  static struct mpi_jail jail;
  struct attack a = {"later", still_told, REFUSED, 0, 0};
  struct mpi_policy p;
  struct mpi_jail_report *r;
  struct inside in = {&a, &jail, -1, 0};
  make_field();
  policy_for(PURE, &p);
  CHECK_OK(mpi_jail_make(&p, MPI_FILTER_LISTENER, &jail));
  CHECK_OK(mpi_jail_report_make(&in.report_fd, &r));
  CHECK_EQ(wait_child(fork_child(in_jail, &in)), EPERM);
  CHECK_EQ(mpi_load(&r->n), 3);
  CHECK_STR(r->v[2].call, "openat");
  CHECK_STR(r->v[2].target, "/etc/passwd");
  (void)remove_tree();
}

/* ---- files (8-18) ---- */

static int open_passwd (void) { return OR_ERRNO(open("/etc/passwd", O_RDONLY)); }
static int open_secret (void) { return OR_ERRNO(open(field.secret, O_RDONLY)); }
static int open_old_way (void) {
#ifdef SYS_open
  return OR_ERRNO(syscall(SYS_open, "/etc/passwd", O_RDONLY));
#else
  return open_passwd();
#endif
}
static int open_by_openat2 (void) {
  uint64_t how[3] = {O_RDONLY, 0, 0};
  return OR_ERRNO(syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", how, sizeof how));
}
static int open_dotdot (void) {
  char name[160];
  (void)snprintf(name, sizeof name, "%s/../secret", field.reads);
  return OR_ERRNO(open(name, O_RDONLY));
}
static int open_via_link (void) { /* planted by somebody else in the readable directory */
  char name[160];
  (void)snprintf(name, sizeof name, "%s/link", field.reads);
  return OR_ERRNO(open(name, O_RDONLY));
}
static int open_self_root (void) {
  char name[160];
  (void)snprintf(name, sizeof name, "/proc/self/root%s", field.secret);
  return OR_ERRNO(open(name, O_RDONLY));
}
static int open_self_fd (void) { return OR_ERRNO(open("/proc/self/fd/1", O_WRONLY)); }
static int truncate_readable (void) { return OR_ERRNO(open(field.readable, O_RDONLY | O_TRUNC)); }
static int open_o_path (void) { return OR_ERRNO(open(field.readable, O_PATH)); }
static int open_tmpfile (void) { return OR_ERRNO(open(field.reads, O_TMPFILE | O_RDWR, 0600)); }
static int write_readable (void) { return OR_ERRNO(open(field.readable, O_WRONLY)); }
static int create_in_reads (void) {
  char name[160];
  (void)snprintf(name, sizeof name, "%s/new%d", field.reads, (int)getpid());
  return OR_ERRNO(open(name, O_CREAT | O_WRONLY | O_EXCL, 0600));
}
static struct {
  struct file_handle h;
  char room[128];
} handle; /* made outside */
static int open_handle (void) { return OR_ERRNO(open_by_handle_at(AT_FDCWD, &handle.h, O_RDONLY)); }
static int in_writes (char *name, const char *what) {
  (void)snprintf(name, 160, "%s/%s%d", field.writes, what, (int)getpid());
  return 0;
}
static int hard_link (void) {
  char name[160];
  (void)in_writes(name, "hard");
  return OR_ERRNO(link(field.readable, name));
}
static int sym_link (void) {
  char name[160];
  (void)in_writes(name, "sym");
  return OR_ERRNO(symlink("/etc/passwd", name));
}
static int rename_out (void) {
  char name[160], from[160];
  int e;
  (void)snprintf(from, sizeof from, "%s/moved", field.reads);
  (void)in_writes(name, "moved");
  e = OR_ERRNO(rename(from, name));
  if (e == 0) (void)rename(name, from);
  return e;
}
static int change_mode (void) { return OR_ERRNO(chmod(field.writable, 0777)); }
static int change_mode_fd (void) {
  int fd = open(field.writable, O_RDONLY);
  return OR_ERRNO(fd < 0 ? -1 : fchmod(fd, 0777));
}
static int change_owner (void) { return OR_ERRNO(chown(field.writable, (uid_t)-1, (gid_t)-1)); }
static int set_attribute (void) { return OR_ERRNO(setxattr(field.writable, "user.x", "1", 1, 0)); }
static int set_times (void) { return OR_ERRNO(utimensat(AT_FDCWD, field.writable, NULL, 0)); }
static int truncate_path (void) { return OR_ERRNO(truncate(field.writable, 0)); }
static int stat_secret (void) {
  struct stat st;
  return OR_ERRNO(stat(field.secret, &st));
}
static int make_fifo (void) {
  char name[160];
  (void)in_writes(name, "fifo");
  return OR_ERRNO(mkfifo(name, 0600));
}
static int make_device (void) {
  char name[160];
  (void)in_writes(name, "dev");
  return OR_ERRNO(mknod(name, S_IFCHR | 0600, 0x103));
}
static int make_socket (void) {
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  (void)snprintf(un.sun_path, sizeof un.sun_path, "%.60s/s%d", field.writes, (int)getpid());
  return OR_ERRNO(s < 0 ? -1 : bind(s, (struct sockaddr *)&un, sizeof un));
}
static int set_user_file (void) { /* it would be the owner's, and whoever starts it would be too */
  char name[160];
  (void)in_writes(name, "suid");
  return OR_ERRNO(open(name, O_CREAT | O_WRONLY, 04755));
}
static int set_group_file (void) {
  char name[160];
  (void)in_writes(name, "sgid");
  return OR_ERRNO(open(name, O_CREAT | O_RDWR | O_EXCL, 02755));
}
static int change_directory (void) { return OR_ERRNO(chdir("/etc")); }

#define FILES (READ | WRITE)
TEST("files outside the grants cannot be reached, nor the granted ones changed against them", .limit = 60) {
  static const struct attack list[] = {
    {"open /etc/passwd", open_passwd, REFUSED, ALL, 0},
    {"open by the old call", open_old_way, REFUSED, ALL & ~DNS, 0},
    {"open by openat2", open_by_openat2, QUIET, ALL, 0},
    {"open a file beside the granted directory", open_secret, REFUSED, ALL, 0},
    {"open through ..", open_dotdot, REFUSED, ALL, 0},
    {"open through a planted link", open_via_link, REFUSED, ALL, 0},
    {"open through /proc/self/root", open_self_root, REFUSED, ALL, 0},
    {"open a descriptor again", open_self_fd, REFUSED, ALL & ~RUN, 0},
    {"O_RDONLY | O_TRUNC", truncate_readable, REFUSED, ALL, 0},
    {"O_PATH", open_o_path, REFUSED, ALL, 0},
    {"O_TMPFILE", open_tmpfile, REFUSED, ALL, 1},
    {"write to a file that may be read", write_readable, REFUSED, ALL, 0},
    {"create where only reading is granted", create_in_reads, REFUSED, ALL, 0},
    {"open_by_handle_at", open_handle, ENDED, ALL, 1},
    {"hard link", hard_link, REFUSED, ALL, 0},
    {"symbolic link", sym_link, REFUSED, ALL, 0},
    {"rename out of a readable directory", rename_out, REFUSED, ALL, 0},
    {"chmod", change_mode, REFUSED, ALL, 0},
    {"fchmod", change_mode_fd, REFUSED, WRITE, 0},
    {"chown", change_owner, REFUSED, ALL, 0},
    {"setxattr", set_attribute, REFUSED, ALL, 1},
    {"utimensat", set_times, REFUSED, ALL, 0},
    {"truncate", truncate_path, REFUSED, ALL, 0},
    {"stat", stat_secret, QUIET, PURE | THREADS | CONNECT | BIND, 0},
    {"mkfifo", make_fifo, REFUSED, ALL, 0},
    {"mknod of a device", make_device, REFUSED, ALL, 1},
    {"a unix socket in a writable directory", make_socket, REFUSED, ALL, 0},
    {"a file that is set-uid from its birth", set_user_file, REFUSED, ALL, 0},
    {"a file that is set-gid from its birth", set_group_file, REFUSED, ALL, 1},
    {"chdir", change_directory, REFUSED, ALL & ~RUN, 0},
    {NULL, NULL, REFUSED, 0, 0}};
  int mount_id;
  handle.h.handle_bytes = sizeof handle.room;
  (void)name_to_handle_at(AT_FDCWD, "/etc/passwd", &handle.h, &mount_id, 0);
  run_attacks(list);
}

/* ---- other processes (19-28) ---- */

static int trace_owner (void) { return OR_ERRNO(syscall(SYS_ptrace, 0x4206 /* SEIZE */, field.owner == getpid() ? getppid() : field.owner, 0, 0)); }
static int trace_me (void) { return OR_ERRNO(syscall(SYS_ptrace, 0, 0, 0, 0)); }
static pid_t owner (void) { return field.owner == getpid() ? getppid() : field.owner; }
static int read_owner (void) {
  long here = 0;
  struct iovec l = {&here, sizeof here}, r = {&field.victim_word, sizeof here};
  return OR_ERRNO(process_vm_readv(owner(), &l, 1, &r, 1, 0));
}
static int write_owner (void) {
  long here = field.victim_word;
  struct iovec l = {&here, sizeof here}, r = {&field.victim_word, sizeof here};
  return OR_ERRNO(process_vm_writev(owner(), &l, 1, &r, 1, 0));
}
static int open_of_owner (const char *what, int flags) {
  char name[64];
  (void)snprintf(name, sizeof name, "/proc/%d/%s", (int)owner(), what);
  return OR_ERRNO(open(name, flags));
}
static int owner_mem (void) { return open_of_owner("mem", O_RDONLY); }
static int owner_environ (void) { return open_of_owner("environ", O_RDONLY); }
static int owner_maps (void) { return open_of_owner("maps", O_RDONLY); }
static int owner_fds (void) { return open_of_owner("fd", O_RDONLY | O_DIRECTORY); }
static int own_mem (void) { return OR_ERRNO(open("/proc/self/mem", O_RDWR)); }
static int kill_owner (void) { return OR_ERRNO(kill(owner(), SIGCONT)); }
static int kill_all (void) { return OR_ERRNO(kill(-1, 0)); }
static int tgkill_owner (void) { return OR_ERRNO(syscall(SYS_tgkill, owner(), owner(), SIGCONT)); }
static int tkill_owner (void) { return OR_ERRNO(syscall(SYS_tkill, owner(), SIGCONT)); }
static int queue_signal (void) {
  union sigval v = {0};
  return OR_ERRNO(sigqueue(owner(), SIGCONT, v));
}
static int pidfd_of_owner (void) { return OR_ERRNO(syscall(SYS_pidfd_open, owner(), 0)); }
static int pidfd_signal (void) {
  int fd = (int)syscall(SYS_pidfd_open, owner(), 0);
  return OR_ERRNO(syscall(SYS_pidfd_send_signal, fd < 0 ? 0 : fd, SIGCONT, NULL, 0));
}
static int pidfd_steal (void) {
  int fd = (int)syscall(SYS_pidfd_open, owner(), 0);
  return OR_ERRNO(syscall(SYS_pidfd_getfd, fd < 0 ? 0 : fd, 1, 0));
}
static int be_dumpable (void) { return OR_ERRNO(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); }
static int be_traced (void) { return OR_ERRNO(prctl(PR_SET_PTRACER, -1L, 0, 0, 0)); }
static int limit_owner (void) {
  struct rlimit r;
  if (syscall(SYS_prlimit64, owner(), RLIMIT_CORE, NULL, &r) != 0) return errno;
  return OR_ERRNO(syscall(SYS_prlimit64, owner(), RLIMIT_CORE, &r, NULL));
}
static int pin_owner (void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(0, &set);
  CPU_SET(1, &set);
  return OR_ERRNO(sched_setaffinity(owner(), sizeof set, &set));
}
static int renice_owner (void) { return OR_ERRNO(setpriority(PRIO_PROCESS, (id_t)owner(), 0)); }
static int ioprio_owner (void) { return OR_ERRNO(syscall(SYS_ioprio_set, 1, owner(), (2 << 13) | 4)); }
static int count_fork (pid_t pid) {
  if (pid == 0) _exit(0);
  if (pid > 0) (void)waitpid(pid, NULL, 0);
  return OR_ERRNO(pid);
}
static int by_fork (void) { return count_fork(fork()); }
static int by_vfork (void) {
#ifdef SYS_vfork
  return count_fork(vfork());
#else
  return by_fork();
#endif
}
static int by_clone3 (void) {
  uint64_t args[11] = {0};
  args[4] = SIGCHLD;
  return count_fork((pid_t)syscall(SYS_clone3, args, sizeof args));
}
static int by_clone_parent (void) {
  long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
  if (pid == 0) _exit(0);
  return OR_ERRNO(pid);
}
static void *no_work (void *arg) {
  return arg;
}
static int a_thread (void) {
  pthread_t t;
  int rc = pthread_create(&t, NULL, no_work, NULL);
  if (rc == 0) (void)pthread_join(t, NULL);
  return rc == EAGAIN ? EPERM : rc; /* glibc's word for a clone that was refused */
}
static int exec_true (void) {
  char *const argv[] = {(char *)(uintptr_t) "true", NULL};
  (void)execv("/bin/true", argv);
  return errno;
}
static int exec_loader (void) { /* the loader starts what may not be started */
  char *const argv[] = {(char *)(uintptr_t) "ld.so", (char *)(uintptr_t) "/bin/true", NULL};
  (void)execv("/lib64/ld-linux-x86-64.so.2", argv);
  (void)execv("/lib/ld-linux-aarch64.so.1", argv);
  return errno == ENOENT ? EPERM : errno;
}
static int outlive_owner (void) { return OR_ERRNO(prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)); }
static int exec_memfd (void) {
  char *const argv[] = {(char *)(uintptr_t) "true", NULL};
  int to = (int)syscall(SYS_memfd_create, "x", 0);
  if (to < 0) return errno;
  return execveat(to, "", argv, argv, AT_EMPTY_PATH) != 0 && errno == ENOEXEC ? 0 : errno;
}
static int shell (void) {
  int rc = system("exit 0");
  return rc == -1 ? errno : rc == 0 ? 0 : EPERM;
}

TEST("other processes are out of reach", .limit = 90) {
  static const struct attack list[] = {
    {"PTRACE_SEIZE of the owner", trace_owner, ENDED, ALL, 1},
    {"PTRACE_TRACEME", trace_me, ENDED, ALL, 0},
    {"process_vm_readv", read_owner, ENDED, ALL, 0},
    {"process_vm_writev", write_owner, ENDED, ALL, 0},
    {"/proc/OWNER/mem", owner_mem, REFUSED, ALL, 0},
    {"/proc/OWNER/environ", owner_environ, REFUSED, ALL, 0},
    {"/proc/OWNER/maps", owner_maps, REFUSED, ALL, 0},
    {"/proc/OWNER/fd", owner_fds, REFUSED, ALL, 0},
    {"its own /proc/self/mem", own_mem, REFUSED, ALL, 0},
    {"kill the owner", kill_owner, REFUSED, ALL, 0},
    {"kill everybody", kill_all, REFUSED, ALL, 0},
    {"tgkill the owner", tgkill_owner, REFUSED, ALL, 0},
    {"tkill the owner", tkill_owner, REFUSED, ALL, 0},
    {"rt_sigqueueinfo", queue_signal, REFUSED, ALL, 0},
    {"pidfd_open", pidfd_of_owner, QUIET, ALL, 0},
    {"pidfd_send_signal", pidfd_signal, REFUSED, ALL & ~RUN, 0},
    {"pidfd_getfd", pidfd_steal, ENDED, ALL, 0},
    {"PR_SET_DUMPABLE", be_dumpable, REFUSED, ALL, 0},
    {"PR_SET_PTRACER", be_traced, REFUSED, ALL, 1},
    {"prlimit64 of the owner", limit_owner, REFUSED, ALL, 0},
    {"sched_setaffinity of the owner", pin_owner, REFUSED, ALL, 1},
    {"setpriority of the owner", renice_owner, REFUSED, ALL, 0},
    {"ioprio_set of the owner", ioprio_owner, REFUSED, ALL, 0},
    {"fork", by_fork, REFUSED, ALL & ~RUN, 0},
    {"vfork", by_vfork, REFUSED, ALL & ~RUN, 0},
    {"clone3", by_clone3, QUIET, ALL, 0},
    {"CLONE_PARENT", by_clone_parent, REFUSED, ALL, 0},
    {"a thread", a_thread, REFUSED, ALL & ~THREADS, 0},
    {"execve", exec_true, REFUSED, ALL, 0},
    {"the loader as the program", exec_loader, FAILS, ALL, 0},
    {"no signal when the owner dies", outlive_owner, REFUSED, ALL, 0},
    {"execveat of a memfd", exec_memfd, REFUSED, ALL, 0},
    {"system", shell, FAILS, ALL & ~RUN, 0},
    {NULL, NULL, REFUSED, 0, 0}};
  run_attacks(list);
}

/* ---- terminal and descriptors (31-36) ---- */

/* "Not a terminal" and "it is not yours" are words of the terminal's driver: the call got there. */
static int tiocsti (void) {
  if (syscall(SYS_ioctl, 1, TIOCSTI, "x") == 0) return 0;
  return errno == ENOTTY || errno == EIO ? 0 : errno;
}
static int tiocsti_high (void) {
  if (syscall(SYS_ioctl, 1, TIOCSTI | 1UL << 32, "x") == 0) return 0;
  return errno == ENOTTY || errno == EIO ? 0 : errno;
}
static int tiocsetd (void) {
  int n = 0;
  return ioctl(1, TIOCSETD, &n) == 0 || errno == ENOTTY ? 0 : errno;
}
static int tioclinux (void) {
  char n = 2;
  return ioctl(1, TIOCLINUX, &n) == 0 || errno == ENOTTY ? 0 : errno;
}
static int new_session (void) { return OR_ERRNO(setsid()); }
static int foreground (void) { return tcsetpgrp(1, getpid()) == 0 || errno == ENOTTY ? 0 : errno; }
static int open_tty (void) {
  int fd = open("/dev/tty", O_RDWR);
  return fd >= 0 || errno == ENXIO || errno == ENOENT ? 0 : errno;
}
static int any_descriptor (void) {
  int fd, found = 0;
  for (fd = 3; fd < 1024; fd++)
    if (fcntl(fd, F_GETFD) >= 0) found = fd;
  return found != 0 ? 0 : EBADF;
}
static int many_descriptors (void) {
  int i;
  for (i = 0; i < 5000; i++)
    if (fcntl(1, F_DUPFD_CLOEXEC, 3) < 0) return errno;
  return 0;
}

static int block_others (void) { /* the description is the owner's too */
  int flags = fcntl(2, F_GETFL);
  return flags < 0 ? EBADF : OR_ERRNO(fcntl(2, F_SETFL, flags & ~O_NONBLOCK));
}
static int block_by_ioctl (void) {
  int off = 0;
  return OR_ERRNO(ioctl(2, FIONBIO, &off));
}

TEST("the terminal and other descriptors are gone", .limit = 60) {
  static const struct attack list[] = {
    {"TIOCSTI", tiocsti, REFUSED, ALL, 0},
    {"TIOCSTI with a high bit", tiocsti_high, REFUSED, ALL, 0},
    {"TIOCSETD", tiocsetd, REFUSED, ALL, 0},
    {"TIOCLINUX", tioclinux, REFUSED, ALL, 0},
    {"tcsetpgrp", foreground, REFUSED, ALL, 0},
    {"setsid", new_session, REFUSED, ALL, 1},
    {"/dev/tty", open_tty, REFUSED, ALL, 0},
    {"a descriptor that was not granted", any_descriptor, FAILS, ALL, 0},
    {"make a descriptor block", block_others, QUIET, ALL, 0},
    {"make a descriptor block, by ioctl", block_by_ioctl, QUIET, ALL, 0},
    {"thousands of descriptors", many_descriptors, FAILS, ALL, 1},
    {NULL, NULL, REFUSED, 0, 0}};
  run_attacks(list);
}

/* ---- the kernel's surface (39-47) ---- */

static int do_bpf (void) {
  char attr[128] = {0};
  (void)syscall(SYS_bpf, 0, attr, sizeof attr);
  return errno == EINVAL ? 0 : errno;
}
static int do_perf (void) {
  struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .size = sizeof a, .exclude_kernel = 1};
  return OR_ERRNO(syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));
}
static int do_userfaultfd (void) { return OR_ERRNO(syscall(SYS_userfaultfd, 1 /* user mode only */)); }
static int do_io_uring (void) {
  char params[256] = {0};
  return OR_ERRNO(syscall(SYS_io_uring_setup, 4, params));
}
static int do_keyctl (void) { return OR_ERRNO(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1)); }
static int do_add_key (void) { return OR_ERRNO(syscall(SYS_add_key, "user", "mp-test", "x", 1, KEY_SPEC_PROCESS_KEYRING)); }
static int do_unshare (void) { return OR_ERRNO(unshare(CLONE_NEWUSER)); }
static int do_setns (void) {
  int fd = open("/proc/self/ns/uts", O_RDONLY);
  return OR_ERRNO(setns(fd < 0 ? 0 : fd, 0));
}
static int raw_setns (void) { return setns(0, 0) != 0 && errno == EINVAL ? 0 : errno; }
static int clone_new (void) { return count_fork((pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL)); }
static int do_mount (void) { return mount("none", "/no such place", "tmpfs", 0, NULL) != 0 && errno == ENOENT ? 0 : errno; }
static int do_umount (void) { return umount2("/no such place", MNT_DETACH) != 0 && errno == ENOENT ? 0 : errno; }
static int do_pivot (void) { return syscall(SYS_pivot_root, "/no", "/no") != 0 && errno == ENOENT ? 0 : errno; }
static int do_chroot (void) { return OR_ERRNO(chroot("/")); }
static int do_open_tree (void) { return OR_ERRNO(syscall(428, AT_FDCWD, "/", 0)); }
static int do_fsopen (void) { return OR_ERRNO(syscall(430, "tmpfs", 0)); }
static int do_personality (void) { return OR_ERRNO(syscall(SYS_personality, 0x0040000)); }
#if defined(__x86_64__)
static int do_modify_ldt (void) {
  char room[64];
  return OR_ERRNO(syscall(SYS_modify_ldt, 0, room, sizeof room));
}
static int do_iopl (void) { return OR_ERRNO(syscall(SYS_iopl, 0)); }
static int do_arch_prctl (void) {
  unsigned long gs;
  return OR_ERRNO(syscall(SYS_arch_prctl, 0x1004 /* GET_GS */, &gs));
}
#endif
static int exec_memory (void) { return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0; }
static int exec_later (void) {
  void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? ENOMEM : OR_ERRNO(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}
static int remap_fixed (void) {
  void *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return mremap(p, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, (char *)p + 4096) == MAP_FAILED ? errno : 0;
}
static int punch_shared (void) {
  void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return madvise(p, 4096, MADV_REMOVE) != 0 && errno == EINVAL ? 0 : errno;
}
static int shared_anonymous (void) { return mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0; }

TEST("the kernel's wide doors are shut", .limit = 90) {
  static const struct attack list[] = {
    {"bpf", do_bpf, ENDED, ALL, 0},
    {"perf_event_open", do_perf, ENDED, ALL, 1},
    {"userfaultfd", do_userfaultfd, ENDED, ALL, 1},
    {"io_uring_setup", do_io_uring, ENDED, ALL, 1},
    {"keyctl", do_keyctl, ENDED, ALL, 1},
    {"add_key", do_add_key, ENDED, ALL, 1},
    {"unshare", do_unshare, ENDED, ALL, 1},
    {"setns", raw_setns, ENDED, ALL, 1},
    {"clone with a new namespace", clone_new, REFUSED, ALL, 1},
    {"mount", do_mount, ENDED, ALL, 1},
    {"umount2", do_umount, ENDED, ALL, 1},
    {"pivot_root", do_pivot, ENDED, ALL, 1},
    {"chroot", do_chroot, ENDED, ALL, 1},
    {"open_tree", do_open_tree, ENDED, ALL, 1},
    {"fsopen", do_fsopen, ENDED, ALL, 1},
    {"personality", do_personality, ENDED, ALL, 0},
#if defined(__x86_64__)
    {"modify_ldt", do_modify_ldt, ENDED, ALL, 1},
    {"iopl", do_iopl, ENDED, ALL, 1},
    {"arch_prctl", do_arch_prctl, REFUSED, ALL & ~RUN, 0},
#endif
    {"memory that is writable and executable", exec_memory, REFUSED, ALL, 0},
    {"written memory made executable", exec_later, REFUSED, ALL, 0},
    {"mremap to a fixed place", remap_fixed, REFUSED, ALL, 0},
    {"MADV_REMOVE", punch_shared, QUIET, ALL, 1},
    {"shared memory beyond the memory limit", shared_anonymous, REFUSED, ALL, 0},
    {NULL, NULL, REFUSED, 0, 0}};
  (void)do_setns;
  run_attacks(list);
}

/* ---- network and IPC (48-51) ---- */

#define SOCKET_ATTACK(name, a, b, c) static int name (void) { return OR_ERRNO(socket(a, b, c)); }
SOCKET_ATTACK(s_inet, AF_INET, SOCK_STREAM, 0)
SOCKET_ATTACK(s_inet6, AF_INET6, SOCK_STREAM, 0)
SOCKET_ATTACK(s_udp, AF_INET, SOCK_DGRAM, 0)
SOCKET_ATTACK(s_unix, AF_UNIX, SOCK_STREAM, 0)
SOCKET_ATTACK(s_netlink, AF_NETLINK, SOCK_RAW, 0)
SOCKET_ATTACK(s_packet, AF_PACKET, SOCK_RAW, 0)
SOCKET_ATTACK(s_raw, AF_INET, SOCK_RAW, IPPROTO_ICMP)
SOCKET_ATTACK(s_vsock, AF_VSOCK, SOCK_STREAM, 0)
SOCKET_ATTACK(s_alg, AF_ALG, SOCK_SEQPACKET, 0)
SOCKET_ATTACK(s_mptcp, AF_INET, SOCK_STREAM, 262)
SOCKET_ATTACK(s_sctp, AF_INET, SOCK_STREAM, 132)

static int pair (void) {
  int sv[2];
  return OR_ERRNO(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
}
static int connect_to (int port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int s = socket(AF_INET, SOCK_STREAM, 0);
  return OR_ERRNO(s < 0 ? -1 : connect(s, (struct sockaddr *)&a, sizeof a));
}
static int connect_bad (void) { return connect_to(field.port_bad); }
static int connect_unix (void) {
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  memcpy(un.sun_path, field.unix_path, sizeof field.unix_path);
  return OR_ERRNO(s < 0 ? -1 : connect(s, (struct sockaddr *)&un, sizeof un));
}
static int connect_abstract (void) {
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  memcpy(un.sun_path, field.abstract_name, sizeof un.sun_path);
  return OR_ERRNO(s < 0 ? -1 : connect(s, (struct sockaddr *)&un, sizeof un));
}
static int fastopen (void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)field.port_bad), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int s = socket(AF_INET, SOCK_STREAM, 0);
  return OR_ERRNO(s < 0 ? -1 : sendto(s, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&a, sizeof a));
}
static int fastopen_msg (void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)field.port_bad), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  struct iovec v = {(void *)(uintptr_t) "x", 1};
  struct msghdr m = {.msg_name = &a, .msg_namelen = sizeof a, .msg_iov = &v, .msg_iovlen = 1};
  int s = socket(AF_INET, SOCK_STREAM, 0);
  return OR_ERRNO(s < 0 ? -1 : sendmsg(s, &m, MSG_FASTOPEN));
}
static int fastopen_option (void) {
  int s = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  return OR_ERRNO(s < 0 ? -1 : setsockopt(s, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on));
}
static int set_mark (void) {
  int s = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  return OR_ERRNO(s < 0 ? -1 : setsockopt(s, SOL_SOCKET, SO_MARK, &on, sizeof on));
}
static int listen_unbound (void) {
  int s = socket(AF_INET, SOCK_STREAM, 0);
  return OR_ERRNO(s < 0 ? -1 : listen(s, 4));
}
static int bind_any (void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int s = socket(AF_INET, SOCK_STREAM, 0);
  return OR_ERRNO(s < 0 ? -1 : bind(s, (struct sockaddr *)&a, sizeof a));
}
static int sysv_memory (void) { return OR_ERRNO(shmget(IPC_PRIVATE, 4096, 0600)); }
static int posix_memory (void) {
  char name[64];
  int fd;
  (void)snprintf(name, sizeof name, "/dev/shm/mp-jail-%d", (int)getpid());
  fd = open(name, O_CREAT | O_RDWR, 0600);
  if (fd >= 0) (void)unlink(name);
  return OR_ERRNO(fd);
}
static int message_queue (void) { return OR_ERRNO(syscall(SYS_mq_open, "mp-test", O_CREAT | O_RDWR, 0600, NULL)); }
static int make_memfd (void) { return OR_ERRNO(syscall(SYS_memfd_create, "x", 0)); }
static int new_eventfd (void) { return OR_ERRNO(syscall(SYS_eventfd2, 0, 0)); }

#define NETLESS (PURE | THREADS | READ | WRITE | RUN)
TEST("the network and shared names are out of reach", .limit = 90) {
  static const struct attack list[] = {
    {"a TCP socket", s_inet, REFUSED, NETLESS, 0},
    {"a TCP socket, version 6", s_inet6, REFUSED, NETLESS, 1},
    {"a UDP socket", s_udp, REFUSED, ALL & ~DNS, 0},
    {"a unix socket", s_unix, REFUSED, ALL, 0},
    {"a netlink socket", s_netlink, REFUSED, ALL, 0},
    {"a packet socket", s_packet, REFUSED, ALL, 1},
    {"a raw socket", s_raw, REFUSED, ALL, 1},
    {"a vsock", s_vsock, REFUSED, ALL, 1},
    {"a crypto socket", s_alg, REFUSED, ALL, 1},
    {"multipath TCP", s_mptcp, REFUSED, ALL, 1},
    {"SCTP", s_sctp, REFUSED, ALL, 1},
    {"socketpair", pair, REFUSED, ALL & ~RUN, 0},
    {"connect to another port", connect_bad, REFUSED, ALL, 0},
    {"connect to a unix socket", connect_unix, REFUSED, ALL, 0},
    {"connect to an abstract unix socket", connect_abstract, REFUSED, ALL, 0},
    {"MSG_FASTOPEN by sendto", fastopen, REFUSED, ALL, 1},
    {"MSG_FASTOPEN by sendmsg", fastopen_msg, REFUSED, ALL, 1},
    {"TCP_FASTOPEN_CONNECT", fastopen_option, REFUSED, ALL, 1},
    {"SO_MARK", set_mark, REFUSED, ALL & ~NETLESS, 1},
    {"listen without bind", listen_unbound, REFUSED, ALL, 0},
    {"bind", bind_any, REFUSED, ALL & ~BIND, 0},
    {"shmget", sysv_memory, REFUSED, ALL, 1},
    {"/dev/shm", posix_memory, REFUSED, ALL, 0},
    {"mq_open", message_queue, REFUSED, ALL, 1},
    {"memfd_create", make_memfd, REFUSED, ALL & ~RUN, 0},
    {"eventfd", new_eventfd, REFUSED, ALL & ~RUN & ~THREADS, 0},
    {NULL, NULL, REFUSED, 0, 0}};
  run_attacks(list);
}

/* ---- what is granted works: refusing everything would pass all of the above ---- */

static int use_read (void) { return OR_ERRNO(open(field.readable, O_RDONLY)); }
static int use_write (void) {
  char name[160], other[160];
  int fd;
  (void)in_writes(name, "a");
  (void)in_writes(other, "b");
  fd = open(name, O_CREAT | O_WRONLY | O_TRUNC, 0600);
  if (fd < 0 || write(fd, "x", 1) != 1 || ftruncate(fd, 0) != 0 || close(fd) != 0) return errno;
  if (rename(name, other) != 0 || unlink(other) != 0 || mkdir(name, 0700) != 0 || rmdir(name) != 0) return errno;
  return 0;
}
static int use_connect (void) { return connect_to(field.port_ok); }
static int use_bind (void) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int s = socket(AF_INET, SOCK_STREAM, 0);
  if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof a) != 0) return errno;
  return OR_ERRNO(listen(s, 4));
}
static int use_threads (void) { return a_thread(); }
static int use_run (void) { return system("echo b | /usr/bin/sort > /dev/null") == 0 ? 0 : EPERM; }
static int use_dns (void) { return OR_ERRNO(socket(AF_INET, SOCK_DGRAM, 0)); }

TEST("what is granted works, for root and for a user, and leaves no record", .limit = 60) {
  static const struct {
    unsigned tier;
    int (*fn)(void);
  } uses[] = {{READ, use_read}, {WRITE, use_write}, {CONNECT, use_connect}, {BIND, use_bind}, {THREADS, use_threads}, {RUN, use_run},
              {DNS, use_dns}};
  size_t i;
  int user;
  make_field();
  for (i = 0; i < sizeof uses / sizeof uses[0]; i++)
    for (user = 0; user <= (geteuid() == 0); user++) {
      static struct mpi_jail jail;
      struct attack a = {"use", uses[i].fn, FAILS, 0, 0};
      struct mpi_policy p;
      struct mpi_jail_report *r;
      struct inside in = {&a, &jail, -1, user};
      int status;
      if (!(uses[i].tier & TRIED)) continue;
      policy_for(uses[i].tier, &p);
      CHECK_OK(mpi_jail_make(&p, MPI_FILTER_LISTENER, &jail));
      CHECK_OK(mpi_jail_report_make(&in.report_fd, &r));
      status = wait_child(fork_child(in_jail, &in));
      if (status != 0 || mpi_load(&r->n) != 0)
        FAIL("tier %u%s: status %d, %u records: %s %s; %s", uses[i].tier, user ? " as a user" : "", status, mpi_load(&r->n), r->v[0].call,
             r->v[0].target, r->message);
      mpi_jail_report_unmap(r);
      (void)close(in.report_fd);
    }
  (void)remove_tree();
}

TEST("without Landlock, a policy that needs it is refused with a sentence; a pure one is not") {
  struct mpi_policy p;
  static struct mpi_jail jail;
  mpi_landlock_pretend(0);
  mpi_policy_init(&p);
  CHECK_OK(mpi_jail_make(&p, MPI_FILTER_LISTENER, &jail));
  CHECK_OK(mpi_policy_read(&p, "/usr"));
  CHECK_ERR(mpi_jail_make(&p, MPI_FILTER_LISTENER, &jail), MP_ENOSUP);
  CHECK_STR(mp_errmsg(), "read cannot be enforced: this kernel has no Landlock");
  mpi_policy_init(&p);
  CHECK_OK(mpi_policy_connect(&p, 443));
  mpi_landlock_pretend(3);
  CHECK_ERR(mpi_jail_make(&p, MPI_FILTER_LISTENER, &jail), MP_ENOSUP);
  CHECK(strstr(mp_errmsg(), "version 4 is needed") != NULL);
}

static int dump_core (void) {
  (void)chdir(field.writes);
  (void)raise(SIGQUIT);
  return 0;
}

TEST("no core is left behind") {
  static struct mpi_jail jail;
  struct attack a = {"core", dump_core, FAILS, 0, 0};
  struct mpi_policy p;
  struct mpi_jail_report *r;
  struct inside in = {&a, &jail, -1, 0};
  struct rlimit big = {RLIM_INFINITY, RLIM_INFINITY};
  char name[160];
  (void)setrlimit(RLIMIT_CORE, &big);
  make_field();
  CHECK(chdir(field.writes) == 0);
  policy_for(PURE, &p);
  CHECK_OK(mpi_jail_make(&p, MPI_FILTER_LISTENER, &jail));
  CHECK_OK(mpi_jail_report_make(&in.report_fd, &r));
  CHECK_EQ(wait_child(fork_child(in_jail, &in)), -SIGQUIT);
  (void)snprintf(name, sizeof name, "%s/core", field.writes);
  CHECK(access(name, F_OK) != 0);
  (void)remove_tree();
}
