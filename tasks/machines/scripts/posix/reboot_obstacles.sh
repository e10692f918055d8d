#!/bin/sh
# Reports what prevents a reboot of this machine now. Changes nothing. Parameters: locks (the lock files of the
# package manager), note (as for reboot.sh).
# Records: boot (boot_id), obstacle (about, why: as in reboot.sh) if there is one, given_up (about, why) if the last
# order in this boot was accepted and then abandoned. An order that is being executed is no obstacle.
# Step: precheck
# Changes: nothing
# Requires: package_locks
# shellcheck disable=SC2154  # variables of prelude.sh and package_locks.sh

for name in note locks; do fp_set_param "$name"; done
note=${note:-/run/fleetpatch-reboot}
fp_read_boot
fp_emit boot "boot_id=$fp_boot"
fp_read_note "$note"
[ "$fp_said" != refused ] || fp_emit given_up "about=$fp_about" "why=$fp_why"
# shellcheck disable=SC2086  # paths are words
fp_find_obstacle $locks
[ -z "$fp_obstacle" ] || fp_emit obstacle "about=$fp_obstacle" "why=$fp_who"
