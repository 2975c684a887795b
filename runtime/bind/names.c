/* names.c -- what travels by name: functions and tables of loaded modules.
**
** A scan of package.loaded gives each module's table, its functions, its tables that hold functions (classes, submodules) and their functions
** a name: module, field, field. The names are used as long as package.loaded holds the same modules, and each is followed again
** before it is written, so that a field that was replaced since is not confused with the old one. Functions that the script itself wrote,
** into whatever table, have no name: they travel by value.
*/
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "bind/codec_state.h"
#include "bind/later.h"
#include "shm/object.h"
#include "wire/wire.h"

static const char *const standard[] = {"_G", "string", "table", "math", "io", "os", "coroutine", "utf8", "debug", "package", NULL};

static int is_standard (const char *name) {
  int i;
  for (i = 0; standard[i] != NULL; i++)
    if (strcmp(standard[i], name) == 0) return 1;
  return 0;
}

struct scan {
  lua_State *L;
  struct mpl_codec *c;
  int names;  /* stack index of the new table */
  int script; /* of the script's source, "@name", or nil */
};

static void push_payload (lua_State *L, const char *const *part, int n) {
  luaL_Buffer b;
  int i;
  luaL_buffinit(L, &b);
  for (i = 0; i < n; i++) {
    unsigned char head[MPI_W_HEAD_ROOM];
    size_t len = strlen(part[i]);
    luaL_addlstring(&b, (char *)head, (size_t)(mpi_put_str_head(head, (uint32_t)len) - head));
    luaL_addlstring(&b, part[i], len);
  }
  luaL_pushresult(&b);
}

/* The object at idx gets this name, unless it has one. */
static void name_it (struct scan *s, int idx, const char *const *part, int n) {
  lua_State *L = s->L;
  uint32_t h = mpl_address_hash(lua_topointer(L, idx)) >> 19;
  lua_pushvalue(L, idx);
  if (lua_rawget(L, s->names) == LUA_TNIL) {
    lua_pushvalue(L, idx);
    push_payload(L, part, n);
    lua_rawset(L, s->names);
    s->c->filter[h >> 3] |= (unsigned char)(1u << (h & 7));
  }
  lua_pop(L, 1);
}

/* Is the function at idx the module's, rather than the script's? */
static int is_foreign (struct scan *s, int idx, const char *module) {
  lua_State *L = s->L;
  lua_Debug ar;
  if (lua_iscfunction(L, idx)) return 1;
  if (is_standard(module)) return 0;
  lua_pushvalue(L, idx);
  (void)lua_getinfo(L, ">S", &ar);
  return ar.source[0] == '@' && !(lua_type(L, s->script) == LUA_TSTRING && strcmp(ar.source, lua_tostring(L, s->script)) == 0);
}

static int holds_functions (lua_State *L, int idx) {
  for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1))
    if (lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TFUNCTION) {
      lua_pop(L, 2);
      return 1;
    }
  return 0;
}

/* The table at the top, reached by part[0..n-1]. */
static void scan_table (struct scan *s, const char **part, int n) {
  lua_State *L = s->L;
  int t = lua_gettop(L);
  int globals = strcmp(part[0], "_G") == 0;
  luaL_checkstack(L, 20, NULL);
  name_it(s, t, part, n);
  for (lua_pushnil(L); lua_next(L, t); lua_settop(L, t + 1)) {
    int v = t + 2;
    if (lua_type(L, t + 1) != LUA_TSTRING) continue;
    part[n] = lua_tostring(L, t + 1);
    if (lua_type(L, v) == LUA_TFUNCTION) {
      if (is_foreign(s, v, part[0])) name_it(s, v, part, n + 1);
    } else if (lua_type(L, v) == LUA_TTABLE && n == 1 && !globals) {
      if (strcmp(part[0], "package") == 0) name_it(s, v, part, n + 1);
      else if (holds_functions(L, v)) scan_table(s, part, n + 1);
    }
  }
}

static void scan_module (struct scan *s, const char *module) {
  const char *part[4];
  part[0] = module;
  if (lua_type(s->L, -1) == LUA_TTABLE) scan_table(s, part, 1);
  else if (lua_type(s->L, -1) == LUA_TFUNCTION && is_foreign(s, lua_gettop(s->L), module)) name_it(s, lua_gettop(s->L), part, 1);
}

static uint64_t signature (lua_State *L) {
  uint64_t sum = 1;
  for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
    uint64_t x = (uint64_t)(uintptr_t)lua_topointer(L, -1) * 0x9e3779b97f4a7c15u + (uint64_t)(uintptr_t)lua_topointer(L, -2);
    sum += (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
  }
  return sum;
}

static void push_script (lua_State *L) {
  lua_pushglobaltable(L);
  lua_pushliteral(L, "arg");
  if (lua_rawget(L, -2) == LUA_TTABLE && lua_rawgeti(L, -1, 0) == LUA_TSTRING) {
    lua_pushfstring(L, "@%s", lua_tostring(L, -1));
    lua_replace(L, -4);
    lua_pop(L, 2);
  } else {
    lua_pushnil(L);
    lua_replace(L, -3);
    lua_settop(L, -2);
  }
}

int mpl_names_scan (lua_State *L, struct mpl_codec *c) {
  struct scan s = {L, c, 0, 0};
  int top = lua_gettop(L), loaded, i;
  uint64_t now;
  luaL_checkstack(L, 20, NULL);
  (void)luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  loaded = lua_gettop(L);
  now = signature(L);
  if (c->scanned && now == c->signature) {
    lua_settop(L, top);
    return 0;
  }
  memset(c->filter, 0, sizeof c->filter);
  lua_newtable(L);
  s.names = lua_gettop(L);
  {
    int before = lua_gettop(L);
    push_script(L);
    lua_replace(L, before + 1);
    lua_settop(L, before + 1);
    s.script = before + 1;
  }
  for (i = 0; standard[i] != NULL; i++) {
    lua_pushstring(L, standard[i]);
    (void)lua_rawget(L, loaded);
    scan_module(&s, standard[i]);
    lua_settop(L, s.script);
  }
  for (i = MPL_C_MP; i <= MPL_C_CORE; i++) {
    mpl_codec_table(L, i);
    scan_module(&s, i == MPL_C_MP ? "mp" : "mp.core");
    lua_settop(L, s.script);
  }
  for (i = 1; i < MPI_T_COUNT; i++) { /* methods: "mp:mp.Queue", "put" */
    const struct mpi_type *t = mpi_type_of(i);
    char name[64];
    if (t == NULL) continue;
    (void)snprintf(name, sizeof name, "mp:mp.%s", t->name);
    if (luaL_getmetatable(L, name + 3) == LUA_TTABLE) {
      lua_pushliteral(L, "methods");
      (void)lua_rawget(L, -2);
      scan_module(&s, name);
    }
    lua_settop(L, s.script);
  }
  for (lua_pushnil(L); lua_next(L, loaded); lua_settop(L, s.script + 1))
    if (lua_type(L, -2) == LUA_TSTRING) scan_module(&s, lua_tostring(L, s.script + 1));
  mpl_codec_set(L, MPL_C_NAMES, s.names);
  c->scanned = 1;
  c->signature = now;
  lua_settop(L, top);
  return 1;
}

void mpl_names_changed (lua_State *L) {
  mpl_codec_of(L)->scanned = 0;
}

/* Pushes the module's table. 0: pushes the reason why not. */
static int find_module (lua_State *L, const char *module, int load) {
  if (strncmp(module, "mp:", 3) == 0) {
    if (luaL_getmetatable(L, module + 3) != LUA_TTABLE) return 0;
    lua_pushliteral(L, "methods");
    (void)lua_rawget(L, -2);
    return 1;
  }
  if (strcmp(module, "mp") == 0 || strcmp(module, "mp.core") == 0) {
    mpl_codec_table(L, module[2] == '\0' ? MPL_C_MP : MPL_C_CORE);
    return 1;
  }
  (void)luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  lua_pushstring(L, module);
  if (lua_rawget(L, -2) != LUA_TNIL) return 1;
  if (!load) return 0;
  lua_pop(L, 1);
  if (lua_getglobal(L, "require") != LUA_TFUNCTION) {
    lua_pushfstring(L, "the module '%s' is not loaded here, and there is no require", module);
    return 0;
  }
  lua_pushstring(L, module);
  if (lua_pcall(L, 1, 1, 0) == LUA_OK) return 1;
  lua_pushfstring(L, "the module '%s' cannot be loaded here: %s", module, luaL_tolstring(L, -1, NULL));
  return 0;
}

/* The field of the table at t whose name is at the top, in its place. What is named by others may not have been read here yet. */
static int field (lua_State *L, int t, int load) {
  lua_pushvalue(L, -1);
  if (lua_type(L, t) != LUA_TTABLE) return 0;
  if (lua_rawget(L, t) == LUA_TNIL && load) {
    mpl_codec_table(L, MPL_C_MP);
    mpl_codec_table(L, MPL_C_CORE);
    if ((lua_rawequal(L, t, -1) || lua_rawequal(L, t, -2)) && mpl_later(L, lua_tostring(L, -4))) {
      lua_pushvalue(L, -4);
      (void)lua_rawget(L, t);
      lua_replace(L, -4);
    }
    lua_pop(L, 2);
  }
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    return 0;
  }
  lua_remove(L, -2);
  return 1;
}

int mpl_names_find (lua_State *L, const unsigned char *data, size_t size, int load) {
  const unsigned char *at = data, *end = data + size;
  int top = lua_gettop(L), n = 0, ok = 1;
  struct mpi_item it;
  luaL_checkstack(L, 16, NULL);
  while (ok && at < end && n < 3) {
    at = mpi_wire_get(at, end, &it);
    if (at == NULL || it.kind != MPI_W_STR) break;
    lua_pushlstring(L, (const char *)it.data, it.len);
    if (n++ == 0) {
      ok = find_module(L, lua_tostring(L, -1), load);
    } else if (!field(L, top + 1, load)) {
      lua_pushfstring(L, "the module has no '%s' here", lua_tostring(L, -1));
      ok = 0;
    }
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
  }
  if (ok && (n == 0 || at != end)) {
    lua_settop(L, top);
    lua_pushliteral(L, "a name in it is malformed");
    ok = 0;
  }
  return ok;
}

int mpl_names_push (lua_State *L, struct mpl_codec *c, int idx) {
  int top = lua_gettop(L);
  size_t len;
  const unsigned char *s;
  (void)c;
  mpl_codec_table(L, MPL_C_NAMES);
  lua_pushvalue(L, idx);
  if (lua_rawget(L, -2) == LUA_TSTRING) {
    s = (const unsigned char *)lua_tolstring(L, -1, &len);
    if (mpl_names_find(L, s, len, 0) && lua_rawequal(L, -1, idx)) {
      lua_pop(L, 1);
      lua_replace(L, top + 1);
      lua_settop(L, top + 1);
      return 1;
    }
  }
  lua_settop(L, top);
  return 0;
}
