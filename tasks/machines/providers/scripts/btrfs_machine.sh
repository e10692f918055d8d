# shellcheck shell=sh
# Reads the subvolumes of the machine on which it runs, or takes, reverts to or deletes a snapshot of its system: of the
# subvolume of /, and of those of /usr, /var and the like, if they have some of their own.
# All of ours is in the folder .fleetpatch/ID of the top-level subvolume, which is mounted only while this works:
#   1, 2, …             the snapshots, read-only; 1 is that of /
#   parts               a line N|PATH|PLACE for each: the subvolume and where it is mounted
#   copy.tar, copy      a copy of /boot, and BYTES+SHA256 of it, if /boot is a file system of its own
#   taken               when; it is there as soon as all is
#   1.new, 2.new, …     writable snapshots of 1, 2, …, and what ran before as soon as they have changed names with it
#   reverting           from before that to the end of a revert: lines N OLD NEW, the ids of both subvolumes
# .fleetpatch/reverted has the ID of the last snapshot that was reverted to.
# Parameters: work (read, take, revert or delete), id.
# Records: boot (id), system (name, place), data (name, place), snapshot (id, taken, parts: names, whole), foreign (name),
# unfit (why, hint: no snapshot can be taken now), note (text), rebooting, failed (why, hint), and ended behind the last one.
# Step: provider
# Changes: snapshots of the system; a revert exchanges its subvolumes
# Requires: own_disks, btrfs_subvolumes
# shellcheck disable=SC2154  # variables of prelude.sh, own_disks.sh and btrfs_subvolumes.sh

for variable in work id; do fp_set_param "$variable"; done
btrfs_find_exchanger() { # how two names are exchanged at once: sets btrfs_exchanger
  btrfs_exchanger='' btrfs_python=''
  for btrfs_tool in python3 /usr/libexec/platform-python; do
    if [ -z "$btrfs_python" ] && command -v "$btrfs_tool" >/dev/null; then btrfs_python=$btrfs_tool; fi
  done
  case $(uname -m) in
    x86_64) btrfs_number=316 ;;
    aarch64 | riscv64) btrfs_number=276 ;;
    ppc64le) btrfs_number=357 ;;
    s390x) btrfs_number=347 ;;
    *) btrfs_number='' ;;
  esac
  if mv --help 2>/dev/null | grep -q -- --exchange; then btrfs_exchanger="mv"
  elif [ -n "$btrfs_python" ]; then btrfs_exchanger=python
  elif [ -n "$btrfs_number" ] && command -v perl >/dev/null; then btrfs_exchanger=perl; fi
}

btrfs_exchange() { # PATH PATH: so that there is no moment without a subvolume of that name
  # shellcheck disable=SC2016  # perl's $
  case $btrfs_exchanger in
    mv) own_do mv --exchange -T "$1" "$2" ;;
    python) own_do "$btrfs_python" -c 'import ctypes, os, sys
c = ctypes.CDLL(None, use_errno=True)
a, b = map(os.fsencode, sys.argv[1:])
sys.exit(c.renameat2(-100, a, -100, b, 2) and os.strerror(ctypes.get_errno()))' "$1" "$2" ;;
    perl) own_do perl -e 'syscall($ARGV[0] + 0, -100, $ARGV[1], -100, $ARGV[2], 2) == 0 or die "$!\n"' "$btrfs_number" "$1" "$2" ;;
    *) own_fail "nothing on the machine can exchange two names at once: mv of coreutils 9.5, python3 or perl" "Install one of them." ;;
  esac
}

btrfs_write() { # FILE: what is on stdin, at once
  { cat >"$btrfs_dir/.write" && mv -f "$btrfs_dir/.write" "$btrfs_dir/$1"; } || own_fail "$btrfs_dir/$1 can't be written"
}
btrfs_sync() { own_do btrfs filesystem sync "$btrfs_top"; }

btrfs_remove() { # PATH: a subvolume with those in it, unless it is mounted: btrfs itself would delete it
  [ -d "$1" ] || return 0
  btrfs_gone=$(btrfs_id "$1")
  [ "$(stat -c %i "$1")" = 256 ] || own_fail "$1 is no subvolume" "Look at it, and remove it."
  ! btrfs_is_mounted "$btrfs_gone" || own_fail "$1 is mounted, so it is not deleted" "Boot the machine, and order it again."
  btrfs_list_all # names may have changed since
  btrfs_list_in "$btrfs_gone" >"$own_folder/inner"
  while IFS= read -r btrfs_inner <&5; do
    ! btrfs_is_mounted "$(btrfs_id "$btrfs_top/$btrfs_inner")" || own_fail "$btrfs_inner is mounted, so it is not deleted" "Unmount it, and order it again."
    own_do btrfs subvolume delete "$btrfs_top/$btrfs_inner"
  done 5<"$own_folder/inner"
  own_do btrfs subvolume delete "$1"
}

btrfs_remove_ours() { # what is in the folder of this order; it is no snapshot any more from the beginning
  [ -d "$btrfs_dir" ] || return 0
  rm -f "$btrfs_dir/taken"
  for btrfs_path in "$btrfs_dir"/*[0-9] "$btrfs_dir"/*.new; do btrfs_remove "$btrfs_path"; done
  rm -f "$btrfs_dir/parts" "$btrfs_dir/copy.tar" "$btrfs_dir/copy" "$btrfs_dir/.write"
  rm -rf "$btrfs_dir/try"
  rm -f "$btrfs_dir/reverting"
  own_do rmdir "$btrfs_dir"
  btrfs_sync
}

btrfs_take() {
  if [ -f "$btrfs_dir/taken" ]; then fp_emit note 'text=it was taken before'; return; fi
  btrfs_require_others_ended
  [ -z "$own_why" ] || own_fail "$own_why" "$own_hint"
  btrfs_remove_ours # of an order that was interrupted
  own_do mkdir -p -m 700 "$btrfs_ours" "$btrfs_dir"
  [ "$(cat "$btrfs_ours/reverted" 2>/dev/null)" != "$id" ] || rm -f "$btrfs_ours/reverted"
  own_do mkdir -p "$btrfs_dir/try/a/b" "$btrfs_dir/try/c"
  btrfs_exchange "$btrfs_dir/try/a" "$btrfs_dir/try/c"
  [ -d "$btrfs_dir/try/c/b" ] || own_fail "an exchange of two names has no effect there" "$btrfs_remedy"
  rm -rf "$btrfs_dir/try"
  if [ -n "$btrfs_copies" ]; then
    own_list_boot
    own_copy_boot "$btrfs_dir/copy.tar"
    echo "$own_copied" | btrfs_write copy
  fi
  printf '%s' "$btrfs_system" | awk -F '|' '{ print NR "|" $2 "|" $3 }' | btrfs_write parts
  while IFS='|' read -r btrfs_part btrfs_path btrfs_place <&5; do
    own_do btrfs subvolume snapshot -r "$btrfs_top/$btrfs_path" "$btrfs_dir/$btrfs_part"
  done 5<"$btrfs_dir/parts"
  btrfs_sync
  date +%s | btrfs_write taken
  btrfs_sync
}

btrfs_each_part() { # FUNCTION: for each of its parts, that of / last
  sort -rn "$btrfs_dir/parts" >"$own_folder/parts"
  while IFS='|' read -r btrfs_part btrfs_path btrfs_place <&5; do
    btrfs_old=$(sed -n "s/^$btrfs_part \([0-9]*\) [0-9]*$/\1/p" "$btrfs_dir/reverting" 2>/dev/null)
    btrfs_new=$(sed -n "s/^$btrfs_part [0-9]* \([0-9]*\)$/\1/p" "$btrfs_dir/reverting" 2>/dev/null)
    "$1"
  done 5<"$own_folder/parts"
}

btrfs_count_state() {
  btrfs_look "$btrfs_place"
  btrfs_parts=$((btrfs_parts + 1))
  [ "$(btrfs_id_of "$btrfs_top/$btrfs_path")" != "$btrfs_new" ] || btrfs_exchanged=$((btrfs_exchanged + 1))
  [ "$(btrfs_option subvolid "$btrfs_options")" != "$btrfs_new" ] || btrfs_running=$((btrfs_running + 1))
}

btrfs_find_state() { # of a revert: sets btrfs_state. What a machine runs with has an id that only a boot changes
  btrfs_parts=0 btrfs_exchanged=0 btrfs_running=0 btrfs_state=none
  [ -f "$btrfs_dir/reverting" ] || return 0
  btrfs_each_part btrfs_count_state
  case $btrfs_running in
    "$btrfs_parts") btrfs_state=booted ;;
    0) if [ "$btrfs_exchanged" = 0 ]; then btrfs_state=begun; else btrfs_state=exchanged; fi ;;
    *) btrfs_state=mixed ;; # the power was cut between two of them
  esac
}

btrfs_require_others_ended() {
  for btrfs_file in "$btrfs_ours"/*/reverting; do
    [ ! -f "$btrfs_file" ] || [ "$btrfs_file" = "$btrfs_dir/reverting" ] || own_fail "a revert to $(basename "${btrfs_file%/reverting}") has begun" "Order that one again: it is completed."
  done
}

btrfs_revert() {
  btrfs_require_others_ended
  if [ ! -f "$btrfs_dir/taken" ] && [ "$(cat "$btrfs_ours/reverted" 2>/dev/null)" = "$id" ]; then
    btrfs_remove_ours
    fp_emit note 'text=it was reverted before'
    return
  fi
  [ -f "$btrfs_dir/taken" ] || own_fail "there is no whole snapshot $id" "The folder .fleetpatch of the top-level subvolume shows what is there."
  btrfs_find_state
  case $btrfs_state in
    booted) btrfs_finish; return ;;
    none | mixed) btrfs_prepare ;;
  esac
  [ ! -f "$btrfs_dir/copy" ] || own_put_boot_back "$btrfs_dir/copy.tar" "$(cat "$btrfs_dir/copy")"
  btrfs_each_part btrfs_put_in_place
  btrfs_sync
  own_reboot
}

btrfs_prepare() { # makes the new ones, and writes down that the revert begins
  rm -f "$btrfs_dir/reverting"
  : >"$own_folder/reverting"
  btrfs_each_part btrfs_make_new
  btrfs_sync
  btrfs_write reverting <"$own_folder/reverting"
  btrfs_sync
}

btrfs_make_new() {
  btrfs_look "$btrfs_place"
  btrfs_old=$(btrfs_option subvolid "$btrfs_options")
  if [ "$(btrfs_id_of "$btrfs_dir/$btrfs_part.new")" = "$btrfs_old" ]; then
    btrfs_exchange "$btrfs_dir/$btrfs_part.new" "$btrfs_top/$btrfs_path"
    btrfs_list_all
  fi
  [ "$(btrfs_id_of "$btrfs_top/$btrfs_path")" = "$btrfs_old" ] || own_fail "$btrfs_place is not the subvolume $btrfs_path, of which the snapshot $id is, but $btrfs_root" "Put the machine back by hand: the snapshot is .fleetpatch/$id/$btrfs_part of the top-level subvolume."
  btrfs_find_lost "$btrfs_old" "$btrfs_path"
  [ -z "$btrfs_lost" ] || own_fail "$btrfs_lost is a subvolume within the one of $btrfs_place, and a revert would lose it" "Move it away, and order it again."
  btrfs_target=$btrfs_dir/$btrfs_part.new
  btrfs_remove "$btrfs_target"
  own_do btrfs subvolume snapshot "$btrfs_dir/$btrfs_part" "$btrfs_target"
  # in the place of a subvolume a snapshot has a folder into which nothing can be written
  btrfs_list_in "$btrfs_old" >"$own_folder/inner"
  while IFS= read -r btrfs_inner <&6; do
    btrfs_stub=$btrfs_target/${btrfs_inner#"$btrfs_path"/}
    [ -d "$btrfs_stub" ] && [ "$(stat -c %i "$btrfs_stub")" = 2 ] || continue
    own_do rmdir "$btrfs_stub"
    own_do btrfs subvolume create "$btrfs_stub"
    own_do chmod --reference="$btrfs_top/$btrfs_inner" "$btrfs_stub"
    own_do chown --reference="$btrfs_top/$btrfs_inner" "$btrfs_stub"
  done 6<"$own_folder/inner"
  if [ "$btrfs_part" = 1 ] && [ ! -f "$btrfs_dir/copy" ]; then # GRUB's modules fit its code before the partitions, which stays
    for btrfs_modules in /boot/grub*/*-*/; do
      btrfs_modules=${btrfs_modules%/}
      { [ -d "$btrfs_modules" ] && [ -d "$btrfs_target${btrfs_modules%/*}" ]; } || continue
      rm -rf "${btrfs_target:?}$btrfs_modules"
      own_do cp -a "$btrfs_modules" "$btrfs_target$btrfs_modules"
    done
  fi
  echo "$btrfs_part $btrfs_old $(btrfs_id "$btrfs_target")" >>"$own_folder/reverting"
}

btrfs_put_in_place() {
  btrfs_now=$(btrfs_id_of "$btrfs_top/$btrfs_path")
  if [ "$btrfs_now" != "$btrfs_new" ]; then
    { [ "$btrfs_now" = "$btrfs_old" ] && [ "$(btrfs_id_of "$btrfs_dir/$btrfs_part.new")" = "$btrfs_new" ]; } \
      || own_fail "somebody else has changed the subvolume $btrfs_path: it has the id ${btrfs_now:-of none}" "Put the machine back by hand: the snapshot is .fleetpatch/$id/$btrfs_part of the top-level subvolume."
    btrfs_exchange "$btrfs_dir/$btrfs_part.new" "$btrfs_top/$btrfs_path"
    [ "$(btrfs_id_of "$btrfs_top/$btrfs_path")" = "$btrfs_new" ] || own_fail "the exchange of $btrfs_path had no effect" "Order it again."
  fi
  [ "$btrfs_default" != "$btrfs_old" ] || own_do btrfs subvolume set-default "$btrfs_new" "$btrfs_top"
}

btrfs_finish() { # after the boot
  btrfs_each_part btrfs_keep_snapshots
  btrfs_list_all
  btrfs_each_part btrfs_check_old
  { echo "$id" >"$btrfs_ours/.reverted" && mv -f "$btrfs_ours/.reverted" "$btrfs_ours/reverted"; } || own_fail "$btrfs_ours can't be written"
  btrfs_sync
  btrfs_remove_ours
}

btrfs_keep_snapshots() { # the folder of snapper is within the one that ran before
  btrfs_inner=$btrfs_dir/$btrfs_part.new/.snapshots btrfs_stub=$btrfs_top/$btrfs_path/.snapshots
  { [ -d "$btrfs_inner" ] && [ "$(stat -c %i "$btrfs_inner")" = 256 ]; } || return 0
  if [ -d "$btrfs_stub" ] && [ "$(stat -c %i "$btrfs_stub")" = 256 ] && btrfs_is_empty "$btrfs_stub"; then own_do btrfs subvolume delete "$btrfs_stub"; fi
  [ ! -d "$btrfs_stub" ] || own_do rmdir "$btrfs_stub"
  own_do mv -T "$btrfs_inner" "$btrfs_stub"
}

btrfs_check_old() { # what came into it after the revert had begun is not lost
  btrfs_find_lost "$btrfs_old" ".fleetpatch/$id/$btrfs_part.new"
  [ -z "$btrfs_lost" ] || own_fail "the machine was put back, but $btrfs_lost is a subvolume that would be lost with the one that ran before" "Move it away, and order it again."
}

btrfs_delete() {
  btrfs_find_state
  case $btrfs_state in
    none | begun) btrfs_remove_ours ;;
    booted) btrfs_finish ;;
    *) own_fail "the revert to $id has begun, and the machine has not booted since" "Order it again: it is completed." ;;
  esac
}

btrfs_tell() { # the snapshots
  for btrfs_file in "$btrfs_ours"/*/; do
    btrfs_file=${btrfs_file%/}
    [ -d "$btrfs_file" ] || continue
    btrfs_whole=yes btrfs_names=''
    while IFS='|' read -r btrfs_part btrfs_path btrfs_place; do
      btrfs_names="$btrfs_names${btrfs_names:+ }$btrfs_path"
      [ -n "$(btrfs_id_of "$btrfs_file/$btrfs_part")" ] || btrfs_whole=''
    done 2>/dev/null <"$btrfs_file/parts"
    fp_emit snapshot "id=${btrfs_file##*/}" "taken=$(cat "$btrfs_file/taken" 2>/dev/null)" "parts=$btrfs_names" "whole=$btrfs_whole"
  done
  btrfs subvolume list -s "$btrfs_top" </dev/null | sed -n 's/^ID \([0-9]*\) .* path /\1 /p' | while read -r btrfs_number btrfs_foreign; do
    case $btrfs_foreign in .fleetpatch/*) continue ;; esac
    btrfs_is_mounted "$btrfs_number" || fp_emit foreign "name=$btrfs_foreign"
  done
}

own_begin "$work"
btrfs_open
fp_emit boot "id=$own_boot"
btrfs_find_system
btrfs_find_exchanger
case $work in read | take)
  btrfs_check_boot
  btrfs_check_room
  [ -n "$btrfs_exchanger" ] || own_unfit "nothing on the machine can exchange two names at once: mv of coreutils 9.5, python3 or perl" "Install one of them." ;;
esac
case $work in
  read) btrfs_tell; [ -z "$own_why" ] || fp_emit unfit "why=$own_why" "hint=$own_hint" ;;
  take) btrfs_take ;;
  revert) btrfs_revert ;;
  delete) btrfs_delete ;;
  *) own_fail "there is no work $work" ;;
esac
fp_emit ended
