#include "base/fault.h"

#ifdef MP_FAULTS

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_SEEN 256

static char armed[64];
static _Atomic int countdown;
static mpi_fault_action armed_action;
static _Atomic int environment_read; /* the first thread that passes a point reads it */
static _Atomic(const char *) seen[MAX_SEEN];

void mpi_fault_arm (const char *name, int nth, mpi_fault_action action) {
  atomic_store(&environment_read, 1);
  atomic_store(&countdown, 0);
  if (name == NULL) return;
  (void)snprintf(armed, sizeof armed, "%s", name);
  armed_action = action;
  atomic_store(&countdown, nth);
}

static void read_environment (void) {
  const char *spec = getenv("MP_FAULT");
  char name[64];
  char action[8] = "kill";
  int nth = 1;
  if (spec == NULL || sscanf(spec, "%63[^:]:%d:%7s", name, &nth, action) < 1) return;
  mpi_fault_arm(name, nth,
                strcmp(action, "stop") == 0 ? MPI_FAULT_STOP : strcmp(action, "fail") == 0 ? MPI_FAULT_FAIL : MPI_FAULT_KILL);
}

static void remember (const char *name) {
  int i;
  for (i = 0; i < MAX_SEEN; i++) {
    const char *s = atomic_load(&seen[i]);
    if (s == NULL) {
      if (atomic_compare_exchange_strong(&seen[i], &s, name)) return;
    }
    if (s == name || (s != NULL && strcmp(s, name) == 0)) return;
  }
}

int mpi_fault_seen (const char **names, int max) {
  int n = 0;
  while (n < max && n < MAX_SEEN && (names[n] = atomic_load(&seen[n])) != NULL) n++;
  return n;
}

static int matches (const char *name) {
  size_t n = strlen(armed);
  if (n > 0 && armed[n - 1] == '*') return strncmp(armed, name, n - 1) == 0;
  return strcmp(armed, name) == 0;
}

int mpi_fault_hit (const char *name) {
  if (!atomic_load(&environment_read) && atomic_exchange(&environment_read, 1) == 0) read_environment();
  remember(name);
  if (atomic_load(&countdown) <= 0 || !matches(name)) return 0;
  if (atomic_fetch_sub(&countdown, 1) != 1) return 0;
  if (armed_action == MPI_FAULT_KILL) (void)kill(getpid(), SIGKILL);
  if (armed_action == MPI_FAULT_STOP) (void)raise(SIGSTOP);
  return armed_action == MPI_FAULT_FAIL;
}

#ifdef MP_HARD
int mpi_fault_early_return (void) {
  static _Atomic unsigned turn;
  return atomic_fetch_add(&turn, 1) % 7 == 3;
}
#endif

#else
typedef int mpi_fault_is_empty;
#endif
