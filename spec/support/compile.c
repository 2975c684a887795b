/* compile.c -- compile FOLDER FILE.lua...: writes FOLDER/<name>.luac, the bytecode of each file with its line numbers, and FOLDER/ident, which says
** by which release of Lua. It is linked with the Lua library that mprun is linked with, so that mprun need not parse its own part each
** time it starts; see runtime/bind/embed.h. */
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int append (lua_State *L, const void *p, size_t n, void *f) {
  (void)L;
  return fwrite(p, 1, n, f) != n;
}

static FILE *create (const char *folder, const char *name, const char *suffix) {
  char path[4096];
  FILE *f;
  (void)snprintf(path, sizeof path, "%s/%s%s", folder, name, suffix);
  f = fopen(path, "wb");
  if (f == NULL) perror(path);
  return f;
}

static int compile (lua_State *L, const char *folder, const char *file) {
  const char *slash = strrchr(file, '/');
  char name[256], *dot, *text;
  size_t room = 1 << 20, n;
  FILE *f = fopen(file, "rb");
  int failed;
  if (f == NULL) return perror(file), 1;
  (void)snprintf(name, sizeof name, "%s", slash != NULL ? slash + 1 : file);
  dot = strrchr(name, '.');
  if (dot != NULL) *dot = '\0';
  text = malloc(room);
  if (text == NULL) return perror(file), 1;
  n = fread(text, 1, room, f);
  (void)fclose(f);
  lua_pushfstring(L, "@mp/%s.lua", name);
  failed = n == room || luaL_loadbufferx(L, text, n, lua_tostring(L, -1), "t") != LUA_OK;
  if (failed) (void)fprintf(stderr, "%s: %s\n", file, n == room ? "too large" : lua_tostring(L, -1));
  free(text);
  if (failed || (f = create(folder, name, ".luac")) == NULL) return 1;
  failed = lua_dump(L, append, f, 0);
  lua_settop(L, 0);
  return fclose(f) != 0 || failed;
}

int main (int argc, char **argv) {
  lua_State *L = luaL_newstate();
  FILE *f;
  int i;
  if (argc < 2 || L == NULL || (f = create(argv[1], "ident", "")) == NULL) return EXIT_FAILURE;
  (void)fputs(lua_ident, f);
  if (fclose(f) != 0) return EXIT_FAILURE;
  for (i = 2; i < argc; i++)
    if (compile(L, argv[1], argv[i]) != 0) return EXIT_FAILURE;
  lua_close(L);
  return EXIT_SUCCESS;
}
