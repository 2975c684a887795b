#include "sandbox/refusal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "sandbox/landlock.h"

/* ---- reading the process ---- */

static int peek_open (const struct mpi_refused *c, int *mine) {
  char name[64];
  *mine = -1;
  if (c->memory >= 0) return c->memory;
  (void)snprintf(name, sizeof name, "/proc/%d/mem", (int)c->pid);
  return *mine = open(name, O_RDONLY | O_CLOEXEC);
}

static ssize_t peek (const struct mpi_refused *c, uint64_t at, void *to, size_t size) {
  int mine, fd = peek_open(c, &mine);
  ssize_t k = fd < 0 ? -1 : pread(fd, to, size, (off_t)at);
  if (mine >= 0) (void)close(mine);
  return k;
}

/* A string of at most PATH_MAX bytes; 0 if it cannot be read. */
static int peek_string (const struct mpi_refused *c, uint64_t at, char to[PATH_MAX]) {
  size_t got = 0;
  if (at == 0) return 0;
  while (got < PATH_MAX) { /* page by page: the next one may not be there */
    size_t step = 4096 - (size_t)((at + got) % 4096);
    ssize_t k;
    if (step > PATH_MAX - got) step = PATH_MAX - got;
    k = peek(c, at + got, to + got, step);
    if (k <= 0) return 0;
    if (memchr(to + got, '\0', (size_t)k) != NULL) return 1;
    got += (size_t)k;
  }
  return 0;
}

/* ---- paths ---- */

enum { NOT_A_PATH = -1, AT_CWD = -2 }; /* where the directory argument stands: a number, or AT_CWD for calls that have none */

struct path_call {
  const char *name;
  int dir;   /* argument with the directory's descriptor, or AT_CWD */
  int path;  /* argument with the path */
  int flags; /* argument with open flags, or -1 */
  int writes;
};

static const struct path_call path_calls[] = {
  {"openat", 0, 1, 2, 0},      {"open", AT_CWD, 0, 1, 0},     {"creat", AT_CWD, 0, -1, 1},    {"unlink", AT_CWD, 0, -1, 1},
  {"unlinkat", 0, 1, -1, 1},   {"rename", AT_CWD, 0, -1, 1},  {"renameat", 0, 1, -1, 1},      {"renameat2", 0, 1, -1, 1},
  {"mkdir", AT_CWD, 0, -1, 1}, {"mkdirat", 0, 1, -1, 1},      {"rmdir", AT_CWD, 0, -1, 1},    {"truncate", AT_CWD, 0, -1, 1},
  {"chmod", AT_CWD, 0, -1, 1}, {"fchmodat", 0, 1, -1, 1},     {"chown", AT_CWD, 0, -1, 1},    {"lchown", AT_CWD, 0, -1, 1},
  {"fchownat", 0, 1, -1, 1},   {"utimensat", 0, 1, -1, 1},    {"utimes", AT_CWD, 0, -1, 1},   {"setxattr", AT_CWD, 0, -1, 1},
  {"symlink", AT_CWD, 1, -1, 1}, {"symlinkat", 1, 2, -1, 1},  {"link", AT_CWD, 1, -1, 1},     {"linkat", 2, 3, -1, 1},
  {"mknod", AT_CWD, 0, -1, 1}, {"mknodat", 0, 1, -1, 1},      {"stat", AT_CWD, 0, -1, 0},     {"lstat", AT_CWD, 0, -1, 0},
  {"newfstatat", 0, 1, -1, 0}, {"access", AT_CWD, 0, -1, 0},  {"faccessat", 0, 1, -1, 0},     {"readlink", AT_CWD, 0, -1, 0},
  {"readlinkat", 0, 1, -1, 0}, {"chdir", AT_CWD, 0, -1, 0},   {"execve", AT_CWD, 0, -1, 0},   {"execveat", 0, 1, -1, 0},
  {"statfs", AT_CWD, 0, -1, 0}};

/* Those that no grant allows: they get around Landlock, or plant something for who looks later. */
static const char *const ungrantable[] = {"truncate", "chmod", "fchmodat", "chown", "lchown", "fchownat", "utimensat", "utimes", "setxattr",
                                          "symlink",  "symlinkat", "link", "linkat", "mknod", "mknodat", "fchmod", "fchown", "fsetxattr"};

static const char *name_of (int nr, char *room, size_t size) {
  char *s = seccomp_syscall_resolve_num_arch(mpi_filter_arch(), nr);
  if (s == NULL) (void)snprintf(room, size, "call %d", nr);
  else (void)snprintf(room, size, "%s", s);
  free(s);
  return room;
}

static const struct path_call *path_call_of (const char *name) {
  size_t i;
  for (i = 0; i < sizeof path_calls / sizeof path_calls[0]; i++)
    if (strcmp(path_calls[i].name, name) == 0) return &path_calls[i];
  return NULL;
}

/* Absolute, but not resolved. The warden shares the child's first directory; only with a run grant can it have changed. */
static int read_path (const struct mpi_refused *c, const struct path_call *p, char path[PATH_MAX]) {
  char raw[PATH_MAX], dir[PATH_MAX], link[64];
  int at = p->dir == AT_CWD ? AT_FDCWD : (int)(int32_t)c->args[p->dir];
  ssize_t k;
  if (!peek_string(c, c->args[p->path], raw)) return 0;
  if (raw[0] == '/') {
    (void)snprintf(path, PATH_MAX, "%s", raw);
    return 1;
  }
  if (at == AT_FDCWD) (void)snprintf(link, sizeof link, "/proc/%d/cwd", (int)c->pid);
  else (void)snprintf(link, sizeof link, "/proc/%d/fd/%d", (int)c->pid, at);
  k = readlink(link, dir, sizeof dir - 1);
  if (k > 0) dir[k] = '\0';
  else if (at != AT_FDCWD || getcwd(dir, sizeof dir) == NULL) {
    (void)snprintf(path, PATH_MAX, "%s", raw);
    return 1;
  }
  if ((size_t)snprintf(path, PATH_MAX, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, raw) >= PATH_MAX) return 0;
  return 1;
}

/* The file's real name, or for one that does not exist yet, its directory's with the last part. 0: not even that exists. */
static int resolve (const char *path, char full[PATH_MAX], int *exists) {
  char dir[PATH_MAX], copy[PATH_MAX];
  char *slash;
  *exists = realpath(path, full) != NULL;
  if (*exists) return 1;
  (void)snprintf(copy, sizeof copy, "%s", path);
  slash = strrchr(copy, '/');
  if (slash == NULL) return 0;
  *slash = '\0';
  if (realpath(copy[0] == '\0' ? "/" : copy, dir) == NULL) return 0;
  return (size_t)snprintf(full, PATH_MAX, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, slash + 1) < PATH_MAX;
}

static int special (const char *path) {
  return strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/sys/", 5) == 0;
}

static int writes (const struct mpi_refused *c, const struct path_call *p) {
  uint64_t flags;
  if (p->writes) return 1;
  if (p->flags < 0) return 0;
  flags = c->args[p->flags];
  return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0;
}

static int readable (const struct mpi_policy *p, const char *full) {
  int i;
  const char *name;
  char real[PATH_MAX];
  if (mpi_policy_covers(p, &p->read, full) || mpi_policy_covers(p, &p->write, full) || mpi_policy_covers(p, &p->run, full)) return 1;
  for (i = 0; (name = mpi_landlock_implied(p, i)) != NULL; i++) {
    size_t n;
    if (realpath(name, real) == NULL) continue;
    n = strlen(real);
    if (strncmp(full, real, n) == 0 && (full[n] == '\0' || full[n] == '/')) return 1;
  }
  return 0;
}

/* ---- network ---- */

union address {
  struct sockaddr any;
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
  struct sockaddr_un un;
  char bytes[128];
};

static int peek_address (const struct mpi_refused *c, uint64_t at, uint64_t size, union address *a) {
  memset(a, 0, sizeof *a);
  if (at == 0 || size < 2) return 0;
  if (size > sizeof *a - 1) size = sizeof *a - 1;
  return peek(c, at, a, (size_t)size) == (ssize_t)size;
}

static int port_of (const union address *a) {
  if (a->any.sa_family == AF_INET) return ntohs(a->in.sin_port);
  if (a->any.sa_family == AF_INET6) return ntohs(a->in6.sin6_port);
  return -1;
}

static void address_text (const union address *a, char *to, size_t size) {
  char host[INET6_ADDRSTRLEN] = "?";
  if (a->any.sa_family == AF_INET) {
    (void)inet_ntop(AF_INET, &a->in.sin_addr, host, sizeof host);
    (void)snprintf(to, size, "%s:%d", host, port_of(a));
  } else if (a->any.sa_family == AF_INET6) {
    (void)inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof host);
    (void)snprintf(to, size, "[%s]:%d", host, port_of(a));
  } else if (a->any.sa_family == AF_UNIX) {
    (void)snprintf(to, size, "unix:%s%.100s", a->un.sun_path[0] == '\0' ? "@" : "", a->un.sun_path + (a->un.sun_path[0] == '\0'));
  } else {
    (void)snprintf(to, size, "family %d", a->any.sa_family);
  }
}

static int has_port (const struct mpi_ports *ports, int port) {
  uint32_t i;
  for (i = 0; i < ports->n; i++)
    if (ports->port[i] == port || ports->port[i] == 0) return 1;
  return 0;
}

/* ---- words ---- */

static void printable (char *s) {
  for (; *s != '\0'; s++)
    if ((unsigned char)*s < 0x20 || *s == 0x7f) *s = '?';
}

static int is_one_of (const char *name, const char *const *list, size_t n) {
  size_t i;
  for (i = 0; i < n; i++)
    if (strcmp(list[i], name) == 0) return 1;
  return 0;
}

static void say (struct mpi_violation *v, const char *need, const char *fix) {
  (void)snprintf(v->need, sizeof v->need, "%s", need);
  (void)snprintf(v->fix, sizeof v->fix, "%s", fix);
}

static void describe_path (const struct mpi_refused *c, const struct path_call *p, struct mpi_violation *v) {
  char path[PATH_MAX], full[PATH_MAX], fix[sizeof v->fix];
  const char *need = writes(c, p) ? "write" : "read";
  int exists = 0;
  if (!read_path(c, p, path)) {
    (void)snprintf(v->target, sizeof v->target, "(unreadable)");
    say(v, need, "");
    return;
  }
  (void)snprintf(v->target, sizeof v->target, "%.255s", path);
  printable(v->target);
  if (is_one_of(v->call, ungrantable, sizeof ungrantable / sizeof ungrantable[0])) {
    say(v, "", "no grant allows this call: let the owner do it");
    return;
  }
  if (strncmp(v->call, "exec", 4) == 0) need = "run";
  if (resolve(path, full, &exists) && !exists && strcmp(need, "write") == 0) *strrchr(full, '/') = '\0'; /* a new file: its directory */
  else if (!exists) (void)snprintf(full, sizeof full, "%s", path);
  if (full[0] == '\0') (void)snprintf(full, sizeof full, "/");
  if (strncmp(full, "/proc", 5) == 0 || strncmp(full, "/dev", 4) == 0 || strncmp(full, "/sys", 4) == 0) {
    say(v, "", "no grant allows this: it reaches other processes and devices");
    return;
  }
  if (strlen(full) > sizeof fix - 32) (void)snprintf(fix, sizeof fix, "%s = {DIRECTORY}, one above this long name", need);
  else (void)snprintf(fix, sizeof fix, "%s = {\"%.288s\"}", need, full);
  printable(fix);
  say(v, need, fix);
}

static void describe_socket (const struct mpi_refused *c, struct mpi_violation *v) {
  int domain = (int)c->args[0], type = (int)c->args[1] & 0xf, proto = (int)c->args[2];
  const char *family = domain == AF_INET ? "AF_INET" : domain == AF_INET6 ? "AF_INET6" : domain == AF_UNIX ? "AF_UNIX" : NULL;
  const char *kind = type == SOCK_STREAM ? "stream" : type == SOCK_DGRAM ? "datagram" : type == SOCK_RAW ? "raw" : "other";
  if (family != NULL) (void)snprintf(v->target, sizeof v->target, "%s %s", family, kind);
  else (void)snprintf(v->target, sizeof v->target, "family %d %s", domain, kind);
  if (proto != 0) (void)snprintf(v->target + strlen(v->target), 32, " protocol %d", proto);
  if ((domain == AF_INET || domain == AF_INET6) && type == SOCK_STREAM && (proto == 0 || proto == 6))
    say(v, "net", "net = { connect = {PORT} }");
  else if ((domain == AF_INET || domain == AF_INET6) && type == SOCK_DGRAM) say(v, "net.dns", "net = { dns = true }, for name look-ups");
  else say(v, "", "no grant allows such a socket");
}

static void describe_address (const struct mpi_refused *c, const char *need, struct mpi_violation *v) {
  union address a;
  char fix[64];
  if (!peek_address(c, c->args[1], c->args[2], &a)) {
    say(v, need, "");
    return;
  }
  address_text(&a, v->target, sizeof v->target);
  printable(v->target);
  if (port_of(&a) < 0) {
    say(v, "", "no grant allows such an address");
    return;
  }
  (void)snprintf(fix, sizeof fix, "net = { %s = {%d} }", need + 4, port_of(&a));
  say(v, need, fix);
}

static void describe_clone (const struct mpi_refused *c, struct mpi_violation *v) {
  if (strcmp(v->call, "clone") == 0 && (c->args[0] & CLONE_THREAD)) {
    (void)snprintf(v->target, sizeof v->target, "a thread");
    say(v, "limits.threads", "limits = { threads = 1 }");
  } else {
    (void)snprintf(v->target, sizeof v->target, "a process");
    say(v, "run", "run = {\"/path/of/the/program\"}");
  }
}

void mpi_refusal_describe (const struct mpi_refused *c, struct mpi_violation *v) {
  const struct path_call *p;
  v->target[0] = '\0';
  (void)name_of(c->nr, v->call, sizeof v->call);
  if ((p = path_call_of(v->call)) != NULL) describe_path(c, p, v);
  else if (strcmp(v->call, "memfd_create") == 0 || strcmp(v->call, "eventfd2") == 0 ||
           (strcmp(v->call, "socketpair") == 0 && c->args[0] == AF_UNIX)) {
    (void)snprintf(v->target, sizeof v->target, "a shared object");
    say(v, "run", "run = {PROGRAM}: only who may have processes has objects of its own");
  } else if (strncmp(v->call, "pipe", 4) == 0) say(v, "run", "run = {\"/path/of/the/program\"}, if a program was to be started");
  else if (strcmp(v->call, "socket") == 0 || strcmp(v->call, "socketpair") == 0) describe_socket(c, v);
  else if (strcmp(v->call, "connect") == 0) describe_address(c, "net.connect", v);
  else if (strcmp(v->call, "bind") == 0) describe_address(c, "net.bind", v);
  else if (strcmp(v->call, "listen") == 0 || strncmp(v->call, "accept", 6) == 0) say(v, "net.bind", "net = { bind = {PORT} }");
  else if (strcmp(v->call, "clone") == 0 || strcmp(v->call, "fork") == 0 || strcmp(v->call, "vfork") == 0) describe_clone(c, v);
  else if ((strcmp(v->call, "mmap") == 0 || strcmp(v->call, "mprotect") == 0) && (c->args[2] & PROT_EXEC)) {
    (void)snprintf(v->target, sizeof v->target, "executable memory");
    say(v, "modules", "modules = {\"NAME\"}, if a C module was to be loaded");
  } else if (is_one_of(v->call, ungrantable, sizeof ungrantable / sizeof ungrantable[0])) say(v, "", "no grant allows this call: let the owner do it");
  else say(v, "", "no grant allows this call");
}

/* ---- will Landlock refuse it? ---- */

static int path_covered (const struct mpi_refused *c, const struct path_call *p) {
  const struct mpi_policy *policy = &c->jail->policy;
  char path[PATH_MAX], full[PATH_MAX];
  int exists;
  if (!read_path(c, p, path) || path[0] != '/' || !resolve(path, full, &exists)) return 1; /* fails for another reason, or unknown */
  if (strcmp(full, "/dev/null") == 0) return 1;
  if (special(path) || special(full)) return 0; /* magic links there lead to what has no name */
  if (strncmp(p->name, "exec", 4) == 0) return !exists || mpi_policy_covers(policy, &policy->run, full) || strcmp(path, "/bin/sh") == 0;
  if (p->flags >= 0 && !exists && !(c->args[p->flags] & O_CREAT)) return 1; /* no such file */
  if (p->flags < 0 && !exists && strncmp(p->name, "mkdir", 5) != 0) return 1;
  if (writes(c, p)) return mpi_policy_covers(policy, &policy->write, full);
  return readable(policy, full);
}

static int is_stream (const struct mpi_refused *c) {
  int pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0), fd, type = SOCK_STREAM;
  socklen_t size = sizeof type;
  if (pidfd < 0) pidfd = (int)syscall(SYS_pidfd_open, c->main_pid, 0); /* a thread */
  if (pidfd < 0) return 0;
  fd = (int)syscall(SYS_pidfd_getfd, pidfd, (int)c->args[0], 0);
  if (fd >= 0) {
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) type = 0;
    (void)close(fd);
  } else if (c->jail->policy.dns) type = 0; /* without privileges we cannot look: rather no record than a wrong one */
  (void)close(pidfd);
  return type == SOCK_STREAM;
}

int mpi_refusal_covered (const struct mpi_refused *c) {
  const struct mpi_policy *policy = &c->jail->policy;
  const struct path_call *p;
  char name[32];
  union address a;
  (void)name_of(c->nr, name, sizeof name);
  if ((p = path_call_of(name)) != NULL) {
    struct path_call second;
    if (!path_covered(c, p)) return 0;
    if (strncmp(name, "rename", 6) != 0) return 1;
    second = *p; /* and the new name */
    second.name = "mkdir";
    second.dir = p->dir == AT_CWD ? AT_CWD : 2;
    second.path = p->dir == AT_CWD ? 1 : 3;
    return path_covered(c, &second);
  }
  if (strcmp(name, "connect") == 0) {
    if (!peek_address(c, c->args[1], c->args[2], &a) || port_of(&a) < 0 || has_port(&policy->connect, port_of(&a))) return 1;
    if (policy->dns && port_of(&a) == 53) return 1;
    return !is_stream(c);
  }
  if (strcmp(name, "bind") == 0) { /* 0 there is "any free port", and only that */
    uint32_t i;
    if (!peek_address(c, c->args[1], c->args[2], &a) || port_of(&a) < 0) return 1;
    for (i = 0; i < policy->bind.n; i++)
      if (policy->bind.port[i] == port_of(&a)) return 1;
    return 0;
  }
  return 1;
}

int mpi_refusal_harmless (const struct mpi_refused *c) {
  static const char *const curious[] = {"/sys/devices/system/cpu/online", "/proc/sys/vm/overcommit_memory", "/etc/localtime",
                                        "/proc/self/cgroup"};
  const struct path_call *p;
  char name[32], path[PATH_MAX];
  (void)name_of(c->nr, name, sizeof name);
  if (strcmp(name, "readlink") == 0 && peek_string(c, c->args[0], path) && strcmp(path, "/proc/self/exe") == 0) return 1; /* ours */
  if ((p = path_call_of(name)) == NULL || p->flags < 0 || writes(c, p) || !read_path(c, p, path)) return 0;
  /* Who looks for a file in many places (require) needs only the place where it is. */
  return is_one_of(path, curious, sizeof curious / sizeof curious[0]) || strncmp(path, "/sys/fs/cgroup/", 15) == 0 || (access(path, F_OK) != 0 && errno == ENOENT && !special(path));
}
