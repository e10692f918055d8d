# shellcheck shell=sh
# Reads the installed kernel packages, and which packages apt would remove as unused. Changes nothing.
# Records: state {native, kernel}, sections "packages" (as in apt_installed.sh), "automatic" (names that were not
# installed by a person) and "unused" (the simulation of apt's autoremove).
# Requires: manager_environment, apt_options, dpkg_query

fp_emit state native="$(dpkg --print-architecture)" kernel="$(uname -r)"
# shellcheck disable=SC2016  # dpkg's $, not the shell's
packages=$(fp_dpkg_query -W -f '${Package}\t${Architecture}\t${db:Status-Eflag}\t${db:Status-Status}\t${Version}\n' 'linux-image-*' 'linux-modules-*'); code=$?
[ "$code" -le 1 ] || exit "$code" # an unreadable database is not an empty one
fp_section packages printf '%s\n' "$packages"
fp_section automatic apt-mark showauto
fp_section unused fp_apt_get -s --purge autoremove
exit 0
