#include "bind/udata.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bind/codec.h"
#include "bind/codec_state.h"
#include "mplua.h"
#include "proc/child.h"

static const char objects_key = 0; /* registry: weak values, light pointer of the mp_object -> userdata */
static const char by_type_key = 0; /* registry: type number -> metatable */

static void push_registry_table (lua_State *L, const void *key, const char *mode) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  if (mode != NULL) {
    lua_newtable(L);
    lua_pushstring(L, mode);
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
  }
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

/* ---- metatables ---- */

const char mpl_box_tag = 0;

/* __index: method, else attribute, else an error that names the field. Upvalues: methods, type. */
static int l_index (lua_State *L) {
  const mpl_type *t;
  lua_settop(L, 2);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  t = lua_touserdata(L, lua_upvalueindex(2));
  lua_settop(L, 2);
  if (t->get != NULL && t->get(L) != 0) return 1;
  lua_settop(L, 2);
  return luaL_error(L, "%s has no field '%s'", t->name, luaL_tolstring(L, 2, NULL));
}

/* The same for types without attributes: their __index is the table of methods, and this its own. Arguments: that table, key. */
static int l_unknown (lua_State *L) {
  const mpl_type *t = lua_touserdata(L, lua_upvalueindex(2));
  lua_settop(L, 2);
  return luaL_error(L, "%s has no field '%s'", t->name, luaL_tolstring(L, 2, NULL));
}

static int l_newindex (lua_State *L) {
  const mpl_type *t = lua_touserdata(L, lua_upvalueindex(2));
  if (t->set != NULL) return t->set(L);
  return luaL_error(L, "%s: field '%s' cannot be set", t->name, luaL_tolstring(L, 2, NULL));
}

static int l_tostring (lua_State *L) {
  const mpl_type *t = lua_touserdata(L, lua_upvalueindex(2));
  struct mpl_box *b = lua_touserdata(L, 1);
  char text[96] = "";
  if (t->type == 0) {
    lua_pushfstring(L, "%s %p", t->name, lua_topointer(L, 1));
  } else if (b->o == NULL) {
    lua_pushfstring(L, "%s closed %p", t->name, lua_topointer(L, 1));
  } else {
    if (t->describe != NULL) t->describe(b->o, text, sizeof text);
    lua_pushfstring(L, "%s %s%s%p", t->name, text, text[0] != '\0' ? " " : "", (void *)b->o);
  }
  return 1;
}

static int l_eq (lua_State *L) {
  const struct mpl_box *a, *b;
  if (!mpl_isobject(L, 1) || !mpl_isobject(L, 2)) {
    lua_pushboolean(L, lua_rawequal(L, 1, 2));
    return 1;
  }
  a = lua_touserdata(L, 1);
  b = lua_touserdata(L, 2);
  lua_pushboolean(L, a == b || (a->o != NULL && a->o == b->o));
  return 1;
}

static int l_letgo (lua_State *L) {
  struct mpl_box *b = lua_touserdata(L, 1);
  mp_object *o = b->o;
  b->o = NULL;
  mp_release(o);
  return 0;
}

static const luaL_Reg object_meta[] = {{"__tostring", l_tostring}, {"__eq", l_eq}, {"__gc", l_letgo}, {"__close", l_letgo}, {NULL, NULL}};
static const luaL_Reg plain_meta[] = {{"__tostring", l_tostring}, {NULL, NULL}};

static void set_with_upvalues (lua_State *L, const luaL_Reg *list, int methods, const mpl_type *t) {
  for (; list != NULL && list->name != NULL; list++) {
    lua_pushvalue(L, methods);
    lua_pushlightuserdata(L, (void *)(uintptr_t)t);
    lua_pushcclosure(L, list->func, 2);
    lua_setfield(L, -2, list->name);
  }
}

static const luaL_Reg access_meta[] = {{"__index", l_index}, {"__newindex", l_newindex}, {NULL, NULL}};
static const luaL_Reg unknown_meta[] = {{"__index", l_unknown}, {NULL, NULL}};

/* As luaL_newmetatable, with room to spare: the names in it hardly ever share a place, so that a method is found at the first look. */
static void new_metatable (lua_State *L, const char *name) {
  if (luaL_getmetatable(L, name) != LUA_TNIL) return;
  lua_pop(L, 1);
  lua_createtable(L, 0, 32);
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__name");
  lua_pushvalue(L, -1);
  lua_setfield(L, LUA_REGISTRYINDEX, name);
}

void mpl_newtype (lua_State *L, const mpl_type *t) {
  int methods, n = 0;
  while (t->methods != NULL && t->methods[n].name != NULL) n++;
  lua_createtable(L, 0, 4 * n);
  methods = lua_gettop(L);
  if (t->methods != NULL) luaL_setfuncs(L, t->methods, 0);
  new_metatable(L, t->name);
  set_with_upvalues(L, t->type != 0 ? object_meta : plain_meta, methods, t);
  set_with_upvalues(L, access_meta, methods, t);
  if (t->get == NULL) {
    lua_newtable(L);
    set_with_upvalues(L, unknown_meta, methods, t);
    lua_setmetatable(L, methods);
    lua_pushvalue(L, methods);
    lua_setfield(L, -2, "__index");
  }
  set_with_upvalues(L, t->meta, methods, t);
  lua_pushvalue(L, methods);
  lua_setfield(L, -2, "methods"); /* the metatable is hidden by __metatable below */
  lua_pushstring(L, t->name);
  lua_setfield(L, -2, "__metatable");
  if (t->type != 0) {
    lua_pushlightuserdata(L, (void *)(uintptr_t)t);
    lua_setfield(L, -2, "type");
    push_registry_table(L, &by_type_key, NULL);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, t->type);
    lua_pop(L, 1);
  }
  lua_pop(L, 2);
}

/* ---- handles ---- */

struct pushing {
  mp_object *o;
};

static int protected_push (lua_State *L) {
  struct pushing *p = lua_touserdata(L, 1);
  struct mpl_box *b;
  push_registry_table(L, &objects_key, "v");
  if (lua_rawgetp(L, -1, p->o) == LUA_TUSERDATA) {
    b = lua_touserdata(L, -1);
    if (b->o == p->o) { /* known here: the new reference is one too many */
      mp_release(p->o);
      p->o = NULL;
      return 1;
    }
  }
  lua_pop(L, 1);
  b = lua_newuserdatauv(L, sizeof *b, 2);
  *b = (struct mpl_box){&mpl_box_tag, NULL, NULL};
  push_registry_table(L, &by_type_key, NULL);
  if (lua_rawgeti(L, -1, p->o->type->type) != LUA_TTABLE) return luaL_error(L, "no Lua side for mp.%s", p->o->type->name);
  lua_getfield(L, -1, "type");
  b->type = lua_touserdata(L, -1);
  lua_pop(L, 1);
  lua_setmetatable(L, -3);
  lua_pop(L, 1);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, -3, p->o);
  b->o = p->o;
  p->o = NULL;
  return 1;
}

void mpl_push (lua_State *L, mp_object *o) {
  struct pushing p = {o};
  int rc;
  lua_pushcfunction(L, protected_push);
  lua_pushlightuserdata(L, &p);
  rc = lua_pcall(L, 1, 1, 0);
  if (rc != LUA_OK) {
    mp_release(p.o);
    (void)lua_error(L);
  }
}

void mplua_push (lua_State *L, mp_object *o) {
  luaL_checkstack(L, 8, NULL);
  mp_retain(o);
  mpl_push(L, o);
}

mp_object *mpl_check_failed (lua_State *L, int arg, const mpl_type *t) {
  struct mpl_box *b = mpl_box_at(L, arg);
  if (b == NULL || b->type != t) b = luaL_checkudata(L, arg, t->name); /* raises */
  if (b->o == NULL) (void)mpl_closed(L, t->name);
  return b->o;
}

mp_object *mplua_check (lua_State *L, int idx) {
  mp_object *o = mpl_test(L, idx);
  luaL_argcheck(L, o != NULL, idx, "an open mp object expected");
  return o;
}

/* ---- errors ---- */

int mpl_error (lua_State *L, const char *fmt, ...) {
  va_list ap;
  luaL_checkstack(L, 8, NULL);
  mpl_push_where(L);
  va_start(ap, fmt);
  lua_pushvfstring(L, fmt, ap);
  va_end(ap);
  lua_concat(L, 2);
  return lua_error(L);
}

/* Has the table at `t` that function as the value of a string? Then "prefix.key" is pushed, above whatever. */
static int push_name_in (lua_State *L, int t, int function, const char *prefix) {
  int top = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, t); lua_settop(L, top + 1)) {
    if (lua_type(L, top + 1) != LUA_TSTRING || !lua_rawequal(L, -1, function)) continue;
    lua_pushfstring(L, "%s.%s", prefix, lua_tostring(L, top + 1));
    return 1;
  }
  return 0;
}

static int find_name (lua_State *L, int function) {
  int types = function + 1;
  push_registry_table(L, &by_type_key, NULL);
  for (lua_pushnil(L); lua_next(L, types); lua_settop(L, types + 1)) {
    int mt = lua_gettop(L);
    lua_getfield(L, mt, "__name");
    if (lua_getfield(L, mt, "methods") == LUA_TTABLE && push_name_in(L, mt + 2, function, lua_tostring(L, mt + 1))) return 1;
  }
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  return lua_getfield(L, -1, "mp") == LUA_TTABLE && push_name_in(L, lua_gettop(L), function, "mp");
}

int mpl_called (lua_State *L, lua_Debug *ar) {
  ar->name = NULL;
  ar->namewhat = "";
  return lua_getstack(L, 0, ar) && lua_getinfo(L, "n", ar) && ar->name != NULL && strcmp(ar->name, "?") != 0; /* '?' for o[name](o) */
}

int mpl_push_name (lua_State *L, lua_Debug *ar) {
  int top = lua_gettop(L), found;
  luaL_checkstack(L, 16, NULL);
  if (!lua_getstack(L, 0, ar)) return 0;
  (void)lua_getinfo(L, "f", ar);
  found = find_name(L, top + 1);
  if (found) lua_replace(L, top + 1);
  lua_settop(L, top + found);
  return found;
}

int mpl_argerror (lua_State *L, int arg, const char *text) {
  lua_Debug ar;
  if (!mpl_called(L, &ar)) {
    ar.name = mpl_push_name(L, &ar) ? lua_tostring(L, -1) : "?";
  } else if (strcmp(ar.namewhat, "method") == 0) {
    if (arg == 1) return luaL_error(L, "calling '%s' on bad self (%s)", ar.name, text);
    arg--; /* self is not counted */
  }
  return luaL_error(L, "bad argument #%d to '%s' (%s)", arg, ar.name, text);
}

int mpl_typeerror (lua_State *L, int arg, const char *expected) {
  const char *got;
  luaL_checkstack(L, 4, NULL);
  if (luaL_getmetafield(L, arg, "__name") == LUA_TSTRING) got = lua_tostring(L, -1);
  else got = lua_type(L, arg) == LUA_TLIGHTUSERDATA ? "light userdata" : luaL_typename(L, arg);
  return mpl_argerror(L, arg, lua_pushfstring(L, "%s expected, got %s", expected, got));
}

int mpl_closed (lua_State *L, const char *type_name) {
  lua_Debug ar;
  if (!mpl_called(L, &ar)) {
    if (mpl_push_name(L, &ar)) type_name = lua_tostring(L, -1);
  } else if (strcmp(ar.namewhat, "metamethod") != 0) {
    return luaL_error(L, "%s: the handle of the %s is closed", ar.name, type_name);
  }
  return luaL_error(L, "%s: the handle is closed", type_name);
}

void mpl_checkany (lua_State *L, int arg) {
  if (lua_type(L, arg) == LUA_TNONE) (void)mpl_argerror(L, arg, "value expected");
}

void mpl_checktype (lua_State *L, int arg, int type) {
  if (lua_type(L, arg) != type) (void)mpl_typeerror(L, arg, lua_typename(L, type));
}

void *mpl_checkudata (lua_State *L, int arg, const char *name) {
  void *p = luaL_testudata(L, arg, name);
  if (p == NULL) (void)mpl_typeerror(L, arg, name);
  return p;
}

const char *mpl_checklstring (lua_State *L, int arg, size_t *len) {
  const char *s = lua_tolstring(L, arg, len);
  if (s == NULL) (void)mpl_typeerror(L, arg, "string");
  return s;
}

lua_Number mpl_checknumber (lua_State *L, int arg) {
  int ok;
  lua_Number n = lua_tonumberx(L, arg, &ok);
  if (!ok) (void)mpl_typeerror(L, arg, "number");
  return n;
}

lua_Integer mpl_checkinteger (lua_State *L, int arg) {
  int ok;
  lua_Integer i = lua_tointegerx(L, arg, &ok);
  if (!ok && lua_isnumber(L, arg)) (void)mpl_argerror(L, arg, "number has no integer representation");
  if (!ok) (void)mpl_typeerror(L, arg, "number");
  return i;
}

/* ---- options ---- */

void mpl_no_more (lua_State *L, int most, const char *constructor) {
  int i;
  for (i = most + 1; i <= lua_gettop(L); i++)
    if (!lua_isnil(L, i))
      luaL_error(L, "%s: at most %d argument%s expected, got a %s as #%d (options go into one table)", constructor, most, most == 1 ? "" : "s",
                 luaL_typename(L, i), i);
}

void mpl_options_begin (lua_State *L, int arg) {
  lua_newtable(L);
  lua_pushnil(L);
  while (lua_next(L, arg) != 0) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, -4);
  }
  lua_replace(L, arg);
}

int mpl_option (lua_State *L, int arg, const char *name) {
  lua_pushstring(L, name);
  if (lua_rawget(L, arg) == LUA_TNIL) {
    lua_pop(L, 1);
    return 0;
  }
  lua_pushstring(L, name);
  lua_pushnil(L);
  lua_rawset(L, arg);
  return 1;
}

void mpl_no_options (lua_State *L, const char *constructor) {
  mpl_no_more(L, 1, constructor);
  if (lua_isnoneornil(L, 1)) return;
  if (lua_type(L, 1) != LUA_TTABLE) luaL_error(L, "%s: no argument expected, got %s", constructor, luaL_typename(L, 1));
  mpl_options_begin(L, 1);
  mpl_options_done(L, 1, constructor);
}

void mpl_options_done (lua_State *L, int arg, const char *constructor) {
  lua_pushnil(L);
  if (lua_next(L, arg) == 0) return;
  luaL_error(L, "%s: unknown option '%s'", constructor, luaL_tolstring(L, -2, NULL));
}

/* ---- time and interruption ---- */

int64_t mpl_deadline_given (lua_State *L, int arg) {
  lua_Number s;
  if (lua_type(L, arg) != LUA_TNUMBER) return luaL_typeerror(L, arg, "timeout in seconds");
  s = lua_tonumber(L, arg);
  luaL_argcheck(L, !isnan(s), arg, "a timeout must not be nan");
  return mp_deadline(s);
}

/* lua5.4 and mprun handle SIGINT by a hook on the main state that raises. It is set asynchronously: a hook that was not there when the
** blocked call began is the sign. */
static _Thread_local struct {
  lua_State *main;
  lua_Hook hook;
  int mask;
  lua_Hook deaf; /* not NULL: this hook cannot run before the next wait is over */
} entered;

static int hook_is_new (void *ud) {
  (void)ud;
  return entered.main != NULL && lua_gethook(entered.main) != NULL &&
         (lua_gethook(entered.main) != entered.hook || lua_gethookmask(entered.main) != entered.mask);
}

void mpl_enter (lua_State *L) {
  luaL_checkstack(L, 1, NULL);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  entered.main = lua_tothread(L, -1);
  lua_pop(L, 1);
  if (entered.deaf != NULL) {
    int still = lua_gethook(entered.main) == entered.deaf;
    entered.deaf = NULL;
    if (still) return;
  }
  entered.hook = lua_gethook(entered.main);
  entered.mask = lua_gethookmask(entered.main);
  if (entered.hook != NULL && (entered.mask & LUA_MASKCALL) && (entered.mask & LUA_MASKRET)) entered.hook = NULL;
  mp_set_interrupt(hook_is_new, NULL);
}

void mpl_leave (void) {
  mp_set_interrupt(NULL, NULL);
}

static int l_nothing (lua_State *L) {
  (void)L;
  return 0;
}

void mpl_interrupted (lua_State *L) {
  lua_pushliteral(L, "interrupted!");
  (void)lua_error(L);
  __builtin_unreachable();
}

/* In a finalizer or a hook no hooks run. */
static int hooks_are_off (lua_State *L) {
  lua_Debug ar;
  int level;
  for (level = 0; level < 1000 && lua_getstack(L, level, &ar); level++) {
    if (!lua_getinfo(L, "n", &ar)) break;
    if (strcmp(ar.namewhat, "hook") == 0) return 1;
    if (ar.name != NULL && strcmp(ar.name, "__gc") == 0 && strcmp(ar.namewhat, "metamethod") == 0) return 1;
  }
  return 0;
}

void mpl_interrupt (lua_State *L) {
  lua_State *m;
  mpi_note_interrupt();
  luaL_checkstack(L, 4, NULL);
  mpl_parcels_hold(L, __builtin_frame_address(0)); /* what waits to be sent is not for a hook that sends */
  lua_pushcfunction(L, l_nothing);                 /* a call: hooks of this state run here, and may raise */
  lua_call(L, 0, 0);
  mpl_parcels_release(L);
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  m = lua_tothread(L, -1);
  lua_pop(L, 1);
  if (lua_gethook(m) != NULL && hook_is_new(NULL) && hooks_are_off(L)) { /* it will run behind the finalizer, which waits to its end */
    entered.deaf = lua_gethook(m);
    return;
  }
  /* In a coroutine, under an interpreter whose handler knows only the main state: raise for it, and take its hook away, as it
  ** would have done itself. */
  if (m != L && lua_gethook(m) != NULL && hook_is_new(NULL)) {
    lua_sethook(m, NULL, 0, 0);
    mpl_interrupted(L);
  }
}

/* ---- results ---- */

int mpl_expected (int rc) {
  return rc <= MP_ETIMEDOUT && rc >= MP_ECANCELLED;
}

int mpl_fail (lua_State *L, int rc) {
  luaL_pushfail(L);
  lua_pushstring(L, mp_errname(rc));
  return 2;
}

int mpl_raise (lua_State *L, const char *function, int rc) {
  const char *sentence = mp_errmsg();
  if (rc == MP_ENOMEM && strstr(sentence, "address space") == NULL) sentence = "not enough memory"; /* not all who say so have a sentence */
  return luaL_error(L, "%s: %s", function, sentence);
}

int mpl_result_of (lua_State *L, const char *function, int rc) {
  if (rc >= 0) {
    lua_pushboolean(L, 1);
    if (rc != MP_ABANDONED) return 1;
    lua_pushliteral(L, "abandoned");
    return 2;
  }
  return mpl_expected(rc) ? mpl_fail(L, rc) : mpl_raise(L, function, rc);
}

int mpl_misuse (lua_State *L, const char *function, const char *fmt, ...) {
  char text[256];
  va_list ap;
  va_start(ap, fmt);
  (void)vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  return luaL_error(L, "%s: %s", function, text);
}

void mpl_checkcallable (lua_State *L, int arg) {
  if (lua_type(L, arg) == LUA_TFUNCTION) return;
  if (luaL_getmetafield(L, arg, "__call") == LUA_TNIL) (void)luaL_typeerror(L, arg, "function");
  lua_pop(L, 1);
}

lua_Integer mpl_checkint (lua_State *L, int arg, lua_Integer least, lua_Integer most) {
  lua_Integer i;
  int ok;
  if (lua_type(L, arg) != LUA_TNUMBER) (void)luaL_typeerror(L, arg, "integer");
  i = lua_tointegerx(L, arg, &ok);
  luaL_argcheck(L, ok, arg, "number has no integer representation");
  if (i < least || i > most) {
    char text[80];
    if (most == LUA_MAXINTEGER) (void)snprintf(text, sizeof text, "at least %lld expected", (long long)least);
    else (void)snprintf(text, sizeof text, "%lld to %lld expected", (long long)least, (long long)most);
    luaL_argerror(L, arg, text);
  }
  return i;
}
