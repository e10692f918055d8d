# shellcheck shell=sh
# Reads the installed kernel packages, and which packages apt would remove as unused. Changes nothing.
# Records: state {native, kernel}, sections "packages" (as in apt_installed.sh), "automatic" (names that were not
# installed by a person) and "unused" (the simulation of apt's autoremove).
# Step: validate
# Changes: nothing
# Requires: manager_environment, apt_options, dpkg_query
# shellcheck disable=SC2154  # variables of dpkg_query.sh

fp_emit state native="$(dpkg --print-architecture)" kernel="$(uname -r)"
# shellcheck disable=SC2016  # dpkg's $, not the shell's
fp_ask_dpkg -W -f '${Package}\t${Architecture}\t${db:Status-Eflag}\t${db:Status-Status}\t${Version}\n' 'linux-image-*' 'linux-modules-*'
[ "$fp_asked" -le 1 ] || exit "$fp_asked" # an unreadable database is not an empty one
fp_text_section packages "$fp_found"
fp_section automatic apt-mark showauto
fp_section unused fp_apt_get -s autoremove
exit 0
