#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[256];

const char *mp_version (void) {
  return MP_VERSION;
}

const char *mp_errmsg (void) {
  return message;
}

const char *mp_errname (int code) {
  switch (code) {
    case MP_OK: return "ok";
    case MP_ABANDONED: return "abandoned";
    case MP_ETIMEDOUT: return "timeout";
    case MP_EFULL: return "full";
    case MP_EEMPTY: return "empty";
    case MP_ECLOSED: return "closed";
    case MP_EEOF: return "eof";
    case MP_EBROKEN: return "broken";
    case MP_ECANCELLED: return "cancelled";
    case MP_EINTR: return "interrupted";
    case MP_ENOMEM: return "not enough memory";
    case MP_EMISUSE: return "misuse";
    case MP_E2BIG: return "too big";
    case MP_ECORRUPT: return "corrupt";
    case MP_ESYS: return "system error";
    case MP_EDEADLK: return "deadlock";
    case MP_ENOTOWNER: return "not the owner";
    case MP_ENOSUP: return "not supported";
    case MP_ERANGE: return "out of range";
    case MP_EMFILE: return "too many open files";
    case MP_EFAILED: return "failed";
    default: return "unknown error";
  }
}

int (mpi_fail) (int code, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(message, sizeof message, fmt, ap);
  va_end(ap);
  return code;
}

int (mpi_fail_errno) (const char *what) {
  int e = errno;
  char text[128];
  const char *s = strerror_r(e, text, sizeof text);
  const char *hint = "";
  if (e == EMFILE) hint = " (the limit of open files, ulimit -n, is reached)";
  else if (e == ENFILE) hint = " (the machine's limit of open files is reached)";
  mpi_fail(MP_ESYS, "%s: %s%s", what, s, hint);
  errno = e;
  return e == ENOMEM ? MP_ENOMEM : e == EMFILE || e == ENFILE ? MP_EMFILE : MP_ESYS;
}
