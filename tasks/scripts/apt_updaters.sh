#!/bin/sh
# Has apt's own timers rest while a run works on the machine, or gives back exactly what that run had rest. A timer that is
# masked at runtime is back after any reboot, whatever became of us. A service that is at work is never touched.
# Parameters: work (pause or restore), claim_run, claim_attempt (the run, and which attempt at it has sent this).
# Records: paused (unit), back (unit, how), failed (unit, why), left (unit, why: it is not ours to change), running (unit),
# nothing (why), refused (why). What was masked by which run, in which boot, stands in a file beside the claim.
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

work=$(fp_param work) run=$(fp_param claim_run) attempt=$(fp_number "$(fp_param claim_attempt)")
file=${fp_jobs%/*}/updaters
# unattended-upgrades.service is none of them: it only waits for a shutdown, and to stop it may make it install at once
timers='apt-daily.timer apt-daily-upgrade.timer' services='apt-daily.service apt-daily-upgrade.service'
umask 077

refuse() { fp_emit refused "why=$1"; exit 0; }
nothing() { fp_emit nothing "why=$1"; exit 0; }
manager() { systemctl --no-ask-password --no-pager "$@" </dev/null 3>&- 8>&-; }
property() { printf '%s\n' "$shown" | sed -n "s/^$1=//p"; }
look() { # UNIT: load, active and enabled become what systemd says
  shown=$(manager show -p LoadState,ActiveState,UnitFileState "$1" 2>/dev/null) || return 1
  load=$(property LoadState) active=$(property ActiveState) enabled=$(property UnitFileState)
}
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

recall() { # by, boot and units become what the file says: a run, a boot id, and a line "UNIT active|inactive" for each
  by='' boot='' units=''
  [ ! -f "$file" ] || { IFS= read -r by; IFS= read -r boot; units=$(cat); } <"$file"
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
    if [ -n "$was" ]; then :
    elif [ "$load" = masked ]; then fp_emit left "unit=$unit" "why=its owner has masked it"; continue
    elif [ "$active" = active ] || [ "$active" = activating ]; then was=active
    else
      case $enabled in enabled*) was=inactive ;; *) continue ;; esac
    fi
    chosen="$chosen$unit $was
"
  done
  units=$chosen
}

pause() {
  choose
  if [ -z "$units" ]; then
    rm -f "$file"
    nothing "none of its own updaters is switched on"
  fi
  remember || refuse "cannot write $file"
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

give_back() { # UNIT WAS
  why=$(manager unmask --runtime "$1" 2>&1) || { fp_emit failed "unit=$1" "why=$why"; return 1; }
  look "$1"
  if [ "$load" = masked ]; then # for good, by its owner, while it rested
    fp_emit left "unit=$1" "why=its owner has masked it meanwhile"
    return 0
  fi
  if [ "$2" = active ] && [ "$active" != active ]; then
    why=$(manager start "$1" 2>&1) || { fp_emit failed "unit=$1" "why=$why"; return 1; }
  fi
  fp_emit back "unit=$1" "how=it is as it was"
}

restore() {
  [ "$by" = "$run" ] || nothing "this run has none rest here"
  whole=true
  for unit in $timers; do
    was=$(noted "$unit")
    if [ -z "$was" ]; then continue
    elif [ "$boot" != "$fp_boot" ]; then fp_emit back "unit=$unit" "how=a reboot has brought it back"
    else give_back "$unit" "$was" || whole=false
    fi
  done
  [ "$whole" = false ] || rm -f "$file"
}

command -v systemctl >/dev/null || nothing "the machine does not run systemd"
fp_ready || refuse "$fp_why"
fp_lock || refuse "$fp_why"
ours
recall
case $work in pause) pause ;; restore) restore ;; *) refuse "not known: $work" ;; esac
