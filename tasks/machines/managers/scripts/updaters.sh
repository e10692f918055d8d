#!/bin/sh
# Pauses the system's own updaters while a run works on the machine, or restores exactly those that the run paused. A
# unit that is masked at runtime is back after any reboot, and when the lock expires: a timer of the machine itself
# restores it then, whatever happens to the run. A service that itself changes packages is never stopped.
# Parameters: work (pause or restore); lists: units (to be stopped and masked: timers, services that run no program, and
# agents that are only clients of a daemon, which completes what they ordered), activated (services that others start
# when they need them: masked and never stopped), services (that may be running now); lock_run, lock_attempt (the run
# and the attempt that sent this), undo (updaters_back.sh's text).
# Records: paused (unit), back (unit, how), failed (unit, why), left (unit, why: we may not change it), running
# (unit), untimed (why: they are back only after a reboot or at the end of the run), nothing (why), refused (why). A
# file beside the lock stores what was masked by which run, in which boot.
# Step: install
# Changes: which of the system's own updaters are paused. All come back
# Requires: job_common, updaters_back
# Brings: undo=updaters_back
# shellcheck disable=SC2154  # variables of prelude.sh, job_common.sh and updaters_back.sh

for name in lock_run lock_attempt lock_until work activated services units; do fp_set_param "$name"; done
run=$lock_run wanted=$units
fp_set_number attempt "$lock_attempt"
file=${fp_jobs%/*}/updaters
umask 077

refuse() { fp_emit refused "why=$1"; exit 0; }
nothing() { fp_emit nothing "why=$1"; exit 0; }
tell() { fp_emit "$1" "unit=$2" "$3=$4"; }
find_noted() { # UNIT: sets was to its earlier state, if it is paused
  was=''
  case $fp_newline$units in *"$fp_newline$1 "*) was=$fp_newline$units was=${was#*"$fp_newline$1 "} was=${was%%"$fp_newline"*} ;; esac
}
find_names() { # sets names to those of the paused units
  names=''
  while read -r name _; do names="$names $name"; done <<UNITS
$units
UNITS
}

ours() { # refuse an order of a run or attempt that does not have the machine lock; a later attempt replaces an earlier one
  fp_read_lock
  if [ "$fp_lock_run" != "$run" ] || [ "$fp_lock_until" = 0 ]; then
    [ "$work" = restore ] || refuse "run $run no longer has the lock of this machine"
  elif [ "$attempt" -lt "$fp_lock_attempt" ]; then
    refuse "run $run was resumed: its attempt $fp_lock_attempt has the lock, and this order is of attempt $attempt"
  else
    fp_keep_lock "$run" "$attempt" "$lock_until" || [ "$work" = restore ] || refuse "cannot write ${fp_jobs%/*}/machine-lock"
  fi
}

remember() { # everything or nothing, and before anything is masked
  printf '%s\n%s\n%s\n' "$run" "$fp_boot" "$units" 2>/dev/null >"$file.new" && mv -f "$file.new" "$file"
}

activated() { case $fp_newline$activated$fp_newline in *"$fp_newline$1$fp_newline"*) ;; *) return 1 ;; esac; } # UNIT: whether others start it when they need it

choose() { # sets units: those to pause, that is, the active ones and those that a lost run has left paused
  fp_is_boot "$boot" || units='' # a reboot has restored them
  chosen='' seen=' '
  find_names
  for unit in $wanted $activated $names; do
    case $seen in *" $unit "*) continue ;; esac
    seen="$seen$unit "
    look "$unit" || nothing "systemd gives no answer: $shown"
    [ "${id:-$unit}" = "$unit" ] || continue # another name of a unit
    find_noted "$unit"
    # a unit that is not masked, and that its owner has disabled since, must not be started, whatever the file says
    case $load.$enabled in masked.* | *.enabled*) ;; *) was='' ;; esac
    if [ -n "$was" ]; then :
    elif [ "$load" = masked ]; then fp_emit left "unit=$unit" "why=its owner has masked it"; continue
    elif activated "$unit"; then # it is masked only, so there is nothing to start afterwards
      [ "$load" = loaded ] || continue
      was="inactive $enabled"
    elif [ "$active" = active ] || [ "$active" = activating ]; then was="active $enabled"
    else
      case $enabled in enabled*) was="inactive $enabled" ;; *) continue ;; esac
    fi
    chosen="$chosen$unit $was
"
  done
  units=$chosen
}

forget() { # stop and reset our timer, so that a new one may have its name
  manager stop fleetpatch-updaters.timer fleetpatch-updaters.service >/dev/null 2>&1
  manager reset-failed fleetpatch-updaters.timer fleetpatch-updaters.service >/dev/null 2>&1
}

# shellcheck disable=SC2016  # the other shell's $
later='file=$1 run=$2 here=$3
exec 8>>"$4"
! command -v flock >/dev/null || flock 8
tell() { :; }
recall "$file"
[ "$by.$boot" != "$run.$here" ] || give_all_back "$file"'

arm() { # let the machine restore them when the lock expires; systemd replaces text like variables in arguments, so use a file
  forget
  fp_read_time
  left=$((fp_lock_until - fp_time))
  [ "$left" -gt 60 ] || left=60
  why=$({
    printf '%s\n%s\n' "$(fp_param undo)" "$later" >"$file.sh" \
      && systemd-run --quiet --no-ask-password --unit=fleetpatch-updaters --on-active="$left" --timer-property=AccuracySec=1s \
        /bin/sh "$file.sh" "$file" "$run" "$fp_boot" "$fp_jobs/.lock" </dev/null 3>&- 8>&-
  } 2>&1) || fp_emit untimed "why=$why"
}

rests() { # UNIT: whether it can't begin anything, after look
  if activated "$1"; then [ "$load" = masked ]; else case $active in inactive | failed) ;; *) return 1 ;; esac; fi
}

pause() {
  choose
  if [ -z "$units" ]; then
    rm -f "$file" "$file.sh"
    nothing "none of its own updaters is switched on"
  fi
  remember || refuse "cannot write $file"
  arm
  find_names
  for unit in $names; do
    # "mask --now" has the opposite order, and leaves a timer "failed", which monitoring reports as an error
    why=$({ activated "$unit" || manager stop "$unit"; manager mask --runtime "$unit"; } 2>&1)
    look "$unit" || active='in an unknown state' why="$why$shown"
    if rests "$unit"; then fp_emit paused "unit=$unit"; else fp_emit failed "unit=$unit" "why=it is $active: $why"; fi
  done
  for unit in $services; do
    look "$unit"
    case $active in active | activating) fp_emit running "unit=$unit" ;; esac
  done
}

restore() {
  [ "$by" = "$run" ] || nothing "this run has none rest here"
  forget
  if fp_is_boot "$boot"; then
    give_all_back "$file"
    return
  fi
  find_names
  for unit in $names; do tell back "$unit" how "a reboot has brought it back"; done
  rm -f "$file" "$file.sh"
}

command -v systemctl >/dev/null || nothing "the machine does not run systemd"
fp_ready || refuse "$fp_why"
fp_mutex || refuse "$fp_why"
ours
recall "$file"
case $work in pause) pause ;; restore) restore ;; *) refuse "not known: $work" ;; esac
