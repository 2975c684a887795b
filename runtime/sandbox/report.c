/* The report: written by the warden, read by the owner, out of the child's reach. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "sandbox/warden.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int mpi_jail_report_map (int fd, struct mpi_jail_report **r) {
  struct stat st;
  void *p;
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) != 0 || st.st_size != (off_t)sizeof **r)
    return mpi_fail(MP_ECORRUPT, "this is not a sandbox report");
  p = mmap(NULL, sizeof **r, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED) return mpi_fail_errno("mmap");
  *r = p;
  return 0;
}

int mpi_jail_report_make (int *out, struct mpi_jail_report **r) {
  int rc, fd = mpi_memfd("mp sandbox report");
  if (fd < 0) return fd;
  if (ftruncate(fd, (off_t)sizeof **r) != 0 || fcntl(fd, F_ADD_SEALS, SEALS) != 0) rc = mpi_fail_errno("sizing a memfd");
  else rc = mpi_jail_report_map(fd, r);
  if (rc != 0) {
    mpi_fd_close(&fd);
    return rc;
  }
  mpi_store_release(&(*r)->magic, MPI_REPORT_MAGIC);
  *out = fd;
  return 0;
}

void mpi_jail_report_unmap (struct mpi_jail_report *r) {
  if (r != NULL) (void)munmap(r, sizeof *r);
}
