#!/bin/sh
# fresh.sh [FOLDER] -- makes a bare Debian 12 in FOLDER (default: a new temporary one, removed at the end), with gcc and make and
# nothing else, and proves there that `make`, `make run` and `make test` work: as root, and as a user with sudo. Needs root, debootstrap,
# and a mirror: the first one in this machine's apt configuration. Takes some minutes; not part of the tests.
#
# STEPS="plain root user": which of the proofs to run.
set -eu
suite=bookworm
steps=${STEPS:-plain root user}
tree=$(cd "$(dirname "$0")/../.." && pwd)
[ "$(id -u)" = 0 ] || { echo "fresh.sh needs root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "debootstrap is missing" >&2; exit 1; }

# One-line or deb822 sources; what a mirror needs (proxy, keys) is copied as it is.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
  sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) bookworm .*/\2/p' | head -n 1)
[ -n "$mirror" ] || mirror=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs: *\([^ ]*\).*/\1/p' | head -n 1)
[ -n "$mirror" ] || { echo "no mirror in the apt configuration" >&2; exit 1; }

root=${1:-}
if [ -z "$root" ]; then
  root=$(mktemp -d "${TMPDIR:-/tmp}/mp-fresh.XXXXXX")
  chmod 755 "$root" # it becomes /: whoever is not root must get through
  remove=$root
else
  mkdir -p "$root"
  remove=
fi
cleanup () {
  for m in dev/pts dev/shm proc sys; do
    if mountpoint -q "$root/$m"; then umount "$root/$m" || umount -l "$root/$m"; fi
  done
  [ -z "$remove" ] || rm -rf --one-file-system "$remove"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

if [ ! -x "$root/bin/sh" ]; then
  echo "== a bare $suite"
  # Proxy and trust as apt has them here.
  proxy=$(apt-config dump Acquire::http::Proxy 2>/dev/null | sed -n 's/.*"\(.*\)";/\1/p')
  [ -z "$proxy" ] || export http_proxy="$proxy"
  debootstrap --variant=minbase --include=gcc,make,libc6-dev,sudo,ca-certificates ${DEBOOTSTRAP_OPTIONS:-} $suite "$root" "$mirror" >"$root.log" 2>&1 ||
    { tail -n 20 "$root.log"; exit 1; }
  rm -f "$root.log"
fi
rm -rf "$root/etc/apt/sources.list" "$root/etc/apt/sources.list.d" "$root/etc/apt/apt.conf.d" "$root/etc/apt/auth.conf.d"
cp -a /etc/apt/sources.list "$root/etc/apt/" 2>/dev/null || true
for d in sources.list.d apt.conf.d auth.conf.d trusted.gpg.d keyrings; do
  [ -d "/etc/apt/$d" ] && { rm -rf "$root/etc/apt/$d"; cp -a "/etc/apt/$d" "$root/etc/apt/"; }
done
[ -d /usr/share/keyrings ] && { mkdir -p "$root/usr/share/keyrings"; cp -an /usr/share/keyrings/. "$root/usr/share/keyrings/"; }
[ -d /usr/local/share/ca-certificates ] && cp -a /usr/local/share/ca-certificates "$root/usr/local/share/" && chroot "$root" update-ca-certificates >/dev/null 2>&1
cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
cp /etc/hosts "$root/etc/hosts" 2>/dev/null || true
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
mountpoint -q "$root/sys" || mount -t sysfs -o ro sys "$root/sys"
mkdir -p "$root/dev/pts" "$root/dev/shm"
mountpoint -q "$root/dev/pts" || mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mountpoint -q "$root/dev/shm" || mount -t tmpfs tmpfs "$root/dev/shm"

copy () { # FOLDER: the tree as git has it, or as it is where there is no git; no build
  rm -rf "$root$1"
  mkdir -p "$root$1"
  (cd "$tree" && tar c --exclude=./build --exclude=./.git .) | tar x -C "$root$1"
}
inside () { # WHO COMMAND
  if [ "$1" = root ]; then chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin CI=true sh -c "$2" </dev/null
  else chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin CI=true su "$1" -c "$2" </dev/null; fi
}
purge () { # back to what is bare
  chroot "$root" sh -c 'apt-get -q -y purge "liblua*" "lua*" libseccomp-dev libssl-dev cppcheck clang-tidy "clang*" libedit2 >/dev/null 2>&1; apt-get -q -y autoremove --purge >/dev/null 2>&1; rm -rf /var/lib/apt/lists/*' || true
}

for step in $steps; do
  purge
  case $step in
  plain)
    echo "== make says which headers are missing, and touches nothing"
    copy /srv/mp
    if inside root 'cd /srv/mp && make' >"$root/out" 2>&1; then echo "make worked without headers?" >&2; exit 1; fi
    grep -q 'liblua5.4-dev' "$root/out" && grep -q 'make deps' "$root/out" || { cat "$root/out"; exit 1; } ;;
  root)
    echo "== as root: make run, make test"
    copy /srv/mp
    inside root 'cd /srv/mp && make run && make test' ;;
  user)
    echo "== as a user with sudo: make run, make test"
    chroot "$root" sh -c 'id somebody >/dev/null 2>&1 || useradd -m somebody; echo "somebody ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/somebody'
    copy /home/somebody/mp
    chroot "$root" chown -R somebody /home/somebody
    inside somebody 'cd ~/mp && make run && make test' ;;
  *) echo "no such step: $step" >&2; exit 2 ;;
  esac
done
echo "== fresh: all of '$steps' passed"
