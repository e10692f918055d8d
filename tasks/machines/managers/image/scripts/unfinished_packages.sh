#!/bin/sh
# Finds a process that changes OSTree's deployments now. Its lock is only looked at: the service that finishes a staged
# deployment at the shutdown needs it.
# shellcheck disable=SC2034  # used by the scripts that this is put before

# fp_unfinished: sets fp_obstacle to lock and fp_who to what is going on, if anything is
fp_unfinished() {
  fp_real=$(readlink -f /ostree/lock 2>/dev/null) && fp_inode=$(stat -c %i "$fp_real" 2>/dev/null) || return 0
  # /proc/locks has the device of the file system in hexadecimal; stat has another one on btrfs
  fp_device=$(findmnt -n -o MAJ:MIN --target "$fp_real" 2>/dev/null | awk -F : 'NR == 1 { printf "%02x:%02x", $1, $2 }')
  fp_pid=$(awk -v tail="$fp_device:$fp_inode" '$4 == "WRITE" && substr($6, length($6) - length(tail) + 1) == tail { print $5; exit }' /proc/locks 2>/dev/null)
  case $fp_pid in
    '') return 0 ;;
    -* | 0) fp_who='a process' ;; # OSTree locks open files, which belong to no process
    *) fp_who="$(cat "/proc/$fp_pid/comm" 2>/dev/null) (pid $fp_pid)" ;;
  esac
  fp_obstacle=lock fp_who="$fp_who holds /ostree/lock: it changes the system's deployments"
}
