# layers.awk FILES... -- an include points into its own floor or down; no Lua header below bind, none in host.
BEGIN {
  n = split("base=1 shm=2 wire=2 sandbox=3 proc=4 pool=5 net=5 bind=6 host=7 main=8", list, " ")
  for (i = 1; i <= n; i++) { split(list[i], p, "="); rank[p[1]] = p[2] }
}
function complain(why) { printf "%s:%d: %s\n", FILENAME, FNR, why; bad = 1 }
FNR == 1 {
  n = split(FILENAME, parts, "/")
  floor = n >= 3 ? parts[n - 1] : ""        # runtime/mp.h has none
  is_test = FILENAME ~ /_test\.c$/ || floor == "test"
}
/^[ \t]*#[ \t]*include[ \t]/ {
  name = $0
  sub(/^[ \t]*#[ \t]*include[ \t]*/, "", name)
  sub(/["<>][^">]*$/, "", name); sub(/^["<]/, "", name)
  if (name ~ /^(lua|lauxlib|lualib|luaconf)\.h(pp)?$/) {
    if (floor != "bind" && floor != "main" && FILENAME !~ /\/mplua\.h$/) complain("a Lua header outside bind and main: " name)
    next
  }
  if (name == "mplua.h") {
    if (floor != "bind" && floor != "main") complain("mplua.h outside bind and main")
    next
  }
  if (name == "mp.h") next
  if (name !~ /\// || $0 !~ /"/) {
    if ($0 ~ /"/) complain("an include shows its floor: \"floor/" name "\"")
    next
  }
  split(name, q, "/")
  to = q[1]
  if (to == "test") { if (!is_test) complain("only tests include " name); next }
  if (floor == "") complain("a public header includes nothing of a floor: " name)
  else if (!(to in rank)) complain("no such floor: " name)
  else if (floor == "test") { if (to != "base") complain("the harness knows base only: " name) }
  else if (floor == "fuzz" || to == floor) next
  else if (!(floor in rank)) complain("no such floor: " floor)
  else if (floor == "host" && to == "bind") complain("host knows no Lua: " name)
  else if (rank[to] >= rank[floor]) complain("an include that does not point down: " name)
}
END { exit bad }
