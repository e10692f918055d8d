#!/bin/sh
# Says what keeps this machine from being rebooted now. Changes nothing. Parameters: locks (the files that whoever changes
# packages locks), note (as for reboot.sh).
# Records: boot (boot_id), obstacle (about, why: as in reboot.sh) when there is one, given_up (about, why) when the last
# order in this boot was given up again after it had been taken on. An order that is being carried out is no obstacle.
# Requires: package_locks
# shellcheck disable=SC2154  # variables of prelude.sh and package_locks.sh

note=$(fp_param note) note=${note:-/run/fleetpatch-reboot} boot=''
{ IFS= read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null || :
fp_emit boot "boot_id=$boot"
fp_read_note "$note"
[ "$fp_said" != refused ] || fp_emit given_up "about=$fp_about" "why=$fp_why"
# shellcheck disable=SC2046  # paths are words
fp_find_obstacle $(fp_param locks)
[ -z "$fp_obstacle" ] || fp_emit obstacle "about=$fp_obstacle" "why=$fp_who"
