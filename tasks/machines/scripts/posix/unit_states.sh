#!/bin/sh
# Reports why units of systemd are not active. Parameter: units (list). Records: section "units" (what systemctl shows of
# each, in the order of the list), and words (name, text: the last words of the unit in the log of this boot) for each of
# the first 20. It changes nothing.
# Step: assess
# Changes: nothing
set -f # names of units may contain backslashes and brackets

fp_list=$(fp_param units)
IFS='
'
# shellcheck disable=SC2086  # one name a line
set -- $fp_list
unset IFS
[ "$#" -gt 0 ] || exit 0
fp_section units systemctl show --no-pager -p Id -p LoadState -p ActiveState -p SubState -p Type -p BusName -p Job \
  -p TriggeredBy -p WantedBy -p RequiredBy -p UpheldBy -p ConditionResult -p ConditionTimestampMonotonic \
  -p ActiveEnterTimestampMonotonic -- "$@"
# its own last lines; if it has said nothing, those of systemd
last_words() { # UNIT
  timeout 10 journalctl -q -b -o short --no-pager -n 12 -u "$1" 2>/dev/null | awk '
    / systemd\[1\]: / { manager = 1 }
    { text = $0; sub(/^[A-Z][a-z][a-z] +[0-9]+ [0-9:]+ [^ ]+ [^ ]+: /, "", text) }
    manager { systemd[++m] = text; manager = 0; next }
    { own[++n] = text }
    END {
      for (i = n > 3 ? n - 2 : 1; i <= n; i++) print own[i]
      if (!n) for (i = m > 2 ? m - 1 : 1; i <= m; i++) print systemd[i]
    }' | tail -c 1000
}
number=0
for unit in "$@"; do
  number=$((number + 1))
  [ "$number" -le 20 ] || break
  words=$(last_words "$unit")
  [ -z "$words" ] || fp_emit words "name=$unit" "text=$words"
done
