/* host.c -- a C host's pool while its workers and its supervisor are killed at random instants: every task ends, every result is right.
**   build/stress/host [SECONDS]      (MPRUN: the helper)
** Three threads submit and wait, each in its own way; a fourth kills. A worker's death is made good by `retries`; a task whose supervisor died has failed with
** kind "died" and is submitted again.
*/
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mp.h"

#define BATCH 100

static mp_pool *pool;
static _Atomic int64_t end;
static _Atomic int victim;
static _Atomic long done, again, killed, supervisors;

static void die (const char *what) {
  fprintf(stderr, "host: %s: %s\n", what, mp_errmsg());
  exit(1);
}

static mp_task *submit (long n) {
  struct mp_task_options o;
  char input[32];
  mp_task *t;
  int rc;
  memset(&o, 0, sizeof o);
  o.size = sizeof o;
  o.function = "square";
  o.input = input;
  o.input_size = (size_t)snprintf(input, sizeof input, "%ld", n);
  o.retries = 1000;
  o.deadline = mp_deadline(60);
  while ((rc = mp_pool_submit(pool, &o, &t, mp_deadline(30))) != 0)
    if (rc != MP_ECLOSED && rc != MP_ESYS) die("submit"); /* the supervisor is killed while it begins */
  return t;
}

/* 1: right; 0: it died with the supervisor. */
static int check (mp_task *t, long n) {
  const void *data;
  size_t size;
  char want[64];
  int rc = mp_task_result(t, &data, &size), pid = 0, at = 0;
  if (rc == MP_EFAILED && strcmp(mp_task_failure(t)->kind, "died") == 0) {
    mp_task_free(t);
    atomic_fetch_add(&again, 1);
    return 0;
  }
  if (rc != 0) die("result");
  (void)snprintf(want, sizeof want, "%ld ", n * n);
  if (strncmp(data, want, strlen(want)) != 0 || sscanf((const char *)data + strlen(want), "%d%n", &pid, &at) != 1) {
    fprintf(stderr, "host: %ld: %.*s\n", n, (int)size, (const char *)data);
    exit(1);
  }
  atomic_store(&victim, pid);
  mp_task_free(t);
  atomic_fetch_add(&done, 1);
  return 1;
}

static void *one_by_one (void *arg) {
  long n = (long)(intptr_t)arg;
  for (; mp_now() < end; n += 3) {
    mp_task *t;
    do {
      t = submit(n);
      if (mp_task_wait(t, mp_deadline(60)) != 0) die("wait");
    } while (!check(t, n));
  }
  return NULL;
}

static void *in_batches (void *arg) {
  long n = (long)(intptr_t)arg;
  while (mp_now() < end) {
    mp_task *t[BATCH];
    int i;
    for (i = 0; i < BATCH; i++) t[i] = submit(n + i);
    for (i = BATCH - 1; i >= 0; i--) {
      if (mp_task_wait(t[i], mp_deadline(60)) != 0) die("wait");
      while (!check(t[i], n + i)) {
        t[i] = submit(n + i);
        if (mp_task_wait(t[i], mp_deadline(60)) != 0) die("wait");
      }
    }
    for (i = 0; i < 10; i++) mp_task_free(submit(n + i)); /* abandoned */
    n += BATCH;
  }
  return NULL;
}

static void *kill_them (void *arg) {
  unsigned turns = 0;
  (void)arg;
  while (mp_now() < end) {
    int pid;
    (void)mp_sleep(mp_deadline(0.002 * (double)(1 + rand() % 10)));
    if (++turns % 40 == 0) {
      pid = mp_pool_supervisor(pool);
      if (pid > 0 && kill(pid, SIGKILL) == 0) atomic_fetch_add(&supervisors, 1);
    } else {
      pid = atomic_exchange(&victim, 0);
      if (pid > 0 && kill(pid, SIGKILL) == 0) atomic_fetch_add(&killed, 1);
    }
  }
  return NULL;
}

int main (int argc, char **argv) {
  struct mp_pool_options o;
  void *(*const what[]) (void *) = {one_by_one, in_batches, one_by_one, kill_them};
  pthread_t t[4];
  int i;
  if (getenv("MPRUN") != NULL && mp_set_helper(getenv("MPRUN")) != 0) die("helper");
  memset(&o, 0, sizeof o);
  o.size = sizeof o;
  o.processes = 3;
  o.chunk = "local mp = require 'mp'\n"
            "function square(s) local n = math.tointeger(s) return ('%d %d'):format(n * n, mp.getpid()) end";
  if (mp_pool_new(&o, &pool) != 0) die("pool");
  end = mp_deadline(argc > 1 ? atof(argv[1]) : 10);
  for (i = 0; i < 4; i++)
    if (pthread_create(&t[i], NULL, what[i], (void *)(intptr_t)(i * 1000)) != 0) die("thread");
  for (i = 0; i < 4; i++) (void)pthread_join(t[i], NULL);
  if (mp_pool_close(pool) != 0 || mp_pool_join(pool, mp_deadline(60)) != 0) die("join");
  mp_pool_free(pool);
  if (done == 0 || killed == 0) {
    fprintf(stderr, "host: nothing was done, or nobody was killed\n");
    return 1;
  }
  printf("host: %ld tasks, %ld workers and %ld supervisors killed, %ld tasks submitted again\n", done, killed, supervisors, again);
  return 0;
}
