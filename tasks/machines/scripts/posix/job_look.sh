#!/bin/sh
# Reads the state of a job. Parameters: id, events_from, log_from, events_limit, log_limit (bytes), wait (whole seconds: how
# long a running job's end is awaited first). Records: job, then sections events and log.
# The phase is read first: the file of a finished job has all its events.
# Requires: job_common
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

fp_set_param id
dir=$fp_jobs/$id
piece() { tail -c "+$(($2 + 1))" "$1" | head -c "$3"; }
# tell NAME: what is new in a file. A job is looked at often, and mostly nothing is: then no pipe is started.
tell() {
  fp_set_param "$1_from"; from=$fp_stored
  fp_set_param "$1_limit"
  eval "size=\${$1_size:-}"
  if [ -n "$size" ] && [ "$size" -le "$from" ]; then fp_emit section "name=$1" text= exit_code:=0 stderr=
  elif [ -n "$size" ] && [ "$((size - from))" -le "$fp_stored" ]; then fp_section "$1" tail -c "+$((from + 1))" "$dir/$1" || :
  else fp_section "$1" piece "$dir/$1" "$from" "$fp_stored" || :; fi
}

# await SECONDS: until the job has ended, or that long. No process asks again and again: its shell holds a lock (job_run.sh).
# What can't be waited for so, for example the rest of a job whose shell was killed, is awaited for a second.
await() {
  fp_read_uptime || :
  asked_at=${fp_up:-0}
  { command -v flock >/dev/null && flock -s -w "$1" 9 9<"$dir/alive"; } 2>/dev/null
  fp_look "$dir"
  if [ "$fp_phase" = running ] && fp_read_uptime && [ "$fp_up" -le "$asked_at" ]; then sleep 1; fi
}

fp_look "$dir"
fp_set_param wait
case $wait in '' | *[!0-9]* | 0) ;; *) [ "$fp_phase" != running ] || await "$wait" ;; esac
fp_tell "$id"
[ "$fp_phase" != absent ] || exit 0
# shellcheck disable=SC2034  # tell reads them
while read -r size file; do
  case $file in */events) events_size=$size ;; */log) log_size=$size ;; esac
done <<SIZES
$(wc -c "$dir/events" "$dir/log" 2>/dev/null)
SIZES
tell events
tell log
