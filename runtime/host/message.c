#include "host/message.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "proc/distrust.h"
#include "shm/condition.h"
#include "wire/wire.h"

void mpi_out_init (struct mpi_out *o) {
  o->data = NULL;
  o->size = o->room = 0;
  o->nfds = 0;
  o->rc = 0;
}

void mpi_out_fini (struct mpi_out *o) {
  free(o->data);
  mpi_out_init(o);
}

/* Room for n more bytes; NULL after a failure. */
static unsigned char *room (struct mpi_out *o, size_t n) {
  if (o->rc != 0) return NULL;
  if (o->room - o->size < n) {
    size_t more = o->room * 2 > o->size + n ? o->room * 2 : o->size + n + 64;
    unsigned char *bigger = realloc(o->data, more);
    if (bigger == NULL) {
      o->rc = mpi_fail(MP_ENOMEM, "not enough memory for a message of %zu bytes", o->size + n);
      return NULL;
    }
    o->data = bigger;
    o->room = more;
  }
  return o->data + o->size;
}

static void written (struct mpi_out *o, const unsigned char *end) {
  o->size = (size_t)(end - o->data);
}

void mpi_out_map (struct mpi_out *o, unsigned pairs) {
  unsigned char *at = room(o, MPI_W_HEAD_ROOM);
  if (at != NULL) written(o, mpi_put_map_head(at, pairs));
}

void mpi_out_array (struct mpi_out *o, unsigned items) {
  unsigned char *at = room(o, MPI_W_HEAD_ROOM);
  if (at != NULL) written(o, mpi_put_array_head(at, items));
}

void mpi_out_bytes (struct mpi_out *o, const void *data, size_t size) {
  unsigned char *at;
  if (size > UINT32_MAX - 64u) {
    if (o->rc == 0) o->rc = mpi_fail(MP_E2BIG, "a string of %zu bytes is too large for one message", size);
    return;
  }
  at = room(o, MPI_W_HEAD_ROOM + size);
  if (at == NULL) return;
  at = mpi_put_str_head(at, (uint32_t)size);
  if (size > 0) memcpy(at, data, size);
  written(o, at + size);
}

void mpi_out_text (struct mpi_out *o, const char *text) {
  unsigned char *at;
  if (text != NULL) {
    mpi_out_bytes(o, text, strlen(text));
    return;
  }
  at = room(o, 1);
  if (at != NULL) written(o, mpi_put_nil(at));
}

void mpi_out_int (struct mpi_out *o, int64_t i) {
  unsigned char *at = room(o, MPI_W_HEAD_ROOM);
  if (at != NULL) written(o, mpi_put_int(at, i));
}

void mpi_out_bool (struct mpi_out *o, int b) {
  unsigned char *at = room(o, 1);
  if (at != NULL) written(o, mpi_put_bool(at, b));
}

void mpi_out_seconds (struct mpi_out *o, int64_t ns) {
  unsigned char *at = room(o, MPI_W_HEAD_ROOM);
  if (at != NULL) written(o, mpi_put_float(at, (double)ns / 1e9));
}

/* As bind/encode.c writes a handle; a condition brings its lock. */
void mpi_out_object (struct mpi_out *o, mp_object *object) {
  int i, n = object == NULL ? 0 : object->type->nfds;
  unsigned char *at;
  size_t mark;
  mp_object *companion;
  if (o->rc != 0) return;
  if (object == NULL) {
    o->rc = mpi_fail(MP_EMISUSE, "a shared object is NULL");
    return;
  }
  if (n > MPI_MAX_FDS - o->nfds) {
    o->rc = mpi_fail(MP_E2BIG, "the objects of one message need more than %d descriptors", MPI_MAX_FDS);
    return;
  }
  at = room(o, MPI_W_EXT_OPEN + 4 * MPI_W_HEAD_ROOM);
  if (at == NULL) return;
  for (i = 0; i < n; i++) o->fds[o->nfds++] = object->fds[i];
  mark = o->size;
  at = mpi_put_ext_open(at, MPI_X_HANDLE);
  at = mpi_put_int(at, object->type->type);
  at = mpi_put_int(at, object->detail);
  at = mpi_put_int(at, n);
  written(o, at);
  companion = object->type == &mpi_type_condition ? mpi_condition_lock(object) : NULL;
  if (companion != NULL) mpi_out_object(o, companion);
  else mpi_out_text(o, NULL);
  if (o->rc == 0) mpi_put_ext_close(o->data + mark, (uint32_t)(o->size - mark - MPI_W_EXT_OPEN));
}

void mpi_out_objects (struct mpi_out *o, mp_object *const *objects, unsigned n) {
  unsigned i;
  mpi_out_array(o, n);
  for (i = 0; i < n; i++) mpi_out_object(o, objects[i]);
}

void mpi_out_limits (struct mpi_out *o, const struct mp_limits *l) {
  const struct {
    const char *name;
    int64_t value;
    int is_time;
  } all[] = {{"memory", l->memory, 0}, {"output", l->output, 0}, {"files", l->files, 0},
             {"threads", l->threads, 0}, {"cpu", l->cpu, 1},     {"wall", l->wall, 1}};
  unsigned i, n = 0;
  for (i = 0; i < sizeof all / sizeof all[0]; i++) {
    if (all[i].value < 0 && o->rc == 0) o->rc = mpi_fail(MP_EMISUSE, "limits.%s is negative", all[i].name);
    n += all[i].value != 0;
  }
  if (n == 0) {
    mpi_out_text(o, NULL);
    return;
  }
  mpi_out_map(o, n);
  for (i = 0; i < sizeof all / sizeof all[0]; i++) {
    if (all[i].value == 0) continue;
    mpi_out_text(o, all[i].name);
    if (all[i].is_time) mpi_out_seconds(o, all[i].value);
    else mpi_out_int(o, all[i].value);
  }
}

int mpi_out_done (const struct mpi_out *o) {
  return o->rc;
}

void mpi_out_distrust (const struct mpi_out *o) {
  int i;
  for (i = 0; i < o->nfds; i++) mpi_distrust(o->fds[i]);
}

/* ---- what comes back ---- */

int mpi_message_bytes (const unsigned char *data, size_t size, const unsigned char **bytes, size_t *length) {
  struct mpi_item it;
  const unsigned char *end = size == 0 ? NULL : mpi_wire_get(data, data + size, &it);
  if (end == data + size && end != NULL) {
    if (it.kind == MPI_W_STR) {
      *bytes = it.data;
      *length = it.len;
      return 0;
    }
    if (it.kind == MPI_W_NIL) {
      *bytes = NULL;
      *length = 0;
      return 0;
    }
  }
  return MP_ECORRUPT;
}

void mpi_failure_fini (struct mpi_failure *f) {
  free(f->strings);
  memset(f, 0, sizeof *f);
}

struct text {
  const unsigned char *data;
  size_t size;
};

static char *copy_text (char **at, const struct text *t) {
  char *start = *at;
  if (t->size > 0) memcpy(start, t->data, t->size);
  start[t->size] = '\0';
  *at = start + t->size + 1;
  return start;
}

static int make (const struct text *kind, const struct text *message, const struct text *traceback, struct mpi_failure *out) {
  char *at = malloc(kind->size + message->size + traceback->size + 3);
  if (at == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  memset(out, 0, sizeof *out);
  out->strings = at;
  out->public.kind = copy_text(&at, kind);
  out->public.message = copy_text(&at, message);
  out->public.traceback = traceback->data != NULL ? copy_text(&at, traceback) : NULL;
  return 0;
}

static struct text text_of (const char *s) {
  struct text t = {(const unsigned char *)s, s != NULL ? strlen(s) : 0};
  return t;
}

int mpi_failure_make (const char *kind, const char *message, const char *traceback, struct mpi_failure *out) {
  struct text k = text_of(kind), m = text_of(message), t = text_of(traceback);
  return make(&k, &m, &t, out);
}

static int is_key (const struct mpi_item *it, const char *name) {
  return it->len == strlen(name) && memcmp(it->data, name, it->len) == 0;
}

int mpi_failure_read (const unsigned char *data, size_t size, struct mpi_failure *out) {
  struct text kind = text_of("error"), message = text_of("what it says of its failure cannot be read"), traceback = text_of(NULL);
  int64_t pid = 0, exitcode = 0, signal = 0;
  const unsigned char *at = data, *end = data + size;
  struct mpi_item it = {.kind = MPI_W_NIL}, key;
  uint32_t pairs = 0;
  int rc;
  if (size > 0) at = mpi_wire_get(at, end, &it);
  if (size > 0 && at != NULL && it.kind == MPI_W_MAP) pairs = it.len;
  for (; pairs > 0; pairs--) {
    at = at < end ? mpi_wire_get(at, end, &key) : NULL;
    if (at == NULL || key.kind != MPI_W_STR || at >= end) break;
    at = mpi_wire_get(at, end, &it);
    if (at == NULL || it.kind == MPI_W_ARRAY || it.kind == MPI_W_MAP) break;
    if (it.kind == MPI_W_STR) {
      struct text t = {it.data, it.len};
      if (is_key(&key, "kind")) kind = t;
      else if (is_key(&key, "message")) message = t;
      else if (is_key(&key, "traceback")) traceback = t;
    } else if (it.kind == MPI_W_INT && it.u.i >= INT32_MIN && it.u.i <= INT32_MAX) {
      if (is_key(&key, "pid")) pid = it.u.i;
      else if (is_key(&key, "exitcode")) exitcode = it.u.i;
      else if (is_key(&key, "signal")) signal = it.u.i;
    }
  }
  rc = make(&kind, &message, &traceback, out);
  if (rc != 0) return rc;
  out->public.pid = (int)pid;
  out->public.exitcode = (int)exitcode;
  out->public.signal = (int)signal;
  return 0;
}
