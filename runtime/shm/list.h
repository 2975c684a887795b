/* list.h -- a sequence of items in shared memory, without a server.
** What     items (item.h) at positions from 1. At the end everything is cheap; in the middle the slots behind are moved.
** Layout   an undo-logged store (undo.h): an array of slots (offsets of records {size, item}) with room to grow, published by one word.
** Sharing  threads and processes; each call is atomic. mpi_store_hold makes several one.
** Blocks   until the lock is had, at most until the deadline; 0 polls.
** Memory   nothing allocated; results are copied to the caller's buffer ([kind][payload]).
** Death    of a user inside a call: the old state or the new.
** Errors   MP_EEMPTY the position is the one past the end; MP_ERANGE it is no position; MP_E2BIG the buffer is too small (*size says what is
**          needed, nothing has changed); MP_ENOMEM full; MP_ECORRUPT; MP_ETIMEDOUT, MP_EINTR.
*/
#ifndef MPI_LIST_H
#define MPI_LIST_H

#include "shm/heap.h"
#include "shm/item.h"

extern const struct mpi_type mpi_type_list;

int mpi_list_get (mp_object *o, int64_t at, void *buf, size_t room, size_t *size, int64_t deadline);
int mpi_list_set (mp_object *o, int64_t at, const struct mpi_item *v, int64_t deadline); /* one past the end appends */
/* Inserts n packed items (item.h, `size` bytes in all) before position `at`; 0: at the end. */
int mpi_list_insert (mp_object *o, int64_t at, const void *packed, size_t size, uint64_t n, int64_t deadline);
int mpi_list_append (mp_object *o, const struct mpi_item *v, int64_t deadline);
int mpi_list_pop (mp_object *o, int64_t at, void *buf, size_t room, size_t *size, int64_t deadline); /* 0: the last */
/* The first item that equals this one ([kind][payload]). index: its position or 0. remove: 1 removed, 0 none. */
int mpi_list_index (mp_object *o, const void *item, size_t size, uint64_t *at, int64_t deadline);
int mpi_list_remove (mp_object *o, const void *item, size_t size, int64_t deadline);
int mpi_list_reverse (mp_object *o, int64_t deadline);
int mpi_list_clear (mp_object *o, int64_t deadline);
int mpi_list_count (mp_object *o, uint64_t *n, int64_t deadline);
/* All items, packed, at one moment. slots (may be NULL): room for slots_room of them; what mpi_list_reorder wants back. */
int mpi_list_snapshot (mp_object *o, void *buf, size_t room, size_t *size, uint64_t *slots, uint64_t slots_room, uint64_t *n, int64_t deadline);
/* Puts item order[i] (from 1) at position i + 1, if the list is still as the slots say, else MP_EMISUSE. `order` is a permutation;
** `scratch` n bytes. */
int mpi_list_reorder (mp_object *o, const uint64_t *slots, const uint64_t *order, unsigned char *scratch, uint64_t n, int64_t deadline);

int mpi_list_check (mp_object *o); /* for tests */

#endif
