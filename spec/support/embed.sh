#!/bin/sh
# embed.sh FILE.lua... -- writes the C file that holds the Lua files, byte for byte, as a table
# that ends with an entry whose name is NULL; see runtime/bind/embed.h.
set -eu
echo '/* made by spec/support/embed.sh from lua/mp/ */'
echo '#include <stddef.h>'
echo '#include "bind/embed.h"'
for f in "$@"; do
  id=$(basename "$f" .lua | tr -c 'A-Za-z0-9\n' '_')
  cat <<END
__asm__(".section .rodata\n.globl mpl_embed_$id\n.hidden mpl_embed_$id\n.globl mpl_embed_${id}_end\n.hidden mpl_embed_${id}_end\n"
        "mpl_embed_$id: .incbin \"$f\"\nmpl_embed_${id}_end: .byte 0\n.previous\n");
extern const char mpl_embed_$id[] __attribute__((visibility("hidden")));
extern const char mpl_embed_${id}_end[] __attribute__((visibility("hidden")));
END
done
echo 'const struct mpl_embed mpl_embedded[] = {'
for f in "$@"; do
  name=$(basename "$f" .lua)
  id=$(printf '%s\n' "$name" | tr -c 'A-Za-z0-9\n' '_')
  echo "  {\"$name\", \"$f\", mpl_embed_$id, mpl_embed_${id}_end},"
done
echo '  {NULL, NULL, NULL, NULL}'
echo '};'
