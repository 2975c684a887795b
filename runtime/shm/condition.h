/* condition.h -- waiting for a change of what a lock protects.
** Public    mp_condition_* in mp.h.
** Lock      any Lock or RLock; the handle keeps one (mpi_condition_lock). The segment does not know which: all users of a condition must use the
**           same one, as the Lua side sees to.
** Memory    a segment: one page, a table of slots, and a page for every two waiters, used only as far as there are any.
** Waiter    sits in a seat (shm/seat.h) from before it gives up the lock until it has it again. Its slot has a state: WAITING, NOTIFIED.
**           Tickets tell who is older. Slots are written by the holder of the gate.
** Blocks    wait, until the deadline, and then for the lock, uninterrupted, and without deadline or for as long as `patience` says. notify never waits for the notified.
** Death     of a waiter: its seat is empty, so a notifier passes over it. Of one that was notified and has not got the lock back: its notification
**           goes to the oldest who still waits: each waiter sleeps also on the seat of the next older one, and all who pass the gate hand on
**           what the dead left. Of a notifier: each waiter is notified or not; nobody is forgotten.
** Errors    MP_EMISUSE: the lock is not held by the caller, or there are more than MPI_CONDITION_WAITERS waiters.
*/
#ifndef MPI_CONDITION_H
#define MPI_CONDITION_H

#include "shm/lock.h"

#ifdef MP_HARD
#define MPI_CONDITION_WAITERS 16
#else
#define MPI_CONDITION_WAITERS 1024
#endif

extern const struct mpi_type mpi_type_condition;

/* The handle's lock (borrowed), NULL if it arrived without one. set_lock retains it; the first one stays. */
mp_object *mpi_condition_lock (mp_object *o);
int mpi_condition_set_lock (mp_object *o, mp_object *lock);
/* As mp_condition_wait; when the lock cannot be had again within `patience` ns (MP_NEVER: no limit), MP_ECORRUPT, and the caller does not hold it: for
** locks that a stranger has too. */
int mpi_condition_wait (mp_object *o, mp_object *lock, int64_t deadline, int64_t patience);
int mpi_condition_waiters (mp_object *o); /* who live and wait at this moment */

#endif
