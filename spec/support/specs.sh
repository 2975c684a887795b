#!/bin/sh
# specs.sh MODE BUILD [SPEC_FILE...] -- runs every busted spec (spec/**/*_spec.lua), each file in a process and a process group
# of its own, JOBS (2) at a time, SPEC_LIMIT (180) seconds each. In release by stock lua5.4 with mp.so, in the other
# modes by that build's mprun. The last line adds up; a file that crashes, runs out of time, or runs nothing is a failure,
# and so is a sanitizer's report from any process that a spec started, and a process that a spec leaves running.
set -u
mode=$1 build=$2
shift 2
if [ $# -gt 0 ]; then list=$(printf '%s\n' "$@")
else list=$(find spec -name '*_spec.lua' -type f | sort); fi
[ -n "$list" ] || { echo "no specs"; echo "0 passed, 1 failed"; exit 1; }
out=$(mktemp -d "${TMPDIR:-/tmp}/mp-specs.XXXXXX") || exit 1
trap 'rm -rf "$out"' EXIT
trap 'exit 1' INT TERM
mkdir "$out/san"

MPRUN=$(cd "$build" && pwd)/mprun
LUA_CPATH="$(cd "$build" && pwd)/?.so;;"
MP_MODE=$mode
export MPRUN LUA_CPATH MP_MODE
busted=$(command -v busted) || { echo "busted is missing: 'make deps'"; echo "0 passed, 1 failed"; exit 1; }
if [ "$mode" = release ]; then program=${LUA:-lua5.4}; else program=$MPRUN; fi
case $mode in
asan | tsan)
  . spec/support/sanitize.sh
  sanitize_env "$out/san"
  export SPEC_SLOW=4 ;;
esac

printf '%s\n' "$list" | xargs -P "${JOBS:-2}" -I{} sh -c '
  name=$(echo "$1" | tr / .); start=$(date +%s)
  ${STEADY:-} "$6" "$5" "$3" "$4" --output=plainTerminal --no-coverage "$1" >"$2/$name.out" 2>&1 </dev/null
  echo "$? $(($(date +%s) - start))" >"$2/$name.rc"' specs {} "$out" "$program" "$busted" "${SPEC_LIMIT:-180}" "$build/watch"

passed=0 failed=0
for spec in $list; do
  name=$(echo "$spec" | tr / .)
  read -r rc secs <"$out/$name.rc" || { rc=none secs=0; }
  # "12 successes / 1 failure / 0 errors / 2 pending : 0.5 seconds"
  count=$(sed -n 's|^\([0-9]*\) success[es]* / \([0-9]*\) failure[s]* / \([0-9]*\) error[s]* / \([0-9]*\) pending.*|\1 \2 \3 \4|p' "$out/$name.out" | tail -n 1)
  set -- $count
  if [ $# -ne 4 ]; then
    if [ "$rc" = 124 ]; then echo "$spec: took longer than ${SPEC_LIMIT:-180} s"
    else echo "$spec: crashed, or ended without a count (status $rc)"; fi
    failed=$((failed + 1)); sed 's/^/    /' "$out/$name.out" | tail -n 60
    continue
  fi
  p=$1 f=$(($2 + $3)) pending=$4
  if [ "$p" = 0 ] && [ "$f" = 0 ] && [ "$pending" = 0 ]; then f=1; echo "$spec: ran no test"; fi
  if [ "$rc" = 125 ] && [ "$f" = 0 ]; then f=1; echo "$spec: left processes running"; grep '^watch:' "$out/$name.out" | sed 's/^/    /'
  elif [ "$rc" != 0 ] && [ "$f" = 0 ]; then f=1; echo "$spec: exited with status $rc"; sed 's/^/    /' "$out/$name.out" | tail -n 40; fi
  passed=$((passed + p)) failed=$((failed + f))
  note=; [ "$pending" = 0 ] || note=", $pending pending"
  echo "$spec: $p passed, $f failed$note ($secs s)"
  if [ "$2" != 0 ] || [ "$3" != 0 ] || [ "$pending" != 0 ]; then sed 's/^/    /' "$out/$name.out"; fi
done
for report in "$out"/san/*; do
  [ -f "$report" ] || continue
  failed=$((failed + 1))
  echo "a sanitizer's report:"; head -n 60 "$report" | sed 's/^/    /'
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
