/* l_event.c -- mp.Event. */
#include "bind/l_sync.h"
#include "bind/wait.h"
#include "shm/event.h"

static void describe (mp_object *o, char *text, size_t size) {
  (void)snprintf(text, size, mp_event_is_set(o) ? "set" : "clear");
}

static int l_set (lua_State *L);
static int l_clear (lua_State *L);
static int l_is_set (lua_State *L);
static int l_wait (lua_State *L);

static const luaL_Reg methods[] = {{"set", l_set}, {"clear", l_clear}, {"is_set", l_is_set}, {"wait", l_wait}, {NULL, NULL}};
static const mpl_type event_type = {MPI_T_EVENT, "mp.Event", methods, NULL, NULL, NULL, describe};

static int l_set (lua_State *L) {
  mp_object *o = mpl_check(L, 1, &event_type);
  int rc;
  MPL_WAIT(L, rc, mp_event_set(o));
  return mpl_result(L, "set", rc);
}

static int l_clear (lua_State *L) {
  mp_object *o = mpl_check(L, 1, &event_type);
  int rc;
  MPL_WAIT(L, rc, mp_event_clear(o));
  return mpl_result(L, "clear", rc);
}

static int l_is_set (lua_State *L) {
  lua_pushboolean(L, mp_event_is_set(mpl_check(L, 1, &event_type)));
  return 1;
}

static int l_wait (lua_State *L) {
  mp_object *o = mpl_check(L, 1, &event_type);
  int64_t deadline = mpl_deadline(L, 2);
  int rc;
  MPL_WAIT(L, rc, mp_event_wait(o, deadline));
  return mpl_result(L, "wait", rc);
}

static int l_new_event (lua_State *L) {
  mp_object *o = NULL;
  int rc;
  mpl_no_options(L, "mp.Event");
  MPL_NEW(L, rc, mp_event_new(&o));
  if (rc != 0) return mpl_raise(L, "mp.Event", rc);
  mpl_push(L, o);
  return 1;
}

static int wait_ready (lua_State *L, int idx) {
  return mp_event_is_set(mpl_test(L, idx));
}

static int wait_poll (lua_State *L, int idx, struct pollfd *p) {
  int fd = -1;
  int rc = mpi_event_fd(mpl_test(L, idx), &fd);
  if (rc != 0) return mpl_raise(L, "wait", rc);
  *p = (struct pollfd){fd, POLLIN, 0};
  return 1;
}

static const mpl_waitable waitable = {wait_ready, wait_poll, NULL, NULL, NULL}; /* polling again puts a bell right */

int mpl_open_event (lua_State *L) {
  mpl_newtype(L, &event_type);
  mpl_set_waitable(L, event_type.name, &waitable);
  lua_pushcfunction(L, l_new_event);
  lua_setfield(L, -2, "Event");
  return 0;
}
