#include "proc/distrust.h"

#include <stdatomic.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "proc/child.h"

int mpi_distrusted (uint64_t ino) {
  struct mpi_program *p = mpi_program_if();
  uint32_t i, n = p == NULL ? 0 : atomic_load_explicit(&p->ndistrusted, memory_order_acquire);
  if (n > MPI_DISTRUSTED_MAX) return 1;
  for (i = 0; i < n; i++)
    if (atomic_load_explicit(&p->distrusted[i], memory_order_relaxed) == ino) return 1;
  return 0;
}

void mpi_distrust (int fd) {
  struct mpi_program *p = mpi_program();
  struct stat st;
  uint32_t n;
  if (mpi_fstat(fd, &st) != 0 || mpi_distrusted(st.st_ino)) return;
  /* Two at once may claim the same place: then the loser claims the next. */
  for (n = atomic_load(&p->ndistrusted); n < MPI_DISTRUSTED_MAX; n++) {
    uint64_t none = 0;
    if (atomic_compare_exchange_strong(&p->distrusted[n], &none, st.st_ino)) break;
  }
  /* Grows at least past our place; another's that is not written yet reads as 0, which is nobody. */
  do {
    uint32_t seen = atomic_load(&p->ndistrusted);
    if (seen > n || atomic_compare_exchange_strong(&p->ndistrusted, &seen, n + 1)) break;
  } while (1);
}
