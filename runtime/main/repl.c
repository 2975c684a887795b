/* repl.c -- the interactive mode: reads a statement, which may take several lines, runs it and prints its results. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "main/lineedit.h"
#include "main/mprun.h"
#include "main/sigint.h"

#define CHUNK "=stdin"
#define END_OF_INPUT (-1)
#define GIVEN_UP (-2)

/* Pushes one line; MPI_LINE_..., and nothing is pushed unless it is MPI_LINE_OK. The prompt may be any value that has a text. */
static int push_line (lua_State *L, int first) {
  const char *prompt = first ? "> " : ">> ";
  char *line;
  size_t length;
  int got;
  if (lua_getglobal(L, first ? "_PROMPT" : "_PROMPT2") != LUA_TNIL) prompt = luaL_tolstring(L, -1, NULL);
  else lua_pushnil(L);
  got = mpi_line_read(prompt, &line, &length);
  lua_pop(L, 2);
  if (got != MPI_LINE_OK) return got;
  if (first && line[0] == '=') lua_pushfstring(L, "return %s", line + 1); /* as in older versions of Lua */
  else lua_pushlstring(L, line, length);
  free(line);
  return MPI_LINE_OK;
}

/* The line at the top as an expression: replaced by its function if it is one; else nothing changes. */
static int load_expression (lua_State *L) {
  const char *line = lua_tostring(L, -1);
  const char *text = lua_pushfstring(L, "return %s", line);
  int status = luaL_loadbuffer(L, text, strlen(text), CHUNK);
  if (status == LUA_OK) {
    mpi_line_remember(line);
    lua_replace(L, -3);
    lua_pop(L, 1);
  }
  else {
    lua_pop(L, 2);
  }
  return status;
}

/* The compiler ran into the end of the text: more lines may complete it. */
static int is_incomplete (lua_State *L, int status) {
  static const char mark[] = "<eof>";
  size_t length;
  const char *message;
  if (status != LUA_ERRSYNTAX) return 0;
  message = lua_tolstring(L, -1, &length);
  return message != NULL && length >= sizeof mark - 1 && strcmp(message + length - (sizeof mark - 1), mark) == 0;
}

/* The line at the top, and as many more as it takes, replaced by their function or the compiler's message. */
static int load_lines (lua_State *L) {
  for (;;) {
    size_t length;
    const char *text = lua_tolstring(L, -1, &length);
    int status = luaL_loadbuffer(L, text, length, CHUNK);
    int got = MPI_LINE_EOF;
    if (is_incomplete(L, status)) {
      got = push_line(L, 0);
      if (got == MPI_LINE_CANCELLED) {
        lua_pop(L, 2);
        return GIVEN_UP;
      }
    }
    if (got != MPI_LINE_OK) {
      mpi_line_remember(text);
      lua_remove(L, -2);
      return status;
    }
    lua_remove(L, -2); /* the message */
    lua_pushliteral(L, "\n");
    lua_insert(L, -2);
    lua_concat(L, 3);
  }
}

/* A status of Lua's with function or message pushed, or END_OF_INPUT or GIVEN_UP with nothing. */
static int load_statement (lua_State *L) {
  int got = push_line(L, 1);
  int status;
  if (got != MPI_LINE_OK) return got == MPI_LINE_EOF ? END_OF_INPUT : GIVEN_UP;
  status = load_expression(L);
  return status == LUA_OK ? status : load_lines(L);
}

/* Everything on the stack, by whatever `print` is now. */
static void print_results (lua_State *L) {
  int n = lua_gettop(L);
  int status;
  if (n == 0) return;
  luaL_checkstack(L, LUA_MINSTACK, "too many results to print");
  lua_getglobal(L, "print");
  lua_insert(L, 1);
  mpi_sigint_begin();
  status = lua_pcall(L, n, 0, 0);
  mpi_sigint_end();
  if (status != LUA_OK) {
    const char *why = lua_tostring(L, -1);
    mpi_message(lua_pushfstring(L, "error calling 'print' (%s)", why));
  }
}

void mpi_repl (lua_State *L) {
  const char *name = mpi_progname;
  int status;
  mpi_progname = NULL;
  lua_settop(L, 0);
  while ((status = load_statement(L)) != END_OF_INPUT) {
    if (status == LUA_OK) status = mpi_call(L, 0, LUA_MULTRET);
    if (status == LUA_OK) print_results(L);
    else if (status != GIVEN_UP) (void)mpi_report(L, status);
    lua_settop(L, 0);
  }
  (void)putchar('\n');
  (void)fflush(stdout);
  mpi_progname = name;
}
