#!/bin/sh
# deps.sh headers CC LUA_INC   says which package brings a header that is missing; exit 1
# deps.sh install [run]        installs what is missing, as root or through sudo; silent when nothing is. With "run"
#                              only what building and the scripts need, without what only tests and lint need
set -u

# Packages of the distribution and what each is for. Nothing else is ever installed.
BUILD_PACKAGES="gcc make libc6-dev linux-libc-dev liblua5.4-dev libseccomp-dev libssl-dev"
RUN_PACKAGES="lua5.4 libedit2 lua-socket lua-cjson"
TEST_PACKAGES="lua-busted lua-check clang-tidy cppcheck libmsgpack-dev"

missing () {
  for p in "$@"; do
    dpkg -s "$p" 2>/dev/null | grep -q '^Status: .* installed$' || printf '%s ' "$p"
  done
}

case "${1:-}" in
headers)
  cc=$2 lua_inc=$3 bad=
  for pair in lua.h=liblua5.4-dev seccomp.h=libseccomp-dev openssl/ssl.h=libssl-dev linux/landlock.h=linux-libc-dev; do
    header=${pair%%=*} package=${pair#*=}
    if ! printf '#include <%s>\n' "$header" | $cc -I"$lua_inc" -E -x c - >/dev/null 2>&1; then
      echo "mp: the header <$header> is missing; it is in the package $package" >&2
      bad=1
    fi
  done
  [ -z "$bad" ] || { echo "mp: 'make deps' installs what is missing" >&2; exit 1; }
  ;;
install)
  [ "${2:-}" != run ] || TEST_PACKAGES=
  command -v dpkg >/dev/null 2>&1 || { echo "mp: no dpkg here: install by hand: $BUILD_PACKAGES $RUN_PACKAGES $TEST_PACKAGES" >&2; exit 0; }
  want=$(missing $BUILD_PACKAGES $RUN_PACKAGES $TEST_PACKAGES)
  [ -n "$want" ] || exit 0
  echo "mp: missing packages: $want"
  if [ "$(id -u)" = 0 ]; then as=env
  elif command -v sudo >/dev/null 2>&1; then as="sudo env"
  else echo "mp: neither root nor sudo: as root, run: apt-get install $want" >&2; exit 1; fi
  apt="$as DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300"
  # The list of packages may be absent (then it is fetched first) or stale (then after a failure).
  if ! apt-cache policy ${want%% *} 2>/dev/null | grep -q 'Candidate: [0-9]'; then $apt update </dev/null; fi
  $apt install --no-install-recommends $want </dev/null ||
    { $apt update </dev/null && $apt install --no-install-recommends $want </dev/null; } ||
    { echo "mp: apt-get could not install: $want" >&2; exit 1; }
  left=$(missing $want)
  [ -z "$left" ] || { echo "mp: still missing after the installation: $left" >&2; exit 1; }
  ;;
*)
  echo "usage: deps.sh headers CC LUA_INC | install [run]" >&2; exit 2 ;;
esac
