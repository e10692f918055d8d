#!/bin/sh
# Reports by which names and ids others know this machine and this login, so that they can be replaced in what is given
# away. Record: name (of: host, domain, user, serial or machineid; value). It has no parameters and changes nothing.
# Step: order
# Changes: nothing
# shellcheck disable=SC2154  # variables of prelude.sh

name() { # OF VALUE
  [ -z "$2" ] || fp_emit name "of=$1" "value=$2"
}
content() { # FILE: its first line, or nothing
  { IFS= read -r line <"$1" || :; } 2>/dev/null
  printf '%s' "${line-}"
}

name host "$(uname -n)"
name host "$(content /etc/hostname)"
name domain "$(awk '$1 == "search" || $1 == "domain" { print $2; exit }' /etc/resolv.conf 2>/dev/null)"
name user "$(id -un 2>/dev/null)"
name user "${SUDO_USER-}"
name user "${DOAS_USER-}"
for kind in product_serial board_serial chassis_serial; do name serial "$(content "/sys/class/dmi/id/$kind")"; done
name machineid "$(content /sys/class/dmi/id/product_uuid)"
