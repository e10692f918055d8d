#!/bin/sh
# Reports what the next boot of this machine needs, and what a reboot ends. It changes nothing, and starts few programs.
# Records: fstab (number, line, device: yes, no, or "" if that can't be told), crypt (name, key, options, tokens: what the header of
# the volume says of keys, needed: whether the system's own file system is on it), people (user, program), survey (ignores_devices:
# systemd ignores entries with a device in this container), and section "units": the mounts that systemd sees and the units that were made at run time.
# shellcheck disable=SC2154  # variables of prelude.sh

ignores=false
! awk '$2 == "/sys" { mode = "," $4 "," } END { exit !index(mode, ",ro,") }' /proc/mounts || ignores=true
fp_emit survey "ignores_devices:=$ignores"

has_tag() { # FOLDER TAG VALUE: sets found; a device has a link there, and may be too new for that
  value=${3#[\"\']} value=${value%[\"\']}
  found=yes
  [ ! -e "/dev/disk/$1/$value" ] || return 0
  if command -v blkid >/dev/null; then timeout 20 blkid -t "$2=$value" >/dev/null 2>&1 || found=no; else found=''; fi
}
number=0
if [ -r /etc/fstab ]; then
  while IFS= read -r line || [ -n "$line" ]; do
    number=$((number + 1)) found=''
    set -f
    # shellcheck disable=SC2086  # fields
    set -- $line
    set +f
    case ${1-} in
      '' | '#'*) continue ;;
      UUID=*) has_tag by-uuid UUID "${1#*=}" ;;
      LABEL=*) has_tag by-label LABEL "${1#*=}" ;;
      PARTUUID=*) has_tag by-partuuid PARTUUID "${1#*=}" ;;
      PARTLABEL=*) has_tag by-partlabel PARTLABEL "${1#*=}" ;;
      /dev/*) found=no && [ ! -e "$1" ] || found=yes ;;
    esac
    fp_emit fstab "number:=$number" "line=$line" "device=$found"
  done </etc/fstab
fi

# The encrypted volumes below the system: the names of their mappings.
below_system=''
for file in /sys/block/dm-*/dm/uuid; do
  { IFS= read -r uuid <"$file"; } 2>/dev/null || continue
  case $uuid in CRYPT-*) ;; *) continue ;; esac
  below_system=$(lsblk -nsro TYPE,NAME "$(findmnt -no SOURCE / | sed 's/\[.*//')" 2>/dev/null | awk '$1 == "crypt" { print $2 }')
  break
done
tokens_of() { # DEVICE: sets tokens
  case $1 in UUID=*) set -- "/dev/disk/by-uuid/${1#UUID=}" ;; esac
  tokens=$(timeout 20 cryptsetup luksDump "$1" 2>/dev/null | grep -oE 'clevis|systemd-(tpm2|fido2|pkcs11)' | sort -u | tr '\n' ' ')
}
told=' '
if [ -r /etc/crypttab ]; then
  while read -r name device key options; do
    case $name in '' | '#'*) continue ;; esac
    tokens='' needed=false
    case ${key:-none} in none | - | none,*) tokens_of "$device" ;; esac
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

[ -d /run/systemd/system ] || exit 0
set --
for file in /run/systemd/transient/*.service /run/systemd/transient/*.timer; do [ ! -e "$file" ] || set -- "$@" "${file##*/}"; done
fp_section units systemctl show --no-pager -p Id -p ActiveState -p FragmentPath -p Where -p What -p Type -p ActiveEnterTimestampMonotonic \
  -- default.target '*.mount' "$@"
