#!/bin/sh
# Starts a job, or attaches to it. Parameters: id, label, wrapper (job_run.sh), program (what it runs), token (its parameters).
# Records: job; or busy (another job runs here), or refused (it could not be started).
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

id=$(fp_param id) label=$(fp_param label)
dir=$fp_jobs/$id
umask 077

refuse() { fp_emit refused "id=$id" "why=$1"; exit 0; }

lock() { # one start at a time; the kernel gives the lock back whatever becomes of us
  command -v flock >/dev/null || return 0
  exec 8>>"$fp_jobs/.lock" || refuse "cannot write $fp_jobs/.lock"
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    flock -n 8 && return 0
    sleep 1
  done
  refuse "another start has held $fp_jobs/.lock for 20 seconds"
}

others() { # refuse while another job runs
  for other in "$fp_jobs"/*/meta; do
    other=${other%/meta}
    [ -d "$other" ] || continue
    fp_look "$other"
    [ "$fp_phase" = running ] || continue
    fp_emit busy "id=$id" "holder=${other##*/}" "began:=$fp_began" "label=$(cat "$other/label" 2>/dev/null)"
    exit 0
  done
}

prune() { # keep the last 20 that are over
  kept=0
  # shellcheck disable=SC2012  # job ids are letters, digits, - and _
  ls -1t "$fp_jobs" 2>/dev/null | while IFS= read -r old; do
    [ -f "$fp_jobs/$old/meta" ] || continue
    kept=$((kept + 1))
    [ "$kept" -lt 20 ] || rm -rf "${fp_jobs:?}/$old"
  done
}

write() { # all of it or nothing
  mkdir -p "$dir" \
    && fp_param wrapper >"$dir/run.new" && mv -f "$dir/run.new" "$dir/run" \
    && fp_param program >"$dir/script.new" && chmod 700 "$dir/script.new" && mv -f "$dir/script.new" "$dir/script" \
    && fp_param token >"$dir/params.new" && mv -f "$dir/params.new" "$dir/params" \
    && printf '%s\n' "$label" >"$dir/label"
}

unit() { # a unit has a cgroup of its own: it outlives the login and a restart of sshd; no time limit, for that would kill it
  systemd-run --quiet --no-ask-password --unit="fleetpatch-$id" --description="fleetpatch job $id" \
    -p KillMode=process -p SendSIGKILL=no "$@" /bin/sh "$dir/run" "$dir" </dev/null >>"$dir/launch" 2>&1 3>&- 8>&-
}

launch() {
  if [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] && command -v systemd-run >/dev/null; then
    runner=systemd
    unit --collect -p TimeoutStopSec=infinity && return 0
    unit && return 0 # systemd before 236 knows neither
  fi
  runner=setsid
  command -v setsid >/dev/null || refuse "the machine has neither systemd-run nor setsid"
  setsid /bin/sh "$dir/run" "$dir" </dev/null >>"$dir/launch" 2>&1 3>&- 8>&- &
}

fp_ready || refuse "$fp_why"
lock
fp_look "$dir"
attached=true
if [ "$fp_phase" = absent ]; then
  others
  attached=false
  prune
  write 2>"$fp_jobs/.error" || refuse "cannot write $dir: $(tail -c 300 "$fp_jobs/.error" 2>/dev/null)"
  launch
  until=$(($(fp_now) + 10))
  while [ ! -e "$dir/meta" ] && [ "$(fp_now)" -le "$until" ]; do fp_nap; done
  [ -e "$dir/meta" ] || refuse "it did not begin within 10 seconds: $(tail -c 300 "$dir/launch" 2>/dev/null)"
  printf '%s\n' "$runner" >"$dir/runner"
  fp_look "$dir"
fi
fp_tell "$id" "attached:=$attached" "runner=$(cat "$dir/runner" 2>/dev/null)"
