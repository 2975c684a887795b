#!/bin/sh
# lua_suite.sh [FOLDER] -- runs the test suite of Lua 5.4.4 (its folder `testes`, or the folder that contains it; else $LUA_SUITE)
# under $MPRUN (else build/mprun): the portable tests, the stand-alone interpreter's, and, where there is a compiler and
# Lua's headers ($LUA_INC), everything with its C libraries. The suite itself is left as it is.
# Status 0: all passed; 1: something failed; 77: there is no suite.
set -u
suite=${1:-${LUA_SUITE:-}}
mprun=${MPRUN:-build/mprun}
include=${LUA_INC:-/usr/include/lua5.4}

[ -n "$suite" ] && [ -f "$suite/testes/all.lua" ] && suite=$suite/testes
[ -n "$suite" ] && [ -f "$suite/all.lua" ] || { echo "skipped: no suite"; exit 77; }
case $mprun in /*) ;; *) mprun=$PWD/$mprun ;; esac
[ -x "$mprun" ] || { echo "lua_suite.sh: no $mprun"; exit 1; }

dir=$(mktemp -d "${TMPDIR:-/tmp}/mp-suite.XXXXXX") || exit 1
group=
finish () {
  [ -z "$group" ] || kill -KILL -- "-$group" 2>/dev/null
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM
cp -R "$suite" "$dir/testes" && cd "$dir/testes" || exit 1
unset LUA_INIT LUA_INIT_5_4 LUA_PATH LUA_PATH_5_4 LUA_CPATH LUA_CPATH_5_4

# once ARGUMENTS... -- in a session of its own, because a failing main.lua leaves endless loops behind. stdin must be a pipe: the suite
# checks that it cannot be positioned.
once () {
  true | timeout "${SUITE_LIMIT:-300}" setsid --wait sh -c 'echo $$ >"$1"; shift; exec "$@"' sh "$dir/group" "$mprun" "$@" >"$dir/out" 2>&1
  rc=$?
  group=$(cat "$dir/group")
  kill -KILL -- "-$group" 2>/dev/null
  group=
  return $rc
}

# main.lua's Ctrl-C tests lose a race when the program prints before the shell has said its pid: in the copy it starts a little later.
sed 's/%s -e "%s" & echo \$!/{ sleep 0.3; exec %s -e "%s"; } \& echo $!/' main.lua >main.tmp && mv main.tmp main.lua

stage () {
  name=$1
  shift
  if once "$@"; then
    echo "$name: passed"
    return 0
  fi
  echo "$name: FAILED"
  grep -v '^[[:space:]]*$' "$dir/out" | tail -n 20 | sed 's/^/    /'
  failed=1
}

failed=0
stage "portable tests" -e "_U=true" all.lua
stage "stand-alone interpreter" main.lua
if [ -f "$include/lua.h" ] && command -v "${CC:-cc}" >/dev/null && (cd libs && make CC="${CC:-cc}" LUA_DIR="$include" >/dev/null 2>&1); then
  stage "everything, with C libraries" all.lua
else
  echo "everything, with C libraries: skipped: no compiler or headers"
fi
exit $failed
