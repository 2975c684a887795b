/* pool_test.c -- tasks from C: results, failures, deadlines, event loops, threads, deaths. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "host/helper_path.h"
#include "mp.h"
#include "test/test.h"

static void need_helper (void) {
#ifdef __SANITIZE_THREAD__
  SKIP("the thread sanitizer makes a fork of the vfork that starts the helper");
#endif
  CHECK_OK(set_helper());
}

#define LONG 30 /* seconds: more than anything here should take */

static const char chunk[] =
  "mp = require 'mp'\n"
  "function up(s) return s:upper() end\n"
  "function spin() while true do end end\n"
  "function stubborn() while true do pcall(spin) end end\n"
  "function fail(s) error('no: ' .. s) end\n"
  "function leave(s) os.exit(tonumber(s)) end\n"
  "function nap(s) mp.sleep(tonumber(s)) end\n"
  "function begin(s, e) e:set() mp.sleep(100) end\n"
  "function pid() return mp.getpid() end\n"
  "function give(_, q) q:put('given') return tostring(q) end\n"
  "t = { twice = function(s) return s .. s end }\n"
  /* dies in its first run of an event, works in the second */
  "function flaky(s, e) if not e:is_set() then e:set() os.exit(9) end return 'at last' end\n";

static mp_pool *new_pool (int processes, unsigned max_pending, const char *sandbox) {
  struct mp_pool_options o;
  mp_pool *p = NULL;
  memset(&o, 0, sizeof o);
  o.size = sizeof o;
  o.processes = processes;
  o.chunk = chunk;
  o.max_pending = max_pending;
  o.sandbox = sandbox;
  need_helper();
  CHECK_OK(mp_pool_new(&o, &p));
  return p;
}

static struct mp_task_options call (const char *function, const char *input) {
  struct mp_task_options o;
  memset(&o, 0, sizeof o);
  o.size = sizeof o;
  o.function = function;
  o.input = input;
  o.input_size = input != NULL ? strlen(input) : 0;
  return o;
}

static mp_task *submit_as (mp_pool *p, const struct mp_task_options *o) {
  mp_task *t = NULL;
  CHECK_OK(mp_pool_submit(p, o, &t, mp_deadline(LONG)));
  return t;
}

static mp_task *submit (mp_pool *p, const char *function, const char *input) {
  struct mp_task_options o = call(function, input);
  return submit_as(p, &o);
}

/* Waits, and compares the result. */
static void expect (mp_task *t, const char *want) {
  const void *data = NULL;
  size_t size = 0;
  CHECK_OK(mp_task_wait(t, mp_deadline(LONG)));
  CHECK_EQ(mp_task_ready(t), 1);
  CHECK_OK(mp_task_result(t, &data, &size));
  CHECK_STR(data, want);
  CHECK_EQ(size, strlen(want));
  CHECK(mp_task_failure(t) == NULL);
  mp_task_free(t);
}

static const struct mp_failure *failure (mp_task *t) {
  const void *data;
  size_t size;
  CHECK_OK(mp_task_wait(t, mp_deadline(LONG)));
  CHECK_ERR(mp_task_result(t, &data, &size), MP_EFAILED);
  CHECK(mp_task_failure(t) != NULL);
  return mp_task_failure(t);
}

static void expect_failure (mp_task *t, const char *kind) {
  const struct mp_failure *f = failure(t);
  if (strcmp(f->kind, kind) != 0) FAIL("kind %s (%s), expected %s", f->kind, f->message, kind);
  mp_task_free(t);
}

TEST("a task is a function of the pool's chunk, or a chunk of its own", .limit = 60) {
  mp_pool *p = new_pool(2, 0, NULL);
  struct mp_task_options o = call(NULL, "abc");
  int i;
  expect(submit(p, "up", "abc"), "ABC");
  expect(submit(p, "t.twice", "x"), "xx");
  expect(submit(p, "up", NULL), "");
  o.chunk = "local s = ...  n = (n or 0) + 1  return #s";
  for (i = 0; i < 10; i++) expect(submit_as(p, &o), "3");
  CHECK_EQ(mp_pool_pending(p), 0);
  mp_pool_free(p);
}

TEST("what goes wrong in a task is told with kind, message and traceback, and the pool goes on", .limit = 60) {
  mp_pool *p = new_pool(1, 0, NULL);
  struct mp_task_options o = call(NULL, "x");
  const struct mp_failure *f;
  mp_task *t = submit(p, "fail", "x");
  f = failure(t);
  CHECK_STR(f->kind, "error");
  CHECK_STR(f->message, "chunk:5: no: x");
  CHECK(f->traceback != NULL && strstr(f->traceback, "'fail'") != NULL);
  CHECK(f->pid > 0);
  mp_task_free(t);
  t = submit(p, "leave", "3");
  f = failure(t);
  CHECK_STR(f->kind, "died");
  CHECK_EQ(f->exitcode, 3);
  mp_task_free(t);
  t = submit(p, "nothing.there", "x");
  CHECK(strstr(failure(t)->message, "no function is called \"nothing.there\"") != NULL);
  mp_task_free(t);
  o.chunk = "return +";
  expect_failure(submit_as(p, &o), "error");
  o.chunk = "return {}";
  t = submit_as(p, &o);
  CHECK(strstr(failure(t)->message, "a table was returned") != NULL);
  mp_task_free(t);
  o.chunk = "return ('x'):rep(1000)";
  o.max_result = 999;
  t = submit_as(p, &o);
  CHECK(strstr(failure(t)->message, "1000 bytes, more than 999") != NULL);
  mp_task_free(t);
  expect(submit(p, "up", "on"), "ON");
  mp_pool_free(p);
}

TEST("a task that is out of time is stopped, whatever it catches: by its timeout, by its deadline, in the queue", .limit = 60) {
  mp_pool *p = new_pool(1, 0, NULL);
  struct mp_task_options o = call("spin", NULL);
  mp_task *blocked, *waiting;
  o.timeout = 100000000;
  expect_failure(submit_as(p, &o), "timeout");
  o.function = "stubborn";
  expect_failure(submit_as(p, &o), "timeout");
  o = call("spin", NULL);
  o.deadline = mp_deadline(0.2);
  expect_failure(submit_as(p, &o), "timeout");
  blocked = submit(p, "spin", NULL);
  o = call("up", "never");
  o.deadline = mp_deadline(0.2);
  waiting = submit_as(p, &o);
  expect_failure(waiting, "timeout");
  CHECK_EQ(mp_task_ready(blocked), 0);
  mp_task_free(blocked); /* cancels it */
  expect(submit(p, "up", "on"), "ON");
  mp_pool_free(p);
}

TEST("a cancelled task has ended at once, whether it ran or waited, and its worker is free again", .limit = 60) {
  mp_pool *p = new_pool(1, 0, NULL);
  mp_task *running = submit(p, "stubborn", NULL), *waiting = submit(p, "up", "x"), *done = submit(p, "up", "x"), *t = NULL;
  const void *data;
  size_t size;
  CHECK_ERR(mp_task_result(waiting, &data, &size), MP_EMISUSE);
  CHECK_OK(mp_task_cancel(waiting));
  CHECK_ERR(mp_task_result(waiting, &data, &size), MP_ECANCELLED);
  CHECK_ERR(mp_task_wait(running, 0), MP_ETIMEDOUT);
  CHECK_OK(mp_task_cancel(running));
  CHECK_OK(mp_task_wait(running, 0));
  CHECK_ERR(mp_task_result(running, &data, &size), MP_ECANCELLED);
  CHECK_OK(mp_task_wait(done, mp_deadline(LONG)));
  CHECK_OK(mp_task_cancel(done)); /* too late: nothing happens */
  CHECK_OK(mp_task_result(done, &data, &size));
  CHECK_OK(mp_pool_next(p, &t, 0)); /* cancelled ones are told of, too; those that were waited for are not */
  CHECK(t == waiting);
  CHECK_ERR(mp_pool_next(p, &t, 0), MP_ETIMEDOUT);
  mp_task_free(running);
  mp_task_free(waiting);
  mp_task_free(done);
  mp_pool_free(p);
}

TEST("an event loop polls one descriptor and takes each task once as it ends", .limit = 60) {
  mp_pool *p = new_pool(2, 0, NULL);
  struct pollfd poll_pool = {mp_pool_fd(p), POLLIN, 0};
  enum { N = 500 };
  static int seen[N];
  int i, left = N;
  CHECK(poll_pool.fd >= 0);
  for (i = 0; i < N; i++) {
    struct mp_task_options o = call("up", "x");
    o.ud = &seen[i];
    (void)submit_as(p, &o);
  }
  while (left > 0) {
    mp_task *t = NULL;
    int rc;
    CHECK(poll(&poll_pool, 1, LONG * 1000) == 1);
    while ((rc = mp_pool_next(p, &t, 0)) == 0) {
      const void *data;
      size_t size;
      CHECK_OK(mp_task_result(t, &data, &size));
      ++*(int *)mp_task_ud(t);
      mp_task_free(t);
      left--;
    }
    CHECK_EQ(rc, MP_ETIMEDOUT);
  }
  for (i = 0; i < N; i++) CHECK_EQ(seen[i], 1);
  CHECK_EQ(poll(&poll_pool, 1, 0), 0);
  mp_pool_free(p);
}

TEST("more tasks than may be pending wait for room, and none is lost", .limit = 60) {
  mp_pool *p = new_pool(2, 8, NULL);
  struct mp_task_options o = call("up", "y");
  enum { N = 1000 };
  static mp_task *t[N];
  mp_task *more = NULL, *slow[8];
  int i;
  for (i = 0; i < N; i++) {
    t[i] = submit(p, "up", "x");
    CHECK(mp_pool_pending(p) <= 8);
  }
  for (i = 0; i < N; i++) expect(t[i], "X");
  for (i = 0; i < 8; i++) slow[i] = submit(p, "nap", "100");
  CHECK_ERR(mp_pool_submit(p, &o, &more, 0), MP_ETIMEDOUT);
  CHECK_ERR(mp_pool_submit(p, &o, &more, mp_deadline(0.05)), MP_ETIMEDOUT);
  CHECK(more == NULL);
  for (i = 0; i < 8; i++) mp_task_free(slow[i]);
  expect(submit_as(p, &o), "Y");
  mp_pool_free(p);
}

struct crew {
  mp_pool *p;
  int mine;
};

static void *submit_and_wait (void *arg) {
  const struct crew *c = arg;
  mp_task *t[20];
  int i, round;
  for (round = 0; round < 10; round++) {
    char text[20][40], want[20][40];
    for (i = 0; i < 20; i++) {
      (void)snprintf(text[i], sizeof text[i], "a%d-%d-%d", c->mine, round, i);
      (void)snprintf(want[i], sizeof want[i], "A%d-%d-%d", c->mine, round, i);
      t[i] = submit(c->p, "up", text[i]);
    }
    for (i = 19; i >= 0; i--) expect(t[i], want[i]);
  }
  return NULL;
}

TEST("any thread submits and waits, and each gets its own", .limit = 90) {
  struct crew c[4];
  pthread_t t[4];
  mp_pool *p = new_pool(2, 0, NULL);
  int i;
  for (i = 0; i < 4; i++) {
    c[i] = (struct crew){p, i};
    CHECK_EQ(pthread_create(&t[i], NULL, submit_and_wait, &c[i]), 0);
  }
  for (i = 0; i < 4; i++) CHECK_EQ(pthread_join(t[i], NULL), 0);
  mp_pool_free(p);
}

static int pid_of (mp_pool *p) {
  mp_task *t = submit(p, "pid", NULL);
  const void *data;
  size_t size;
  int pid;
  CHECK_OK(mp_task_wait(t, mp_deadline(LONG)));
  CHECK_OK(mp_task_result(t, &data, &size));
  pid = atoi(data);
  mp_task_free(t);
  CHECK(pid > 0);
  return pid;
}

static int is_gone (pid_t pid) {
  int state = test_state(pid);
  return state == 0 || state == 'Z';
}

TEST("a worker that is killed fails its task only, or runs it again, and is replaced though the host does nothing", .limit = 60) {
  mp_pool *p = new_pool(1, 0, NULL);
  struct mp_task_options o = call("flaky", NULL);
  mp_object *once;
  mp_task *t, *more[3];
  int pid = pid_of(p), i;
  CHECK_OK(mp_event_new(&once));
  o.objects = &once;
  o.nobjects = 1;
  o.retries = 1;
  expect(submit_as(p, &o), "at last");
  CHECK(pid_of(p) != pid);
  CHECK_OK(mp_event_clear(once));
  o.retries = 0;
  expect_failure(submit_as(p, &o), "died");
  pid = pid_of(p);
  CHECK_OK(mp_event_clear(once));
  o.function = "begin";
  t = submit_as(p, &o);
  CHECK_OK(mp_event_wait(once, mp_deadline(LONG))); /* it is in its hands */
  for (i = 0; i < 3; i++) more[i] = submit(p, "give", NULL); /* wait behind it; without a queue they fail, which is no matter */
  CHECK_EQ(kill(pid, SIGKILL), 0);
  CHECK(wait_until(is_gone(pid), 10000));
  /* Nobody is inside a call: the supervisor replaces the worker, which takes the next tasks. */
  {
    struct pollfd answers = {mp_pool_fd(p), POLLIN, 0};
    CHECK(wait_until(mp_pool_pending(p) == 4 && poll(&answers, 1, 10) == 1, 10000));
  }
  CHECK_EQ(failure(t)->signal, SIGKILL);
  mp_task_free(t);
  for (i = 0; i < 3; i++) mp_task_free(more[i]);
  mp_release(once);
  mp_pool_free(p);
}

TEST("a supervisor that is killed fails what was pending, and another one takes over", .limit = 60) {
  mp_pool *p = new_pool(2, 0, NULL);
  struct pollfd ended = {mp_pool_fd(p), POLLIN, 0};
  mp_task *t = submit(p, "nap", "100"), *u = NULL;
  int worker = pid_of(p), pid = mp_pool_supervisor(p);
  CHECK(pid > 0);
  CHECK_EQ(kill(pid, SIGKILL), 0);
  CHECK_EQ(poll(&ended, 1, 10000), 1);
  CHECK_OK(mp_pool_next(p, &u, mp_deadline(10)));
  CHECK(u == t);
  CHECK_STR(failure(t)->kind, "died");
  CHECK_EQ(mp_pool_supervisor(p), 0);
  CHECK(wait_until(is_gone(worker), 10000));
  CHECK_ERR(mp_pool_next(p, &u, 0), MP_ETIMEDOUT);
  expect(submit(p, "up", "again"), "AGAIN");
  CHECK(mp_pool_supervisor(p) > 0 && mp_pool_supervisor(p) != pid);
  mp_task_free(t);
  mp_pool_free(p);
}

TEST("close lets what was submitted be done, join waits for it, and there is an end to next", .limit = 60) {
  mp_pool *p = new_pool(2, 0, NULL);
  struct mp_task_options o = call("up", "x");
  mp_task *t[20], *u = NULL;
  int pid = mp_pool_supervisor(p), worker = pid_of(p), i;
  for (i = 0; i < 20; i++) t[i] = submit(p, "up", "x");
  CHECK_ERR(mp_pool_join(p, 0), MP_EMISUSE);
  CHECK_OK(mp_pool_close(p));
  CHECK_ERR(mp_pool_submit(p, &o, &u, mp_deadline(1)), MP_ECLOSED);
  CHECK_OK(mp_pool_join(p, mp_deadline(LONG)));
  CHECK(is_gone(pid));
  CHECK(is_gone(worker));
  CHECK_OK(mp_pool_join(p, 0));
  for (i = 0; i < 20; i++) {
    CHECK_EQ(mp_task_ready(t[i]), 1);
    CHECK_OK(mp_pool_next(p, &u, 0));
  }
  CHECK_ERR(mp_pool_next(p, &u, MP_NEVER), MP_ECLOSED);
  for (i = 0; i < 20; i++) mp_task_free(t[i]);
  mp_pool_free(p);
}

TEST("freeing a pool cancels what is pending; the handles stay good, and nobody is left", .limit = 60) {
  mp_pool *p = new_pool(2, 0, NULL);
  mp_task *t = submit(p, "stubborn", NULL);
  int pid = mp_pool_supervisor(p), worker = pid_of(p);
  const void *data;
  size_t size;
  mp_pool_free(p);
  CHECK(is_gone(pid));
  CHECK(wait_until(is_gone(worker), 10000));
  CHECK_OK(mp_task_wait(t, MP_NEVER));
  CHECK_ERR(mp_task_result(t, &data, &size), MP_ECANCELLED);
  CHECK_OK(mp_task_cancel(t));
  mp_task_free(t);
  mp_pool_free(NULL);
  mp_task_free(NULL);
}

TEST("shared objects go with the pool's chunk and with each task", .limit = 60) {
  struct mp_pool_options o;
  struct mp_task_options call_give = call("give", NULL), call_kept = call("kept_put", "kept");
  mp_object *q[2];
  char text[32];
  size_t n = sizeof text;
  const void *data;
  mp_pool *p = NULL;
  mp_task *t;
  CHECK_OK(mp_queue_new(NULL, &q[0]));
  CHECK_OK(mp_queue_new(NULL, &q[1]));
  memset(&o, 0, sizeof o);
  o.size = sizeof o;
  o.processes = 1;
  o.chunk = "local kept = ...  function kept_put(s) kept:put(s) end  function give(_, q) q:put('given') end";
  o.objects = &q[0];
  o.nobjects = 1;
  o.sandbox = "pure";
  need_helper();
  CHECK_OK(mp_pool_new(&o, &p));
  call_give.objects = &q[1];
  call_give.nobjects = 1;
  t = submit_as(p, &call_give);
  CHECK_OK(mp_task_wait(t, mp_deadline(LONG)));
  CHECK_OK(mp_task_result(t, &data, &n));
  mp_task_free(t);
  n = sizeof text;
  CHECK_OK(mp_queue_get_string(q[1], text, &n, 0));
  CHECK_EQ(n, 5);
  t = submit_as(p, &call_kept);
  n = sizeof text;
  CHECK_OK(mp_queue_get_string(q[0], text, &n, mp_deadline(LONG)));
  CHECK_MEM(text, "kept", 4);
  mp_task_free(t);
  mp_pool_free(p);
}

TEST("tasks in a sandbox compute and are refused the rest", .limit = 60) {
  mp_pool *p = new_pool(1, 0, "pure");
  struct mp_task_options o = call(NULL, NULL);
  expect(submit(p, "up", "abc"), "ABC");
  o.chunk = "local f, why = io.open('/etc/passwd')  return tostring(f) .. (why:find('not permitted') and ' refused' or why)";
  expect(submit_as(p, &o), "nil refused");
  o.chunk = "return tostring(os.execute('true'))";
  expect(submit_as(p, &o), "nil");
  o = call("stubborn", NULL);
  o.timeout = 200000000;
  expect_failure(submit_as(p, &o), "timeout");
  expect(submit(p, "up", "on"), "ON");
  mp_pool_free(p);
}

TEST("what is wrong with a pool is said when it is made, and a chunk that fails when it is used", .limit = 60) {
  struct mp_pool_options o;
  mp_pool *p = NULL;
  mp_task *t;
  need_helper();
  memset(&o, 0, sizeof o);
  CHECK_ERR(mp_pool_new(&o, &p), MP_EMISUSE); /* no size */
  o.size = sizeof o;
  o.processes = 257;
  CHECK_ERR(mp_pool_new(&o, &p), MP_EMISUSE);
  o.processes = 1;
  o.chunk = "function (";
  CHECK_ERR(mp_pool_new(&o, &p), MP_EMISUSE);
  CHECK(strncmp(mp_errmsg(), "chunk:1:", 8) == 0);
  o.chunk = NULL;
  o.sandbox = "{ read = 'nowhere-at-all' }";
  CHECK_ERR(mp_pool_new(&o, &p), MP_EMISUSE);
  o.sandbox = NULL;
  o.chunk = "error('not today')";
  CHECK_OK(mp_pool_new(&o, &p));
  t = submit(p, "up", "x");
  CHECK(strstr(failure(t)->message, "not today") != NULL);
  mp_task_free(t);
  mp_pool_free(p);
}

TEST("workers are replaced after their number of tasks", .limit = 60) {
  struct mp_pool_options o;
  mp_pool *p = NULL;
  int first;
  memset(&o, 0, sizeof o);
  o.size = sizeof o;
  o.processes = 1;
  o.chunk = chunk;
  o.max_tasks_per_worker = 1;
  need_helper();
  CHECK_OK(mp_pool_new(&o, &p));
  first = pid_of(p);
  CHECK(pid_of(p) != first);
  mp_pool_free(p);
}

struct copies {
  mp_pool *p;
  mp_task *t;
};

static void use_copies (void *arg) {
  struct copies *c = arg;
  struct mp_task_options o = call("up", "x");
  mp_task *t = NULL;
  CHECK_ERR(mp_pool_submit(c->p, &o, &t, 0), MP_EMISUSE);
  CHECK_ERR(mp_pool_next(c->p, &t, 0), MP_EMISUSE);
  CHECK_ERR(mp_task_wait(c->t, 0), MP_EMISUSE);
  CHECK_ERR(mp_task_cancel(c->t), MP_EMISUSE);
  mp_task_free(c->t);
  mp_pool_free(c->p);
}

TEST("a forked child of the host has no say in its pools", .limit = 60) {
  struct copies c;
  c.p = new_pool(1, 0, NULL);
  c.t = submit(c.p, "nap", "0.1");
  CHECK_EQ(wait_child(fork_child(use_copies, &c)), 0);
  expect(c.t, "");
  mp_pool_free(c.p);
}

static int yes (void *ud) {
  (void)ud;
  return 1;
}

static void ignore (int sig) {
  (void)sig;
}

static _Atomic int poking = 1;

static void *poke (void *arg) {
  const pthread_t *who = arg;
  while (poking) {
    (void)pthread_kill(*who, SIGUSR1);
    (void)usleep(10000);
  }
  return NULL;
}

TEST("a wait is interrupted when the thread's callback says so", .limit = 60) {
  mp_pool *p = new_pool(1, 0, NULL);
  mp_task *t = submit(p, "nap", "100");
  struct sigaction sa;
  pthread_t me = pthread_self(), other;
  memset(&sa, 0, sizeof sa);
  sa.sa_handler = ignore;
  CHECK_EQ(sigaction(SIGUSR1, &sa, NULL), 0);
  mp_set_interrupt(yes, NULL);
  CHECK_EQ(pthread_create(&other, NULL, poke, &me), 0);
  CHECK_ERR(mp_task_wait(t, mp_deadline(LONG)), MP_EINTR);
  mp_set_interrupt(NULL, NULL);
  poking = 0;
  CHECK_EQ(pthread_join(other, NULL), 0);
  mp_task_free(t);
  mp_pool_free(p);
}

TEST("the host's signals are its own, and nothing is written to its stderr", .limit = 60) {
  struct sigaction before[NSIG], now;
  struct mp_worker_options w;
  FILE *err = tmpfile();
  mp_worker *worker = NULL;
  sigset_t mask, mask_now;
  mp_pool *p;
  int i;
  CHECK(err != NULL);
  CHECK(dup2(fileno(err), 2) == 2);
  for (i = 1; i < NSIG; i++)
    if (sigaction(i, NULL, &before[i]) != 0) before[i].sa_handler = SIG_ERR;
  CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
  p = new_pool(2, 0, NULL);
  expect_failure(submit(p, "fail", "x"), "error");
  expect_failure(submit(p, "leave", "3"), "died");
  memset(&w, 0, sizeof w);
  w.size = sizeof w;
  w.chunk = "error('loud')";
  w.sandbox = "pure";
  CHECK_OK(mp_worker_start(&w, &worker));
  CHECK_OK(mp_worker_wait(worker, mp_deadline(LONG)));
  mp_worker_free(worker);
  CHECK_OK(mp_pool_close(p));
  CHECK_OK(mp_pool_join(p, mp_deadline(LONG)));
  mp_pool_free(p);
  for (i = 1; i < NSIG; i++) {
    if (before[i].sa_handler == SIG_ERR) continue;
    CHECK_EQ(sigaction(i, NULL, &now), 0);
    CHECK(now.sa_handler == before[i].sa_handler);
  }
  CHECK_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask_now), 0);
  for (i = 1; i < NSIG; i++) CHECK_EQ(sigismember(&mask_now, i), sigismember(&mask, i));
  CHECK_EQ(lseek(2, 0, SEEK_END), 0);
}
