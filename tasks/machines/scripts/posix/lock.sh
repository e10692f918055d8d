#!/bin/sh
# Shows which run has the machine lock, and which job runs; or removes that lock, for a person.
# Parameters: lift ("yes"), by (who removes it), and of the lock as it was read before: run, attempt, until.
# Records: lock (run, by, until, attempt: who has it, "" and 0 if there is none; job, label, began: what runs; now),
# and then lifted, or changed (it is not the lock that was read), or refused (why). The lock is not removed while a
# job runs.
# Step: order
# Changes: it removes the machine lock
# Requires: job_common
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

umask 077
refuse() { fp_emit refused "why=$1" "about=$fp_about"; exit 0; }

if fp_has lift; then
  fp_ready || refuse "$fp_why"
  fp_mutex || refuse "$fp_why"
fi
fp_read_lock
fp_find_running
[ "$fp_lock_until" != 0 ] || fp_lock_run='' fp_lock_by=''
label=''
[ -z "$fp_busy" ] || label=$(cat "$fp_jobs/$fp_busy/label" 2>/dev/null)
fp_emit lock "run=$fp_lock_run" "by=$fp_lock_by" "until:=$fp_lock_until" "attempt:=$fp_lock_attempt" \
  "job=$fp_busy" "label=$label" "began:=${fp_began:-}" "now:=$(fp_now)"
fp_has lift || exit 0

[ -z "$fp_busy" ] || refuse "job $fp_busy is running"
if [ "$fp_lock_run $fp_lock_attempt $fp_lock_until" != "$(fp_param run) $(fp_param attempt) $(fp_param until)" ]; then
  fp_emit changed "run=$fp_lock_run"
  exit 0
fi
# the lock now says who removed it: a later order of that run is refused with these words
fp_write_lock "$fp_lock_run" 0 "lifted by $(fp_param by)" "$fp_lock_attempt" '' || refuse "cannot write ${fp_jobs%/*}/machine-lock"
fp_emit lifted "run=$fp_lock_run"
