/* raw.c -- a Lua module that stands for native code in a confined worker: any system call, with any arguments. Only for the specs.
** raw.call(name or number, ...) -> result, or nil, errno. A string argument is a pointer to its bytes, nil is 0.
*/
#define _GNU_SOURCE
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CALL(n) {#n, SYS_##n}
static const struct {
  const char *name;
  long nr;
} calls[] = {
  CALL(getpid), CALL(openat), CALL(openat2), CALL(open_by_handle_at), CALL(linkat), CALL(symlinkat), CALL(renameat2), CALL(fchmodat),
  CALL(fchownat), CALL(setxattr), CALL(utimensat), CALL(truncate), CALL(mknodat), CALL(newfstatat), CALL(chdir), CALL(ptrace),
  CALL(process_vm_readv), CALL(process_vm_writev), CALL(kill), CALL(tkill), CALL(tgkill), CALL(rt_sigqueueinfo), CALL(pidfd_open),
  CALL(pidfd_send_signal), CALL(pidfd_getfd), CALL(prctl), CALL(prlimit64), CALL(sched_setaffinity), CALL(setpriority), CALL(ioprio_set),
  CALL(clone), CALL(clone3), CALL(execve), CALL(execveat), CALL(ioctl), CALL(setsid), CALL(setpgid), CALL(bpf), CALL(perf_event_open),
  CALL(userfaultfd), CALL(io_uring_setup), CALL(keyctl), CALL(add_key), CALL(unshare), CALL(setns), CALL(mount), CALL(umount2),
  CALL(pivot_root), CALL(chroot), CALL(personality), CALL(mmap), CALL(mprotect), CALL(mremap), CALL(socket), CALL(socketpair), CALL(connect),
  CALL(shmget), CALL(mq_open), CALL(memfd_create), CALL(eventfd2), CALL(seccomp), CALL(rt_sigaction), CALL(kcmp), CALL(process_madvise),
  CALL(reboot), CALL(swapon), CALL(acct), CALL(init_module), CALL(kexec_load), CALL(fcntl), CALL(dup), CALL(getppid)};

static int l_call (lua_State *L) {
  long args[6] = {0}, nr = -1, r;
  int i;
  if (lua_isinteger(L, 1)) nr = (long)lua_tointeger(L, 1);
  else {
    const char *name = luaL_checkstring(L, 1);
    size_t k;
    for (k = 0; k < sizeof calls / sizeof calls[0]; k++)
      if (strcmp(calls[k].name, name) == 0) break;
    if (k == sizeof calls / sizeof calls[0]) return luaL_error(L, "no call '%s'", name);
    nr = calls[k].nr;
  }
  for (i = 0; i < 6 && i + 2 <= lua_gettop(L); i++) {
    if (lua_isinteger(L, i + 2)) args[i] = (long)lua_tointeger(L, i + 2);
    else if (lua_type(L, i + 2) == LUA_TSTRING) args[i] = (long)lua_tostring(L, i + 2);
  }
  errno = 0;
  r = syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
  if (r != -1) {
    lua_pushinteger(L, r);
    return 1;
  }
  lua_pushnil(L);
  lua_pushinteger(L, errno);
  return 2;
}

/* A call by the door for 32-bit programs. */
static int l_int80 (lua_State *L) {
#if defined(__x86_64__)
  long r;
  __asm__ __volatile__("int $0x80" : "=a"(r) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
  lua_pushinteger(L, r);
  return 1;
#else
  return luaL_error(L, "only on x86_64");
#endif
}

static const luaL_Reg functions[] = {{"call", l_call}, {"int80", l_int80}, {NULL, NULL}};

int luaopen_raw (lua_State *L);
int luaopen_raw (lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
