#!/bin/sh
# Says how long this system has run, and powers it off if nothing is against that. Parameters: work (look, check: only
# say whether it may be powered off; off), run (whose order it is), delay (whole seconds), locks (the lock files of the
# package manager), guard (package_locks.sh's text), place (where the order is written).
# Records: power (boot_id, up_seconds), and then, unless the work is look: refused (why, about: machine_lock, job,
# people, lock, packages, inhibitor, or ""), allowed, or ordered. The answer is sent before the machine goes down.
# Step: end
# Changes: it powers the machine off, if the run has powered it on
# Requires: job_common, package_locks
# Brings: guard=package_locks
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

refuse() { fp_emit refused "why=$1" "about=${2:-}"; exit 0; }

# The age of the first process: in a container, /proc/uptime is that of its host.
up_seconds() {
  { read -r up _ </proc/uptime; } 2>/dev/null && [ -n "$fp_first" ] || return 0
  ticks=$(getconf CLK_TCK 2>/dev/null) || ticks=100
  awk -v up="$up" -v began="$fp_first" -v ticks="${ticks:-100}" 'BEGIN { printf "%.2f", up - began / ticks }'
}

# Who is logged in at a terminal or a desktop: the login of this script has neither.
people() {
  {
    if command -v loginctl >/dev/null; then
      for session in $(loginctl list-sessions --no-legend 2>/dev/null | awk '{ print $1 }'); do
        loginctl show-session "$session" -p Name -p Class -p State -p TTY -p Type 2>/dev/null | awk -F= '
          { value[$1] = $2 }
          END { shown = value["Type"] ~ /^(x11|wayland|mir)$/
            if (value["Class"] == "user" && value["State"] != "closing" && (value["TTY"] != "" || shown))
              print value["Name"] " (" (value["TTY"] != "" ? value["TTY"] : value["Type"]) ")" }'
      done
    fi
    who 2>/dev/null | awk '{ print $1 " (" $2 ")" }'
  } | sort -u | head -n 5 | tr '\n' ',' | sed 's/,$//; s/,/, /g'
}

fp_emit power "boot_id=$fp_boot" "up_seconds:=$(up_seconds)"
work=$(fp_param work)
[ "$work" != look ] || exit 0
[ "$(id -u)" = 0 ] || refuse 'the login is not root'
fp_read_lock
if [ -n "$fp_lock_run" ] && [ "$fp_lock_run" != "$(fp_param run)" ] && [ "$fp_lock_until" -gt "$(fp_now)" ]; then
  refuse "run $fp_lock_run ($fp_lock_by) has it" machine_lock
fi
fp_find_running
[ -z "$fp_busy" ] || refuse "the job $fp_busy is still running" job
who=$(people)
[ -z "$who" ] || refuse "somebody is logged in: $who" people
locks=$(fp_param locks)
# shellcheck disable=SC2086  # paths are words
fp_find_obstacle $locks
[ -z "$fp_obstacle" ] || refuse "$fp_who" "$fp_obstacle"
[ "$work" = off ] || { fp_emit allowed; exit 0; }

guard=$(fp_param guard) place=$(fp_param place) place=${place:-/run/fleetpatch-poweroff}
delay=$(fp_param delay)
case $delay in '' | *[!0-9]*) delay=2 ;; esac
[ -n "$guard" ] || refuse 'the order came without the check for packages that others are changing'
# The detached part looks once more: another run may have locked the machine meanwhile.
# shellcheck disable=SC2016  # $1 and so on are the inner shell's own
order='lock_file=$1 was=$2 delay=$3; shift 3
sleep "$delay"; sync; fp_find_obstacle "$@"; [ -z "$fp_obstacle" ] || exit 1
[ "$(cksum 2>/dev/null <"$lock_file")" = "$was" ] || exit 1
if [ -d /run/systemd/system ]; then systemctl poweroff && exit; fi
shutdown -h now || poweroff'
umask 077
{ rm -f "$place.sh" && printf '%s\n%s\n' "$guard" "$order" >"$place.sh"; } 2>/dev/null || refuse "cannot write $place.sh"
lock_file=${fp_jobs%/*}/machine-lock
was=$(cksum 2>/dev/null <"$lock_file")
# shellcheck disable=SC2086  # paths are words
set -- /bin/sh "$place.sh" "$lock_file" "$was" "$delay" $locks
if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
  systemctl reset-failed fleetpatch-poweroff.service 2>/dev/null
  systemd-run --quiet --no-ask-password --no-block --unit=fleetpatch-poweroff \
    --description='A power-off that fleetpatch has ordered' "$@" </dev/null 3>&- 8>&- && {
    sleep 1 # so long its process waits at least, if it could be run
    systemctl is-failed --quiet fleetpatch-poweroff.service || { fp_emit ordered; exit 0; }
    refuse "its unit has failed: $(timeout 10 journalctl -q -o cat --no-pager -n 3 -u fleetpatch-poweroff.service 2>/dev/null | tr '\n' ' ')"
  }
fi
command -v setsid >/dev/null || refuse 'the machine has neither systemd-run nor setsid to be powered off with'
setsid "$@" </dev/null >/dev/null 2>&1 3>&- 8>&- &
fp_emit ordered
