/* The filter that libseccomp exports is run by an evaluator of our own and compared with the table's verdict. */
#include "sandbox/jail.h"
#include "sandbox/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test/test.h"

/* ---- classic BPF, as the kernel's seccomp allows it ---- */

static uint32_t load (const struct seccomp_data *d, uint32_t at) {
  uint32_t v;
  CHECK(at % 4 == 0 && at + 4 <= sizeof *d);
  memcpy(&v, (const char *)d + at, 4);
  return v;
}

static uint32_t run_bpf (const struct mpi_filter *f, const struct seccomp_data *d) {
  uint32_t acc = 0, x = 0, mem[BPF_MEMWORDS] = {0}, pc;
  for (pc = 0; pc < f->n; pc++) {
    const struct mpi_bpf *i = &f->insn[pc];
    uint32_t src = BPF_SRC(i->code) == BPF_X ? x : i->k;
    switch (i->code) {
      case BPF_LD | BPF_W | BPF_ABS: acc = load(d, i->k); break;
      case BPF_LD | BPF_IMM: acc = i->k; break;
      case BPF_LDX | BPF_IMM: x = i->k; break;
      case BPF_LD | BPF_MEM: acc = mem[i->k % BPF_MEMWORDS]; break;
      case BPF_ST: mem[i->k % BPF_MEMWORDS] = acc; break;
      case BPF_ALU | BPF_AND | BPF_K: acc &= i->k; break;
      case BPF_MISC | BPF_TAX: x = acc; break;
      case BPF_JMP | BPF_JA: pc += i->k; break;
      case BPF_JMP | BPF_JEQ | BPF_K: case BPF_JMP | BPF_JEQ | BPF_X: pc += acc == src ? i->jt : i->jf; break;
      case BPF_JMP | BPF_JGT | BPF_K: case BPF_JMP | BPF_JGT | BPF_X: pc += acc > src ? i->jt : i->jf; break;
      case BPF_JMP | BPF_JGE | BPF_K: case BPF_JMP | BPF_JGE | BPF_X: pc += acc >= src ? i->jt : i->jf; break;
      case BPF_JMP | BPF_JSET | BPF_K: pc += acc & src ? i->jt : i->jf; break;
      case BPF_RET | BPF_K: return i->k;
      default: FAIL("an instruction we do not know: %#x at %u", i->code, pc);
    }
  }
  FAIL("the filter ends without a verdict");
}

/* ---- what the table says ---- */

static uint32_t wanted (uint32_t arch, unsigned features, enum mpi_filter_form form, const struct seccomp_data *d) {
  uint32_t otherwise = form == MPI_FILTER_LISTENER ? SECCOMP_RET_USER_NOTIF
                       : form == MPI_FILTER_DENY   ? SECCOMP_RET_ERRNO | EPERM
                                                   : SECCOMP_RET_KILL_PROCESS;
  int plain, allows;
  uint64_t args[6];
  memcpy(args, d->args, sizeof args);
  if (d->arch != arch) return SECCOMP_RET_KILL_PROCESS;
  if (arch == AUDIT_ARCH_X86_64 && d->nr >= 0x40000000 && d->nr < 0x40000400) return SECCOMP_RET_KILL_PROCESS;
  if (d->nr < 0 || d->nr > MPI_NEWEST_CALL) return SECCOMP_RET_ERRNO | ENOSYS;
  allows = mpi_calls_has_allow(features, arch, d->nr);
  switch (mpi_calls_judge(features, arch, d->nr, args, MPI_OWN_PID, &plain)) {
    case MPI_CALL_ALLOW: return SECCOMP_RET_ALLOW;
    case MPI_CALL_WATCH: return form == MPI_FILTER_LISTENER ? otherwise : SECCOMP_RET_ALLOW;
    case MPI_CALL_SILENT: return !allows && form != MPI_FILTER_DENY ? SECCOMP_RET_ERRNO | EPERM : otherwise;
    case MPI_CALL_NOSYS: return SECCOMP_RET_ERRNO | ENOSYS;
    case MPI_CALL_KILL: return plain && !allows && form == MPI_FILTER_DENY ? SECCOMP_RET_KILL_PROCESS : otherwise;
    default: return otherwise;
  }
}

/* ---- arguments at the edges of every rule ---- */

static uint64_t edge (const struct mpi_call_cond *c) {
  uint64_t v = c->value, free = ~c->mask;
  switch (test_random() % 10) {
    case 0: case 1: case 2: return v | (free & test_random());             /* allowed */
    case 3: return v | (UINT64_C(1) << 32);
    case 4: return v | (UINT64_C(0xffffffff) << 32);
    case 5: return (uint64_t)(int64_t)(int32_t)v;
    case 6: return v ^ (UINT64_C(1) << (test_random() % 64));
    case 7: return v + 1;
    case 8: return v - 1;
    default: return test_random() % 2 ? 0 : ~UINT64_C(0);
  }
}

static void fill (uint32_t arch, struct seccomp_data *d) {
  const struct mpi_call_rule *r, *pick = NULL;
  int i, seen = 0;
  for (i = 0; i < 6; i++) d->args[i] = test_random() % 3 == 0 ? test_random() : test_random() % 16;
  for (r = mpi_call_rules; r->name != NULL; r++)
    if (r->n > 0 && mpi_calls_number(arch, r->name) == d->nr && test_random() % (unsigned)++seen == 0) pick = r;
  if (pick == NULL) return;
  for (i = 0; i < pick->n; i++) d->args[pick->c[i].arg] = edge(&pick->c[i]);
}

static uint32_t action_class (uint32_t a) {
  return (a & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF ? SECCOMP_RET_USER_NOTIF : a;
}

/* Numbers of the rules, so that the comparison does not look names up millions of times. */
static int conditional[MPI_NEWEST_CALL + 1];

static void compare (uint32_t arch, unsigned features, enum mpi_filter_form form, int turns) {
  static struct mpi_filter f;
  static const uint32_t strange[] = {451, 500, 511, 512, 547, 0x3fffffff, 0x40000000, 0x40000001, 0x40000200, 0x400003ff, 0x40000400,
                                     0x7fffffff, 0x80000000, 0xffffffff, 0xc0000000};
  const struct mpi_call_rule *r;
  struct seccomp_data d = {0};
  uint32_t nr;
  CHECK_OK(mpi_filter_compile_for(arch, features, form, &f));
  memset(conditional, 0, sizeof conditional);
  for (r = mpi_call_rules; r->name != NULL; r++) {
    int k = mpi_calls_number(arch, r->name);
    if (k >= 0 && k <= MPI_NEWEST_CALL && r->n > 0) conditional[k]++;
  }
  for (nr = 0; nr <= MPI_NEWEST_CALL + sizeof strange / sizeof strange[0]; nr++) {
    int t, n = nr > MPI_NEWEST_CALL ? 2 : conditional[nr] > 0 ? turns * conditional[nr] : 2;
    d.nr = (int)(nr > MPI_NEWEST_CALL ? strange[nr - MPI_NEWEST_CALL - 1] : nr);
    for (t = 0; t < n; t++) {
      uint32_t got, want;
      d.arch = arch;
      if (nr <= MPI_NEWEST_CALL && conditional[nr] > 0) fill(arch, &d);
      got = action_class(run_bpf(&f, &d));
      want = wanted(arch, features, form, &d);
      if (got != want)
        FAIL("features %#x form %d call %d (%#llx %#llx %#llx %#llx): filter %#x, table %#x", features, form, d.nr, d.args[0], d.args[1],
             d.args[2], d.args[3], got, want);
      d.arch = arch == AUDIT_ARCH_X86_64 ? AUDIT_ARCH_I386 : AUDIT_ARCH_ARM;
      CHECK_EQ(run_bpf(&f, &d), SECCOMP_RET_KILL_PROCESS);
    }
  }
}

TEST("the compiled filter is the table: every tier, with a listener, x86_64", .limit = 60) {
  unsigned features;
  for (features = 1; features <= MPI_F_ALL; features += 2) compare(SCMP_ARCH_X86_64, features, MPI_FILTER_LISTENER, 12);
}

TEST("the compiled filter is the table: without a listener, refusing and killing", .limit = 60) {
  unsigned features;
  for (features = 1; features <= MPI_F_ALL; features += 14) {
    compare(SCMP_ARCH_X86_64, features | 1, MPI_FILTER_DENY, 12);
    compare(SCMP_ARCH_X86_64, features | 1, MPI_FILTER_KILL, 12);
  }
}

TEST("the compiled filter is the table: aarch64", .limit = 60) {
  unsigned features;
  for (features = 1; features <= MPI_F_ALL; features += 6) compare(SCMP_ARCH_AARCH64, features | 1, MPI_FILTER_LISTENER, 12);
}

TEST("the evaluator sees a filter that lets too much through") { /* else the comparisons above prove nothing */
  static struct mpi_filter f;
  struct seccomp_data d = {.nr = SYS_ioctl, .arch = SCMP_ARCH_X86_64, .args = {0, 0x5412, 0, 0, 0, 0}};
  CHECK_OK(mpi_filter_compile_for(SCMP_ARCH_X86_64, MPI_F_ANY, MPI_FILTER_DENY, &f));
  CHECK_EQ(run_bpf(&f, &d), SECCOMP_RET_ERRNO | EPERM);
  f.insn[f.n - 1].k = f.insn[f.n - 2].k = SECCOMP_RET_ALLOW;
  d.nr = SYS_openat;
  {
    uint32_t i;
    for (i = 0; i < f.n; i++)
      if (f.insn[i].code == (BPF_RET | BPF_K) && f.insn[i].k == (SECCOMP_RET_ERRNO | EPERM)) f.insn[i].k = SECCOMP_RET_ALLOW;
  }
  CHECK(run_bpf(&f, &d) != wanted(SCMP_ARCH_X86_64, MPI_F_ANY, MPI_FILTER_DENY, &d));
}

TEST("each name of the table is a system call of this machine or of an older one") {
  const struct mpi_call_rule *r;
  for (r = mpi_call_rules; r->name != NULL; r++)
    if (mpi_calls_number(SCMP_ARCH_X86_64, r->name) < 0) FAIL("no such call: %s", r->name);
}

static void confined (void *arg) {
  struct mpi_filter f;
  uint32_t pid = (uint32_t)getpid();
  (void)arg;
  CHECK_OK(mpi_filter_compile(MPI_F_ANY, MPI_FILTER_DENY, &f));
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHECK_OK(mpi_filter_install(&f, pid, NULL));
  CHECK(syscall(SYS_getppid) > 0);
  CHECK(syscall(SYS_socket, 2, 1, 0) == -1 && errno == EPERM);
  CHECK(syscall(SYS_kill, getppid(), 0) == -1 && errno == EPERM);
  CHECK(syscall(SYS_kill, pid, 0) == 0);
  CHECK(syscall(500) == -1 && errno == ENOSYS);
  CHECK(syscall(-1) == -1 && errno == ENOSYS);
  CHECK(syscall(0x7fffffff) == -1 && errno == ENOSYS);
}

TEST("an installed filter refuses, and knows the process's own id") {
  CHECK_EQ(wait_child(fork_child(confined, NULL)), 0);
}

static void traced (void *arg) {
  (void)arg;
  confined(NULL);
  (void)syscall(SYS_ptrace, 0, 0, 0, 0);
}

TEST("without a listener, what only an exploit would try ends the process") {
  CHECK_EQ(wait_child(fork_child(traced, NULL)), -31);
}

TEST("compiling again gives the same bytes") {
  static struct mpi_filter a, b;
  CHECK_OK(mpi_filter_compile(MPI_F_ANY | MPI_F_RUN, MPI_FILTER_LISTENER, &a));
  CHECK_OK(mpi_filter_compile(MPI_F_ANY | MPI_F_RUN, MPI_FILTER_LISTENER, &b));
  CHECK_EQ(a.n, b.n);
  CHECK_MEM(a.insn, b.insn, a.n * sizeof a.insn[0]);
}

TEST("without notifications no policy can be had, and the sentence says so") {
  struct mpi_policy p;
  static struct mpi_jail jail;
#if !defined(MP_FAULTS)
  SKIP("needs a build with fault points");
#endif
  CHECK_EQ(mpi_filter_available(), 1);
  CHECK(setenv("MP_NO_SECCOMP", "1", 1) == 0);
  CHECK_ERR(mpi_filter_available(), MP_ENOSUP);
  mpi_policy_init(&p);
  CHECK_ERR(mpi_jail_make(&p, MPI_FILTER_LISTENER, &jail), MP_ENOSUP);
  CHECK(strstr(mp_errmsg(), "no system-call filters with notifications") != NULL);
  CHECK_OK(mpi_jail_make(&p, MPI_FILTER_NONE, &jail)); /* limits alone need none */
}
