#!/bin/sh
# Asks for the installed versions of components. Changes nothing.
# Parameters: count, timeout (whole seconds, of each question), c_N_kind, c_N_package, c_N_command (the owner's own question;
# empty: that of the kind). Records: a section for each, named by its number, with the answer as it came.
# Step: assess
# Changes: nothing. The owner's own question is a command of the owner
# Requires: manager_environment, limited
# shellcheck disable=SC2154  # variables of prelude.sh

fp_set_param count
fp_set_param timeout

# shellcheck disable=SC2016  # dpkg-query's $
of_dpkg() { fp_limited "$timeout" dpkg-query -W -f='${db:Status-Status} ${Version}\n' "$1"; } # PACKAGE
of_rpm() { fp_limited "$timeout" rpm -q --qf '%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\n' "$1"; } # PACKAGE
of_snap() { # PACKAGE
  listed=$(fp_limited "$timeout" snap list "$1" 2>&1) || { code=$?; printf '%s\n' "$listed" >&2; return "$code"; }
  printf '%s\n' "$listed" | awk -v name="$1" '$1 == name { print "version " $2 }'
}

question() {
  case $command:$kind in
    ?*:*) fp_limited "$timeout" /bin/sh -c "$command" ;;
    :deb) of_dpkg "$package" ;;
    :rpm) of_rpm "$package" ;;
    :package) if command -v dpkg-query >/dev/null; then of_dpkg "$package"; else of_rpm "$package"; fi ;;
    :snap) of_snap "$package" ;;
    :flatpak) fp_limited "$timeout" flatpak info "$package" ;;
    *) echo "no question is known for components of kind $kind on this system" >&2; return 2 ;;
  esac
}

number=0
while [ "$number" -lt "${count:-0}" ]; do
  for part in kind package command; do
    fp_set_param "c_${number}_$part"
    eval "$part=\$fp_stored"
  done
  fp_section "$number" question
  number=$((number + 1))
done
