/* tls.h -- TLS 1.3 with a key that both sides know, between programs: encrypted, and each side is sure of the other.
** What      OpenSSL's, found when it is first needed (dlopen), so that a program without links does not load it. Bytes in and out of memory:
**           sockets are the caller's. An external pre-shared key with a fresh Diffie-Hellman exchange (psk_dhe_ke), no certificates, no tickets, no
**           early data, nothing older than 1.3. The pre-shared key is made from the secret by PBKDF2, so that a weak secret is not
**           found by trying as fast as a hash can.
** Owner     contexts and sessions are the caller's to free. The key is copied, and wiped with the context.
** Threads   a session is for one thread at a time; a context may be shared.
** Blocks    nothing (deriving a key takes some ms). Fork: a copy must not be used on, only freed.
** Errors    MP_ENOSUP: OpenSSL is not there. MP_ECORRUPT: the other side has another key, or is no such side. MP_EEOF: it has ended the session.
*/
#ifndef MPI_TLS_H
#define MPI_TLS_H

#include <stddef.h>

#include "mp.h"

struct mpi_tls_context;
struct mpi_tls;

int mpi_tls_context_new (int server, const void *secret, size_t size, struct mpi_tls_context **out);
void mpi_tls_context_free (struct mpi_tls_context *c); /* NULL is fine; before or after its sessions */

int mpi_tls_new (struct mpi_tls_context *c, struct mpi_tls **out);
void mpi_tls_free (struct mpi_tls *t); /* NULL is fine; tells the other side nothing */

/* Bytes that came, and bytes to send. feed takes all; take gives how many it put into room, 0 if there are none. */
int mpi_tls_feed (struct mpi_tls *t, const void *data, size_t size);
size_t mpi_tls_take (struct mpi_tls *t, void *room, size_t size);

int mpi_tls_handshake (struct mpi_tls *t);                                    /* 1: done; 0: needs more bytes; negative */
int mpi_tls_read (struct mpi_tls *t, void *room, size_t size, size_t *got);    /* *got may be 0: needs more bytes */
int mpi_tls_write (struct mpi_tls *t, const void *data, size_t size);          /* all of it, at most 16 KiB */

#endif
