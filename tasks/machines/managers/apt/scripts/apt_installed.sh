# shellcheck shell=sh
# Reads packages from dpkg's database; an unknown package is no failure. Parameters: packages (list of names).
# Records: state {native}, section "packages": name, architecture, error flag, status and version, separated by tabs.
# Step: validate
# Changes: nothing
# Requires: dpkg_query
# shellcheck disable=SC2154  # variables of the prelude and of dpkg_query.sh

fp_emit state native="$(dpkg --print-architecture)"
fp_set_param packages
# shellcheck disable=SC2016,SC2086  # dpkg's $, not the shell's; names have no blanks and no wildcards
fp_ask_dpkg -W -f '${Package}\t${Architecture}\t${db:Status-Eflag}\t${db:Status-Status}\t${Version}\n' $packages
[ "$fp_asked" -le 1 ] || exit "$fp_asked" # an unreadable database is not an empty one
fp_text_section packages "$fp_found"
