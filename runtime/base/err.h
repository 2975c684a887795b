/* err.h -- error codes with one sentence for the thread that failed.
** Memory   a fixed thread-local buffer; nothing is allocated.
** Safety   any thread; not for signal handlers. A forked child keeps its copy.
*/
#ifndef MPI_ERR_H
#define MPI_ERR_H

#include "mp.h"

/* Remembers the sentence and returns `code`. */
int mpi_fail (int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same for a failed system call: "what: strerror(errno)". EMFILE/ENFILE get a hint. Returns MP_ENOMEM for ENOMEM,
** MP_EMFILE for EMFILE and ENFILE, else MP_ESYS. */
int mpi_fail_errno (const char *what);

#ifdef __clang_analyzer__ /* it does not look into other files: tell it what comes back */
#define mpi_fail(code, ...) ((void)mpi_fail(code, __VA_ARGS__), (code))
#define mpi_fail_errno(what) ((void)mpi_fail_errno(what), MP_ESYS)
#endif

#endif
