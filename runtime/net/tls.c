#include "net/tls.h"

#include <dlfcn.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define PSK_SIZE 32
#define ROUNDS 20000
static const char identity[] = "mp";
static const char purpose[] = "mp manager link 1";

/* What we use of OpenSSL. */
#define NAMES(X)                                                                                                              \
  X(TLS_method) X(SSL_CTX_new) X(SSL_CTX_free) X(SSL_CTX_ctrl) X(SSL_CTX_set_options) X(SSL_CTX_set_ciphersuites)             \
  X(SSL_CTX_set_psk_use_session_callback) X(SSL_CTX_set_psk_find_session_callback) X(SSL_CTX_set_num_tickets)                 \
  X(SSL_CTX_set_ex_data) X(SSL_CTX_get_ex_data) X(SSL_get_SSL_CTX) X(SSL_CTX_set_verify) X(SSL_new) X(SSL_free) X(SSL_set_bio)  \
  X(SSL_set_accept_state) X(SSL_set_connect_state) X(SSL_do_handshake) X(SSL_get_error) X(SSL_session_reused) X(SSL_read_ex)  \
  X(SSL_write_ex) X(SSL_CIPHER_find) X(SSL_SESSION_new) X(SSL_SESSION_free) X(SSL_SESSION_set1_master_key)                    \
  X(SSL_SESSION_set_cipher) X(SSL_SESSION_set_protocol_version) X(BIO_new) X(BIO_s_mem) X(BIO_free) X(BIO_read) X(BIO_write)  \
  X(PKCS5_PBKDF2_HMAC) X(EVP_sha256) X(ERR_clear_error) X(OPENSSL_cleanse)

extern void ERR_clear_error (void);

#define DECLARE(n) __typeof__(&(n)) n##_;
static struct { NAMES(DECLARE) } ssl;
#undef DECLARE

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char lacks[200];

static void load (void) {
  void *lib = dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL);
  if (lib == NULL) {
    (void)snprintf(lacks, sizeof lacks, "OpenSSL 3 is needed to link programs: %.150s", dlerror());
    return;
  }
#define FIND(n)                                                                                                      \
  if (lacks[0] == '\0') {                                                                                            \
    void *p = dlsym(lib, #n);                                                                                        \
    if (p == NULL) (void)snprintf(lacks, sizeof lacks, "OpenSSL 3 is needed to link programs: it has no " #n);       \
    else memcpy(&ssl.n##_, &p, sizeof p);                                                                            \
  }
  NAMES(FIND)
#undef FIND
}

struct mpi_tls_context {
  SSL_CTX *ctx;
  int server;
  unsigned char psk[PSK_SIZE];
};

struct mpi_tls {
  SSL *s;
  BIO *in, *out; /* the session's */
};

/* The key as OpenSSL wants it: as if a session had left it. */
static SSL_SESSION *session_of (SSL *s) {
  static const unsigned char aes128_gcm_sha256[2] = {0x13, 0x01};
  const struct mpi_tls_context *c = ssl.SSL_CTX_get_ex_data_(ssl.SSL_get_SSL_CTX_(s), 0);
  const SSL_CIPHER *cipher = ssl.SSL_CIPHER_find_(s, aes128_gcm_sha256);
  SSL_SESSION *sess = ssl.SSL_SESSION_new_();
  if (sess == NULL || cipher == NULL || !ssl.SSL_SESSION_set1_master_key_(sess, c->psk, PSK_SIZE) || !ssl.SSL_SESSION_set_cipher_(sess, cipher) ||
      !ssl.SSL_SESSION_set_protocol_version_(sess, TLS1_3_VERSION)) {
    ssl.SSL_SESSION_free_(sess);
    return NULL;
  }
  return sess;
}

static int use_session (SSL *s, const EVP_MD *md, const unsigned char **id, size_t *idlen, SSL_SESSION **sess) {
  (void)md; /* after a retry the suite's; there is but one */
  *sess = session_of(s);
  *id = (const unsigned char *)identity;
  *idlen = sizeof identity - 1;
  return *sess != NULL;
}

static int find_session (SSL *s, const unsigned char *id, size_t idlen, SSL_SESSION **sess) {
  *sess = NULL;
  if (idlen != sizeof identity - 1 || memcmp(id, identity, idlen) != 0) return 1; /* none: there is no certificate to go on with */
  *sess = session_of(s);
  return *sess != NULL;
}

/* The length is part of the salt: to HMAC a secret and the same with zeros behind it are one. */
static int derive (const void *secret, size_t size, unsigned char psk[PSK_SIZE]) {
  unsigned char salt[sizeof purpose + 8];
  int i;
  memcpy(salt, purpose, sizeof purpose);
  for (i = 0; i < 8; i++) salt[sizeof purpose + i] = (unsigned char)((uint64_t)size >> 8 * i);
  return ssl.PKCS5_PBKDF2_HMAC_(secret, (int)size, salt, (int)sizeof salt, ROUNDS, ssl.EVP_sha256_(), PSK_SIZE, psk);
}

int mpi_tls_context_new (int server, const void *secret, size_t size, struct mpi_tls_context **out) {
  struct mpi_tls_context *c;
  (void)pthread_once(&once, load);
  if (lacks[0] != '\0') return mpi_fail(MP_ENOSUP, "%s", lacks);
  if (size > INT32_MAX) return mpi_fail(MP_E2BIG, "a key that long");
  c = calloc(1, sizeof *c);
  if (c == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  c->server = server;
  ssl.ERR_clear_error_();
  c->ctx = ssl.SSL_CTX_new_(ssl.TLS_method_());
  if (c->ctx == NULL || !derive(secret, size, c->psk) ||
      ssl.SSL_CTX_ctrl_(c->ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_3_VERSION, NULL) != 1 ||
      ssl.SSL_CTX_set_ciphersuites_(c->ctx, "TLS_AES_128_GCM_SHA256") != 1 || ssl.SSL_CTX_set_num_tickets_(c->ctx, 0) != 1 ||
      ssl.SSL_CTX_set_ex_data_(c->ctx, 0, c) != 1) {
    mpi_tls_context_free(c);
    return mpi_fail(MP_ENOSUP, "OpenSSL refuses TLS 1.3 with a pre-shared key");
  }
  (void)ssl.SSL_CTX_ctrl_(c->ctx, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
  (void)ssl.SSL_CTX_ctrl_(c->ctx, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, NULL);
  (void)ssl.SSL_CTX_set_options_(c->ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
  if (!server) ssl.SSL_CTX_set_verify_(c->ctx, SSL_VERIFY_PEER, NULL); /* a certificate instead of the key: no authority is known that could vouch for it */
  if (server) ssl.SSL_CTX_set_psk_find_session_callback_(c->ctx, find_session);
  else ssl.SSL_CTX_set_psk_use_session_callback_(c->ctx, use_session);
  *out = c;
  return 0;
}

void mpi_tls_context_free (struct mpi_tls_context *c) {
  if (c == NULL) return;
  if (c->ctx != NULL) ssl.SSL_CTX_free_(c->ctx);
  ssl.OPENSSL_cleanse_(c->psk, sizeof c->psk);
  free(c);
}

int mpi_tls_new (struct mpi_tls_context *c, struct mpi_tls **out) {
  struct mpi_tls *t = calloc(1, sizeof *t);
  if (t == NULL) return mpi_fail(MP_ENOMEM, "not enough memory");
  ssl.ERR_clear_error_();
  t->s = ssl.SSL_new_(c->ctx);
  t->in = ssl.BIO_new_(ssl.BIO_s_mem_());
  t->out = ssl.BIO_new_(ssl.BIO_s_mem_());
  if (t->s == NULL || t->in == NULL || t->out == NULL) {
    if (t->s != NULL) ssl.SSL_free_(t->s);
    (void)ssl.BIO_free_(t->in);
    (void)ssl.BIO_free_(t->out);
    free(t);
    return mpi_fail(MP_ENOMEM, "not enough memory");
  }
  ssl.SSL_set_bio_(t->s, t->in, t->out);
  if (c->server) ssl.SSL_set_accept_state_(t->s);
  else ssl.SSL_set_connect_state_(t->s);
  *out = t;
  return 0;
}

void mpi_tls_free (struct mpi_tls *t) {
  if (t == NULL) return;
  ssl.SSL_free_(t->s);
  free(t);
}

int mpi_tls_feed (struct mpi_tls *t, const void *data, size_t size) {
  int n = size > INT32_MAX ? -1 : ssl.BIO_write_(t->in, data, (int)size);
  return n == (int)size ? 0 : mpi_fail(MP_ENOMEM, "not enough memory");
}

size_t mpi_tls_take (struct mpi_tls *t, void *room, size_t size) {
  int n = ssl.BIO_read_(t->out, room, size > INT32_MAX ? INT32_MAX : (int)size);
  return n > 0 ? (size_t)n : 0;
}

/* 0: it wants more bytes. */
static int why (struct mpi_tls *t, int rc) {
  switch (ssl.SSL_get_error_(t->s, rc)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return 0;
    case SSL_ERROR_ZERO_RETURN: return mpi_fail(MP_EEOF, "the other side has ended the link");
    default: return mpi_fail(MP_ECORRUPT, "the other side has another key, or does not speak this protocol");
  }
}

int mpi_tls_handshake (struct mpi_tls *t) {
  int rc;
  ssl.ERR_clear_error_();
  rc = ssl.SSL_do_handshake_(t->s);
  if (rc != 1) return why(t, rc);
  if (!ssl.SSL_session_reused_(t->s)) return mpi_fail(MP_ECORRUPT, "the other side did not use the key");
  return 1;
}

int mpi_tls_read (struct mpi_tls *t, void *room, size_t size, size_t *got) {
  size_t n = 0;
  int rc;
  ssl.ERR_clear_error_();
  rc = ssl.SSL_read_ex_(t->s, room, size, &n);
  if (rc != 1) {
    rc = why(t, rc);
    if (rc < 0) return rc;
    n = 0;
  }
  *got = n;
  return 0;
}

int mpi_tls_write (struct mpi_tls *t, const void *data, size_t size) {
  size_t n = 0;
  int rc;
  ssl.ERR_clear_error_();
  rc = ssl.SSL_write_ex_(t->s, data, size, &n);
  if (rc == 1 && n == size) return 0;
  rc = why(t, rc);
  return rc < 0 ? rc : mpi_fail(MP_ECORRUPT, "the link cannot take more");
}
