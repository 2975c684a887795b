/* thread.h -- threads of this process that run a function and leave a record, joined or told to stop.
** Owner     handles are counted; the running thread has a reference of its own. `eventfd` and record belong to the handle.
** Threads   any may wait and signal. The function runs with every signal blocked but MPI_THREAD_SIGNAL.
** Signals   mpi_thread_poke sends MPI_THREAD_SIGNAL to the one thread; its handler is installed with the first poke, and not before. It calls the
**           function that the thread gave, in that thread.
** Fork      threads do not exist in a forked child; their handles there say "ended" with exit code 255.
** Blocks    mpi_thread_wait until the deadline.
** Death     a thread ends with its process. The exit rules of a process join the threads that are no daemons, and ask those to stop.
*/
#ifndef MPI_THREAD_H
#define MPI_THREAD_H

#include <pthread.h>
#include <signal.h>

#include "base/atomics.h"
#include "proc/child.h"

#define MPI_THREAD_SIGNAL SIGURG /* ignored by default: a stray one harms nobody */

typedef struct mpi_thread_handle mpi_thread_handle;
struct mpi_thread_handle {
  mpi_thread_handle *next;
  _Atomic int refs;
  pthread_t thread;
  pid_t tid;   /* 0 until it runs */
  pid_t owner; /* the process */
  int daemon;
  int event;   /* readable once it has ended */
  mpi_a32 ended;
  int exitcode;
  mpi_record task;   /* for the function */
  mpi_record report; /* from it; valid once ended */
  void (*_Atomic poked) (void *ud); /* set by the thread itself, for its signal handler */
  void *ud;
  _Atomic int request; /* MPI_STOP_...: what the poke is about */
};

enum { MPI_STOP_NONE, MPI_STOP_INTERRUPT, MPI_STOP_END };

/* Runs fn(handle), which gives the exit code, in a new thread; takes over the task's memory and descriptors in every case. */
int mpi_thread_start (int (*fn) (mpi_thread_handle *t), mpi_record *task, int daemon, mpi_thread_handle **out);
int mpi_thread_wait (mpi_thread_handle *t, int64_t deadline);
int mpi_thread_poll (mpi_thread_handle *t); /* 1: ended */
int mpi_thread_poke (mpi_thread_handle *t, int request);
void mpi_thread_release (mpi_thread_handle *t);
mpi_thread_handle *mpi_thread_self (void); /* NULL in threads that are not ours */

void mpi_threads_exit (int status); /* part of the exit rules */

#endif
