#!/bin/sh
# Has apt's own timers rest while a run works on the machine, or gives back exactly what that run had rest. A timer that is
# masked at runtime is back after any reboot, and when the claim ends: a timer of the machine's own sees to that, whatever
# became of us. A service that is at work is never touched.
# Parameters: work (pause or restore), claim_run, claim_attempt (the run, and which attempt at it has sent this), undo
# (apt_updaters_back.sh's text).
# Records: paused (unit), back (unit, how), failed (unit, why), left (unit, why: it is not ours to change), running (unit),
# untimed (why: they are back after a reboot, or when the run ends, only), nothing (why), refused (why). What was masked by
# which run, in which boot, stands in a file beside the claim.
# Requires: job_common, apt_updaters_back
# Brings: undo=apt_updaters_back
# shellcheck disable=SC2154  # variables of prelude.sh, job_common.sh and apt_updaters_back.sh

work=$(fp_param work) run=$(fp_param claim_run) attempt=$(fp_number "$(fp_param claim_attempt)")
file=${fp_jobs%/*}/updaters
# unattended-upgrades.service is none of them: it only waits for a shutdown, and to stop it may make it install at once
timers='apt-daily.timer apt-daily-upgrade.timer' services='apt-daily.service apt-daily-upgrade.service'
umask 077

refuse() { fp_emit refused "why=$1"; exit 0; }
nothing() { fp_emit nothing "why=$1"; exit 0; }
tell() { fp_emit "$1" "unit=$2" "$3=$4"; }
noted() { printf '%s\n' "$units" | sed -n "s/^$1 //p"; } # UNIT: how it was, when it is one of those that rest

ours() { # refuse an order of a run, or an attempt at it, that has not the machine's claim; later attempts supersede earlier ones
  fp_read_claim
  if [ "$fp_claim_run" != "$run" ] || [ "$fp_claim_until" = 0 ]; then
    [ "$work" = restore ] || refuse "run $run has no claim on this machine any more"
  elif [ "$attempt" -lt "$fp_claim_attempt" ]; then
    refuse "run $run was taken over: its attempt $fp_claim_attempt has this machine, and this order is of attempt $attempt"
  else
    fp_keep_claim "$run" "$attempt" "$(fp_param claim_until)" || [ "$work" = restore ] || refuse "cannot write ${fp_jobs%/*}/claim"
  fi
}

remember() { # all of it or nothing, and before anything is masked
  printf '%s\n%s\n%s\n' "$run" "$fp_boot" "$units" 2>/dev/null >"$file.new" && mv -f "$file.new" "$file"
}

choose() { # units becomes those that are to rest: what would act by itself, and what a run that never came back has left
  [ "$boot" = "$fp_boot" ] || units='' # a reboot has brought them back
  chosen=''
  for unit in $timers; do
    look "$unit" || nothing "the machine does not run systemd"
    was=$(noted "$unit")
    # one that is not masked, and that its owner has disabled since, is not to be started, whatever stands there
    case $load.$enabled in masked.* | *.enabled*) ;; *) was='' ;; esac
    if [ -n "$was" ]; then :
    elif [ "$load" = masked ]; then fp_emit left "unit=$unit" "why=its owner has masked it"; continue
    elif [ "$active" = active ] || [ "$active" = activating ]; then was="active $enabled"
    else
      case $enabled in enabled*) was="inactive $enabled" ;; *) continue ;; esac
    fi
    chosen="$chosen$unit $was
"
  done
  units=$chosen
}

forget() { # stopped and forgotten, so that another one may have the name
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

arm() { # have the machine itself give them back when the claim ends; systemd changes what looks like a variable in arguments
  forget
  left=$((fp_claim_until - $(fp_now)))
  [ "$left" -gt 60 ] || left=60
  why=$({
    printf '%s\n%s\n' "$(fp_param undo)" "$later" >"$file.sh" \
      && systemd-run --quiet --no-ask-password --unit=fleetpatch-updaters --on-active="$left" --timer-property=AccuracySec=1s \
        /bin/sh "$file.sh" "$file" "$run" "$fp_boot" "$fp_jobs/.lock" </dev/null 3>&- 8>&-
  } 2>&1) || fp_emit untimed "why=$why"
}

pause() {
  choose
  if [ -z "$units" ]; then
    rm -f "$file" "$file.sh"
    nothing "none of its own updaters is switched on"
  fi
  remember || refuse "cannot write $file"
  arm
  for unit in $timers; do
    [ -n "$(noted "$unit")" ] || continue
    # "mask --now" is the other way round, and leaves a timer "failed" behind, which monitoring takes for a fault
    why=$({ manager stop "$unit"; manager mask --runtime "$unit"; } 2>&1)
    look "$unit"
    case $active in
      inactive | failed) fp_emit paused "unit=$unit" ;;
      *) fp_emit failed "unit=$unit" "why=it is $active: $why" ;;
    esac
  done
  for unit in $services; do
    look "$unit"
    case $active in active | activating) fp_emit running "unit=$unit" ;; esac
  done
}

restore() {
  [ "$by" = "$run" ] || nothing "this run has none rest here"
  forget
  if [ "$boot" = "$fp_boot" ]; then
    give_all_back "$file"
    return
  fi
  for unit in $timers; do
    [ -z "$(noted "$unit")" ] || tell back "$unit" how "a reboot has brought it back"
  done
  rm -f "$file" "$file.sh"
}

command -v systemctl >/dev/null || nothing "the machine does not run systemd"
fp_ready || refuse "$fp_why"
fp_lock || refuse "$fp_why"
ours
recall "$file"
case $work in pause) pause ;; restore) restore ;; *) refuse "not known: $work" ;; esac
