#include "shm/seg.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"
#include "test/test.h"

TEST("is zero past its header, sealed, and gone with its last user", .clean = 1) {
  mpi_seg s;
  CHECK_OK(mpi_seg_create(&s, 3, 5000, 0));
  CHECK_EQ(s.size, 2 * MPI_PAGE);
  CHECK_EQ(*(char *)mpi_seg_at(&s, 64), 0);
  CHECK_EQ(*(char *)mpi_seg_at(&s, 2 * MPI_PAGE - 1), 0);
  CHECK(ftruncate(s.fd, 4096) != 0 && ftruncate(s.fd, 1 << 20) != 0);
  CHECK(fcntl(s.fd, F_ADD_SEALS, F_SEAL_WRITE) != 0);
  CHECK_EQ(mpi_seg_type(s.fd), 3);
  mpi_seg_fini(&s);
}

TEST("attached twice it is the same memory, the lock page aside", .clean = 1) {
  mpi_seg a, b;
  CHECK_OK(mpi_seg_create(&a, 3, 3 * MPI_PAGE, MPI_SEG_LOCKPAGE));
  CHECK_OK(mpi_seg_attach(&b, dup(a.fd), 3, MPI_SEG_LOCKPAGE));
  CHECK(a.ino == b.ino && a.dev == b.dev && a.size == b.size && a.base != b.base);
  *(char *)mpi_seg_at(&a, 100) = 'x';
  *(char *)mpi_seg_at(&a, MPI_PAGE) = 'y';
  *(char *)mpi_seg_at(&a, 3 * MPI_PAGE - 1) = 'z';
  CHECK_EQ(*(char *)mpi_seg_at(&b, 100), 'x');
  CHECK_EQ(*(char *)mpi_seg_at(&b, MPI_PAGE), 'y');
  CHECK_EQ(*(char *)mpi_seg_at(&b, 3 * MPI_PAGE - 1), 'z');
  a.base[MPI_PAGE] = 'p'; /* the private page */
  CHECK_EQ(b.base[MPI_PAGE], 0);
  CHECK_EQ(*(char *)mpi_seg_at(&b, MPI_PAGE), 'y');
  mpi_seg_fini(&a);
  mpi_seg_fini(&b);
}

static void refused (int fd, int type, uint32_t flags) {
  mpi_seg s;
  int before = test_count_fds();
  CHECK_EQ(mpi_seg_attach(&s, fd, type, flags), MP_ECORRUPT);
  CHECK(s.base == NULL);
  CHECK_EQ(test_count_fds(), before); /* still the caller's */
}

TEST("whatever is no segment of that type is refused", .clean = 1) {
  mpi_seg s;
  int fd = mpi_memfd("x"), pipes[2];
  CHECK_OK(mpi_seg_create(&s, 3, MPI_PAGE, 0));
  refused(s.fd, 4, 0);
  refused(s.fd, 3, MPI_SEG_LOCKPAGE);
  refused(fd, 3, 0); /* empty, unsealed */
  CHECK(ftruncate(fd, MPI_PAGE) == 0);
  CHECK(pwrite(fd, s.base, 64, 0) == 64);
  refused(fd, 3, 0); /* a perfect copy, but it could shrink under us */
  CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
  CHECK_OK(mpi_seg_type(fd));
  ((struct mpi_seghdr *)(void *)s.base)->size = 1 << 30;
  refused(s.fd, 3, 0);
  ((struct mpi_seghdr *)(void *)s.base)->size = MPI_PAGE;
  ((struct mpi_seghdr *)(void *)s.base)->layout++;
  refused(s.fd, 3, 0);
  ((struct mpi_seghdr *)(void *)s.base)->layout--;
  ((struct mpi_seghdr *)(void *)s.base)->magic++;
  refused(s.fd, 3, 0);
  refused(-1, 3, 0);
  CHECK(pipe2(pipes, O_CLOEXEC) == 0);
  refused(pipes[0], 3, 0);
  (void)close(pipes[0]);
  (void)close(pipes[1]);
  (void)close(fd);
  mpi_seg_fini(&s);
}

TEST("uses no more memory than was written, and gives it back", .clean = 1) {
  mpi_seg s;
  struct stat st;
  CHECK_OK(mpi_seg_create(&s, 3, (size_t)1 << 32, 0));
  CHECK(fstat(s.fd, &st) == 0 && st.st_blocks * 512 <= 64 * 1024);
  memset(mpi_seg_at(&s, 1 << 20), 1, 1 << 20);
  CHECK(fstat(s.fd, &st) == 0 && st.st_blocks * 512 >= 1 << 20);
  mpi_seg_punch(&s, (1 << 20) - 100, (1 << 20) + 200);
  CHECK(fstat(s.fd, &st) == 0 && st.st_blocks * 512 <= 64 * 1024);
  CHECK_EQ(*(char *)mpi_seg_at(&s, 1 << 20), 0);
  mpi_seg_fini(&s);
}

#ifdef MP_FAULTS
TEST("leaves nothing when the system refuses", .clean = 1) {
  mpi_seg s;
  mpi_fault_arm("fd.memfd.fail", 1, MPI_FAULT_FAIL);
  CHECK_EQ(mpi_seg_create(&s, 3, MPI_PAGE, 0), MP_ESYS);
  CHECK(s.base == NULL && s.fd == -1);
}
#endif
