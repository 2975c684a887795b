#include "net/link.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/pidfd.h"
#include "net/tls.h"
#include "wire/wire.h"

#define PIECE (16u << 10) /* of a TLS record at most */

struct bytes {
  unsigned char *data;
  size_t start, end, room;
};

struct mpi_link {
  int fd;
  struct mpi_tls_context *context; /* NULL: plain */
  struct mpi_tls *tls;
  struct bytes out; /* to be sent, as it goes to the socket */
  struct bytes in;  /* what came, in plain */
  size_t taken;     /* of `in`: the frame that was given out last */
};

static int reserve (struct bytes *b, size_t more) {
  if (b->start == b->end) b->start = b->end = 0;
  if (b->room - b->end >= more) return 0;
  if (b->start > 0) {
    memmove(b->data, b->data + b->start, b->end - b->start);
    b->end -= b->start;
    b->start = 0;
  }
  if (b->room - b->end < more) {
    size_t room = (b->end + more) + (b->end + more) / 2;
    unsigned char *d = realloc(b->data, room);
    if (d == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
    b->data = d;
    b->room = room;
  }
  return 0;
}

static int lost (void) {
  return mpi_fail(MP_EEOF, "the other side is gone");
}

/* ---- to the socket ---- */

static int collect (struct mpi_link *l) { /* what TLS has to say */
  size_t n;
  do {
    int rc = reserve(&l->out, PIECE);
    if (rc != 0) return rc;
    n = mpi_tls_take(l->tls, l->out.data + l->out.end, PIECE);
    l->out.end += n;
  } while (n > 0);
  return 0;
}

static int flush (struct mpi_link *l, int64_t deadline) {
  while (l->out.start < l->out.end) {
    ssize_t n = send(l->fd, l->out.data + l->out.start, l->out.end - l->out.start, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      l->out.start += (size_t)n;
    } else if (errno == EAGAIN) {
      int rc = mpi_fd_wait(l->fd, POLLOUT, deadline);
      if (rc != 0) return rc;
    } else if (errno != EINTR) {
      return lost();
    }
  }
  return 0;
}

static int add (struct mpi_link *l, const unsigned char *data, size_t size) {
  int rc = 0;
  if (l->tls == NULL) {
    rc = reserve(&l->out, size);
    if (rc != 0) return rc;
    if (size > 0) memcpy(l->out.data + l->out.end, data, size);
    l->out.end += size;
    return 0;
  }
  while (rc == 0 && size > 0) {
    size_t n = size < PIECE ? size : PIECE;
    rc = mpi_tls_write(l->tls, data, n);
    data += n;
    size -= n;
  }
  return rc == 0 ? collect(l) : rc;
}

int mpi_link_send (struct mpi_link *l, const void *data, size_t size, int64_t deadline) {
  unsigned char head[4];
  int rc;
  if (data != NULL) {
    if (size > MPI_FRAME_MOST) return mpi_fail(MP_E2BIG, "a message of %zu bytes is more than a link takes (%u)", size, MPI_FRAME_MOST);
    (void)mpi_put32(head, (uint32_t)size);
    rc = add(l, head, sizeof head);
    if (rc == 0) rc = add(l, data, size);
    if (rc != 0) return rc;
  }
  return flush(l, deadline);
}

int mpi_link_forget (struct mpi_link *l, uint32_t number, int64_t deadline) {
  unsigned char frame[8];
  int rc;
  (void)mpi_put32(mpi_put32(frame, MPI_FRAME_FORGET), number);
  rc = add(l, frame, sizeof frame);
  return rc == 0 ? flush(l, deadline) : rc;
}

/* ---- from the socket ---- */

/* Some more bytes into l->in, and for TLS, that has to answer, out. MP_ETIMEDOUT etc. */
static int more (struct mpi_link *l, int64_t deadline) {
  unsigned char raw[PIECE];
  for (;;) {
    ssize_t n = recv(l->fd, raw, sizeof raw, MSG_DONTWAIT);
    int rc;
    if (n == 0) return lost();
    if (n < 0 && errno == EAGAIN) {
      rc = mpi_fd_wait(l->fd, POLLIN, deadline);
      if (rc != 0) return rc;
      continue;
    }
    if (n < 0) {
      if (errno == EINTR) continue;
      return lost();
    }
    if (l->tls != NULL) return mpi_tls_feed(l->tls, raw, (size_t)n);
    rc = reserve(&l->in, (size_t)n);
    if (rc != 0) return rc;
    memcpy(l->in.data + l->in.end, raw, (size_t)n);
    l->in.end += (size_t)n;
    return 0;
  }
}

static int decrypt (struct mpi_link *l) {
  size_t n = 0;
  if (l->tls == NULL) return 0;
  do {
    int rc = reserve(&l->in, PIECE);
    if (rc != 0) return rc;
    rc = mpi_tls_read(l->tls, l->in.data + l->in.end, PIECE, &n);
    if (rc != 0) return rc;
    l->in.end += n;
  } while (n > 0);
  return 0;
}

/* 1: a whole frame is there. */
static int whole (struct mpi_link *l, uint32_t *size) {
  size_t have = l->in.end - l->in.start;
  if (have < 4) return 0;
  *size = mpi_get32(l->in.data + l->in.start);
  if (*size > MPI_FRAME_MOST) return mpi_fail(MP_ECORRUPT, "a frame of %u bytes", *size);
  return have - 4 >= *size;
}

int mpi_link_receive (struct mpi_link *l, const unsigned char **data, size_t *size, int64_t deadline) {
  uint32_t n = 0;
  int rc;
  l->in.start += l->taken;
  l->taken = 0;
  while ((rc = whole(l, &n)) == 0) {
    rc = more(l, deadline);
    if (rc == 0) rc = decrypt(l);
    if (rc != 0) return rc;
  }
  if (rc < 0) return rc;
  *data = l->in.data + l->in.start + 4;
  *size = n;
  l->taken = (size_t)n + 4;
  return 0;
}

/* ---- the link ---- */

int mpi_link_adopt (int fd, struct mpi_link **out) {
  struct mpi_link *l = calloc(1, sizeof *l);
  if (l == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  l->fd = fd;
  *out = l;
  return 0;
}

void mpi_link_close (struct mpi_link *l) {
  if (l == NULL) return;
  mpi_fd_close(&l->fd);
  mpi_tls_free(l->tls);
  mpi_tls_context_free(l->context);
  free(l->in.data);
  free(l->out.data);
  free(l);
}

/* MP_EEOF: the other side has hung up without a word. */
static int prove (struct mpi_link *l, int64_t deadline) {
  int rc;
  while ((rc = mpi_tls_handshake(l->tls)) == 0) {
    rc = collect(l);
    if (rc == 0) rc = flush(l, deadline);
    if (rc == 0) rc = more(l, deadline);
    if (rc != 0) return rc;
  }
  if (rc < 0) return rc;
  rc = collect(l);
  return rc == 0 ? flush(l, deadline) : rc;
}

static int try_open (const struct mpi_address *a, struct mpi_tls_context *context, int64_t deadline, struct mpi_link **out) {
  struct mpi_link *l = NULL;
  int fd = -1, rc;
  rc = mpi_address_dial(a, deadline, &fd);
  if (rc != 0) return rc;
  rc = mpi_link_adopt(fd, &l);
  if (rc != 0) {
    mpi_fd_close(&fd);
    return rc;
  }
  rc = mpi_tls_new(context, &l->tls);
  if (rc == 0) rc = prove(l, deadline);
  if (rc != 0) mpi_link_close(l);
  else *out = l;
  return rc;
}

#define PAUSE INT64_C(50000000) /* ns */

/* A gate hangs up without a word when its patience is over or a crowd of others is at the door: then once more. */
int mpi_link_open (const struct mpi_address *a, const void *secret, size_t size, int64_t deadline, struct mpi_link **out) {
  struct mpi_tls_context *context;
  int rc = mpi_tls_context_new(0, secret, size, &context); /* takes its time: before the gate's clock runs */
  if (rc != 0) return rc;
  while ((rc = try_open(a, context, deadline, out)) == MP_EEOF) {
    if (mp_now() + PAUSE >= deadline) {
      rc = mpi_fail(MP_ECORRUPT, "the other side hangs up: it is no manager, or has too much to do");
      break;
    }
    rc = mp_sleep(mp_now() + PAUSE);
    if (rc != 0) break;
  }
  if (rc == 0) (*out)->context = context;
  else mpi_tls_context_free(context);
  return rc;
}
