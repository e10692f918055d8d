#!/bin/sh
# fleetpatch-broker: runs a script as root if the controller has signed it for this machine, once, and soon.
#
# Input: a line "fleetpatch-broker 1 BYTES SIGNATURE", then that many bytes: the lines "machine NAME", "expires SECONDS"
# and "nonce HEX", and the script. The signature is ECDSA over the SHA-256 of these bytes, in base64. Arguments are
# refused, and nothing of the input is used before its signature is checked.
# Step: connect
# Changes: its own list of the scripts that ran
set -u
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
unset ENV BASH_ENV CDPATH
umask 077
home=/etc/fleetpatch-broker
state=/var/lib/fleetpatch-broker
longest=600

refuse() {
  printf 'fleetpatch-broker: %s\n' "$1" >&2
  exit 1
}

# Each says whether a word has only such characters. An empty one has not.
is_number() { case $1 in "" | *[!0-9]* | ????????????*) return 1 ;; esac }
is_hex() { case $1 in *[!0-9a-f]*) return 1 ;; ????????????????????????????????) ;; *) return 1 ;; esac }
is_base64() { case $1 in "" | *[!A-Za-z0-9+/=]*) return 1 ;; esac }

[ "$#" -eq 0 ] || refuse "it takes no arguments"
[ "$(id -u)" -eq 0 ] || refuse "it must run as root"
command -v openssl >/dev/null 2>&1 || refuse "this machine has no openssl"
read -r word version size signature || refuse "it has no input"
[ "$word $version" = "fleetpatch-broker 1" ] || refuse "the input is not for it"
is_number "$size" || refuse "the input has no size, or is too large"
[ "$size" -le 33554432 ] || refuse "the input has no size, or is too large"
is_base64 "$signature" || refuse "the input has no signature"

work=$(mktemp -d "$state/work.XXXXXXXX") || refuse "it has no place to work in $state"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT PIPE TERM
head -c "$size" >"$work/payload" || refuse "the input can't be stored"
[ "$(wc -c <"$work/payload")" -eq "$size" ] || refuse "the input is not complete"
printf '%s' "$signature" | openssl base64 -d -A >"$work/signature" 2>/dev/null
openssl dgst -sha256 -verify "$home/controller.pem" -signature "$work/signature" "$work/payload" >/dev/null 2>&1 ||
  refuse "the signature is not the controller's"

{
  read -r first machine
  read -r second expires
  read -r third nonce
} <"$work/payload"
[ "$first $second $third" = "machine expires nonce" ] || refuse "what was signed is no script for a broker"
[ "$machine" = "$(cat "$home/machine")" ] || refuse "it was signed for another machine: $machine"
is_number "$expires" || refuse "what was signed has no time"
is_hex "$nonce" || refuse "what was signed has no nonce"
now=$(date +%s)
[ "$now" -le "$expires" ] || refuse "it has expired: compare the clocks of this machine and the controller"
[ "$expires" -le "$((now + longest))" ] || refuse "it is valid for too long: compare the clocks"
mkdir "$state/used/$expires.$nonce" 2>/dev/null || refuse "it was used before"
for used in "$state/used"/*; do # what has expired long ago can't be used again
  name=${used##*/}
  [ "$((${name%%.*} + longest))" -ge "$now" ] || rmdir "$used" 2>/dev/null
done

tail -n +4 "$work/payload" >"$work/script" || refuse "the script can't be stored"
exec 3<"$work/script"
rm -rf "$work"
trap - EXIT
exec /bin/sh -s <&3 3<&-
