/* The table. Order does not matter: what allows wins over what refuses. A call without a line is refused and recorded.
** Allowing conditions compare all 64 bits, so that a value the kernel would cut to 32 bits cannot slip through. */
#include "sandbox/calls.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>

#define ANY MPI_F_ANY
#define READ MPI_F_READ
#define WRITE MPI_F_WRITE
#define NET (MPI_F_CONNECT | MPI_F_BIND | MPI_F_DNS)
#define CONNECT (MPI_F_CONNECT | MPI_F_DNS)
#define BIND MPI_F_BIND
#define DNS MPI_F_DNS
#define RUN MPI_F_RUN
#define THREADS MPI_F_THREADS

#define A MPI_CALL_ALLOW
#define W MPI_CALL_WATCH
#define S MPI_CALL_SILENT
#define N MPI_CALL_NOSYS
#define K MPI_CALL_KILL

#define IS(arg, v) {(arg), ~UINT64_C(0), (uint64_t)(v)}
#define ONLY(arg, bits) {(arg), ~(uint64_t)(bits), 0}                    /* no bit but these */
#define BASE(arg, v, bits) {(arg), ~(uint64_t)(bits), (uint64_t)(v)}     /* exactly v, and any of these bits */
#define LOW(arg, v) {(arg), UINT64_C(0xffffffff), (uint64_t)(v)}         /* for refusals: what the kernel sees of an int */

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define PRIVATE_BITS (MAP_ANONYMOUS | MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_STACK | MAP_POPULATE | MAP_DENYWRITE)
#define SHARED_BITS (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_NORESERVE | MAP_POPULATE)
#define FILE_BITS (MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_DENYWRITE)

#define OPEN_READ (O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_DIRECTORY | O_NONBLOCK | O_NOCTTY | 0100000 /* O_LARGEFILE */)
#define OPEN_WRITE (OPEN_READ | O_WRONLY | O_RDWR | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_SYNC | O_DSYNC)

#define FUTEX_ANY (FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME)
#define SEND_BITS (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_EOR | MSG_MORE) /* not MSG_FASTOPEN: it connects, unseen by Landlock */
#define SOCK_BITS (SOCK_NONBLOCK | SOCK_CLOEXEC)

/* pthread_create, posix_spawn, fork: exactly these, so no namespaces and no other parent. */
#define CLONE_A_THREAD                                                                                              \
  (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | \
   CLONE_CHILD_CLEARTID)
#define CLONE_A_SPAWN (CLONE_VM | CLONE_VFORK | SIGCHLD)
#define CLONE_A_FORK (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD)

#define SEALS_GET 1034 /* F_GET_SEALS */

#define PLAIN(name, f, v) {name, f, v, 0, {{0, 0, 0}}}
#define IF1(name, f, v, a) {name, f, v, 1, {a}}
#define IF2(name, f, v, a, b) {name, f, v, 2, {a, b}}
#define IF3(name, f, v, a, b, c) {name, f, v, 3, {a, b, c}}

#define FUTEX(op) IF1("futex", ANY, A, BASE(1, op, FUTEX_ANY))
#define MADVISE(v) IF1("madvise", ANY, A, IS(2, v))
/* F_SETFL may make a descriptor non-blocking, and not the contrary: those that were granted are their owner's too, who would block. */
#define UNBLOCK(f) IF2("fcntl", f, A, IS(1, F_SETFL), BASE(2, O_NONBLOCK, O_ACCMODE | O_APPEND | 0100000 /* O_LARGEFILE */))
#define FCNTL(f, cmd) IF1("fcntl", f, A, IS(1, cmd))
#define SOCKET(f, domain, type, proto) IF3("socket", f, A, IS(0, domain), BASE(1, type, SOCK_BITS), IS(2, proto))
#define OPTION(call, level, name) IF2(call, NET, A, IS(1, level), IS(2, name))
#define GETSET(level, name) OPTION("getsockopt", level, name), OPTION("setsockopt", level, name)
#define CALM(sig) IF1("rt_sigaction", ANY, A, IS(0, sig))

/* clang-format off */
const struct mpi_call_rule mpi_call_rules[] = {
  /* ---- computing, and what was granted as descriptors ---- */
  PLAIN("read", ANY, A), PLAIN("readv", ANY, A), PLAIN("preadv2", ANY, A), PLAIN("write", ANY, A), PLAIN("writev", ANY, A),
  PLAIN("pread64", ANY, A), PLAIN("pwrite64", ANY, A), PLAIN("lseek", ANY, A), PLAIN("close", ANY, A), PLAIN("fstat", ANY, A),
  PLAIN("brk", ANY, A), PLAIN("munmap", ANY, A),
  PLAIN("clock_gettime", ANY, A), PLAIN("clock_getres", ANY, A), PLAIN("gettimeofday", ANY, A), PLAIN("time", ANY, A),
  PLAIN("clock_nanosleep", ANY, A), PLAIN("nanosleep", ANY, A), PLAIN("sched_yield", ANY, A), PLAIN("restart_syscall", ANY, A),
  PLAIN("getpid", ANY, A), PLAIN("getppid", ANY, A), PLAIN("gettid", ANY, A),
  PLAIN("getuid", ANY, A), PLAIN("geteuid", ANY, A), PLAIN("getgid", ANY, A), PLAIN("getegid", ANY, A),
  PLAIN("getrusage", ANY, A), PLAIN("times", ANY, A), PLAIN("getcpu", ANY, A),
  PLAIN("rt_sigprocmask", ANY, A), PLAIN("rt_sigreturn", ANY, A), PLAIN("sigaltstack", ANY, A),
  CALM(SIGABRT), CALM(SIGINT), CALM(SIGQUIT), CALM(SIGPIPE), CALM(32), CALM(33), /* the C library's own two */
  PLAIN("exit", ANY, A), PLAIN("exit_group", ANY, A),
  IF2("mmap", ANY, A, ONLY(2, PROT_READ | PROT_WRITE), BASE(3, MAP_PRIVATE, PRIVATE_BITS)),
  /* Shared memory only of a granted descriptor: shared anonymous memory escapes the memory limit. */
  IF2("mmap", ANY, A, ONLY(2, PROT_READ | PROT_WRITE), BASE(3, MAP_SHARED, SHARED_BITS)),
  IF1("mprotect", ANY, A, ONLY(2, PROT_READ | PROT_WRITE)),
  IF1("mremap", ANY, A, IS(3, MREMAP_MAYMOVE)),
  /* Not MADV_REMOVE: it punches shared memory. */
  MADVISE(MADV_NORMAL), MADVISE(MADV_DONTNEED), MADVISE(MADV_FREE), MADVISE(MADV_HUGEPAGE), MADVISE(MADV_NOHUGEPAGE), MADVISE(MADV_DONTDUMP),
  FUTEX(FUTEX_WAIT), FUTEX(FUTEX_WAKE), FUTEX(FUTEX_REQUEUE), FUTEX(FUTEX_CMP_REQUEUE), FUTEX(FUTEX_WAKE_OP), FUTEX(FUTEX_WAIT_BITSET),
  FUTEX(FUTEX_WAKE_BITSET),
  PLAIN("futex_waitv", ANY, A),
  IF1("getrandom", ANY, A, ONLY(2, GRND_NONBLOCK)),
  IF1("kill", ANY, A, IS(0, MPI_OWN_PID)), IF1("tgkill", ANY, A, IS(0, MPI_OWN_PID)),
  IF2("prlimit64", ANY, A, IS(0, 0), IS(2, 0)), PLAIN("getrlimit", ANY, A),
  IF1("sched_getaffinity", ANY, A, IS(0, 0)),
  PLAIN("poll", ANY, A), PLAIN("ppoll", ANY, A), PLAIN("select", ANY, A), PLAIN("pselect6", ANY, A),
  PLAIN("recvmsg", ANY, A), PLAIN("recvfrom", ANY, A),
  IF1("sendmsg", ANY, A, ONLY(2, SEND_BITS)), IF2("sendto", ANY, A, ONLY(3, SEND_BITS), IS(4, 0)),
  FCNTL(ANY, F_GETFL), FCNTL(ANY, F_GETFD), FCNTL(ANY, F_SETFD), FCNTL(ANY, F_DUPFD_CLOEXEC), FCNTL(ANY, SEALS_GET),
  IF1("get_robust_list", ANY, A, IS(0, 0)), PLAIN("set_robust_list", ANY, A), PLAIN("rseq", ANY, A),
  IF1("prctl", ANY, A, IS(0, PR_SET_NAME)), IF1("prctl", ANY, A, IS(0, PR_GET_NAME)), IF2("prctl", ANY, A, IS(0, PR_SET_VMA), IS(1, 0)),
  IF1("personality", ANY, A, IS(0, 0xffffffff)), /* asks only */

  /* ---- threads ---- */
  IF1("clone", THREADS, A, IS(0, CLONE_A_THREAD)),

  /* ---- files to read ---- */
  IF1("openat", READ, W, ONLY(2, OPEN_READ)),
  PLAIN("newfstatat", READ, A), PLAIN("preadv", READ, A), PLAIN("getdents64", READ, A),
  PLAIN("readlink", READ, A), PLAIN("readlinkat", READ, A), PLAIN("getcwd", READ, A), PLAIN("access", READ, A), PLAIN("faccessat", READ, A),
  PLAIN("fadvise64", READ, A), IF1("ioctl", READ, A, IS(1, TCGETS)),

  /* ---- files to write ---- */
  /* The mode without setuid and setgid: a new file belongs to who granted the directory. */
  IF2("openat", WRITE | RUN, W, ONLY(2, OPEN_WRITE), ONLY(3, 0777)),
  PLAIN("pwritev", WRITE, A), PLAIN("ftruncate", WRITE, A), PLAIN("fsync", WRITE, A), PLAIN("fdatasync", WRITE, A), PLAIN("flock", WRITE, A),
  PLAIN("umask", WRITE, A),
  UNBLOCK(WRITE), FCNTL(WRITE, F_GETLK), FCNTL(WRITE, F_SETLK), FCNTL(WRITE, F_SETLKW),
  PLAIN("unlink", WRITE, W), PLAIN("unlinkat", WRITE, W), PLAIN("rename", WRITE, W), PLAIN("renameat", WRITE, W), PLAIN("renameat2", WRITE, W),
  PLAIN("mkdir", WRITE, W), PLAIN("mkdirat", WRITE, W), PLAIN("rmdir", WRITE, W),

  /* ---- network. Multipath TCP (protocol 262) is not TCP to Landlock, so protocols are named. ---- */
  SOCKET(NET, AF_INET, SOCK_STREAM, 0), SOCKET(NET, AF_INET, SOCK_STREAM, 6),
  SOCKET(NET, AF_INET6, SOCK_STREAM, 0), SOCKET(NET, AF_INET6, SOCK_STREAM, 6),
  SOCKET(DNS, AF_INET, SOCK_DGRAM, 0), SOCKET(DNS, AF_INET, SOCK_DGRAM, 17),
  SOCKET(DNS, AF_INET6, SOCK_DGRAM, 0), SOCKET(DNS, AF_INET6, SOCK_DGRAM, 17),
  PLAIN("connect", CONNECT, W),
  PLAIN("bind", BIND, W), PLAIN("listen", BIND, W), PLAIN("accept", BIND, A), PLAIN("accept4", BIND, A),
  PLAIN("getsockname", NET, A), PLAIN("getpeername", NET, A), PLAIN("shutdown", NET, A),
  PLAIN("epoll_create", NET, A), PLAIN("epoll_create1", NET, A), PLAIN("epoll_ctl", NET, A), PLAIN("epoll_wait", NET, A),
  PLAIN("epoll_pwait", NET, A),
  OPTION("getsockopt", 1, 3), OPTION("getsockopt", 1, 4), OPTION("getsockopt", 1, 30), OPTION("getsockopt", 1, 38),
  OPTION("getsockopt", 1, 39),                                                                      /* type, error, listening, protocol, domain */
  GETSET(1, 2), GETSET(1, 7), GETSET(1, 8), GETSET(1, 9), GETSET(1, 13), GETSET(1, 15), GETSET(1, 20), GETSET(1, 21),
  GETSET(6, 1), GETSET(6, 3), GETSET(6, 4), GETSET(6, 5), GETSET(6, 6), GETSET(6, 18),              /* no delay, cork, keep alive, timeout */
  GETSET(41, 26), OPTION("setsockopt", 0, 11), OPTION("setsockopt", 41, 25),                        /* IPv6 only; errors to the resolver */
  IF1("sendmmsg", DNS, A, ONLY(3, SEND_BITS)),
  IF1("ioctl", NET, A, IS(1, FIONREAD)),
  UNBLOCK(NET),

  /* ---- programs: what sh and the dynamic loader need, for the granted programs inherit the filter ---- */
  IF1("clone", RUN, A, IS(0, CLONE_A_SPAWN)), IF1("clone", RUN, A, IS(0, CLONE_A_FORK)), PLAIN("vfork", RUN, A),
  PLAIN("execve", RUN, W), PLAIN("wait4", RUN, A), PLAIN("waitid", RUN, A),
  PLAIN("pipe", RUN, A), PLAIN("pipe2", RUN, A), PLAIN("dup", RUN, A), PLAIN("dup2", RUN, A), PLAIN("dup3", RUN, A), FCNTL(RUN, F_DUPFD),
  IF1("arch_prctl", RUN, A, IS(0, 0x1002)), PLAIN("set_tid_address", RUN, A), PLAIN("rt_sigaction", RUN, A), PLAIN("uname", RUN, A),
  PLAIN("getpgrp", RUN, A), PLAIN("getpgid", RUN, A), PLAIN("getsid", RUN, A), PLAIN("getgroups", RUN, A), PLAIN("sysinfo", RUN, A),
  PLAIN("statfs", RUN, A), PLAIN("fstatfs", RUN, A), PLAIN("chdir", RUN, A), PLAIN("fchdir", RUN, A), PLAIN("umask", RUN, A),
  PLAIN("rt_sigsuspend", RUN, A), PLAIN("alarm", RUN, A), PLAIN("setitimer", RUN, A), PLAIN("getitimer", RUN, A),
  /* What mp's own objects and processes are made of. pidfd_open: the supervisor looks whose. */
  PLAIN("memfd_create", RUN, A), PLAIN("ftruncate", RUN, A), PLAIN("eventfd2", RUN | THREADS, A), FCNTL(RUN, 1033 /* F_ADD_SEALS */), UNBLOCK(RUN),
  IF2("socketpair", RUN, A, IS(0, AF_UNIX), BASE(1, SOCK_SEQPACKET, SOCK_BITS)), IF2("socketpair", RUN, A, IS(0, AF_UNIX), BASE(1, SOCK_STREAM, SOCK_BITS)),
  PLAIN("epoll_create1", RUN, A), PLAIN("epoll_ctl", RUN, A), PLAIN("epoll_wait", RUN, A), PLAIN("epoll_pwait", RUN, A),
  PLAIN("timerfd_create", RUN, A), PLAIN("timerfd_settime", RUN, A), PLAIN("timerfd_gettime", RUN, A),
  PLAIN("pidfd_open", RUN, W), PLAIN("pidfd_send_signal", RUN, A), IF2("prctl", RUN, A, IS(0, PR_SET_PDEATHSIG), IS(1, SIGKILL)),
  IF1("prctl", RUN, A, IS(0, PR_GET_TID_ADDRESS)),
  /* Files may be executed from memory only as they are on disk; PR_SET_MDWE keeps written memory from becoming code. */
  IF2("mmap", RUN, A, ONLY(2, PROT_READ | PROT_EXEC), BASE(3, MAP_PRIVATE, FILE_BITS)),

  /* ---- refused without a record: the C library asks once and does without ---- */
  PLAIN("newfstatat", ANY, S), IF1("ioctl", ANY, S, LOW(1, TCGETS)), PLAIN("madvise", ANY, S), PLAIN("fallocate", ANY, S),
  PLAIN("sysinfo", ANY, S), PLAIN("sched_getaffinity", ANY, S), PLAIN("membarrier", ANY, S),
  IF1("fcntl", ANY, S, LOW(1, F_SETFL)), IF1("ioctl", ANY, S, LOW(1, FIONBIO)),
  PLAIN("uname", ANY, S), PLAIN("getcwd", ANY, S), PLAIN("fadvise64", ANY, S), PLAIN("arch_prctl", RUN, S), PLAIN("mlock", ANY, S),

  /* ---- older forms exist ---- */
  PLAIN("clone3", ANY, N), PLAIN("faccessat2", ANY, N), PLAIN("openat2", ANY, N), PLAIN("statx", ANY, N), PLAIN("close_range", ANY, N),
  PLAIN("pidfd_open", ANY, N),

  /* ---- only an exploit would try ---- */
  PLAIN("ptrace", ANY, K), PLAIN("process_vm_readv", ANY, K), PLAIN("process_vm_writev", ANY, K), PLAIN("process_madvise", ANY, K),
  PLAIN("process_mrelease", ANY, K), PLAIN("kcmp", ANY, K), PLAIN("pidfd_getfd", ANY, K), PLAIN("bpf", ANY, K), PLAIN("perf_event_open", ANY, K),
  PLAIN("userfaultfd", ANY, K), PLAIN("io_uring_setup", ANY, K), PLAIN("io_uring_enter", ANY, K), PLAIN("io_uring_register", ANY, K),
  PLAIN("keyctl", ANY, K), PLAIN("add_key", ANY, K), PLAIN("request_key", ANY, K), PLAIN("kexec_load", ANY, K),
  PLAIN("kexec_file_load", ANY, K), PLAIN("init_module", ANY, K), PLAIN("finit_module", ANY, K), PLAIN("delete_module", ANY, K),
  PLAIN("mount", ANY, K), PLAIN("umount2", ANY, K), PLAIN("pivot_root", ANY, K), PLAIN("open_tree", ANY, K), PLAIN("move_mount", ANY, K),
  PLAIN("fsopen", ANY, K), PLAIN("fsconfig", ANY, K), PLAIN("fsmount", ANY, K), PLAIN("fspick", ANY, K), PLAIN("mount_setattr", ANY, K),
  PLAIN("setns", ANY, K), PLAIN("unshare", ANY, K), PLAIN("chroot", ANY, K), PLAIN("open_by_handle_at", ANY, K),
  PLAIN("iopl", ANY, K), PLAIN("ioperm", ANY, K), PLAIN("modify_ldt", ANY, K), PLAIN("swapon", ANY, K), PLAIN("swapoff", ANY, K),
  PLAIN("reboot", ANY, K), PLAIN("acct", ANY, K), PLAIN("personality", ANY, K),
  {"seccomp", ANY, K, 1, {{1, 8, 8}}}, /* SECCOMP_FILTER_FLAG_NEW_LISTENER */

  {NULL, 0, 0, 0, {{0, 0, 0}}}
};
/* clang-format on */

unsigned mpi_calls_features (const struct mpi_policy *p) {
  unsigned f = MPI_F_ANY;
  if (p->threads > 0) f |= MPI_F_THREADS;
  if (p->read.n > 0) f |= MPI_F_READ;
  if (p->write.n > 0) f |= MPI_F_WRITE | MPI_F_READ;
  if (p->connect.n > 0) f |= MPI_F_CONNECT;
  if (p->bind.n > 0) f |= MPI_F_BIND;
  if (p->dns) f |= MPI_F_DNS | MPI_F_READ;
  if (p->run.n > 0) f |= MPI_F_RUN | MPI_F_READ;
  return f;
}

int mpi_calls_number (uint32_t arch, const char *name) {
  int nr = seccomp_syscall_resolve_name_arch(arch, name);
  return nr < 0 ? -1 : nr; /* negative: libseccomp's pseudo numbers for calls that this machine lacks */
}

/* Names are looked up once for each of the two machines: the supervisor asks for every call that reaches it. */
struct numbers {
  uint32_t arch;
  int ready;
  int nr[sizeof mpi_call_rules / sizeof mpi_call_rules[0]];
};

static const int *numbers_of (uint32_t arch) {
  static struct numbers known[2]; /* not thread-local: a module loaded late has little room for those */
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  struct numbers *k = &known[arch == SCMP_ARCH_AARCH64];
  size_t i;
  (void)pthread_mutex_lock(&lock);
  if (k->ready && k->arch == arch) {
    (void)pthread_mutex_unlock(&lock);
    return k->nr;
  }
  for (i = 0; mpi_call_rules[i].name != NULL; i++) k->nr[i] = mpi_calls_number(arch, mpi_call_rules[i].name);
  k->arch = arch;
  k->ready = 1;
  (void)pthread_mutex_unlock(&lock);
  return k->nr;
}

static int matches (const struct mpi_call_rule *r, const uint64_t args[6], uint32_t pid) {
  int i;
  for (i = 0; i < r->n; i++) {
    uint64_t want = r->c[i].value == MPI_OWN_PID ? pid : r->c[i].value;
    if ((args[r->c[i].arg] & r->c[i].mask) != want) return 0;
  }
  return 1;
}

enum mpi_call_verdict mpi_calls_judge (unsigned features, uint32_t arch, int nr, const uint64_t args[6], uint32_t pid, int *plain) {
  static const uint8_t rank[] = {[MPI_CALL_DENY] = 0, [MPI_CALL_SILENT] = 1, [MPI_CALL_NOSYS] = 2, [MPI_CALL_KILL] = 3,
                                 [MPI_CALL_WATCH] = 4, [MPI_CALL_ALLOW] = 5};
  const int *number = numbers_of(arch);
  enum mpi_call_verdict best = MPI_CALL_DENY;
  size_t i;
  if (plain != NULL) *plain = 0;
  if (nr > MPI_NEWEST_CALL || nr < 0) return MPI_CALL_NOSYS;
  for (i = 0; mpi_call_rules[i].name != NULL; i++) {
    const struct mpi_call_rule *r = &mpi_call_rules[i];
    if (number[i] != nr || !(r->features & features) || rank[r->verdict] < rank[best] || !matches(r, args, pid)) continue;
    best = (enum mpi_call_verdict)r->verdict;
    if (plain != NULL) *plain = r->n == 0;
  }
  return best;
}

int mpi_calls_has_allow (unsigned features, uint32_t arch, int nr) {
  const int *number = numbers_of(arch);
  size_t i;
  for (i = 0; mpi_call_rules[i].name != NULL; i++) {
    const struct mpi_call_rule *r = &mpi_call_rules[i];
    if (number[i] == nr && (r->features & features) && (r->verdict == MPI_CALL_ALLOW || r->verdict == MPI_CALL_WATCH)) return 1;
  }
  return 0;
}
