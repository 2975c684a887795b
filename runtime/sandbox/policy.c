#include "sandbox/policy.h"

#include <errno.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

void mpi_policy_init (struct mpi_policy *p) {
  memset(p, 0, sizeof *p);
  p->memory = p->output = p->cpu = p->wall = p->files = -1;
}

static int add (struct mpi_policy *p, struct mpi_names *names, const char *kind, const char *name) {
  size_t size = strlen(name) + 1;
  uint32_t i;
  for (i = 0; i < names->n; i++)
    if (strcmp(p->text + names->at[i], name) == 0) return 0;
  if (names->n >= MPI_POLICY_ITEMS || size > MPI_POLICY_TEXT - p->used)
    return mpi_fail(MP_EMISUSE, "too many names in %s (at most %d)", kind, MPI_POLICY_ITEMS);
  memcpy(p->text + p->used, name, size);
  names->at[names->n++] = p->used;
  p->used += (uint32_t)size;
  return 0;
}

static int below (const char *path, const char *root) {
  size_t n = strlen(root);
  if (n == 1) return 1; /* "/" */
  return strncmp(path, root, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* What gives more than files: other processes' memory, devices, the kernel's switches. */
static const char *const never[] = {"/proc", "/dev", "/sys"};

/* The same things, mounted elsewhere: in the root of a container, say. */
static const char *const wide[] = {"proc", "sysfs", "devtmpfs", "devpts", "debugfs", "tracefs", "securityfs", "configfs", "efivarfs", "bpf",
                                   "cgroup", "cgroup2", "binfmt_misc", "mqueue"};

static int no_wide_mount (const char *kind, const char *path, const char *full) {
  FILE *f = setmntent("/proc/self/mounts", "re");
  struct mntent m;
  char text[PATH_MAX + 1024];
  int rc = 0;
  size_t i;
  if (f == NULL) return mpi_fail_errno("/proc/self/mounts");
  while (rc == 0 && getmntent_r(f, &m, text, sizeof text) != NULL) {
    if (!below(m.mnt_dir, full) && !(below(full, m.mnt_dir) && m.mnt_dir[1] != '\0')) continue;
    for (i = 0; i < sizeof wide / sizeof wide[0]; i++)
      if (strcmp(m.mnt_type, wide[i]) == 0)
        rc = mpi_fail(MP_EMISUSE, "%s: %s cannot be granted: a file system of type %s is mounted at %s", kind, path, m.mnt_type, m.mnt_dir);
  }
  (void)endmntent(f);
  return rc;
}

static int resolve (const char *kind, const char *path, char full[PATH_MAX], struct stat *st) {
  size_t i;
  if (path[0] == '\0') return mpi_fail(MP_EMISUSE, "%s: an empty path", kind);
  if (realpath(path, full) == NULL || stat(full, st) != 0) {
    if (errno == ENOENT) return mpi_fail(MP_EMISUSE, "%s: no such file or directory: %s", kind, path);
    return mpi_fail(MP_EMISUSE, "%s: %s: %s", kind, path, strerror(errno));
  }
  for (i = 0; i < sizeof never / sizeof never[0]; i++)
    if (below(full, never[i])) return mpi_fail(MP_EMISUSE, "%s: %s cannot be granted: it reaches other processes and devices", kind, path);
  return full[1] == '\0' ? 0 : no_wide_mount(kind, path, full);
}

static int add_path (struct mpi_policy *p, struct mpi_names *names, const char *kind, const char *path, int writing) {
  char full[PATH_MAX];
  struct stat st;
  int rc = resolve(kind, path, full, &st);
  if (rc != 0) return rc;
  if (full[1] == '\0')
    return mpi_fail(MP_EMISUSE, "%s: / cannot be granted: it contains /proc and /dev; name the directories that are needed", kind);
  if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
    return mpi_fail(MP_EMISUSE, "%s: %s is neither a file nor a directory", kind, path);
  if (writing && access(full, W_OK) != 0) return mpi_fail(MP_EMISUSE, "%s: %s: %s", kind, path, strerror(errno));
  return add(p, names, kind, full);
}

int mpi_policy_read (struct mpi_policy *p, const char *path) {
  return add_path(p, &p->read, "read", path, 0);
}

int mpi_policy_write (struct mpi_policy *p, const char *path) {
  return add_path(p, &p->write, "write", path, 1);
}

int mpi_policy_run (struct mpi_policy *p, const char *path) {
  char full[PATH_MAX];
  struct stat st;
  int rc;
  if (path[0] != '/') return mpi_fail(MP_EMISUSE, "run: %s: a program is named by its whole path", path);
  if ((rc = resolve("run", path, full, &st)) != 0) return rc;
  if (!S_ISREG(st.st_mode) || access(full, X_OK) != 0) return mpi_fail(MP_EMISUSE, "run: %s is not a program", path);
  if (st.st_mode & (S_ISUID | S_ISGID)) return mpi_fail(MP_EMISUSE, "run: %s gains privileges when started; this cannot be granted", path);
  return add(p, &p->run, "run", full);
}

int mpi_policy_module (struct mpi_policy *p, const char *name) {
  if (name[0] == '\0') return mpi_fail(MP_EMISUSE, "modules: an empty name");
  return add(p, &p->modules, "modules", name);
}

static int add_port (struct mpi_ports *ports, const char *kind, int64_t port, int64_t least) {
  uint32_t i;
  if (port < least || port > 65535)
    return mpi_fail(MP_EMISUSE, "%s: %lld is not a port (%lld to 65535)", kind, (long long)port, (long long)least);
  for (i = 0; i < ports->n; i++)
    if (ports->port[i] == port) return 0;
  if (ports->n >= MPI_POLICY_ITEMS) return mpi_fail(MP_EMISUSE, "too many ports in %s (at most %d)", kind, MPI_POLICY_ITEMS);
  ports->port[ports->n++] = (uint16_t)port;
  return 0;
}

int mpi_policy_connect (struct mpi_policy *p, int64_t port) {
  return add_port(&p->connect, "net.connect", port, 0);
}

int mpi_policy_bind (struct mpi_policy *p, int64_t port) {
  return add_port(&p->bind, "net.bind", port, 0);
}

const char *mpi_policy_name (const struct mpi_policy *p, const struct mpi_names *names, uint32_t i) {
  return p->text + names->at[i];
}

static int names_ok (const struct mpi_policy *p, const struct mpi_names *names) {
  uint32_t i;
  if (names->n > MPI_POLICY_ITEMS) return 0;
  for (i = 0; i < names->n; i++)
    if (names->at[i] >= p->used) return 0;
  return 1;
}

int mpi_policy_check (const struct mpi_policy *p) {
  if (p->used > MPI_POLICY_TEXT || (p->used > 0 && p->text[p->used - 1] != '\0') || !names_ok(p, &p->read) || !names_ok(p, &p->write) ||
      !names_ok(p, &p->run) || !names_ok(p, &p->modules) || p->connect.n > MPI_POLICY_ITEMS || p->bind.n > MPI_POLICY_ITEMS)
    return mpi_fail(MP_ECORRUPT, "this is not a sandbox policy");
  return 0;
}

int mpi_policy_covers (const struct mpi_policy *p, const struct mpi_names *names, const char *path) {
  uint32_t i;
  for (i = 0; i < names->n; i++)
    if (below(path, mpi_policy_name(p, names, i))) return 1;
  return 0;
}
