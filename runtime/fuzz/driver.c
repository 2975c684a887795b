/* driver.c -- runs a fuzz target where there is no libFuzzer: the same LLVMFuzzerTestOneInput, fed with the corpus and with
** mutations of it that no coverage guides. With libFuzzer (MODE=fuzz) this file is empty.
**
**   decode_fuzz SECONDS [FOLDER]   every file of the folder, then mutations until the time is up
**   decode_fuzz -                  one input from stdin (AFL, or to repeat a finding)
**
** Each input lies in memory of exactly its size, so that the address sanitizer sees a read behind it. A crash leaves the input in
** ./crash-<pid>; the mutations follow from TEST_SEED (environment), which is printed.
*/
#ifndef MP_LIBFUZZER

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);
int LLVMFuzzerInitialize (int *argc, char ***argv) __attribute__((weak));
void __sanitizer_set_death_callback (void (*callback)(void)) __attribute__((weak));

#define MAX_FILES 4096
#define MAX_SIZE 4096

struct input {
  uint8_t *data;
  size_t size;
};

static struct input corpus[MAX_FILES];
static size_t corpus_n;
static struct input current;
static uint64_t state;
static char crash_name[64];

static uint64_t next_random (void) { /* splitmix64 */
  uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));
  z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static size_t below (size_t n) { return n == 0 ? 0 : (size_t)(next_random() % n); }

static void keep_input (void) { /* also called when a sanitizer is about to end the process */
  int fd;
  if (current.data == NULL) return;
  fd = open(crash_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return;
  if (write(fd, current.data, current.size) >= 0) {
    static const char text[] = "the input is kept in a file crash-<pid>\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) {} /* nothing left to try */
  }
  close(fd);
}

static void on_crash (int sig) {
  keep_input();
  signal(sig, SIG_DFL);
  raise(sig);
}

static void run_one (const uint8_t *data, size_t size) {
  current.data = malloc(size > 0 ? size : 1);
  current.size = size;
  if (current.data == NULL) abort();
  if (size > 0) memcpy(current.data, data, size);
  (void)LLVMFuzzerTestOneInput(current.data, size);
  free(current.data);
  current.data = NULL;
}

static int read_all (int fd, struct input *in) {
  size_t room = 65536;
  ssize_t n;
  in->size = 0;
  if ((in->data = malloc(room)) == NULL) return -1;
  while ((n = read(fd, in->data + in->size, room - in->size)) > 0) {
    in->size += (size_t)n;
    if (in->size == room) {
      uint8_t *more = realloc(in->data, room *= 2);
      if (more == NULL) break;
      in->data = more;
    }
  }
  return 0;
}

static void load (const char *folder) {
  DIR *d = opendir(folder);
  struct dirent *e;
  if (d == NULL) return;
  while ((e = readdir(d)) != NULL && corpus_n < MAX_FILES) {
    int fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
    if (e->d_name[0] != '.' && fd >= 0 && read_all(fd, &corpus[corpus_n]) == 0) corpus_n++;
    if (fd >= 0) close(fd);
  }
  closedir(d);
}

static size_t mutate (uint8_t *buf, size_t size) {
  static const uint64_t interesting[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000u, 0xffffffffu,
                                         UINT64_C(0x7fffffffffffffff), UINT64_MAX};
  size_t times = 1 + below(4);
  while (times-- > 0) {
    size_t at = below(size), n;
    switch (below(7)) {
      case 0: if (size > 0) buf[at] ^= (uint8_t)(1u << below(8)); break;
      case 1: if (size > 0) buf[at] = (uint8_t)next_random(); break;
      case 2: size = below(size + 1); break;
      case 3: { /* a number that matters, big endian */
        uint64_t v = interesting[below(sizeof interesting / sizeof interesting[0])];
        for (n = (size_t)1 << below(4); n > 0 && at < size; n--, at++) buf[at] = (uint8_t)(v >> (8 * (n - 1)));
        break;
      }
      case 4: /* bytes put in */
        n = 1 + below(8);
        if (size + n > MAX_SIZE) break;
        memmove(buf + at + n, buf + at, size - at);
        size += n;
        while (n-- > 0) buf[at++] = (uint8_t)next_random();
        break;
      case 5: /* bytes taken out */
        if (size == 0) break;
        n = 1 + below(size - at < 8 ? size - at : 8);
        if (n > size - at) n = size - at;
        memmove(buf + at, buf + at + n, size - at - n);
        size -= n;
        break;
      default: /* a piece of another input */
        if (corpus_n > 0) {
          const struct input *other = &corpus[below(corpus_n)];
          size_t from = below(other->size);
          n = below(other->size - from + 1);
          if (n > MAX_SIZE - at) n = MAX_SIZE - at;
          if (n > 0) memcpy(buf + at, other->data + from, n);
          if (at + n > size) size = at + n;
        }
    }
  }
  return size;
}

int main (int argc, char **argv) {
  static uint8_t buf[MAX_SIZE];
  const char *seed = getenv("TEST_SEED");
  time_t end;
  uint64_t runs = 0;
  size_t i;
  if (argc < 2) {
    fprintf(stderr, "usage: %s SECONDS [FOLDER] | -\n", argv[0]);
    return 2;
  }
  snprintf(crash_name, sizeof crash_name, "crash-%d", (int)getpid());
  signal(SIGABRT, on_crash);
  signal(SIGSEGV, on_crash);
  if (__sanitizer_set_death_callback != NULL) __sanitizer_set_death_callback(keep_input);
  if (LLVMFuzzerInitialize != NULL) (void)LLVMFuzzerInitialize(&argc, &argv);
  if (strcmp(argv[1], "-") == 0) {
    struct input in;
    if (read_all(STDIN_FILENO, &in) != 0) return 2;
    run_one(in.data, in.size);
    free(in.data);
    return 0;
  }
  state = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) ^ ((uint64_t)getpid() << 32);
  printf("TEST_SEED=%" PRIu64 "\n", state);
  if (argc > 2) load(argv[2]);
  for (i = 0; i < corpus_n; i++) run_one(corpus[i].data, corpus[i].size);
  end = time(NULL) + atoi(argv[1]);
  while (time(NULL) < end) {
    for (i = 0; i < 200; i++, runs++) {
      size_t size = 0;
      if (corpus_n > 0) {
        const struct input *from = &corpus[below(corpus_n)];
        size = from->size < MAX_SIZE ? from->size : MAX_SIZE;
        memcpy(buf, from->data, size);
      }
      size = mutate(buf, size);
      run_one(buf, size);
    }
  }
  printf("%zu inputs of the corpus, %" PRIu64 " mutations\n", corpus_n, runs);
  for (i = 0; i < corpus_n; i++) free(corpus[i].data);
  return 0;
}

#else
typedef int mpi_fuzz_driver_is_empty;
#endif
