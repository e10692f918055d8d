#!/bin/sh
# Switches the system's own updaters on or off for good, by the means that their vendors document, or only looks at
# them. A timer is stopped, never the service that it starts: a package transaction goes on. Safe to repeat.
# Parameters: work (look or switch); lists: units (to look at), enable, disable (units; both take effect at once);
# program (a command that must be there; "": none), file and text (a configuration file that is fleetpatch's own, and
# its whole text; "": none); lock_run, lock_attempt, lock_until (who sent this; only for switch).
# Records: unit (name, load, enabled, active), program (name, present), switched (step), failed (step, why), nothing (why),
# refused (why).
# Step: order
# Changes: whether the system's own updaters run, and their configuration file
# Requires: job_common, updaters_back
# shellcheck disable=SC2154  # variables of prelude.sh, job_common.sh and updaters_back.sh

for name in work lock_run lock_attempt lock_until units enable disable program file text; do fp_set_param "$name"; done
fp_set_number attempt "$lock_attempt"
umask 077

refuse() { fp_emit refused "why=$1"; exit 0; }
tell() { :; }

act() { # STEP COMMAND…: do it, and say what became of it
  step=$1
  shift
  if why=$("$@" 2>&1); then fp_emit switched "step=$step"; else fp_emit failed "step=$step" "why=$why"; fi
}

write_file() { # all of it or nothing; everybody may read it, as its neighbours
  mkdir -p "${file%/*}" && printf '%s' "$text" >"$file.fleetpatch-new" && chmod 644 "$file.fleetpatch-new" \
    && mv -f "$file.fleetpatch-new" "$file" && return
  rm -f "$file.fleetpatch-new"
  return 1
}

switch_all() {
  fp_ready || refuse "$fp_why"
  fp_mutex || refuse "$fp_why"
  fp_check_lock "$lock_run" "$attempt" || refuse "$fp_why"
  fp_keep_lock "$lock_run" "$attempt" "$lock_until" || refuse "cannot write ${fp_jobs%/*}/machine-lock"
  [ -z "$file" ] || act "write $file" write_file
  for unit in $disable; do act "systemctl disable --now $unit" manager disable --now "$unit"; done
  for unit in $enable; do act "systemctl enable --now $unit" manager enable --now "$unit"; done
}

look_at_all() {
  [ -z "$program" ] || {
    present=false
    ! command -v "$program" >/dev/null || present=true
    fp_emit program "name=$program" "present:=$present"
  }
  command -v systemctl >/dev/null || { fp_emit nothing 'why=the machine does not run systemd' && return 0; }
  for unit in $units; do
    look "$unit" || { fp_emit nothing "why=systemd gives no answer: $shown" && return 0; }
    # a unit by another name is that other one
    [ "${id:-$unit}" = "$unit" ] || continue
    fp_emit unit "name=$unit" "load=$load" "enabled=$enabled" "active=$active"
  done
}

case $work in look) look_at_all ;; switch) switch_all ;; *) refuse "not known: $work" ;; esac
