/* udata.h -- how the Lua side of a type is made, and what every binding shares.
** Userdata  of a shared object is struct mpl_box: born closed (o == NULL), metatable set, then filled. __gc = __close = let go of this
**           handle. One Lua state keeps one userdata per object while it is open (a weak table), so an object received twice
**           is one userdata. Slot 1 of the user values is its *companion*: a Lua value that travels with the object (a condition's
**           lock, a barrier's action); nil for most. Slot 2 is free for the binding and does not travel.
** Blocking  int64_t dl = mpl_deadline(L, arg);
**           MPL_WAIT(L, rc, mp_event_wait(e, dl));     -- repeats on interruptions that raise nothing
**           return mpl_result(L, "wait", rc);
** Errors    misuse is a Lua error at the caller's line that names function and argument.
*/
#ifndef MPL_UDATA_H
#define MPL_UDATA_H

#include <lauxlib.h>
#include <lua.h>

#include "shm/object.h"

struct mpl_type;
struct mpl_box {
  const void *tag;             /* &mpl_box_tag: what tells our userdata from others without a look at metatables */
  const struct mpl_type *type;
  mp_object *o;                /* NULL: closed */
};
extern const char mpl_box_tag;

typedef struct mpl_type {
  int type;         /* MPI_T_..., for objects with a segment; 0 for other userdata */
  const char *name; /* "mp.Queue": __name, and what mpl_checkudata wants */
  const luaL_Reg *methods;
  const luaL_Reg *meta; /* additional or replacing metamethods; may be NULL */
  /* An attribute that is no method: pushes one value and returns 1, or returns 0 (unknown: an error that names it). Stack: 1 the userdata,
  ** 2 the key (any type). May be NULL. Called for closed handles too. */
  int (*get) (lua_State *L);
  /* obj[key] = value at 1, 2, 3. NULL: assignment is an error. */
  int (*set) (lua_State *L);
  /* What stands between name and address in tostring, e.g. "3/8"; o is open. May be NULL. */
  void (*describe) (mp_object *o, char *text, size_t size);
} mpl_type;

/* Makes the metatable (registry, by name). Methods live in a table that Lua files reach as core.methods[name]. */
void mpl_newtype (lua_State *L, const mpl_type *t);

/* Pushes the userdata of a handle and *consumes* a reference also when it raises. */
void mpl_push (lua_State *L, mp_object *o);

/* The box, or NULL. A light userdata has no length, and what is not a userdata no address: no question for the type is needed. */
static inline struct mpl_box *mpl_box_at (lua_State *L, int idx) {
  struct mpl_box *b = lua_touserdata(L, idx);
  return b != NULL && lua_rawlen(L, idx) == sizeof *b && b->tag == &mpl_box_tag ? b : NULL;
}

mp_object *mpl_check_failed (lua_State *L, int arg, const mpl_type *t);

/* Open, or argument error; a closed one is misuse. */
static inline mp_object *mpl_check (lua_State *L, int arg, const mpl_type *t) {
  struct mpl_box *b = mpl_box_at(L, arg);
  if (__builtin_expect(b != NULL && b->type == t && b->o != NULL, 1)) return b->o;
  return mpl_check_failed(L, arg, t);
}
/* Any open shared object, or NULL. */
static inline mp_object *mpl_test (lua_State *L, int idx) {
  struct mpl_box *b = mpl_box_at(L, idx);
  return b != NULL ? b->o : NULL;
}
/* Userdata of a shared object, open or closed? */
static inline int mpl_isobject (lua_State *L, int idx) {
  return mpl_box_at(L, idx) != NULL;
}

/* Once Lua code may have run in the middle of a call (a class's dump, a list's __index, a finalizer): the handle at arg, which was that
** object's, is closed meanwhile, and the object perhaps gone: misuse. */
static inline void mpl_still (lua_State *L, int arg, const mp_object *o) {
  const struct mpl_box *b = lua_touserdata(L, arg);
  if (__builtin_expect(b->o != o, 0)) (void)mpl_check_failed(L, arg, b->type);
}

/* Constructors: option `name` of the table at `arg`, pushed; 0 and nothing pushed when absent. Each takes it off a private copy, so that
** mpl_options_done can refuse what is left: "mp.Queue: unknown option 'foo'". Begin replaces the table at arg by its copy. */
void mpl_options_begin (lua_State *L, int arg);
int mpl_option (lua_State *L, int arg, const char *name);
void mpl_options_done (lua_State *L, int arg, const char *constructor);
/* The same for a constructor that takes nothing: a table without entries is fine, anything else is misuse. */
void mpl_no_options (lua_State *L, const char *constructor);

/* Seconds from now; nil or absent: MP_NEVER; <= 0: 0; NaN: argument error. */
int64_t mpl_deadline_given (lua_State *L, int arg);
static inline int64_t mpl_deadline (lua_State *L, int arg) {
  return lua_isnoneornil(L, arg) ? MP_NEVER : mpl_deadline_given(L, arg);
}

/* Interruption (core calls give MP_EINTR when the Lua state's hook has been set by a signal handler). */
void mpl_enter (lua_State *L);
void mpl_leave (void);
void mpl_interrupt (lua_State *L); /* lets the pending hook raise; returns if it does not. In a finalizer it cannot: the next wait is deaf then */
void mpl_interrupted (lua_State *L) __attribute__((noreturn)); /* raises "interrupted!", without a place, so that it can be compared */
#define MPL_WAIT(L, rc, call)           \
  do {                                  \
    mpl_enter(L);                       \
    (rc) = (call);                      \
    mpl_leave();                        \
    if ((rc) == MP_EINTR) mpl_interrupt(L); \
  } while ((rc) == MP_EINTR)

/* Constructors: a descriptor may be held by garbage, of which Lua sees only a few bytes. */
#define MPL_NEW(L, rc, call)                     \
  do {                                           \
    (rc) = (call);                               \
    if (__builtin_expect((rc) == MP_EMFILE, 0)) { \
      lua_gc(L, LUA_GCCOLLECT);                  \
      (rc) = (call);                             \
    }                                            \
  } while (0)

/* 0: true; MP_ABANDONED: true, "abandoned"; expected failures: nil, kind; the others raise "function: sentence". */
int mpl_result_of (lua_State *L, const char *function, int rc);
static inline int mpl_result (lua_State *L, const char *function, int rc) {
  if (__builtin_expect(rc != 0, 0)) return mpl_result_of(L, function, rc);
  lua_pushboolean(L, 1);
  return 1;
}
int mpl_fail (lua_State *L, int rc); /* nil, kind (2) for expected failures only */
int mpl_expected (int rc);           /* is it one of timeout full empty closed eof broken cancelled? */
int mpl_raise (lua_State *L, const char *function, int rc); /* mp_errmsg at the caller's line */
int mpl_misuse (lua_State *L, const char *function, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Errors as lauxlib has them, for functions that are called through pcall too, or by lua/mp: the position is that of the nearest line of
** the user's, and a method that has no name by its call ('?') gets one ("mp.Queue.put"). A closed handle is told as such: mpl_closed, with
** the type's name. */
int mpl_error (lua_State *L, const char *fmt, ...);
int mpl_called (lua_State *L, lua_Debug *ar); /* fills in the name of the function at level 0; 0: it has none by its call */
int mpl_push_name (lua_State *L, lua_Debug *ar); /* its other name, if there is one: pushed, or 0 */
int mpl_argerror (lua_State *L, int arg, const char *text);
int mpl_typeerror (lua_State *L, int arg, const char *expected);
int mpl_closed (lua_State *L, const char *type_name);
void mpl_checkany (lua_State *L, int arg);
void mpl_checktype (lua_State *L, int arg, int type);
void *mpl_checkudata (lua_State *L, int arg, const char *name);
const char *mpl_checklstring (lua_State *L, int arg, size_t *len);
lua_Number mpl_checknumber (lua_State *L, int arg);
lua_Integer mpl_checkinteger (lua_State *L, int arg);
#define luaL_error(L, ...) mpl_error(L, __VA_ARGS__)
#define luaL_argerror(L, arg, text) mpl_argerror(L, arg, text)
#define luaL_typeerror(L, arg, expected) mpl_typeerror(L, arg, expected)
#define luaL_checkany(L, arg) mpl_checkany(L, arg)
#define luaL_checktype(L, arg, type) mpl_checktype(L, arg, type)
#define luaL_checkudata(L, arg, name) mpl_checkudata(L, arg, name)
#define luaL_checklstring(L, arg, len) mpl_checklstring(L, arg, len)
#define luaL_checknumber(L, arg) mpl_checknumber(L, arg)
#define luaL_checkinteger(L, arg) mpl_checkinteger(L, arg)
#define luaL_optinteger(L, arg, otherwise) luaL_opt(L, mpl_checkinteger, arg, otherwise)

/* Constructors of so many arguments: what is beyond them (an option in the wrong place) is misuse instead of being dropped. */
void mpl_no_more (lua_State *L, int most, const char *constructor);

/* Integers: a float with an integer value counts. */
lua_Integer mpl_checkint (lua_State *L, int arg, lua_Integer least, lua_Integer most);

/* A function, or something with __call. */
void mpl_checkcallable (lua_State *L, int arg);

/* A function of this chunk's: what every l_<type>.c exports is listed in l_mp.c. */
typedef int (*mpl_opener) (lua_State *L);

#endif
