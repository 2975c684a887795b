#include "shm/seg.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fault.h"
#include "base/fd.h"
#include "base/robust.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static size_t mapped_size (const mpi_seg *s) {
  return s->size + (s->flags & MPI_SEG_LOCKPAGE ? MPI_PAGE : 0);
}

static size_t address_limit (void) {
  struct rlimit limit;
  return getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : (size_t)limit.rlim_cur;
}

size_t mpi_seg_share (void) {
  size_t limit = address_limit();
  return limit == SIZE_MAX ? SIZE_MAX : limit / 16;
}

static int map_failed (const mpi_seg *s) {
  if (errno != ENOMEM || address_limit() == SIZE_MAX) return mpi_fail_errno("mmap");
  return mpi_fail(MP_ENOMEM, "not enough address space for an object of %zu MiB (the limit is %zu MiB: ulimit -v)", s->size >> 20,
                  address_limit() >> 20);
}

static int map (mpi_seg *s) {
  int prot = PROT_READ | PROT_WRITE;
  char *p;
  if (!(s->flags & MPI_SEG_LOCKPAGE)) {
    p = mmap(NULL, s->size, prot, MAP_SHARED | MAP_NORESERVE, s->fd, 0);
    if (p == MAP_FAILED) return map_failed(s);
    s->base = p;
    return 0;
  }
  /* One private mapping for the whole range, then the file over all but its second page. */
  p = mmap(NULL, mapped_size(s), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); /* PROT_NONE: no limit counts it */
  if (p == MAP_FAILED) return map_failed(s);
  s->base = p;
  if (mprotect(p + MPI_PAGE, MPI_PAGE, prot) != 0 || mmap(p, MPI_PAGE, prot, MAP_SHARED | MAP_FIXED, s->fd, 0) == MAP_FAILED ||
      (s->size > MPI_PAGE && mmap(p + 2 * MPI_PAGE, s->size - MPI_PAGE, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, s->fd,
                                  MPI_PAGE) == MAP_FAILED)) {
    int code = map_failed(s);
    (void)munmap(p, mapped_size(s));
    s->base = NULL;
    return code;
  }
  return 0;
}

static int identify (mpi_seg *s) {
  struct stat st;
  if (mpi_fstat(s->fd, &st) != 0) return mpi_fail_errno("fstat");
  s->ino = st.st_ino;
  s->dev = st.st_dev;
  s->size = (size_t)st.st_size;
  return 0;
}

int mpi_seg_create (mpi_seg *s, int type, size_t size, uint32_t flags) {
  struct mpi_seghdr *h;
  int rc;
  *s = (mpi_seg)MPI_SEG_NONE;
  if (sysconf(_SC_PAGESIZE) != MPI_PAGE) return mpi_fail(MP_ENOSUP, "this machine's pages are not 4096 bytes");
  rc = mpi_robust_init();
  if (rc != 0) return rc;
  s->flags = flags;
  size = (size + MPI_PAGE - 1) & ~(size_t)(MPI_PAGE - 1);
  rc = mpi_memfd("mp");
  if (rc < 0) return rc;
  s->fd = rc;
  rc = 0;
  if (ftruncate(s->fd, (off_t)size) != 0 || fcntl(s->fd, F_ADD_SEALS, SEALS) != 0) rc = mpi_fail_errno("sizing a memfd");
  if (rc == 0) rc = identify(s);
  if (rc == 0) rc = map(s);
  if (rc != 0) {
    mpi_seg_fini(s);
    return rc;
  }
  h = (struct mpi_seghdr *)(void *)s->base;
  h->magic = MPI_SEG_MAGIC;
  h->layout = MPI_SEG_LAYOUT;
  h->type = (uint16_t)type;
  h->flags = flags;
  h->size = s->size;
  return 0;
}

/* Files of huge pages are memfds too, and raise SIGBUS when there are no huge pages left; they cannot be mapped from the second small page on. */
static int has_small_pages (int fd, size_t size) {
  void *p;
  if (size < 65536) return 1; /* no huge page is so small */
  p = mmap(NULL, MPI_PAGE, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, MPI_PAGE);
  if (p == MAP_FAILED) return 0;
  (void)munmap(p, MPI_PAGE);
  return 1;
}

int mpi_seg_holds (const mpi_seg *s, uint64_t size) {
  struct stat st;
  if (size < (1u << 20)) return 1; /* not worth the call */
  return mpi_fstat(s->fd, &st) != 0 || (uint64_t)st.st_blocks * 512 >= size;
}

static int read_header (int fd, struct mpi_seghdr *h) {
  struct stat st;
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & SEALS) != SEALS || mpi_fstat(fd, &st) != 0 || st.st_size < (off_t)MPI_PAGE || st.st_size % MPI_PAGE != 0 ||
      pread(fd, h, sizeof *h, 0) != (ssize_t)sizeof *h || h->magic != MPI_SEG_MAGIC || h->layout != MPI_SEG_LAYOUT ||
      h->size != (uint64_t)st.st_size)
    return mpi_fail(MP_ECORRUPT, "a descriptor that arrived is not a shared object of this version");
  return 0;
}

int mpi_seg_type (int fd) {
  struct mpi_seghdr h;
  int rc = read_header(fd, &h);
  return rc != 0 ? rc : h.type;
}

int mpi_seg_attach (mpi_seg *s, int fd, int type, uint32_t flags) {
  struct mpi_seghdr h;
  int rc = mpi_robust_init();
  *s = (mpi_seg)MPI_SEG_NONE;
  if (rc != 0) return rc;
  rc = read_header(fd, &h);
  if (rc != 0) return rc;
  if (!has_small_pages(fd, (size_t)h.size)) return mpi_fail(MP_ECORRUPT, "a descriptor that arrived has no small pages");
  if (h.type != type || h.flags != flags) return mpi_fail(MP_ECORRUPT, "a shared object that arrived is of another type");
  s->fd = fd;
  s->flags = flags;
  rc = identify(s);
  if (rc == 0) rc = map(s);
  if (rc != 0) *s = (mpi_seg)MPI_SEG_NONE;
  return rc;
}

void mpi_seg_fini (mpi_seg *s) {
  if (s->base != NULL) (void)munmap(s->base, mapped_size(s));
  s->base = NULL;
  mpi_fd_close(&s->fd);
}

int mpi_seg_is_open (const mpi_seg *s) {
  struct stat st;
  return mpi_fstat(s->fd, &st) == 0 && (uint64_t)st.st_ino == s->ino && (uint64_t)st.st_dev == s->dev;
}

void mpi_seg_punch (const mpi_seg *s, size_t off, size_t length) {
  size_t from = (off + MPI_PAGE - 1) & ~(size_t)(MPI_PAGE - 1);
  size_t to = (off + length) & ~(size_t)(MPI_PAGE - 1);
  int e = errno;
  if (to > from && mpi_seg_is_open(s)) (void)fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
  errno = e;
}
