# shellcheck shell=sh
# Finds the subvolumes of the machine's system for btrfs_machine.sh, and whether they can be put back. It only reads.
# Its parameter id is that of btrfs_machine.sh.
# Records: system (name, place), data (name, place), failed (why, hint).
# Requires: own_disks
# shellcheck disable=SC2034,SC2154  # used by the script that this is put before; variables of prelude.sh and own_disks.sh

btrfs_remedy="Give the machine another provider."
btrfs_least=268435456 # bytes that must be free, and a twentieth of the file system

btrfs_id() { btrfs inspect-internal rootid "$1" 2>/dev/null </dev/null; } # PATH: the id of its subvolume
btrfs_id_of() { [ ! -d "$1" ] || btrfs_id "$1"; }
btrfs_look() { # PLACE: sets btrfs_source, btrfs_root, btrfs_type and btrfs_options of what is mounted there
  btrfs_row=$(printf '%s\n' "$btrfs_mounts" | awk -v path="$(readlink -f "$1")" '
    $1 == "/" || index(path "/", $1 "/") == 1 { if (length($1) >= size) { size = length($1); row = $2 " " $3 " " $4 " " $5 } }
    END { print row }')
  # shellcheck disable=SC2086  # findmnt writes a space within a name as \x20
  set -- $btrfs_row
  btrfs_source=${1:-} btrfs_root=${2:-} btrfs_type=${3:-} btrfs_options=${4:-}
}
btrfs_is_empty() { [ -z "$(find "$1" -mindepth 1 -maxdepth 1 | head -n 1)" ]; }
btrfs_option() { # NAME OPTIONS: its last value
  btrfs_value=,$2
  case $btrfs_value in *,"$1"=*) ;; *) return 0 ;; esac
  btrfs_value=${btrfs_value##*,"$1"=}
  printf '%s\n' "${btrfs_value%%,*}"
}

btrfs_open() { # mounts the top-level subvolume at btrfs_top
  for btrfs_tool in btrfs findmnt mount umount; do
    command -v "$btrfs_tool" >/dev/null || own_fail "$btrfs_tool is not installed" "Install btrfs-progs and util-linux, or give the machine another provider."
  done
  btrfs_mounts=$(findmnt -rnvo TARGET,SOURCE,FSROOT,FSTYPE,OPTIONS)
  btrfs_look /
  btrfs_device=$btrfs_source
  [ "$btrfs_type" = btrfs ] || own_fail "/ is on ${btrfs_source:-nothing that findmnt knows} (${btrfs_type:-no type}), which is no btrfs" "Give the machine another provider: only what is on btrfs can be put back by it."
  for btrfs_left in /run/fleetpatch-btrfs.*; do # of one that was killed
    [ ! -d "$btrfs_left" ] || [ -d "/proc/${btrfs_left##*.}" ] || { umount "$btrfs_left" 2>/dev/null; rmdir "$btrfs_left"; } 2>/dev/null
  done
  btrfs_top=/run/fleetpatch-btrfs.$$
  own_do mkdir -p "$btrfs_top"
  trap 'rm -rf "$own_folder"; { umount "$btrfs_top" || umount -l "$btrfs_top"; rmdir "$btrfs_top"; } 2>/dev/null' EXIT
  own_do mount -t btrfs -o subvolid=5,noatime "$btrfs_device" "$btrfs_top"
  btrfs_ours=$btrfs_top/.fleetpatch btrfs_dir=$btrfs_top/.fleetpatch/$id
  btrfs_list_all
  btrfs_mounted=$(printf '%s\n' "$btrfs_mounts" | awk -v device="$btrfs_device" '$2 == device { sub(/.*subvolid=/, "", $5); print $5 + 0, $1 }')
  btrfs_default=$(btrfs subvolume get-default "$btrfs_top" </dev/null | sed -n 's/^ID \([0-9]*\).*/\1/p')
}

btrfs_list_all() { # sets btrfs_list, rows ID TOP PATH: each subvolume, the one in which it is, and its path
  btrfs_list=$(btrfs subvolume list "$btrfs_top" </dev/null 2>"$own_folder/said") || own_fail "btrfs subvolume list: $(cat "$own_folder/said")"
  btrfs_list=$(printf '%s\n' "$btrfs_list" | sed -n 's/^ID \([0-9]*\) .* top level \([0-9]*\) path /\1 \2 /p')
}

btrfs_is_mounted() { printf '%s\n' "$btrfs_mounted" | grep -q "^$1 "; } # ID
btrfs_name_of() { # PATH: its name, also while it has changed names with the new one of a revert
  case $1 in
    .fleetpatch/*/*.new)
      btrfs_part=${1##*/} btrfs_from=${1%/*}
      sed -n "s/^${btrfs_part%.new}|\([^|]*\)|.*/\1/p" "$btrfs_top/$btrfs_from/parts" 2>/dev/null ;;
    *) printf '%s\n' "$1" ;;
  esac
}

btrfs_find_system() { # sets btrfs_system, lines ID|PATH|PLACE; the first is that of /
  btrfs_system='' btrfs_ids=' '
  for btrfs_place in / /usr /var /var/lib /var/lib/dpkg /var/lib/rpm /usr/lib/sysimage/rpm /etc; do
    [ -d "$btrfs_place" ] || continue
    btrfs_look "$btrfs_place"
    btrfs_subvolume=$(btrfs_option subvolid "$btrfs_options") btrfs_path=$(btrfs_option subvol "$btrfs_options")
    if [ "$btrfs_type" != btrfs ] || [ "$btrfs_source" != "$btrfs_device" ] || [ -z "$btrfs_subvolume" ]; then
      own_unfit "$btrfs_place is on $btrfs_source, which is not the file system of /" "Give the machine another provider."
      continue
    fi
    case $btrfs_ids in *" $btrfs_subvolume "*) continue ;; esac
    btrfs_ids="$btrfs_ids$btrfs_subvolume "
    btrfs_name=$(btrfs_name_of "${btrfs_path#/}")
    fp_emit system "name=$btrfs_name" "place=$btrfs_place"
    btrfs_system="$btrfs_system$btrfs_subvolume|$btrfs_name|$btrfs_place
"
    btrfs_check_subvolume
  done
  printf '%s\n' "$btrfs_mounted" | while read -r btrfs_number btrfs_target; do
    case $btrfs_ids in *" $btrfs_number "*) continue ;; esac
    btrfs_data=$(printf '%s\n' "$btrfs_list" | sed -n "s/^$btrfs_number [0-9]* //p")
    [ -z "$btrfs_data" ] || fp_emit data "name=$btrfs_data" "place=$btrfs_target"
  done
}

btrfs_check_subvolume() { # of btrfs_subvolume, btrfs_path and btrfs_place
  case $btrfs_path in *[!A-Za-z0-9@._/+:-]*) own_unfit "$btrfs_place is the subvolume $btrfs_path, which has characters that are not expected in a name" "$btrfs_remedy" ;; esac
  [ "$btrfs_subvolume" != 5 ] || own_unfit "$btrfs_place is the top-level subvolume itself, which nothing can be put in the place of" "Move it into a subvolume, or give the machine another provider."
  [ "$btrfs_root" = "$btrfs_path" ] || own_unfit "$btrfs_place is the folder $btrfs_root, and no subvolume" "$btrfs_remedy"
  case ,$btrfs_options, in *,ro,*) own_unfit "$btrfs_place is mounted read-only" "$btrfs_remedy" ;; esac
  [ "$(btrfs property get -ts "$btrfs_top$btrfs_path" ro 2>/dev/null </dev/null)" != ro=true ] || own_unfit "the subvolume $btrfs_path of $btrfs_place is read-only" "$btrfs_remedy"
  # how the next boot finds it: by its name, or / by the default
  btrfs_flags=$(awk -v place="$btrfs_place" '$1 !~ /^#/ && $2 == place { printf ",%s", $4 }' /etc/fstab)
  [ "$btrfs_place" != / ] || btrfs_flags="$btrfs_flags,$(tr ' ' '\n' </proc/cmdline | sed -n 's/^rootflags=//p' | tail -n 1)"
  [ -z "$(btrfs_option subvolid "$btrfs_flags")" ] || own_unfit "$btrfs_place is mounted by the id of its subvolume (subvolid=), and the one that takes its place has another one" "Let it be mounted by its name (subvol=): in /etc/fstab, and for / in the kernel's command line (rootflags=)."
  btrfs_names=$(printf '%s\n' "$btrfs_flags" | tr , '\n' | sed -n 's/^subvol=\/*//p' | sort -u)
  if [ -z "$btrfs_names" ]; then
    { [ "$btrfs_place" = / ] && [ "$btrfs_default" = "$btrfs_subvolume" ]; } || own_unfit "it is not known how $btrfs_place is found at the boot: by no name (subvol= in /etc/fstab, rootflags= of the kernel), and not as the default subvolume" "Let it be mounted by its name."
  elif [ "$btrfs_names" != "$btrfs_name" ]; then own_unfit "$btrfs_place is the subvolume $btrfs_name, and the next boot would mount $(echo "$btrfs_names" | tr '\n' ' ')" "Make it one of them."; fi
  btrfs_find_lost "$btrfs_subvolume" "${btrfs_path#/}"
  [ -z "$btrfs_lost" ] || own_unfit "$btrfs_lost is a subvolume within the one of $btrfs_place: no snapshot would have it, and a revert would lose it" "Let it be a subvolume beside it, with a line of its own in /etc/fstab, or give the machine another provider."
  btrfs_swap=$(awk '$2 == "file" { print $1 }' /proc/swaps)
  for btrfs_file in $btrfs_swap; do
    btrfs_look "$btrfs_file"
    [ "$(btrfs_option subvolid "$btrfs_options")" != "$btrfs_subvolume" ] || own_unfit "$btrfs_file is a swap file in the subvolume of $btrfs_place: no snapshot can be taken of that" "Put it into a subvolume of its own."
  done
}

btrfs_list_in() { printf '%s\n' "$btrfs_list" | awk -v top="$1" '$2 == top { sub(/^[0-9]* [0-9]* /, ""); print }'; } # ID: those right in it

# Subvolumes within one are not in its snapshot. Empty ones, and those for temporary files, are made anew; the folder of
# snapper is taken along. btrfs_find_lost ID PATH: sets btrfs_lost to another one
btrfs_find_lost() {
  btrfs_lost=$(btrfs_list_in "$1" | while IFS= read -r btrfs_inner; do
    case ${btrfs_inner#"$2"/} in
      .snapshots | tmp | var/tmp) ;;
      *) btrfs_is_empty "$btrfs_top/$btrfs_inner" || { printf '%s\n' "$btrfs_inner"; break; } ;;
    esac
  done)
}

btrfs_check_boot() { # sets btrfs_copies: whether /boot is copied
  own_check_boot
  btrfs_copies=$(printf '%s\n' "$btrfs_mounts" | awk '$1 == "/boot"')
  [ -z "$btrfs_copies" ] || return
  # GRUB reads /boot from the subvolume: by its name from the top, or, in openSUSE's, from the default one
  btrfs_name=$(printf '%s' "$btrfs_system" | sed -n '1s/^[0-9]*|\([^|]*\)|.*/\1/p')
  btrfs_kernels=$(cat /boot/grub*/grub.cfg /boot/loader/entries/*.conf 2>/dev/null | sed -n 's/^[[:space:]]*linux[a-z0-9]*[[:space:]]*\(([^)]*)\)*\([^[:space:]]*\).*/\2/p' | sort -u)
  btrfs_other=$(printf '%s\n' "$btrfs_kernels" | awk -v begin="/$btrfs_name/boot/" 'index($0, begin) != 1' | head -n 1)
  if [ -n "$btrfs_kernels" ] && [ -z "$btrfs_other" ]; then return; fi
  if [ -n "$btrfs_kernels" ] && grep -qs '^[[:space:]]*set btrfs_relative_path="\{0,1\}y' /boot/grub*/grub.cfg \
    && [ "$btrfs_default" = "${btrfs_system%%|*}" ]; then return; fi
  own_unfit "/boot is in the subvolume of /, and GRUB's files do not read the kernels there by its name: ${btrfs_other:-they have none}" "Give the machine another provider."
}

btrfs_check_room() {
  btrfs_usage=$(btrfs filesystem usage -b / 2>/dev/null </dev/null)
  btrfs_devices=$(printf '%s\n' "$btrfs_usage" | awk '/^Unallocated:/ { counts = 1; next } counts && NF { n++ } END { print n + 0 }')
  [ "$btrfs_devices" = 1 ] || own_unfit "the file system of / has $btrfs_devices devices: only that with one is put back" "$btrfs_remedy"
  # what is free for data at the least, and for metadata; the size
  btrfs_free=$(printf '%s\n' "$btrfs_usage" | awk '
    function number(text) { gsub(/[^0-9]/, "", text); return text + 0 }
    /Device size:/ { size = $3 } /Device unallocated:/ { raw = $3 } /Metadata ratio:/ { ratio = $3 }
    /Free \(estimated\):/ { sub(/.*min:/, ""); data = number($0) }
    /^Metadata,/ { split($0, part, /[:,]/); meta += number(part[4]) - number(substr(part[6], 1, index(part[6] " (", "(") - 1)) }
    END { printf "%.0f %.0f %.0f", data, meta + (ratio > 0 ? raw / ratio : raw), size / 20 }')
  btrfs_enough=$(printf '%s\n' "$btrfs_free" | awk -v least="$btrfs_least" '{ print ($1 >= least && $1 >= $3 && $2 >= least / 4) ? "yes" : "" }')
  # shellcheck disable=SC2086  # numbers
  [ -n "$btrfs_enough" ] || own_unfit "$(printf '%s %s\n' $btrfs_free | awk '{ printf "the file system of / has %d MiB free for data and %d MiB for metadata", $1 / 1048576, $2 / 1048576 }'): a snapshot needs $((btrfs_least / 1048576)) MiB and a twentieth of its size, and $((btrfs_least / 4194304)) MiB for metadata" "Make room, or balance it: btrfs filesystem usage / shows it."
}
