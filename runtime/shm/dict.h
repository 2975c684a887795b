/* dict.h -- a table in shared memory, without a server.
** What     items (item.h) by key. A key is what dict functions get as one: integers, floats without an integer value, booleans, strings.
** Layout   an undo-logged store (undo.h). A table of {hash, record} slots, open addressing; a record is {key size, value size, key, value}.
**          The table doubles into a new block and is published by one word; the cost is spread over the sets.
** Sharing  threads and processes; each call is atomic. mpi_store_hold makes several one.
** Blocks   until the lock is had, at most until the deadline; 0 polls.
** Memory   nothing allocated; results are copied to the caller's buffer ([kind][payload], size counts both).
** Death    of a user inside a call: the old state or the new. What was finished inside a hold stays.
** Errors   MP_EEMPTY no such key; MP_E2BIG the buffer is too small (*size says what is needed, nothing has changed) or the item too large;
**          MP_ENOMEM full; MP_ECORRUPT; MP_ETIMEDOUT, MP_EINTR.
*/
#ifndef MPI_DICT_H
#define MPI_DICT_H

#include "shm/heap.h"
#include "shm/item.h"

extern const struct mpi_type mpi_type_dict;

int mpi_dict_get (mp_object *o, const struct mpi_item *key, void *buf, size_t room, size_t *size, int64_t deadline);
int mpi_dict_set (mp_object *o, const struct mpi_item *key, const struct mpi_item *value, int64_t deadline); /* value NULL: removes; fine if absent */
/* 0: it was there and is in buf; 1: set. */
int mpi_dict_setdefault (mp_object *o, const struct mpi_item *key, const struct mpi_item *value, void *buf, size_t room, size_t *size, int64_t deadline);
int mpi_dict_pop (mp_object *o, const struct mpi_item *key, void *buf, size_t room, size_t *size, int64_t deadline);
/* Adds; *n is the summand and then the sum. MP_EMISUSE: the value is no number. MP_ERANGE: the sum leaves the integers. */
int mpi_dict_incr (mp_object *o, const struct mpi_item *key, struct mpi_number *n, int64_t deadline);
int mpi_dict_clear (mp_object *o, int64_t deadline);
int mpi_dict_count (mp_object *o, uint64_t *n, int64_t deadline);
/* All pairs, packed (item.h): key, value, key, ... as they are at one moment. MP_E2BIG: *size is needed. */
int mpi_dict_snapshot (mp_object *o, void *buf, size_t room, size_t *size, uint64_t *n, int64_t deadline);

int mpi_dict_check (mp_object *o); /* for tests: everything agrees with everything, or MP_ECORRUPT with a sentence */

#endif
