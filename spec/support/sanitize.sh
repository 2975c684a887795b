# sanitize.sh -- sourced: how the sanitizers behave in tests.
# sanitize_env FOLDER: every process writes its report into a file there, so that none is lost with a child's stderr.
sanitize_env () {
  ASAN_OPTIONS="exitcode=98:allocator_may_return_null=1:detect_stack_use_after_return=0:log_path=$1/asan:${ASAN_OPTIONS:-}"
  UBSAN_OPTIONS="print_stacktrace=1:log_path=$1/ubsan:${UBSAN_OPTIONS:-}"
  TSAN_OPTIONS="exitcode=66:die_after_fork=0:log_path=$1/tsan:${TSAN_OPTIONS:-}"
  LSAN_OPTIONS="suppressions=$PWD/spec/support/lsan.supp:print_suppressions=0:${LSAN_OPTIONS:-}"
  export ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS LSAN_OPTIONS
}
# Where addresses are more random than gcc 12's sanitizers can bear (they crash at random), $STEADY is what takes the
# randomness away; else it is empty.
STEADY=
case $(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null) in
29 | 3[0-9]) if setarch -R true 2>/dev/null; then STEADY="setarch -R"; fi ;;
esac
export STEADY
