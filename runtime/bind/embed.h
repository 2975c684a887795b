/* embed.h -- the Lua files of lua/mp/, as the build put them into the program (spec/support/embed.sh).
** What     the text, and the bytecode that the Lua of the build made of it, which loads about nine times faster. Bytecode is taken by
**          the very release of Lua that made it and by no other: mpl_embed_ident must be that Lua's lua_ident.
** Order    by name; the list ends with name == NULL. lua/mp/init.lua says in which order they run.
** Memory   constants of the program; the text is followed by a 0 byte that is not part of it.
** Safety   read only: any thread, any process.
*/
#ifndef MPL_EMBED_H
#define MPL_EMBED_H

struct mpl_embed {
  const char *name;  /* "process" */
  const char *path;  /* "lua/mp/process.lua", for chunk names */
  const char *text;
  const char *end;   /* one past the last byte */
  const char *code;
  const char *code_end;
};

extern const struct mpl_embed mpl_embedded[];
extern const char mpl_embed_ident[];

#endif
