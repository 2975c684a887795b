#include "proc/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/pidfd.h"
#include "base/sys.h"
#include "base/warm.h"
#include "proc/spawn.h"
#include "proc/thread.h"

#define DAEMON_GRACE (500 * MPI_NS_PER_MS)    /* from SIGTERM to SIGKILL when the parent ends */
#define INTERRUPT_GRACE (400 * MPI_NS_PER_MS) /* from a terminal's SIGINT to SIGKILL, in a program that ends because of it */
#define INTERRUPT_RECENT (10 * MPI_NS_PER_S)

static MPI_WARM pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static MPI_WARM mpi_child *table;
static MPI_WARM _Atomic (mpi_child *) spare; /* the next one: the last that was given back */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static MPI_WARM int report_sock = -1; /* to the parent; -1 in a main program */
static int reserved = -1;    /* a memfd for one large report */
static int moved;            /* our parent process is a warden; `parent` is still whose child we are */
static MPI_WARM pid_t parent;
static MPI_WARM struct mpi_program *program;
static MPI_WARM int program_fd = -1;
static MPI_WARM _Atomic int numbers;
MPI_WARM volatile int mpi_exiting;

/* ---- once per program ---- */

static void on_program_exit (int status, void *ud);

static void before_fork (void) {
  (void)pthread_mutex_lock(&lock);
}

static void after_fork (void) {
  (void)pthread_mutex_unlock(&lock);
}

static MPI_HOT void renew_lock (void) { /* in the child */
  mpi_mutex_renew(&lock);
}

/* A program that was started with one of them closed would get shared memory under its number, and print into it. Opened the wrong
** way round, so that reading and writing fail as they would have. */
static void occupy_standard_streams (void) {
  int fd;
  for (fd = 0; fd <= 2; fd++)
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd) return;
}

static struct mpi_program no_program; /* where a page cannot be had: the process then knows only of itself */

static void init (void) {
  program = &no_program;
  occupy_standard_streams();
  (void)pthread_atfork(before_fork, after_fork, renew_lock);
  (void)on_exit(on_program_exit, NULL);
}

int mpi_proc_init (void) {
  (void)pthread_once(&once, init);
  return 0;
}

/* The page is made with the first child: before it nobody else could look. */
static pthread_once_t page_once = PTHREAD_ONCE_INIT;

static void map_program (int fd) {
  void *page = mmap(NULL, sizeof(struct mpi_program), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) return;
  program = page;
  program_fd = fd;
}

static void make_page (void) {
  int fd;
  if (program_fd >= 0) return;
  fd = mpi_memfd("mp-program");
  if (fd < 0) return;
  if (ftruncate(fd, sizeof(struct mpi_program)) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) map_program(fd);
  if (program_fd < 0) (void)close(fd);
}

MPI_HOT struct mpi_program *mpi_program (void) {
  if (program_fd >= 0) return program;
  (void)mpi_proc_init();
  (void)pthread_once(&page_once, make_page);
  return program;
}

struct mpi_program *mpi_program_if (void) {
  return program;
}

int mpi_program_fd (void) {
  (void)mpi_program();
  return program_fd;
}

void mpi_program_adopt (int fd) {
  struct stat st;
  int own;
  (void)mpi_proc_init();
  if (program_fd >= 0 || mpi_fstat(fd, &st) != 0 || st.st_size != sizeof(struct mpi_program) || (fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK) == 0) return;
  own = mpi_fd_dup(fd);
  if (own >= 0) map_program(own);
  if (own >= 0 && program_fd < 0) (void)close(own);
}

int mpi_next_number (void) {
  return atomic_fetch_add(&numbers, 1) + 1;
}

pid_t mpi_parent (void) {
  return parent;
}

int mpi_thread_count (void) {
  struct stat st;
  if (__libc_single_threaded) return 1;
  if (stat("/proc/self/task", &st) != 0 || st.st_nlink < 3) return 1;
  return (int)st.st_nlink - 2;
}

int mpi_report_socket (void) {
  return report_sock;
}

void mpi_report_reserve (void) {
  int fd = mpi_memfd("mp-report");
  if (fd >= 0) reserved = fd;
}

void mpi_child_moved (void) {
  moved = 1;
}

/* ---- reports ---- */

#define INLINE_MAX 16384u

struct report_head {
  uint32_t magic;
  int32_t kind;
  uint64_t size;  /* of the bytes */
  uint32_t nfds;  /* without the memfd */
  uint32_t apart; /* 1: the bytes are in a memfd, the first descriptor */
};
#define REPORT_MAGIC 0x5052504du

void mpi_record_fini (mpi_record *r) {
  int i;
  for (i = 0; i < r->nfds; i++) mpi_fd_close(&r->fds[i]);
  free(r->fds);
  free(r->data);
  memset(r, 0, sizeof *r);
}

static int write_all (int fd, const char *data, size_t size) {
  while (size > 0) {
    ssize_t n = write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return mpi_fail_errno("write");
    data += n;
    size -= (size_t)n;
  }
  return 0;
}

int mpi_report_send (int kind, const void *data, size_t size, const int *fds, int nfds) {
  if (report_sock < 0) return mpi_fail(MP_EMISUSE, "this process has no parent to report to");
  return mpi_record_send(report_sock, kind, data, size, fds, nfds);
}

int mpi_record_send (int sock, int kind, const void *data, size_t size, const int *fds, int nfds) {
  struct {
    struct report_head head;
    char bytes[INLINE_MAX];
  } record;
  int all[MPI_MAX_FDS];
  int apart = size > INLINE_MAX;
  int sent, count = 0, rc = 0, memfd = -1;
  memset(&record.head, 0, sizeof record.head);
  record.head.magic = REPORT_MAGIC;
  record.head.kind = kind;
  record.head.size = size;
  record.head.nfds = (uint32_t)nfds;
  record.head.apart = (uint32_t)apart;
  if (apart) {
    memfd = reserved >= 0 ? reserved : mpi_memfd("mp-report");
    reserved = -1;
    if (memfd < 0) return memfd;
    rc = write_all(memfd, data, size);
    all[count++] = memfd;
  } else if (size > 0) {
    memcpy(record.bytes, data, size);
  }
  for (sent = 0; sent < nfds && count < MPI_MAX_FDS; sent++) all[count++] = fds[sent];
  if (rc == 0) rc = mpi_fd_send(sock, &record, sizeof record.head + (apart ? 0 : size), all, count);
  while (rc == 0 && sent < nfds) { /* more descriptors than one record takes */
    int n = nfds - sent < MPI_MAX_FDS ? nfds - sent : MPI_MAX_FDS;
    rc = mpi_fd_send(sock, &record.head, sizeof record.head, fds + sent, n);
    sent += n;
  }
  mpi_fd_close(&memfd);
  return rc;
}

static int read_apart (int fd, unsigned char *data, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t n = pread(fd, data + done, size - done, (off_t)done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return MP_ECORRUPT;
    done += (size_t)n;
  }
  return 0;
}

/* Nothing is believed: a report that is not whole is none. */
void mpi_record_take (int sock, mpi_record *r) {
  struct {
    struct report_head head;
    char bytes[INLINE_MAX];
  } record;
  struct report_head more;
  int fds[MPI_MAX_FDS];
  int nfds = MPI_MAX_FDS, memfd = -1, taken, i;
  size_t got = 0;
  struct stat st;
  memset(r, 0, sizeof *r);
  if (mpi_fd_recv(sock, &record, sizeof record, &got, fds, &nfds, 0) != 0) return;
  taken = 0;
  if (got < sizeof record.head || record.head.magic != REPORT_MAGIC || record.head.nfds > 100000) goto bad;
  if (record.head.apart) {
    if (nfds < 1) goto bad;
    memfd = fds[0];
    taken = 1;
    if (mpi_fstat(memfd, &st) != 0 || !S_ISREG(st.st_mode) || record.head.size > (uint64_t)st.st_size) goto bad;
    if (record.head.size > (uint64_t)st.st_blocks * 512) goto bad; /* what it claims must have cost it as much as it is going to cost us */
  } else if (record.head.size != got - sizeof record.head) {
    goto bad;
  }
  r->data = malloc(record.head.size + 1);
  r->fds = malloc(sizeof(int) * (record.head.nfds + 1));
  if (r->data == NULL || r->fds == NULL) goto bad;
  if (record.head.apart && read_apart(memfd, r->data, record.head.size) != 0) goto bad;
  if (!record.head.apart) memcpy(r->data, record.bytes, record.head.size);
  while (taken < nfds && (uint32_t)r->nfds < record.head.nfds) r->fds[r->nfds++] = fds[taken++];
  while ((uint32_t)r->nfds < record.head.nfds) {
    int n = MPI_MAX_FDS, k;
    int rc;
    while ((rc = mpi_fd_recv(sock, &more, sizeof more, &got, fds, &n, 0)) == MP_EEMPTY) {
      struct pollfd p = {sock, POLLIN, 0};
      n = MPI_MAX_FDS;
      if (poll(&p, 1, 5000) == 0) goto bad_more; /* the sender is at it */
    }
    if (rc != 0) goto bad_more;
    for (k = 0; k < n; k++) {
      if ((uint32_t)r->nfds < record.head.nfds) r->fds[r->nfds++] = fds[k];
      else mpi_fd_close(&fds[k]);
    }
    if (n == 0) goto bad_more;
    nfds = taken = 0;
  }
  r->kind = record.head.kind;
  r->size = record.head.size;
  mpi_fd_close(&memfd);
  while (taken < nfds) mpi_fd_close(&fds[taken++]);
  return;
bad_more:
  nfds = taken = 0;
bad:
  mpi_fd_close(&memfd);
  for (i = taken; i < nfds; i++) mpi_fd_close(&fds[i]);
  mpi_record_fini(r);
}

/* ---- the table ---- */

static void give_back (mpi_child **c) {
  free(atomic_exchange(&spare, *c));
  *c = NULL;
}

static void destroy (mpi_child *c) {
  mpi_fd_close(&c->pidfd);
  mpi_fd_close(&c->sock);
  mpi_record_fini(&c->report);
  give_back(&c);
}

void mpi_child_retain (mpi_child *c) {
  (void)atomic_fetch_add(&c->refs, 1);
}

void mpi_child_release (mpi_child *c) {
  if (c != NULL && atomic_fetch_sub(&c->refs, 1) == 1) destroy(c);
}

int mpi_child_is_ours (const mpi_child *c) {
  return c->owner == getpid();
}

static void unlist (mpi_child *c) { /* the lock is held */
  mpi_child **p;
  if (!c->listed) return;
  for (p = &table; *p != NULL; p = &(*p)->next)
    if (*p == c) {
      *p = c->next;
      break;
    }
  c->listed = 0;
  mpi_child_release(c);
}

/* The usual end tells nothing; then the large frame of mpi_record_take is not touched. An error is no answer: a child that has not read all that it was
** sent resets the connection, which is said once, before what it has sent. */
static int has_record (int sock) {
  char first;
  ssize_t n = recv(sock, &first, sizeof first, MSG_PEEK | MSG_DONTWAIT);
  return n > 0 || (n < 0 && errno != EAGAIN);
}

/* The lock is held, and the caller has a reference. */
static int reap (mpi_child *c) {
  int rc;
  if (c->ended) return 1;
  rc = mpi_pidfd_reap(c->pidfd, &c->exitcode);
  if (rc != 1) return rc;
  if (has_record(c->sock)) mpi_record_take(c->sock, &c->report);
  mpi_fd_close(&c->sock);
  c->ended = 1;
  unlist(c);
  return 1;
}

/* Children that ended and that nobody but the table knows. The lock is held. */
static void reap_dropped (void) {
  mpi_child *c, *next;
  for (c = table; c != NULL; c = next) {
    next = c->next;
    if (atomic_load(&c->refs) != 1) continue;
    mpi_child_retain(c);
    (void)reap(c);
    mpi_child_release(c);
  }
}

static void list (mpi_child *c) { /* the lock is held */
  c->next = table;
  table = c;
  c->listed = 1;
}

static mpi_child *new_child (int daemon) {
  mpi_child *c = atomic_exchange(&spare, NULL);
  if (c == NULL) c = malloc(sizeof *c);
  if (MPI_FAULT_HERE("child.alloc.fail")) give_back(&c);
  if (c == NULL) return NULL;
  memset(c, 0, sizeof *c);
  c->refs = 2; /* the caller's and the table's */
  c->pidfd = c->sock = -1;
  c->owner = getpid();
  c->owner_tid = gettid();
  c->daemon = daemon != 0;
  return c;
}

int mpi_child_adopt (pid_t pid, int pidfd, int sock, int daemon, mpi_child **out) {
  mpi_child *c;
  (void)mpi_proc_init();
  c = new_child(daemon);
  if (c == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  c->pid = pid;
  c->pidfd = pidfd;
  c->sock = sock;
  (void)pthread_mutex_lock(&lock);
  list(c);
  (void)pthread_mutex_unlock(&lock);
  *out = c;
  return 0;
}

/* ---- fork ---- */

/* A child that runs Lua code reads no terminal: its standard input is the null device. */
static MPI_WARM int is_null_input;
static MPI_WARM char null_device[] = "/dev/null";

static MPI_HOT void null_input (void) {
  int fd;
  if (stdin->_IO_buf_base != NULL) __fpurge(stdin); /* else it was never used, and its page stays the parent's */
  if (ferror_unlocked(stdin) || feof_unlocked(stdin)) clearerr(stdin);
  if (is_null_input) return; /* inherited from a parent that is a child itself */
  is_null_input = 1;
  fd = (int)mpi_sys(SYS_openat, AT_FDCWD, (long)null_device, O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return;
  if (fd != 0) {
    (void)mpi_sys(SYS_dup3, fd, 0, 0, 0);
    (void)mpi_sys(SYS_close, fd, 0, 0, 0);
  } else {
    (void)fcntl(0, F_SETFD, 0);
  }
}

/* SIGINT is for whoever runs code here: it holds it back until that can be interrupted. */
static MPI_HOT void default_signals (void) {
  volatile uint64_t action[4] = {0, 0, 0, 0}; /* as the kernel has it: no handler, no flags, no mask. On the stack, whose page is there */
  uint64_t set = (uint64_t)1 << (SIGTERM - 1) | (uint64_t)1 << (SIGPIPE - 1);
  (void)mpi_sys(SYS_rt_sigaction, SIGTERM, (long)action, 0, sizeof set);
  (void)mpi_sys(SYS_rt_sigaction, SIGCHLD, (long)action, 0, sizeof set);
  (void)mpi_sys(SYS_rt_sigprocmask, SIG_UNBLOCK, (long)&set, 0, sizeof set);
}

MPI_HOT void mpi_child_become (pid_t p, int report) {
  parent = p;
  (void)mpi_sys(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
  if (mpi_sys(SYS_getppid, 0, 0, 0, 0) != p) _exit(255); /* it died before we asked to die with it */
  report_sock = report;
  mpi_exiting = 0;
  default_signals();
  null_input();
}

/* What the copy has of its parent's: handles become foreign, descriptors go. Only this thread exists. */
static MPI_HOT void in_child (pid_t p, int report) {
  mpi_child *c, *next;
  for (c = table; c != NULL; c = next) {
    next = c->next;
    mpi_fd_close(&c->pidfd);
    mpi_fd_close(&c->sock);
    c->listed = 0;
    mpi_child_release(c);
  }
  table = NULL;
  atomic_store(&numbers, 0);
  if (report_sock >= 0) mpi_fd_close(&report_sock);
  mpi_spawn_forget();
  mpi_child_become(p, report);
}

/* All streams of the program, as glibc links them; not there in another library, or one day. */
extern FILE *_IO_list_all __attribute__((weak));

static MPI_HOT int is_pending (const FILE *f) {
  return f->_mode > 0 || f->_IO_write_ptr > f->_IO_write_base; /* of wide characters nothing is known here */
}

/* fflush(NULL) takes a lock, and so writes a page of the library, even if there is nothing to flush. */
static MPI_HOT int may_be_pending (void) {
  FILE *f;
  if (!__libc_single_threaded || &_IO_list_all == NULL) return 1;
  for (f = _IO_list_all; f != NULL && !is_pending(f); f = f->_chain) {}
  return f != NULL;
}

/* Unwritten output would be written twice. With other threads, one of them may sit in a read and hold its stream's lock. A broken
** pipe must not kill us here: it is found by whoever writes next. */
MPI_HOT void mpi_flush_streams (void) {
  sigset_t pipe, old, waiting;
  static const struct timespec none;
  if (!is_pending(stdout) && !is_pending(stderr)) { /* the usual case costs no system call */
    if (__libc_single_threaded && may_be_pending()) (void)fflush(NULL);
    return;
  }
  (void)sigemptyset(&pipe);
  (void)sigaddset(&pipe, SIGPIPE);
  (void)sigpending(&waiting);
  (void)pthread_sigmask(SIG_BLOCK, &pipe, &old);
  if (__libc_single_threaded) {
    (void)fflush(NULL);
  } else {
    (void)fflush(stdout);
    (void)fflush(stderr);
  }
  if (!sigismember(&waiting, SIGPIPE)) (void)sigtimedwait(&pipe, NULL, &none);
  (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* Nothing is written where nothing is pending: the page stays the parent's. */
static MPI_HOT void purge (FILE *f) {
  if (is_pending(f)) __fpurge(f);
}

MPI_HOT int mpi_child_fork (int daemon, mpi_child **out) {
  pid_t me = getpid();
  mpi_child *c;
  int sv[2], rc;
  pid_t pid;
  (void)mpi_proc_init();
  if (mpi_exiting) return mpi_fail(MP_EMISUSE, "this process is ending");
  c = new_child(daemon);
  if (c == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  rc = mpi_socketpair(sv);
  if (rc != 0) {
    give_back(&c);
    return rc;
  }
  mpi_flush_streams();
  (void)mpi_program();
  c->sock = sv[0];
  *out = c;
  pid = MPI_FAULT_HERE("child.fork.fail") ? (errno = EAGAIN, -1) : fork();
  if (pid == 0) {
    (void)mpi_sys(SYS_close, sv[0], 0, 0, 0);
    purge(stdout); /* what could not be flushed is the parent's */
    purge(stderr);
    in_child(me, sv[1]);
    return 1;
  }
  (void)close(sv[1]);
  if (pid < 0) {
    rc = mpi_fail_errno("fork");
    goto failed;
  }
  c->pid = pid;
  c->pidfd = rc = mpi_pidfd_open(pid);
  if (rc < 0) {
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    goto failed;
  }
  (void)pthread_mutex_lock(&lock);
  reap_dropped();
  list(c);
  (void)pthread_mutex_unlock(&lock);
  return 0;
failed:
  *out = NULL;
  (void)close(c->sock);
  give_back(&c);
  return rc;
}

/* ---- waiting and signals ---- */

static int check_ours (const mpi_child *c) {
  return mpi_child_is_ours(c) ? 0 : mpi_fail(MP_EMISUSE, "a process that is not a child of this one");
}

int mpi_child_poll (mpi_child *c) {
  int rc = check_ours(c);
  if (rc != 0 || c->ended) return rc != 0 ? rc : 1;
  (void)pthread_mutex_lock(&lock);
  rc = reap(c);
  (void)pthread_mutex_unlock(&lock);
  return rc;
}

int mpi_child_wait (mpi_child *c, int64_t deadline) {
  int rc = check_ours(c);
  while (rc == 0 && !c->ended) { /* most are waited for while they run: so it is not asked first whether it has ended */
    rc = mpi_fd_wait(c->pidfd, POLLIN, deadline);
    if (rc == 0 && (rc = mpi_child_poll(c)) > 0) return 0;
  }
  return rc;
}

int mpi_child_signal (mpi_child *c, int sig) {
  int rc = check_ours(c);
  if (rc != 0) return rc;
  (void)pthread_mutex_lock(&lock);
  rc = c->ended ? 0 : mpi_pidfd_signal(c->pidfd, sig);
  (void)pthread_mutex_unlock(&lock);
  return rc;
}

/* ---- the end ---- */

enum { OTHERS, DAEMONS, SERVERS }; /* as in c->daemon */

static int concerns (const mpi_child *c, pid_t tid, int which) {
  return (tid == 0 || c->owner_tid == tid) && c->daemon == which;
}

/* The next child that the rules are about, with a reference. */
static mpi_child *first_child (pid_t tid, int which) {
  mpi_child *c;
  (void)pthread_mutex_lock(&lock);
  for (c = table; c != NULL; c = c->next)
    if (concerns(c, tid, which)) {
      mpi_child_retain(c);
      break;
    }
  (void)pthread_mutex_unlock(&lock);
  return c;
}

static void signal_all (pid_t tid, int which, int sig) {
  mpi_child *c;
  (void)pthread_mutex_lock(&lock);
  for (c = table; c != NULL; c = c->next)
    if (concerns(c, tid, which)) (void)mpi_pidfd_signal(c->pidfd, sig);
  (void)pthread_mutex_unlock(&lock);
}

/* Until they have ended or the deadline: 0 or MP_ETIMEDOUT. */
static int join_all (pid_t tid, int which, int64_t deadline) {
  mpi_child *c;
  while ((c = first_child(tid, which)) != NULL) {
    int rc = mpi_child_wait(c, deadline);
    if (rc != 0 && rc != MP_EINTR && rc != MP_ETIMEDOUT) { /* cannot be waited for: forget it, it dies with us */
      (void)pthread_mutex_lock(&lock);
      unlist(c);
      (void)pthread_mutex_unlock(&lock);
    }
    mpi_child_release(c); /* NOLINT(clang-analyzer-unix.Malloc): first_child gave us a reference */
    if (rc == MP_ETIMEDOUT || rc == MP_EINTR) return rc;
  }
  return 0;
}

static int exit_was_interrupted (void *ud) {
  (void)ud;
  return mpi_exiting == 2;
}

/* When the others must have ended because the whole program was interrupted; MP_NEVER if it was not. */
void mpi_note_interrupt (void) {
  if (parent == 0 && program != NULL) atomic_store(&program->interrupted_at, mp_now()); /* without children nobody needs to know */
}

int64_t mpi_interrupt_deadline (int status) {
  int64_t at = program != NULL ? atomic_load(&program->interrupted_at) : 0;
  int64_t now = mp_now();
  if (status == 0 || at == 0 || now - at > INTERRUPT_RECENT) return MP_NEVER;
  return at + INTERRUPT_GRACE > now ? at + INTERRUPT_GRACE : now;
}

static void end_all (pid_t tid, int which) {
  signal_all(tid, which, SIGTERM);
  if (join_all(tid, which, mp_now() + DAEMON_GRACE) == 0) return;
  signal_all(tid, which, SIGKILL);
  (void)join_all(tid, which, MP_NEVER);
}

MPI_HOT void mpi_exit_rules (int status, pid_t tid) {
  if (table == NULL) return;
  if (tid == 0) mpi_exiting = 1;
  mp_set_interrupt(exit_was_interrupted, NULL);
  end_all(tid, DAEMONS);
  for (;;) {
    int64_t deadline = mpi_interrupt_deadline(status);
    /* In short steps: that the program was interrupted is known as soon as one of the processes has seen it. */
    int64_t step = status == 0 ? MP_NEVER : mp_now() + 100 * MPI_NS_PER_MS;
    int rc = join_all(tid, OTHERS, deadline < step ? deadline : step);
    if (rc == 0) break;
    if (rc == MP_EINTR || (rc == MP_ETIMEDOUT && deadline <= mp_now())) {
      mp_set_interrupt(NULL, NULL);
      signal_all(tid, OTHERS, SIGKILL);
      (void)join_all(tid, OTHERS, MP_NEVER);
      break;
    }
  }
  end_all(tid, SERVERS);
  mp_set_interrupt(NULL, NULL);
}

static void ignore_sigpipe (void) {
  struct sigaction sa;
  memset(&sa, 0, sizeof sa);
  sa.sa_handler = SIG_IGN;
  (void)sigaction(SIGPIPE, &sa, NULL);
}

MPI_HOT void mpi_child_exit (int code) {
  if (parent == 0) exit(code); /* a main program that was never started by us */
  mpi_threads_exit(code);
  mpi_exit_rules(code, 0);
  if (may_be_pending()) {
    ignore_sigpipe();
    (void)fflush(NULL);
  }
  (void)mpi_sys(SYS_exit_group, code & 0xff, 0, 0, 0);
  _exit(code & 0xff);
}

/* Whatever way the program ends on its own. In a child of ours the parent's exit handlers, which are copies, are not run: they
** come after this one. A process that somebody else forked has none of our children. */
static void on_program_exit (int status, void *ud) {
  (void)ud;
  if (mpi_exiting) return;
  if (table != NULL && table->owner != getpid()) return;
  if (parent != 0 && (moved || getppid() == parent) && report_sock >= 0) mpi_child_exit(status);
  mpi_threads_exit(status);
  mpi_exit_rules(status, 0);
}
