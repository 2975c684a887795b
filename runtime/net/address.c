#include "net/address.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/pidfd.h"

#define BACKLOG 128

int mpi_address_parse (const char *text, struct mpi_address *a) {
  memset(a, 0, sizeof *a);
  if (strncmp(text, "unix:", 5) == 0) {
    const char *path = text + 5;
    if (strncmp(path, "//", 2) == 0) path += 2;
    if (path[0] != '/') return mpi_fail(MP_EMISUSE, "\"unix:/path\" needs a path from the root, not \"%.100s\"", text);
    if (strlen(path) >= sizeof a->path) return mpi_fail(MP_EMISUSE, "the path of a socket is at most %d bytes long", (int)sizeof a->path - 1);
    a->unix_domain = 1;
    strcpy(a->path, path);
    return 0;
  }
  if (strncmp(text, "tcp://", 6) == 0) {
    const char *host = text + 6, *colon = strrchr(host, ':'), *end = colon;
    long port;
    char *rest;
    if (colon == NULL || colon == host || colon[1] < '0' || colon[1] > '9') goto bad;
    port = strtol(colon + 1, &rest, 10);
    if (*rest != '\0' || port < 0 || port > 65535) goto bad;
    if (host[0] == '[' && colon[-1] == ']') {
      host++;
      end--;
    } else if (memchr(host, ':', (size_t)(colon - host)) != NULL) {
      goto bad;
    }
    if ((size_t)(end - host) >= sizeof a->host || end == host) goto bad;
    memcpy(a->host, host, (size_t)(end - host));
    (void)snprintf(a->port, sizeof a->port, "%ld", port);
    return 0;
  }
bad:
  return mpi_fail(MP_EMISUSE, "\"tcp://host:port\" or \"unix:/path\" expected, got \"%.100s\"", text);
}

void mpi_address_text (const struct mpi_address *a, char *text, size_t size) {
  if (a->unix_domain) (void)snprintf(text, size, "unix:%s", a->path);
  else (void)snprintf(text, size, strchr(a->host, ':') != NULL ? "tcp://[%s]:%s" : "tcp://%s:%s", a->host, a->port);
}

static int fail (const struct mpi_address *a, const char *what, int error) {
  char text[400];
  mpi_address_text(a, text, sizeof text);
  return mpi_fail(error == EMFILE || error == ENFILE ? MP_EMFILE : MP_ESYS, "%s: %s: %s", text, what, strerror(error));
}

static int new_socket (int family, int protocol) {
  int fd;
  do fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  while (fd < 0 && mpi_fd_raise_limit());
  return fd;
}

static void fill (const struct mpi_address *a, struct sockaddr_un *un) {
  memset(un, 0, sizeof *un);
  un->sun_family = AF_UNIX;
  strcpy(un->sun_path, a->path);
}

static int look_up (const struct mpi_address *a, int flags, struct addrinfo **list) {
  struct addrinfo hints;
  int rc;
  memset(&hints, 0, sizeof hints);
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  rc = getaddrinfo(a->host, a->port, &hints, list);
  if (rc == 0) return 0;
  return mpi_fail(MP_ESYS, "tcp://%s:%s: %s", a->host, a->port, rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
}

/* ---- listening ---- */

/* Is the file a socket at which nobody listens? Then it is a dead server's. */
static int is_stale (const struct mpi_address *a) {
  struct sockaddr_un un;
  struct stat st;
  int fd, rc, refused;
  if (lstat(a->path, &st) != 0 || !S_ISSOCK(st.st_mode)) return 0;
  fd = new_socket(AF_UNIX, 0);
  if (fd < 0) return 0;
  fill(a, &un);
  rc = connect(fd, (struct sockaddr *)&un, sizeof un);
  refused = rc != 0 && errno == ECONNREFUSED;
  mpi_fd_close(&fd);
  return refused;
}

static int bind_unix (struct mpi_address *a, int fd) {
  struct sockaddr_un un;
  struct stat st;
  char copy[sizeof a->path];
  int dir, rc;
  fill(a, &un);
  strcpy(copy, a->path);
  dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) return fail(a, "open the folder", errno);
  for (rc = 0; rc < 200 && flock(dir, LOCK_EX | LOCK_NB) != 0; rc++) (void)mp_sleep(mp_now() + 10000000); /* whoever has it is quick, or no server */
  (void)fchmod(fd, 0600); /* the file gets the socket's mode */
  rc = bind(fd, (struct sockaddr *)&un, sizeof un);
  if (rc != 0 && errno == EADDRINUSE) {
    if (is_stale(a) && unlink(a->path) == 0) rc = bind(fd, (struct sockaddr *)&un, sizeof un);
    else errno = EADDRINUSE;
  }
  if (rc == 0) rc = listen(fd, BACKLOG); /* under the lock: until then it looks stale */
  rc = rc == 0 ? 0 : fail(a, "bind", errno);
  if (rc == 0 && lstat(a->path, &st) == 0) {
    a->dev = st.st_dev;
    a->ino = st.st_ino;
  }
  (void)close(dir);
  return rc;
}

static int listen_tcp (struct mpi_address *a, int *out) {
  struct addrinfo *list, *p;
  int error = EADDRNOTAVAIL, rc = look_up(a, AI_PASSIVE, &list);
  if (rc != 0) return rc;
  *out = -1;
  for (p = list; p != NULL && *out < 0; p = p->ai_next) {
    int one = 1, fd = new_socket(p->ai_family, p->ai_protocol);
    if (fd >= 0) (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd >= 0 && bind(fd, p->ai_addr, p->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) {
      *out = fd;
    } else {
      error = errno;
      mpi_fd_close(&fd);
    }
  }
  freeaddrinfo(list);
  if (*out < 0) return fail(a, "bind", error);
  if (strcmp(a->port, "0") == 0) {
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    if (getsockname(*out, (struct sockaddr *)&at, &len) == 0) {
      uint16_t port = at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port : ((struct sockaddr_in *)&at)->sin_port;
      (void)snprintf(a->port, sizeof a->port, "%u", (unsigned)ntohs(port));
    }
  }
  return 0;
}

int mpi_address_listen (struct mpi_address *a, int *out) {
  int fd, rc;
  if (!a->unix_domain) return listen_tcp(a, out);
  fd = new_socket(AF_UNIX, 0);
  if (fd < 0) return fail(a, "socket", errno);
  rc = bind_unix(a, fd);
  if (rc != 0) mpi_fd_close(&fd);
  else *out = fd;
  return rc;
}

void mpi_address_remove (const struct mpi_address *a) {
  struct stat st;
  if (a->unix_domain && a->ino != 0 && lstat(a->path, &st) == 0 && st.st_dev == a->dev && st.st_ino == a->ino) (void)unlink(a->path);
}

/* ---- calling ---- */

/* Whether the connection that was begun is there: 0, errno, or a negative code. */
static int finish (int fd, int64_t deadline) {
  int rc, error = 0;
  socklen_t len = sizeof error;
  rc = mpi_fd_wait(fd, POLLOUT, deadline);
  if (rc != 0) return rc;
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : errno;
}

static int dial (int fd, const struct sockaddr *at, socklen_t len, int64_t deadline) {
  if (connect(fd, at, len) == 0) return 0;
  if (errno == EINPROGRESS || errno == EINTR) return finish(fd, deadline);
  return errno;
}

int mpi_address_dial (const struct mpi_address *a, int64_t deadline, int *out) {
  struct addrinfo *list = NULL, *p;
  struct sockaddr_un un;
  int rc = ECONNREFUSED, fd = -1;
  if (a->unix_domain) {
    fill(a, &un);
    fd = new_socket(AF_UNIX, 0);
    rc = fd < 0 ? errno : dial(fd, (struct sockaddr *)&un, sizeof un, deadline);
  } else {
    rc = look_up(a, 0, &list);
    if (rc != 0) return rc;
    for (p = list; p != NULL; p = p->ai_next) {
      mpi_fd_close(&fd);
      fd = new_socket(p->ai_family, p->ai_protocol);
      rc = fd < 0 ? errno : dial(fd, p->ai_addr, p->ai_addrlen, deadline);
      if (rc <= 0) break;
    }
    freeaddrinfo(list);
  }
  if (rc != 0) {
    mpi_fd_close(&fd);
    return rc < 0 ? rc : fail(a, "connect", rc);
  }
  mpi_address_tune(fd);
  *out = fd;
  return 0;
}

void mpi_address_tune (int fd) {
  int one = 1, idle = 30, each = 10, times = 3; /* fails for other than TCP: no matter */
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &each, sizeof each);
  (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
}
