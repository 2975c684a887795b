#include "proc/spawn.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/pidfd.h"
#include "base/warm.h"
#include "proc/zygote.h"

static MPI_WARM pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static MPI_WARM int control = -1;
static MPI_WARM pid_t zygote;
static char helper[PATH_MAX];
static char library[PATH_MAX];

static void before_fork (void) {
  (void)pthread_mutex_lock(&lock);
}

static void after_fork (void) {
  (void)pthread_mutex_unlock(&lock);
}

static MPI_HOT void renew_lock (void) { /* in the child */
  mpi_mutex_renew(&lock);
}

static void install_fork_hooks (void) {
  (void)pthread_atfork(before_fork, after_fork, renew_lock);
}

MPI_HOT void mpi_spawn_forget (void) {
  if (control >= 0) mpi_fd_close(&control);
  zygote = 0;
}

pid_t mpi_spawn_zygote (void) {
  return zygote;
}

/* ---- the helper ---- */

void mpi_spawn_set_helper (const char *path) { /* every state that opens mp says so; the first is alone */
  if (helper[0] != '\0') return;
  (void)snprintf(helper, sizeof helper, "%s", path);
}

int mpi_spawn_use_helper (const char *path) {
  char whole[PATH_MAX];
  if (realpath(path, whole) == NULL || access(whole, X_OK) != 0) return mpi_fail(MP_ENOSUP, "%s is no program", path);
  (void)pthread_mutex_lock(&lock);
  (void)snprintf(helper, sizeof helper, "%s", whole);
  (void)pthread_mutex_unlock(&lock);
  return 0;
}

static int try_helper (const char *dir, int length, const char *rest) {
  (void)snprintf(helper, sizeof helper, "%.*s%s", length, dir, rest);
  return access(helper, X_OK) == 0;
}

/* Where the library was loaded from, while a relative path still leads there. */
void mpi_spawn_locate (void) {
  Dl_info info;
  if (library[0] != '\0' || dladdr((void *)(uintptr_t)mpi_spawn_locate, &info) == 0 || info.dli_fname == NULL) return;
  if (info.dli_fname[0] == '/') (void)snprintf(library, sizeof library, "%s", info.dli_fname);
  else if (strchr(info.dli_fname, '/') == NULL || realpath(info.dli_fname, library) == NULL) library[0] = '\0';
}

/* Beside the library (a build folder), where `make install` puts it, or in PATH. */
static int find_near (const char *file) {
  static const char *const near[] = {"/mprun", "/../bin/mprun", "/../../../bin/mprun", "/../../bin/mprun"};
  const char *slash = strrchr(file, '/');
  size_t i;
  for (i = 0; slash != NULL && i < sizeof near / sizeof near[0]; i++)
    if (try_helper(file, (int)(slash - file), near[i])) return 1;
  return 0;
}

static int find_helper (void) {
  const char *path = getenv("PATH");
  char program[PATH_MAX];
  ssize_t n;
  if (helper[0] != '\0') return 0;
  if (library[0] != '\0' && find_near(library)) return 0;
  n = readlink("/proc/self/exe", program, sizeof program - 1);
  program[n > 0 ? n : 0] = '\0';
  if (find_near(program)) return 0;
  while (path != NULL && *path != '\0') {
    int length = (int)strcspn(path, ":");
    if (length > 0 && try_helper(path, length, "/mprun")) return 0;
    path += length + (path[length] == ':');
  }
  helper[0] = '\0';
  return mpi_fail(MP_ENOSUP, "spawn needs the program mprun, which is neither beside the library nor in PATH");
}

/* ---- starting the zygote ---- */

/* Between vfork and exec: system calls only, and nothing of the parent's memory is changed. */
static pid_t launch (int sock) {
  char option[] = MPI_ZYGOTE_OPTION;
  char name[] = "mp-zygote";
  char *argv[] = {name, option, NULL};
  pid_t me = getpid();
  sigset_t all, old;
  pid_t pid;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &old); /* no handler of the host's runs in the child */
  pid = vfork();
  if (pid == 0) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != me) _exit(1);
    if (dup2(sock, MPI_ZYGOTE_FD) < 0) _exit(1);
    if (sock == MPI_ZYGOTE_FD) (void)fcntl(sock, F_SETFD, 0);
    (void)close_range(MPI_ZYGOTE_FD + 1, ~0u, 0);
    (void)execv(helper, argv);
    _exit(127);
  }
  (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
  return pid;
}

struct keeper {
  int sock;
  pid_t pid;
  int error;
  int done;
  pthread_mutex_t lock;
  pthread_cond_t told;
};

static void *keep (void *arg) {
  struct keeper *k = arg;
  sigset_t all;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, NULL);
  (void)pthread_mutex_lock(&k->lock);
  k->pid = launch(k->sock);
  k->error = errno;
  k->done = 1;
  (void)pthread_cond_signal(&k->told);
  (void)pthread_mutex_unlock(&k->lock);
  for (;;) (void)pause(); /* k is gone */
  return NULL;
}

static pid_t launch_kept (int sock) {
  struct keeper k;
  pthread_attr_t attr;
  pthread_t t;
  int rc;
  memset(&k, 0, sizeof k);
  k.sock = sock;
  (void)pthread_mutex_init(&k.lock, NULL);
  (void)pthread_cond_init(&k.told, NULL);
  (void)pthread_attr_init(&attr);
  (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  (void)pthread_attr_setstacksize(&attr, 256 * 1024);
  rc = pthread_create(&t, &attr, keep, &k);
  (void)pthread_attr_destroy(&attr);
  if (rc != 0) {
    errno = rc;
    return -1;
  }
  (void)pthread_mutex_lock(&k.lock);
  while (!k.done) (void)pthread_cond_wait(&k.told, &k.lock);
  (void)pthread_mutex_unlock(&k.lock);
  errno = k.error;
  return k.pid;
}

static void bury_zygote (void) {
  mpi_fd_close(&control);
  if (zygote > 0) {
    (void)kill(zygote, SIGKILL);
    while (waitpid(zygote, NULL, 0) < 0 && errno == EINTR) {}
  }
  zygote = 0;
}

/* An answer within 10 s. An interruption does not end it: there is nothing to be undone in the middle. */
static int answer (struct mpi_zygote_reply *r) {
  int64_t deadline = mp_now() + 10 * MPI_NS_PER_S;
  for (;;) {
    struct pollfd p = {control, POLLIN, 0};
    size_t got = 0;
    int none = 0;
    int rc = mpi_fd_recv(control, r, sizeof *r, &got, NULL, &none, 0);
    if (rc == 0 && got == sizeof *r) return 0;
    if (rc != MP_EEMPTY) return mpi_fail(MP_ECLOSED, "the zygote does not answer");
    if (mp_now() > deadline) return mpi_fail(MP_ECLOSED, "the zygote does not answer");
    if (poll(&p, 1, 1000) == 0 && zygote > 0) (void)kill(zygote, SIGCONT); /* somebody may have stopped it */
  }
}

static int start_zygote (void) {
  struct mpi_zygote_reply hello;
  int sv[2];
  int rc = find_helper();
  if (rc == 0) rc = mpi_socketpair(sv);
  if (rc != 0) return rc;
  zygote = gettid() == getpid() ? launch(sv[1]) : launch_kept(sv[1]);
  (void)close(sv[1]);
  control = sv[0];
  if (zygote < 0) {
    zygote = 0;
    rc = mpi_fail_errno("vfork");
    mpi_fd_close(&control);
    return rc;
  }
  if (answer(&hello) != 0) {
    bury_zygote();
    return mpi_fail(MP_ENOSUP, "spawn: %s cannot be run", helper);
  }
  if (hello.magic != MPI_ZYGOTE_MAGIC || hello.value != MPI_ZYGOTE_VERSION) {
    bury_zygote();
    return mpi_fail(MP_ENOSUP, "spawn: %s is of another version", helper);
  }
  return 0;
}

/* ---- asking it ---- */

/* One new process with that end of a socket pair: its pid. MP_ECLOSED: the zygote is gone, perhaps in the middle. */
static int ask_once (int theirs, pid_t *pid) {
  struct mpi_zygote_request q = {MPI_ZYGOTE_MAGIC, MPI_ZYGOTE_CLONE};
  struct mpi_zygote_reply r;
  int rc = control < 0 ? start_zygote() : 0;
  if (rc != 0) return rc;
  rc = mpi_fd_send(control, &q, sizeof q, &theirs, 1);
  if (rc == 0) rc = answer(&r);
  if (rc != 0) {
    bury_zygote(); /* killed, or stuck */
    return MP_ECLOSED;
  }
  if (r.magic != MPI_ZYGOTE_MAGIC || r.value == 0) return mpi_fail(MP_ECORRUPT, "spawn: the zygote talks nonsense");
  if (r.value < 0) {
    errno = -r.value;
    return mpi_fail_errno("clone");
  }
  *pid = r.value;
  return 0;
}

/* A zygote that died in the middle may have made a process that nobody knows. It waits at the other end of its socket, which nobody else
** has: told to leave it says its number, so that it can be reaped. */
static void dismiss (int sock) {
  struct pollfd p = {sock, POLLIN, 0};
  mpi_record r;
  pid_t pid = 0;
  if (mpi_record_send(sock, MPI_REPORT_LEAVE, NULL, 0, NULL, 0) != 0) return;
  (void)poll(&p, 1, 5000); /* an answer, or the end if there is no such process */
  mpi_record_take(sock, &r);
  if (r.kind == MPI_REPORT_LEAVE && r.size == sizeof pid) memcpy(&pid, r.data, sizeof pid);
  mpi_record_fini(&r);
  if (pid > 0)
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
}

/* Each attempt has a socket pair of its own: two processes must not wait for one task. */
static int ask (int *ours, pid_t *pid) {
  int attempt, rc = MP_ECLOSED;
  for (attempt = 0; attempt < 3 && rc == MP_ECLOSED; attempt++) {
    int sv[2];
    rc = mpi_socketpair(sv);
    if (rc != 0) return rc;
    rc = ask_once(sv[1], pid);
    (void)close(sv[1]);
    if (rc == 0) *ours = sv[0];
    else {
      if (rc == MP_ECLOSED) dismiss(sv[0]);
      (void)close(sv[0]);
    }
  }
  return rc == MP_ECLOSED ? mpi_fail(MP_ESYS, "spawn: the zygote does not answer") : rc;
}

/* Standard descriptors first, then the task's own. */
static int send_task (int sock, const mpi_task *t) {
  int *fds = malloc(sizeof(int) * ((size_t)t->nfds + MPI_TASK_FDS));
  int out = fcntl(1, F_GETFD) >= 0 ? 1 : -1;
  int err = fcntl(2, F_GETFD) >= 0 ? 2 : -1;
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
  int rc = MP_ENOMEM;
  if (fds != NULL && null >= 0) {
    fds[0] = cwd >= 0 ? cwd : null;
    fds[1] = out >= 0 ? out : null;
    fds[2] = err >= 0 ? err : null;
    fds[3] = t->confined || mpi_program_fd() < 0 ? null : mpi_program_fd();
    if (t->nfds > 0) memcpy(fds + MPI_TASK_FDS, t->fds, sizeof(int) * (size_t)t->nfds);
    rc = mpi_record_send(sock, MPI_REPORT_TASK, t->data, t->size, fds, t->nfds + MPI_TASK_FDS);
  } else {
    rc = fds == NULL ? mpi_fail(MP_ENOMEM, "not enough memory") : mpi_fail_errno("open /dev/null");
  }
  mpi_fd_close(&cwd);
  mpi_fd_close(&null);
  free(fds);
  return rc;
}

int mpi_spawn (const mpi_task *t, mpi_child **out) {
  mpi_child *c = NULL;
  int sock = -1, pidfd = -1, rc;
  pid_t pid = 0;
  (void)mpi_proc_init();
  (void)pthread_once(&once, install_fork_hooks);
  if (mpi_exiting) return mpi_fail(MP_EMISUSE, "this process is ending");
  mpi_flush_streams(); /* so that what the two print comes in order */
  (void)pthread_mutex_lock(&lock);
  rc = ask(&sock, &pid);
  (void)pthread_mutex_unlock(&lock);
  if (rc == 0) {
    pidfd = mpi_pidfd_open(pid); /* our own child, not reaped: the number is still its */
    rc = pidfd < 0 ? pidfd : mpi_child_adopt(pid, pidfd, sock, t->daemon, &c);
  }
  if (rc != 0) { /* a process that was made sees the end of its socket, and ends */
    mpi_fd_close(&sock);
    mpi_fd_close(&pidfd);
    if (pid > 0)
      while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    return rc;
  }
  rc = send_task(c->sock, t);
  if (rc != 0) {
    (void)mpi_child_signal(c, SIGKILL);
    (void)mpi_child_wait(c, MP_NEVER);
    mpi_child_release(c);
    return rc;
  }
  *out = c;
  return 0;
}
