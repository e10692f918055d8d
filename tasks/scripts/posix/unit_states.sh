#!/bin/sh
# Reports why units of systemd are not active. Parameter: units (list). Records: section "units" (what systemctl shows of
# each, in the order of the list), and words (name, text: the last words of the unit in the log of this boot) for each of
# the first 20. It changes nothing.
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
number=0
for unit in "$@"; do
  number=$((number + 1))
  [ "$number" -le 20 ] || break
  words=$(timeout 10 journalctl -q -b -o cat --no-pager -n 4 -u "$unit" 2>/dev/null | tail -c 1000)
  [ -z "$words" ] || fp_emit words "name=$unit" "text=$words"
done
