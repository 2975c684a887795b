#include "shm/value.h"

#include <math.h>
#include <string.h>

#include "base/err.h"

#define VALUE_CELL 64u
#define VALUE_CODE 72u

static const struct code {
  char code;
  char kind;
  char width;
  char is_signed;
} codes[] = {{'c', 'c', 1, 0}, {'b', 'i', 1, 1}, {'B', 'i', 1, 0}, {'h', 'i', 2, 1}, {'H', 'i', 2, 0}, {'i', 'i', 4, 1}, {'I', 'i', 4, 0},
             {'l', 'i', 8, 1}, {'L', 'i', 8, 0}, {'q', 'i', 8, 1}, {'Q', 'i', 8, 0}, {'f', 'f', 4, 0}, {'d', 'f', 8, 0}, {'?', '?', 1, 0}};

static const struct code *code_of (int code) {
  static const signed char at['q' + 1] = {
    ['c'] = 1, ['b'] = 2, ['B'] = 3, ['h'] = 4, ['H'] = 5, ['i'] = 6, ['I'] = 7, ['l'] = 8, ['L'] = 9, ['q'] = 10, ['Q'] = 11,
    ['f'] = 12, ['d'] = 13, ['?'] = 14};
  return code < 0 || code > 'q' || at[code] == 0 ? NULL : &codes[at[code] - 1];
}

int mpi_code_width (int code) {
  const struct code *c = code_of(code);
  return c == NULL ? 0 : c->width;
}

/* ---- scalars and cells ---- */

static int encode_integer (const struct code *c, int64_t v, uint64_t *bits) {
  int64_t least = 0, most = INT64_MAX;
  if (c->is_signed) {
    least = c->width == 8 ? INT64_MIN : -((int64_t)1 << (8 * c->width - 1));
    most = c->width == 8 ? INT64_MAX : ((int64_t)1 << (8 * c->width - 1)) - 1;
  } else if (c->width < 8) {
    most = ((int64_t)1 << (8 * c->width)) - 1;
  }
  if (v < least || v > most)
    return mpi_fail(MP_ERANGE, "%lld is out of range for type '%c' (%lld to %lld)", (long long)v, c->code, (long long)least, (long long)most);
  *bits = (uint64_t)v;
  if (c->width < 8) *bits &= ((uint64_t)1 << (8 * c->width)) - 1;
  return 0;
}

static int encode_float (const struct code *c, double v, uint64_t *bits) {
  if (c->width == 4) {
    float f = (float)v;
    uint32_t b;
    if (isinf(f) && !isinf(v)) return mpi_fail(MP_ERANGE, "%.17g is out of range for type 'f'", v);
    memcpy(&b, &f, 4);
    *bits = b;
  } else {
    memcpy(bits, &v, 8);
  }
  return 0;
}

int mpi_cell_encode (char code, mp_scalar v, uint64_t *bits) {
  const struct code *c = code_of(code);
  if (c == NULL) return mpi_fail(MP_EMISUSE, "'%c' is no type code", code);
  if (c->kind == 'f') {
    if (v.kind == 'i') v.f = (double)v.i;
    else if (v.kind != 'f') return mpi_fail(MP_EMISUSE, "type '%c' holds numbers", code);
    return encode_float(c, v.f, bits);
  }
  if (c->kind == 'i') {
    if (v.kind == 'f') {
      if (!(v.f >= -9223372036854775808.0 && v.f < 9223372036854775808.0)) return mpi_fail(MP_ERANGE, "%.17g is out of range for type '%c'", v.f, code);
      if (floor(v.f) != v.f) return mpi_fail(MP_EMISUSE, "type '%c' holds integers, %.17g is none", code, v.f);
      v.i = (int64_t)v.f;
    } else if (v.kind != 'i') {
      return mpi_fail(MP_EMISUSE, "type '%c' holds integers", code);
    }
    return encode_integer(c, v.i, bits);
  }
  if (v.kind != c->kind) return mpi_fail(MP_EMISUSE, c->kind == 'c' ? "type 'c' holds strings of one byte" : "type '?' holds booleans");
  *bits = c->kind == '?' ? (uint64_t)(v.i != 0) : (uint64_t)(v.i & 0xff);
  return 0;
}

mp_scalar mpi_cell_decode (char code, uint64_t bits) {
  const struct code *c = code_of(code);
  mp_scalar v = {0, 0, 0};
  v.kind = c->kind;
  if (c->kind == 'f') {
    if (c->width == 4) {
      uint32_t b = (uint32_t)bits;
      float f;
      memcpy(&f, &b, 4);
      v.f = (double)f;
    } else {
      memcpy(&v.f, &bits, 8);
    }
  } else if (c->kind == '?') {
    v.i = bits != 0; /* a peer may have written any byte */
  } else {
    v.i = (int64_t)bits;
    if (c->is_signed && c->width < 8) {
      int shift = 64 - 8 * c->width;
      v.i = (int64_t)(bits << shift) >> shift;
    } else if (!c->is_signed && v.i < 0) {
      v.i = INT64_MAX; /* only a peer that breaks the rules writes this */
    }
  }
  return v;
}

/* One load, store or compare-and-swap of the cell's width. Sequentially consistent: a script that sets one value and reads another must
** see what it expects. */
uint64_t mpi_cell_load (const struct mpi_cells *c, uint64_t i) {
  void *p = c->first + i * (unsigned)c->width;
  switch (c->width) {
    case 1: return mpi_load((mpi_a8 *)p);
    case 2: return mpi_load((mpi_a16 *)p);
    case 4: return mpi_load((mpi_a32 *)p);
    default: return mpi_load((mpi_a64 *)p);
  }
}

void mpi_cell_store (const struct mpi_cells *c, uint64_t i, uint64_t bits) {
  void *p = c->first + i * (unsigned)c->width;
  switch (c->width) {
    case 1: mpi_store((mpi_a8 *)p, (uint8_t)bits); break;
    case 2: mpi_store((mpi_a16 *)p, (uint16_t)bits); break;
    case 4: mpi_store((mpi_a32 *)p, (uint32_t)bits); break;
    default: mpi_store((mpi_a64 *)p, bits); break;
  }
}

static int swap_bits (const struct mpi_cells *c, uint64_t i, uint64_t *seen, uint64_t bits) {
  void *p = c->first + i * (unsigned)c->width;
  int done;
  switch (c->width) {
    case 1: { uint8_t s = (uint8_t)*seen; done = mpi_cas((mpi_a8 *)p, &s, (uint8_t)bits); *seen = s; break; }
    case 2: { uint16_t s = (uint16_t)*seen; done = mpi_cas((mpi_a16 *)p, &s, (uint16_t)bits); *seen = s; break; }
    case 4: { uint32_t s = (uint32_t)*seen; done = mpi_cas((mpi_a32 *)p, &s, (uint32_t)bits); *seen = s; break; }
    default: done = mpi_cas((mpi_a64 *)p, seen, bits); break;
  }
  return done;
}

static int sum (char code, mp_scalar now, mp_scalar by, mp_scalar *out) {
  if (now.kind == 'i') {
    uint64_t bits;
    int64_t i;
    if (by.kind == 'f') {
      if (!(by.f >= -9223372036854775808.0 && by.f < 9223372036854775808.0) || floor(by.f) != by.f)
        return mpi_fail(MP_EMISUSE, "type '%c' holds integers, %.17g is none", code, by.f);
      i = (int64_t)by.f;
    } else {
      i = by.i;
    }
    if (__builtin_add_overflow(now.i, i, &out->i) || mpi_cell_encode(code, *out, &bits) != 0)
      return mpi_fail(MP_ERANGE, "%lld + %lld is out of range for type '%c'", (long long)now.i, (long long)i, code);
    return 0;
  }
  if (by.kind == 'i') by.f = (double)by.i;
  out->f = now.f + by.f;
  if (code == 'f' && !isinf(out->f)) {
    float f = (float)out->f;
    out->f = (double)f;
  }
  if (isinf(out->f) && !isinf(now.f) && !isinf(by.f)) return mpi_fail(MP_ERANGE, "%.17g + %.17g is out of range for type '%c'", now.f, by.f, code);
  return 0;
}

int mpi_cell_add (const struct mpi_cells *c, uint64_t i, mp_scalar by, mp_scalar *out) {
  uint64_t seen, bits;
  if (c->kind != 'i' && c->kind != 'f') return mpi_fail(MP_EMISUSE, "type '%c' is no number", c->code);
  if (by.kind != 'i' && by.kind != 'f') return mpi_fail(MP_EMISUSE, "only numbers can be added");
  seen = mpi_cell_load(c, i);
  for (;;) {
    mp_scalar now = mpi_cell_decode(c->code, seen), next = now;
    int rc = sum(c->code, now, by, &next);
    if (rc == 0) rc = mpi_cell_encode(c->code, next, &bits);
    if (rc != 0) return rc;
    if (swap_bits(c, i, &seen, bits)) {
      *out = next;
      return 0;
    }
  }
}

/* Equal to who looks: two zeros are, and so are two nans, or a loop on cas could not get rid of one. */
static int same (mp_scalar a, mp_scalar b) {
  if (a.kind != 'f') return a.i == b.i;
  return (a.f >= b.f && a.f <= b.f) || (isnan(a.f) && isnan(b.f));
}

int mpi_cell_cas (const struct mpi_cells *c, uint64_t i, mp_scalar old, mp_scalar new_value, mp_scalar *now) {
  uint64_t bits, want, seen;
  int rc = mpi_cell_encode(c->code, old, &want);
  if (rc == 0) rc = mpi_cell_encode(c->code, new_value, &bits);
  if (rc != 0) return rc;
  old = mpi_cell_decode(c->code, want);
  seen = mpi_cell_load(c, i);
  for (;;) {
    *now = mpi_cell_decode(c->code, seen);
    if (!same(*now, old)) return 0;
    if (swap_bits(c, i, &seen, bits)) return 1;
  }
}

/* ---- Value ---- */

static struct mpi_cells *cells (mp_object *o) {
  return (struct mpi_cells *)o;
}

static int attach_cells (struct mpi_object *o, int code, size_t first, uint64_t count) {
  struct mpi_cells *c = cells(o);
  const struct code *d = code_of(code);
  if (d == NULL || count == 0 || count > (o->seg.size - first) / (unsigned)d->width)
    return mpi_fail(MP_ECORRUPT, "a %s that arrived has an impossible type or length", o->type->name);
  c->first = o->seg.base + first;
  c->count = count;
  c->width = d->width;
  c->code = d->code;
  c->kind = d->kind;
  return 0;
}

static int attach_value (struct mpi_object *o) {
  return attach_cells(o, mpi_load((mpi_a8 *)(void *)(o->seg.base + VALUE_CODE)), VALUE_CELL, 1);
}

const struct mpi_type mpi_type_value = {MPI_T_VALUE, "Value", sizeof(struct mpi_cells), 0, 1, attach_value, NULL};

static int publish (struct mpi_object *o, mp_object **out) {
  int rc = mpi_object_publish(o);
  if (rc != 0) {
    mpi_object_abandon(o);
    return rc;
  }
  *out = o;
  return 0;
}

int mp_value_new (char code, mp_object **out) {
  struct mpi_object *o;
  int rc;
  if (code_of(code) == NULL) return mpi_fail(MP_EMISUSE, "the type codes are c b B h H i I l L q Q f d ?");
  rc = mpi_object_new(&mpi_type_value, MPI_PAGE, &o);
  if (rc != 0) return rc;
  o->seg.base[VALUE_CODE] = code;
  return publish(o, out);
}

static int check_type (const mp_object *o, const struct mpi_type *t) {
  return o != NULL && o->type == t ? 0 : mpi_fail(MP_EMISUSE, "the handle is not one of a %s", t->name);
}

int mp_value_get (mp_object *o, mp_scalar *out) {
  int rc = check_type(o, &mpi_type_value);
  if (rc == 0) *out = mpi_cell_decode(cells(o)->code, mpi_cell_load(cells(o), 0));
  return rc;
}

int mp_value_set (mp_object *o, mp_scalar v) {
  uint64_t bits;
  int rc = check_type(o, &mpi_type_value);
  if (rc == 0) rc = mpi_cell_encode(cells(o)->code, v, &bits);
  if (rc == 0) mpi_cell_store(cells(o), 0, bits);
  return rc;
}

int mp_value_add (mp_object *o, mp_scalar by, mp_scalar *out) {
  int rc = check_type(o, &mpi_type_value);
  return rc != 0 ? rc : mpi_cell_add(cells(o), 0, by, out);
}

int mp_value_cas (mp_object *o, mp_scalar old, mp_scalar new_value, mp_scalar *now) {
  int rc = check_type(o, &mpi_type_value);
  return rc != 0 ? rc : mpi_cell_cas(cells(o), 0, old, new_value, now);
}

/* ---- Array ---- */

#define ARRAY_CODE 64u
#define ARRAY_COUNT 72u
#define ARRAY_CELLS 128u
#define ARRAY_MAX ((uint64_t)1 << 45) /* bytes; the address space has 2^47 */

static int attach_array (struct mpi_object *o) {
  return attach_cells(o, mpi_load((mpi_a8 *)(void *)(o->seg.base + ARRAY_CODE)), ARRAY_CELLS,
                      mpi_load((mpi_a64 *)(void *)(o->seg.base + ARRAY_COUNT)));
}

const struct mpi_type mpi_type_array = {MPI_T_ARRAY, "Array", sizeof(struct mpi_cells), 0, 1, attach_array, NULL};

int mp_array_new (char code, size_t count, mp_object **out) {
  const struct code *c = code_of(code);
  struct mpi_object *o;
  int rc;
  if (c == NULL) return mpi_fail(MP_EMISUSE, "the type codes are c b B h H i I l L q Q f d ?");
  if (count == 0) return mpi_fail(MP_EMISUSE, "an array has at least one element");
  if (count > ARRAY_MAX / (unsigned)c->width) return mpi_fail(MP_ENOMEM, "an array of that size does not fit the address space");
  rc = mpi_object_new(&mpi_type_array, ARRAY_CELLS + count * (unsigned)c->width, &o);
  if (rc != 0) return rc;
  o->seg.base[ARRAY_CODE] = code;
  *(uint64_t *)(void *)(o->seg.base + ARRAY_COUNT) = count;
  return publish(o, out);
}

size_t mp_array_count (mp_object *o) {
  return check_type(o, &mpi_type_array) == 0 ? (size_t)cells(o)->count : 0;
}

static int check_index (mp_object *o, size_t index) {
  int rc = check_type(o, &mpi_type_array);
  if (rc == 0 && (index < 1 || index > cells(o)->count))
    rc = mpi_fail(MP_ERANGE, "index %zu is out of range (1 to %llu)", index, (unsigned long long)cells(o)->count);
  return rc;
}

int mp_array_get (mp_object *o, size_t index, mp_scalar *out) {
  int rc = check_index(o, index);
  if (rc == 0) *out = mpi_cell_decode(cells(o)->code, mpi_cell_load(cells(o), index - 1));
  return rc;
}

int mp_array_set (mp_object *o, size_t index, mp_scalar v) {
  uint64_t bits;
  int rc = check_index(o, index);
  if (rc == 0) rc = mpi_cell_encode(cells(o)->code, v, &bits);
  if (rc == 0) mpi_cell_store(cells(o), index - 1, bits);
  return rc;
}

int mp_array_add (mp_object *o, size_t index, mp_scalar by, mp_scalar *out) {
  int rc = check_index(o, index);
  return rc != 0 ? rc : mpi_cell_add(cells(o), index - 1, by, out);
}
