#include "shm/list.h"

#include "base/err.h"

#ifdef MP_HARD
#define FIRST_CAP 2u
#else
#define FIRST_CAP 8u
#endif
#define RECORD_HEADER 4u

enum { SLOTS, CAP, COUNT, BYTES }; /* root->word: offset of the slots; their number; items; sizes of all items */

struct record {
  uint32_t size;
  char bytes[];
};

struct view { /* a record, checked; the size is a private copy */
  const struct record *r;
  uint32_t size;
};

struct array {
  uint64_t *slot;
  uint64_t cap;
  uint64_t count;
};

const struct mpi_type mpi_type_list = {MPI_T_LIST, "List", sizeof(struct mpi_store), MPI_SEG_LOCKPAGE, 1, mpi_store_attach, NULL};

static struct mpi_store *store (mp_object *o) {
  return (struct mpi_store *)o;
}

static uint64_t word (const struct mpi_store *s, int i) {
  return mpi_peek(&s->root->word[i]);
}

static void put_word (struct mpi_store *s, int i, uint64_t v) {
  mpi_put(s, &s->root->word[i], v);
}

static int begin (mp_object *o, struct array *a, int64_t deadline) {
  struct mpi_store *s = store(o);
  uint64_t off;
  int rc = mpi_store_enter(s, deadline);
  if (rc != 0) return rc;
  off = word(s, SLOTS);
  a->cap = word(s, CAP);
  a->count = word(s, COUNT);
  a->slot = NULL;
  if (a->cap != 0) {
    if (a->count <= a->cap && mpi_heap_room(s, off) / sizeof(uint64_t) >= a->cap) {
      a->slot = mpi_store_at(s, off);
      return 0;
    }
  } else if (a->count == 0) {
    return 0;
  }
  rc = mpi_undo_end(s, mpi_undo_corrupt(s));
  mpi_store_leave(s);
  return rc;
}

static int finish (mp_object *o, int rc) {
  rc = mpi_undo_end(store(o), rc);
  mpi_store_leave(store(o));
  return rc;
}

static int view_at (struct mpi_store *s, const struct array *a, uint64_t i, struct view *v) { /* i from 0, below count */
  uint64_t off = mpi_peek(&a->slot[i]), room = mpi_heap_room(s, off);
  if (room < RECORD_HEADER) return mpi_undo_corrupt(s);
  v->r = mpi_store_at(s, off);
  v->size = mpi_peek32(&v->r->size);
  if (v->size == 0 || v->size > room - RECORD_HEADER) return mpi_undo_corrupt(s);
  return 0;
}

static int position (const struct array *a, int64_t at) {
  if (at >= 1 && (uint64_t)at <= a->count) return 0;
  if (at >= 1 && (uint64_t)at == a->count + 1) return MP_EEMPTY;
  return mpi_fail(MP_ERANGE, "position %lld is out of range (the list has %llu items)", (long long)at, (unsigned long long)a->count);
}

static int give (struct mpi_store *s, const struct view *v, void *buf, size_t room, size_t *size) {
  *size = v->size;
  if (v->size > room) return mpi_seg_holds(&s->o.seg, v->size) ? MP_E2BIG : mpi_undo_corrupt(s);
  memcpy(buf, v->r->bytes, v->size);
  return 0;
}

/* ---- changing ---- */

static struct record *new_record (struct mpi_store *s, size_t size, uint64_t *off) {
  struct record *r;
  if (size >= MPI_ITEM_MAX) return (void)mpi_undo_fail(s, MP_E2BIG, "a value of a container is at most 2 GiB"), NULL;
  *off = mpi_heap_alloc(s, RECORD_HEADER + size);
  if (*off == 0) return NULL;
  r = mpi_store_at(s, *off);
  r->size = (uint32_t)size;
  return r;
}

static uint64_t record_of (struct mpi_store *s, const struct mpi_item *v) {
  uint64_t off;
  struct record *r = new_record(s, v->size + 1, &off);
  if (r == NULL) return 0;
  r->bytes[0] = (char)v->kind;
  memcpy(r->bytes + 1, v->data, v->size);
  MPI_POINT("list.record.written");
  return off;
}

/* Before all items are moved: each of them has a record, so that a count that is only claimed shows. */
static int exists (struct mpi_store *s, uint64_t count) {
  return mpi_seg_holds(&s->o.seg, count * 16) ? 0 : mpi_undo_corrupt(s);
}

static uint64_t new_slots (struct mpi_store *s, uint64_t cap, uint64_t **slot) {
  uint64_t off = mpi_heap_alloc(s, cap * sizeof(uint64_t));
  if (off != 0) *slot = mpi_store_at(s, off);
  return off;
}

/* The new array takes the place of the old one, which is freed: the last allocation of a change lies behind. */
static void publish (struct mpi_store *s, const struct array *old, uint64_t off, uint64_t cap) {
  uint64_t before = word(s, SLOTS);
  MPI_POINT("list.publish.before");
  put_word(s, SLOTS, off);
  put_word(s, CAP, cap);
  if (old->cap != 0) mpi_heap_free(s, before);
}

/* Makes a gap of n slots before index i, and gives the address of the gap: what is beyond the count is nobody's, so only
** slots that move inside the array are logged. NULL: sticky error. */
static uint64_t *gap (struct mpi_store *s, const struct array *a, uint64_t i, uint64_t n) {
  uint64_t cap = a->cap == 0 ? FIRST_CAP : a->cap, off, *slot;
  size_t behind = (size_t)(a->count - i) * sizeof(uint64_t);
  if (s->err != 0) return NULL;
  if (n > s->heap_end / sizeof(uint64_t)) return (void)mpi_undo_fail(s, MP_ENOMEM, "the list is full"), NULL;
  if (a->count + n <= a->cap) {
    if (behind != 0) {
      if (!mpi_undo_save(s, a->slot + i, behind)) return NULL;
      memmove(a->slot + i + n, a->slot + i, behind);
      MPI_POINT("list.gap.moved");
    }
    return a->slot + i;
  }
  if (exists(s, a->count) != 0) return NULL;
  while (cap < a->count + n) cap *= 2;
  off = new_slots(s, cap, &slot);
  if (off == 0) return NULL;
  if (i != 0) memmove(slot, a->slot, i * sizeof *slot); /* apart, unless a peer has damaged the heap */
  if (behind != 0) memmove(slot + i + n, a->slot + i, behind);
  publish(s, a, off, cap);
  return slot + i;
}

/* After a removal was committed: an array that has become far too large is made smaller, as a change of its own. */
static void shrink (struct mpi_store *s) {
  struct array a;
  uint64_t off, *slot, cap;
  a.cap = word(s, CAP);
  a.count = word(s, COUNT);
  if (a.cap <= 1024 || a.count > a.cap / 8) return;
  if (mpi_heap_room(s, word(s, SLOTS)) / sizeof(uint64_t) < a.cap || !mpi_seg_holds(&s->o.seg, a.count * 16)) return;
  a.slot = mpi_store_at(s, word(s, SLOTS));
  cap = a.cap / 4;
  mpi_undo_begin(s);
  off = new_slots(s, cap, &slot);
  if (off != 0) {
    memmove(slot, a.slot, a.count * sizeof *slot);
    publish(s, &a, off, cap);
  }
  (void)mpi_undo_end(s, s->err);
}

static int erase (struct mpi_store *s, const struct array *a, uint64_t i) {
  struct view v;
  uint64_t off = mpi_peek(&a->slot[i]);
  size_t behind = (size_t)(a->count - i - 1) * sizeof(uint64_t);
  int rc = view_at(s, a, i, &v);
  if (rc != 0) return rc;
  if (behind != 0) {
    if (!mpi_undo_save(s, a->slot + i, behind)) return s->err;
    memmove(a->slot + i, a->slot + i + 1, behind);
    MPI_POINT("list.erase.moved");
  }
  put_word(s, COUNT, a->count - 1);
  put_word(s, BYTES, word(s, BYTES) - v.size);
  mpi_heap_free(s, off);
  return s->err;
}

int mpi_list_get (mp_object *o, int64_t at, void *buf, size_t room, size_t *size, int64_t deadline) {
  struct array a;
  struct view v;
  int rc = begin(o, &a, deadline);
  if (rc != 0) return rc;
  rc = position(&a, at);
  if (rc == 0) rc = view_at(store(o), &a, (uint64_t)at - 1, &v);
  if (rc == 0) rc = give(store(o), &v, buf, room, size);
  mpi_store_leave(store(o)); /* nothing was logged */
  return rc;
}

int mpi_list_append (mp_object *o, const struct mpi_item *v, int64_t deadline) {
  struct mpi_store *s = store(o);
  struct array a;
  uint64_t off, *to;
  int rc = begin(o, &a, deadline);
  if (rc != 0) return rc;
  off = record_of(s, v);
  to = gap(s, &a, a.count, 1);
  if (to != NULL) {
    *to = off;
    MPI_POINT("list.append.written");
    put_word(s, COUNT, a.count + 1);
    put_word(s, BYTES, word(s, BYTES) + v->size + 1);
  }
  return finish(o, s->err);
}

static int replace (struct mpi_store *s, const struct array *a, uint64_t i, const struct mpi_item *v) {
  struct view old;
  uint64_t off, before = mpi_peek(&a->slot[i]);
  int rc = view_at(s, a, i, &old);
  if (rc != 0) return rc;
  off = record_of(s, v);
  if (off == 0) return s->err;
  mpi_put(s, &a->slot[i], off);
  put_word(s, BYTES, word(s, BYTES) + v->size + 1 - old.size);
  mpi_heap_free(s, before);
  return s->err;
}

int mpi_list_set (mp_object *o, int64_t at, const struct mpi_item *v, int64_t deadline) {
  struct mpi_store *s = store(o);
  struct array a;
  int rc = begin(o, &a, deadline);
  if (rc != 0) return rc;
  rc = position(&a, at);
  if (rc == 0) return finish(o, replace(s, &a, (uint64_t)at - 1, v));
  if (rc == MP_EEMPTY) {
    uint64_t off = record_of(s, v), *to = gap(s, &a, a.count, 1);
    if (to != NULL) {
      *to = off;
      put_word(s, COUNT, a.count + 1);
      put_word(s, BYTES, word(s, BYTES) + v->size + 1);
    }
    return finish(o, s->err);
  }
  return finish(o, rc);
}

int mpi_list_insert (mp_object *o, int64_t at, const void *packed, size_t size, uint64_t n, int64_t deadline) {
  struct mpi_store *s = store(o);
  const char *p = packed, *end = p + size;
  struct array a;
  uint64_t i, k, *to;
  int rc = begin(o, &a, deadline);
  if (rc != 0) return rc;
  if (at == 0) at = (int64_t)a.count + 1;
  rc = position(&a, at);
  if (rc == MP_ERANGE) return finish(o, rc);
  i = (uint64_t)at - 1;
  if (n == 0) return finish(o, 0);
  /* The records' offsets go first to the far end of the gap's future: the log keeps them out of sight until the count changes. So the
  ** gap comes first, the old array is freed with it, and the records' allocations must not follow a free: hence in two steps. */
  if (a.count + n > a.cap) {
    to = gap(s, &a, a.count, n); /* only room, at the end: a change of its own that nobody sees */
    rc = mpi_undo_end(s, to == NULL ? s->err : 0);
    mpi_undo_begin(s);
    if (rc == 0) {
      a.cap = word(s, CAP);
      if (a.cap < a.count + n || mpi_heap_room(s, word(s, SLOTS)) / sizeof(uint64_t) < a.cap) rc = mpi_undo_corrupt(s);
      a.slot = mpi_store_at(s, word(s, SLOTS));
    }
    if (rc != 0) return finish(o, rc);
  }
  to = gap(s, &a, i, n);
  for (k = 0; k < n && to != NULL; k++) {
    uint32_t item;
    struct record *r;
    uint64_t off;
    if (end - p < 4) return finish(o, mpi_fail(MP_EMISUSE, "packed items end early"));
    memcpy(&item, p, 4);
    if (item == 0 || (size_t)(end - p - 4) < item) return finish(o, mpi_fail(MP_EMISUSE, "packed items end early"));
    r = new_record(s, item, &off);
    if (r == NULL) break;
    memcpy(r->bytes, p + 4, item);
    p += 4 + (size_t)item;
    to[k] = off;
    MPI_POINT("list.insert.record");
  }
  put_word(s, COUNT, a.count + n);
  put_word(s, BYTES, word(s, BYTES) + size - 4 * n);
  return finish(o, s->err);
}

int mpi_list_pop (mp_object *o, int64_t at, void *buf, size_t room, size_t *size, int64_t deadline) {
  struct mpi_store *s = store(o);
  struct array a;
  struct view v;
  int rc = begin(o, &a, deadline);
  if (rc != 0) return rc;
  if (at == 0) at = a.count == 0 ? 1 : (int64_t)a.count;
  rc = position(&a, at);
  if (rc == 0) rc = view_at(s, &a, (uint64_t)at - 1, &v);
  if (rc == 0) rc = give(s, &v, buf, room, size);
  if (rc == 0) rc = erase(s, &a, (uint64_t)at - 1);
  rc = mpi_undo_end(s, rc);
  if (rc == 0) shrink(s);
  mpi_store_leave(s);
  return rc;
}

static int search (struct mpi_store *s, const struct array *a, const void *item, size_t size, uint64_t *at) {
  uint64_t i;
  for (i = 0; i < a->count; i++) {
    struct view v;
    int rc = view_at(s, a, i, &v);
    if (rc != 0) return rc;
    if (mpi_item_equal(v.r->bytes, v.size, item, size)) {
      *at = i + 1;
      return 0;
    }
  }
  *at = 0;
  return 0;
}

int mpi_list_index (mp_object *o, const void *item, size_t size, uint64_t *at, int64_t deadline) {
  struct array a;
  int rc = begin(o, &a, deadline);
  if (rc != 0) return rc;
  return finish(o, search(store(o), &a, item, size, at));
}

int mpi_list_remove (mp_object *o, const void *item, size_t size, int64_t deadline) {
  struct mpi_store *s = store(o);
  struct array a;
  uint64_t at = 0;
  int rc = begin(o, &a, deadline);
  if (rc != 0) return rc;
  rc = search(s, &a, item, size, &at);
  if (rc == 0 && at != 0) rc = erase(s, &a, at - 1);
  rc = mpi_undo_end(s, rc);
  if (rc == 0 && at != 0) shrink(s);
  mpi_store_leave(s);
  return rc != 0 ? rc : at != 0;
}

int mpi_list_reverse (mp_object *o, int64_t deadline) {
  struct mpi_store *s = store(o);
  struct array a;
  uint64_t i, off, *slot;
  int rc = begin(o, &a, deadline);
  if (rc != 0) return rc;
  if (a.count < 2) return finish(o, 0);
  if (exists(s, a.count) != 0) return finish(o, s->err);
  off = new_slots(s, a.cap, &slot);
  if (off == 0) return finish(o, s->err);
  for (i = 0; i < a.count; i++) slot[i] = mpi_peek(&a.slot[a.count - 1 - i]);
  publish(s, &a, off, a.cap);
  return finish(o, s->err);
}

int mpi_list_clear (mp_object *o, int64_t deadline) {
  struct mpi_store *s = store(o);
  int i, rc = mpi_store_enter(s, deadline);
  if (rc != 0) return rc;
  mpi_heap_reset(s);
  for (i = 0; i <= BYTES; i++) put_word(s, i, 0);
  return finish(o, s->err);
}

int mpi_list_count (mp_object *o, uint64_t *n, int64_t deadline) {
  struct mpi_store *s = store(o);
  int rc = mpi_store_enter(s, deadline);
  if (rc != 0) return rc;
  *n = word(s, COUNT);
  mpi_store_leave(s);
  return 0;
}

int mpi_list_snapshot (mp_object *o, void *buf, size_t room, size_t *size, uint64_t *slots, uint64_t slots_room, uint64_t *n,
                       int64_t deadline) {
  struct mpi_store *s = store(o);
  struct array a;
  char *to = buf, *end;
  uint64_t i, need;
  int rc = begin(o, &a, deadline);
  if (rc != 0) return rc;
  need = word(s, BYTES);
  if (need > s->heap_end) return finish(o, mpi_undo_corrupt(s));
  need += 4 * a.count;
  *n = a.count;
  if (need > room || (slots != NULL && slots_room < a.count)) {
    *size = need;
    return finish(o, mpi_seg_holds(&s->o.seg, need / 2) ? MP_E2BIG : mpi_undo_corrupt(s));
  }
  end = to + need;
  for (i = 0; i < a.count; i++) {
    struct view v;
    rc = view_at(s, &a, i, &v);
    if (rc == 0 && (uint64_t)(end - to) < (uint64_t)v.size + 4) rc = mpi_undo_corrupt(s);
    if (rc != 0) return finish(o, rc);
    memcpy(to, &v.size, 4);
    memcpy(to + 4, v.r->bytes, v.size);
    to += 4 + (size_t)v.size;
  }
  if (to != end) return finish(o, mpi_undo_corrupt(s));
  if (slots != NULL && a.count != 0) memcpy(slots, a.slot, a.count * sizeof *slots);
  *size = need;
  return finish(o, 0);
}

int mpi_list_reorder (mp_object *o, const uint64_t *slots, const uint64_t *order, unsigned char *scratch, uint64_t n, int64_t deadline) {
  struct mpi_store *s = store(o);
  struct array a;
  uint64_t i, off, *slot;
  int rc;
  memset(scratch, 0, n);
  for (i = 0; i < n; i++) {
    if (order[i] < 1 || order[i] > n || scratch[order[i] - 1]) return mpi_fail(MP_EMISUSE, "the order is not a permutation");
    scratch[order[i] - 1] = 1;
  }
  rc = begin(o, &a, deadline);
  if (rc != 0) return rc;
  if (a.count != n || (n != 0 && memcmp(a.slot, slots, n * sizeof *slots) != 0))
    return finish(o, mpi_fail(MP_EMISUSE, "the list was changed while it was being sorted"));
  if (n < 2) return finish(o, 0);
  off = new_slots(s, a.cap, &slot);
  if (off == 0) return finish(o, s->err);
  for (i = 0; i < n; i++) slot[i] = slots[order[i] - 1];
  publish(s, &a, off, a.cap);
  return finish(o, s->err);
}

/* ---- for tests ---- */

static int wrong (const char *what, uint64_t where) {
  return mpi_fail(MP_ECORRUPT, "list: %s at %llu", what, (unsigned long long)where);
}

int mpi_list_check (mp_object *o) {
  struct mpi_store *s = store(o);
  struct array a;
  uint64_t i, bytes = 0;
  int rc = begin(o, &a, MP_NEVER);
  if (rc != 0) return rc;
  for (i = 0; i < a.count && rc == 0; i++) {
    struct view v;
    if (view_at(s, &a, i, &v) != 0) rc = wrong("record", a.slot[i]);
    else bytes += v.size;
  }
  if (rc == 0 && bytes != word(s, BYTES)) rc = wrong("count of bytes", bytes);
  if (rc == 0) rc = mpi_heap_check(s, a.count + (a.cap != 0));
  s->err = 0;
  mpi_store_leave(s);
  return rc;
}

/* ---- for C hosts ---- */

int mp_list_new (mp_object **out) {
  struct mpi_store *s;
  int rc = mpi_store_new(&mpi_type_list, &s);
  if (rc != 0) return rc;
  rc = mpi_object_publish(&s->o);
  if (rc != 0) {
    mpi_object_abandon(&s->o);
    return rc;
  }
  *out = &s->o;
  return 0;
}

static int check_list (const mp_object *o) {
  return o != NULL && o->type == &mpi_type_list ? 0 : mpi_fail(MP_EMISUSE, "the handle is not a list's");
}

int mp_list_append (mp_object *o, const void *value, size_t size, int64_t deadline) {
  struct mpi_item v = {MPI_ITEM_STR, size, value};
  int rc = check_list(o);
  return rc != 0 ? rc : mpi_list_append(o, &v, deadline);
}

int mp_list_get (mp_object *o, size_t index, void *value, size_t room, size_t *size, int64_t deadline) {
  struct array a;
  struct view v;
  int rc = check_list(o);
  if (rc == 0) rc = begin(o, &a, deadline);
  if (rc != 0) return rc;
  rc = position(&a, index > INT64_MAX ? -1 : (int64_t)index);
  if (rc == MP_EEMPTY) rc = mpi_fail(MP_EEMPTY, "the position is the one past the end");
  if (rc == 0) rc = view_at(store(o), &a, (uint64_t)index - 1, &v);
  if (rc == 0 && v.r->bytes[0] != MPI_ITEM_STR) rc = mpi_fail(MP_EMISUSE, "the item at this position is not a string");
  if (rc == 0) {
    *size = v.size - 1;
    if (*size > room) rc = mpi_fail(MP_E2BIG, "the value has %zu bytes", *size);
    else memcpy(value, v.r->bytes + 1, *size);
  }
  return finish(o, rc);
}

int mp_list_count (mp_object *o, size_t *n, int64_t deadline) {
  uint64_t count = 0;
  int rc = check_list(o);
  if (rc == 0) rc = mpi_list_count(o, &count, deadline);
  if (rc == 0) *n = (size_t)count;
  return rc;
}
