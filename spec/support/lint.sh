#!/bin/sh
# lint.sh LUA_INC C_FILES... -- clang-tidy, cppcheck and luacheck; silent but for what they find. A file that has not
# changed since it was last found clean is not looked at again (build/lint). The path-sensitive analyzer takes a minute or two
# for everything: only with DEEP=1.
set -u
lua_inc=$1
shift
bad=
if [ -n "${DEEP:-}" ]; then stamps=build/lint-deep less=; else stamps=build/lint less="--checks=-clang-analyzer-*"; fi
export stamps less
mkdir -p $stamps
flags="-std=gnu11 -D_GNU_SOURCE -Iruntime -isystem $lua_inc"

# A stamp is good while it is newer than the file, the configuration, and every header.
headers=$(ls -t runtime/*.h runtime/*/*.h .clang-tidy spec/support/lint.sh 2>/dev/null | head -n 1)
stale=
for f in "$@"; do
  stamp=$stamps/$(echo "$f" | tr / .).ok
  if [ -f "$stamp" ] && [ "$stamp" -nt "$f" ] && [ "$stamp" -nt "$headers" ]; then continue; fi
  stale="$stale $f"
done
if [ -n "$stale" ]; then
  # cppcheck looks at tests too; clang-tidy takes longer and leaves them to the sanitizers
  (printf '%s\n' $stale | grep -v '_test\.c$' || true) | xargs -r -P "${JOBS:-2}" -I{} sh -c '
    f=$1; shift
    case $f in runtime/bind/* | runtime/main/*) set -- "$@" -include spec/support/tidy.h ;; esac
    text=$(clang-tidy --quiet $less --warnings-as-errors="*" "$f" -- "$@" 2>/dev/null) &&
    touch "$stamps/$(echo "$f" | tr / .).ok" && exit 0
    printf "%s\n" "$text"; exit 1' tidy {} $flags || bad="$bad clang-tidy"
  cppcheck --quiet --std=c11 --language=c -j "${JOBS:-2}" --error-exitcode=1 --inline-suppr --suppressions-list=spec/support/cppcheck.txt \
    --enable=warning,portability,performance -Iruntime -D_GNU_SOURCE -D__x86_64__ -D__linux__ $stale || bad="$bad cppcheck"
  case $bad in *cppcheck*) ;; *) for f in $stale; do case $f in *_test.c) touch "$stamps/$(echo "$f" | tr / .).ok" ;; esac; done ;; esac
fi
lua=$(find lua scripts spec -name '*.lua' 2>/dev/null | sort)
if [ -n "$lua" ]; then luacheck --quiet --no-color $lua >$stamps/luacheck || { cat $stamps/luacheck; bad="$bad luacheck"; }; fi
[ -z "$bad" ] || { echo "lint:$bad found something" >&2; exit 1; }
