#!/bin/sh
# Finds half changed packages in dpkg's database.
# shellcheck disable=SC2034  # used by the scripts that this is put before

# shellcheck disable=SC2016  # dpkg-query's $
fp_list_states() { fp_who=$(dpkg-query -W -f '${db:Status-Eflag} ${db:Status-Status} ${Package}\n' 2>&1); }
# fp_unfinished: sets fp_obstacle to packages and fp_who to the packages and their states, if there are any
fp_unfinished() {
  # dpkg may just have removed a file of its journal, so it is asked twice. An unreadable database is not an empty one
  if ! fp_list_states && { sleep 1; ! fp_list_states; }; then
    fp_who="dpkg can't read its database: $(printf '%s' "$fp_who" | tr '\n' ' ')"
    fp_obstacle=packages
    return 0
  fi
  case $fp_who in *'reinstreq '* | *' unpacked '* | *' half-'*) ;; *) fp_who=''; return 0 ;; esac
  fp_who=$(printf '%s\n' "$fp_who" | awk '$1 == "reinstreq" || $2 ~ /^(unpacked|half-)/ { count++; if (count <= 3) said = said (said == "" ? "" : ", ") $3 " is " $2 }
      END { if (count > 3) said = said " and " count - 3 " more"; print said }')
  [ -z "$fp_who" ] || fp_obstacle=packages
}
