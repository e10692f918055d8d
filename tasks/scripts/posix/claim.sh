#!/bin/sh
# Gives a run the machine lock (the claim), so that no other run changes the machine; or releases it.
# Parameters: run (its id), attempt (a number: an attempt that resumes the run has a higher one), by (who started the
# run), until (epoch seconds: when the claim expires), release ("yes").
# Records: claimed (the run has the claim), released, kept (the run has the claim, and keeps it while that job runs),
# taken (run, by, until, attempt: who has it; job: what runs), or refused (why).
# Requires: job_common
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

run=$(fp_param run) attempt=$(fp_number "$(fp_param attempt)") until=$(fp_number "$(fp_param until)")
umask 077

refuse() { fp_emit refused "why=$1" "about=$fp_about"; exit 0; }
taken() {
  fp_emit taken "run=$fp_claim_run" "by=$fp_claim_by" "until:=$fp_claim_until" "attempt:=$fp_claim_attempt" "job=$fp_busy"
  exit 0
}

fp_ready || refuse "$fp_why"
fp_lock || refuse "$fp_why"
fp_read_claim
fp_find_running

ours=false
if [ "$fp_claim_run" = "$run" ]; then
  ours=true
  [ "$attempt" -ge "$fp_claim_attempt" ] || taken # by the attempt that has taken the run over
  [ "$until" -gt "$fp_claim_until" ] || fp_has release || until=$fp_claim_until # an order has extended it
elif [ "$fp_claim_until" -gt "$(fp_now)" ] || { [ -n "$fp_busy" ] && ! fp_has release; }; then
  taken # a job that still runs keeps other runs away, even if its claim has expired
fi

if ! fp_has release; then
  fp_write_claim "$run" "$until" "$(fp_param by)" "$attempt" || refuse "cannot write ${fp_jobs%/*}/claim"
  fp_emit claimed "run=$run" "until:=$until" "attempt:=$attempt"
elif [ "$ours" = false ]; then
  fp_emit released "run=$run"
elif [ -n "$fp_busy" ]; then
  fp_emit kept "run=$run" "job=$fp_busy"
else # the file stays, marked as released, so that older attempts at this run are recognized
  fp_write_claim "$run" 0 '' "$attempt" || rm -f "${fp_jobs%/*}/claim" # on a full disk
  fp_emit released "run=$run"
fi
