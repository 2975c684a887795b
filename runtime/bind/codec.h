/* codec.h -- Lua values to messages and back (contract: docs/reference/transfer.md).
** Parcel   bytes (MessagePack with extensions, wire/) and the descriptors that belong to the handles in them. Each Lua state has two reusable
**          ones, for what goes out and for what comes in; they keep their memory up to a bound.
** Encoding raises mp.Error of kind "encode" with the path of the offending value; nothing is half done. The descriptors in the
**          parcel are *borrowed* from handles that the encoded value keeps alive: it must stay on the stack until they are sent.
** Decoding pushes exactly one value; consumes the parcel's descriptors (they are closed or owned by handles) also when it raises. Arbitrary
**          bytes give an error, never a crash; memory is bounded by the message's size; functions only with MPL_TRUST_CODE.
** Stack    both may run Lua code (dump/load functions of registered classes, modules' loading, finalizers): hold nothing. Such code may itself
**          encode and decode: the parcels of an outer call are not touched.
*/
#ifndef MPL_CODEC_H
#define MPL_CODEC_H

#include <lua.h>
#include <stddef.h>

struct mpl_parcel {
  unsigned char *data;
  size_t size;
  size_t room;
  int *fds;
  int nfds;
  int fds_room;
};

#define MPL_TRUST_CODE 1u /* functions and bytecode may be loaded: the sender is of our own program and not sandboxed */
#define MPL_DATA_ONLY 2u  /* encoding: functions, handles and objects are refused, in favour of a manager (Dict, List) */
#define MPL_ONE_RECORD 4u /* encoding: what needs more descriptors than one record carries is refused */
#define MPL_BY_PROXY 8u /* encoding, for another program: shared objects go as the class "mp.Proxy" dumps them, functions are refused */

struct mpl_parcel *mpl_parcel_out (lua_State *L); /* this state's, emptied */
struct mpl_parcel *mpl_parcel_in (lua_State *L);
int mpl_parcel_reserve (struct mpl_parcel *p, size_t size, int nfds); /* room for that much; 0 or MP_ENOMEM */

/* Lua code that runs between hold and release (a hook, while a call waits to deliver its parcel) codes in other parcels than these.
** frame: __builtin_frame_address(0) of the function that calls both. An error that leaves that function releases. */
void mpl_parcels_hold (lua_State *L, const void *frame);
void mpl_parcels_release (lua_State *L);

void mpl_encode (lua_State *L, int idx, struct mpl_parcel *p);
/* The parcel is sent, or never will be: what dump functions returned for it, which kept its descriptors, is let go of. Raises nothing; finalizers
** may run. Who does not call it keeps these things until the next encoding of something with objects in it. */
void mpl_encoded_done (lua_State *L);
/* For who encodes again before the parcel is sent, and has copied it: pushes what must stay alive until then (nil if nothing must). */
void mpl_encoded_push (lua_State *L);
void mpl_decode (lua_State *L, struct mpl_parcel *p, unsigned flags);

/* Bodies of functions that one receiver has been sent, so that each goes only once. Private memory; one user at a time; at most a bounded
** number (what is above goes whole each time). A body counts as sent when the encoding succeeds: if the message is then not delivered, the
** channel is lost, or call mpl_bodies_forget and go on. The receiver keeps them as long as its Lua state lives. */
struct mpl_bodies;
struct mpl_bodies *mpl_bodies_new (void); /* NULL: no memory */
void mpl_bodies_forget (struct mpl_bodies *b);
void mpl_bodies_free (struct mpl_bodies *b);

struct mpl_encoding {
  const char *who;           /* "pool:apply" in messages; NULL: found out from the running function */
  const char *root;          /* what the value is called in paths: "args"; NULL: nothing */
  struct mpl_bodies *bodies; /* or NULL */
  unsigned flags;            /* MPL_DATA_ONLY, MPL_ONE_RECORD */
  int index;                 /* not 0: the value is that one of a list: "[3]" in paths */
};
void mpl_encode_as (lua_State *L, int idx, struct mpl_parcel *p, const struct mpl_encoding *how);

/* How userdata (or tables) with a certain metatable travel that have no segment: mp.Fd, proxies. `t` must live for ever; the metatable is
** at the top of the stack and stays there. */
struct mpl_travel {
  const char *name; /* on the wire and in messages: "mp.Fd" */
  /* idx is the object (absolute). Pushes one value that represents it; may add descriptors by mpl_parcel_add_fd (borrowed).
  ** May raise: an error is reported with the path. */
  void (*dump) (lua_State *L, int idx, struct mpl_parcel *p);
  /* The value is at 1. Pushes the object. Takes descriptors over by setting fds[i] = -1; the others are closed by the caller, also when it
  ** raises. */
  void (*load) (lua_State *L, int *fds, int nfds);
  int code; /* nonzero: only with MPL_TRUST_CODE */
};
void mpl_travel_register (lua_State *L, const struct mpl_travel *t);
int mpl_parcel_add_fd (struct mpl_parcel *p, int fd); /* 0 or MP_ENOMEM */

/* An mp.Error as in the contract, from its parts; pushes it. message may be NULL to take it from the stack top (popped; any value: what is
** no string becomes `value`, and its text the message). It is a table with the metatable "mp.Error" of the registry; further fields
** (traceback, pid, name, exitcode, signal, value) are set by lua_setfield. */
void mpl_error_new (lua_State *L, const char *kind, const char *message);
int mpl_iserror (lua_State *L, int idx); /* is it an mp.Error? */

#endif
