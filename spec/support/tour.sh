#!/bin/sh
# tour.sh MPRUN -- runs the scripts one after the other, each under a heading: its name and the first line of its comment.
# scripts/tour.txt, if there is one, lists names in order (# begins a comment); otherwise all, by name.
set -u
mprun=$1
if [ -f scripts/tour.txt ]; then list=$(sed 's/#.*//; s/[ \t].*//; /^$/d' scripts/tour.txt)
else list=$(for f in scripts/*.lua; do [ -f "$f" ] && basename "$f" .lua; done); fi
[ -n "$list" ] || { echo "no scripts yet"; exit 0; }
failed=
for name in $list; do
  f=scripts/${name%.lua}.lua
  about=$(sed -n '/^#!/d; s/^--*[ \t]*//p' "$f" | head -n 1)
  printf '\n=== %s: %s\n' "${name%.lua}" "$about"
  timeout --foreground --kill-after=5 60 "$mprun" "$f" || { echo "($f: status $?)"; failed="$failed $name"; }
done
[ -z "$failed" ] || { echo; echo "failed:$failed"; exit 1; }
