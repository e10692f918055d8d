#!/bin/sh
# Asks a job to stop between two transactions; never inside one. Parameter: id. Record: job.
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

id=$(fp_param id)
fp_look "$fp_jobs/$id"
asked=false
if [ "$fp_phase" = running ]; then : >"$fp_jobs/$id/stop" && asked=true; fi
fp_tell "$id" "asked:=$asked"
