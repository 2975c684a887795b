/* mp.h -- the public C interface of the mp runtime. No Lua in here.
**
** Units     times are absolute CLOCK_MONOTONIC nanoseconds (mp_now()); sizes bytes.
** Errors    functions return 0 (or a positive qualifier that is named) or a negative MP_E code;
**           mp_errmsg() then gives one sentence, valid until the thread's next failing call.
**           Results come by pointer and are untouched on failure.
** Threads   every function may be called from any thread; a handle may be shared by threads.
** Process   nothing here installs signal handlers, prints, or exits.
*/
#ifndef MP_H
#define MP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MP_API __attribute__((visibility("default")))

#define MP_VERSION "0.1.0"

/* Positive results. */
#define MP_OK 0
#define MP_ABANDONED 1 /* a lock was acquired, and its last holder had died or ended holding it */

/* Failures that a caller expects (the Lua side gives nil, kind). */
#define MP_ETIMEDOUT (-1)
#define MP_EFULL (-2)
#define MP_EEMPTY (-3)
#define MP_ECLOSED (-4)
#define MP_EEOF (-5)
#define MP_EBROKEN (-6)
#define MP_ECANCELLED (-7)
/* Failures that are raised. */
#define MP_EINTR (-8)    /* the interrupt callback said yes */
#define MP_ENOMEM (-9)
#define MP_EMISUSE (-10) /* the caller broke a rule that mp_errmsg() states */
#define MP_E2BIG (-11)   /* a message that could never fit */
#define MP_ECORRUPT (-12) /* shared memory or a peer holds what no correct peer writes */
#define MP_ESYS (-13)    /* a system call failed; mp_errmsg() names it and errno's text */
#define MP_EDEADLK (-14) /* the caller holds the lock already and would wait for ever */
#define MP_ENOTOWNER (-15)
#define MP_ENOSUP (-16)  /* this kernel or build cannot do it */
#define MP_ERANGE (-17)  /* a number does not fit */
#define MP_EMFILE (-18)  /* the limit of open files is reached, although it was raised as far as allowed */
#define MP_EFAILED (-19) /* a task or worker failed: mp_task_failure, mp_worker_failure */

#define MP_NEVER INT64_MAX /* a deadline that never comes; 0 (any past time) polls */

MP_API const char *mp_version (void);
MP_API const char *mp_errmsg (void);           /* of this thread's last failure */
MP_API const char *mp_errname (int code);      /* "timeout", "full", ... the words of the Lua side */
MP_API int64_t mp_now (void);                  /* CLOCK_MONOTONIC, ns */
MP_API int64_t mp_deadline (double seconds);   /* from now; <= 0 gives 0, huge or NaN gives MP_NEVER */
MP_API int mp_sleep (int64_t deadline);        /* 0 or MP_EINTR */
MP_API int mp_cpu_count (void);                /* honours affinity and cgroup quota; at least 1 */

/* A blocked call of this thread that is hit by a signal asks `fn`; nonzero ends it with MP_EINTR.
** NULL (the default) never interrupts. Thread-local. */
typedef int (*mp_interrupt_fn) (void *ud);
MP_API void mp_set_interrupt (mp_interrupt_fn fn, void *ud);

/* Handles of shared objects. Every handle is counted: what gives you one says so; give it back with
** mp_release. Two handles of one shared object in one process are the same pointer. */
typedef struct mpi_object mp_object;
MP_API void mp_retain (mp_object *o);
MP_API void mp_release (mp_object *o); /* NULL is fine */

/* ---- Lock, RLock (runtime/shm/lock.h) ----
** A lock belongs to the thread that acquired it. acquire: 0, MP_ABANDONED (the last holder died holding it: the caller has it now and should
** check what it protects), MP_ETIMEDOUT, MP_EINTR; MP_EDEADLK for a Lock that the caller holds and that it would wait for without
** end. An RLock may be acquired again by its holder, and is free after as many releases. release: MP_ENOTOWNER. */
MP_API int mp_lock_new (mp_object **out);  /* the caller gets one reference, as from every mp_*_new */
MP_API int mp_rlock_new (mp_object **out);
MP_API int mp_lock_acquire (mp_object *lock, int64_t deadline);
MP_API int mp_lock_release (mp_object *lock);
MP_API int mp_lock_held (mp_object *lock);   /* 1: by the calling thread */
MP_API int mp_lock_locked (mp_object *lock); /* 1: by anybody, at this moment */
MP_API int mp_lock_owner (mp_object *lock);  /* the holder's process id, 0: free */

/* ---- Event (runtime/shm/event.h) ----
** wait: 0 (it is set, or was set since the call began), MP_ETIMEDOUT, MP_EINTR. */
MP_API int mp_event_new (mp_object **out);
MP_API int mp_event_set (mp_object *event);
MP_API int mp_event_clear (mp_object *event);
MP_API int mp_event_is_set (mp_object *event); /* 1 or 0 */
MP_API int mp_event_wait (mp_object *event, int64_t deadline);

/* ---- Semaphore (runtime/shm/semaphore.h) ----
** Made with `permits` free ones. A permit of an owned semaphore belongs to the thread that acquired it, only that may release it, and it is
** free again when the thread or its process ends. release: MP_EMISUSE above the first value of a bounded one, MP_ENOTOWNER. */
#define MP_SEMAPHORE_BOUNDED 1u
#define MP_SEMAPHORE_OWNED 2u
MP_API int mp_semaphore_new (unsigned permits, unsigned flags, mp_object **out);
MP_API int mp_semaphore_acquire (mp_object *semaphore, int64_t deadline);
MP_API int mp_semaphore_release (mp_object *semaphore, unsigned permits);
MP_API int mp_semaphore_value (mp_object *semaphore); /* free permits at this moment */

/* ---- Condition (runtime/shm/condition.h) ----
** lock: a Lock or RLock; NULL in new makes an RLock, NULL elsewhere is the one the handle was made with. wait and notify need it held by the
** caller (MP_EMISUSE). wait gives up all its depths, and has them again on return, whatever it returns: 0 (notified), MP_ABANDONED (notified,
** and the lock's last holder had died), MP_ETIMEDOUT, MP_EINTR (no notification was lost by it). */
MP_API int mp_condition_new (mp_object *lock, mp_object **out);
MP_API int mp_condition_wait (mp_object *condition, mp_object *lock, int64_t deadline);
MP_API int mp_condition_notify (mp_object *condition, mp_object *lock, unsigned n); /* up to n, the oldest first; UINT_MAX: all */

/* ---- Barrier (runtime/shm/barrier.h) ----
** arrive waits for the others: 0 with *rank from 1 to parties; MP_BARRIER_RUN for the last of a barrier made with MP_BARRIER_ACTION: it runs the action
** and then calls complete with the *seat it was given, in the same thread; MP_EBROKEN; MP_ETIMEDOUT and MP_EINTR (the barrier is broken for
** the others). complete: 0, or MP_EBROKEN if the barrier was broken meanwhile. timeout_ns is the default that the Lua side uses
** (MP_NEVER: none). */
#define MP_BARRIER_ACTION 1u
#define MP_BARRIER_RUN 2
MP_API int mp_barrier_new (unsigned parties, unsigned flags, int64_t timeout_ns, mp_object **out);
MP_API int mp_barrier_arrive (mp_object *barrier, int64_t deadline, int *rank, int *seat);
MP_API int mp_barrier_complete (mp_object *barrier, int seat, int succeeded);
MP_API int mp_barrier_reset (mp_object *barrier);
MP_API int mp_barrier_abort (mp_object *barrier);
MP_API int mp_barrier_parties (mp_object *barrier);
MP_API int mp_barrier_waiting (mp_object *barrier);
MP_API int mp_barrier_broken (mp_object *barrier); /* 1 or 0 */

/* ---- Queue (runtime/shm/queue.h, ring.h) ----
** First in, first out, any number of putters and getters. When put returns the message is visible to all and survives the putter.
** put: 0, MP_ETIMEDOUT, MP_ECLOSED, MP_E2BIG (larger than maxbytes), MP_EINTR. get: 0, MP_ETIMEDOUT, MP_ECLOSED (closed and drained), MP_E2BIG
** (*size is then the room that the message needs; it stays). *size: in the room, out the length. Messages that the Lua side put are encoded
** (docs/reference/transfer.md); bytes put from C are seen there only by a decoder that expects them. */
struct mp_queue_options {
  uint32_t maxsize;  /* messages; 0: bounded by maxbytes alone */
  uint64_t maxbytes; /* payload; 0: an eighth of the machine's memory, at most 4 GiB */
  int redeliver;     /* an item belongs to the thread that got it until task_done, and comes back if that dies first */
};
MP_API int mp_queue_new (const struct mp_queue_options *options, mp_object **out); /* NULL: defaults */
MP_API int mp_queue_put (mp_object *q, const void *data, size_t size, int64_t deadline);
MP_API int mp_queue_get (mp_object *q, void *buffer, size_t *size, int64_t deadline);
MP_API uint32_t mp_queue_size (mp_object *q);
MP_API int mp_queue_close (mp_object *q, int drop); /* drop: throw away what is inside and settle what join waits for */
MP_API int mp_queue_task_done (mp_object *q);       /* MP_EMISUSE: more often than got */
MP_API int mp_queue_join (mp_object *q, int64_t deadline);
MP_API int mp_queue_fd (mp_object *q); /* readable while a get would not wait, for poll(2); the handle's. Negative: error */

/* ---- Pipe (runtime/shm/pipe.h) ----
** send: 0, MP_ETIMEDOUT, MP_ECLOSED (nobody holds the other end), MP_E2BIG, MP_EINTR. recv: as a queue's get, and MP_EEOF when nothing is left and nobody
** holds the other end. Releasing the last reference of a process closes its copy of the end. */
MP_API int mp_pipe_new (int duplex, mp_object **a, mp_object **b); /* not duplex: a receives, b sends */
MP_API int mp_pipe_send (mp_object *end, const void *data, size_t size, int64_t deadline);
MP_API int mp_pipe_recv (mp_object *end, void *buffer, size_t *size, int64_t deadline);
MP_API int mp_pipe_fd (mp_object *end); /* readable exactly while a recv would not wait */

/* ---- Value, Array (runtime/shm/value.h) ----
** Numbers in shared memory by type code (c b B h H i I l L q Q f d ?), each access atomic, no lock. MP_EMISUSE: wrong kind; MP_ERANGE: out of range,
** overflow, or no such index (from 1): nothing has changed. add gives the new value; cas 1 (swapped) or 0 and the present value. */
typedef struct {
  char kind;  /* 'i' integer, 'f' float, '?' boolean (0 or 1 in i), 'c' byte (in i) */
  int64_t i;
  double f;
} mp_scalar;
MP_API int mp_value_new (char code, mp_object **out);
MP_API int mp_value_get (mp_object *value, mp_scalar *out);
MP_API int mp_value_set (mp_object *value, mp_scalar v);
MP_API int mp_value_add (mp_object *value, mp_scalar by, mp_scalar *out);
MP_API int mp_value_cas (mp_object *value, mp_scalar old, mp_scalar new_value, mp_scalar *now);
MP_API int mp_array_new (char code, size_t count, mp_object **out);
MP_API size_t mp_array_count (mp_object *array);
MP_API int mp_array_get (mp_object *array, size_t index, mp_scalar *out);
MP_API int mp_array_set (mp_object *array, size_t index, mp_scalar v);
MP_API int mp_array_add (mp_object *array, size_t index, mp_scalar by, mp_scalar *out);

/* ---- Dict, List (runtime/shm/dict.h, list.h) ----
** Containers in shared memory; each call is atomic, also when its caller is killed. From C, keys and values are byte strings: Lua's strings. Each
** call waits for the container until the deadline (MP_ETIMEDOUT, MP_EINTR). get copies to the caller's buffer: MP_EEMPTY no such key,
** MP_E2BIG with the size in *size, MP_EMISUSE another kind of value is there. incr: an absent key counts as 0; MP_ERANGE on overflow. */
MP_API int mp_dict_new (mp_object **out);
MP_API int mp_dict_set (mp_object *dict, const void *key, size_t key_size, const void *value, size_t value_size, int64_t deadline);
MP_API int mp_dict_get (mp_object *dict, const void *key, size_t key_size, void *value, size_t room, size_t *size, int64_t deadline);
MP_API int mp_dict_remove (mp_object *dict, const void *key, size_t key_size, int64_t deadline);
MP_API int mp_dict_incr (mp_object *dict, const void *key, size_t key_size, int64_t by, int64_t *sum, int64_t deadline);
MP_API int mp_dict_count (mp_object *dict, size_t *n, int64_t deadline);
MP_API int mp_list_new (mp_object **out);
MP_API int mp_list_append (mp_object *list, const void *value, size_t size, int64_t deadline);
MP_API int mp_list_get (mp_object *list, size_t index, void *value, size_t room, size_t *size, int64_t deadline); /* index from 1 */
MP_API int mp_list_count (mp_object *list, size_t *n, int64_t deadline);

/* ---- Handing over ----
** Bytes as the Lua side's strings: what a script puts as a string, and gets as one. get_string and recv_string: as mp_queue_get and mp_pipe_recv; a message
** that is no string is MP_EMISUSE and stays. */
MP_API int mp_queue_put_string (mp_object *q, const void *data, size_t size, int64_t deadline);
MP_API int mp_queue_get_string (mp_object *q, void *buffer, size_t *size, int64_t deadline);
MP_API int mp_pipe_send_string (mp_object *end, const void *data, size_t size, int64_t deadline);
MP_API int mp_pipe_recv_string (mp_object *end, void *buffer, size_t *size, int64_t deadline);
/* Readable while the event is set, for poll(2); the handle's. Negative: error. When it is readable and mp_event_is_set says no, call it again. */
MP_API int mp_event_fd (mp_object *event);
/* A handle to another process over a Unix socket (any type but SOCK_DGRAM over a network): one record. The sender keeps its own. recv: one reference for the
** caller; MP_ETIMEDOUT, MP_EEOF, MP_ECORRUPT (no such record: nothing of it is kept), MP_EINTR. Who forks needs neither: handles work in the child. */
MP_API int mp_object_send (int sock, mp_object *o);
MP_API int mp_object_recv (int sock, mp_object **out, int64_t deadline);

/* ---- Workers and pools: processes that run Lua, started by a program that need have none ----
** Helper    they are made by a clean process of the program `mprun`, of the same version as this library. It is looked for beside the library, where
**           `make install` puts it, beside the program, and in PATH; mp_set_helper says where it is, before the first start. MP_ENOSUP: none was found.
** Memory    nothing of the host's: they get what the options name, and the standard output and standard error of the host.
** Options   zero the struct, set its `size` to sizeof it, then the fields; zero is the default of each. They are copied; the caller keeps what it passed.
** Threads   any thread, at the same time; but a handle must not be freed while another thread uses it. A start by a thread that is not the main one
**           leaves one sleeping thread here, so that no thread's end takes the processes along.
** Fork      a child of the host has no workers and pools: MP_EMISUSE (free is fine, and ends nobody).
** Death     nobody outlives the host, however it ends. The host's exit() ends them too. */
MP_API int mp_set_helper (const char *path);

struct mp_limits { /* of a process; 0: none */
  int64_t memory; /* bytes beyond what it begins with: an error in Lua, "not enough memory", before it is a death */
  int64_t cpu;    /* ns */
  int64_t wall;   /* ns */
  int64_t output; /* bytes to standard output and standard error */
  int64_t files;
  int64_t threads;
};

struct mp_failure { /* why something failed. The strings belong to the task or worker, as long as it is not freed */
  const char *kind;      /* "error", "died", "timeout", "memory", "cpu", "wall", "sandbox", "encode" */
  const char *message;
  const char *traceback; /* Lua's, where the error was raised; NULL: none */
  int pid;
  int exitcode; /* of a process that ended */
  int signal;   /* that ended it; 0: none */
};

struct mp_violation { /* what a sandbox refused */
  char call[32], target[256], need[32], fix[320], where[128]; /* fix: the grant that would allow it; where: the script's line */
  uint32_t count;
  int fatal; /* it ended the process */
};

/* ---- Worker: one process, one chunk of Lua ---- */
typedef struct mp_worker mp_worker;
struct mp_worker_options {
  size_t size;
  const char *chunk;          /* Lua source text; needed. It is called with `input` and the objects; what it returns (a string, a number, or nothing) is the result */
  size_t chunk_size;          /* 0: to the NUL */
  const char *chunk_name;     /* for messages, as of luaL_loadbuffer: "@file.lua" or "=name"; NULL: "=chunk" */
  const void *input;
  size_t input_size;
  mp_object *const *objects;  /* shared objects that it is given */
  unsigned nobjects;
  const char *sandbox;        /* NULL: none; "pure", or a policy as Lua text: "{ read = { '/usr/share' } }" (docs/reference/sandbox.md) */
  struct mp_limits limits;
  const char *name;           /* in messages; NULL: "Worker-N" */
};
/* The caller owns *out: mp_worker_free. Waits until the process has begun, at most 10 s. MP_EMISUSE: an option is wrong, or the policy (mp_errmsg says what). */
MP_API int mp_worker_start (const struct mp_worker_options *options, mp_worker **out);
MP_API int mp_worker_wait (mp_worker *w, int64_t deadline); /* 0: it has ended; MP_ETIMEDOUT, MP_EINTR */
/* 0: *data (the worker's, until it is freed) and *size; MP_EFAILED: mp_worker_failure; MP_EMISUSE: it runs. */
MP_API int mp_worker_result (mp_worker *w, const void **data, size_t *size);
MP_API const struct mp_failure *mp_worker_failure (mp_worker *w); /* NULL: none, or it runs */
MP_API int mp_worker_kill (mp_worker *w);   /* with all that it started; an ended one: 0 */
MP_API int mp_worker_pid (mp_worker *w);
MP_API int mp_worker_fd (mp_worker *w);     /* readable when it has ended; the worker's */
MP_API int mp_worker_violations (mp_worker *w); /* how many kinds of refusals there are */
MP_API int mp_worker_violation (mp_worker *w, int i, struct mp_violation *out); /* from 0; also while it runs */
MP_API void mp_worker_free (mp_worker *w);  /* ends it if it runs; NULL is fine */

/* ---- Pool: processes that run tasks ----
** A process of its own, the supervisor, watches the workers and replaces those that died, whatever the host does meanwhile. */
typedef struct mp_pool mp_pool;
typedef struct mp_task mp_task;
struct mp_pool_options {
  size_t size;
  int processes;             /* 0: mp_cpu_count() */
  const char *chunk;         /* Lua source text that each worker runs first: it makes the global functions that tasks name. NULL: none */
  size_t chunk_size;         /* 0: to the NUL */
  const char *chunk_name;
  mp_object *const *objects; /* given to the chunk */
  unsigned nobjects;
  int max_tasks_per_worker;  /* then it is replaced; 0: no bound */
  const char *sandbox;       /* as a worker's, and so the limits, which are of each process */
  struct mp_limits limits;
  unsigned max_pending;      /* tasks that were submitted and have not ended; 0: 65536 */
};
struct mp_task_options {
  size_t size;
  const char *function;      /* the name of a global function, or "table.name" */
  const char *chunk;         /* or source text; compiled once in each worker */
  size_t chunk_size;         /* 0: to the NUL */
  const char *chunk_name;
  const void *input;         /* it is called with this string and the objects, and returns a string, a number or nothing */
  size_t input_size;
  mp_object *const *objects;
  unsigned nobjects;
  int64_t deadline;          /* for all of it, waiting included; 0 or MP_NEVER: none */
  int64_t timeout;           /* ns that it may run; 0: none */
  int retries;               /* how often it is run again when its worker died */
  size_t max_result;         /* bytes; more is a failure. 0: no bound */
  void *ud;                  /* the caller's: mp_task_ud */
};
/* The caller owns *out: mp_pool_free. Waits until the supervisor has begun, at most 10 s. MP_EMISUSE: an option is wrong, the policy, or the chunk's syntax. */
MP_API int mp_pool_new (const struct mp_pool_options *options, mp_pool **out);
/* The caller owns *out: mp_task_free. Waits for room until `deadline` (which is not the task's). MP_ETIMEDOUT, MP_EINTR: nothing was submitted; MP_ECLOSED;
** MP_EMISUSE. A supervisor that was killed is replaced. */
MP_API int mp_pool_submit (mp_pool *p, const struct mp_task_options *options, mp_task **out, int64_t deadline);
/* The next task that has ended and that neither mp_pool_next nor mp_task_wait has told of. The handle is the one that submit gave. MP_ETIMEDOUT: none yet; MP_ECLOSED:
** the pool is closed and there will be none; MP_EINTR. */
MP_API int mp_pool_next (mp_pool *p, mp_task **out, int64_t deadline);
MP_API int mp_pool_fd (mp_pool *p); /* readable when mp_pool_next may have one: call it with deadline 0 until MP_ETIMEDOUT. The pool's */
MP_API size_t mp_pool_pending (mp_pool *p);
MP_API int mp_pool_supervisor (mp_pool *p); /* its pid; 0: none now */
MP_API int mp_pool_close (mp_pool *p);      /* no more tasks; those submitted are run */
MP_API int mp_pool_join (mp_pool *p, int64_t deadline); /* of a closed one: 0 when all tasks have ended and the processes are gone */
MP_API void mp_pool_free (mp_pool *p);      /* what has not ended is cancelled; its tasks' handles stay good until they are freed. NULL is fine */

MP_API int mp_task_wait (mp_task *t, int64_t deadline); /* 0: it has ended, in whatever way; MP_ETIMEDOUT, MP_EINTR */
MP_API int mp_task_ready (mp_task *t);                  /* 1: it has ended; 0: not that this process knows (mp_task_wait with 0 looks) */
/* 0: *data (the task's, until it is freed) and *size; MP_EFAILED: mp_task_failure; MP_ECANCELLED; MP_EMISUSE: it has not ended. */
MP_API int mp_task_result (mp_task *t, const void **data, size_t *size);
MP_API const struct mp_failure *mp_task_failure (mp_task *t); /* NULL: none */
MP_API int mp_task_cancel (mp_task *t); /* also when it runs. It has ended then, cancelled; if it had ended before, nothing happens */
MP_API void *mp_task_ud (mp_task *t);
MP_API void mp_task_free (mp_task *t);  /* cancels it if it has not ended; NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
