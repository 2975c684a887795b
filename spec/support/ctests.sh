#!/bin/sh
# ctests.sh BUILD [WORD...] -- runs every C test program of that build, two at a time; what fails is shown, and the last
# line adds up all of them. A program that crashes or runs no case counts as one failure.
set -u
build=$1
shift
list=$(while read -r f; do [ -f "$f" ] && echo "$f"; done <"$build/test/list")
[ -n "$list" ] || { echo "no C tests in $build"; echo "0 passed, 1 failed"; exit 1; }
out=$(mktemp -d "${TMPDIR:-/tmp}/mp-ctests.XXXXXX") || exit 1
trap 'rm -rf "$out"' EXIT
trap 'exit 1' INT TERM
. spec/support/sanitize.sh
if nm "$(echo "$list" | head -n 1)" 2>/dev/null | grep -q -E ' (__asan_init|__tsan_init)$'; then :; else STEADY=; fi
mkdir "$out/san"
sanitize_env "$out/san"

printf '%s\n' "$list" | xargs -P "${JOBS:-2}" -I{} sh -c '
  name=$(echo "$1" | sed "s|.*/test/||; s|/|.|g"); out=$2; shift 2
  ${STEADY:-} "$0" "$@" >"$out/$name.out" 2>&1 </dev/null; echo $? >"$out/$name.rc"' {} {} "$out" "$@"

passed=0 failed=0
for program in $list; do
  name=$(echo "$program" | sed 's|.*/test/||; s|/|.|g')
  rc=$(cat "$out/$name.rc" 2>/dev/null || echo none)
  line=$(tail -n 1 "$out/$name.out" 2>/dev/null)
  p=$(echo "$line" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1/p')
  f=$(echo "$line" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\2/p')
  if [ -z "$p" ]; then
    echo "$program: crashed, or ended without a count (status $rc)"
    p=0 f=1
  elif [ "$p" = 0 ] && [ "$f" = 0 ] && ! grep -q '^[0-9]* skipped$' "$out/$name.out"; then
    if [ $# -gt 0 ]; then continue; fi
    echo "$program: ran no case"
    f=1
  elif [ "$rc" != 0 ] && [ "$f" = 0 ]; then
    echo "$program: exited with status $rc"
    f=1
  fi
  passed=$((passed + p)) failed=$((failed + f))
  echo "$program: $p passed, $f failed"
  grep -v '^[0-9]* passed, [0-9]* failed$' "$out/$name.out" | sed 's/^/    /'
done
for report in "$out"/san/*; do
  [ -f "$report" ] || continue
  failed=$((failed + 1))
  echo "a sanitizer's report:"; head -n 60 "$report" | sed 's/^/    /'
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
