/* worker_test.c -- processes that run a chunk of Lua for a C host: results, failures, sandboxes, ends. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "host/helper_path.h"
#include "mp.h"
#include "test/test.h"

static void need_helper (void) {
#ifdef __SANITIZE_THREAD__
  SKIP("the thread sanitizer makes a fork of the vfork that starts the helper");
#endif
  CHECK_OK(set_helper());
}

#define LONG 20 /* seconds: more than anything here should take */

static struct mp_worker_options options (const char *chunk) {
  struct mp_worker_options o;
  memset(&o, 0, sizeof o);
  o.size = sizeof o;
  o.chunk = chunk;
  return o;
}

static mp_worker *start (const struct mp_worker_options *o) {
  mp_worker *w = NULL;
  need_helper();
  CHECK_OK(mp_worker_start(o, &w));
  return w;
}

/* Its result as a C string. */
static const char *result (mp_worker *w) {
  const void *data = NULL;
  size_t size = 0;
  CHECK_OK(mp_worker_wait(w, mp_deadline(LONG)));
  CHECK_OK(mp_worker_result(w, &data, &size));
  CHECK_EQ(strlen(data), size);
  return data;
}

static const struct mp_failure *failure (mp_worker *w) {
  const void *data;
  size_t size;
  CHECK_OK(mp_worker_wait(w, mp_deadline(LONG)));
  CHECK_ERR(mp_worker_result(w, &data, &size), MP_EFAILED);
  CHECK(mp_worker_failure(w) != NULL);
  CHECK_STR(mp_errmsg(), mp_worker_failure(w)->message);
  return mp_worker_failure(w);
}

TEST("a worker runs its chunk with input and shared objects, and its string comes back", .limit = 40) {
  struct mp_worker_options o = options("local text, q, e = ...  q:put(text .. '!')  e:set()  return text:rep(3)");
  mp_object *objects[2];
  char back[16];
  size_t n = sizeof back;
  mp_worker *w;
  CHECK_OK(mp_queue_new(NULL, &objects[0]));
  CHECK_OK(mp_event_new(&objects[1]));
  o.input = "abc";
  o.input_size = 3;
  o.objects = objects;
  o.nobjects = 2;
  w = start(&o);
  CHECK_OK(mp_event_wait(objects[1], mp_deadline(LONG)));
  CHECK_OK(mp_queue_get_string(objects[0], back, &n, mp_deadline(LONG)));
  CHECK_EQ(n, 4);
  CHECK_MEM(back, "abc!", 4);
  CHECK_STR(result(w), "abcabcabc");
  CHECK(mp_worker_failure(w) == NULL);
  mp_worker_free(w);
}

TEST("a number comes back as its text, nothing as nothing, and a table not at all", .limit = 40) {
  struct mp_worker_options o = options("return 42");
  mp_worker *w = start(&o);
  CHECK_STR(result(w), "42");
  mp_worker_free(w);
  o.chunk = "local input = ...  assert(input == nil)";
  w = start(&o);
  CHECK_STR(result(w), "");
  mp_worker_free(w);
  o.chunk = "return {}";
  w = start(&o);
  CHECK_STR(failure(w)->kind, "encode");
  mp_worker_free(w);
}

TEST("a megabyte goes there and back", .limit = 40) {
  struct mp_worker_options o = options("local s = ...  return s .. s");
  static char big[1 << 20];
  const void *data = NULL;
  size_t size = 0;
  mp_worker *w;
  memset(big, 'x', sizeof big);
  o.input = big;
  o.input_size = sizeof big;
  w = start(&o);
  CHECK_OK(mp_worker_wait(w, mp_deadline(LONG)));
  CHECK_OK(mp_worker_result(w, &data, &size));
  CHECK_EQ(size, 2 * sizeof big);
  CHECK_MEM((const char *)data + sizeof big, big, sizeof big);
  mp_worker_free(w);
}

TEST("an error comes back with its line and a traceback; so does one of syntax", .limit = 40) {
  struct mp_worker_options o = options("local function inner() error('no luck') end\ninner()");
  const struct mp_failure *f;
  mp_worker *w;
  o.chunk_name = "=job";
  w = start(&o);
  f = failure(w);
  CHECK_STR(f->kind, "error");
  CHECK_STR(f->message, "job:1: no luck");
  CHECK(f->traceback != NULL && strstr(f->traceback, "job:2:") != NULL);
  CHECK_EQ(f->exitcode, 1);
  mp_worker_free(w);
  o.chunk = "return +";
  w = start(&o);
  CHECK(strncmp(failure(w)->message, "job:1: unexpected symbol", 24) == 0);
  mp_worker_free(w);
}

TEST("how a worker ended is told: by os.exit, by a signal, by mp_worker_kill", .limit = 60) {
  struct mp_worker_options o = options("os.exit(7)");
  const struct mp_failure *f;
  struct pollfd p = {.events = POLLIN};
  mp_worker *w = start(&o);
  f = failure(w);
  CHECK_STR(f->kind, "died");
  CHECK_EQ(f->exitcode, 7);
  mp_worker_free(w);
  o.chunk = "while true do end";
  w = start(&o);
  p.fd = mp_worker_fd(w);
  CHECK_EQ(poll(&p, 1, 0), 0);
  CHECK_ERR(mp_worker_wait(w, 0), MP_ETIMEDOUT);
  CHECK_ERR(mp_worker_result(w, (const void **)&f, &(size_t){0}), MP_EMISUSE);
  CHECK_EQ(kill(mp_worker_pid(w), SIGTERM), 0);
  f = failure(w);
  CHECK_STR(f->kind, "died");
  CHECK_EQ(f->signal, SIGTERM);
  CHECK_EQ(f->pid, mp_worker_pid(w));
  CHECK_EQ(poll(&p, 1, 0), 1);
  CHECK_OK(mp_worker_kill(w)); /* an ended one */
  mp_worker_free(w);
  w = start(&o);
  CHECK_OK(mp_worker_kill(w));
  CHECK_EQ(failure(w)->signal, SIGKILL);
  mp_worker_free(w);
}

static int is_gone (pid_t pid) {
  int state = test_state(pid);
  return state == 0 || state == 'Z'; /* nobody may be there to reap it */
}

TEST("freeing a worker ends it, also one in a sandbox", .limit = 40) {
  struct mp_worker_options o = options("while true do end");
  mp_worker *w = start(&o);
  pid_t pid = mp_worker_pid(w);
  CHECK(!is_gone(pid));
  mp_worker_free(w);
  CHECK(is_gone(pid));
  o.sandbox = "pure";
  w = start(&o);
  pid = mp_worker_pid(w);
  mp_worker_free(w);
  CHECK(is_gone(pid));
  mp_worker_free(NULL);
}

TEST("a pure worker computes, and what it is refused is told with the grant that would allow it", .limit = 40) {
  struct mp_worker_options o = options("local f, why = io.open('/etc/passwd')\nreturn tostring(f) .. ' ' .. why");
  struct mp_violation v;
  mp_worker *w;
  o.sandbox = "pure";
  o.chunk_name = "=job";
  w = start(&o);
  CHECK(strstr(result(w), "nil /etc/passwd: Operation not permitted") != NULL);
  CHECK_EQ(mp_worker_violations(w), 1);
  CHECK_OK(mp_worker_violation(w, 0, &v));
  CHECK_STR(v.target, "/etc/passwd");
  CHECK_STR(v.need, "read");
  CHECK_STR(v.where, "job:1");
  CHECK_EQ(v.count, 1);
  CHECK_EQ(v.fatal, 0);
  CHECK_ERR(mp_worker_violation(w, 1, &v), MP_ERANGE);
  mp_worker_free(w);
}

TEST("a policy is Lua text, and grants what it says", .limit = 40) {
  struct mp_worker_options o = options("return assert(io.open('/etc/hostname')):read('l')  and 'read'");
  mp_worker *w;
  if (access("/etc/hostname", R_OK) != 0) SKIP("no /etc/hostname here");
  o.sandbox = "{ read = { '/etc/hostname' } }";
  w = start(&o);
  CHECK_STR(result(w), "read");
  mp_worker_free(w);
}

TEST("what is wrong with the options is said at the start", .limit = 40) {
  static const struct {
    const char *sandbox, *says;
  } wrong[] = {{"{ reed = {} }", "unknown key 'reed'"},
               {"{ read = { '/no/such/path' } }", "/no/such/path"},
               {"puer", "Lua table expected"},
               {"{", "unexpected symbol"},
               {"error 'x'", "error"},
               {"os.exit(1)", "os"}}; /* it sees no globals */
  struct mp_worker_options o = options("return 1");
  mp_worker *w = NULL;
  size_t i;
  need_helper();
  for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    o.sandbox = wrong[i].sandbox;
    CHECK_ERR(mp_worker_start(&o, &w), MP_EMISUSE);
    if (strstr(mp_errmsg(), wrong[i].says) == NULL) FAIL("%s: %s", wrong[i].sandbox, mp_errmsg());
  }
  o = options(NULL);
  CHECK_ERR(mp_worker_start(&o, &w), MP_EMISUSE);
  o = options("return 1");
  o.limits.cpu = -1;
  CHECK_ERR(mp_worker_start(&o, &w), MP_EMISUSE);
  o = options("return 1");
  o.size = 0;
  CHECK_ERR(mp_worker_start(&o, &w), MP_EMISUSE);
  CHECK_ERR(mp_worker_start(NULL, &w), MP_EMISUSE);
  CHECK(w == NULL);
}

TEST("a helper that is none is refused") {
  CHECK_ERR(mp_set_helper("/no/such/program"), MP_ENOSUP);
  CHECK_ERR(mp_set_helper(""), MP_EMISUSE);
}

TEST("limits hold: wall and processor time end the worker, memory is an error in Lua", .limit = 60) {
  struct mp_worker_options o = options("while true do end");
  mp_worker *w;
  o.limits.wall = 200000000;
  w = start(&o);
  CHECK_STR(failure(w)->kind, "wall");
  mp_worker_free(w);
  o.limits.wall = 0;
  o.limits.cpu = 200000000;
  o.sandbox = "pure";
  w = start(&o);
  CHECK_STR(failure(w)->kind, "cpu");
  mp_worker_free(w);
  if (test_slow() > 1) return; /* a sanitizer's own memory does not fit */
  o.limits.cpu = 0;
  o.limits.memory = 32 << 20;
  o.chunk = "local t, s = {}, 'x'  for i = 1, 1e7 do t[i] = s:rep(1000) .. i end";
  w = start(&o);
  CHECK_STR(failure(w)->kind, "memory");
  mp_worker_free(w);
}

static void use_foreign (void *arg) {
  mp_worker *w = arg;
  CHECK_ERR(mp_worker_wait(w, 0), MP_EMISUSE);
  CHECK_ERR(mp_worker_kill(w), MP_EMISUSE);
  mp_worker_free(w);
}

TEST("a forked child of the host has no say in its workers", .limit = 40) {
  struct mp_worker_options o = options("require('mp').sleep(100)");
  mp_worker *w = start(&o);
  CHECK_EQ(wait_child(fork_child(use_foreign, w)), 0);
  CHECK(!is_gone(mp_worker_pid(w)));
  mp_worker_free(w);
}

struct job {
  mp_worker *w;
  mp_object *gate;
};

static void *start_one (void *arg) {
  struct job *j = arg;
  struct mp_worker_options o = options("local _, gate = ...  gate:wait()  return 'on'");
  o.objects = &j->gate;
  o.nobjects = 1;
  CHECK_OK(mp_worker_start(&o, &j->w));
  return NULL;
}

TEST("workers that threads start outlive the threads", .limit = 40) {
  struct job j[4];
  pthread_t t[4];
  int i;
  need_helper();
  for (i = 0; i < 4; i++) {
    CHECK_OK(mp_event_new(&j[i].gate));
    CHECK_EQ(pthread_create(&t[i], NULL, start_one, &j[i]), 0);
  }
  for (i = 0; i < 4; i++) CHECK_EQ(pthread_join(t[i], NULL), 0);
  for (i = 0; i < 4; i++) {
    CHECK_OK(mp_event_set(j[i].gate));
    CHECK_STR(result(j[i].w), "on");
    mp_worker_free(j[i].w);
  }
}

static void leave_one (void *arg) {
  struct mp_worker_options o = options("while true do end");
  int *pid = arg;
  *pid = mp_worker_pid(start(&o));
  if (pid[1]) (void)kill(getpid(), SIGKILL);
}

TEST("nobody outlives the host, whether it returns or is killed", .limit = 40) {
  int i;
  need_helper();
  for (i = 0; i < 2; i++) {
    int *pid = mmap(NULL, 2 * sizeof *pid, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(pid != MAP_FAILED);
    pid[1] = i;
    (void)wait_child(fork_child(leave_one, pid));
    CHECK(pid[0] > 0);
    CHECK(wait_until(is_gone(pid[0]), 10000));
  }
}
