/* sys.h -- system calls without the C library's functions around them.
** What     for what every forked child does before its function: each library function lies in a page that the child has not mapped yet, and a page fault
**          costs more than the call. Gives what the kernel gives: a value, or minus the number of the error; errno is not touched.
** Not for  calls that the library must know of (fork, signals with handlers), nor for those that may be interrupted.
** Signals  safe in handlers. On machines without a line of their own here: syscall(2).
*/
#ifndef MPI_SYS_H
#define MPI_SYS_H

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline long mpi_sys (long n, long a, long b, long c, long d) {
#if defined(__x86_64__)
  long r;
  register long r10 __asm__("r10") = d;
  __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
  return r;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = n;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
#else
  long r = syscall(n, a, b, c, d);
  return r < 0 ? -errno : r;
#endif
}

#endif
