/* hooks.h -- where the interpreter hands over to other rooms, and what it offers them.
** Facts     `mprun --start-method=`, `--sandbox=` and `--sandbox-learn` are parsed in main/ and done elsewhere. The functions under
**           "asked" are weak: whoever can do it defines them (in runtime/main/, or in bind/ without including this header), and a
**           build without one refuses the option with a sentence and status 1. They are called with the standard libraries open and `mp`
**           there (touching a field opens it), at most once, in the main thread, inside a protected call: to refuse, raise a Lua error.
** Threads   "offered" may be called from the main thread and its signal handlers.
** Fork      a forked child is as able to be interrupted as its parent; nothing needs to be called.
*/
#ifndef MPRUN_HOOKS_H
#define MPRUN_HOOKS_H

#include <lua.h>

typedef struct mprun_run {
  const char *policy; /* what stands after --sandbox=; NULL if only --sandbox-learn was given */
  int learn;          /* --sandbox-learn */
  int argc;           /* the whole command line */
  char **argv;
  int script;         /* index of the script's name in argv; argc: there is none */
} mprun_run;

enum {
  MPRUN_GO_ON, /* this process is confined now (or learns): the interpreter goes on in it */
  MPRUN_ENDED  /* the whole script has run elsewhere: mprun ends with *status */
};

/* ---- asked ---- */

/* --sandbox, --sandbox-learn. LUA_INIT has run, outside. The script's file has been read and compiled: its function is at index 1, nil
** without a script. What runs next, inside: -l and -e in their order, the script, the interactive mode. A report of what
** was learnt belongs into an exit function of whoever implements this. */
int mprun_sandbox (lua_State *L, const mprun_run *run, int *status) __attribute__((weak));

/* --start-method=NAME. Without an implementation mp.set_start_method(NAME) is called, if mp has it. */
void mprun_start_method (lua_State *L, const char *name) __attribute__((weak));

/* ---- offered ---- */

/* True from the arrival of a SIGINT until "interrupted!" is raised for it. While it is true the hook of *every* Lua thread of the
** interpreter's state is the one that raises: lua_gethook of the main state, or of a coroutine, is another way to see it. */
int mprun_interrupt_pending (void);

#endif
