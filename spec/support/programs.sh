#!/bin/sh
# programs.sh bench|stress|fuzz|libfuzzer|afl BUILD -- runs what is there, one after the other, each in a process group of its own:
#   bench   spec/bench/run.lua, or every spec/bench/*.lua, by mprun
#   stress  spec/stress/*.lua by mprun, and BUILD/stress/*, for SECONDS each (in the environment, and as argument)
#   fuzz, libfuzzer, afl   BUILD/fuzz/*_fuzz (or only TARGET) for SECONDS each on the corpus runtime/fuzz/corpus/<name>
# Status 0 says that it held; a process left behind is a failure. The last line counts programs (not for bench).
set -u
kind=$1 build=$2
seconds=${SECONDS:-60}
export SECONDS MPRUN="${MPRUN:-$PWD/$build/mprun}"
case $kind in
bench)
  if [ -f spec/bench/run.lua ]; then exec "$MPRUN" spec/bench/run.lua; fi
  found=
  for f in spec/bench/*.lua; do [ -f "$f" ] && { found=1; "$MPRUN" "$f" || exit 1; }; done
  [ -n "$found" ] || { echo "nothing in spec/bench"; exit 1; }
  exit 0 ;;
stress) set -- spec/stress/*.lua "$build"/stress/* ;;
fuzz | libfuzzer | afl) set -- "$build"/fuzz/${TARGET:-*}_fuzz ;;
esac
. spec/support/sanitize.sh
san=$(mktemp -d "${TMPDIR:-/tmp}/mp-$kind.XXXXXX") || exit 1
trap 'rm -rf "$san"' EXIT
trap 'exit 1' INT TERM
if [ "$kind" = afl ]; then # its own findings are its own to report
  export AFL_NO_UI=1 AFL_QUIET=1 AFL_SKIP_CPUFREQ=1 AFL_NO_AFFINITY=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_AUTORESUME=1
  export ASAN_OPTIONS="abort_on_error=1:symbolize=0:detect_leaks=0:allocator_may_return_null=1"
else sanitize_env "$san"; fi
passed=0 failed=0
for f in "$@"; do
  [ -f "$f" ] || continue
  case $f in *.d | *.o) continue ;; esac
  echo "== $f for $seconds s"
  limit=$((seconds * 3 + 60))
  case $f in
  *.lua) "$build/watch" $limit "$MPRUN" "$f" "$seconds" </dev/null; rc=$? ;;
  *_fuzz)
    name=$(basename "$f" _fuzz)
    corpus=runtime/fuzz/corpus/$name
    [ -d "$corpus" ] || corpus=runtime/fuzz/corpus
    if [ "$kind" = libfuzzer ]; then
      # what is found goes into the build folder, not into the tree
      mkdir -p "$build/fuzz/found/$name"
      "$build/watch" $limit "$f" -max_total_time="$seconds" -print_final_stats=1 -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$build/fuzz/crash-$name-" "$build/fuzz/found/$name" $([ -d "$corpus" ] && echo "$corpus") </dev/null
      rc=$?
    elif [ "$kind" = afl ]; then
      found=$build/fuzz/found-$name
      "$build/watch" $limit afl-fuzz -V "$seconds" -i "$corpus" -o "$found" -m none -t 1000 -- "$f" </dev/null >"$found.log" 2>&1
      rc=$?
      grep -E '^(run_time|execs_done|execs_per_sec|corpus_count|stability|bitmap_cvg|saved_crashes|saved_hangs)' "$found/default/fuzzer_stats" || { rc=1; tail -n 20 "$found.log"; }
      for crash in "$found"/default/crashes/id* "$found"/default/hangs/id*; do [ -f "$crash" ] && { rc=1; echo "found: $crash"; }; done
    else
      "$build/watch" $limit "$f" "$seconds" "$corpus" </dev/null; rc=$?
    fi ;;
  *) "$build/watch" $limit "$f" "$seconds" </dev/null; rc=$? ;;
  esac
  if [ $rc = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "$f: status $rc"; fi
done
for report in "$san"/*; do
  [ -f "$report" ] || continue
  failed=$((failed + 1)); echo "a sanitizer's report:"; head -n 60 "$report"
done
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
