#!/bin/sh
# Gives a run the machine lock, so that no other run changes the machine; or releases it.
# Parameters: run (its id), attempt (a number: an attempt that resumes the run has a higher one), by (who started the
# run), until (epoch seconds: when the lock expires), kind (of the run), preempts (the kind of runs that this run may
# take the lock from; their job is asked to stop, and keeps the lock until its end), release ("yes").
# Records: locked (the run has the lock; preempted: the run that had it), released, kept (the run has the lock, and
# keeps it while that job runs), taken (run, by, until, attempt: who has it; job: what runs; ending: whether that was
# asked to stop for this run), or refused (why).
# Step: precheck
# Changes: the machine lock, a file of fleetpatch
# Requires: job_common
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

for name in run attempt until by kind preempts; do fp_set_param "$name"; done
fp_set_number attempt "$attempt"
fp_set_number until "$until"
umask 077

refuse() { fp_emit refused "why=$1" "about=$fp_about"; exit 0; }
taken() {
  fp_emit taken "run=$fp_lock_run" "by=$fp_lock_by" "until:=$fp_lock_until" "attempt:=$fp_lock_attempt" \
    "job=$fp_busy" "ending:=$ending"
  exit 0
}

preempt() { # whether the lock of another run can be taken now; else its job is asked to stop, if this run may do that
  [ -n "$fp_lock_kind" ] && [ "$fp_lock_kind" = "$preempts" ] || return 1
  if [ -z "$fp_busy" ]; then preempted=$fp_lock_run; return 0; fi
  [ "$(fp_job_param "$fp_jobs/$fp_busy" lock_run)" = "$fp_lock_run" ] || return 1
  if fp_request_stop "$fp_jobs/$fp_busy" "$run ($by)"; then ending=true; fi
  return 1
}

fp_ready || refuse "$fp_why"
fp_mutex || refuse "$fp_why"
fp_read_lock
fp_find_running

ours=false ending=false preempted=''
if [ "$fp_lock_run" = "$run" ]; then
  ours=true
  [ "$attempt" -ge "$fp_lock_attempt" ] || taken # by the attempt that has taken the run over
  [ "$until" -gt "$fp_lock_until" ] || fp_has release || until=$fp_lock_until # an order has extended it
elif { [ "$fp_lock_until" != 0 ] && [ "$fp_lock_until" -gt "$(fp_now)" ]; } || { [ -n "$fp_busy" ] && ! fp_has release; }; then
  preempt || taken # a job that still runs keeps other runs away, even if its lock has expired
fi

if ! fp_has release; then
  fp_write_lock "$run" "$until" "$by" "$attempt" "$kind" || refuse "cannot write ${fp_jobs%/*}/machine-lock"
  fp_emit locked "run=$run" "until:=$until" "attempt:=$attempt" "preempted=$preempted"
elif [ "$ours" = false ]; then
  fp_emit released "run=$run"
elif [ -n "$fp_busy" ]; then
  fp_emit kept "run=$run" "job=$fp_busy"
else # the file stays, marked as released, so that older attempts at this run are recognized
  fp_write_lock "$run" 0 '' "$attempt" '' || rm -f "${fp_jobs%/*}/machine-lock" # on a full disk
  fp_emit released "run=$run"
fi
