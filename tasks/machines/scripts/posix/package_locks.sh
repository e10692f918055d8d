#!/bin/sh
# Functions that find out who changes packages on this machine. They only read, and need only the PATH of prelude.sh:
# reboot.sh also runs them in a separate process, just before the reboot.
# Requires: unfinished_packages, boot_work
# shellcheck disable=SC2034  # used by the scripts that this is put before

# fp_each_holder COMMAND PATH…: calls COMMAND PATH PID for each process that holds one of these locks; pid 0 is a
# process outside of this container. /proc/locks has the inode and the process, the process its open files.
fp_each_holder() {
  fp_call=$1; shift
  # no here-document: this is executed without the prelude, too, which finds room for one
  # shellcheck disable=SC2013  # pids and paths are words
  for fp_lock in $(stat -c '= %i %n' "$@" 2>/dev/null | awk '
      $1 == "=" { inode[++paths] = $2; sub(/^= [0-9]+ /, ""); path[paths] = $0; next }
      $2 == "POSIX" && $4 == "WRITE" { file = $6; sub(/.*:/, "", file); held[++locks] = file; pid[locks] = $5 }
      END { for (p = 1; p <= paths; p++) for (l = 1; l <= locks; l++) if (held[l] == inode[p]) print pid[l] ":" path[p] }' - /proc/locks 2>/dev/null); do
    fp_pid=${fp_lock%%:*} fp_path=${fp_lock#*:}
    case $fp_pid in 0 | -*) "$fp_call" "$fp_path" 0; continue ;; esac
    fp_real=$(readlink -f "$fp_path" 2>/dev/null) || fp_real=$fp_path # a directory above it may be a link
    for fp_file in "/proc/$fp_pid/fd"/*; do
      [ "$(readlink "$fp_file" 2>/dev/null)" != "$fp_real" ] || { "$fp_call" "$fp_path" "$fp_pid"; break; }
    done
  done
}

# fp_name PID: the name of a process's command. Its arguments may contain passwords, so they stay on the machine.
fp_name() {
  if [ "$1" = 0 ]; then printf 'a process outside of this container'; else cat "/proc/$1/comm" 2>/dev/null; fi
}

# fp_read_note FILE: reads the note of the last reboot order. Sets fp_said to refused (with fp_about and fp_why),
# taken or nothing, and fp_ours to the process that executes the order, if it still runs.
fp_read_note() {
  fp_said='' fp_about='' fp_why='' fp_ours=''
  { read -r fp_said fp_about fp_why; } 2>/dev/null <"$1" || :
  [ "$fp_said" = taken ] && grep -qF "$1" "/proc/$fp_about/cmdline" 2>/dev/null && fp_ours=$fp_about
  return 0
}

fp_held() { # PATH PID: keep the first holder that is neither this process nor the one that executes our order
  [ -z "$fp_obstacle" ] && [ "$2" != "$$" ] && [ "$2" != "${fp_ours:-}" ] || return 0
  fp_obstacle=lock fp_who="$(fp_name "$2")"
  [ "$2" = 0 ] || fp_who="$fp_who (pid $2)"
  fp_who="$fp_who holds $1"
}

fp_inhibited() { # an inhibitor that blocks a shutdown: systemctl ignores it for root
  command -v busctl >/dev/null || return 0
  fp_who=$(busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager ListInhibitors 2>/dev/null)
  case $fp_who in *'"block"'*) ;; *) fp_who=''; return 0 ;; esac
  fp_who=$(printf '%s\n' "$fp_who" | awk '{ gsub(/\\"/, "\047"); count = split($0, q, "\"")
      for (k = 2; k + 7 <= count; k += 8) if (q[k + 6] == "block" && ":" q[k] ":" ~ /:shutdown:/) {
        split(q[k + 7], n, " "); pid = " (pid " n[2] ")"
        if (q[k + 2] == "fleetpatch") print q[k + 4] " of fleetpatch" pid " has not ended"
        else print q[k + 2] pid " keeps the machine from shutting down: " q[k + 4]; exit } }')
  [ -z "$fp_who" ] || fp_obstacle=inhibitor
}

# fp_find_obstacle LOCK…: sets fp_obstacle to starting (the boot has not ended), lock, packages or inhibitor, and fp_who
# to who prevents a reboot of this machine; both are empty if nothing does
fp_find_obstacle() {
  fp_obstacle='' fp_who=''
  fp_find_boot_work
  [ -z "$fp_boot_work" ] || { fp_obstacle=starting fp_who=$fp_boot_work; return 0; }
  fp_each_holder fp_held "$@"
  [ -n "$fp_obstacle" ] || fp_unfinished
  [ -n "$fp_obstacle" ] || fp_inhibited
}
