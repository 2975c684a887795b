#include "main/lineedit.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HISTORY_KEPT 1000
#define HISTORY_MOST 2000

/* What libedit and readline have in common. */
static struct {
  char *(*read) (const char *prompt);
  int (*remember) (const char *line);
  int (*bind_key) (int key, int (*command)(int, int));
  int (*insert) (int count, int key);
} editor;

static enum { UNKNOWN, PLAIN, EDITED } mode;
static int terminal; /* stdin is one */
static char history[PATH_MAX]; /* empty: none */
static char *newest;           /* entry: the same again is not recorded */
static volatile sig_atomic_t cancelled;

/* ---- the library ---- */

static void *symbol (void *library, const char *name) {
  void *p = dlsym(library, name);
  return p;
}

/* dlsym gives an object pointer, which POSIX lets one copy into a function pointer. */
#define RESOLVE(library, field, name)          \
  do {                                         \
    void *p_ = symbol(library, name);          \
    memcpy(&editor.field, &p_, sizeof p_);     \
  } while (0)

static int load_editor (void) {
  static const char *const names[] = {"libedit.so.2", "libreadline.so.8", "libedit.so.0"};
  size_t i;
  for (i = 0; i < sizeof names / sizeof names[0]; i++) {
    void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) continue;
    RESOLVE(library, read, "readline");
    RESOLVE(library, remember, "add_history");
    RESOLVE(library, bind_key, "rl_bind_key");
    RESOLVE(library, insert, "rl_insert");
    if (editor.read != NULL && editor.remember != NULL) return 1;
    (void)dlclose(library);
  }
  return 0;
}

/* ---- the history file ---- */

/* Makes the folders above the file, for this user only. */
static int make_folders (char *path) {
  char *slash;
  for (slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    int failed;
    *slash = '\0';
    failed = mkdir(path, 0700) != 0 && errno != EEXIST;
    *slash = '/';
    if (failed) return -1;
  }
  return 0;
}

static void find_history (void) {
  const char *state = getenv("XDG_STATE_HOME");
  const char *home = getenv("HOME");
  int n, fd;
  if (state != NULL && state[0] == '/')
    n = snprintf(history, sizeof history, "%s/mp/history", state);
  else if (home != NULL && home[0] == '/')
    n = snprintf(history, sizeof history, "%s/.local/state/mp/history", home);
  else
    return;
  if (n < 0 || (size_t)n >= sizeof history || make_folders(history) != 0) goto none;
  fd = open(history, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) goto none;
  (void)close(fd);
  return;
none:
  history[0] = '\0';
}

static void unescape (char *s) {
  char *to = s;
  for (; *s != '\0'; s++) {
    if (*s == '\\' && s[1] != '\0') {
      s++;
      *to++ = *s == 'n' ? '\n' : *s;
    }
    else {
      *to++ = *s;
    }
  }
  *to = '\0';
}

static void write_escaped (FILE *f, const char *s) {
  for (; *s != '\0'; s++) {
    if (*s == '\n')
      (void)fputs("\\n", f);
    else if (*s == '\\')
      (void)fputs("\\\\", f);
    else
      (void)putc(*s, f);
  }
  (void)putc('\n', f);
}

/* Replaces the file by its entries from the skip-th on; readers see the old or the new one. */
static void shorten_history (size_t skip) {
  char temporary[PATH_MAX + 16];
  char *line = NULL;
  size_t room = 0, i;
  FILE *in = fopen(history, "re"), *out = NULL;
  int fd = -1;
  (void)snprintf(temporary, sizeof temporary, "%s.XXXXXX", history);
  if (in == NULL || (fd = mkostemp(temporary, O_CLOEXEC)) < 0 || (out = fdopen(fd, "w")) == NULL) goto end;
  for (i = 0; getline(&line, &room, in) >= 0; i++) {
    if (i >= skip) (void)fputs(line, out);
  }
  fd = -1;
  if (fclose(out) != 0 || rename(temporary, history) != 0) (void)unlink(temporary);
end:
  free(line);
  if (fd >= 0) {
    (void)close(fd);
    (void)unlink(temporary);
  }
  if (in != NULL) (void)fclose(in);
}

static void load_history (void) {
  char *line = NULL;
  size_t room = 0, entries = 0;
  ssize_t n;
  FILE *f = fopen(history, "re");
  if (f == NULL) return;
  while ((n = getline(&line, &room, f)) >= 0) {
    if (n > 0 && line[n - 1] == '\n') line[n - 1] = '\0';
    unescape(line);
    (void)editor.remember(line);
    entries++;
  }
  free(line);
  (void)fclose(f);
  if (entries > HISTORY_MOST) shorten_history(entries - HISTORY_KEPT);
}

void mpi_line_remember (const char *text) {
  FILE *f;
  if (mode != EDITED || text[0] == '\0' || (newest != NULL && strcmp(newest, text) == 0)) return;
  (void)editor.remember(text);
  free(newest);
  newest = strdup(text);
  if (history[0] == '\0' || (f = fopen(history, "ae")) == NULL) return;
  write_escaped(f, text);
  (void)fclose(f);
}

/* ---- reading ---- */

static void on_cancel (int sig) {
  (void)sig;
  cancelled = 1;
}

static void begin (void) {
  terminal = isatty(STDIN_FILENO);
  mode = PLAIN;
  if (!terminal || !isatty(STDOUT_FILENO) || !load_editor()) return;
  mode = EDITED;
  if (editor.bind_key != NULL && editor.insert != NULL) (void)editor.bind_key('\t', editor.insert); /* no file names */
  find_history();
  if (history[0] != '\0') load_history();
}

void mpi_line_confine (void) {
  terminal = isatty(STDIN_FILENO);
  mode = PLAIN;
}

static char *read_plain (const char *prompt) {
  char *line = NULL;
  size_t room = 0;
  ssize_t n;
  (void)fputs(prompt, stdout);
  (void)fflush(stdout);
  n = getline(&line, &room, stdin);
  if (n < 0) {
    clearerr(stdin);
    free(line);
    return NULL;
  }
  if (n > 0 && line[n - 1] == '\n') line[n - 1] = '\0';
  if (!terminal) {
    (void)fputs(line, stdout);
    (void)putc('\n', stdout);
  }
  return line;
}

int mpi_line_read (const char *prompt, char **line, size_t *length) {
  struct sigaction sa, old;
  char *got;
  if (mode == UNKNOWN) begin();
  cancelled = 0;
  if (terminal) {
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_cancel; /* without SA_RESTART: the read ends */
    sigemptyset(&sa.sa_mask);
    (void)sigaction(SIGINT, &sa, &old);
  }
  (void)fflush(stdout);
  got = mode == EDITED ? editor.read(prompt) : read_plain(prompt);
  if (terminal) (void)sigaction(SIGINT, &old, NULL);
  if (cancelled) {
    free(got);
    (void)putc('\n', stdout);
    (void)fflush(stdout);
    return MPI_LINE_CANCELLED;
  }
  if (got == NULL) return MPI_LINE_EOF;
  *line = got;
  *length = strlen(got);
  return MPI_LINE_OK;
}
