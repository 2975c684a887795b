/* codec.h -- Lua values to messages and back (contract: docs/reference/transfer.md).
** Parcel   bytes (MessagePack with extensions, wire/) and the descriptors that belong to the handles in them. Each Lua state has two reusable
**          ones, for what goes out and for what comes in; they keep their memory up to a bound.
** Encoding raises mp.Error of kind "encode" with the path of the offending value; nothing is half done. The descriptors in the
**          parcel are *borrowed* from handles that the encoded value keeps alive: it must stay on the stack until they are sent.
** Decoding pushes exactly one value; consumes the parcel's descriptors (they are closed or owned by handles) also when it raises. Arbitrary
**          bytes give an error, never a crash; memory is bounded by the message's size; functions only with MPL_TRUST_CODE.
** Stack    both may run Lua code (dump/load functions of registered classes): hold nothing.
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

struct mpl_parcel *mpl_parcel_out (lua_State *L); /* this state's, emptied */
struct mpl_parcel *mpl_parcel_in (lua_State *L);
int mpl_parcel_reserve (struct mpl_parcel *p, size_t size, int nfds); /* room for that much; 0 or MP_ENOMEM */

void mpl_encode (lua_State *L, int idx, struct mpl_parcel *p);
void mpl_decode (lua_State *L, struct mpl_parcel *p, unsigned flags);

/* An mp.Error userdata/table as in the contract, from its parts; pushes it. kind as in the contract; message may be NULL to take it from the
** stack top (popped). */
void mpl_error_new (lua_State *L, const char *kind, const char *message);

#endif
