#!/bin/sh
# Orders a reboot. Parameters: expected_boot_id, delay (whole seconds), lock_run and lock_attempt (the order is
# executed only while that run has the machine lock and no later attempt is known), latest (the latest time, in
# whole seconds of this machine's clock), locks (the lock files of the package manager), guard (package_locks.sh's
# text), note (a file for the result of the order). Record: ordered, or refused with why and about: machine_lock,
# window, room, boot (its next boot lacks files), lock, packages or inhibitor (another process changes packages, has left them
# half changed, or blocks the shutdown), or "".
# A repeated order is executed only once, because the boot id is another one then. The answer is sent before the
# machine goes down.
# Step: reboot
# Changes: it reboots the machine
# Requires: job_common, package_locks, boot_files
# Brings: guard=package_locks
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

fp_set_param expected_boot_id
fp_set_param delay
case $delay in '' | *[!0-9]*) delay=1 ;; esac

refuse() { fp_emit refused "why=$1" "boot_id=$fp_boot" "about=${2:-}"; exit 0; }

locked() { # refuse an order of a run or attempt that does not have the machine lock; a later attempt replaces an earlier one
  for name in lock_run lock_attempt lock_until; do fp_set_param "$name"; done
  fp_set_number attempt "$lock_attempt"
  [ -n "$lock_run" ] || return 0
  mask=$(umask)
  umask 077
  if [ -w "$fp_jobs" ]; then # if nothing can be written, no other run can take the lock either
    fp_ours "$fp_jobs" || refuse "$fp_why"
    fp_mutex || refuse "$fp_why" "$fp_about"
  fi
  fp_check_lock "$lock_run" "$attempt" || refuse "$fp_why" machine_lock
  # if that can't be written, an order of an earlier attempt has the same effect: the boot id shows that it was
  # executed
  fp_keep_lock "$lock_run" "$attempt" "$lock_until" || :
  umask "$mask"
}

timely() { # refuse an order that comes too late for the window, by this machine's own clock
  fp_set_param latest
  case $latest in '' | *[!0-9]*) return 0 ;; esac
  fp_ask_time
  [ "$fp_time" -le "$latest" ] || refuse "the order came $((fp_time - latest)) s after the last moment at which a reboot fits into the window" window
}

[ -n "$fp_boot" ] || refuse "the machine does not show its boot id, so a reboot could not be proven"
[ "$fp_boot" = "$expected_boot_id" ] || refuse "it has rebooted already: its boot id is $fp_boot, not $expected_boot_id"
locked
timely
[ "$(id -u)" = 0 ] || refuse "the login is not root"
for meta in "$fp_jobs"/*/meta; do
  [ -f "$meta" ] || continue
  fp_look "${meta%/meta}"
  [ "$fp_phase" != running ] || { job=${meta%/meta}; refuse "the job ${job##*/} is still running"; }
done

for name in locks guard note; do fp_set_param "$name"; done
note=${note:-/run/fleetpatch-reboot}
[ -n "$guard" ] || refuse "the order came without the check for packages that others are changing"
fp_read_note "$note"
[ -z "$fp_ours" ] || { fp_emit ordered "boot_id=$fp_boot" again:=true; exit 0; }
# shellcheck disable=SC2086  # paths are words
fp_find_obstacle $locks
[ -z "$fp_obstacle" ] || refuse "$fp_who" "$fp_obstacle"
fp_check_boot
[ -z "$fp_unbootable" ] || refuse "$fp_unbootable${fp_boot_remedy:+. $fp_boot_remedy}" boot
# Takes the package manager's locks as it does itself (fcntl), in its order, so that no process begins to change packages
# from here on. Then executes the command after "--", which keeps the locks. All or none: a process that has the first
# lock may be about to take the second. What can't be locked is only checked, by that command.
# shellcheck disable=SC2016  # perl's $
take='use Fcntl; $^F = 255; my ($whole, @held) = pack("s s x32", F_WRLCK, 0); my @paths;
  while (defined(my $path = shift)) { last if $path eq "--"; push @paths, $path }
  for my $path (@paths) { sysopen(my $file, $path, O_RDWR | O_CREAT, 0640) or next;
    if (fcntl($file, F_SETLK, $whole)) { push @held, $file } else { @held = (); last } }
  exec { $ARGV[0] } @ARGV'

# The detached part: it checks again when it has the locks, and once more just before the machine goes down. It keeps
# the locks until the end: a process that waits for them must not begin on a machine that goes down.
# shellcheck disable=SC2016  # $1 and so on are the inner shell's own
order='note=$1 delay=$2; shift 2
say() { printf "%s\n" "$*" >"$note.new" && mv -f "$note.new" "$note"; }
look() { fp_find_obstacle "$@"; [ -z "$fp_obstacle" ] || { say refused "$fp_obstacle" "$fp_who"; exit 1; }; }
down() { if [ -d /run/systemd/system ]; then systemctl reboot && return; fi; shutdown -r now || reboot; }
look "$@"; say taken "$$"; sleep "$delay"; sync; look "$@"
down || { say refused failed "no command to reboot with has worked"; exit 1; }
sleep 60; while [ "$(systemctl is-system-running 2>/dev/null)" = stopping ]; do sleep 5; done'

umask 077 # systemd replaces text that looks like a variable in arguments, so the texts are in files
{ rm -f "$note" && printf '%s\n%s\n' "$guard" "$order" >"$note.sh" && printf '%s\n' "$take" >"$note.pl"; } 2>/dev/null \
  || refuse "cannot write $note" room

detached() { # COMMAND…: the command that starts it, so that it does not need our connection
  # shellcheck disable=SC2086  # paths are words
  set -- "$@" ${perl:+perl "$note.pl" $locks --} /bin/sh "$text" "$note" "$delay" $locks
  "$@" </dev/null 3>&- 8>&-
}

begun() { # wait until it has accepted or refused the order; a process that still runs may do so later
  fp_read_uptime
  until=$((fp_up + 15)) naps=0
  # to ask systemd costs more than a nap
  while [ ! -s "$note" ] && fp_read_uptime && [ "$fp_up" -lt "$until" ]; do
    naps=$((naps + 1))
    [ $((naps % 10)) != 0 ] || alive || break
    fp_nap
  done
  dead=false
  if [ ! -s "$note" ] && ! alive; then dead=true && rm -f "$text"; fi # without it, it does not begin later either
  fp_read_note "$note"
  [ "$fp_said" != refused ] || refuse "$fp_why" "$fp_about"
  [ "$dead" = false ] || [ -n "$fp_said" ] || return 1
  fp_emit ordered "boot_id=$fp_boot" again:=false
  exit 0
}

fail() { # the part that reboots has ended before it did anything
  refuse "the process that reboots the machine could not be started${1:+: $(printf '%s' "$1" | tail -n 3 | tr '\n' ' ')}"
}

# in_unit and in_session: start it, and define alive: whether it runs, or is about to. Neither systemd nor setsid may
# have begun at once.
in_unit() {
  fp_read_uptime
  soon=$((fp_up + 5))
  alive() {
    case $(systemctl show -p ActiveState -p Job fleetpatch-reboot.service 2>/dev/null) in
      *=active* | *=activating* | *Job=[1-9]*) ;;
      *) fp_read_uptime && [ "$fp_up" -lt "$soon" ] ;;
    esac
  }
  systemctl reset-failed fleetpatch-reboot.service 2>/dev/null
  # without default dependencies, so that the shutdown ends it last
  detached systemd-run --quiet --no-ask-password --no-block --unit=fleetpatch-reboot -p DefaultDependencies=no \
    --description="A reboot that fleetpatch has ordered"
}
in_session() {
  fp_read_uptime
  soon=$((fp_up + 5))
  alive() { kill -0 "$started" 2>/dev/null || { fp_read_uptime && [ "$fp_up" -lt "$soon" ]; }; }
  detached setsid >/dev/null 2>"$note.err" &
  started=$!
}

again_without_perl() { # whether there is another way: the same without perl; it has a text of its own
  [ -n "$perl" ] || return 1
  perl='' text=$note.plain.sh
  printf '%s\n%s\n' "$guard" "$order" >"$text"
}

# A perl that does not work must not prevent the reboot: without it, the locks are only checked.
perl=$(command -v perl) text=$note.sh
[ -z "$perl" ] || timeout 10 "$perl" -e 'use Fcntl; exit 0' >/dev/null 2>&1 3>&- || perl=''
if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null && in_unit; then
  begun
  if again_without_perl && in_unit; then begun; fi
  fail "$(timeout 10 journalctl -q -o cat --no-pager -n 3 -u fleetpatch-reboot 2>/dev/null)"
fi
command -v setsid >/dev/null || refuse "the machine has neither systemd-run nor setsid to order a reboot with"
in_session && begun
if again_without_perl && in_session; then begun; fi
fail "$(cat "$note.err" 2>/dev/null)"
