/* The event loop of a supervisor. It is the only writer of the report and trusts nothing that comes from the child. */
#include "sandbox/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "sandbox/refusal.h"

#define MAX_CHILDREN 64
#define CHUNK 4096 /* PIPE_BUF: a pipe that polls writable takes this much without blocking */

struct stream { /* standard output or error on its way */
  int from;     /* our end of the child's pipe; -1: at its end */
  int to;
  size_t have;
  char buf[CHUNK];
};

struct warden {
  const struct mpi_jail *jail;
  struct mpi_jail_report *report;
  pid_t pid;
  int pidfd;
  int control;  /* until the child is confined */
  int listener;
  int memory;
  int signals;
  clockid_t cpu;
  int64_t wall; /* deadline */
  int64_t output_left;
  uint64_t refusals;
  int ended;    /* pidfd said so */
  struct stream out[2];
  pid_t before[MAX_CHILDREN]; /* children that have nothing to do with this */
  int nbefore;
};

static char *where_page; /* shared by the child and its warden, nobody else */

char *mpi_warden_where (void) {
  return where_page;
}

/* ---- records ---- */

static void finish (struct warden *w, enum mpi_jail_end why) {
  uint32_t none = MPI_END_NONE;
  (void)mpi_cas(&w->report->end, &none, (uint32_t)why); /* the first reason stands */
  if (w->pidfd >= 0) (void)syscall(SYS_pidfd_send_signal, w->pidfd, SIGKILL, NULL, 0);
}

static void copy_where (char *to, size_t size) {
  size_t i;
  for (i = 0; i < size - 1; i++) { /* byte by byte: the child may write it meanwhile */
    char c = ((volatile char *)where_page)[i];
    if (c == '\0') break;
    to[i] = (unsigned char)c < 0x20 || c == 0x7f ? '?' : c;
  }
  to[i] = '\0';
}

static struct mpi_violation *enter_record (struct mpi_jail_report *r, const struct mpi_violation *v) {
  uint32_t i, n = mpi_load_relaxed(&r->n);
  for (i = 0; i < n; i++) {
    struct mpi_violation *old = &r->v[i];
    if (strcmp(old->call, v->call) == 0 && strcmp(old->target, v->target) == 0 && strcmp(old->where, v->where) == 0) {
      (void)mpi_fetch_add(&old->count, 1);
      return old;
    }
  }
  if (n >= MPI_REPORT_RECORDS) {
    (void)mpi_fetch_add(&r->more, 1);
    return NULL;
  }
  memcpy(&r->v[n], v, sizeof *v);
  mpi_store_relaxed(&r->v[n].count, 1);
  mpi_store_release(&r->n, n + 1); /* the record is whole before it counts */
  return &r->v[n];
}

static void record (struct warden *w, struct mpi_violation *v, int fatal) {
  struct mpi_violation *e;
  copy_where(v->where, sizeof v->where);
  e = enter_record(w->report, v);
  if (e != NULL && fatal) e->fatal = 1;
  if (fatal || ++w->refusals >= MPI_REFUSALS_MAX) finish(w, MPI_END_VIOLATION);
}

/* ---- notifications ---- */

/* listen() without bind() would open a port that nobody granted, so we do it ourselves, on the socket that we looked at. */
static int listen_for (struct warden *w, pid_t pid, const uint64_t *args, int *error) {
  union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
  } a;
  socklen_t size = sizeof a;
  const struct mpi_ports *ports = &w->jail->policy.bind;
  int caller = (int)syscall(SYS_pidfd_open, pid, 0); /* a thread has none of its own, and the process's descriptors */
  int fd = (int)syscall(SYS_pidfd_getfd, caller >= 0 ? caller : w->pidfd, (int)args[0], 0);
  int port = 0, ok = 0;
  uint32_t i;
  mpi_fd_close(&caller);
  *error = EPERM;
  if (fd < 0) return 0;
  memset(&a, 0, sizeof a);
  if (getsockname(fd, &a.any, &size) == 0) port = ntohs(a.any.sa_family == AF_INET ? a.in.sin_port : a.in6.sin6_port);
  for (i = 0; i < ports->n; i++) ok |= port != 0 && (ports->port[i] == port || ports->port[i] == 0);
  if (ok) *error = listen(fd, (int)args[1]) == 0 ? 0 : errno;
  (void)close(fd);
  return ok;
}

/* Is it one of the processes in here? Who is not must not be reached by a pidfd. */
static int is_ours (const struct warden *w, pid_t pid) {
  int steps;
  for (steps = 0; steps < 64 && pid > 1; steps++) {
    char name[64], text[512];
    char *s;
    int fd;
    ssize_t k;
    if (pid == w->pid) return 1;
    (void)snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
    fd = open(name, O_RDONLY | O_CLOEXEC);
    k = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    mpi_fd_close(&fd);
    if (k <= 0) return 0;
    text[k] = '\0';
    s = strrchr(text, ')'); /* ") S PPID" */
    pid = s != NULL && s[1] != '\0' && s[2] != '\0' ? atoi(s + 3) : 0;
  }
  return 0;
}

struct answer {
  int error; /* 0 with `go_on` clear: the call succeeded, with 0 */
  int go_on;
};

/* What some grant allows is a need, if it has a name; what none allows is told as such. */
static int learn (struct warden *w, const struct mpi_refused *c) {
  enum mpi_call_verdict v = mpi_calls_judge(MPI_F_ALL, mpi_filter_arch(), c->nr, c->args, (uint32_t)c->pid, NULL);
  struct mpi_violation r;
  if (v == MPI_CALL_NOSYS) return 0; /* as inside: the C library then uses the call that says more */
  if (v == MPI_CALL_SILENT || mpi_refusal_harmless(c)) return 1;
  memset(&r, 0, sizeof r);
  mpi_refusal_describe(c, &r);
  if ((r.need[0] == '\0' && (v == MPI_CALL_ALLOW || v == MPI_CALL_WATCH)) || strcmp(r.target, "/dev/null") == 0) return 1;
  record(w, &r, 0);
  return 1;
}

static void judge (struct warden *w, const struct seccomp_notif *n, struct answer *a) {
  struct mpi_refused c = {w->jail, n->data.nr, (const uint64_t *)n->data.args, (pid_t)n->pid, w->pid, n->pid == (uint32_t)w->pid ? w->memory : -1};
  struct mpi_violation v;
  enum mpi_call_verdict verdict = mpi_calls_judge(w->jail->features, n->data.arch, n->data.nr, c.args, (uint32_t)w->pid, NULL);
  int kill_it = verdict == MPI_CALL_KILL || w->jail->policy.on_violation == MPI_KILL;
  memset(&v, 0, sizeof v);
  a->go_on = 0;
  a->error = EPERM;
  if (w->jail->learn) {
    a->go_on = learn(w, &c);
    a->error = ENOSYS;
    return;
  }
  switch (verdict) {
    case MPI_CALL_SILENT: return;
    case MPI_CALL_NOSYS: a->error = ENOSYS; return;
    case MPI_CALL_WATCH:
      if (n->data.nr == SYS_listen) {
        if (listen_for(w, c.pid, c.args, &a->error)) return;
      } else if (n->data.nr == SYS_pidfd_open) {
        a->go_on = is_ours(w, (pid_t)c.args[0]);
        a->error = ENOSYS;
        return;
      } else if (mpi_refusal_covered(&c)) {
        a->go_on = 1;
        return;
      }
      break; /* Landlock would say EACCES; EPERM is what every other refusal gives */
    default: break;
  }
  if (verdict != MPI_CALL_KILL && mpi_refusal_harmless(&c)) return;
  mpi_refusal_describe(&c, &v);
  /* The thread may be gone and its memory another's: then nothing of this is true. */
  if (ioctl(w->listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &n->id) != 0) return;
  record(w, &v, kill_it);
}

static void one_notification (struct warden *w) {
  struct seccomp_notif n;
  struct seccomp_notif_resp r;
  struct answer a;
  memset(&n, 0, sizeof n);
  if (ioctl(w->listener, SECCOMP_IOCTL_NOTIF_RECV, &n) != 0) {
    if (errno != EINTR && errno != ENOENT && errno != EAGAIN) mpi_fd_close(&w->listener);
    return;
  }
  judge(w, &n, &a);
  memset(&r, 0, sizeof r);
  r.id = n.id;
  r.error = -a.error;
  if (a.go_on) {
    r.error = 0;
    r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  }
  (void)ioctl(w->listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

/* ---- the child's beginning ---- */

static void control_record (struct warden *w) {
  char text[256];
  size_t got;
  int fds[2] = {-1, -1}, nfds = 2;
  int rc = mpi_fd_recv(w->control, text, sizeof text - 1, &got, fds, &nfds, 0);
  if (rc == MP_EEMPTY) return;
  if (rc == 0 && got > 0 && ((text[0] == 'L' && nfds == 2) || (text[0] == 'N' && nfds == 0))) {
    w->listener = fds[0];
    w->memory = fds[1];
    mpi_store_release(&w->report->pid, (uint32_t)w->pid);
    if (w->jail->policy.wall >= 0) w->wall = mp_now() + w->jail->policy.wall;
    (void)mpi_fd_send(w->control, "G", 1, NULL, 0);
  } else if (rc == 0 && got > 0 && text[0] == 'E') {
    text[got] = '\0';
    (void)snprintf(w->report->message, sizeof w->report->message, "%s", text + 1);
    mpi_store_release(&w->report->end, MPI_END_FAILED); /* it ends itself */
  }
  mpi_fd_close(&w->control);
}

/* ---- output ---- */

static void pull (struct warden *w, struct stream *s) {
  ssize_t k = read(s->from, s->buf, sizeof s->buf);
  if (k < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (k <= 0) {
    mpi_fd_close(&s->from);
    return;
  }
  s->have = (size_t)k;
  if (w->output_left >= 0 && (int64_t)s->have > w->output_left) {
    struct mpi_violation v;
    (void)mpi_fetch_add(&w->report->dropped, s->have - (size_t)w->output_left);
    s->have = (size_t)w->output_left;
    memset(&v, 0, sizeof v);
    (void)snprintf(v.call, sizeof v.call, "write");
    (void)snprintf(v.target, sizeof v.target, "standard %s", s->to == 2 ? "error" : "output");
    (void)snprintf(v.need, sizeof v.need, "limits.output");
    (void)snprintf(v.fix, sizeof v.fix, "limits = { output = BYTES }, more than %lld", (long long)w->jail->policy.output);
    record(w, &v, 0);
  }
  if (w->output_left >= 0) w->output_left -= (int64_t)s->have;
}

static void push (struct stream *s) {
  ssize_t k = write(s->to, s->buf, s->have);
  if (k < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (k <= 0) k = (ssize_t)s->have; /* nobody reads any more: let the child not notice */
  s->have -= (size_t)k;
  memmove(s->buf, s->buf + k, s->have);
}

/* ---- the loop ---- */

static int64_t cpu_used (const struct warden *w) {
  struct timespec ts;
  if (clock_gettime(w->cpu, &ts) != 0) return 0;
  return ts.tv_sec * MPI_NS_PER_S + ts.tv_nsec;
}

/* Ends what is over its limits; how long until somebody could be, in ms, or -1. */
static int limits (struct warden *w) {
  int64_t least = MP_NEVER;
  if (w->ended) return -1;
  if (w->wall != MP_NEVER) {
    least = w->wall - mp_now();
    if (least <= 0 && w->wall > 0) finish(w, MPI_END_WALL);
  }
  if (w->jail->policy.cpu >= 0) {
    int64_t left = w->jail->policy.cpu - cpu_used(w);
    if (left <= 0) finish(w, MPI_END_CPU);
    left /= 1 + (w->jail->policy.threads > 0 ? w->jail->policy.threads : 0);
    if (left < least) least = left;
  }
  if (least == MP_NEVER) return -1;
  return least <= 0 ? 10 : (int)(least / MPI_NS_PER_MS > 60000 ? 60000 : least / MPI_NS_PER_MS + 1);
}

static void pass_on_signal (struct warden *w) {
  struct signalfd_siginfo si;
  if (read(w->signals, &si, sizeof si) != (ssize_t)sizeof si) return;
  if ((int)si.ssi_signo == MPI_WARDEN_END) {
    w->wall = 0; /* and what it has printed is not waited for */
    (void)syscall(SYS_pidfd_send_signal, w->pidfd, SIGKILL, NULL, 0);
    return;
  }
  (void)syscall(SYS_pidfd_send_signal, w->pidfd, (int)si.ssi_signo, NULL, 0);
}

enum { AT_PID, AT_SIGNALS, AT_CONTROL, AT_LISTENER, AT_OUT, AT_COUNT = AT_OUT + 2 };

static int turn (struct warden *w) { /* 0: nothing left to do */
  struct pollfd p[AT_COUNT];
  int i, timeout = limits(w);
  for (i = 0; i < AT_COUNT; i++) p[i] = (struct pollfd){-1, POLLIN, 0};
  if (!w->ended) {
    p[AT_PID].fd = w->pidfd;
    p[AT_SIGNALS].fd = w->signals;
    p[AT_CONTROL].fd = w->control;
    p[AT_LISTENER].fd = w->listener;
  }
  for (i = 0; i < 2; i++) {
    struct stream *s = &w->out[i];
    p[AT_OUT + i].fd = s->have > 0 ? s->to : s->from;
    if (s->have > 0) p[AT_OUT + i].events = POLLOUT;
  }
  if (w->ended) { /* only what is in the pipes: their end may never come, for the child may have sent a descriptor of them to somebody */
    int pushing = w->out[0].have + w->out[1].have > 0;
    if (p[AT_OUT].fd < 0 && p[AT_OUT + 1].fd < 0) return 0;
    timeout = pushing && w->wall == MP_NEVER ? 60000 : 0; /* no longer than the wall's time */
  }
  i = poll(p, AT_COUNT, timeout);
  if (i < 0) return errno == EINTR;
  if (i == 0 && w->ended) return 0;
  if (p[AT_SIGNALS].revents != 0) pass_on_signal(w);
  if (p[AT_CONTROL].revents != 0) control_record(w);
  if (p[AT_LISTENER].revents & POLLIN) one_notification(w);
  else if (p[AT_LISTENER].revents != 0) mpi_fd_close(&w->listener);
  for (i = 0; i < 2; i++) {
    if (p[AT_OUT + i].revents == 0) continue;
    if (w->out[i].have > 0) push(&w->out[i]);
    else pull(w, &w->out[i]);
  }
  if (p[AT_PID].revents != 0) w->ended = 1;
  return 1;
}

/* Our children, at most MAX_CHILDREN of them at a time. */
static int children (pid_t *list) {
  char name[64];
  FILE *f;
  int n = 0, pid;
  (void)snprintf(name, sizeof name, "/proc/self/task/%d/children", (int)getpid());
  f = fopen(name, "re");
  if (f == NULL) return 0;
  while (n < MAX_CHILDREN && fscanf(f, "%d", &pid) == 1) list[n++] = pid;
  (void)fclose(f);
  return n;
}

static int had_before (const struct warden *w, pid_t pid) {
  int k;
  for (k = 0; k < w->nbefore; k++)
    if (w->before[k] == pid) return 1;
  return 0;
}

/* What the child has started and left behind is ours now (we are a subreaper); what we had before is not. All are killed before the first is
** waited for: they may be starting others all the while, and whose parent dies comes to us at once. */
static void end_the_rest (const struct warden *w) {
  pid_t list[MAX_CHILDREN];
  struct pollfd nobody = {-1, 0, 0};
  int left, i, n, turns = 0;
  do {
    left = 0;
    n = children(list);
    for (i = 0; i < n; i++)
      if (!had_before(w, list[i])) (void)kill(list[i], SIGKILL), left++;
    for (i = 0; i < n; i++)
      if (!had_before(w, list[i])) (void)waitpid(list[i], NULL, WNOHANG);
    if (left > 0) (void)poll(&nobody, 1, turns++ < 200 ? 0 : 1);
  } while (left > 0);
}

static void note_the_end (struct warden *w, int status) {
  struct mpi_violation v;
  if (!WIFSIGNALED(status)) return;
  if (WTERMSIG(status) == SIGXCPU) finish(w, MPI_END_CPU);
  if (WTERMSIG(status) != SIGSYS) return;
  memset(&v, 0, sizeof v);
  (void)snprintf(v.call, sizeof v.call, "foreign system call");
  (void)snprintf(v.target, sizeof v.target, "another machine's, or x32");
  (void)snprintf(v.fix, sizeof v.fix, "no grant allows this");
  record(w, &v, 1);
}

static int supervise (struct warden *w) {
  int status = 0, i;
  while (turn(w)) {
    if (w->ended && w->pid > 0) { /* once: nobody else may hold the pipes open now */
      while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR) continue;
      w->pid = 0;
      mpi_fd_close(&w->pidfd);
      note_the_end(w, status);
      end_the_rest(w);
    }
  }
  mpi_fd_close(&w->pidfd);
  mpi_fd_close(&w->control);
  mpi_fd_close(&w->listener);
  mpi_fd_close(&w->memory);
  mpi_fd_close(&w->signals);
  for (i = 0; i < 2; i++) mpi_fd_close(&w->out[i].from);
  return status;
}

/* ---- beginning ---- */

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

static void passed_on_set (sigset_t *set) {
  size_t i;
  sigemptyset(set);
  for (i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++) sigaddset(set, passed_on[i]);
  sigaddset(set, MPI_WARDEN_END);
}

struct ends { /* of what parent and child share */
  int control[2];
  int out[2];
  int err[2];
};

static void ends_close (struct ends *e) {
  mpi_fd_close(&e->control[0]);
  mpi_fd_close(&e->control[1]);
  mpi_fd_close(&e->out[0]);
  mpi_fd_close(&e->out[1]);
  mpi_fd_close(&e->err[0]);
  mpi_fd_close(&e->err[1]);
}

static int ends_open (struct ends *e, int learn) {
  int rc = mpi_socketpair(e->control);
  if (rc != 0 || learn) return rc; /* who learns keeps its own output */
  if (pipe2(e->out, O_CLOEXEC) != 0 || pipe2(e->err, O_CLOEXEC) != 0) return mpi_fail_errno("pipe2");
  return 0;
}

/* Pipes instead of the owner's terminal or file: those are shared with others, who would see their flags and position change. */
static int take_output (struct ends *e) {
  int terminal = isatty(1);
  if (e->out[1] < 0) return 0;
  if (dup2(e->out[1], 1) < 0 || dup2(e->err[1], 2) < 0) return mpi_fail_errno("dup2");
  if (terminal) (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
  return 0;
}

static int child_side (const struct mpi_jail *j, struct ends *e, const int *keep, int n, const sigset_t *mask) {
  int control = fcntl(e->control[1], F_DUPFD_CLOEXEC, 900); /* out of the way of the numbers that are limited */
  int rc, flags;
  if (control < 0) {
    control = e->control[1];
    e->control[1] = -1;
  }
  rc = take_output(e);
  ends_close(e);
  /* The answer to the hand-over is waited for. */
  flags = fcntl(control, F_GETFL);
  if (flags < 0 || fcntl(control, F_SETFL, flags & ~O_NONBLOCK) != 0) rc = mpi_fail_errno("fcntl");
  if (rc == 0) rc = mpi_jail_confine(j, keep, n, control);
  if (rc != 0) {
    char text[256];
    int k = snprintf(text, sizeof text, "E%s", mp_errmsg());
    (void)mpi_fd_send(control, text, k < (int)sizeof text ? (size_t)k : sizeof text - 1, NULL, 0);
    _exit(1);
  }
  (void)close(control);
  (void)sigprocmask(SIG_SETMASK, mask, NULL);
  return 0;
}

static int start (struct warden *w, const struct mpi_jail *j, struct mpi_jail_report *r, const int *keep, int n, int *in_child, sigset_t *mask) {
  struct ends e = {{-1, -1}, {-1, -1}, {-1, -1}};
  sigset_t set;
  int rc;
  memset(w, 0, sizeof *w);
  w->jail = j;
  w->report = r;
  w->pidfd = w->control = w->listener = w->memory = w->signals = w->out[0].from = w->out[1].from = -1;
  w->wall = MP_NEVER;
  w->output_left = j->policy.output;
  if (j->form == MPI_FILTER_DENY || j->form == MPI_FILTER_KILL) return mpi_fail(MP_EMISUSE, "a supervised sandbox needs a filter with a listener");
  where_page = mmap(NULL, MPI_WHERE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (where_page == MAP_FAILED) {
    where_page = NULL;
    return mpi_fail_errno("mmap");
  }
  passed_on_set(&set);
  (void)sigprocmask(SIG_BLOCK, &set, mask);
  if ((rc = ends_open(&e, j->learn != 0)) != 0) goto fail;
  (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  w->nbefore = children(w->before);
  (void)fflush(NULL);
  w->pid = fork();
  if (w->pid < 0) {
    rc = mpi_fail_errno("fork");
    goto fail;
  }
  *in_child = w->pid == 0;
  if (*in_child) return child_side(j, &e, keep, n, mask);
  w->pidfd = (int)syscall(SYS_pidfd_open, w->pid, 0);
  w->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  w->control = e.control[0];
  w->out[0].from = e.out[0];
  w->out[1].from = e.err[0];
  w->out[0].to = 1;
  w->out[1].to = 2;
  e.control[0] = e.out[0] = e.err[0] = -1;
  ends_close(&e);
  if (w->pidfd < 0 || w->signals < 0 || clock_getcpuclockid(w->pid, &w->cpu) != 0) {
    (void)kill(w->pid, SIGKILL);
    (void)waitpid(w->pid, NULL, 0);
    return mpi_fail_errno("watching a sandboxed process");
  }
  return 0;
fail:
  ends_close(&e);
  (void)sigprocmask(SIG_SETMASK, mask, NULL);
  (void)munmap(where_page, MPI_WHERE_SIZE);
  where_page = NULL;
  return rc;
}

int mpi_warden_split (const struct mpi_jail *j, struct mpi_jail_report *r, const int *keep, int n, int *in_child, int *status) {
  struct warden *w = malloc(sizeof *w);
  sigset_t mask;
  int rc;
  if (w == NULL) return mpi_fail(MP_ENOMEM, "not enough memory for a sandbox");
  rc = start(w, j, r, keep, n, in_child, &mask);
  if (rc == 0 && !*in_child) {
    *status = supervise(w);
    (void)sigprocmask(SIG_SETMASK, &mask, NULL);
  }
  free(w);
  return rc;
}

static int compare (const void *a, const void *b) {
  return *(const int *)a - *(const int *)b;
}

/* The warden must not hold what the child was granted: the other end of a pipe would never see its end. */
static void let_go (const struct warden *w) {
  int mine[8], i, n = 0, from = 3;
  mine[n++] = w->pidfd;
  mine[n++] = w->control;
  mine[n++] = w->signals;
  mine[n++] = w->out[0].from;
  mine[n++] = w->out[1].from;
  qsort(mine, (size_t)n, sizeof mine[0], compare);
  for (i = 0; i < n; i++) {
    if (mine[i] < from) continue;
    if (mine[i] > from) (void)syscall(SYS_close_range, (unsigned)from, (unsigned)mine[i] - 1, 0);
    from = mine[i] + 1;
  }
  (void)syscall(SYS_close_range, (unsigned)from, ~0u, 0);
}

static _Noreturn void end_like (int status) {
  sigset_t set;
  if (!WIFSIGNALED(status)) _exit(WEXITSTATUS(status));
  (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* the child has left no core, nor do we */
  (void)signal(WTERMSIG(status), SIG_DFL);
  sigemptyset(&set);
  sigaddset(&set, WTERMSIG(status));
  (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
  (void)kill(getpid(), WTERMSIG(status));
  _exit(128 + WTERMSIG(status));
}

int mpi_warden_enter (const struct mpi_jail *j, int report_fd, const int *keep, int n) {
  static struct warden w;
  struct mpi_jail_report *r;
  sigset_t mask;
  int in_child = 0;
  int rc = mpi_jail_report_map(report_fd, &r);
  if (rc != 0) return rc;
  rc = start(&w, j, r, keep, n, &in_child, &mask);
  if (rc != 0 || in_child) {
    mpi_jail_report_unmap(r);
    return rc;
  }
  let_go(&w);
  /* Killed outright we could not take along what the child has started. */
  (void)prctl(PR_SET_PDEATHSIG, MPI_WARDEN_END, 0, 0, 0);
  end_like(supervise(&w));
}
