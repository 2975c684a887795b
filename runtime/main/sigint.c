#include "main/sigint.h"

#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/interrupt.h"
#include "base/warm.h"
#include "main/hooks.h"
#include "main/small.h"
#include "proc/child.h"

#define PATIENCE_NS 1000000000 /* a SIGINT this long after the one that is pending ... */
#define PATIENCE_COUNT 20      /* ... or this many of them: the default action */

/* Stands before a thread's block. Its size makes the block's address 8 modulo 16, which malloc never gives. */
struct node {
  struct node *next;
  struct node *prev;
  lua_Hook hook; /* the script's own, while ours is set */
  int mask;
  int count;
  lua_State *L;
};

#define BLOCK_MARK MPI_SMALL_MARK /* small blocks have it too, but a thread is larger than they are */
_Static_assert(sizeof(struct node) % 16 == BLOCK_MARK, "a thread's block is recognised by its alignment");
_Static_assert(_Alignof(max_align_t) == 16, "malloc must give multiples of 16");

static int nesting; /* what is allocated now goes into the nest if there is room */

/* The list is changed by the main thread and read by a handler that interrupts it, so that only the order of the stores matters,
** which `order` keeps. The handler follows `next` alone. */
#define order() atomic_signal_fence(memory_order_seq_cst)

static MPI_WARM struct node first; /* the main state's; never freed */
static MPI_WARM struct node *embryo; /* allocated, but not yet a thread that may be touched */
static int blind; /* threads are not laid out as assumed: only the main state is reached, as by lua5.4 */

static MPI_WARM volatile sig_atomic_t pending; /* number of SIGINTs since the first that has raised nothing yet. Set by the handler, cleared by `stop` */
static MPI_WARM volatile int64_t pending_since;

static void stop (lua_State *L, lua_Debug *ar);

static void arm (struct node *n) {
  if (lua_gethook(n->L) == stop) return;
  n->hook = lua_gethook(n->L);
  n->mask = lua_gethookmask(n->L);
  n->count = lua_gethookcount(n->L);
  lua_sethook(n->L, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

static void disarm (struct node *n) {
  if (lua_gethook(n->L) == stop) lua_sethook(n->L, n->hook, n->mask, n->count);
}

static struct node *after (struct node *n) {
  return blind ? NULL : n->next;
}

static void disarm_all (void) {
  struct node *n;
  for (n = &first; n != NULL; n = after(n)) disarm(n);
  order();
  pending = 0; /* last: a signal in between leaves a hook that finds nothing pending and goes away */
}

static void stop (lua_State *L, lua_Debug *ar) {
  int real = pending != 0;
  (void)ar;
  disarm_all(); /* also when it is a left-over: inherited by a coroutine that was born meanwhile, say */
  if (!real) return;
  mpi_note_interrupt();
  lua_pushliteral(L, "interrupted!"); /* no place: where it is caught it is the same message in every call */
  lua_error(L);
}

/* ---- the list of threads ---- */

static void link_embryo (void) {
  struct node *n = embryo;
  embryo = NULL;
  n->next = first.next;
  n->prev = &first;
  if (n->next != NULL) n->next->prev = n;
  order();
  first.next = n;
  order();
  if (pending && !blind) arm(n);
}

static void unlink_node (struct node *n) {
  n->prev->next = n->next;
  order();
  if (n->next != NULL) n->next->prev = n->prev;
}

/* A thread's block starts with the extra space, as lua_getextraspace has it. It is zeroed: between its allocation and the end of
** its construction the handler may see it, and then finds no call and no hook in it. */
static void *new_thread (size_t size) {
  struct node *n;
  if (size <= MPI_SMALL_MOST) return malloc(size); /* no Lua that we know: mpi_sigint_watch will see */
  n = nesting ? mpi_nest_get(sizeof(struct node) + size) : NULL;
  if (n == NULL) n = calloc(1, sizeof(struct node) + size);
  if (n == NULL) return NULL;
  n->L = (lua_State *)(void *)((char *)(n + 1) + LUA_EXTRASPACE);
  embryo = n;
  return n + 1;
}

static void free_thread (void *block) {
  struct node *n = (struct node *)block - 1;
  unlink_node(n);
  if (!mpi_nest_has(n)) free(n);
}

/* BLOCK_MARK tells threads by their address because other blocks are aligned to 16. Allocators that people preload align what is smaller than 16
** less. */
static size_t aligned (size_t size) {
  return size < 16 ? 16 : size;
}

static MPI_HOT void *new_block (size_t size) {
  void *b = size <= MPI_SMALL_MOST ? mpi_small_get(size) : nesting ? mpi_nest_get(size) : NULL;
  return b != NULL ? b : malloc(aligned(size));
}

/* A block that is not small grows or shrinks. */
static void *resize (void *ptr, size_t osize, size_t nsize) {
  void *b;
  if (!mpi_nest_has(ptr)) return realloc(ptr, aligned(nsize));
  if (nsize <= osize) return ptr;
  b = malloc(nsize);
  if (b != NULL) memcpy(b, ptr, osize);
  return b;
}

/* A small block grows: into another one. A request for less than there is must not fail. */
static void *resize_small (void *ptr, size_t osize, size_t nsize) {
  void *b;
  if (nsize <= osize || (nsize + 15) / 16 == (osize + 15) / 16) return ptr;
  b = new_block(nsize);
  if (b == NULL) return NULL;
  memcpy(b, ptr, osize);
  mpi_small_put(ptr, osize);
  return b;
}

/* The next request after a thread's own is for its stack: by then all fields that lua_sethook looks at are set. A thread's block is
** never resized. luaL_newstate's own allocator is realloc and free too, so what the state has already may come here. */
static MPI_HOT void *watching_alloc (void *ud, void *ptr, size_t osize, size_t nsize) {
  (void)ud;
  if (__builtin_expect(embryo != NULL, 0)) link_embryo();
  if (ptr == NULL) {
    if (nsize == 0) return NULL;
    return __builtin_expect(osize == LUA_TTHREAD, 0) ? new_thread(nsize) : new_block(nsize);
  }
  if (((uintptr_t)ptr & BLOCK_MARK) && osize <= MPI_SMALL_MOST) {
    if (nsize != 0) return resize_small(ptr, osize, nsize);
    mpi_small_put(ptr, osize);
    return NULL;
  }
  if (nsize != 0) return resize(ptr, osize, nsize);
  if ((uintptr_t)ptr & BLOCK_MARK) free_thread(ptr);
  else if (!mpi_nest_has(ptr)) free(ptr);
  return NULL;
}

void mpi_sigint_nest (int on) {
  nesting = on;
}

void mpi_sigint_watch (lua_State *L) {
  lua_State *probe;
  first.L = L;
  lua_setallocf(L, watching_alloc, NULL);
  probe = lua_newthread(L);
  blind = first.next == NULL || first.next->L != probe;
  lua_pop(L, 1);
}

/* ---- the handler ---- */

static int64_t now_ns (void) {
  struct timespec ts;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void give_up (void) {
  struct sigaction sa;
  memset(&sa, 0, sizeof sa);
  sa.sa_handler = SIG_DFL;
  (void)sigaction(SIGINT, &sa, NULL);
  (void)raise(SIGINT); /* delivered when the handler returns */
}

static void on_sigint (int sig) {
  int saved = errno;
  pid_t pid = getpid();
  if (gettid() != pid) {
    (void)syscall(SYS_tgkill, pid, pid, sig);
  }
  else if (pending && (pending >= PATIENCE_COUNT || now_ns() - pending_since >= PATIENCE_NS)) {
    give_up();
  }
  else {
    struct node *n;
    if (!pending) pending_since = now_ns();
    pending = pending + 1;
    order();
    for (n = &first; n != NULL; n = after(n)) arm(n);
    mpi_interrupt_note();
  }
  errno = saved;
}

static void set_handler (void (*handler)(int)) {
  struct sigaction sa;
  memset(&sa, 0, sizeof sa);
  sa.sa_handler = handler;
  sigemptyset(&sa.sa_mask); /* no SA_RESTART: a read must come back, so that the hook runs */
  (void)sigaction(SIGINT, &sa, NULL);
}

void mpi_sigint_begin (void) {
  set_handler(on_sigint);
  mpi_interrupts_are_noted(1);
}

void mpi_sigint_end (void) {
  set_handler(SIG_DFL);
  mpi_interrupts_are_noted(0);
  disarm_all();
}

static sigset_t before_hold;

void mpi_sigint_hold (void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  (void)pthread_sigmask(SIG_BLOCK, &set, &before_hold);
}

void mpi_sigint_release (void) {
  (void)pthread_sigmask(SIG_SETMASK, &before_hold, NULL);
}

int mprun_interrupt_pending (void) {
  return pending != 0;
}
