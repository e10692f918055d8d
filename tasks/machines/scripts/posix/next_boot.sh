#!/bin/sh
# Reports what the next boot of this machine needs, and what a reboot ends. It starts few programs.
# Records: fstab (number, line, device: yes, no, unknown, or "" if it names none), crypt (name, key, options, tokens: what opens the
# volume without a person, as its header and clevis say, needed: whether the system's own file system is on it; key unread: crypttab
# can't be read, options: why), automount (where: others mount below it), people (user, program), section "units" (under systemd: the
# mounts that it sees and the units that were made at run time), and at the end survey (ignores_devices: systemd ignores entries with
# a device in this container, fstab_is_proven: this boot has read fstab as it is).
# Step: precheck
# Changes: nothing
# Requires: limited
# shellcheck disable=SC2154  # variables of prelude.sh

[ ! -e /etc/fstab ] || cat /etc/fstab >/dev/null || exit 1
[ ! -e /etc/crypttab ] || fault=$(cat /etc/crypttab 2>&1 >/dev/null) ||
  fp_emit crypt name=/etc/crypttab key=unread "options=$fault" tokens= needed:=true

read_source() { # SOURCE of fstab or crypttab: sets tag ("" for a path), value, and path: the device or the link to it
  tag=${1%%=*} value=${1#*=}
  case $tag in
    UUID | LABEL | PARTUUID | PARTLABEL) ;;
    *) tag='' value=$1 ;;
  esac
  value=${value#[\"\']} value=${value%[\"\']}
  case $value in *\\[0-7][0-7][0-7]*) value=$(printf %b "$(printf %s "$value" | sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g')") ;; esac
  case $tag in
    '') path=$value ;;
    UUID) path=/dev/disk/by-uuid/$value ;;
    LABEL) path=/dev/disk/by-label/$value ;;
    PARTUUID) path=/dev/disk/by-partuuid/$value ;;
    PARTLABEL) path=/dev/disk/by-partlabel/$value ;;
  esac
}
find_device() { # SOURCE: sets found; a device may be too new for its link, and a name with blanks has another link
  read_source "$1"
  found=yes
  [ ! -e "$path" ] || return 0
  if [ -z "$tag" ]; then found=no; return; fi
  code=0
  fp_limited 20 blkid -t "$tag=$value" >/dev/null 2>&1 || code=$?
  case $code in 0) ;; 2) found=no ;; *) found=unknown ;; esac
}
number=0 proven=false
if [ -e /etc/fstab ]; then
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1)) found=''
    set -f
    # shellcheck disable=SC2086  # fields
    set -- $line
    set +f
    case ${1-} in
      '' | '#'*) continue ;;
      UUID=* | LABEL=* | PARTUUID=* | PARTLABEL=* | /dev/*) find_device "$1" ;;
    esac
    fp_emit fstab "number:=$number" "line=$line" "device=$found"
  done </etc/fstab
  fp_read_boot
  begun=$(awk '$1 == "btime" { print $2 }' /proc/stat) changed=$(stat -c %Z /etc/fstab 2>/dev/null) || :
  case $begun:$changed in :* | *: | *[!0-9:]*) ;; *) [ "$changed" -ge "$((begun + ${fp_first:-0} / 100))" ] || proven=true ;; esac
fi

# The encrypted volumes below the system: the names of their mappings.
below_system=''
for file in /sys/block/dm-*/dm/uuid; do
  { IFS= read -r uuid <"$file"; } 2>/dev/null || continue
  case $uuid in CRYPT-*) ;; *) continue ;; esac
  below_system=$(lsblk -nsro TYPE,NAME "$(findmnt -no SOURCE / | sed 's/\[.*//')" 2>/dev/null | awk '$1 == "crypt" { print $2 }')
  break
done
tokens_of() { # SOURCE: sets tokens; a key in the TPM that wants a PIN, or whose PIN can't be told, is tpm2-pin
  tokens=''
  read_source "$1"
  for token in $(fp_limited 20 cryptsetup luksDump "$path" 2>/dev/null | awk '$1 ~ /^[0-9]+:$/ && $2 ~ /^(clevis|systemd-)/ { print $1 $2 }'); do
    kind=${token#*:}
    if [ "$kind" = systemd-tpm2 ]; then
      shown=$(fp_limited 20 cryptsetup token export --token-id "${token%%:*}" "$path" 2>/dev/null | tr -d ' \t\n')
      case $shown in '' | *'"tpm2-pin":true'*) kind=tpm2-pin ;; esac
    fi
    tokens="$tokens$kind "
  done
  # LUKS1 has no tokens: clevis stores its keys elsewhere
  if command -v clevis >/dev/null && [ -n "$(fp_limited 20 clevis luks list -d "$path" 2>/dev/null)" ]; then tokens="${tokens}clevis "; fi
}
told=' '
if [ -e /etc/crypttab ]; then
  while read -r name device key options; do
    case $name in '' | '#'*) continue ;; esac
    tokens='' needed=false
    case ${key:-none} in none | -)
      for folder in /etc/cryptsetup-keys.d /run/cryptsetup-keys.d; do [ ! -e "$folder/$name.key" ] || key=$folder/$name.key; done
    esac
    case ${key:-none} in
      none | -) tokens_of "$device" ;;
      *[\\:]*) ;; # on another device, or with escaped characters
      /*) [ -e "$key" ] || key=missing:$key ;;
    esac
    case $fp_newline$below_system$fp_newline in *"$fp_newline$name$fp_newline"*) needed=true ;; esac
    told="$told$name "
    fp_emit crypt "name=$name" "key=$key" "options=$options" "tokens=$tokens" "needed:=$needed"
  done </etc/crypttab
fi
for name in $below_system; do # opened by the initramfs alone
  case $told in *" $name "*) continue ;; esac
  tokens_of "$(cryptsetup status "$name" 2>/dev/null | awk '$1 == "device:" { print $2 }')"
  fp_emit crypt "name=$name" key= options= "tokens=$tokens" needed:=true
done

# What people have left running: terminals that outlive their login, and programs that ignore the end of it.
# shellcheck disable=SC2016  # awk's $
set -- /proc/[0-9]*
awk 'BEGIN {
  for (i = 1; i < ARGC; i++) {
    name = parent = uid = ignored = ""
    while ((getline line <(ARGV[i] "/status")) > 0) {
      split(line, part, /[\t ]+/); rest = line; sub(/^[^\t]*\t/, "", rest)
      if (part[1] == "Name:") name = rest; else if (part[1] == "PPid:") parent = part[2]
      else if (part[1] == "Uid:") uid = part[2]; else if (part[1] == "SigIgn:") { ignored = part[2]; break }
    }
    close(ARGV[i] "/status")
    keeps = name ~ /^(tmux: server|screen|SCREEN|dtach|zellij|abduco|mosh-server)$/
    if (!keeps && (parent != 1 || ignored !~ /[13579bdf]$/)) continue
    group = ""
    while ((getline line <(ARGV[i] "/cgroup")) > 0) group = group line
    close(ARGV[i] "/cgroup")
    if (keeps || group ~ /\/session-[^\/]*\.scope|\/sshd?\.service/) print uid, name
  } }' "$@" 2>/dev/null | sort | uniq | head -n 20 | while read -r uid program; do
  user=$(id -nu "$uid" 2>/dev/null) || user=$uid
  fp_emit people "user=$user" "program=$program"
done

# Where others mount for whom comes by: an automounter, and pam_mount at a login.
awk '{ for (i = 7; i < NF; i++) if ($i == "-") { if ($(i + 1) == "autofs") print $5; break } }' /proc/self/mountinfo | while read -r where; do
  fp_emit automount "where=$where"
done
! grep -q '<volume' /etc/security/pam_mount.conf.xml 2>/dev/null || fp_emit automount where=/home

if [ -d /run/systemd/system ]; then
  set --
  for file in /run/systemd/transient/*.service /run/systemd/transient/*.timer; do [ ! -e "$file" ] || set -- "$@" "${file##*/}"; done
  fp_section units fp_limited 60 systemctl show --no-pager -p Id -p ActiveState -p FragmentPath -p Where -p What -p Type \
    -p ActiveEnterTimestampMonotonic -- basic.target multi-user.target default.target '*.mount' "$@"
fi

# The last: an answer without it is not whole.
ignores=false
! awk '$2 == "/sys" { mode = "," $4 "," } END { exit !index(mode, ",ro,") }' /proc/mounts || ignores=true
fp_emit survey "ignores_devices:=$ignores" "fstab_is_proven:=$proven"
exit 0
