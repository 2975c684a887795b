#!/bin/sh
# run.sh [SUITE...] -- builds and runs every suite, or those named, and ends with one line "N passed, N failed" that adds
# them up. A suite that does not build, crashes, runs out of time or runs nothing counts as a failure.
#
# Suites: lint clang c-release c-hard c-asan c-tsan spec-release kind-spawn kind-thread spec-asan tour fuzz stress
#   c-MODE     the C tests in that mode               spec-MODE   the specs, which also run scripts and documents
#   kind-KIND  the specs of shared objects once more, with their workers started by spawn, or as threads (spec-release: by fork)
#   clang      builds without a warning under clang too, where there is one
#   fuzz, stress   for a few seconds, under the address sanitizer and in release
# MP_COUNT_IN_FILE=1 leaves the last line to .ci/run (build/count).
set -u
export LC_ALL=C.UTF-8
[ $# -gt 0 ] || set -- lint clang c-release c-hard c-asan c-tsan spec-release kind-spawn kind-thread spec-asan fuzz stress
log=build/log
if [ "$1" != --lane ]; then
  mkdir -p build
  rm -f build/count
  rm -rf $log
  mkdir -p $log
fi
total_passed=0 total_failed=0 total_start=$(date +%s)

make_mode () { # MODE TARGET...; sets b to its folder
  mode=$1
  shift
  if [ "$mode" = release ]; then b=build; else b=build/$mode; fi
  # env -i in spirit: what a calling make exported about itself must not reach this one
  MAKEFLAGS='' MFLAGS='' make --no-print-directory -j"$JOBS" MODE="$mode" BUILD=$b "$@"
}

run_suite () {
  case $1 in
  lint) make_mode release lint ;;
  clang)
    command -v clang >/dev/null || { echo "no clang here"; return 77; }
    make_mode release CC=clang CFLAGS='-O0 -g0' BUILD=build/clang all test-objects programs ;;
  c-*)
    m=${1#c-} built=0
    make_mode "$m" -k ctests || built=1
    sh spec/support/ctests.sh "$b"
    rc=$?
    if [ $built != 0 ]; then # those that did build have been run; the others count as one failure
      line=$(tail -n 1 "$log/$1" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p')
      set -- ${line:-0 0}
      echo "some tests did not build"
      echo "$1 passed, $(($2 + 1)) failed"
      rc=1
    fi
    return $rc ;;
  spec-*) m=${1#spec-}; make_mode "$m" all "$([ "$m" = release ] && echo build || echo "build/$m")/watch" && sh spec/support/specs.sh "$m" "$b" ;;
  kind-*)
    export MP_TEST_KIND=${1#kind-}
    make_mode release all build/watch && sh spec/support/specs.sh release build $(grep -l 'run\.child' spec/*_spec.lua) ;;
  tour) make_mode release all && sh spec/support/tour.sh build/mprun ;;
  fuzz)
    ls runtime/fuzz/*_fuzz.c >/dev/null 2>&1 || { echo "no fuzz targets yet"; return 77; }
    make_mode asan programs && SECONDS=5 sh spec/support/programs.sh fuzz build/asan ;;
  stress)
    ls spec/stress/* >/dev/null 2>&1 || { echo "no stress programs"; return 77; }
    make_mode release all programs && MPRUN=$PWD/build/mprun SECONDS=3 sh spec/support/programs.sh stress build ;;
  *) echo "no such suite: $1"; return 1 ;;
  esac
}

# What did not pass, a line each: as the last lines before the count, for a log that is cut in the middle still has them.
failures () {
  grep -E '^ *(not ok|FAIL|Failure ->|Error ->|a sanitizer)|: (took longer than|crashed, or|ran no|left processes|exited with)|[1-9][0-9]* failed' "$log/$1" |
    grep -v -E '^[0-9]+ passed, ' | sed "s/^ */$1: /" | head -n 20 | grep . || echo "$1: see above"
}

report () { # SUITE STATUS SECONDS; leaves "PASSED FAILED" in $log/SUITE.count
  suite=$1 rc=$2 secs=$3
  count=$(tail -n 1 "$log/$suite" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p')
  case $suite in
  lint | clang | tour) count="$([ "$rc" = 0 ] && echo 1 0 || echo 0 1)" ;;
  esac
  if [ "$rc" = 77 ]; then
    echo "--    $suite: skipped: $(tail -n 1 "$log/$suite")"
    echo 0 0 >"$log/$suite.count"
    return
  fi
  if [ -z "$count" ]; then
    echo "FAIL  $suite: did not build, or crashed (status $rc, $secs s)"
    count="0 1"
  fi
  p=${count% *} f=${count#* }
  if [ "$rc" != 0 ] && [ "$f" = 0 ]; then f=1; fi
  if [ "$p" = 0 ] && [ "$f" = 0 ]; then f=1; fi
  echo "$p $f" >"$log/$suite.count"
  if [ "$f" = 0 ]; then
    echo "ok    $suite: $p passed ($secs s)"
    # what was skipped is said, not hidden
    grep -E '^ *(skip - |skipped: )' "$log/$suite" | sort | uniq -c | sed 's/^ */          /' | head -n 20
  else
    echo "FAIL  $suite: $p passed; $f failed ($secs s)"
    grep -v -E '^  (cc|link|ar|embed) |: [0-9]+ passed, 0 failed' "$log/$suite" | tail -n 150 | sed 's/^/      /'
  fi
}

# Two lanes side by side, for tests wait as well as compute: what is built in build/asan and build/clang, and the rest.
lane () {
  for suite in "$@"; do
    start=$(date +%s)
    (run_suite "$suite") >"$log/$suite" 2>&1 </dev/null
    rc=$?
    report "$suite" $rc $(($(date +%s) - start)) >"$log/$suite.report"
    cat "$log/$suite.report"
  done
}

if [ "$1" = --lane ]; then
  shift
  lane "$@"
  exit
fi
one='' other=''
for suite in "$@"; do
  case $suite in
  *asan | clang | fuzz) other="$other $suite" ;;
  *) one="$one $suite" ;;
  esac
done
# Tests wait for each other more than they compute: one more than there are processors, or so many in each lane.
if [ -n "$one" ] && [ -n "$other" ]; then : "${JOBS:=$(nproc)}"; else : "${JOBS:=$(($(nproc) + 1))}"; fi
export JOBS
if [ -n "$other" ]; then # a shell's background ignores SIGINT and SIGQUIT, which tests raise
  env --default-signal=INT,QUIT sh spec/support/run.sh --lane $other &
fi
lane $one
wait
said=''
for suite in "$@"; do
  read -r p f <"$log/$suite.count" || { p=0 f=1; echo "FAIL  $suite: was not run"; }
  total_passed=$((total_passed + p)) total_failed=$((total_failed + f))
  [ "$f" = 0 ] || said="$said$(failures "$suite")
"
done
[ -z "$said" ] || printf 'did not pass:\n%s' "$said"
echo "all suites: $(($(date +%s) - total_start)) s; logs in $log"
echo "$total_passed passed, $total_failed failed" >build/count
[ -n "${MP_COUNT_IN_FILE:-}" ] || cat build/count
[ $total_failed = 0 ] && [ $total_passed -gt 0 ]
