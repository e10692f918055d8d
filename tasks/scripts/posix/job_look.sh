#!/bin/sh
# Reads the state of a job. Parameters: id, events_from, log_from, events_limit, log_limit (bytes). Records: job, then
# sections events and log.
# The phase is read first: the file of a finished job has all its events.
# Requires: job_common
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

id=$(fp_param id)
dir=$fp_jobs/$id
piece() { tail -c "+$(($2 + 1))" "$1" | head -c "$3"; }

fp_look "$dir"
fp_tell "$id"
[ "$fp_phase" != absent ] || exit 0
fp_section events piece "$dir/events" "$(fp_param events_from)" "$(fp_param events_limit)" || :
fp_section log piece "$dir/log" "$(fp_param log_from)" "$(fp_param log_limit)" || :
