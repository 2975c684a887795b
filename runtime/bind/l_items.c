#include "bind/l_items.h"

#include <string.h>

#include "base/clock.h"
#include "proc/distrust.h"

/* ---- items ---- */

int mpl_to_key (lua_State *L, int idx, struct mpl_item *k, const char *function) {
  switch (lua_type(L, idx)) {
    case LUA_TSTRING:
      k->item.kind = MPI_ITEM_STR;
      k->item.data = lua_tolstring(L, idx, &k->item.size);
      return 1;
    case LUA_TNUMBER:
      k->item.kind = MPI_ITEM_INT;
      k->item.size = 8;
      k->item.data = &k->u;
      if (lua_isinteger(L, idx)) {
        k->u.i = lua_tointeger(L, idx);
      } else {
        double d = lua_tonumber(L, idx);
        if (mpi_float_is_int(d, &k->u.i)) return 1;
        if (isnan(d)) return 0;
        k->item.kind = MPI_ITEM_FLOAT;
        k->u.d = d;
      }
      return 1;
    case LUA_TBOOLEAN:
      k->item.kind = MPI_ITEM_BOOL;
      k->item.size = 1;
      k->item.data = &k->u;
      k->u.b = (char)lua_toboolean(L, idx);
      return 1;
    case LUA_TNIL: return 0;
    default:
      luaL_checkany(L, idx);
      return mpl_misuse(L, function, "a key must be a string, a number or a boolean, not a %s", luaL_typename(L, idx));
  }
}

void mpl_to_item (lua_State *L, int idx, struct mpl_item *v, const char *function) {
  struct mpl_encoding how = {NULL, NULL, NULL, MPL_DATA_ONLY};
  struct mpl_parcel *p;
  v->item.data = &v->u;
  v->item.size = 8;
  switch (lua_type(L, idx)) {
    case LUA_TNUMBER:
      v->item.kind = lua_isinteger(L, idx) ? MPI_ITEM_INT : MPI_ITEM_FLOAT;
      if (v->item.kind == MPI_ITEM_INT) v->u.i = lua_tointeger(L, idx);
      else v->u.d = lua_tonumber(L, idx);
      return;
    case LUA_TBOOLEAN:
      v->item.kind = MPI_ITEM_BOOL;
      v->item.size = 1;
      v->u.b = (char)lua_toboolean(L, idx);
      return;
    case LUA_TSTRING:
      v->item.kind = MPI_ITEM_STR;
      v->item.data = lua_tolstring(L, idx, &v->item.size);
      return;
    default:
      how.who = function;
      p = mpl_parcel_out(L);
      mpl_encode_as(L, idx, p, &how);
      v->item.kind = MPI_ITEM_CODED;
      v->item.data = p->data;
      v->item.size = p->size;
  }
}

void mpl_push_item (lua_State *L, const char *bytes, size_t size, const char *function) {
  struct mpi_number n;
  if (size >= 1) {
    switch (bytes[0]) {
      case MPI_ITEM_INT:
      case MPI_ITEM_FLOAT:
        if (!mpi_item_number(bytes, size, &n)) break;
        if (n.is_float) lua_pushnumber(L, n.d);
        else lua_pushinteger(L, n.i);
        return;
      case MPI_ITEM_BOOL:
        if (size != 2) break;
        lua_pushboolean(L, bytes[1] != 0);
        return;
      case MPI_ITEM_STR:
        lua_pushlstring(L, bytes + 1, size - 1);
        return;
      case MPI_ITEM_CODED: {
        struct mpl_parcel p = {(unsigned char *)(uintptr_t)(bytes + 1), size - 1, size - 1, NULL, 0, 0};
        mpl_decode(L, &p, 0); /* data only: whoever has the container may have written this */
        return;
      }
      default: break;
    }
  }
  (void)mpl_misuse(L, function, "the container's memory holds what no correct process writes");
}

void mpl_more_room (lua_State *L, struct mpl_room *r, size_t size) {
  luaL_checkstack(L, 4, NULL);
  size += size / 8; /* it may have grown by the next look */
  r->p = lua_newuserdatauv(L, size, 0);
  r->room = size;
}

int64_t mpl_container_deadline (const mp_object *o) {
  return mpi_distrusted(o->seg.ino) ? mp_now() + 5 * MPI_NS_PER_S : MP_NEVER;
}

int mpl_container_raise (lua_State *L, const char *function, int rc) {
  if (rc == MP_ENOMEM) return luaL_error(L, "%s: %s", function, mp_errmsg()); /* the container's, not Lua's */
  if (rc == MP_ETIMEDOUT) return luaL_error(L, "%s: the container is held for too long, and a confined process has been given it", function);
  return mpl_raise(L, function, rc);
}

/* ---- holding ---- */

struct hold {
  struct mpi_store *s; /* NULL: nothing to give back */
};

static const char hold_name[] = "mp.Hold";

static int l_unhold (lua_State *L) {
  struct hold *h = luaL_checkudata(L, 1, hold_name);
  struct mpi_store *s = h->s;
  h->s = NULL;
  if (s != NULL) (void)mpi_store_unhold(s);
  return 0;
}

/* A guard in the stack slot `at` (which is replaced), marked to be closed; then the container is taken. */
static void hold_at (lua_State *L, int arg, int at, const char *function) {
  struct mpi_store *s = (struct mpi_store *)((struct mpl_box *)lua_touserdata(L, arg))->o;
  struct hold *h = lua_newuserdatauv(L, sizeof *h, 0);
  int64_t dl;
  int rc;
  h->s = NULL;
  if (luaL_newmetatable(L, hold_name)) {
    lua_pushcfunction(L, l_unhold);
    lua_setfield(L, -2, "__close");
  }
  lua_setmetatable(L, -2);
  lua_replace(L, at);
  lua_toclose(L, at);
  CONTAINER_WAIT(L, &s->o, rc, dl, mpi_store_hold(s, dl));
  if (rc != 0) (void)mpl_container_raise(L, function, rc);
  h->s = s;
}

void mpl_hold (lua_State *L, int arg, const char *function) {
  lua_pushnil(L);
  hold_at(L, arg, lua_gettop(L), function);
}

static int with_results (lua_State *L, int status, lua_KContext ctx) {
  (void)status;
  (void)ctx;
  return lua_gettop(L) - 2;
}

int mpl_container_with (lua_State *L) {
  int n;
  mpl_checkcallable(L, 2);
  n = lua_gettop(L) - 2;
  lua_pushvalue(L, 1);
  lua_insert(L, 3); /* container, f, container, arguments */
  luaL_checkstack(L, 8, NULL);
  lua_pushnil(L);
  lua_insert(L, 2);
  hold_at(L, 1, 2, "with"); /* below what is returned: it is closed as this function returns */
  lua_callk(L, n + 1, LUA_MULTRET, 0, with_results);
  return with_results(L, LUA_OK, 0);
}
