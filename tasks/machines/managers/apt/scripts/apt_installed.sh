# shellcheck shell=sh
# Reads packages from dpkg's database; an unknown package is no failure. Parameters: packages (list of names).
# Records: state {native}, section "packages": name, architecture, error flag, status and version, separated by tabs.
# Requires: dpkg_query

fp_emit state native="$(dpkg --print-architecture)"
# shellcheck disable=SC2046,SC2016  # names have no blanks and no wildcards; dpkg's $, not the shell's
packages=$(fp_dpkg_query -W -f '${Package}\t${Architecture}\t${db:Status-Eflag}\t${db:Status-Status}\t${Version}\n' $(fp_param packages)); code=$?
[ "$code" -le 1 ] || exit "$code" # an unreadable database is not an empty one
fp_section packages printf '%s\n' "$packages"
