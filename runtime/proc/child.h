/* child.h -- the processes of this process: started, known by pidfd, reaped, and taken along when it ends.
** What      a mpi_child is the parent's handle of one child. All of them stand in a table of this process, so that a handle which
**           its user dropped is still ended or joined with the program. A forked child begins with an empty table.
** Owner     handles are counted: start gives one reference, mpi_child_release takes it; the table has one of its own until the
**           child is reaped. Descriptors in them belong to them.
** Threads   any; the table and each handle's reaping have one process-private lock, held across fork.
** Fork      in the child all handles of the parent are foreign: their descriptors are closed, and every operation but release gives
**           MP_EMISUSE.
** Blocks    mpi_child_wait until the deadline; the exit rules until every child has ended.
** Signals   nothing here installs a handler; a wait asks mpi_interrupted().
** Death     every child has PR_SET_PDEATHSIG = SIGKILL: it dies with the thread that started it, that is: with this process, or at the
**           latest when that thread has run its exit rules. Nothing on disk, no names, no tracker.
** Report    the child sends one record over a socket pair: what its function returned, or the error. Bytes up to 16 KiB travel in the
**           record, more in a memfd beside it; descriptors of shared objects go along. The parent takes it when the child has ended.
**           It trusts nothing in it but its own limits.
** Errors    MP_ESYS with a sentence, MP_ETIMEDOUT, MP_EINTR.
*/
#ifndef MPI_CHILD_H
#define MPI_CHILD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "mp.h"

typedef struct mpi_record {
  int kind; /* MPI_REPORT_...; NONE: nothing came */
  unsigned char *data; /* malloc'ed */
  size_t size;
  int *fds; /* malloc'ed; each is owned by the report */
  int nfds;
} mpi_record;

enum { MPI_REPORT_NONE, MPI_REPORT_RESULT, MPI_REPORT_ERROR, MPI_REPORT_TASK, MPI_REPORT_LEAVE /* from parent to child: see spawn.h */ };

/* What reports are made of: one message over a socket pair, with any number of bytes and descriptors. Neither blocks; take gives kind NONE for
** what is not whole. The descriptors sent stay the caller's. */
int mpi_record_send (int sock, int kind, const void *data, size_t size, const int *fds, int nfds);
void mpi_record_take (int sock, mpi_record *r);

void mpi_record_fini (mpi_record *r); /* harmless when zeroed */

typedef struct mpi_child {
  struct mpi_child *next;
  _Atomic int refs;
  pid_t pid;
  int pidfd;
  int sock;        /* the report's, until the end; then -1 */
  pid_t owner;     /* whose child it is */
  pid_t owner_tid; /* which thread started it */
  int daemon;      /* 2: a server of the others, which is ended when they have been joined */
  int ended;
  int exitcode; /* valid once ended: status, or minus the signal */
  int listed;   /* in the table */
  mpi_record report;
} mpi_child;

/* Registers the exit rules with the C library (on_exit) and the fork hooks, once. Called by whoever starts something first. */
int mpi_proc_init (void);

/* 1 in the child, 0 in the parent with *out, which is set before the fork (afterwards its page would be copied) and is NULL again after a failure; the
** child's *out has pid 0 and is good for nothing but mpi_child_release. Standard output streams are flushed before. The child's standard input is the null device,
** its signals SIGTERM, SIGINT and SIGPIPE are unblocked, SIGTERM and SIGCHLD default. */
int mpi_child_fork (int daemon, mpi_child **out);

/* A child that was made in another way (by the zygote); takes the descriptors over on success. */
int mpi_child_adopt (pid_t pid, int pidfd, int sock, int daemon, mpi_child **out);

int mpi_child_wait (mpi_child *c, int64_t deadline); /* 0: it has ended and is reaped */
int mpi_child_poll (mpi_child *c);                   /* 1: ended and reaped, 0: it runs */
int mpi_child_signal (mpi_child *c, int sig);        /* an ended one: 0 */
void mpi_child_retain (mpi_child *c);
void mpi_child_release (mpi_child *c);               /* NULL is fine */
int mpi_child_is_ours (const mpi_child *c);

/* ---- in the child ---- */

/* Sends the report to the parent. Never blocks. */
int mpi_report_send (int kind, const void *data, size_t size, const int *fds, int nfds);

/* Exit rules, flush, _exit. `code` modulo 256. */
_Noreturn void mpi_child_exit (int code);

/* For a process that the zygote made: what mpi_child_fork sets up for a forked one. */
void mpi_child_become (pid_t parent, int report);

int mpi_next_number (void); /* 1, 2, ...: names of this process's children; its threads count together */
pid_t mpi_parent (void); /* 0 in a main program */

/* For a process that is going to be confined (sandbox/warden.h). The socket to the parent; -1: none. Before: a memfd for a report that is too
** large for a record is made, for it cannot be made later. After: between it and its parent stands a warden. */
int mpi_report_socket (void);
void mpi_report_reserve (void);
void mpi_child_moved (void);

/* ---- both ---- */

/* In a main program: an interruption is about to be raised. If the program ends with a failure soon after, nobody is waited for long. Not for
** signal handlers. */
void mpi_note_interrupt (void);
int64_t mpi_interrupt_deadline (int status); /* until when then; MP_NEVER: it is not so */

/* Daemons of this process are terminated (killed after a grace), the others joined; `tid` != 0: only those that this thread started.
** status != 0 after an interruption from the terminal: whoever has not ended shortly after it is killed. */
void mpi_exit_rules (int status, pid_t tid);

/* One page that the processes of a program share: when one of them last saw a SIGINT that did not come from its parent. */
#define MPI_DISTRUSTED_MAX 448
struct mpi_program {
  _Atomic int64_t interrupted_at;
  _Atomic uint32_t ndistrusted;                     /* proc/distrust.h */
  _Atomic uint64_t distrusted[MPI_DISTRUSTED_MAX];
};
struct mpi_program *mpi_program (void); /* never NULL */
struct mpi_program *mpi_program_if (void); /* NULL: nothing has been made yet */
int mpi_program_fd (void);              /* of the page, or -1 */
void mpi_program_adopt (int fd);        /* in a process that the zygote made; anything but such a page is ignored */
extern volatile int mpi_exiting;        /* set while the exit rules run; a SIGINT then makes it 2: stop waiting politely */

void mpi_flush_streams (void); /* before another process prints to them */

int mpi_thread_count (void); /* threads of this process, by the kernel's count */

#endif
