#!/bin/sh
# Starts a job, or attaches to it. Parameters: id, label, wrapper (job_run.sh), program (what it runs), token (its
# parameters).
# A job with lock_run and lock_attempt in its own parameters begins only while that run has the machine lock and
# no later attempt is known: the order may have been delayed while another attempt took the run over. Its lock_until
# (epoch seconds) extends that lock.
# Records: job; or busy (another job runs here), or refused (it could not be started, or is not allowed; about:
# machine_lock, room, "unsure": it may still begin, or ""). A refused job never begins, even if its start comes late.
# Step: install
# Changes: a folder of the job, and a process or unit that runs it
# Requires: job_common
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

fp_set_param id
fp_set_param label
dir=$fp_jobs/$id
umask 077
patience=40

refuse() { fp_emit refused "id=$id" "why=$1" "about=${2:-}" "holder=${3:-}"; exit 0; }

locked() { # refuse an order of a run or attempt that does not have the machine lock; a later attempt replaces an earlier one
  fp_set_param lock_run of_job
  [ -n "$lock_run" ] || return 0
  fp_set_param lock_attempt of_job
  fp_set_number attempt "$lock_attempt"
  fp_set_param lock_until of_job
  if ! fp_check_lock "$lock_run" "$attempt"; then
    [ "$attached" = true ] || refuse "$fp_why" machine_lock "$fp_holder"
  else
    fp_keep_lock "$lock_run" "$attempt" "$lock_until" || refuse "cannot write ${fp_jobs%/*}/machine-lock" room
  fi
}

others() { # refuse while another job runs
  fp_find_running
  [ -n "$fp_busy" ] || return 0
  fp_emit busy "id=$id" "holder=$fp_busy" "began:=$fp_began" "label=$(cat "$fp_jobs/$fp_busy/label" 2>/dev/null)"
  exit 0
}

prune() { # keep the last 20 jobs that have ended
  set -- "$fp_jobs"/*/meta
  [ "$#" -ge 20 ] || return 0
  kept=0
  # shellcheck disable=SC2012  # job ids are letters, digits, - and _
  ls -1t "$fp_jobs" 2>/dev/null | while IFS= read -r old; do
    [ -f "$fp_jobs/$old/meta" ] || continue
    kept=$((kept + 1))
    [ "$kept" -lt 20 ] || rm -rf "${fp_jobs:?}/$old"
  done
}

write() { # everything or nothing; an old stop request was for an earlier order, a new one is for this order
  { mkdir "$dir" 2>/dev/null || { [ -d "$dir" ] && rm -f "$dir/stop" "$dir/unlaunched"; } || mkdir "$dir"; } \
    && fp_param wrapper >"$dir/run.new" && mv -f "$dir/run.new" "$dir/run" \
    && fp_param program >"$dir/script.new" && chmod 700 "$dir/script.new" && mv -f "$dir/script.new" "$dir/script" \
    && export -p >"$dir/environment" \
    && fp_param token >"$dir/params.new" && mv -f "$dir/params.new" "$dir/params" \
    && printf '%s\n' "$label" >"$dir/label" && echo withdrawn >"$dir/withdrawn"
}

unit() { # a unit has its own cgroup: it continues after the login and a restart of sshd; no time limit, which would kill it
  systemd-run --quiet --no-ask-password --unit="fleetpatch-$id" --description="fleetpatch job $id" \
    -p KillMode=process -p SendSIGKILL=no "$@" env -i PATH="$PATH" /bin/sh "$dir/run" "$dir" "$fp_boot" </dev/null >>"$dir/launch" 2>&1 3>&- 8>&-
}

detach() {
  runner=setsid
  setsid env -i PATH="$PATH" /bin/sh "$dir/run" "$dir" "$fp_boot" </dev/null >>"$dir/launch" 2>&1 3>&- 8>&- &
}

launch() { # in the background: systemd may answer late
  if [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] && command -v systemd-run >/dev/null; then
    runner=systemd
    # systemd before 236 has neither option
    { unit --collect -p TimeoutStopSec=infinity || unit || : >"$dir/unlaunched"; } </dev/null >>"$dir/launch" 2>&1 3>&- 8>&- &
  else
    command -v setsid >/dev/null || refuse "the machine has neither systemd-run nor setsid"
    detach
  fi
}

dead() { # whether the job has ended before it began: its process, or what orders its unit, and then the unit
  ! kill -0 "$!" 2>/dev/null && [ ! -e "$dir/unlaunched" ] || return 1
  # a unit that waits in systemd's queue is inactive and has a job number: the systemd-run of RHEL 7 does not wait for it
  [ "$runner" = setsid ] || case $(timeout 10 systemctl show -p ActiveState -p Job "fleetpatch-$id" 2>/dev/null) in
    *Job=[1-9]*) return 1 ;;
    *=inactive* | *=failed*) ;;
    *) return 1 ;;
  esac
  [ ! -e "$dir/meta" ]
}

begun() { # wait until the job has begun
  fp_read_uptime || fp_up=0
  until=$((fp_up + patience)) naps=0
  while [ ! -e "$dir/meta" ]; do
    naps=$((naps + 1)) why="it took more than $patience seconds"
    { fp_read_uptime && [ "$fp_up" -le "$until" ]; } || [ "$naps" -lt 20 ] || return 1
    if [ -e "$dir/unlaunched" ] && rm -f "$dir/unlaunched"; then detach; fi
    fp_nap
    [ $((naps % 10)) != 0 ] || ! dead || { why="its process ended first (the journal and the audit log may say more)"; return 1; }
  done
}

said() { # what its process and systemd have said of a job that did not begin
  { cat "$dir/launch" "$dir/log"; timeout 10 journalctl -q -o cat --no-pager -n 4 -u "fleetpatch-$id"; } 2>/dev/null | sed "/^Started /d; s/^fleetpatch-${id}.service: //; s/\$/;/" | tail -c 600 | tr '\n' ' '
}

fp_ready || refuse "$fp_why" "$fp_about"
fp_mutex || refuse "$fp_why" "$fp_about"
fp_set_param token
fp_read_token of_job "$token"
fp_look "$dir"
attached=true
[ "$fp_phase" != absent ] || attached=false
locked
never="it did not begin when it was handed over, so it never begins"
[ "$fp_pid" != withdrawn ] || refuse "$never: $(said)"
if [ "$attached" = false ]; then
  others
  prune
  why=$(write 2>&1) || refuse "cannot write $dir: $why" room
  launch
  # else create the job's meta, so that it never begins; it may have begun just before
  begun || ln "$dir/withdrawn" "$dir/meta" 2>/dev/null || [ -e "$dir/meta" ] \
    || refuse "it did not begin ($why), and it can't be told whether it begins: cannot write $dir" unsure
  printf '%s\n' "$runner" >"$dir/runner"
  fp_look "$dir"
  [ "$fp_pid" != withdrawn ] || refuse "$never: $why: $(said)"
fi
runner=''
{ IFS= read -r runner <"$dir/runner"; } 2>/dev/null || :
fp_tell "$id" "attached:=$attached" "runner=$runner"
