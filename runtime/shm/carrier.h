/* carrier.h -- the records in a channel's socket pair: descriptors that belong to messages, and (pipes) notes that there is room again.
** Who      putters send descriptors under put_latch; getters take records off under get_latch only. The other way round: getters send SPACE, the
**          one sender at the turnstile takes it off.
** Records  carry the count of their message and the number of the putter's attempt, so that what a dead putter or getter left behind is told
**          from what belongs to a message.
** Memory   none. Descriptors that are sent are borrowed; those that are found are the caller's.
** Blocks   never.
*/
#ifndef MPI_CARRIER_H
#define MPI_CARRIER_H

#include <stddef.h>
#include <stdint.h>

enum { MPI_REC_FDS = 1, MPI_REC_SPACE = 2 };

struct mpi_record {
  uint32_t kind;
  uint32_t count;   /* of the message */
  uint32_t attempt; /* grows with every record a putter tries to send */
  uint32_t reserved;
};

int mpi_carrier_send (int fd, uint32_t kind, uint32_t count, uint32_t attempt, const int *fds, int nfds);

/* Duplicates the descriptors of the record with that count and attempt, which stays first; drops all before it. */
int mpi_carrier_find (int fd, uint32_t count, uint32_t attempt, int *fds, int *nfds);

/* The same where records of several messages are wanted in any order: those of other messages beyond `settled` (a count) go to the end of the
** line, by `send_fd`. nfds NULL: just brings it to the front. */
int mpi_carrier_find_any (int fd, int send_fd, uint32_t count, uint32_t attempt, uint32_t settled, int *fds, int *nfds);

void mpi_carrier_drop_first (int fd);
void mpi_carrier_drop_stale (int fd, uint32_t count);      /* leading records of messages up to `count` */
void mpi_carrier_drop_attempts (int fd, uint32_t attempt); /* leading records of attempts up to `attempt` */
void mpi_carrier_drop_all (int fd);

/* Is what arrived as an end of a carrier a socket? Calls on it then never wait, and raise no signal. */
int mpi_carrier_fits (int fd);

/* Has the other end gone (all copies of it)? 1 or 0. */
int mpi_carrier_hung_up (int fd);

#endif
