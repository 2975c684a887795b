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

#ifdef __cplusplus
}
#endif
#endif
