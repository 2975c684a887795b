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

#ifdef __cplusplus
}
#endif
#endif
