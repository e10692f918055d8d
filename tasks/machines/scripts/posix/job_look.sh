#!/bin/sh
# Reads the state of a job. Parameters: id, events_from, log_from, events_limit, log_limit (bytes). Records: job, then
# sections events and log.
# The phase is read first: the file of a finished job has all its events.
# Requires: job_common
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

fp_set_param id
dir=$fp_jobs/$id
piece() { tail -c "+$(($2 + 1))" "$1" | head -c "$3"; }
# tell NAME FROM LIMIT: what is new in a file. A job is looked at often, and mostly nothing is: then no pipe is started.
tell() {
  fp_set_param "$2"; from=$fp_stored
  if { [ "$(wc -c <"$dir/$1")" -le "$from" ]; } 2>/dev/null; then
    fp_emit section "name=$1" text= exit_code:=0 stderr=
  else
    fp_set_param "$3"
    fp_section "$1" piece "$dir/$1" "$from" "$fp_stored" || :
  fi
}

fp_look "$dir"
fp_tell "$id"
[ "$fp_phase" != absent ] || exit 0
tell events events_from events_limit
tell log log_from log_limit
