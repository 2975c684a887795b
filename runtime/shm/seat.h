/* seat.h -- places in an object that a thread takes to say "I am here", and that are empty again when it dies.
** What     seat i is a robust lock word (shm/mutex.h). Everybody sees by a load whether its sitter lives, and may sleep on the word:
**          its sitter's rising or death changes it and wakes one sleeper, if MPI_LOCK_WAITERS was set in it before.
** Memory   two seats to a page of the segment, from file offset `off` on, at page offsets MPI_SEG_WORD0 and MPI_SEG_WORD1. Pages come into being
**          when first taken. To sit, a thread needs the page mapped with a private one behind it (base/robust.h): such a *window*
**          is made on first use and kept by the handle until it goes. A taken seat retains the handle.
** Private  `mine` knows which thread of this process took a seat; shared memory alone is not believed.
** Threads  any; a forked child sits nowhere, whatever its parent does.
** Blocks   nothing: taking polls.
** Death    the kernel empties the seat. The word's owner bits are 0 then, as after rising; MPI_LOCK_DIED is not relied upon.
** Errors   MP_EFULL: every seat is taken.
*/
#ifndef MPI_SEAT_H
#define MPI_SEAT_H

#include "shm/lock.h"

struct mpi_seats {
  mp_object *o;
  size_t off; /* of seat 0's page in the file */
  int n;
  char *_Atomic *windows; /* one a page; NULL: not mapped yet */
  mpi_a32 *mine;          /* one a seat */
};

/* Bytes of file that n seats need; whole pages. */
static inline size_t mpi_seats_size (int n) {
  return (size_t)((n + 1) / 2) * MPI_PAGE;
}

/* In attach and detach. `off` is a multiple of the page and not 0. */
int mpi_seats_init (struct mpi_seats *s, mp_object *o, size_t off, int n);
void mpi_seats_fini (struct mpi_seats *s);

/* Seat i's word in the object's main mapping: to look at and to sleep on. */
static inline mpi_a32 *mpi_seat_word (const struct mpi_seats *s, int i) {
  char *page = mpi_seg_at(&s->o->seg, s->off + (size_t)(i / 2) * MPI_PAGE);
  return (mpi_a32 *)(void *)(page + (i % 2 ? MPI_SEG_WORD1 : MPI_SEG_WORD0));
}

static inline int mpi_seat_taken (const struct mpi_seats *s, int i) {
  return (mpi_load(mpi_seat_word(s, i)) & MPI_LOCK_TID) != 0;
}

/* Takes seat i: 0 (also after a dead sitter), MP_EFULL if somebody sits there, MP_ENOMEM, MP_ESYS. */
int mpi_seat_take (struct mpi_seats *s, int i);
/* Takes the first free one below `limit`; gives its number. */
int mpi_seat_find (struct mpi_seats *s, int limit);
int mpi_seat_mine (const struct mpi_seats *s, int i);
/* Rises. MP_ENOTOWNER, without a sentence, if somebody scribbled over the word. */
int mpi_seat_leave (struct mpi_seats *s, int i);

/* For who wants to sleep until seat i's sitter goes: marks the word and gives the value to sleep on; 0: nobody sits there. */
uint32_t mpi_seat_watch (const struct mpi_seats *s, int i);

#endif
