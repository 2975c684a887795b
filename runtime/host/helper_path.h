/* helper_path.h -- for tests: the helper of this build lies two folders above the test's program. */
#ifndef MPI_HOST_HELPER_PATH_H
#define MPI_HOST_HELPER_PATH_H

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mp.h"

/* 0, or what mp_set_helper gives when it was not made. */
static inline int set_helper (void) {
  char path[PATH_MAX], whole[PATH_MAX + 32];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  path[n > 0 ? n : 0] = '\0';
  if (strrchr(path, '/') != NULL) *strrchr(path, '/') = '\0';
  (void)snprintf(whole, sizeof whole, "%s/../../mprun", path);
  return mp_set_helper(whole);
}

#endif
