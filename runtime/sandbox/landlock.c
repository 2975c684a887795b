#include "sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"

/* Our own copy of the kernel's interface: the distribution's headers are older than the kernels it runs on. */
struct ruleset_attr {
  uint64_t fs;
  uint64_t net;
  uint64_t scoped;
};
struct path_attr {
  uint64_t allowed;
  int32_t fd;
} __attribute__((packed));
struct port_attr {
  uint64_t allowed;
  uint64_t port;
};
enum { RULE_PATH = 1, RULE_PORT = 2 };

#define CREATE 444
#define ADD 445
#define RESTRICT 446

#define FS(n) (UINT64_C(1) << (n))
enum { EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK,
       MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV };
#define NET_BIND UINT64_C(1)
#define NET_CONNECT UINT64_C(2)
#define SCOPE_ABSTRACT_UNIX UINT64_C(1)
#define SCOPE_SIGNAL UINT64_C(2)

#define READING (FS(READ_FILE) | FS(READ_DIR))
/* Not links, sockets, pipes or devices: whoever reads the directory later may trust them. */
#define WRITING \
  (READING | FS(WRITE_FILE) | FS(TRUNCATE) | FS(MAKE_REG) | FS(MAKE_DIR) | FS(REMOVE_FILE) | FS(REMOVE_DIR) | FS(REFER))
#define OF_A_FILE (FS(EXECUTE) | FS(WRITE_FILE) | FS(READ_FILE) | FS(TRUNCATE) | FS(IOCTL_DEV))

#define ABI_TRUNCATE 3 /* a policy about files needs this one */
#define ABI_NET 4
#define ABI_IOCTL 5
#define ABI_SCOPE 6

static int pretended = -1;

void mpi_landlock_pretend (int abi) {
  pretended = abi;
}

int mpi_landlock_abi (void) {
  long abi;
  if (pretended >= 0) return pretended;
#ifdef MP_FAULTS
  {
    const char *s = getenv("MP_LANDLOCK_ABI");
    if (s != NULL && *s != '\0') return atoi(s);
  }
#endif
  abi = syscall(CREATE, NULL, 0, 1 /* version */);
  return abi < 0 ? 0 : (int)abi;
}

int mpi_landlock_can (const struct mpi_policy *p) {
  int abi = mpi_landlock_abi();
  int files = p->read.n > 0 || p->write.n > 0 || p->run.n > 0 || p->dns;
  int net = p->connect.n > 0 || p->bind.n > 0 || p->dns;
  const char *what = p->read.n > 0 ? "read" : p->write.n > 0 ? "write" : p->run.n > 0 ? "run" : "net.dns";
  if (files && abi == 0) return mpi_fail(MP_ENOSUP, "%s cannot be enforced: this kernel has no Landlock", what);
  if (net && abi == 0) return mpi_fail(MP_ENOSUP, "net cannot be enforced: this kernel has no Landlock");
  if (files && abi < ABI_TRUNCATE)
    return mpi_fail(MP_ENOSUP, "%s cannot be enforced: this kernel's Landlock is version %d and version %d is needed (Linux 6.2)", what, abi,
                    ABI_TRUNCATE);
  if (net && abi < ABI_NET)
    return mpi_fail(MP_ENOSUP, "net cannot be enforced: this kernel's Landlock is version %d and version %d is needed (Linux 6.7)", abi, ABI_NET);
  return 0;
}

const char *mpi_landlock_implied (const struct mpi_policy *p, int i) {
  static const char *const resolver[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"};
  static const char *const loader[] = {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"};
  const int nr = sizeof resolver / sizeof resolver[0], nl = sizeof loader / sizeof loader[0];
  int dns = p->dns ? nr : 0;
  if (i < dns) return resolver[i];
  i -= dns;
  return p->run.n > 0 && i < nl ? loader[i] : NULL;
}

static int add_path (int ruleset, const char *path, uint64_t allowed, uint64_t handled, int optional) {
  struct path_attr a;
  struct stat st;
  int rc = 0;
  int fd = open(path, O_PATH | O_CLOEXEC);
  if (fd < 0) {
    if (optional) return 0;
    return mpi_fail(MP_EMISUSE, "%s is no longer there: %s", path, strerror(errno));
  }
  if (fstat(fd, &st) != 0) rc = mpi_fail_errno("fstat");
  if (rc == 0) {
    a.allowed = allowed & handled;
    if (!S_ISDIR(st.st_mode)) a.allowed &= OF_A_FILE;
    a.fd = fd;
    if (syscall(ADD, ruleset, RULE_PATH, &a, 0) != 0) rc = mpi_fail_errno(path);
  }
  mpi_fd_close(&fd);
  return rc;
}

static int any_port (const struct mpi_ports *ports) {
  uint32_t i;
  for (i = 0; i < ports->n; i++)
    if (ports->port[i] == 0) return 1;
  return 0;
}

static int add_ports (int ruleset, const struct mpi_ports *ports, uint64_t allowed) {
  uint32_t i;
  for (i = 0; i < ports->n; i++) {
    struct port_attr a = {allowed, ports->port[i]};
    if (syscall(ADD, ruleset, RULE_PORT, &a, 0) != 0) return mpi_fail_errno("landlock: a port");
  }
  return 0;
}

/* sh starts what os.execute and io.popen name, and the loader starts every program that is not static: both must be executable, and can start
** nothing themselves that is not granted. */
static const char *const starters[] = {"/bin/sh", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", NULL};

static int add_all (int ruleset, const struct mpi_policy *p, uint64_t handled) {
  uint32_t i;
  int k, rc;
  for (i = 0; i < p->read.n; i++)
    if ((rc = add_path(ruleset, mpi_policy_name(p, &p->read, i), READING, handled, 0)) != 0) return rc;
  for (i = 0; i < p->write.n; i++)
    if ((rc = add_path(ruleset, mpi_policy_name(p, &p->write, i), WRITING, handled, 0)) != 0) return rc;
  for (i = 0; i < p->run.n; i++)
    if ((rc = add_path(ruleset, mpi_policy_name(p, &p->run, i), FS(EXECUTE) | FS(READ_FILE), handled, 0)) != 0) return rc;
  for (k = 0; p->run.n > 0 && starters[k] != NULL; k++)
    if ((rc = add_path(ruleset, starters[k], FS(EXECUTE) | FS(READ_FILE), handled, 1)) != 0) return rc;
  if (p->read.n + p->write.n + p->run.n > 0 && (rc = add_path(ruleset, "/dev/null", FS(READ_FILE) | FS(WRITE_FILE) | FS(TRUNCATE), handled, 1)) != 0) return rc;
  for (k = 0; mpi_landlock_implied(p, k) != NULL; k++)
    if ((rc = add_path(ruleset, mpi_landlock_implied(p, k), FS(READ_FILE), handled, 1)) != 0) return rc;
  if (any_port(&p->connect)) return add_ports(ruleset, &p->bind, NET_BIND);
  if ((rc = add_ports(ruleset, &p->connect, NET_CONNECT)) != 0) return rc;
  /* A resolver falls back to TCP. */
  if (p->dns) {
    struct port_attr a = {NET_CONNECT, 53};
    if (syscall(ADD, ruleset, RULE_PORT, &a, 0) != 0) return mpi_fail_errno("landlock: a port");
  }
  return add_ports(ruleset, &p->bind, NET_BIND);
}

int mpi_landlock_make (const struct mpi_policy *p, int *out) {
  struct ruleset_attr a = {0, 0, 0};
  int abi = mpi_landlock_abi();
  size_t size = sizeof a.fs;
  int fd;
  int rc = mpi_landlock_can(p);
  if (rc != 0) return rc;
  if (abi == 0) {
    *out = -1;
    return 0;
  }
  a.fs = FS(MAKE_SYM + 1) - 1;
  if (abi >= 2) a.fs |= FS(REFER);
  if (abi >= ABI_TRUNCATE) a.fs |= FS(TRUNCATE);
  if (abi >= ABI_IOCTL) a.fs |= FS(IOCTL_DEV);
  if (abi >= ABI_NET) {
    a.net = NET_BIND | (any_port(&p->connect) ? 0 : NET_CONNECT);
    size = 2 * sizeof a.fs;
  }
  if (abi >= ABI_SCOPE) {
    a.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
    size = sizeof a;
  }
  fd = (int)syscall(CREATE, &a, size, 0);
  if (fd < 0) return mpi_fail_errno("landlock_create_ruleset");
  if ((rc = add_all(fd, p, a.fs)) != 0) {
    mpi_fd_close(&fd);
    return rc;
  }
  *out = fd;
  return 0;
}

int mpi_landlock_enter (int fd) {
  if (syscall(RESTRICT, fd, 0) != 0) return mpi_fail_errno("landlock_restrict_self");
  return 0;
}
