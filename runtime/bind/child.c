#include "bind/child.h"

#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/sys.h"
#include "base/warm.h"
#include "bind/coros.h"
#include "bind/udata.h"
#include "proc/child.h"
#include "proc/thread.h"

/* mprun's own handler knows every coroutine; see main/sigint.h. Weak: in other interpreters there is none. */
extern int mprun_interrupt_pending (void) __attribute__((weak));

struct hooked {
  lua_State *L;
  lua_Hook hook;
  int mask;
  int count;
};

static MPI_WARM struct hooked main_state, running; /* whose hooks the handler sets; L == NULL: none */
static MPI_WARM volatile sig_atomic_t main_armed;  /* by the last signal; the hook may be taken away by mpl_interrupt, which has raised then */
static MPI_WARM struct sigaction inherited;        /* mprun's handler, or none */
static MPI_WARM volatile sig_atomic_t pending;
static MPI_WARM volatile int64_t pending_since;
static MPI_WARM volatile sig_atomic_t interrupter;

static void disarm (struct hooked *h);
static void disarm_coroutine (lua_State *l);

static void stop (lua_State *L, lua_Debug *ar) {
  int real = pending != 0 && (!main_armed || lua_gethook(main_state.L) == stop);
  (void)ar;
  disarm(&main_state);
  disarm(&running);
  mpl_coros_each(disarm_coroutine);
  if (lua_gethook(L) == stop) lua_sethook(L, NULL, 0, 0); /* a coroutine that was born meanwhile */
  pending = 0;
  if (real) mpl_interrupted(L);
}

static void disarm (struct hooked *h) {
  if (h->L != NULL && lua_gethook(h->L) == stop) lua_sethook(h->L, h->hook, h->mask, h->count);
}

static void disarm_coroutine (lua_State *l) {
  if (lua_gethook(l) == stop) lua_sethook(l, NULL, 0, 0);
}

/* One with a hook of its own, a debugger's, keeps it. */
static void arm_coroutine (lua_State *l) {
  if (lua_gethook(l) == NULL) lua_sethook(l, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static void arm (struct hooked *h) {
  if (h->L == NULL || lua_gethook(h->L) == stop || (lua_gethookmask(h->L) & LUA_MASKCOUNT)) return;
  h->hook = lua_gethook(h->L);
  h->mask = lua_gethookmask(h->L);
  h->count = lua_gethookcount(h->L);
  lua_sethook(h->L, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static void on_sigint (int sig, siginfo_t *si, void *context) {
  int saved = errno;
  pid_t pid = getpid();
  int64_t now = mp_now();
  (void)context;
  if (gettid() != pid) {
    (void)syscall(SYS_tgkill, pid, pid, sig);
    errno = saved;
    return;
  }
  if (si->si_code != SI_TKILL) { /* else: passed on, as above */
    interrupter = si->si_code == SI_USER && si->si_pid == mpi_parent() ? 1 : 2;
    if (interrupter == 2) atomic_store(&mpi_program()->interrupted_at, now);
  }
  if (mpi_exiting) {
    mpi_exiting = 2;
  } else if (pending && now - pending_since > MPI_NS_PER_S) { /* C code that does not look */
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
  } else {
    if (!pending) pending_since = now;
    if (inherited.sa_handler != SIG_DFL) inherited.sa_handler(sig);
    else pending = 1;
    if (inherited.sa_handler == SIG_DFL || !mprun_interrupt_pending()) pending = 1;
    if (pending) {
      arm(&main_state);
      main_armed = lua_gethook(main_state.L) == stop;
      arm(&running);
      mpl_coros_each(arm_coroutine);
    }
  }
  mpi_interrupt_note();
  errno = saved;
}

static MPI_WARM sigset_t before_hold;
static MPI_WARM int held;

void mpl_child_hold (void) {
  sigset_t set;
  (void)sigemptyset(&set);
  (void)sigaddset(&set, SIGINT);
  held = pthread_sigmask(SIG_BLOCK, &set, &before_hold) == 0;
}

MPI_HOT void mpl_child_held (const sigset_t *before) {
  before_hold = *before;
  held = 1;
}

MPI_HOT void mpl_child_let (void) {
  if (held) (void)mpi_sys(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before_hold, 0, 8);
  held = 0;
}

MPI_HOT void mpl_child_signals (lua_State *L) {
  struct sigaction sa, old;
  (void)mpi_program();
  pending = 0;
  interrupter = 0;
  (void)sigdelset(&before_hold, SIGINT); /* a child can be interrupted and terminated, even if its parent cannot */
  (void)sigdelset(&before_hold, SIGTERM);
  (void)sigdelset(&before_hold, SIGPIPE);
  memset(&running, 0, sizeof running);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  main_state.L = lua_tothread(L, -1);
  lua_pop(L, 1);
  if (mprun_interrupt_pending == NULL) mpl_coros_learn(L);
  memset(&sa, 0, sizeof sa);
  sa.sa_sigaction = on_sigint;
  sa.sa_flags = SA_SIGINFO; /* no SA_RESTART: a blocked read comes back, so that the hook runs */
  (void)sigemptyset(&sa.sa_mask);
  mpi_interrupts_are_noted(1);
  if (sigaction(SIGINT, &sa, &old) != 0 || ((old.sa_flags & SA_SIGINFO) && old.sa_sigaction == on_sigint)) return; /* a child of a child */
  inherited = old;
  if ((old.sa_flags & SA_SIGINFO) || old.sa_handler == SIG_IGN || mprun_interrupt_pending == NULL) inherited.sa_handler = SIG_DFL;
}

int mpl_child_interrupter (void) {
  return interrupter;
}

static const char traceback_key = 0; /* registry: of the last error; taken away when it is read */
static const char thread_key = 0;    /* registry: what mpl_child_prepare gives */

static int message_handler (lua_State *L) {
  luaL_traceback(L, L, NULL, 1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
  return 1;
}

void mpl_child_traceback (lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &traceback_key);
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
}

/* Records of calls for so deep a call are made. */
static int deepen (lua_State *L) {
  lua_Integer n = lua_tointeger(L, 1);
  if (n <= 1) return 0;
  lua_pushcfunction(L, deepen);
  lua_pushinteger(L, n - 1);
  lua_call(L, 1, 0);
  return 0;
}

void mpl_child_deepen (lua_State *L, lua_State *T, int depth) {
  lua_pushcfunction(T, deepen);
  lua_pushinteger(T, depth);
  if (lua_pcall(T, 1, 0, 0) == LUA_OK) return;
  if (T != L) lua_xmove(T, L, 1); /* an interruption, perhaps: it is L that runs, and has somebody who catches it */
  (void)lua_error(L);
}

lua_State *mpl_child_prepare (lua_State *L) {
  lua_Debug ar;
  lua_State *T;
  luaL_checkstack(L, 3, NULL);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &thread_key);
  T = lua_tothread(L, -1);
  if (T == NULL || lua_getstack(T, 0, &ar)) { /* none yet, or it is the one that we run on */
    lua_pop(L, 1);
    T = lua_newthread(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &thread_key);
    mpl_child_deepen(L, T, 3);
  }
  lua_settop(T, 0);
  lua_sethook(T, lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L)); /* as a new one inherits it */
  if (!lua_checkstack(T, LUA_MINSTACK)) (void)luaL_error(L, "not enough memory"); /* on T, which runs nothing, nothing may be raised */
  lua_pushcfunction(T, message_handler);
  return T;
}

void mpl_child_forget (lua_State *L) {
  lua_Debug ar;
  lua_State *T;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &thread_key);
  T = lua_tothread(L, -1);
  if (T != NULL && !lua_getstack(T, 0, &ar)) lua_settop(T, 0);
  lua_pop(L, 1);
}

MPI_HOT int mpl_child_call (lua_State *T, int n) {
  struct hooked before = running;
  int main_thread = mpi_thread_self() == NULL; /* the others are stopped in another way: l_thread.c */
  int rc;
  if (main_thread) {
    memset(&running, 0, sizeof running);
    running.L = T;
    mpl_child_let();
  } else {
    mpl_thread_begins();
  }
  rc = lua_pcall(T, n, LUA_MULTRET, 1);
  if (main_thread) running = before;
  else mpl_thread_left();
  return rc;
}

static int nothing (lua_State *L) {
  (void)L;
  return 0;
}

/* Its hooks may be set already, by a signal that came when the function had just returned: they would raise in what is done afterwards. */
void mpl_child_ended (lua_State *L) {
  mpl_child_hold();
  lua_pushcfunction(L, nothing);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK) lua_pop(L, 1);
}

int mpl_child_run (lua_State *L) {
  lua_State *T = lua_newthread(L);
  int n = lua_gettop(L) - 2;
  int rc, i, results;
  int was_held = held && mpi_thread_self() == NULL;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  luaL_checkstack(T, n + 8, "too many arguments");
  lua_insert(L, 1); /* the thread is anchored at 1, the function at 2 */
  lua_pushcfunction(T, message_handler);
  lua_pushvalue(L, 2);
  lua_xmove(L, T, 1);
  for (i = 0; i < n; i++) lua_pushvalue(L, 3 + i);
  lua_xmove(L, T, n);
  rc = mpl_child_call(T, n);
  if (was_held) mpl_child_ended(L);
  if (rc == LUA_OK) {
    results = lua_gettop(T) - 1;
    lua_settop(L, 1);
    lua_pushboolean(L, 1);
    luaL_checkstack(L, results + 4, "too many results");
    lua_xmove(T, L, results);
    return results + 1;
  }
  lua_settop(L, 1);
  lua_pushboolean(L, 0);
  lua_xmove(T, L, 1);
  mpl_child_traceback(L);
  return 3;
}
