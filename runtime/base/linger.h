/* linger.h -- letting messages gather before looking for them.
** A getter that keeps up with its putter looks at the putter's position once a message, and each look takes the cache line away from the
** putter, some hundred nanoseconds there and back, while the message itself costs less. Who waits a few microseconds before it looks
** finds dozens of messages, and both run undisturbed meanwhile. The same for a putter that meets a full queue. The idea is that of
** interrupt moderation (Mogul and Ramakrishnan, "Eliminating receive livelock", 1997; Linux' NAPI).
** Streams  only where several messages have come meanwhile does it go on; whether they do is tried once in 8 looks that found hardly any,
**          then more and more rarely (once in 1024), so two that answer each other do not pay for it. It waits for longer only as long as that
**          finds more in proportion: who has eight requests out and waits for the answers is not kept waiting for a ninth.
** Memory   private, one a handle and side, zero to begin with. Threads may share it: any value will do.
** Blocks   for at most 16 us. Never in hard mode, with one processor, or with MP_SPIN=0 (base/spin.h).
*/
#ifndef MPI_LINGER_H
#define MPI_LINGER_H

#include <stdint.h>

struct mpi_linger {
  int pause;    /* iterations of mpi_relax before the next look; 0: none */
  int looks;    /* until the next try: of waiting at all, or of waiting for longer */
  int interval; /* of tries of waiting at all, in looks that found little */
  int before;   /* what was found before the pause was doubled, 0 if it was not just now */
};

void mpi_linger_wait (const struct mpi_linger *l);

/* The look behind the last wait, or without one, found so many messages (a putter: so much room). */
void mpi_linger_learn (struct mpi_linger *l, uint32_t found);

static inline void mpi_linger (const struct mpi_linger *l) {
  if (__builtin_expect(__atomic_load_n(&l->pause, __ATOMIC_RELAXED) != 0, 0)) mpi_linger_wait(l);
}

#endif
