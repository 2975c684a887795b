/* A connection's way: STRANGER (until the key is proved or time is up) -> CLIENT (told to the caller by next) -> dropped (told, too).
** Outside: tcp, through TLS. Inside: the near end of the pair. Each direction has one buffer, and is read only when that is empty: who does not
** take what he gets is not heard. */
#include "net/gate.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "net/link.h"
#include "net/tls.h"
#include "wire/wire.h"

#define PIECE (16u << 10)
#define ROOM (PIECE + 1024u) /* a record encrypted */

enum { STRANGER, CLIENT };

struct stream {
  unsigned char data[ROOM];
  size_t start, end;
};

struct conn {
  struct conn *next;
  int64_t id;
  int64_t until; /* STRANGER: when patience ends */
  int state, told;
  int tcp, inner; /* -1: none */
  pid_t deputy;
  struct mpi_tls *tls;
  struct stream in;  /* to the deputy */
  struct stream out; /* to the client */
  unsigned char head[8]; /* of the frame that is coming in */
  size_t nhead;
  uint32_t left; /* bytes of it to come */
  uint32_t want_tcp, want_inner; /* as epoll knows it */
};

struct mpi_gate {
  struct mpi_address address;
  struct mpi_tls_context *context;
  int epoll, listener, alive;
  int64_t last_id;
  struct conn *conns;
  int strangers, clients;
};

/* What an epoll entry is about: a connection's two sockets are told apart by the lowest bit. */
static char listener_tag, alive_tag;
#define INNER(c) ((void *)((char *)(c) + 1))

static void set_epoll (struct mpi_gate *g, int op, int fd, uint32_t events, void *tag) {
  struct epoll_event ev = {0};
  ev.events = events;
  ev.data.ptr = tag;
  (void)epoll_ctl(g->epoll, op, fd, &ev);
}

/* ---- the life of a connection ---- */

static void free_conn (struct mpi_gate *g, struct conn *c) {
  struct conn **at = &g->conns;
  while (*at != c) at = &(*at)->next;
  *at = c->next;
  if (c->state == STRANGER) g->strangers--;
  else g->clients--;
  mpi_fd_close(&c->tcp);
  mpi_fd_close(&c->inner);
  mpi_tls_free(c->tls);
  free(c);
}

static void accept_one (struct mpi_gate *g, int fd) {
  struct conn *c, *oldest = NULL, *k;
  if (g->strangers >= MPI_GATE_STRANGERS) {
    for (k = g->conns; k != NULL; k = k->next) /* the list begins with the youngest */
      if (k->state == STRANGER) oldest = k;
    if (oldest != NULL) free_conn(g, oldest);
  }
  c = calloc(1, sizeof *c);
  if (c == NULL || mpi_tls_new(g->context, &c->tls) != 0) {
    free(c);
    mpi_fd_close(&fd);
    return;
  }
  mpi_address_tune(fd);
  c->tcp = fd;
  c->inner = -1;
  c->id = ++g->last_id;
  c->until = mp_now() + MPI_GATE_PATIENCE * INT64_C(1000000);
  c->next = g->conns;
  g->conns = c;
  g->strangers++;
  c->want_tcp = EPOLLIN;
  set_epoll(g, EPOLL_CTL_ADD, fd, EPOLLIN, c);
}

static void accept_all (struct mpi_gate *g) {
  int i;
  for (i = 0; i < 64; i++) { /* then others have their turn */
    int fd = accept4(g->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && errno == EMFILE && mpi_fd_raise_limit()) continue;
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) (void)mp_sleep(mp_now() + 10000000); /* until somebody leaves */
    if (fd < 0) return;
    accept_one(g, fd);
  }
}

/* The key is proved. */
static int let_in (struct mpi_gate *g, struct conn *c, int *far) {
  int sv[2];
  if (g->clients >= MPI_GATE_CLIENTS) return mpi_fail(MP_EFULL, "too many clients");
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) != 0) return mpi_fail_errno("socketpair");
  c->inner = sv[0];
  *far = sv[1];
  c->state = CLIENT;
  g->strangers--;
  g->clients++;
  c->want_inner = EPOLLIN;
  set_epoll(g, EPOLL_CTL_ADD, c->inner, EPOLLIN, INNER(c));
  return 0;
}

/* ---- the two directions; negative: the connection is to be dropped ---- */

static int push (int fd, struct stream *s) {
  while (s->start < s->end) {
    ssize_t n = send(fd, s->data + s->start, s->end - s->start, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN ? 0 : errno == EINTR ? 0 : MP_EEOF;
    s->start += (size_t)n;
  }
  s->start = s->end = 0;
  return 0;
}

static int pull (int fd, unsigned char *room, size_t size, size_t *got) {
  ssize_t n = recv(fd, room, size, MSG_DONTWAIT);
  *got = n > 0 ? (size_t)n : 0;
  if (n == 0) return MP_EEOF;
  return n < 0 && errno != EAGAIN && errno != EINTR ? MP_EEOF : 0;
}

/* What a client sent, in plain: whole frames go in, requests to forget become signals. */
static int take_in (struct conn *c, const unsigned char *p, size_t n) {
  while (n > 0) {
    size_t k = c->left < n ? c->left : n;
    if (k > 0) {
      memcpy(c->in.data + c->in.end, p, k);
      c->in.end += k;
      c->left -= (uint32_t)k;
      p += k;
      n -= k;
      continue;
    }
    c->head[c->nhead++] = *p++;
    n--;
    if (c->nhead == 4 && mpi_get32(c->head) != MPI_FRAME_FORGET) {
      c->left = mpi_get32(c->head);
      if (c->left > MPI_FRAME_MOST) return MP_ECORRUPT;
      memcpy(c->in.data + c->in.end, c->head, 4); /* not more than came: the head was counted when it came */
      c->in.end += 4;
      c->nhead = 0;
    } else if (c->nhead == 8) {
      union sigval v = {(int)mpi_get32(c->head + 4)};
      if (c->deputy > 0) (void)sigqueue(c->deputy, MPI_GATE_SIGNAL, v);
      c->nhead = 0;
    }
  }
  return 0;
}

static int collect (struct conn *c) { /* what TLS wants to send */
  int rc = push(c->tcp, &c->out);
  while (rc == 0 && c->out.end == 0) {
    c->out.end = mpi_tls_take(c->tls, c->out.data, sizeof c->out.data);
    if (c->out.end == 0) break;
    rc = push(c->tcp, &c->out);
  }
  return rc;
}

static int inwards (struct conn *c) {
  unsigned char raw[PIECE];
  int rc = push(c->inner, &c->in);
  while (rc == 0 && c->in.end == 0) {
    size_t n = 0;
    rc = mpi_tls_read(c->tls, raw, PIECE - 16, &n);
    if (rc == 0 && n == 0) {
      rc = pull(c->tcp, raw, sizeof raw, &n);
      if (rc != 0 || n == 0) return rc;
      rc = mpi_tls_feed(c->tls, raw, n);
      continue;
    }
    if (rc == 0) rc = take_in(c, raw, n);
    if (rc == 0) rc = push(c->inner, &c->in);
  }
  return rc;
}

static int shake (struct mpi_gate *g, struct conn *c, int *far) {
  unsigned char raw[4096];
  size_t n;
  int rc = pull(c->tcp, raw, sizeof raw, &n);
  if (rc == 0 && n > 0) rc = mpi_tls_feed(c->tls, raw, n);
  if (rc != 0) return rc;
  rc = mpi_tls_handshake(c->tls);
  (void)collect(c); /* an alert, too */
  if (rc != 1) return rc;
  rc = let_in(g, c, far);
  return rc == 0 ? inwards(c) : rc; /* what came with the last of the handshake */
}

static int outwards (struct conn *c) {
  unsigned char raw[PIECE];
  int rc = collect(c);
  while (rc == 0 && c->out.end == 0) {
    size_t n;
    rc = pull(c->inner, raw, sizeof raw, &n);
    if (rc != 0 || n == 0) return rc;
    rc = mpi_tls_write(c->tls, raw, n);
    if (rc == 0) rc = collect(c);
  }
  return rc;
}

static void listen_for (struct mpi_gate *g, struct conn *c) {
  uint32_t tcp = (c->state == STRANGER || c->in.end == 0 ? (uint32_t)EPOLLIN : 0u) | (c->out.end > 0 ? (uint32_t)EPOLLOUT : 0u);
  uint32_t inner = (c->out.end == 0 ? (uint32_t)EPOLLIN : 0u) | (c->in.end > 0 ? (uint32_t)EPOLLOUT : 0u);
  if (tcp != c->want_tcp) set_epoll(g, EPOLL_CTL_MOD, c->tcp, tcp, c);
  c->want_tcp = tcp;
  if (c->inner < 0) return;
  if (inner != c->want_inner) set_epoll(g, EPOLL_CTL_MOD, c->inner, inner, INNER(c));
  c->want_inner = inner;
}

/* ---- the loop ---- */

/* 1: something to tell. */
static int tend (struct mpi_gate *g, struct conn *c, int inner, uint32_t events, struct mpi_gate_event *out) {
  int rc, far = -1;
  if (c->state == STRANGER) {
    rc = shake(g, c, &far);
  } else {
    rc = !inner && (events & (EPOLLHUP | EPOLLERR)) ? MP_EEOF : inwards(c);
    if (rc == 0) rc = outwards(c);
    if (rc == 0 && inner && (events & (EPOLLHUP | EPOLLERR)) && c->out.end > 0) rc = MP_EEOF; /* nobody is there to wait for */
  }
  if (rc < 0) {
    mpi_fd_close(&far);
    out->what = MPI_GATE_GONE;
    out->id = c->id;
    rc = c->told;
    free_conn(g, c);
    return rc;
  }
  listen_for(g, c);
  if (far < 0) return 0;
  c->told = 1;
  out->what = MPI_GATE_CLIENT;
  out->id = c->id;
  out->fd = far;
  return 1;
}

/* Ends whose patience is over; gives the ms until the next end, -1: none. */
static int expire (struct mpi_gate *g) {
  int64_t now = mp_now(), soonest = MP_NEVER;
  struct conn *c, *next;
  for (c = g->conns; c != NULL; c = next) {
    next = c->next;
    if (c->state != STRANGER) continue;
    if (c->until <= now) free_conn(g, c);
    else if (c->until < soonest) soonest = c->until;
  }
  return soonest == MP_NEVER ? -1 : (int)((soonest - now) / 1000000) + 1;
}

int mpi_gate_next (struct mpi_gate *g, struct mpi_gate_event *out) {
  for (;;) {
    struct epoll_event ev;
    int n = epoll_wait(g->epoll, &ev, 1, expire(g)); /* one at a time: tending one may free another */
    if (n < 0 && errno != EINTR) return mpi_fail_errno("epoll_wait");
    if (n <= 0) continue;
    if (ev.data.ptr == &alive_tag) {
      out->what = MPI_GATE_END;
      return 0;
    }
    if (ev.data.ptr == &listener_tag) accept_all(g);
    else if (tend(g, (struct conn *)((uintptr_t)ev.data.ptr & ~(uintptr_t)1), (int)((uintptr_t)ev.data.ptr & 1), ev.events, out)) return 0;
  }
}

static struct conn *find (struct mpi_gate *g, int64_t id) {
  struct conn *c = g->conns;
  while (c != NULL && c->id != id) c = c->next;
  return c;
}

void mpi_gate_deputy (struct mpi_gate *g, int64_t id, pid_t pid) {
  struct conn *c = find(g, id);
  if (c != NULL) c->deputy = pid;
}

void mpi_gate_drop (struct mpi_gate *g, int64_t id) {
  struct conn *c = find(g, id);
  if (c != NULL) free_conn(g, c);
}

int mpi_gate_open (struct mpi_address *a, const void *secret, size_t size, int alive, struct mpi_gate **out) {
  struct mpi_gate *g = calloc(1, sizeof *g);
  int rc;
  if (g == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  g->listener = -1;
  g->alive = alive;
  g->epoll = epoll_create1(EPOLL_CLOEXEC);
  rc = g->epoll < 0 ? mpi_fail_errno("epoll_create1") : 0;
  if (rc == 0) rc = mpi_tls_context_new(1, secret, size, &g->context);
  if (rc == 0) rc = mpi_address_listen(a, &g->listener);
  if (rc != 0) {
    mpi_gate_close(g);
    return rc;
  }
  g->address = *a;
  set_epoll(g, EPOLL_CTL_ADD, g->listener, EPOLLIN, &listener_tag);
  set_epoll(g, EPOLL_CTL_ADD, alive, 0, &alive_tag); /* a hang-up comes unasked */
  *out = g;
  return 0;
}

void mpi_gate_close (struct mpi_gate *g) {
  if (g == NULL) return;
  while (g->conns != NULL) free_conn(g, g->conns);
  if (g->listener >= 0) mpi_address_remove(&g->address);
  mpi_fd_close(&g->listener);
  mpi_fd_close(&g->epoll);
  mpi_tls_context_free(g->context);
  free(g);
}

/* ---- the end ---- */

static struct mpi_address file; /* for the handler */

static void on_term (int sig) {
  (void)sig;
  mpi_address_remove(&file);
  _exit(0);
}

void mpi_gate_guard (struct mpi_gate *g) {
  struct sigaction sa;
  sigset_t term;
  file = g->address;
  memset(&sa, 0, sizeof sa);
  (void)sigfillset(&sa.sa_mask);
  sa.sa_handler = on_term;
  (void)sigaction(SIGTERM, &sa, NULL);
  sa.sa_handler = SIG_IGN;
  (void)sigaction(SIGPIPE, &sa, NULL);
  (void)sigaction(SIGINT, &sa, NULL);
  (void)sigemptyset(&term);
  (void)sigaddset(&term, SIGTERM);
  (void)sigprocmask(SIG_UNBLOCK, &term, NULL);
  (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* instead of SIGKILL: the file goes, too */
}
