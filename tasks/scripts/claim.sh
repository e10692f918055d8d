#!/bin/sh
# Claims the machine for a run, so that no other run changes it meanwhile; or gives the claim back.
# Parameters: run (its id), by (who, for people), until (epoch seconds: when the claim ends by itself), release ("yes").
# Records: claimed (it is ours), released, or taken (run, by, until: whose it is).
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

run=$(fp_param run) by=$(fp_param by) until=$(fp_param until)
case $until in '' | *[!0-9]*) until=0 ;; esac
umask 077
place=${fp_jobs%/*}/claim

fp_ready || { fp_emit refused "why=$fp_why"; exit 0; }
if command -v flock >/dev/null; then # one at a time; the kernel gives the lock back whatever becomes of us
  exec 8>>"$fp_jobs/.lock"
  flock -w 20 8 || { fp_emit refused "why=another process has held $fp_jobs/.lock for 20 seconds"; exit 0; }
fi

theirs='' their_until=0 their_name=''
if [ -f "$place" ]; then
  { IFS= read -r theirs && IFS= read -r their_until && IFS= read -r their_name; } <"$place"
  case $their_until in '' | *[!0-9]*) their_until=0 ;; esac
fi
if [ -n "$theirs" ] && [ "$theirs" != "$run" ] && [ "$their_until" -gt "$(fp_now)" ]; then
  fp_emit taken "run=$theirs" "by=$their_name" "until:=$their_until"
elif fp_has release; then
  [ "$theirs" != "$run" ] || rm -f "$place"
  fp_emit released "run=$run"
else
  printf '%s\n%s\n%s\n' "$run" "$until" "$(printf '%s' "$by" | tr '\n' ' ')" >"$place.new" && mv -f "$place.new" "$place" \
    && fp_emit claimed "run=$run" "until:=$until"
fi
