/* cpu.c -- how many processors this process may use: affinity, then the cgroup's quota. */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mp.h"

/* cpu.max of a cgroup v2: "quota period" or "max period". 0 if there is no quota. */
static double quota_in (const char *path) {
  char text[64];
  double quota, period;
  FILE *f = fopen(path, "re");
  int n;
  if (f == NULL) return 0;
  n = fgets(text, sizeof text, f) != NULL ? sscanf(text, "%lf %lf", &quota, &period) : 0;
  (void)fclose(f);
  return n == 2 && period > 0 ? quota / period : 0;
}

/* The smallest quota from this process's cgroup up to the root. */
static double cgroup_quota (void) {
  char line[512];
  char path[600];
  double least = 0;
  FILE *f = fopen("/proc/self/cgroup", "re");
  if (f == NULL) return 0;
  while (fgets(line, sizeof line, f) != NULL) {
    char *group;
    if (strncmp(line, "0::", 3) != 0) continue;
    group = line + 3;
    group[strcspn(group, "\n")] = '\0';
    for (;;) {
      double q;
      char *slash;
      (void)snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", strcmp(group, "/") == 0 ? "" : group);
      q = quota_in(path);
      if (q > 0 && (least == 0 || q < least)) least = q;
      slash = strrchr(group, '/');
      if (slash == NULL || group[0] == '\0') break;
      *slash = '\0';
    }
  }
  (void)fclose(f);
  return least;
}

int mp_cpu_count (void) {
  cpu_set_t set;
  long n;
  double quota;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
  else n = sysconf(_SC_NPROCESSORS_ONLN);
  quota = cgroup_quota();
  if (quota > 0 && quota < (double)n) n = quota < 1 ? 1 : (long)(quota + 0.5);
  return n < 1 ? 1 : (int)n;
}
