#include "sandbox/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "sandbox/away.h"
#include "sandbox/landlock.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#endif
#define MDWE_REFUSE_EXEC_GAIN 1

#define NOBODY 65534u
#define UID_BASE 0x6d700000u
#define DEFAULT_FILES 256
#define RUN_PROCESSES 64       /* at a time, with a run grant */
#define MEMORY_SLACK (4 << 20) /* for what is not the script's: stacks, the C library */

/* ---- making ---- */

int mpi_jail_make (const struct mpi_policy *p, enum mpi_filter_form form, struct mpi_jail *out) {
  int rc = form == MPI_FILTER_NONE ? 0 : mpi_filter_available();
  if (rc < 0) return rc;
  if ((rc = mpi_policy_check(p)) != 0 || (rc = mpi_landlock_can(p)) != 0) return rc;
  memset(out, 0, sizeof *out);
  out->magic = MPI_JAIL_MAGIC;
  out->features = mpi_calls_features(p);
  out->form = (uint32_t)form;
  out->policy = *p;
  if (form == MPI_FILTER_NONE) return 0;
  return mpi_filter_compile(out->features, form, &out->filter);
}

/* Files may be used freely, so that only their opening is seen; everything else that is not computing is handed over. */
int mpi_jail_make_learner (struct mpi_jail *out) {
  int rc = mpi_filter_available();
  if (rc < 0) return rc;
  memset(out, 0, sizeof *out);
  out->magic = MPI_JAIL_MAGIC;
  out->features = MPI_F_ANY | MPI_F_READ | MPI_F_WRITE;
  out->form = MPI_FILTER_LEARN;
  out->learn = 1;
  mpi_policy_init(&out->policy);
  return mpi_filter_compile(out->features, MPI_FILTER_LEARN, &out->filter);
}

#define HEAD offsetof(struct mpi_jail, policy)
#define NAMES offsetof(struct mpi_policy, text)

size_t mpi_jail_pack (const struct mpi_jail *j, unsigned char *to) {
  unsigned char *p = to;
  size_t insns = j->filter.n * sizeof j->filter.insn[0];
  memcpy(p, j, HEAD + NAMES);
  p += HEAD + NAMES;
  memcpy(p, j->policy.text, j->policy.used);
  p += j->policy.used;
  memcpy(p, &j->filter.n, sizeof j->filter.n);
  p += sizeof j->filter.n;
  memcpy(p, j->filter.insn, insns);
  return (size_t)(p - to) + insns;
}

int mpi_jail_unpack (const unsigned char *from, size_t size, struct mpi_jail *out) {
  uint32_t n;
  memset(out, 0, sizeof *out);
  if (size < HEAD + NAMES) goto bad;
  memcpy(out, from, HEAD + NAMES);
  from += HEAD + NAMES;
  size -= HEAD + NAMES;
  if (out->magic != MPI_JAIL_MAGIC || out->form > MPI_FILTER_NONE || out->policy.used > MPI_POLICY_TEXT || size < out->policy.used + sizeof n)
    goto bad;
  memcpy(out->policy.text, from, out->policy.used);
  from += out->policy.used;
  size -= out->policy.used;
  memcpy(&n, from, sizeof n);
  size -= sizeof n;
  if (n > MPI_FILTER_MAX || size != n * sizeof out->filter.insn[0] || (n == 0) != (out->form == MPI_FILTER_NONE)) goto bad;
  out->filter.n = n;
  memcpy(out->filter.insn, from + sizeof n, size);
  return mpi_policy_check(&out->policy);
bad:
  return mpi_fail(MP_ECORRUPT, "this is not a sandbox");
}

uint32_t mpi_jail_uid (uint32_t pid) {
  return UID_BASE + pid;
}

/* ---- environment: what the C library would ask for later is asked now ---- */

/* Without TZ the C library looks at /etc/localtime again and again, and falls back to UTC when it may not. */
#define LOCAL_TIME ":/etc/localtime"

void mpi_jail_warm (void) {
  const char *tz = getenv("TZ");
  char *old = tz == NULL ? NULL : strdup(tz);
  if (tz != NULL && old == NULL) return;
  (void)setenv("TZ", LOCAL_TIME, 1);
  tzset(); /* reads the file; again only when TZ has another value */
  if (old == NULL) (void)unsetenv("TZ");
  else (void)setenv("TZ", old, 1);
  free(old);
}

/* What the program began with still lies at the end of its stack, and may hold secrets. */
static void wipe_first_environment (void) {
  char text[1024], *s;
  unsigned long from = 0, to = 0;
  int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC), field;
  ssize_t k = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
  mpi_fd_close(&fd);
  text[k > 0 ? k : 0] = '\0';
  s = strrchr(text, ')'); /* the name may contain anything; the next field is the third */
  for (field = 2; s != NULL && field < 50; field++) s = strchr(s + 1, ' ');
  if (s != NULL && sscanf(s, "%lu %lu", &from, &to) == 2 && from != 0 && to > from) memset((char *)(uintptr_t)from, 0, to - from);
}

static void scrub_environment (void) {
  (void)clearenv();
  wipe_first_environment();
  (void)setenv("TZ", LOCAL_TIME, 1);
  (void)setenv("PATH", "/usr/local/bin:/usr/bin:/bin", 1);
  (void)setenv("HOME", "/", 1);
  tzset();
}

/* ---- descriptors ---- */

static int kept (const int *keep, int n, int fd) {
  int i;
  if (fd <= 2) return 1;
  for (i = 0; i < n; i++)
    if (keep[i] == fd) return 1;
  return 0;
}

static int highest (const int *keep, int n) {
  int i, top = 2;
  for (i = 0; i < n; i++)
    if (keep[i] > top) top = keep[i];
  return top;
}

static int ascending (const void *a, const void *b) {
  return *(const int *)a - *(const int *)b;
}

static void close_from_to (int from, unsigned to) {
  if (syscall(SYS_close_range, (unsigned)from, to, 0) == 0) return;
  for (; (unsigned)from <= to && from < 65536; from++) (void)close(from); /* before Linux 5.9 */
}

/* Closes all descriptors but 0, 1, 2 and the kept ones, which it sorts. */
static void close_others (int *keep, int n) {
  int from = 3, i;
  qsort(keep, (size_t)n, sizeof keep[0], ascending);
  for (i = 0; i < n; i++) {
    if (keep[i] < from) continue;
    if (keep[i] > from) close_from_to(from, (unsigned)keep[i] - 1);
    from = keep[i] + 1;
  }
  close_from_to(from, ~0u);
}

/* Descriptors that we hold for a moment, out of the way of the numbers that the limit is about. */
static void move_up (int *fd) {
  int high = fcntl(*fd, F_DUPFD_CLOEXEC, 900);
  if (high < 0) return; /* a low limit already: then it counts */
  (void)close(*fd);
  *fd = high;
}

/* ---- resources ---- */

static int64_t private_memory (void) { /* what RLIMIT_DATA counts, now */
  char line[256];
  long size = 0, resident, shared, text, lib, data = 0;
  int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  ssize_t k = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
  mpi_fd_close(&fd);
  line[k > 0 ? k : 0] = '\0';
  (void)sscanf(line, "%ld %ld %ld %ld %ld %ld", &size, &resident, &shared, &text, &lib, &data);
  return (int64_t)data * sysconf(_SC_PAGESIZE);
}

static int limit (int what, int64_t soft, int64_t hard) {
  struct rlimit r = {(rlim_t)soft, (rlim_t)hard}, now;
  if (getrlimit((__rlimit_resource_t)what, &now) == 0) { /* limits only shrink */
    if (r.rlim_max > now.rlim_max) r.rlim_max = now.rlim_max;
    if (r.rlim_cur > r.rlim_max) r.rlim_cur = r.rlim_max;
  }
  return setrlimit((__rlimit_resource_t)what, &r) == 0 ? 0 : mpi_fail_errno("setrlimit");
}

/* The limit is on numbers: below it are the kept ones and as many others as are allowed. At least one: the filter's own descriptor
** needs a number for a moment. */
static int64_t highest_number (int64_t more, const int *keep, int n) {
  int64_t fd = 3;
  if (more < 0) more = DEFAULT_FILES;
  if (more == 0) more = 1;
  if (n == 0) return 3 + more;
  for (; more > 0; fd++)
    if (!kept(keep, n, (int)fd)) more--;
  return fd > highest(keep, n) ? fd : highest(keep, n) + 1;
}

static int limit_resources (const struct mpi_policy *p, const int *keep, int n) {
  int64_t files = highest_number(p->files, keep, n);
  int rc;
  /* One byte, not zero: with zero a core dump that goes to a program is still made. */
  if ((rc = limit(RLIMIT_CORE, 1, 1)) != 0 || (rc = limit(RLIMIT_NOFILE, files, files)) != 0 || (rc = limit(RLIMIT_MEMLOCK, 0, 0)) != 0 ||
      (rc = limit(RLIMIT_MSGQUEUE, 0, 0)) != 0 || (rc = limit(RLIMIT_RTPRIO, 0, 0)) != 0 || (rc = limit(RLIMIT_NICE, 0, 0)) != 0)
    return rc;
  if (p->memory >= 0) {
    int64_t most = private_memory() + p->memory + p->memory / 8 + MEMORY_SLACK;
    if ((rc = limit(RLIMIT_DATA, most, most)) != 0) return rc;
    /* Files in memory are memory too. */
    if (p->write.n == 0 && (rc = limit(RLIMIT_FSIZE, p->memory, p->memory)) != 0) return rc;
    (void)signal(SIGXFSZ, SIG_IGN);
  }
  if (p->cpu >= 0) { /* the supervisor is more exact; this one is the kernel's */
    int64_t s = (p->cpu + MPI_NS_PER_S - 1) / MPI_NS_PER_S + 1;
    if ((rc = limit(RLIMIT_CPU, s, s + 1)) != 0) return rc;
  }
  return 0;
}

/* ---- identity ---- */

static void drop_capabilities (void) {
  struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2];
  memset(none, 0, sizeof none);
  (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  (void)syscall(SYS_capset, &h, none);
}

static int has_capabilities (void) {
  struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct have[2];
  memset(have, 0, sizeof have);
  return syscall(SYS_capget, &h, have) != 0 || (have[0].permitted | have[1].permitted | have[0].effective | have[1].effective) != 0;
}

/* Root becomes a user that owns nothing. With path grants the files are still opened in root's name, for a granted directory is as a
** rule the caller's own; without any capability, that is the right of a file's owner and no more. */
static int drop_root (const struct mpi_jail *j, int *own_user) {
  uint32_t uid = mpi_jail_uid((uint32_t)getpid());
  int files = j->policy.read.n + j->policy.write.n + j->policy.run.n > 0;
  int cap;
  if (setgroups(0, NULL) != 0) return mpi_fail_errno("setgroups");
  for (cap = 0; cap < 64; cap++) (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
  (void)prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
  *own_user = 1;
  if (setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0) { /* a container without such users */
    *own_user = 0;
    if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0) return mpi_fail_errno("setresuid");
  }
  if (files) { /* needs CAP_SETUID, which the change of user took out of the effective set */
    struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct c[2];
    memset(c, 0, sizeof c);
    c[0].effective = c[0].permitted = (1u << CAP_SETUID) | (1u << CAP_SETGID);
    if (syscall(SYS_capset, &h, c) != 0) return mpi_fail_errno("capset");
    (void)setfsgid(0);
    (void)setfsuid(0);
    if (setfsuid((uid_t)-1) != 0) return mpi_fail(MP_ESYS, "setfsuid: the files' owner cannot be kept");
  }
  (void)prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
  return 0;
}

static int drop_identity (const struct mpi_jail *j, int own_user) { /* own_user: the user's processes are counted apart */
  int root = geteuid() == 0, rc;
  if (root && (rc = drop_root(j, &own_user)) != 0) return rc;
  drop_capabilities();
  if (has_capabilities()) return mpi_fail(MP_ESYS, "capabilities cannot be given up");
  if (own_user) {
    int64_t n = 1 + (j->policy.threads > 0 ? j->policy.threads : 0) + (j->policy.run.n > 0 ? RUN_PROCESSES : 0);
    return limit(RLIMIT_NPROC, n, n);
  }
  return 0;
}

/* ---- the supervisor ---- */

/* The supervisor reads arguments through this one: without it, nobody without privileges may look into a process that is not dumpable. */
static int own_memory (void) {
  int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  return fd < 0 ? mpi_fail_errno("/proc/self/mem") : fd;
}

static int hand_over (int supervisor, int listener, int memory) {
  int fds[2] = {listener, memory};
  char go;
  ssize_t k;
  int rc = mpi_fd_send(supervisor, "L", 1, fds, 2);
  if (rc != 0) return rc;
  do k = read(supervisor, &go, 1);
  while (k < 0 && errno == EINTR);
  return k == 1 ? 0 : mpi_fail(MP_ESYS, "the supervisor is gone");
}

/* ---- all of it ---- */

static int close_doors (const struct mpi_jail *j, int supervisor) {
  pid_t parent = getppid();
  int dumpable = 0;
  if (supervisor >= 0) { /* a change of user has cleared it */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return mpi_fail_errno("prctl(PR_SET_PDEATHSIG)");
    if (getppid() != parent || parent == 1) return mpi_fail(MP_ESYS, "the supervisor is gone");
  }
  /* To see where a socket is bound or what kind it is, a supervisor without privileges must reach it. */
  if ((j->policy.bind.n > 0 || j->policy.dns || j->policy.run.n > 0) && geteuid() < UID_BASE) dumpable = 1;
  if (prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0) != 0) return mpi_fail_errno("prctl(PR_SET_DUMPABLE)");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return mpi_fail_errno("prctl(PR_SET_NO_NEW_PRIVS)");
  (void)prctl(PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN, 0, 0, 0); /* Linux 6.3; the filter refuses the same, argument by argument */
  return 0;
}

static int learn (const struct mpi_jail *j, int supervisor) {
  int listener = -1, rc, memory = own_memory();
  if (memory < 0) return memory;
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return mpi_fail_errno("prctl(PR_SET_NO_NEW_PRIVS)");
  if ((rc = mpi_filter_install(&j->filter, (uint32_t)getpid(), &listener)) == 0) rc = hand_over(supervisor, listener, memory);
  mpi_fd_close(&listener);
  mpi_fd_close(&memory);
  return rc;
}

/* Limits without a sandbox: nothing is given up but what is limited. */
static int only_limits (const struct mpi_jail *j, int supervisor) {
  struct mpi_policy p = j->policy;
  char go;
  int rc;
  mpi_away_forget();
  if (p.files < 0) p.files = sysconf(_SC_OPEN_MAX); /* as it was */
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if ((rc = limit_resources(&p, NULL, 0)) != 0 || (rc = mpi_fd_send(supervisor, "N", 1, NULL, 0)) != 0) return rc;
  return read(supervisor, &go, 1) == 1 ? 0 : mpi_fail(MP_ESYS, "the supervisor is gone");
}

#define MORE 3 /* descriptors that we hold ourselves for a while */

int mpi_jail_confine (const struct mpi_jail *j, const int *keep, int n, int supervisor) {
  int net = j->policy.connect.n + j->policy.bind.n > 0 || j->policy.dns;
  int landlock = -1, memory = -1, listener = -1, rc, k = n, apart;
  int *all;
  if (j->learn) return learn(j, supervisor);
  if (j->form == MPI_FILTER_NONE) return only_limits(j, supervisor);
  if ((all = malloc(sizeof(int) * (size_t)(n + MORE))) == NULL) return mpi_fail(MP_ENOMEM, "not enough memory for a sandbox");
  if (n > 0) memcpy(all, keep, sizeof(int) * (size_t)n);
  if ((rc = mpi_landlock_make(&j->policy, &landlock)) != 0) goto out;
  if (supervisor >= 0) {
    if ((memory = rc = own_memory()) < 0) goto out;
    move_up(&memory);
    all[k++] = memory;
    all[k++] = supervisor;
  }
  if (landlock >= 0) {
    move_up(&landlock);
    all[k++] = landlock;
  }
  scrub_environment();
  apart = mpi_away_enter(!net);
  (void)setsid(); /* no terminal; fails for who leads a group, which then leads none */
  close_others(all, k);
  if ((rc = limit_resources(&j->policy, keep, n)) != 0 || (rc = drop_identity(j, apart)) != 0 || (rc = close_doors(j, supervisor)) != 0) goto out;
  if (landlock >= 0) {
    if ((rc = mpi_landlock_enter(landlock)) != 0) goto out;
    mpi_fd_close(&landlock);
  }
  rc = mpi_filter_install(&j->filter, (uint32_t)getpid(), j->form == MPI_FILTER_LISTENER ? &listener : NULL);
  if (rc == 0 && listener >= 0) rc = hand_over(supervisor, listener, memory);
out:
  mpi_fd_close(&landlock);
  mpi_fd_close(&memory);
  mpi_fd_close(&listener);
  free(all);
  return rc;
}
