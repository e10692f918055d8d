#!/bin/sh
# Finds a transactional-update that works now.
# shellcheck disable=SC2034  # used by the scripts that this is put before

# fp_unfinished: sets fp_obstacle to lock and fp_who to that process, if there is one
fp_unfinished() {
  fp_pid=''
  { read -r fp_pid _; } 2>/dev/null </run/transactional-update.pid || :
  case $fp_pid in '' | *[!0-9]*) return 0 ;; esac
  grep -q transactional-update "/proc/$fp_pid/cmdline" 2>/dev/null || return 0 # a number that was left behind
  fp_obstacle=lock fp_who="transactional-update (pid $fp_pid) works on the next snapshot"
}
