#!/bin/sh
# Functions that read dpkg's database for apt's scripts.

# fp_ask_dpkg WORDS…: sets fp_found to what dpkg-query says, and fp_asked to its exit code; it is repeated if it can't read:
# dpkg may have just removed a file of its journal. fp_dpkg_query WORDS… prints it.
fp_ask_dpkg() {
  for fp_try in 1 2 3 4; do
    fp_found=$(dpkg-query "$@"); fp_asked=$?
    [ "$fp_asked" -gt 1 ] && [ "$fp_try" -lt 4 ] || break # 1: no such package
    sleep 1
  done
}
fp_dpkg_query() {
  fp_ask_dpkg "$@"
  [ -z "$fp_found" ] || printf '%s\n' "$fp_found"
  return "$fp_asked"
}

# fp_packages_in STATE…: packages in one of these states; fails if dpkg can't tell. Mostly there are none, and the shell itself sees that
fp_packages_in() {
  # shellcheck disable=SC2016  # dpkg-query's $
  fp_ask_dpkg -W -f '${db:Status-Status} ${Package}:${Architecture}\n'
  [ "$fp_asked" -le 1 ] || return "$fp_asked"
  for fp_state in "$@"; do
    # shellcheck disable=SC2154  # of the prelude
    case $fp_newline$fp_found in *"$fp_newline$fp_state "*)
      printf '%s\n' "$fp_found" | awk -v states=" $* " 'index(states, " " $1 " ") { print $2 }'
      return ;;
    esac
  done
  return 0
}

# fp_new_packages NAME…: those that dpkg does not know, or of which it has at most the configuration of one architecture. Of
# two, or in any other state, it may be the administrator's choice. Fails if dpkg can't tell
fp_new_packages() {
  # shellcheck disable=SC2016  # dpkg-query's $
  fp_ask_dpkg -W -f '${Package} ${Package}:${Architecture} ${db:Status-Status}\n' "$@"
  [ "$fp_asked" -le 1 ] || return "$fp_asked"
  printf '%s\n' "$@" = "$fp_found" | awk '
    !listed && $0 == "=" { listed = 1; next }
    !listed { if (!($0 in count)) { name[++names] = $0; count[$0] = 0 } next }
    { for (i = 1; i <= 2; i++) if ($i in count) { count[$i]++; if ($3 != "not-installed" && $3 != "config-files") kept[$i] } }
    END { for (n = 1; n <= names; n++) if (count[name[n]] <= 1 && !(name[n] in kept)) print name[n] }'
}

# fp_depending_on FILE: those of the packages in stdin that depend on one whose name is in the file, or on each other
# shellcheck disable=SC2016  # dpkg-query's $
fp_depending_on() {
  while IFS= read -r fp_name; do
    printf '%s\t%s\n' "$fp_name" "$(fp_dpkg_query -W -f '${Pre-Depends}, ${Depends}\n' "$fp_name" | head -n 1)"
  done | awk -F '\t' '
    FILENAME == ARGV[1] { sub(/:.*/, ""); ready[$0]; next }
    { count = split($2, words, /[,|] */); left++; name[left] = $1
      for (i = 1; i <= count; i++) { sub(/[ :(].*/, "", words[i]); needs[left] = needs[left] " " words[i] } }
    END {
      do { more = 0
        for (n in name) {
          count = split(needs[n], words, " ")
          for (i = 1; i <= count; i++) if (words[i] in ready) { more = 1; break }
          if (i > count) continue
          print name[n]; short = name[n]; sub(/:.*/, "", short); ready[short]; delete name[n]
        }
      } while (more)
    }' "$1" -
}
