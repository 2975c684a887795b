#include "net/hangup.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "wire/wire.h"

struct mpi_hangups {
  int epoll;
  mp_object *queue;
};

struct watched { /* one each, owned by the epoll's entry */
  int fd;
  int64_t number;
};

static void tell (mp_object *queue, int64_t number) {
  unsigned char m[8 + 4 * MPI_W_HEAD_ROOM], *at = m;
  at = mpi_put_array_head(at, 4);
  at = mpi_put_int(at, 0);
  at = mpi_put_int(at, 0);
  at = mpi_put_str_head(at, 4);
  memcpy(at, "gone", 4);
  at = mpi_put_int(at + 4, number);
  (void)mp_queue_put(queue, m, (size_t)(at - m), MP_NEVER);
}

static void *watch (void *arg) {
  struct mpi_hangups *h = arg;
  for (;;) {
    struct epoll_event ev[32];
    int i, n = epoll_wait(h->epoll, ev, 32, -1);
    if (n < 0 && errno != EINTR) return NULL;
    for (i = 0; i < n; i++) {
      struct watched *w = ev[i].data.ptr;
      if (!(ev[i].events & (EPOLLHUP | EPOLLERR))) continue;
      (void)epoll_ctl(h->epoll, EPOLL_CTL_DEL, w->fd, NULL);
      mpi_fd_close(&w->fd);
      tell(h->queue, w->number);
      free(w);
    }
  }
}

int mpi_hangups_start (mp_object *queue, struct mpi_hangups **out) {
  struct mpi_hangups *h = calloc(1, sizeof *h);
  pthread_attr_t attr;
  pthread_t thread;
  sigset_t all, old;
  int rc;
  if (h == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  h->queue = queue;
  h->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (h->epoll < 0) {
    rc = mpi_fail_errno("epoll_create1");
    free(h);
    return rc;
  }
  mp_retain(queue);
  (void)sigfillset(&all);
  (void)pthread_attr_init(&attr);
  (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  (void)pthread_attr_setstacksize(&attr, 256u << 10);
  (void)pthread_sigmask(SIG_SETMASK, &all, &old);
  rc = pthread_create(&thread, &attr, watch, h);
  (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
  (void)pthread_attr_destroy(&attr);
  if (rc != 0) {
    mp_release(queue);
    mpi_fd_close(&h->epoll);
    free(h);
    errno = rc;
    return mpi_fail_errno("pthread_create");
  }
  *out = h;
  return 0;
}

int mpi_hangups_watch (struct mpi_hangups *h, int fd, int64_t number) {
  struct watched *w = malloc(sizeof *w);
  struct epoll_event ev = {0};
  if (w == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  w->fd = fd;
  w->number = number;
  ev.data.ptr = w; /* no events asked for: hang-ups come unasked */
  if (epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &ev) != 0) {
    int rc = mpi_fail_errno("epoll_ctl");
    free(w);
    return rc;
  }
  return 0;
}

int mpi_pipe_pair (int fd[2]) {
  int raw[2], rc, i;
  do rc = pipe2(raw, O_CLOEXEC);
  while (rc != 0 && mpi_fd_raise_limit());
  if (rc != 0) return mpi_fail_errno("pipe");
  for (i = 0; i < 2; i++) {
    if (raw[i] > 2) continue;
    rc = mpi_fd_dup(raw[i]);
    if (rc < 0) {
      mpi_fd_close(&raw[0]);
      mpi_fd_close(&raw[1]);
      return rc;
    }
    (void)close(raw[i]);
    raw[i] = rc;
  }
  fd[0] = raw[0];
  fd[1] = raw[1];
  return 0;
}
