/* raw.c -- a Lua module that stands for native code in a confined worker: any system call, with any arguments. Only for the specs.
** raw.call(name or number, ...) -> result, or nil, errno. A string argument is a pointer to its bytes, nil is 0.
** raw.int80() a system call as 32-bit programs make it
** raw.environ() -> list of "NAME=value"        raw.stack_top() -> the end of the stack, where a program's first environment lies
** raw.address(string) -> integer               raw.peek(integer, n) -> n bytes from there
** raw.send_fds(socket, n, text) -> result, or nil, errno: one record with n descriptors
** raw.dlopen(name) -> true, or nil, why        raw.hog(bytes) -> how many could be had and written to
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/socket.h>
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
  CALL(reboot), CALL(swapon), CALL(acct), CALL(init_module), CALL(kexec_load), CALL(fcntl), CALL(dup), CALL(getppid), CALL(setresuid),
  CALL(setresgid), CALL(setgroups), CALL(lseek), CALL(write), CALL(pwrite64), CALL(getuid), CALL(sched_yield), CALL(dup3)};

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

extern char **environ;

static int l_environ (lua_State *L) {
  int i;
  lua_newtable(L);
  for (i = 0; environ != NULL && environ[i] != NULL; i++) {
    lua_pushstring(L, environ[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int l_stack_top (lua_State *L) { /* the program's name is the last thing there, the environment is right before it */
  const char *end = (const char *)(uintptr_t)getauxval(AT_EXECFN), *p = (const char *)&end;
  if (end == NULL || p > end) return luaL_error(L, "another stack");
  lua_pushlstring(L, p, (size_t)(end - p));
  return 1;
}

static int l_address (lua_State *L) {
  lua_pushinteger(L, (lua_Integer)(intptr_t)luaL_checkstring(L, 1));
  return 1;
}

static int l_peek (lua_State *L) {
  lua_pushlstring(L, (const char *)(intptr_t)luaL_checkinteger(L, 1), (size_t)luaL_checkinteger(L, 2));
  return 1;
}

static int l_send_fds (lua_State *L) {
  int sock = (int)luaL_checkinteger(L, 1), n = (int)luaL_checkinteger(L, 2), i;
  size_t size;
  const char *text = luaL_checklstring(L, 3, &size);
  union {
    struct cmsghdr h;
    char room[CMSG_SPACE(sizeof(int) * 253)];
  } c;
  struct iovec v = {(void *)(uintptr_t)text, size};
  struct msghdr m;
  ssize_t r;
  luaL_argcheck(L, n > 0 && n <= 253, 2, "1 to 253");
  memset(&m, 0, sizeof m);
  memset(&c, 0, sizeof c);
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = &c;
  m.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)n);
  c.h.cmsg_level = SOL_SOCKET;
  c.h.cmsg_type = SCM_RIGHTS;
  c.h.cmsg_len = CMSG_LEN(sizeof(int) * (size_t)n);
  for (i = 0; i < n; i++) ((int *)(void *)CMSG_DATA(&c.h))[i] = 1;
  r = sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (r >= 0) {
    lua_pushinteger(L, r);
    return 1;
  }
  lua_pushnil(L);
  lua_pushinteger(L, errno);
  return 2;
}

static int l_dlopen (lua_State *L) {
  if (dlopen(luaL_checkstring(L, 1), RTLD_NOW) == NULL) {
    lua_pushnil(L);
    lua_pushstring(L, dlerror());
    return 2;
  }
  lua_pushboolean(L, 1);
  return 1;
}

static int l_hog (lua_State *L) {
  lua_Integer want = luaL_checkinteger(L, 1), got = 0;
  const lua_Integer step = 1 << 20;
  while (got < want) {
    char *p = mmap(NULL, (size_t)step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) break;
    memset(p, 1, (size_t)step);
    got += step;
  }
  lua_pushinteger(L, got);
  return 1;
}

static const luaL_Reg functions[] = {{"call", l_call},       {"int80", l_int80},       {"environ", l_environ}, {"stack_top", l_stack_top},
                                     {"address", l_address}, {"peek", l_peek},         {"send_fds", l_send_fds},
                                     {"dlopen", l_dlopen},   {"hog", l_hog},           {NULL, NULL}};

int luaopen_raw (lua_State *L);
int luaopen_raw (lua_State *L) {
  luaL_newlib(L, functions);
  return 1;
}
