#include "sandbox/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"

_Static_assert(sizeof(struct mpi_bpf) == sizeof(struct sock_filter), "our instruction is the kernel's");

#define X32_FIRST 0x40000000u
#define X32_END 0x40000400u

uint32_t mpi_filter_arch (void) {
  return seccomp_arch_native();
}

/* ---- libseccomp's part ---- */

static int add_rule (scmp_filter_ctx ctx, uint32_t action, int nr, const struct mpi_call_rule *r) {
  struct scmp_arg_cmp cmp[4];
  int i;
  memset(cmp, 0, sizeof cmp);
  for (i = 0; i < r->n; i++) {
    cmp[i].arg = r->c[i].arg;
    if (r->c[i].mask == ~UINT64_C(0)) {
      cmp[i].op = SCMP_CMP_EQ;
      cmp[i].datum_a = r->c[i].value;
    } else {
      cmp[i].op = SCMP_CMP_MASKED_EQ;
      cmp[i].datum_a = r->c[i].mask;
      cmp[i].datum_b = r->c[i].value;
    }
  }
  return seccomp_rule_add_array(ctx, action, nr, r->n, cmp);
}

/* Is the call allowed whatever its arguments? Then its conditional lines say nothing, and libseccomp refuses them. */
static int allowed_plainly (uint32_t arch, unsigned features, int nr) {
  const struct mpi_call_rule *r;
  for (r = mpi_call_rules; r->name != NULL; r++)
    if (r->n == 0 && (r->features & features) && (r->verdict == MPI_CALL_ALLOW || r->verdict == MPI_CALL_WATCH) &&
        mpi_calls_number(arch, r->name) == nr)
      return 1;
  return 0;
}

/* What a line of the table becomes; 0: nothing, the default action is right. */
static uint32_t action_of (const struct mpi_call_rule *r, enum mpi_filter_form form, int has_allow) {
  if (form == MPI_FILTER_LEARN) return r->verdict == MPI_CALL_ALLOW ? SCMP_ACT_ALLOW : 0;
  switch (r->verdict) {
    case MPI_CALL_ALLOW: return SCMP_ACT_ALLOW;
    case MPI_CALL_WATCH: return form == MPI_FILTER_LISTENER ? 0 : SCMP_ACT_ALLOW;
    /* An unconditional refusal would swallow the conditions under which the call is allowed. */
    case MPI_CALL_SILENT: return !has_allow && form != MPI_FILTER_DENY ? SCMP_ACT_ERRNO(EPERM) : 0;
    case MPI_CALL_NOSYS: return has_allow ? 0 : SCMP_ACT_ERRNO(ENOSYS);
    case MPI_CALL_KILL: return r->n == 0 && !has_allow && form == MPI_FILTER_DENY ? SCMP_ACT_KILL_PROCESS : 0;
    default: return 0;
  }
}

static int add_rules (scmp_filter_ctx ctx, uint32_t arch, unsigned features, enum mpi_filter_form form) {
  const struct mpi_call_rule *r;
  for (r = mpi_call_rules; r->name != NULL; r++) {
    int nr = mpi_calls_number(arch, r->name);
    uint32_t action;
    int rc;
    if (nr < 0 || !(r->features & features)) continue;
    action = action_of(r, form, mpi_calls_has_allow(features, arch, nr));
    if (action == 0) continue;
    if (r->n > 0 && allowed_plainly(arch, features, nr)) continue;
    /* libseccomp wants the native number of the name and translates it to the filter's machine itself. */
    rc = add_rule(ctx, action, seccomp_syscall_resolve_name(r->name), r);
    if (rc != 0 && rc != -EEXIST) return mpi_fail(rc == -ENOMEM ? MP_ENOMEM : MP_ESYS, "libseccomp: a rule for %s: %s", r->name, strerror(-rc));
  }
  return 0;
}

static int export (scmp_filter_ctx ctx, struct mpi_bpf *to, size_t room, uint32_t *n) {
  int fd = mpi_memfd("mp filter");
  ssize_t size;
  int rc;
  if (fd < 0) return fd;
  rc = seccomp_export_bpf(ctx, fd);
  if (rc != 0) {
    mpi_fd_close(&fd);
    return mpi_fail(MP_ESYS, "libseccomp: making the filter: %s", strerror(-rc));
  }
  size = pread(fd, to, room * sizeof *to, 0);
  rc = lseek(fd, 0, SEEK_END) != size ? mpi_fail(MP_ESYS, "the filter is too long") : 0;
  mpi_fd_close(&fd);
  *n = (uint32_t)((size_t)size / sizeof *to);
  return rc;
}

/* ---- our part: before libseccomp's program ---- */

static struct mpi_bpf insn (unsigned code, uint8_t jt, uint8_t jf, uint32_t k) {
  struct mpi_bpf b = {(uint16_t)code, jt, jf, k};
  return b;
}

/* SCMP_ARCH_ tokens are the kernel's AUDIT_ARCH_ values, but for x32. */
static uint32_t prefix (uint32_t arch, struct mpi_bpf *to) {
  uint32_t n = 0;
  to[n++] = insn(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, arch));
  to[n++] = insn(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, arch);
  to[n++] = insn(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS);
  to[n++] = insn(BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(struct seccomp_data, nr));
  to[n++] = insn(BPF_JMP | BPF_JGT | BPF_K, 0, 4, MPI_NEWEST_CALL); /* one known number: on to libseccomp's part */
  to[n++] = insn(BPF_JMP | BPF_JGE | BPF_K, 0, 2, arch == AUDIT_ARCH_X86_64 ? X32_FIRST : UINT32_MAX);
  to[n++] = insn(BPF_JMP | BPF_JGE | BPF_K, 1, 0, arch == AUDIT_ARCH_X86_64 ? X32_END : UINT32_MAX);
  to[n++] = insn(BPF_RET | BPF_K, 0, 0, arch == AUDIT_ARCH_X86_64 ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | ENOSYS);
  to[n++] = insn(BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOSYS);
  return n;
}

int mpi_filter_compile_for (uint32_t arch, unsigned features, enum mpi_filter_form form, struct mpi_filter *out) {
  int hands_over = form == MPI_FILTER_LISTENER || form == MPI_FILTER_LEARN;
  uint32_t otherwise = hands_over ? SCMP_ACT_NOTIFY : form == MPI_FILTER_DENY ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_KILL_PROCESS;
  scmp_filter_ctx ctx = seccomp_init(otherwise);
  struct mpi_filter *f = calloc(1, sizeof *f);
  uint32_t n = 0;
  int rc;
  if (ctx == NULL || f == NULL) {
    rc = mpi_fail(MP_ENOMEM, "not enough memory for a filter");
    goto out;
  }
  if (arch != seccomp_arch_native() && (seccomp_arch_add(ctx, arch) != 0 || seccomp_arch_remove(ctx, seccomp_arch_native()) != 0)) {
    rc = mpi_fail(MP_ENOSUP, "libseccomp does not know the machine");
    goto out;
  }
  /* libseccomp's default would kill the offending thread only. */
  if (seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) != 0 || seccomp_attr_set(ctx, SCMP_FLTATR_CTL_NNP, 0) != 0) {
    rc = mpi_fail(MP_ENOSUP, "libseccomp cannot kill a process for a foreign machine's call");
    goto out;
  }
  (void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree; only faster */
  if ((rc = add_rules(ctx, arch, features, form)) != 0) goto out;
  f->n = prefix(arch, f->insn);
  if ((rc = export(ctx, f->insn + f->n, MPI_FILTER_MAX - f->n, &n)) != 0) goto out;
  f->n += n;
  *out = *f;
out:
  free(f);
  if (ctx != NULL) seccomp_release(ctx);
  return rc;
}

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mpi_filter *cache[MPI_FILTER_NONE][MPI_F_ALL + 1]; /* for the life of the process: a few tens of kilobytes */

int mpi_filter_compile (unsigned features, enum mpi_filter_form form, struct mpi_filter *out) {
  struct mpi_filter **slot = &cache[form][features & MPI_F_ALL];
  int rc = 0;
  (void)pthread_mutex_lock(&cache_lock);
  if (*slot == NULL) {
    struct mpi_filter *f = malloc(sizeof *f);
    rc = f == NULL ? mpi_fail(MP_ENOMEM, "not enough memory for a filter") : mpi_filter_compile_for(mpi_filter_arch(), features, form, f);
    if (rc == 0) *slot = f;
    else free(f);
  }
  if (rc == 0) *out = **slot;
  (void)pthread_mutex_unlock(&cache_lock);
  return rc;
}

int mpi_filter_install (const struct mpi_filter *f, uint32_t pid, int *listener) {
  struct mpi_filter mine = *f;
  struct sock_fprog prog;
  uint32_t i;
  long fd;
  unsigned long flags;
  for (i = 0; i < mine.n; i++)
    if (mine.insn[i].k == MPI_OWN_PID && (mine.insn[i].code & BPF_CLASS(0xff)) == BPF_JMP) mine.insn[i].k = pid;
  prog.len = (unsigned short)mine.n;
  prog.filter = (struct sock_filter *)(void *)mine.insn;
  if (listener == NULL) {
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) != 0) return mpi_fail_errno("seccomp");
    return 0;
  }
  flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
  fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
  if (fd < 0 && errno == EINVAL) /* before Linux 5.19: a signal may make a refusal be recorded twice */
    fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
  if (fd < 0) return mpi_fail_errno("seccomp");
  *listener = (int)fd;
  return 0;
}

int mpi_filter_available (void) {
  uint32_t action = SECCOMP_RET_USER_NOTIF;
#ifdef MP_FAULTS
  if (getenv("MP_NO_SECCOMP") != NULL) action = 0x7f000000u; /* no such action */
#endif
  if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) != 0)
    return mpi_fail(MP_ENOSUP, "this kernel has no system-call filters with notifications (seccomp, Linux 5.0)");
  return 1;
}
