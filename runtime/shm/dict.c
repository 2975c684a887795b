#include "shm/dict.h"

#include "base/err.h"

#ifdef MP_HARD
#define FIRST_CAP 2u /* growth at every turn */
#else
#define FIRST_CAP 8u
#endif
#define RECORD_HEADER 8u
#define IN_PLACE_MAX 64u /* values up to this are overwritten where they are */
#define DEAD 1u          /* a slot whose entry was removed: probing goes on */

enum { TABLE, CAP, COUNT, FILLED, BYTES }; /* root->word: offset; slots; entries; entries and dead slots; sizes of all keys and values */

struct slot {
  uint64_t hash;
  uint64_t record; /* 0: empty, DEAD, or an offset */
};

struct record {
  uint32_t ksize;
  uint32_t vsize;
  char bytes[]; /* key, value */
};

struct view { /* a record, checked; the sizes are private copies */
  struct record *r;
  uint64_t off;
  uint32_t ksize;
  uint32_t vsize;
};

struct table { /* the same */
  struct slot *slot;
  uint64_t cap;
};

struct found {
  struct slot *slot; /* the key's, or where it would go (NULL: nowhere) */
  struct view v;     /* v.r NULL: absent */
};

const struct mpi_type mpi_type_dict = {MPI_T_DICT, "Dict", sizeof(struct mpi_store), MPI_SEG_LOCKPAGE, 1, mpi_store_attach, NULL};

static struct mpi_store *store (mp_object *o) {
  return (struct mpi_store *)o;
}

static uint64_t word (const struct mpi_store *s, int i) {
  return mpi_peek(&s->root->word[i]);
}

static void put_word (struct mpi_store *s, int i, uint64_t v) {
  mpi_put(s, &s->root->word[i], v);
}

/* ---- hashing ---- */

static uint64_t fold (uint64_t a, uint64_t b) {
  __extension__ unsigned __int128 p = (__extension__ (unsigned __int128)a) * b;
  return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t hash_item (const struct mpi_item *key, uint64_t seed) {
  const char *p = key->data;
  size_t n = key->size;
  uint64_t h = seed ^ fold(n + 0x9e3779b97f4a7c15u, key->kind + 0xd1b54a32d192ed03u), w;
  for (; n >= 8; n -= 8, p += 8) {
    memcpy(&w, p, 8);
    h = fold(h ^ w, 0xa0761d6478bd642fu);
  }
  if (n > 0) {
    w = 0;
    memcpy(&w, p, n);
    h = fold(h ^ w, 0xe7037ed1a0b428dbu);
  }
  return fold(h ^ 0x8ebc6af09c88c6e3u, 0x589965cc75374cc3u);
}

/* ---- looking ---- */

static int view_record (struct mpi_store *s, uint64_t off, struct view *v) {
  uint64_t room = mpi_heap_room(s, off);
  if (room < RECORD_HEADER) return mpi_undo_corrupt(s);
  v->off = off;
  v->r = mpi_store_at(s, off);
  v->ksize = mpi_peek32(&v->r->ksize);
  v->vsize = mpi_peek32(&v->r->vsize);
  if (v->ksize == 0 || v->vsize == 0 || (uint64_t)v->ksize + v->vsize > room - RECORD_HEADER) {
    v->r = NULL;
    return mpi_undo_corrupt(s);
  }
  return 0;
}

static int view_table (struct mpi_store *s, struct table *t) {
  uint64_t off = word(s, TABLE);
  t->cap = word(s, CAP);
  t->slot = NULL;
  if (t->cap == 0) return 0;
  if ((t->cap & (t->cap - 1)) != 0 || mpi_heap_room(s, off) / sizeof(struct slot) < t->cap) return mpi_undo_corrupt(s);
  t->slot = mpi_store_at(s, off);
  return 0;
}

/* Before all of a table is walked: was it ever written? A new one is cleared, so its pages exist; a claimed one would get them from us. */
static int table_exists (struct mpi_store *s, const struct table *t) {
  return mpi_seg_holds(&s->o.seg, t->cap * sizeof(struct slot)) ? 0 : mpi_undo_corrupt(s);
}

static int same_key (const struct view *v, const struct mpi_item *key) {
  return v->ksize == key->size + 1 && v->r->bytes[0] == (char)key->kind && memcmp(v->r->bytes + 1, key->data, key->size) == 0;
}

static int find (struct mpi_store *s, const struct mpi_item *key, uint64_t hash, struct found *f) {
  struct table t;
  uint64_t i, n;
  int rc = view_table(s, &t);
  memset(f, 0, sizeof *f);
  if (rc != 0 || t.cap == 0) return rc;
  for (n = 0, i = hash & (t.cap - 1); n < t.cap; n++, i = (i + 1) & (t.cap - 1)) {
    struct slot *p = &t.slot[i];
    uint64_t record = mpi_peek(&p->record);
    if (record == 0) {
      if (f->slot == NULL) f->slot = p;
      return 0;
    }
    if (record == DEAD) {
      if (f->slot == NULL) f->slot = p;
    } else if (mpi_peek(&p->hash) == hash) {
      rc = view_record(s, record, &f->v);
      if (rc != 0) return rc;
      if (same_key(&f->v, key)) {
        f->slot = p;
        return 0;
      }
      f->v.r = NULL;
    }
  }
  return 0;
}

/* The value into the caller's buffer. */
static int give (struct mpi_store *s, const struct view *v, void *buf, size_t room, size_t *size) {
  *size = v->vsize;
  if (v->vsize > room) return mpi_seg_holds(&s->o.seg, v->vsize) ? MP_E2BIG : mpi_undo_corrupt(s);
  memcpy(buf, v->r->bytes + v->ksize, v->vsize);
  return 0;
}

static int begin (mp_object *o, const struct mpi_item *key, int64_t deadline, struct found *f, uint64_t *hash) {
  struct mpi_store *s = store(o);
  int rc = mpi_store_enter(s, deadline);
  if (rc != 0) return rc;
  *hash = hash_item(key, s->root->seed);
  rc = find(s, key, *hash, f);
  if (rc == 0) return 0;
  rc = mpi_undo_end(s, rc);
  mpi_store_leave(s);
  return rc;
}

static int finish (mp_object *o, int rc) {
  rc = mpi_undo_end(store(o), rc);
  mpi_store_leave(store(o));
  return rc;
}

/* ---- changing ---- */

/* A table for `count` entries, at most half full. Everything of the old one is copied; one word publishes. */
static int rebuild (struct mpi_store *s, uint64_t count) {
  struct table t;
  uint64_t cap = FIRST_CAP, off, i, entries = 0, old = word(s, TABLE);
  struct slot *slot;
  int rc = view_table(s, &t);
  if (rc == 0) rc = table_exists(s, &t);
  if (rc != 0) return rc;
  if (count > t.cap + 1) return mpi_undo_corrupt(s); /* a wild count would not let the next loop end */
  while (cap / 2 < count) cap *= 2;
  off = mpi_heap_alloc(s, cap * sizeof(struct slot));
  if (off == 0) return s->err;
  slot = mpi_store_at(s, off);
  memset(slot, 0, cap * sizeof *slot);
  for (i = 0; i < t.cap; i++) {
    struct slot e;
    uint64_t k, n;
    e.hash = mpi_peek(&t.slot[i].hash);
    e.record = mpi_peek(&t.slot[i].record);
    if (e.record <= DEAD) continue;
    if (++entries >= cap) return mpi_undo_corrupt(s); /* an empty slot must remain, or the next loop would not end */
    for (k = e.hash & (cap - 1), n = 0; mpi_peek(&slot[k].record) != 0; k = (k + 1) & (cap - 1))
      if (++n >= cap) return mpi_undo_corrupt(s); /* a peer fills what we have just cleared */
    slot[k] = e;
  }
  if (entries != word(s, COUNT)) return mpi_undo_corrupt(s);
  MPI_POINT("dict.rebuild.filled");
  put_word(s, TABLE, off);
  put_word(s, CAP, cap);
  put_word(s, FILLED, entries);
  if (t.cap != 0) mpi_heap_free(s, old);
  return s->err;
}

static uint64_t new_record (struct mpi_store *s, const struct mpi_item *key, const struct mpi_item *value) {
  uint64_t off = mpi_heap_alloc(s, RECORD_HEADER + key->size + value->size + 2);
  struct record *r;
  if (off == 0) return 0;
  r = mpi_store_at(s, off);
  r->ksize = (uint32_t)key->size + 1;
  r->vsize = (uint32_t)value->size + 1;
  r->bytes[0] = (char)key->kind;
  memcpy(r->bytes + 1, key->data, key->size);
  r->bytes[1 + key->size] = (char)value->kind;
  memcpy(r->bytes + 2 + key->size, value->data, value->size);
  MPI_POINT("dict.record.written");
  return off;
}

static int too_big (const struct mpi_item *i) {
  if (i == NULL || i->size < MPI_ITEM_MAX) return 0;
  return mpi_fail(MP_E2BIG, "a key or value of a container is at most 2 GiB");
}

static int insert (struct mpi_store *s, struct found *f, const struct mpi_item *key, uint64_t hash, const struct mpi_item *value) {
  uint64_t off = new_record(s, key, value), filled = word(s, FILLED), cap = word(s, CAP);
  if (off == 0) return s->err;
  if (f->slot == NULL || filled + 1 > cap - cap / 4) { /* the record comes first: rebuild frees */
    int rc = rebuild(s, word(s, COUNT) + 1);
    if (rc == 0) rc = find(s, key, hash, f);
    if (rc != 0) return rc;
    if (f->slot == NULL || f->v.r != NULL) return mpi_undo_corrupt(s);
  }
  if (mpi_peek(&f->slot->record) == 0) put_word(s, FILLED, word(s, FILLED) + 1);
  mpi_put(s, &f->slot->hash, hash);
  mpi_put(s, &f->slot->record, off);
  put_word(s, COUNT, word(s, COUNT) + 1);
  put_word(s, BYTES, word(s, BYTES) + key->size + value->size + 2);
  return s->err;
}

static int replace (struct mpi_store *s, struct found *f, const struct mpi_item *key, const struct mpi_item *value) {
  char *old = f->v.r->bytes + f->v.ksize;
  uint64_t off;
  if (value->size + 1 == f->v.vsize && value->size <= IN_PLACE_MAX) {
    if (!mpi_undo_save(s, old, f->v.vsize)) return s->err;
    old[0] = (char)value->kind;
    MPI_POINT("dict.replace.half");
    memcpy(old + 1, value->data, value->size);
    MPI_POINT("dict.replace.written");
    return 0;
  }
  off = new_record(s, key, value);
  if (off == 0) return s->err;
  mpi_put(s, &f->slot->record, off);
  put_word(s, BYTES, word(s, BYTES) + value->size + 1 - f->v.vsize);
  mpi_heap_free(s, f->v.off);
  return s->err;
}

static int erase (struct mpi_store *s, struct found *f) {
  struct table t;
  uint64_t next;
  int rc = view_table(s, &t);
  if (rc != 0) return rc;
  next = (uint64_t)(f->slot - t.slot + 1) & (t.cap - 1);
  if (mpi_peek(&t.slot[next].record) == 0) { /* nobody probes past this slot */
    mpi_put(s, &f->slot->record, 0);
    put_word(s, FILLED, word(s, FILLED) - 1);
  } else {
    mpi_put(s, &f->slot->record, DEAD);
  }
  put_word(s, COUNT, word(s, COUNT) - 1);
  put_word(s, BYTES, word(s, BYTES) - f->v.ksize - f->v.vsize);
  mpi_heap_free(s, f->v.off);
  return s->err;
}

/* After a removal was committed: a table that has become far too large is made smaller, as a change of its own. If that
** fails the table stays as it is. */
static void shrink (struct mpi_store *s) {
  uint64_t cap = word(s, CAP), count = word(s, COUNT);
  if (cap <= 1024 || count > cap / 16) return;
  mpi_undo_begin(s);
  (void)mpi_undo_end(s, rebuild(s, count + 1));
}

int mpi_dict_get (mp_object *o, const struct mpi_item *key, void *buf, size_t room, size_t *size, int64_t deadline) {
  struct found f;
  uint64_t hash;
  int rc = begin(o, key, deadline, &f, &hash);
  if (rc != 0) return rc;
  rc = f.v.r == NULL ? MP_EEMPTY : give(store(o), &f.v, buf, room, size);
  mpi_store_leave(store(o)); /* nothing was logged */
  return rc;
}

int mpi_dict_set (mp_object *o, const struct mpi_item *key, const struct mpi_item *value, int64_t deadline) {
  struct mpi_store *s = store(o);
  struct found f;
  uint64_t hash;
  int rc = too_big(key);
  if (rc == 0) rc = too_big(value);
  if (rc == 0) rc = begin(o, key, deadline, &f, &hash);
  if (rc != 0) return rc;
  if (value != NULL) return finish(o, f.v.r != NULL ? replace(s, &f, key, value) : insert(s, &f, key, hash, value));
  if (f.v.r != NULL) {
    rc = mpi_undo_end(s, erase(s, &f));
    if (rc == 0) shrink(s);
  }
  mpi_store_leave(s);
  return rc;
}

int mpi_dict_setdefault (mp_object *o, const struct mpi_item *key, const struct mpi_item *value, void *buf, size_t room, size_t *size,
                         int64_t deadline) {
  struct mpi_store *s = store(o);
  struct found f;
  uint64_t hash;
  int rc = too_big(key);
  if (rc == 0) rc = too_big(value);
  if (rc == 0) rc = begin(o, key, deadline, &f, &hash);
  if (rc != 0) return rc;
  if (f.v.r != NULL) return finish(o, give(s, &f.v, buf, room, size));
  rc = finish(o, insert(s, &f, key, hash, value));
  return rc == 0 ? 1 : rc;
}

int mpi_dict_pop (mp_object *o, const struct mpi_item *key, void *buf, size_t room, size_t *size, int64_t deadline) {
  struct mpi_store *s = store(o);
  struct found f;
  uint64_t hash;
  int rc = begin(o, key, deadline, &f, &hash);
  if (rc != 0) return rc;
  rc = f.v.r == NULL ? MP_EEMPTY : give(s, &f.v, buf, room, size);
  if (rc == 0) rc = mpi_undo_end(s, erase(s, &f));
  if (rc == 0) shrink(s);
  mpi_store_leave(s);
  return rc;
}

static int sum (struct mpi_number *a, const struct mpi_number *b) { /* *a += *b, as Lua adds, but overflow is an error */
  if (!a->is_float && !b->is_float) {
    if (__builtin_add_overflow(a->i, b->i, &a->i)) return mpi_fail(MP_ERANGE, "the sum does not fit an integer");
    return 0;
  }
  a->d = (a->is_float ? a->d : (double)a->i) + (b->is_float ? b->d : (double)b->i);
  a->is_float = 1;
  return 0;
}

int mpi_dict_incr (mp_object *o, const struct mpi_item *key, struct mpi_number *n, int64_t deadline) {
  struct mpi_store *s = store(o);
  struct mpi_number now;
  struct mpi_item value;
  struct found f;
  uint64_t hash;
  int rc = too_big(key);
  if (rc == 0) rc = begin(o, key, deadline, &f, &hash);
  if (rc != 0) return rc;
  if (f.v.r == NULL) {
    now = *n; /* absent counts as 0 */
  } else if (!mpi_item_number(f.v.r->bytes + f.v.ksize, f.v.vsize, &now)) {
    return finish(o, mpi_fail(MP_EMISUSE, "the value of this key is not a number"));
  } else {
    rc = sum(&now, n);
    if (rc != 0) return finish(o, rc);
  }
  value.kind = now.is_float ? MPI_ITEM_FLOAT : MPI_ITEM_INT;
  value.size = 8;
  value.data = now.is_float ? (const void *)&now.d : (const void *)&now.i;
  rc = finish(o, f.v.r != NULL ? replace(s, &f, key, &value) : insert(s, &f, key, hash, &value));
  if (rc == 0) *n = now;
  return rc;
}

int mpi_dict_clear (mp_object *o, int64_t deadline) {
  struct mpi_store *s = store(o);
  int i, rc = mpi_store_enter(s, deadline);
  if (rc != 0) return rc;
  mpi_heap_reset(s);
  for (i = 0; i <= BYTES; i++) put_word(s, i, 0);
  return finish(o, s->err);
}

int mpi_dict_count (mp_object *o, uint64_t *n, int64_t deadline) {
  struct mpi_store *s = store(o);
  int rc = mpi_store_enter(s, deadline); /* not a bare load: somebody may have died halfway */
  if (rc != 0) return rc;
  *n = word(s, COUNT);
  mpi_store_leave(s);
  return 0;
}

static char *pack (char *to, const char *bytes, uint32_t size) {
  memcpy(to, &size, 4);
  memcpy(to + 4, bytes, size);
  return to + 4 + size;
}

int mpi_dict_snapshot (mp_object *o, void *buf, size_t room, size_t *size, uint64_t *n, int64_t deadline) {
  struct mpi_store *s = store(o);
  struct table t;
  char *to = buf, *end;
  uint64_t i, count, need;
  int rc = mpi_store_enter(s, deadline);
  if (rc != 0) return rc;
  rc = view_table(s, &t);
  if (rc == 0) rc = table_exists(s, &t);
  count = word(s, COUNT);
  need = word(s, BYTES);
  if (rc == 0 && (count > t.cap || need > s->heap_end)) rc = mpi_undo_corrupt(s);
  if (rc != 0) return finish(o, rc);
  need += 8 * count;
  if (need > room) {
    *size = need;
    return finish(o, mpi_seg_holds(&s->o.seg, need / 2) ? MP_E2BIG : mpi_undo_corrupt(s)); /* half: slots may be as large as what they name */
  }
  end = to + need;
  for (i = 0; i < t.cap && rc == 0; i++) {
    struct view v;
    uint64_t record = mpi_peek(&t.slot[i].record);
    if (record <= DEAD) continue;
    rc = view_record(s, record, &v);
    if (rc == 0 && (uint64_t)(end - to) < (uint64_t)v.ksize + v.vsize + 8) rc = mpi_undo_corrupt(s);
    if (rc != 0) break;
    to = pack(to, v.r->bytes, v.ksize);
    to = pack(to, v.r->bytes + v.ksize, v.vsize);
    count--;
  }
  if (rc == 0 && (to != end || count != 0)) rc = mpi_undo_corrupt(s);
  if (rc == 0) {
    *size = need;
    *n = word(s, COUNT);
  }
  return finish(o, rc);
}

/* ---- for tests ---- */

static int wrong (const char *what, uint64_t where) {
  return mpi_fail(MP_ECORRUPT, "dict: %s at %llu", what, (unsigned long long)where);
}

static int check_entry (struct mpi_store *s, const struct slot *p, uint64_t *bytes) {
  struct mpi_item key;
  struct found f;
  struct view v;
  if (view_record(s, p->record, &v) != 0) return wrong("record", p->record);
  key.kind = (uint8_t)v.r->bytes[0];
  key.size = v.ksize - 1;
  key.data = v.r->bytes + 1;
  if (hash_item(&key, s->root->seed) != p->hash) return wrong("hash", p->record);
  if (find(s, &key, p->hash, &f) != 0 || f.slot != p) return wrong("an entry that cannot be found", p->record);
  *bytes += v.ksize + v.vsize;
  return 0;
}

static int check_all (struct mpi_store *s) {
  struct table t;
  uint64_t i, count = 0, filled = 0, bytes = 0;
  int rc = view_table(s, &t);
  if (rc != 0) return wrong("table", word(s, TABLE));
  for (i = 0; i < t.cap; i++) {
    filled += t.slot[i].record != 0;
    if (t.slot[i].record <= DEAD) continue;
    count++;
    rc = check_entry(s, &t.slot[i], &bytes);
    if (rc != 0) return rc;
  }
  if (count != word(s, COUNT)) return wrong("count", count);
  if (filled != word(s, FILLED)) return wrong("count of filled slots", filled);
  if (bytes != word(s, BYTES)) return wrong("count of bytes", bytes);
  return mpi_heap_check(s, count + (t.cap != 0));
}

int mpi_dict_check (mp_object *o) {
  struct mpi_store *s = store(o);
  int rc = mpi_store_enter(s, MP_NEVER);
  if (rc != 0) return rc;
  rc = check_all(s);
  s->err = 0;
  mpi_store_leave(s);
  return rc;
}

/* ---- for C hosts ---- */

int mp_dict_new (mp_object **out) {
  struct mpi_store *s;
  int rc = mpi_store_new(&mpi_type_dict, &s);
  if (rc != 0) return rc;
  rc = mpi_object_publish(&s->o);
  if (rc != 0) {
    mpi_object_abandon(&s->o);
    return rc;
  }
  *out = &s->o;
  return 0;
}

static int check_dict (const mp_object *o) {
  return o != NULL && o->type == &mpi_type_dict ? 0 : mpi_fail(MP_EMISUSE, "the handle is not a dict's");
}

static struct mpi_item string_item (const void *p, size_t size) {
  struct mpi_item i = {MPI_ITEM_STR, size, p};
  return i;
}

int mp_dict_set (mp_object *o, const void *key, size_t key_size, const void *value, size_t value_size, int64_t deadline) {
  struct mpi_item k = string_item(key, key_size), v = string_item(value, value_size);
  int rc = check_dict(o);
  return rc != 0 ? rc : mpi_dict_set(o, &k, &v, deadline);
}

int mp_dict_get (mp_object *o, const void *key, size_t key_size, void *value, size_t room, size_t *size, int64_t deadline) {
  struct mpi_item k = string_item(key, key_size);
  struct mpi_store *s = store(o);
  struct found f;
  uint64_t hash;
  int rc = check_dict(o);
  if (rc == 0) rc = begin(o, &k, deadline, &f, &hash);
  if (rc != 0) return rc;
  if (f.v.r == NULL) {
    rc = mpi_fail(MP_EEMPTY, "no such key");
  } else if (f.v.r->bytes[f.v.ksize] != MPI_ITEM_STR) {
    rc = mpi_fail(MP_EMISUSE, "the value of this key is not a string");
  } else {
    *size = f.v.vsize - 1;
    if (*size > room) rc = mpi_fail(MP_E2BIG, "the value has %zu bytes", *size);
    else memcpy(value, f.v.r->bytes + f.v.ksize + 1, *size);
  }
  mpi_store_leave(s);
  return rc;
}

int mp_dict_remove (mp_object *o, const void *key, size_t key_size, int64_t deadline) {
  struct mpi_item k = string_item(key, key_size);
  int rc = check_dict(o);
  return rc != 0 ? rc : mpi_dict_set(o, &k, NULL, deadline);
}

int mp_dict_incr (mp_object *o, const void *key, size_t key_size, int64_t by, int64_t *sum_out, int64_t deadline) {
  struct mpi_item k = string_item(key, key_size);
  struct mpi_number n = {0, by, 0};
  int rc = check_dict(o);
  if (rc == 0) rc = mpi_dict_incr(o, &k, &n, deadline);
  if (rc == 0) *sum_out = n.is_float ? (int64_t)n.d : n.i;
  return rc;
}

int mp_dict_count (mp_object *o, size_t *n, int64_t deadline) {
  uint64_t count = 0;
  int rc = check_dict(o);
  if (rc == 0) rc = mpi_dict_count(o, &count, deadline);
  if (rc == 0) *n = (size_t)count;
  return rc;
}
