/* spawn.h -- processes that share no memory with the caller: made by a zygote, a clean process of the runtime's own helper.
** How       the first spawn starts the zygote: vfork and exec of the helper (mprun --mp-zygote), which loads what its children need
**           and waits. For each process it is asked, over a socket, to clone itself with CLONE_PARENT: the new process is a child of the
**           *caller*, so that pidfd, exit code and death with the parent are as for a forked one, and the zygote's own death matters to
**           nobody. The task (bytes and descriptors) goes from the caller to the new process directly, over its report socket, after
**           the caller has its handle: a process that gets none ends.
** Units     bytes.
** Owner     the caller keeps its descriptors; the zygote belongs to this file.
** Threads   any; one request at a time. Asked first by a thread that is not the main one, the zygote gets a thread of its own here,
**           so that no thread's end takes the children along (PR_SET_PDEATHSIG is about threads).
** Fork      a forked child has no zygote; it starts its own when it spawns.
** Blocks    until the zygote answers, at most 10 s; a zygote that was killed is replaced, once a call.
** Death     the zygote dies with the program (PR_SET_PDEATHSIG), its children too.
** Errors    MP_ESYS, MP_ENOMEM, MP_ENOSUP (no helper, or one of another version).
*/
#ifndef MPI_SPAWN_H
#define MPI_SPAWN_H

#include "proc/child.h"

typedef struct mpi_task {
  const void *data;
  size_t size;
  const int *fds;
  int nfds;
  int daemon;
  int confined; /* nonzero: it is not given what the program's own processes share */
} mpi_task;

int mpi_spawn (const mpi_task *t, mpi_child **out);

/* The helper's file name; otherwise it is looked for beside the library, where that is installed, beside the program, and in PATH. locate: to be
** called early, before the working directory changes. */
void mpi_spawn_locate (void);
void mpi_spawn_set_helper (const char *path);
int mpi_spawn_use_helper (const char *path); /* a host's word, from the next zygote on: 0, or MP_ENOSUP if it is no program */

pid_t mpi_spawn_zygote (void); /* its pid, 0: none now */
void mpi_spawn_forget (void);  /* in a child: the zygote is the parent's */

/* ---- the helper's side ---- */

/* Serves requests on `control` and never returns in the zygote. Returns in each new process, set up as a child: 0 and its task,
** whose memory and descriptors are the caller's (mpi_record_fini). Directory, output streams and the program's page are set. */
int mpi_zygote_serve (int control, mpi_record *task);

#define MPI_ZYGOTE_OPTION "--mp-zygote"
#define MPI_ZYGOTE_FD 3

#endif
