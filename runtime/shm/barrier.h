/* barrier.h -- n parties wait for each other.
** Public    mp_barrier_* in mp.h.
** State     one 64-bit word: generation, phase, number of parties that have arrived. Every change is one store of it by the holder of the gate.
**           A party's slot says in which generation it arrived; the list of arrivals says which seats they have, in order of rank.
** Outcome   before a store that ends a generation, each of its parties' slots gets the outcome; a party reads its own once it sees
**           another generation. Who inherits the gate writes them anew.
** Action    arrive tells the last party to run the action, with no latch held; complete lets everybody go or breaks the barrier.
** Death     of a party that waits, or of the one that runs the action: the others get MP_EBROKEN. Each sleeps also on the seat
**           of the party that came before it, the first on that of the last to have come: a ring, so some living one notices.
** Blocks    wait, until the deadline.
*/
#ifndef MPI_BARRIER_H
#define MPI_BARRIER_H

#include "shm/object.h"

#define MPI_BARRIER_MOST 4096

extern const struct mpi_type mpi_type_barrier;

int64_t mpi_barrier_timeout (mp_object *o); /* the default, ns; MP_NEVER: none */
int mpi_barrier_has_action (mp_object *o);

#endif
