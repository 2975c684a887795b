/* tidy.h -- included by make lint before each file of bind/ and main/: tells the analyzer which functions never return, which Lua's
** headers cannot say because scripts of C write `return luaL_error(...)`. */
#include <lauxlib.h>
#include <lua.h>

int lua_error (lua_State *L) __attribute__((noreturn));
int luaL_error (lua_State *L, const char *fmt, ...) __attribute__((noreturn));
int luaL_argerror (lua_State *L, int arg, const char *extramsg) __attribute__((noreturn));
int luaL_typeerror (lua_State *L, int arg, const char *tname) __attribute__((noreturn));
int mpl_error (lua_State *L, const char *fmt, ...) __attribute__((noreturn));
int mpl_argerror (lua_State *L, int arg, const char *text) __attribute__((noreturn));
int mpl_typeerror (lua_State *L, int arg, const char *expected) __attribute__((noreturn));
int mpl_closed (lua_State *L, const char *type_name) __attribute__((noreturn));
int mpl_raise (lua_State *L, const char *function, int rc) __attribute__((noreturn));
int mpl_misuse (lua_State *L, const char *function, const char *fmt, ...) __attribute__((noreturn));
