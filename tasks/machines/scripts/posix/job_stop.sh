#!/bin/sh
# Asks a job to stop between two transactions, never inside one. A job whose start is still delayed here begins
# nothing then. Parameter: id. Record: job; asked says whether the job will find the request.
# Step: install
# Changes: a note for the job: it begins no other transaction
# Requires: job_common
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

fp_set_param id
fp_look "$fp_jobs/$id"
asked=false
umask 077
if [ "$fp_phase" = running ] || { [ "$fp_phase.$fp_pid" = absent. ] && [ -e "$fp_jobs/$id/withdrawn" ]; }; then
  fp_request_stop "$fp_jobs/$id" '' && asked=true
fi
fp_tell "$id" "asked:=$asked"
