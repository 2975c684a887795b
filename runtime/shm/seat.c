#include "shm/seat.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/err.h"
#include "base/fault.h"

int mpi_seats_init (struct mpi_seats *s, mp_object *o, size_t off, int n) {
  int pages = (n + 1) / 2;
  s->o = o;
  s->off = off;
  s->n = n;
  s->windows = calloc((size_t)pages, sizeof *s->windows);
  s->mine = calloc((size_t)n, sizeof *s->mine);
  if (s->windows == NULL || s->mine == NULL) {
    mpi_seats_fini(s);
    return mpi_fail(MP_ENOMEM, "not enough memory");
  }
  return 0;
}

void mpi_seats_fini (struct mpi_seats *s) {
  int i;
  for (i = 0; s->windows != NULL && i < (s->n + 1) / 2; i++)
    if (s->windows[i] != NULL) (void)munmap(s->windows[i], 2 * MPI_PAGE);
  free((void *)s->windows);
  free((void *)s->mine);
  s->windows = NULL;
  s->mine = NULL;
}

/* The page with a private one behind it. Threads may race to map it; the first one wins. */
static int window (struct mpi_seats *s, int page, char **out) {
  int prot = PROT_READ | PROT_WRITE;
  char *w = atomic_load(&s->windows[page]);
  char *none = NULL;
  if (w == NULL) {
    w = MPI_FAULT_HERE("seat.window.fail") ? MAP_FAILED : mmap(NULL, 2 * MPI_PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (w == MAP_FAILED) return mpi_fail_errno("mmap");
    if (mmap(w, MPI_PAGE, prot, MAP_SHARED | MAP_FIXED, s->o->seg.fd, (off_t)(s->off + (size_t)page * MPI_PAGE)) == MAP_FAILED) {
      int rc = mpi_fail_errno("mmap");
      (void)munmap(w, 2 * MPI_PAGE);
      return rc;
    }
    if (!atomic_compare_exchange_strong(&s->windows[page], &none, w)) {
      (void)munmap(w, 2 * MPI_PAGE);
      w = none;
    }
  }
  *out = w;
  return 0;
}

static mpi_a32 *window_word (char *w, int i) {
  return (mpi_a32 *)(void *)(w + (i % 2 ? MPI_SEG_WORD1 : MPI_SEG_WORD0));
}

int mpi_seat_take (struct mpi_seats *s, int i) {
  char *w = NULL;
  mpi_a32 *word;
  int rc;
  if (mpi_seat_taken(s, i)) return MP_EFULL;
  rc = window(s, i / 2, &w);
  if (rc != 0) return rc;
  word = window_word(w, i);
  rc = mpi_word_take(s->o, word, &s->mine[i], 0);
  if (rc < 0) return rc == MP_ETIMEDOUT || rc == MP_EINTR || rc == MP_EDEADLK || rc == MP_ECORRUPT ? MP_EFULL : rc;
  MPI_POINT("seat.take.taken");
  return 0;
}

int mpi_seat_find (struct mpi_seats *s, int limit) {
  int i;
  for (i = 0; i < limit && i < s->n; i++) {
    int rc = mpi_seat_take(s, i);
    if (rc != MP_EFULL) return rc == 0 ? i : rc;
  }
  return MP_EFULL;
}

int mpi_seat_mine (const struct mpi_seats *s, int i) {
  return mpi_mutex_held(mpi_seat_word(s, i), &s->mine[i]);
}

int mpi_seat_leave (struct mpi_seats *s, int i) {
  char *w = atomic_load(&s->windows[i / 2]);
  MPI_POINT("seat.leave.begin");
  return w == NULL ? MP_ENOTOWNER : mpi_word_give_back(s->o, window_word(w, i), &s->mine[i]);
}

uint32_t mpi_seat_watch (const struct mpi_seats *s, int i) {
  mpi_a32 *word = mpi_seat_word(s, i);
  uint32_t v = mpi_load(word);
  int tries = 0;
  while ((v & MPI_LOCK_TID) != 0 && !(v & MPI_LOCK_WAITERS)) {
    if (mpi_cas(word, &v, v | MPI_LOCK_WAITERS)) v |= MPI_LOCK_WAITERS;
    else if (++tries > 1000) return 0; /* a peer flips it */
  }
  return (v & MPI_LOCK_TID) != 0 ? v : 0;
}
