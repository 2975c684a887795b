/* share.c -- objects of a C host: bytes as the Lua side's strings, descriptors for event loops, handles to other processes (mp.h). */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/pidfd.h"
#include "shm/condition.h"
#include "shm/event.h"
#include "shm/pipe.h"
#include "shm/queue.h"
#include "wire/wire.h"

/* ---- strings ---- */

static int wrap (const void *data, size_t size, unsigned char **out, size_t *length) {
  unsigned char *p, *end;
  if (size > UINT32_MAX - 64u) return mpi_fail(MP_E2BIG, "a string of %zu bytes is too large for one message", size);
  p = malloc(MPI_W_HEAD_ROOM + size);
  if (p == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  end = mpi_put_str_head(p, (uint32_t)size);
  if (size > 0) memcpy(end, data, size);
  *out = p;
  *length = (size_t)(end - p) + size;
  return 0;
}

/* A string's head, and nothing else? How long it is is checked when it is out. */
static int is_string (void *ud, const unsigned char *h, size_t n) {
  (void)ud;
  return n > 0 && ((h[0] & 0xe0) == 0xa0 || (h[0] >= 0xd9 && h[0] <= 0xdb) || (h[0] >= 0xc4 && h[0] <= 0xc6));
}

typedef int (*getter) (mp_object *o, struct mpi_sink *sink, int64_t deadline);

static int get_queue (mp_object *o, struct mpi_sink *sink, int64_t deadline) {
  int got;
  return mpi_queue_get((struct mpi_queue *)o, sink, 1, &got, deadline);
}

static int get_pipe (mp_object *o, struct mpi_sink *sink, int64_t deadline) {
  int got;
  return mpi_ring_get(&((struct mpi_pipe *)o)->in, sink, 1, &got, deadline);
}

/* The head goes in front of the caller's bytes, so the message is taken into memory of our own: small ones onto the stack. */
static int get_string (mp_object *o, getter get, void *buffer, size_t *size, int64_t deadline) {
  unsigned char small[1024];
  unsigned char *p = small;
  size_t room = *size < sizeof small - MPI_W_HEAD_ROOM ? sizeof small : *size + MPI_W_HEAD_ROOM;
  int fds[MPI_MAX_FDS];
  struct mpi_sink sink = {.fds = fds, .accept = is_string};
  struct mpi_item it;
  int rc;
  if (room > sizeof small) p = malloc(room);
  if (p == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  sink.data = p;
  sink.room = *size + 1; /* with a shorter head than its own no string fits that is too large for the buffer; see below */
  for (;;) {
    rc = get(o, &sink, deadline);
    if (rc != MP_E2BIG) break;
    /* the head has 1, 2, 3 or 5 bytes: by the whole length it is known which */
    {
      size_t whole = sink.size;
      size_t head = whole <= 32 ? 1 : whole <= 257 ? 2 : whole <= 65538 ? 3 : 5;
      if (whole > *size + head) {
        *size = whole - head;
        goto out;
      }
      sink.room = *size + head;
    }
  }
  while (rc == 0 && sink.nfds > 0) mpi_fd_close(&fds[--sink.nfds]);
  if (rc == MP_ERANGE) rc = mpi_fail(MP_EMISUSE, "the next message is no string");
  if (rc != 0) goto out;
  if (sink.size == 0 || mpi_wire_get(p, p + sink.size, &it) != p + sink.size || it.kind != MPI_W_STR || it.len > *size) {
    rc = mpi_fail(MP_ECORRUPT, "the message that came is no string"); /* redelivering queues do not look before they take */
    goto out;
  }
  if (it.len > 0) memcpy(buffer, it.data, it.len);
  *size = it.len;
out:
  if (p != small) free(p);
  return rc;
}

int mp_queue_put_string (mp_object *q, const void *data, size_t size, int64_t deadline) {
  unsigned char *message = NULL;
  size_t length = 0;
  int rc = wrap(data, size, &message, &length);
  if (rc == 0) rc = mp_queue_put(q, message, length, deadline);
  free(message);
  return rc;
}

int mp_queue_get_string (mp_object *q, void *buffer, size_t *size, int64_t deadline) {
  if (q == NULL || q->type->type != MPI_T_QUEUE) return mpi_fail(MP_EMISUSE, "not a queue");
  return get_string(q, get_queue, buffer, size, deadline);
}

int mp_pipe_send_string (mp_object *end, const void *data, size_t size, int64_t deadline) {
  unsigned char *message = NULL;
  size_t length = 0;
  int rc = wrap(data, size, &message, &length);
  if (rc == 0) rc = mp_pipe_send(end, message, length, deadline);
  free(message);
  return rc;
}

int mp_pipe_recv_string (mp_object *end, void *buffer, size_t *size, int64_t deadline) {
  if (end == NULL || end->type->type != MPI_T_PIPE || ((struct mpi_pipe *)end)->in.s == NULL)
    return mpi_fail(MP_EMISUSE, "not an end of a pipe that receives");
  return get_string(end, get_pipe, buffer, size, deadline);
}

/* ---- descriptors ---- */

int mp_event_fd (mp_object *event) {
  int fd = -1, rc;
  if (event == NULL || event->type != &mpi_type_event) return mpi_fail(MP_EMISUSE, "not an event");
  rc = mpi_event_fd(event, &fd);
  return rc != 0 ? rc : fd;
}

/* ---- handles to other processes ---- */

#define OBJECT_MAGIC 0x4a424f4du

struct object_head {
  uint32_t magic;
  int32_t type, detail, nfds;
  int32_t companion, companion_detail, companion_nfds; /* a condition's lock; 0: none */
};

int mp_object_send (int sock, mp_object *o) {
  struct object_head head;
  mp_object *companion;
  int fds[2 * MPI_OBJECT_FDS];
  int rc;
  if (o == NULL) return mpi_fail(MP_EMISUSE, "the object is NULL");
  memset(&head, 0, sizeof head);
  head.magic = OBJECT_MAGIC;
  head.type = o->type->type;
  head.detail = o->detail;
  head.nfds = o->type->nfds;
  memcpy(fds, o->fds, sizeof(int) * (size_t)head.nfds);
  companion = o->type == &mpi_type_condition ? mpi_condition_lock(o) : NULL;
  if (companion != NULL) {
    head.companion = companion->type->type;
    head.companion_detail = companion->detail;
    head.companion_nfds = companion->type->nfds;
    memcpy(fds + head.nfds, companion->fds, sizeof(int) * (size_t)head.companion_nfds);
  }
  do {
    rc = mpi_fd_send(sock, &head, sizeof head, fds, head.nfds + head.companion_nfds);
    if (rc == MP_EFULL) {
      struct pollfd p = {sock, POLLOUT, 0};
      (void)poll(&p, 1, 100);
    }
  } while (rc == MP_EFULL);
  return rc;
}

static int adopt (const struct object_head *head, int *fds, int nfds, mp_object **out) {
  mp_object *o = NULL, *lock = NULL;
  int rc;
  if (head->magic != OBJECT_MAGIC || head->nfds < 1 || head->companion_nfds < 0 || head->nfds > MPI_OBJECT_FDS ||
      head->companion_nfds > MPI_OBJECT_FDS || head->nfds + head->companion_nfds != nfds) {
    while (nfds > 0) mpi_fd_close(&fds[--nfds]);
    return mpi_fail(MP_ECORRUPT, "what arrived is no shared object");
  }
  if (head->companion_nfds > 0) rc = mpi_object_adopt(head->companion, head->companion_detail, fds + head->nfds, head->companion_nfds, &lock);
  else rc = 0;
  if (rc != 0) {
    for (nfds = head->nfds; nfds > 0;) mpi_fd_close(&fds[--nfds]);
    return rc;
  }
  rc = mpi_object_adopt(head->type, head->detail, fds, head->nfds, &o);
  if (rc == 0 && lock != NULL) rc = o->type == &mpi_type_condition ? mpi_condition_set_lock(o, lock) : MP_ECORRUPT;
  mp_release(lock);
  if (rc != 0) {
    mp_release(o);
    return rc == MP_ECORRUPT ? mpi_fail(rc, "what arrived is no shared object") : rc;
  }
  *out = o;
  return 0;
}

int mp_object_recv (int sock, mp_object **out, int64_t deadline) {
  struct object_head head;
  int fds[MPI_MAX_FDS];
  for (;;) {
    size_t got = 0;
    int nfds = MPI_MAX_FDS;
    int rc = mpi_fd_recv(sock, &head, sizeof head, &got, fds, &nfds, 0);
    if (rc == 0) {
      if (got != sizeof head) head.magic = 0;
      return adopt(&head, fds, nfds, out);
    }
    if (rc != MP_EEMPTY) return rc;
    rc = mpi_fd_wait(sock, POLLIN, deadline);
    if (rc != 0) return rc;
  }
}
