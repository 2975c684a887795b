/* warden.h -- the supervisor of a confined process: its parent, one event loop.
** What      mpi_warden_enter forks. The child confines itself and goes on; the parent becomes the warden: it answers, records and judges the
**           calls that the filter hands over, forwards and caps the output, keeps wall and CPU limits, passes signals on, and ends as the child
**           ended (same status, same signal), so that who waits for the warden learns what became of the child. All that works while
**           everybody else computes. If the warden is killed the kernel kills the child.
** Records   go to a memfd that only the owner and the warden have (struct mpi_jail_report): written once, then counted up; a reader sees
**           whole records below `n`. The child cannot reach it.
** Where     the child has a page to say what script line it is at (mpi_warden_where): a claim, of use to a person and nothing else.
** Signals   the warden blocks and passes on SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2.
** Blocks    mpi_warden_enter until the child is confined; the warden for its life.
** Errors    of confining reach the caller's owner by the report (reason MPI_END_FAILED, message) and status 1.
** Death     the child and everything that it started dies with the warden's end.
*/
#ifndef MPI_WARDEN_H
#define MPI_WARDEN_H

#include <signal.h>

#include "base/atomics.h"
#include "sandbox/jail.h"

#define MPI_WARDEN_END (SIGRTMIN + 5)

#define MPI_REPORT_MAGIC 0x6d707231u
#define MPI_REPORT_RECORDS 128
#define MPI_WHERE_SIZE 256
#if defined(MP_HARD)
#define MPI_REFUSALS_MAX 1000
#else
#define MPI_REFUSALS_MAX 100000 /* then the process is ended: it is not going to do anything else */
#endif

enum mpi_jail_end { MPI_END_NONE, MPI_END_VIOLATION, MPI_END_CPU, MPI_END_WALL, MPI_END_FAILED };

struct mpi_violation {
  char call[32];
  char target[256];
  char need[32];   /* the grant's name: "read", "net.connect" ...; "" when there is none */
  char fix[320];   /* Lua that would allow it, or a sentence */
  char where[128];
  mpi_a32 count;
  uint32_t fatal;  /* ended the process */
};

struct mpi_jail_report {
  mpi_a32 magic;
  mpi_a32 end;  /* enum mpi_jail_end */
  mpi_a32 pid;  /* of the confined process; 0 until it is confined */
  mpi_a32 n;    /* whole records */
  mpi_a64 more; /* refusals beyond the records that there is room for */
  mpi_a64 dropped; /* bytes of output beyond the limit */
  char message[256]; /* MPI_END_FAILED: why */
  struct mpi_violation v[MPI_REPORT_RECORDS];
};

/* A report: a memfd for both, mapped for the owner. The size is fixed and sealed. */
int mpi_jail_report_make (int *fd, struct mpi_jail_report **r);
int mpi_jail_report_map (int fd, struct mpi_jail_report **r);
void mpi_jail_report_unmap (struct mpi_jail_report *r);

/* Returns 0 in the confined child only; a negative code in the caller if nothing has happened yet. keep[n]: the descriptors that the child
** keeps. The report's descriptor is the warden's alone. */
int mpi_warden_enter (const struct mpi_jail *j, int report_fd, const int *keep, int n);

/* The same, but the parent's side returns too, when all is over: *in_child tells the sides apart, *status is the child's wait status. */
int mpi_warden_split (const struct mpi_jail *j, struct mpi_jail_report *r, const int *keep, int n, int *in_child, int *status);

/* In a confined child: MPI_WHERE_SIZE bytes for "script.lua:12"; NULL elsewhere. */
char *mpi_warden_where (void);

#endif
