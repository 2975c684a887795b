/* call.c -- how the interpreter calls Lua and says what went wrong. */
#include <lauxlib.h>
#include <stdio.h>

#include "main/mprun.h"
#include "main/sigint.h"

const char *mpi_progname = "mprun";

void mpi_message (const char *text) {
  (void)fflush(stdout);
  if (mpi_progname != NULL) (void)fprintf(stderr, "%s: ", mpi_progname);
  (void)fprintf(stderr, "%s\n", text);
  (void)fflush(stderr);
}

int mpi_report (lua_State *L, int status) {
  if (status != LUA_OK) {
    const char *text = lua_tostring(L, -1);
    mpi_message(text != NULL ? text : "(error message is not a string)");
    lua_pop(L, 1);
  }
  return status;
}

/* The message of an uncaught error: a text with traceback, or what an error object says of itself. */
static int l_on_error (lua_State *L) {
  if (lua_type(L, 1) != LUA_TSTRING && lua_type(L, 1) != LUA_TNUMBER) {
    if (luaL_callmeta(L, 1, "__tostring") && lua_type(L, -1) == LUA_TSTRING) return 1;
    lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, 1));
    lua_replace(L, 1);
  }
  luaL_traceback(L, L, lua_tostring(L, 1), 1);
  return 1;
}

int mpi_call (lua_State *L, int nargs, int nresults) {
  int status;
  int handler = lua_gettop(L) - nargs;
  lua_pushcfunction(L, l_on_error);
  lua_insert(L, handler);
  mpi_sigint_begin();
  status = lua_pcall(L, nargs, nresults, handler);
  mpi_sigint_end();
  lua_remove(L, handler);
  return status;
}
