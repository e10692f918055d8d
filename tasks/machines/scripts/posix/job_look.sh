#!/bin/sh
# Reads the state of a job. Parameters: id, events_from, log_from, events_limit, log_limit (bytes), wait (whole seconds: how
# long a running job's end is awaited first). Records: job, then sections events and log.
# The phase is read first: the file of a finished job has all its events.
# Step: install
# Changes: nothing
# Requires: job_common
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

fp_set_param id
dir=$fp_jobs/$id
# find_new NAME: sets NAME_from, and NAME_new to how many bytes of a file are new; "" if that is unknown or more than asked for
find_new() {
  fp_set_param "$1_from"; from=$fp_stored
  fp_set_param "$1_limit"
  eval "size=\${$1_size:-}"; new=''
  if [ -n "$size" ]; then
    new=$((size - from))
    if [ "$new" -lt 0 ]; then new=0; elif [ "$new" -gt "$fp_stored" ]; then new=''; fi
  fi
  eval "$1_new=\$new $1_limit=\$fp_stored"
}
# tail_new NAME FROM NEW: the new bytes, and all that came meanwhile
tail_new() { [ "$3" = 0 ] || tail -c "+$(($2 + 1))" "$dir/$1"; }

# tell_at_once: both files by three processes, in the shell itself; whether that has worked. A shell loses bytes that are 0, and
# some search a long text for minutes.
tell_at_once() {
  [ -n "$events_new" ] && [ -n "$log_new" ] && [ "$((events_new + log_new))" -le 4096 ] || return 1
  text=''
  if [ "$events_new.$log_new" != 0.0 ]; then
    text=$(tail_new events "$events_from" "$events_new"; printf '%s' "$fp_mark"; tail_new log "$log_from" "$log_new"; printf .)
  fi
  events=${text%%"$fp_mark"*} log=${text#*"$fp_mark"} log=${log%.}
  [ "${#events}.${#log}" = "$events_new.$log_new" ] || return 1
  fp_send_section events "$events" 0 ''
  fp_send_section log "$log" 0 ''
}
piece() { tail -c "+$(($2 + 1))" "$1" | head -c "$3"; }

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
# shellcheck disable=SC2034  # find_new reads them
while read -r size file; do
  case $file in */events) events_size=$size ;; */log) log_size=$size ;; esac
done <<SIZES
$(wc -c "$dir/events" "$dir/log" 2>/dev/null)
SIZES
find_new events
find_new log
if ! tell_at_once; then
  fp_section events piece "$dir/events" "$events_from" "$events_limit" || :
  fp_section log piece "$dir/log" "$log_from" "$log_limit" || :
fi
