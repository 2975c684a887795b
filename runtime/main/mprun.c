/* mprun.c -- the interpreter: Lua 5.4's command line, and mp. */
#include "main/mprun.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/child.h"
#include "bind/zygote.h"
#include "main/hooks.h"
#include "main/lineedit.h"
#include "main/sigint.h"
#include "proc/spawn.h"

#define NAME "mprun"
#define INIT_NAME "LUA_INIT"
#define INIT_NAME_VERSION INIT_NAME "_" LUA_VERSION_MAJOR "_" LUA_VERSION_MINOR

/* What the command line asks for. */
struct options {
  int ignore_environment;
  int interactive;
  int banner;
  int statements; /* there is a -e */
  int help;
  int version;
  int learn;
  const char *policy;
  const char *start_method;
  int script;      /* index in argv; argc: none */
  const char *bad; /* an option that is none, lacks its argument, or does not go with those before it */
  int lacks;       /* the second */
  int clashes;     /* the last */
};

struct command {
  int argc;
  char **argv;
  struct options o;
  int terminal; /* stdin is one, and would be the script if it were none */
  int status; /* what main() gives back if all went well otherwise */
};

/* ---- what it says of itself ---- */

static void usage (FILE *f) {
  (void)fprintf(f,
                "usage: %s [options] [script [args]]\n"
                "Available options are:\n"
                "  -e stat   run the statement 'stat'\n"
                "  -i        enter interactive mode after running the script\n"
                "  -l mod    require module 'mod' into global 'mod'\n"
                "  -l g=mod  require module 'mod' into global 'g'\n"
                "  -v        show version information\n"
                "  -E        ignore environment variables\n"
                "  -W        turn warnings on\n"
                "  --        stop handling options\n"
                "  -         stop handling options and run stdin\n"
                "  --start-method=NAME  start processes by 'fork' or 'spawn'\n"
                "  --sandbox=POLICY     run the script with no more rights than POLICY grants:\n"
                "                       a word, a Lua table, or a file that holds one\n"
                "  --sandbox-learn      run the script as usual, then print the policy it needs\n"
                "  --version            show this program's version and Lua's\n"
                "  --help               show this text\n",
                mpi_progname);
}

void mpi_banner (void) {
  (void)puts(LUA_COPYRIGHT);
  (void)fflush(stdout);
}

/* ---- chunks ---- */

/* Of a chunk that was just loaded with `status`. */
static int run_loaded (lua_State *L, int status) {
  if (status == LUA_OK) status = mpi_call(L, 0, 0);
  return mpi_report(L, status);
}

static int run_text (lua_State *L, const char *text, const char *name) {
  return run_loaded(L, luaL_loadbuffer(L, text, strlen(text), name));
}

static int run_file (lua_State *L, const char *name) {
  return run_loaded(L, luaL_loadfile(L, name));
}

/* -l spec: "module", or "global=module". */
static int run_require (lua_State *L, const char *spec) {
  const char *equals = strchr(spec, '=');
  const char *module = equals != NULL ? equals + 1 : spec;
  int status;
  lua_getglobal(L, "require");
  lua_pushstring(L, module);
  status = mpi_call(L, 1, 1);
  if (status != LUA_OK) return mpi_report(L, status);
  lua_pushglobaltable(L);
  if (equals != NULL) lua_pushlstring(L, spec, (size_t)(equals - spec));
  else lua_pushstring(L, module);
  lua_pushvalue(L, -3);
  lua_settable(L, -3);
  lua_pop(L, 2);
  return LUA_OK;
}

static int run_init (lua_State *L) {
  const char *name = "=" INIT_NAME_VERSION;
  const char *init = getenv(name + 1);
  if (init == NULL) init = getenv((name = "=" INIT_NAME) + 1);
  if (init == NULL) return LUA_OK;
  return init[0] == '@' ? run_file(L, init + 1) : run_text(L, init, name);
}

/* ---- the command line ---- */

static int is_option (const char *argument, const char *name) {
  return strcmp(argument, name) == 0;
}

/* The text after "name=", or NULL if `argument` is another option. */
static const char *option_value (const char *argument, const char *name) {
  size_t n = strlen(name);
  return strncmp(argument, name, n) == 0 && argument[n] == '=' ? argument + n + 1 : NULL;
}

/* An option of two dashes and a word; 0 if it is none. */
static int read_word (struct options *o, const char *argument) {
  const char *value = NULL;
  if (is_option(argument, "--help")) o->help = 1;
  else if (is_option(argument, "--version")) o->version = 1;
  else if (is_option(argument, "--sandbox-learn")) {
    o->clashes = o->policy != NULL || o->learn;
    o->learn = 1;
  }
  else if ((value = option_value(argument, "--sandbox")) != NULL) {
    o->clashes = o->policy != NULL || o->learn;
    o->policy = value;
  }
  else if ((value = option_value(argument, "--start-method")) != NULL) o->start_method = value;
  else {
    o->lacks = is_option(argument, "--sandbox") || is_option(argument, "--start-method");
    return 0;
  }
  o->lacks = value != NULL && value[0] == '\0';
  return !o->lacks && !o->clashes;
}

/* An option of one dash and a letter at argv[*i], which is left at its last argument; 0 if it is none. */
static int read_letter (struct options *o, char **argv, int *i) {
  const char *argument = argv[*i];
  if (strchr("EWiv", argument[1]) != NULL && argument[2] != '\0') return 0;
  switch (argument[1]) {
    case 'E': o->ignore_environment = 1; return 1;
    case 'W': return 1;
    case 'i': o->interactive = o->banner = 1; return 1;
    case 'v': o->banner = 1; return 1;
    case 'e': o->statements = 1; break;
    case 'l': break;
    default: return 0;
  }
  if (argument[2] != '\0') return 1;
  o->lacks = argv[*i + 1] == NULL || argv[*i + 1][0] == '-';
  *i += !o->lacks;
  return !o->lacks;
}

static void read_options (struct options *o, int argc, char **argv) {
  int i;
  memset(o, 0, sizeof *o);
  for (i = 1; i < argc; i++) {
    int start = i;
    if (argv[i][0] != '-' || argv[i][1] == '\0') break; /* a script, or stdin as one */
    if (is_option(argv[i], "--")) {
      i++;
      break;
    }
    if (!(argv[i][1] == '-' ? read_word(o, argv[i]) : read_letter(o, argv, &i))) {
      o->bad = argv[start];
      return;
    }
  }
  o->script = i < argc ? i : argc;
}

/* `arg`: the script at 0, its arguments after it, what comes before it at negative indices; the program itself at 0 without a script. */
static void make_arg (lua_State *L, const struct command *c) {
  int zero = c->o.script < c->argc ? c->o.script : 0;
  int i;
  lua_createtable(L, c->argc - zero, zero + 1);
  for (i = 0; i < c->argc; i++) {
    lua_pushstring(L, c->argv[i]);
    lua_rawseti(L, -2, i - zero);
  }
  lua_setglobal(L, "arg");
}

/* -e, -l and -W, in their order. */
static int run_options (lua_State *L, const struct command *c) {
  int i;
  for (i = 1; i < c->o.script; i++) {
    int letter = c->argv[i][1];
    if (letter == 'W') lua_warning(L, "@on", 0);
    if (letter == 'e' || letter == 'l') {
      const char *extra = c->argv[i][2] != '\0' ? c->argv[i] + 2 : c->argv[++i];
      int status = letter == 'e' ? run_text(L, extra, "=(command line)") : run_require(L, extra);
      if (status != LUA_OK) return status;
    }
  }
  return LUA_OK;
}

/* ---- the script ---- */

/* Pushes the script's function or a message. "-" is stdin, unless "--" says that it is a file's name. */
static int load_script (lua_State *L, const struct command *c) {
  const char *name = c->argv[c->o.script];
  if (is_option(name, "-") && !is_option(c->argv[c->o.script - 1], "--")) name = NULL;
  return luaL_loadfile(L, name);
}

/* Scripts may have changed `arg`; their arguments are what it says now. */
static int push_arguments (lua_State *L) {
  int i, n;
  if (lua_getglobal(L, "arg") != LUA_TTABLE) luaL_error(L, "'arg' is not a table");
  n = (int)luaL_len(L, -1);
  luaL_checkstack(L, n + 3, "too many arguments to script");
  for (i = 1; i <= n; i++) lua_rawgeti(L, -i, i);
  lua_remove(L, -i); /* the table */
  return n;
}

static int run_script (lua_State *L, int status) {
  if (status == LUA_OK) {
    int n = push_arguments(L);
    status = mpi_call(L, n, LUA_MULTRET);
  }
  return mpi_report(L, status);
}

/* Interactive if somebody is there, else stdin is the script. */
static int run_stdin (lua_State *L, int terminal) {
  if (!terminal) return run_file(L, NULL);
  mpi_banner();
  mpi_repl(L);
  return LUA_OK;
}

/* ---- mp ---- */

/* What every call writes, in the parent and in a forked child, lies together, not in as many pages of the heap as there are. */
static void gather (lua_State *L) {
  mpl_child_deepen(L, L, 8);
  mpi_sigint_nest(1);
  (void)mpl_child_prepare(L);
  mpi_sigint_nest(0);
  lua_pop(L, 1);
}

static void open_libraries (lua_State *L, const struct options *o, int with_mp) {
  luaL_checkversion(L);
  gather(L);
  if (o->ignore_environment) {
    lua_pushboolean(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
  }
  lua_gc(L, LUA_GCSTOP); /* nothing of this is garbage */
  luaL_openlibs(L);
  mpi_module_open(L, with_mp);
  lua_gc(L, LUA_GCRESTART);
  lua_gc(L, LUA_GCGEN, 0, 0); /* as lua5.4 */
}

static int l_start_method (lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  if (mprun_start_method != NULL) {
    mprun_start_method(L, name);
    return 0;
  }
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_getfield(L, -1, "mp");
  lua_getfield(L, -1, "set_start_method");
  lua_pushvalue(L, 1);
  lua_call(L, 1, 0);
  return 0;
}

/* Where mp checks arguments it speaks of its own caller, who is nobody here: the message goes out without a traceback. */
static int set_start_method (lua_State *L, const char *name) {
  lua_pushcfunction(L, l_start_method);
  lua_pushstring(L, name);
  return mpi_report(L, lua_pcall(L, 1, 0, 0));
}

/* LUA_OK: go on here; the loaded script or its message stays at the top. */
static int enter_sandbox (lua_State *L, struct command *c, int *ended) {
  mprun_run run = {c->o.policy, c->o.learn, c->argc, c->argv, c->o.script};
  if (mprun_sandbox == NULL)
    return luaL_error(L, "%s: this build has no sandbox", c->o.learn ? "--sandbox-learn" : "--sandbox");
  *ended = mprun_sandbox(L, &run, &c->status) == MPRUN_ENDED;
  return LUA_OK;
}

static int wants_sandbox (const struct options *o) {
  return o->learn || o->policy != NULL;
}

/* ---- all of it ---- */

/* Upside: true on the stack if everything went well. Argument: the command. */
static int l_main (lua_State *L) {
  struct command *c = lua_touserdata(L, 1);
  const struct options *o = &c->o;
  int has_script = o->script < c->argc;
  int loaded = LUA_OK;
  lua_settop(L, 0);
  c->terminal = !has_script && !o->statements && !o->banner && isatty(STDIN_FILENO);
  if (o->banner) mpi_banner();
  open_libraries(L, o, 0);
  make_arg(L, c);
  if (o->start_method != NULL && set_start_method(L, o->start_method) != LUA_OK) return 0;
  if (!o->ignore_environment && run_init(L) != LUA_OK) return 0;
  if (wants_sandbox(o)) {
    int ended = 0;
    lua_settop(L, 0);
    if (has_script) loaded = load_script(L, c);
    else lua_pushnil(L);
    if (loaded != LUA_OK) return mpi_report(L, loaded), 0;
    if (o->interactive || c->terminal) mpi_line_confine();
    (void)enter_sandbox(L, c, &ended);
    lua_pushboolean(L, 1);
    if (ended) return 1;
    lua_settop(L, 1);
  }
  if (run_options(L, c) != LUA_OK) return 0;
  if (has_script) {
    if (!wants_sandbox(o)) loaded = load_script(L, c);
    if (run_script(L, loaded) != LUA_OK) return 0;
  }
  if (o->interactive) mpi_repl(L);
  else if (!has_script && !o->statements && !o->banner) {
    if (run_stdin(L, c->terminal) != LUA_OK) return 0;
  }
  lua_pushboolean(L, 1);
  return 1;
}

static int refuse (const struct options *o) {
  (void)fprintf(stderr, "%s: ", mpi_progname);
  (void)fprintf(stderr, o->clashes ? "'%s': one policy, or --sandbox-learn, and only once\n" : o->lacks ? "'%s' needs argument\n" :
                        "unrecognized option '%s'\n", o->bad);
  usage(stderr);
  return EXIT_FAILURE;
}

static void print_version (void) {
  (void)printf("%s %s, %s\n", NAME, mp_version(), LUA_RELEASE);
}

/* The clean process that spawned ones are copies of; see proc/spawn.h. */
static int zygote (void) {
  struct options none = {0};
  lua_State *L = luaL_newstate();
  if (L == NULL) return EXIT_FAILURE;
  mpi_sigint_watch(L);
  open_libraries(L, &none, 1); /* once, for all that will be its copies */
  mpl_zygote_main(L, mpi_sigint_begin);
}

int main (int argc, char **argv) {
  struct command c = {argc, argv, {0}, 0, EXIT_SUCCESS};
  lua_State *L;
  int status, good;
  if (argc > 0 && argv[0][0] != '\0') mpi_progname = argv[0];
  if (argc == 2 && is_option(argv[1], MPI_ZYGOTE_OPTION)) return zygote();
  read_options(&c.o, argc, argv);
  if (c.o.bad != NULL) return refuse(&c.o);
  if (c.o.help || c.o.version) {
    if (c.o.help) usage(stdout);
    else print_version();
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
  }
  L = luaL_newstate();
  if (L == NULL) {
    mpi_message("cannot create state: not enough memory");
    return EXIT_FAILURE;
  }
  mpi_sigint_watch(L);
  lua_pushcfunction(L, l_main);
  lua_pushlightuserdata(L, &c);
  status = lua_pcall(L, 1, 1, 0);
  good = lua_toboolean(L, -1);
  (void)mpi_report(L, status);
  lua_close(L);
  return status == LUA_OK && good ? c.status : EXIT_FAILURE;
}
