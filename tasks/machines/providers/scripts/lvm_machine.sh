# shellcheck shell=sh
# Reads the logical volumes of the machine on which it runs, or takes, reverts to or deletes a snapshot of its system: of
# the volume of /, and of those of /usr, /var and the like, if they have some of their own. The mark of all that is ours
# is a tag: fleetpatch.snapshot=ID. A copy of /boot is in a volume of its own, ID.boot: fleetpatch.taken=TIME is its tag
# as soon as all is there, and fleetpatch.copy=BYTES+SHA256. The volume of / has fleetpatch.reverting=ID+BOOT from before a
# merge to its end, with the id of the boot that ordered it, and fleetpatch.reverted=ID after that. No file system has them.
# Parameters: work (read, take, revert or delete), id.
# Records: boot (id), volume (row: of lvs, see lvm_fields), system (name and place of a volume with the operating system),
# unfit (why, hint: no snapshot can be taken now), note (text), rebooting, merging, failed (why, hint), and ended behind the last one.
# Step: provider
# Changes: snapshots of the system; a revert merges them
# Requires: boot_files, own_disks
# shellcheck disable=SC2154  # variables of prelude.sh, boot_files.sh and own_disks.sh

for variable in work id; do fp_set_param "$variable"; done
export LVM_SUPPRESS_FD_WARNINGS=1
lvm_fields=vg_name,lv_name,lv_attr,lv_layout,lv_size,origin,snap_percent,lv_dm_path,lv_tags


lvm_read() {
  for lvm_tool in lvs findmnt; do
    command -v "$lvm_tool" >/dev/null || own_fail "$lvm_tool is not installed" "Install lvm2 and util-linux, or give the machine another provider."
  done
  lvm_rows=$(own_run lvs -a --noheadings --nosuffix --units b --separator '|' -o "$lvm_fields" 2>"$own_folder/said") \
    || own_fail "lvs: $(cat "$own_folder/said")"
  # parts of other volumes have brackets, and snapshots that are being merged
  lvm_rows=$(printf '%s\n' "$lvm_rows" | awk -F '|' '$2 !~ /^\[/ || $3 ~ /^S/' | sed 's/^ *//; s/[][]//g')
}
# lvm_pick CONDITION FIELD [NAME]: the field of the rows for which awk's condition is true
lvm_pick() { printf '%s\n' "$lvm_rows" | awk -F '|' -v name="${3:-}" -v id="$id" "$1 { print $2 }"; }
# the condition of rows that have a tag, and of the snapshots of this order
# shellcheck disable=SC2016  # awk's $
lvm_is_ours='index("," $9 ",", ",fleetpatch.snapshot=" id ",")'
# shellcheck disable=SC2016  # awk's $
lvm_name='$1 "/" $2'
lvm_tag() { # NAME TAG: the value of a tag of a volume, behind "="
  # shellcheck disable=SC2016  # awk's $
  lvm_pick '$1 "/" $2 == name' '$9' "$1" | tr , '\n' | sed -n "s/^fleetpatch\.$2=//p" | head -n 1
}

lvm_has_parts() { [ -n "$(lvm_pick "$lvm_is_ours && \$3 ~ /^$1/" "$lvm_name")" ]; } # s: of this order, S: being merged

lvm_find_system() { # sets lvm_volumes (names, that of / first) and lvm_vg
  lvm_volumes='' lvm_sources=' '
  for lvm_place in / /usr /var /var/lib /var/lib/dpkg /var/lib/rpm /usr/lib/sysimage/rpm /etc; do
    [ -d "$lvm_place" ] || continue
    lvm_source=$(findmnt -rno SOURCE -T "$lvm_place" | tail -n 1)
    case $lvm_sources in *" $lvm_source "*) continue ;; esac
    lvm_sources="$lvm_sources$lvm_source "
    # shellcheck disable=SC2016  # awk's $
    lvm_volume=$(lvm_pick '$8 == name' "$lvm_name" "$lvm_source")
    if [ -z "$lvm_volume" ]; then
      own_unfit "$lvm_place is on $lvm_source, which is no logical volume" "Give the machine another provider: only what is on LVM can be put back by it."
      continue
    fi
    fp_emit system "name=$lvm_volume" "place=$lvm_place"
    lvm_volumes="$lvm_volumes${lvm_volumes:+ }$lvm_volume"
    lvm_check_volume
  done
  lvm_root=${lvm_volumes%% *} lvm_vg=${lvm_volumes%%/*}
}

lvm_check_volume() { # of lvm_volume at lvm_place
  lvm_type=$(findmnt -rno FSTYPE -T "$lvm_place" | tail -n 1)
  case $lvm_type in
    ext[234] | xfs) ;;
    *) own_unfit "$lvm_place has a file system ($lvm_type) of which no snapshot is taken: ext and xfs only" "Give the machine another provider." ;;
  esac
  # shellcheck disable=SC2016  # awk's $
  lvm_layout=$(lvm_pick '$1 "/" $2 == name' '$4' "$lvm_volume")
  case $lvm_layout in
    linear | striped | raid,raid1 | raid,raid10*) ;;
    *) own_unfit "$lvm_volume is $lvm_layout: only linear, striped and mirrored (raid1, raid10) volumes are reverted" "Give the machine another provider." ;;
  esac
  # shellcheck disable=SC2016  # awk's $
  [ -z "$(lvm_pick '$1 "/" $2 == name && $3 ~ /^O/' "$lvm_name" "$lvm_volume")" ] \
    || own_unfit "a snapshot is being merged into $lvm_volume" "Wait for its end: lvs -a shows it."
  # A snapshot has the UUID and the label of its origin, and either may be mounted by them.
  case $lvm_place in
    /) lvm_by=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^root=//p' | tail -n 1) ;;
    *) lvm_by=$(awk -v place="$lvm_place" '$1 !~ /^#/ && $2 == place { print $1 }' /etc/fstab) ;;
  esac
  case $lvm_by in
    *UUID=* | LABEL=* | */by-uuid/* | */by-label/*) own_unfit "$lvm_place is found at the boot by $lvm_by, which a snapshot has, too" "Let it be found as /dev/mapper/NAME: in /etc/fstab, and for / in the kernel's command line (root=)." ;;
  esac
}

lvm_check_boot() { # whether /boot can be copied and put back, and the next boot knows snapshots
  [ -n "$(findmnt -rno SOURCE -M /boot)" ] || own_unfit "/boot is no file system of its own: the boot loader would read it from the volume while that is being merged" "Put /boot on a partition, or give the machine another provider."
  own_check_boot
  fp_check_boot
  for lvm_kernel in ${fp_next:-$(uname -r)}; do
    ! grep -qs '/dm-snapshot\.ko' "/lib/modules/$lvm_kernel/modules.builtin" || continue
    if ! fp_has_initramfs "$lvm_kernel"; then own_unfit "$lvm_kernel has no initramfs in /boot, so it would not find / once that has a snapshot"; continue; fi
    if command -v lsinitramfs >/dev/null; then lvm_list=lsinitramfs; else lvm_list=lsinitrd; fi
    lvm_has=$(own_run "$lvm_list" "$fp_initramfs" 2>/dev/null | grep -c '/dm-snapshot\.ko')
    [ "${lvm_has:-0}" != 0 ] || own_unfit "$lvm_list does not show dm-snapshot in $fp_initramfs: the machine would not boot once / has a snapshot" "Add dm_snapshot to it (initramfs-tools: /etc/initramfs-tools/modules; dracut: add_drivers), and make it anew."
  done
}

lvm_plan() { # how large a snapshot may be: sets lvm_percent (of its origin) and own_need (bytes of the volume for /boot)
  lvm_group=$(own_run vgs --noheadings --nosuffix --units b --separator '|' -o vg_free,vg_extent_size,vg_attr "$lvm_vg" 2>/dev/null | tr -d ' ')
  case ${lvm_group##*|} in
    w??-?[cs]*) own_unfit "the volume group $lvm_vg is shared with other machines" "Give the machine another provider." ;;
    w??-*) ;;
    *) own_unfit "the volume group $lvm_vg is not whole and writable: vgs shows ${lvm_group:-nothing}" "Mend it." ;;
  esac
  case $lvm_volumes in *" "*) for lvm_volume in $lvm_volumes; do
    [ "${lvm_volume%%/*}" = "$lvm_vg" ] || own_unfit "its system is in more than one volume group: $lvm_volumes" "Give the machine another provider."
  done ;; esac
  own_measure_boot
  lvm_sizes=$(for lvm_volume in $lvm_volumes; do
    # shellcheck disable=SC2016  # awk's $
    lvm_pick '$1 "/" $2 == name' '$5' "$lvm_volume"
  done | awk '{ size += $1 } END { printf "%.0f", size }')
  # a tenth of what is free stays free
  lvm_percent=$(printf '%s\n' "$lvm_group" | awk -F '|' -v copy="$own_need" -v sizes="$lvm_sizes" '
    { percent = int((($1 - copy - $2) * 0.9 - 2 * $2) * 100 / sizes); print (percent > 100 ? 100 : percent) }')
  [ "${lvm_percent:-0}" -ge 20 ] || own_unfit "the volume group $lvm_vg has $((${lvm_group%%|*} / 1048576)) MiB free: a snapshot would have room for ${lvm_percent:-0} % of the system's $((lvm_sizes / 1048576)) MiB, and needs 20 %" "Add a disk to the volume group, or delete what is not needed: lvs shows it."
}

lvm_take() {
  if [ -n "$(lvm_tag "$lvm_vg/$id.boot" taken)" ]; then fp_emit note 'text=it was taken before'; return; fi
  [ -z "$own_why" ] || own_fail "$own_why" "$own_hint"
  lvm_remove_ours # of an order that was interrupted
  lvm_taken=$(lvm_pick "\$1 == name && index(\$2, id \".\") == 1 && !($lvm_is_ours)" "$lvm_name" "$lvm_vg")
  [ -z "$lvm_taken" ] || own_fail "volumes of that name are there already, and have no mark of fleetpatch: $lvm_taken" "Rename them."
  own_list_boot
  own_do lvcreate -y -Wy -L "${own_need}b" -n "$id.boot" --addtag "fleetpatch.snapshot=$id" "$lvm_vg"
  own_copy_boot "/dev/$lvm_vg/$id.boot"
  own_do lvchange --addtag "fleetpatch.copy=$own_copied" "$lvm_vg/$id.boot"
  lvm_number=0
  sync
  for lvm_volume in $lvm_volumes; do
    lvm_number=$((lvm_number + 1))
    own_do lvcreate -y -s -l "$lvm_percent%ORIGIN" -n "$id.$lvm_number" --addtag "fleetpatch.snapshot=$id" "$lvm_volume"
  done
  own_do lvchange --addtag "fleetpatch.taken=$(date +%s)" "$lvm_vg/$id.boot"
  fp_emit note "text=$lvm_percent % of the system's size, as far as the volume group has room"
}

lvm_remove_ours() { # all that has the mark of this order; the copy of /boot last, without the tag that says that all is there
  lvm_old=$(lvm_tag "$lvm_vg/$id.boot" taken)
  [ -z "$lvm_old" ] || own_do lvchange --deltag "fleetpatch.taken=$lvm_old" "$lvm_vg/$id.boot"
  for lvm_volume in $(lvm_pick "$lvm_is_ours && \$2 != id \".boot\"" "$lvm_name") $(lvm_pick "$lvm_is_ours && \$2 == id \".boot\"" "$lvm_name"); do
    own_do lvremove -y -f "$lvm_volume"
  done
}

lvm_require_revertible() {
  [ -n "$(lvm_tag "$lvm_vg/$id.boot" taken)" ] || own_fail "there is no whole snapshot $id" "lvs -o +tags shows what is there."
  lvm_over=$(lvm_pick "$lvm_is_ours && substr(\$3, 5, 1) ~ /[ISmM]/" "$lvm_name")
  [ -z "$lvm_over" ] || own_fail "the snapshot $id is overfull: more was written since than it has room for ($lvm_over)" "Nothing can be put back by it: delete it."
  for lvm_volume in $lvm_volumes; do
    [ -n "$(lvm_pick "$lvm_is_ours && \$1 \"/\" \$6 == name" "$lvm_name" "$lvm_volume")" ] \
      || own_fail "the snapshot $id lacks the volume $lvm_volume" "Put the machine back by hand."
  done
  # the merge writes into the origins, and what it overwrites goes into their other snapshots
  lvm_others=$(printf '%s\n' "$lvm_rows" | awk -F '|' -v id="$id" "
    \$6 != \"\" && \$3 ~ /^[sS]/ { if ($lvm_is_ours) need[\$1 \"/\" \$6] = \$5 * \$7 / 100; else { origin[$lvm_name] = \$1 \"/\" \$6; room[$lvm_name] = \$5 * (100 - \$7) / 100 } }
    END { for (name in origin) if (origin[name] in need && room[name] < need[origin[name]] * 1.1 + 4194304) print name }")
  [ -z "$lvm_others" ] || own_fail "the revert would overfill other snapshots: $lvm_others" "Delete or extend them, if that is right, and order it again."
}

lvm_revert() {
  lvm_begun=$(lvm_tag "$lvm_root" reverting)
  case $lvm_begun in
    '') ;;
    "$id+$own_boot") lvm_merge; return ;;
    "$id+"*)
      # unless the machine has booted before the merge was ordered
      if ! lvm_has_parts s; then lvm_finish; return; fi
      own_do lvchange --deltag "fleetpatch.reverting=$lvm_begun" "$lvm_root"
      ;;
    *) own_fail "a revert to ${lvm_begun%+*} has begun" "Order that one again: it is completed." ;;
  esac
  # shellcheck disable=SC2016  # awk's $
  if [ "$(lvm_tag "$lvm_root" reverted)" = "$id" ] && [ -z "$(lvm_pick "$lvm_is_ours" '$2')" ]; then fp_emit note 'text=it was reverted before'; return; fi
  # shellcheck disable=SC2016  # awk's $
  [ -z "$(lvm_pick '$3 ~ /^O/' '$2')" ] || own_fail "a snapshot of somebody else is being merged: lvs -a shows it" "Wait for its end."
  lvm_require_revertible
  own_put_boot_back "/dev/$lvm_vg/$id.boot" "$(lvm_tag "$lvm_vg/$id.boot" copy)"
  own_do lvchange --addtag "fleetpatch.reverting=$id+$own_boot" "$lvm_root"
  lvm_merge
}

lvm_merge() { # it begins when the volumes are activated again: so the machine is rebooted
  for lvm_volume in $(lvm_pick "$lvm_is_ours && \$3 ~ /^s/" "$lvm_name"); do own_do lvconvert -y --merge "$lvm_volume"; done
  own_reboot
}

lvm_finish() { # after the boot: the merge has begun, and somebody must ask LVM to end it
  if [ -n "$(lvm_pick "$lvm_is_ours && \$2 != id \".boot\"" "$lvm_name")" ]; then
    for lvm_volume in $lvm_volumes; do own_run lvchange --poll y "$lvm_volume" >/dev/null 2>&1; done
    fp_emit merging
    return
  fi
  lvm_remove_ours
  lvm_old=$(lvm_tag "$lvm_root" reverted)
  [ -z "$lvm_old" ] || own_do lvchange --deltag "fleetpatch.reverted=$lvm_old" "$lvm_root"
  own_do lvchange --addtag "fleetpatch.reverted=$id" --deltag "fleetpatch.reverting=$(lvm_tag "$lvm_root" reverting)" "$lvm_root"
}

lvm_delete() {
  lvm_begun=$(lvm_tag "$lvm_root" reverting)
  case $lvm_begun in
    "$id+$own_boot") ! lvm_has_parts S || own_fail "the revert to $id has begun, and the machine is about to boot" "Wait for its end." ;;
    "$id+"*) if ! lvm_has_parts s; then lvm_finish; return; fi ;;
    *) lvm_begun='' ;;
  esac
  lvm_remove_ours
  [ -z "$lvm_begun" ] || own_do lvchange --deltag "fleetpatch.reverting=$lvm_begun" "$lvm_root" # no merge was ordered
}

own_begin "$work"
lvm_root='' lvm_vg=''
lvm_read
fp_emit boot "id=$own_boot"
printf '%s\n' "$lvm_rows" | sed '/^$/d' | fp_lines volume row
lvm_find_system
if [ -n "$lvm_root" ]; then
  case $work in read | take) lvm_check_boot; lvm_plan ;; esac
elif [ "$work" != read ]; then own_fail "$own_why" "$own_hint"; fi
case $work in
  read) [ -z "$own_why" ] || fp_emit unfit "why=$own_why" "hint=$own_hint" ;;
  take) lvm_take ;;
  revert) lvm_revert ;;
  delete) lvm_delete ;;
  *) own_fail "there is no work $work" ;;
esac
fp_emit ended
