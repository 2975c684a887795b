/* watch.c -- watch SECONDS COMMAND [ARGS...]: runs a command and answers for everything that it starts.
**
** Status    the command's (128 + signal if one ended it); 124 when it took longer than SECONDS; 125 when it ended with 0 but left
**           processes running for more than two seconds (they are named on stderr).
** Sweeps    in every case whatever the command left is killed, also what has moved to another session: this process is a
**           child subreaper, so orphans come to it. When this process is killed the command is too.
*/
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t asked_to_end;

static void on_signal (int sig) { asked_to_end = sig; }

static double now (void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void pause_ms (int ms) {
  struct timespec ts = {ms / 1000, (ms % 1000) * 1000000L};
  nanosleep(&ts, NULL);
}

/* Kills (sig != 0) or names (sig == 0) the children of a process and all below; zombies are neither. */
static int each_below (pid_t parent, int sig, int verbose) {
  char path[64], list[65536], line[512], *p, *next;
  FILE *f;
  size_t got;
  long child;
  int n = 0;
  snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
  if ((f = fopen(path, "re")) == NULL) return 0;
  got = fread(list, 1, sizeof list - 1, f);
  list[got] = 0;
  fclose(f);
  for (p = list; (child = strtol(p, &next, 10)) > 0 && next != p; p = next) {
    char *end;
    snprintf(path, sizeof path, "/proc/%ld/stat", child);
    if ((f = fopen(path, "re")) == NULL) continue;
    end = fgets(line, sizeof line, f) != NULL ? strrchr(line, ')') : NULL;
    fclose(f);
    if (end == NULL || end[1] != ' ') continue;
    n += each_below((pid_t)child, sig, verbose);
    if (end[2] == 'Z') continue;
    n++;
    if (verbose) {
      char command[512] = "";
      size_t i;
      snprintf(path, sizeof path, "/proc/%ld/cmdline", child);
      if ((f = fopen(path, "re")) != NULL) {
        got = fread(command, 1, sizeof command - 1, f);
        for (i = 0; i < got; i++)
          if (command[i] == 0 || command[i] == '\n') command[i] = ' ';
        fclose(f);
      }
      fprintf(stderr, "watch: still running: %ld (state %c) %s\n", child, end[2], command);
    }
    if (sig != 0) kill((pid_t)child, sig);
  }
  return n;
}

static void reap (void) {
  while (waitpid(-1, NULL, WNOHANG) > 0) {}
}

/* Kills until nothing is left. */
static void sweep (void) {
  double end = now() + 10;
  do {
    each_below(getpid(), SIGKILL, 0);
    pause_ms(5);
    reap();
  } while (each_below(getpid(), 0, 0) > 0 && now() < end);
}

int main (int argc, char **argv) {
  double limit, end;
  pid_t pid;
  int status, result, pidfd;
  struct pollfd pfd;
  struct sigaction sa;
  if (argc < 3 || (limit = atof(argv[1])) <= 0) {
    fprintf(stderr, "usage: watch SECONDS COMMAND [ARGS...]\n");
    return 2;
  }
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  memset(&sa, 0, sizeof sa);
  sa.sa_handler = on_signal;
  sigaction(SIGTERM, &sa, NULL);
  sigaction(SIGINT, &sa, NULL);
  sigaction(SIGHUP, &sa, NULL);
  pid = fork();
  if (pid < 0) { perror("fork"); return 2; }
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    execvp(argv[2], argv + 2);
    perror(argv[2]);
    _exit(127);
  }
  setpgid(pid, pid);
  pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (pidfd < 0) { perror("pidfd_open"); kill(pid, SIGKILL); return 2; }
  pfd.fd = pidfd;
  pfd.events = POLLIN;
  for (end = now() + limit;;) {
    double rest = end - now();
    int n = rest > 0 && !asked_to_end ? poll(&pfd, 1, rest > 1 ? 1000 : (int)(rest * 1000) + 1) : 0;
    if (n > 0) break;
    if (asked_to_end) {
      sweep();
      return 128 + asked_to_end;
    }
    if (now() >= end) {
      fprintf(stderr, "watch: %s took longer than %s s\n", argv[2], argv[1]);
      each_below(getpid(), 0, 1);
      sweep();
      return 124;
    }
  }
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  result = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  /* What is on its way out may take its time; the rest is a leak. */
  for (end = now() + 2; reap(), each_below(getpid(), 0, 0) > 0;) {
    if (now() >= end) {
      each_below(getpid(), 0, 1);
      if (result == 0) result = 125;
      break;
    }
    pause_ms(10);
  }
  sweep();
  return result;
}
