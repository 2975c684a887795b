#!/bin/sh
# coverage.sh BUILD -- runs the fuzz targets of a build with --coverage over the corpus, and over what fuzzing found in build/*/fuzz,
# and prints how much of the files that read messages was reached: lines and branches.
set -eu
build=$1
find "$build" -name '*.gcda' -delete
for name in decode wire; do
  set -- "runtime/fuzz/corpus/$name"
  for more in build/fuzz/fuzz/found/$name build/afl/fuzz/found-$name/default/queue ${FOUND:+"$FOUND/$name"}; do [ -d "$more" ] && set -- "$@" "$more"; done
  echo "$name: $(cat -- $(printf '%s/* ' "$@") 2>/dev/null | wc -c) bytes of input"
  for folder in "$@"; do "$build/fuzz/${name}_fuzz" 0 "$folder" >/dev/null 2>&1; done
done
for file in bind/decode bind/names wire/wire; do
  gcov -b -o "$build/obj/$(dirname $file)" "runtime/$file.c" 2>/dev/null |
    awk -v file="runtime/$file.c" '
      /^File/ { mine = index($0, file) > 0 }
      mine && /^Lines executed/ { lines = $0 }
      mine && /^Branches executed/ { branches = $0 }
      mine && /^Taken at least once/ { taken = $0 }
      END { sub(/.*:/, "", lines); sub(/.*:/, "", taken); print file ": lines " lines ", branches taken " taken }'
done
rm -f ./*.gcov
