#include "sandbox/policy.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/test.h"

static struct mpi_policy p;

TEST("a policy starts with nothing") {
  mpi_policy_init(&p);
  CHECK_EQ(p.read.n + p.write.n + p.run.n + p.modules.n + p.connect.n + p.bind.n, 0);
  CHECK_EQ(p.dns, 0);
  CHECK_EQ(p.threads, 0);
  CHECK_EQ(p.memory, -1);
  CHECK_OK(mpi_policy_check(&p));
}

TEST("a path is made absolute and covers what lies below it") {
  mpi_policy_init(&p);
  CHECK(chdir("/usr") == 0);
  CHECK_OK(mpi_policy_read(&p, "share/../share"));
  CHECK_STR(mpi_policy_name(&p, &p.read, 0), "/usr/share");
  CHECK(mpi_policy_covers(&p, &p.read, "/usr/share/doc"));
  CHECK(mpi_policy_covers(&p, &p.read, "/usr/share"));
  CHECK(!mpi_policy_covers(&p, &p.read, "/usr/shared"));
  CHECK(!mpi_policy_covers(&p, &p.read, "/usr"));
}

TEST("a name granted twice counts once") {
  mpi_policy_init(&p);
  CHECK_OK(mpi_policy_read(&p, "/usr"));
  CHECK_OK(mpi_policy_read(&p, "/usr/"));
  CHECK_EQ(p.read.n, 1);
  CHECK_OK(mpi_policy_connect(&p, 443));
  CHECK_OK(mpi_policy_connect(&p, 443));
  CHECK_EQ(p.connect.n, 1);
}

TEST("a missing path is refused and named") {
  mpi_policy_init(&p);
  CHECK_ERR(mpi_policy_read(&p, "/no/such/place"), MP_EMISUSE);
  CHECK_STR(mp_errmsg(), "read: no such file or directory: /no/such/place");
  CHECK_ERR(mpi_policy_write(&p, ""), MP_EMISUSE);
  CHECK_ERR(mpi_policy_run(&p, "sort"), MP_EMISUSE);
  CHECK_EQ(p.used, 0);
}

TEST("what reaches other processes or devices cannot be granted, not through a link either") {
  char link[] = "/tmp/mp-policy-XXXXXX";
  mpi_policy_init(&p);
  CHECK_ERR(mpi_policy_read(&p, "/proc"), MP_EMISUSE);
  CHECK_ERR(mpi_policy_read(&p, "/proc/self/status"), MP_EMISUSE);
  CHECK_ERR(mpi_policy_write(&p, "/dev/null"), MP_EMISUSE);
  CHECK_ERR(mpi_policy_read(&p, "/sys"), MP_EMISUSE);
  CHECK_ERR(mpi_policy_write(&p, "/"), MP_EMISUSE);
  CHECK_ERR(mpi_policy_read(&p, "/"), MP_EMISUSE);
  CHECK(mkdtemp(link) != NULL && rmdir(link) == 0 && symlink("/proc", link) == 0);
  CHECK_ERR(mpi_policy_read(&p, link), MP_EMISUSE);
  CHECK(unlink(link) == 0);
}

TEST("only a program can be run, and none that gains privileges") {
  char file[] = "/tmp/mp-policy-XXXXXX";
  int fd = mkstemp(file);
  CHECK(fd >= 0);
  mpi_policy_init(&p);
  CHECK_OK(mpi_policy_run(&p, "/bin/sh"));
  CHECK_ERR(mpi_policy_run(&p, "/usr"), MP_EMISUSE);
  CHECK_ERR(mpi_policy_run(&p, file), MP_EMISUSE);
  CHECK(fchmod(fd, 04755) == 0);
  CHECK_ERR(mpi_policy_run(&p, file), MP_EMISUSE);
  CHECK(unlink(file) == 0);
}

TEST("ports are numbers that TCP has") {
  mpi_policy_init(&p);
  CHECK_ERR(mpi_policy_connect(&p, -1), MP_EMISUSE);
  CHECK_ERR(mpi_policy_connect(&p, 65536), MP_EMISUSE);
  CHECK_ERR(mpi_policy_bind(&p, -1), MP_EMISUSE);
  CHECK_OK(mpi_policy_bind(&p, 0));
  CHECK_OK(mpi_policy_connect(&p, 65535));
}

TEST("more grants than there is room for are refused, and the policy stays whole") {
  char name[32];
  int i, rc = 0;
  mpi_policy_init(&p);
  for (i = 0; rc == 0; i++) {
    (void)snprintf(name, sizeof name, "module%d", i);
    rc = mpi_policy_module(&p, name);
  }
  CHECK_EQ(i, MPI_POLICY_ITEMS + 1);
  CHECK_ERR(rc, MP_EMISUSE);
  CHECK_OK(mpi_policy_check(&p));
}

TEST("bytes that are no policy are noticed") {
  mpi_policy_init(&p);
  CHECK_OK(mpi_policy_read(&p, "/usr"));
  p.read.at[0] = p.used;
  CHECK_ERR(mpi_policy_check(&p), MP_ECORRUPT);
  p.read.at[0] = 0;
  p.text[p.used - 1] = 'x';
  CHECK_ERR(mpi_policy_check(&p), MP_ECORRUPT);
  p.text[p.used - 1] = '\0';
  p.bind.n = MPI_POLICY_ITEMS + 1;
  CHECK_ERR(mpi_policy_check(&p), MP_ECORRUPT);
}

struct inner {
  char dir[64];
  int mounted, outer, itself, deeper;
  char sentence[256];
};

static void mounts_proc (void *arg) {
  struct inner *in = arg;
  char below[128];
  (void)snprintf(below, sizeof below, "%s/root/proc", in->dir);
  if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mount("proc", below, "proc", 0, NULL) != 0) return;
  in->mounted = 1;
  mpi_policy_init(&p);
  in->outer = mpi_policy_read(&p, in->dir);
  (void)snprintf(in->sentence, sizeof in->sentence, "%s", mp_errmsg());
  in->itself = mpi_policy_read(&p, below);
  (void)snprintf(below, sizeof below, "%s/root/proc/sys/kernel", in->dir);
  in->deeper = mpi_policy_read(&p, below);
}

TEST("a directory below which /proc is mounted again cannot be granted") {
  struct inner *in = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  char name[80];
  (void)snprintf(in->dir, sizeof in->dir, "/tmp/mp-policy-XXXXXX");
  CHECK(mkdtemp(in->dir) != NULL);
  (void)snprintf(name, sizeof name, "%s/root", in->dir);
  CHECK(mkdir(name, 0700) == 0);
  (void)snprintf(name, sizeof name, "%s/root/proc", in->dir);
  CHECK(mkdir(name, 0700) == 0);
  mpi_policy_init(&p);
  CHECK_OK(mpi_policy_read(&p, in->dir));
  CHECK_EQ(wait_child(fork_child(mounts_proc, in)), 0);
  (void)rmdir(name);
  (void)snprintf(name, sizeof name, "%s/root", in->dir);
  (void)rmdir(name);
  (void)rmdir(in->dir);
  if (!in->mounted) SKIP("nothing can be mounted here");
  CHECK_EQ(in->outer, MP_EMISUSE);
  CHECK(strstr(in->sentence, "a file system of type proc is mounted at") != NULL);
  CHECK_EQ(in->itself, MP_EMISUSE);
  CHECK_EQ(in->deeper, MP_EMISUSE);
}
