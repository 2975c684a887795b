#!/bin/sh
# embed.sh FOLDER FILE.lua... -- writes the C file that holds the Lua files, byte for byte, and beside each what compile.c has
# made of it in FOLDER, as a table that ends with an entry whose name is NULL; see runtime/bind/embed.h.
set -eu
folder=$1
shift
echo '/* made by spec/support/embed.sh from lua/mp/ */'
echo '#include <stddef.h>'
echo '#include "bind/embed.h"'
for f in "$@"; do
  name=$(basename "$f" .lua)
  id=$(printf '%s\n' "$name" | tr -c 'A-Za-z0-9\n' '_')
  for part in "$id $f" "${id}_code $folder/$name.luac"; do
    symbol=mpl_embed_${part%% *}
    cat <<END
__asm__(".section .rodata\n.globl $symbol\n.hidden $symbol\n.globl ${symbol}_end\n.hidden ${symbol}_end\n"
        "$symbol: .incbin \"${part#* }\"\n${symbol}_end: .byte 0\n.previous\n");
extern const char $symbol[] __attribute__((visibility("hidden")));
extern const char ${symbol}_end[] __attribute__((visibility("hidden")));
END
  done
done
echo 'const struct mpl_embed mpl_embedded[] = {'
for f in "$@"; do
  name=$(basename "$f" .lua)
  id=$(printf '%s\n' "$name" | tr -c 'A-Za-z0-9\n' '_')
  echo "  {\"$name\", \"$f\", mpl_embed_$id, mpl_embed_${id}_end, mpl_embed_${id}_code, mpl_embed_${id}_code_end},"
done
echo '  {NULL, NULL, NULL, NULL, NULL, NULL}'
echo '};'
printf 'const char mpl_embed_ident[] = "%s";\n' "$(cat "$folder/ident")"
