#!/bin/sh
# Functions that the job_* scripts share. A job is a directory: run script params log events meta rc stop. The job
# itself creates its meta atomically, with its process (pid, start time, boot: fp_read_boot). It creates its rc, the exit code,
# atomically at its end.
# If a start waits in vain for the job, it creates the meta atomically as "withdrawn". Then the job never begins: it
# is absent.
# shellcheck disable=SC2034,SC2154  # used by the scripts that this is put before; set by the prelude

fp_set_param root
fp_jobs=${fp_stored:-/var/lib/fleetpatch/jobs}
fp_about='' # the kind of a refusal: machine_lock, room, unsure (an earlier order may still be executed), or empty
fp_read_boot

# fp_ours DIR: whether only we may write into a directory; else fp_why says what is wrong. Anyone else who may write
# there could make root run another script than the one that was sent.
fp_ours() {
  # a mode and a number, whatever the name is; stat is not everywhere
  read -r fp_mode _ fp_owner _ <<IS
$(ls -ldn "$1" 2>/dev/null)
IS
  # shellcheck disable=SC3067  # every sh of such a machine has -O
  case $fp_mode in
    l*) fp_why="$1 is a link"; return 1 ;;
    d????-??-*) [ ! -O "$1" ] || return 0 ;;
    d????????[tT]*) ;;
    d*) fp_why="others may write into $1"; return 1 ;;
    *) fp_why="$1 is no directory"; return 1 ;;
  esac
  [ "$1" = "$fp_jobs" ] || [ "$fp_owner" != 0 ] || return 0
  fp_why="$1 belongs to another user"
  return 1
}

# fp_ready: makes the directory of jobs. If it can't be used, fp_why says why, and fp_about is "room" if it can't be
# written.
fp_ready() {
  fp_above=${fp_jobs%/*}
  if [ -e "$fp_above" ] || [ -h "$fp_above" ]; then fp_ours "$fp_above" || return 1; fi
  if [ -h "$fp_jobs" ] || { [ ! -d "$fp_jobs" ] && ! mkdir -p "$fp_jobs" 2>/dev/null; } || [ ! -w "$fp_jobs" ]; then
    fp_why="cannot write $fp_jobs" fp_about=room
    [ ! -h "$fp_jobs" ] || fp_why="$fp_jobs is a link" fp_about=''
    return 1
  fi
  fp_ours "$fp_jobs"
}

# fp_mutex: takes the mutex that separates all scripts that start jobs or change the machine lock. The kernel releases
# it when the process ends. If it can't be taken, fp_why says why.
fp_mutex() {
  command -v flock >/dev/null || return 0
  fp_why="cannot write $fp_jobs/.lock" fp_about=room
  true 2>/dev/null >>"$fp_jobs/.lock" || return 1
  fp_about=''
  exec 8>>"$fp_jobs/.lock"
  fp_read_uptime || fp_up=0
  fp_until=$((fp_up + 20))
  ! flock -w 20 8 2>/dev/null || return 0
  while fp_read_uptime && [ "$fp_up" -lt "$fp_until" ]; do # flock of busybox has no -w
    ! flock -n 8 || return 0
    sleep 1
  done
  fp_why="another process has kept $fp_jobs/.lock locked for 20 seconds" fp_about=unsure
  return 1
}

# The machine lock: a file of five lines, beside the jobs: the run that has the machine, until when (epoch seconds;
# 0: it was released), who started the run, the number of the attempt at that run, and the run's kind ("stage": it only
# downloads). An attempt that resumes a run has a higher number.
fp_set_number() { case $2 in '' | *[!0-9]*) eval "$1=0" ;; *) eval "$1=\$2" ;; esac; } # VARIABLE TEXT: 0 if it is no number

fp_read_lock() { # sets the fp_lock_… from the file; an empty fp_lock_run: no lock
  fp_lock_run='' fp_lock_until='' fp_lock_by='' fp_lock_attempt='' fp_lock_kind=''
  { IFS= read -r fp_lock_run && IFS= read -r fp_lock_until && IFS= read -r fp_lock_by \
    && IFS= read -r fp_lock_attempt && IFS= read -r fp_lock_kind; } 2>/dev/null <"${fp_jobs%/*}/machine-lock" || :
  fp_set_number fp_lock_until "$fp_lock_until"
  fp_set_number fp_lock_attempt "$fp_lock_attempt"
}

fp_write_lock() { # RUN UNTIL BY ATTEMPT KIND: all of it or nothing
  fp_by=$3
  case $fp_by in *"$fp_newline"*) fp_by=$(printf '%s' "$fp_by" | tr '\n' ' ') ;; esac
  printf '%s\n%s\n%s\n%s\n%s\n' "$1" "$2" "$fp_by" "$4" "$5" 2>/dev/null >"${fp_jobs%/*}/machine-lock.new" \
    && mv -f "${fp_jobs%/*}/machine-lock.new" "${fp_jobs%/*}/machine-lock"
}

# fp_keep_lock RUN ATTEMPT UNTIL: after fp_check_lock, store what an order says: a later attempt, or a later end of
# the lock; the fp_lock_… then have it
fp_keep_lock() {
  fp_set_number fp_until "$3"
  [ "$2" -gt "$fp_lock_attempt" ] || [ "$fp_until" -gt "$fp_lock_until" ] || return 0
  [ "$fp_until" -gt "$fp_lock_until" ] || fp_until=$fp_lock_until
  fp_write_lock "$1" "$fp_until" "$fp_lock_by" "$2" "$fp_lock_kind" || return 1
  fp_lock_until=$fp_until fp_lock_attempt=$2
}

# fp_check_lock RUN ATTEMPT: whether that run has the lock, and no later attempt is known; else fp_why says who has
# it, and fp_holder is the run that has it, if it is another one. An order may have been delayed while another attempt took the run over.
fp_check_lock() {
  fp_read_lock
  fp_why='' fp_holder=''
  if [ "$fp_lock_run" != "$1" ] || [ "$fp_lock_until" = 0 ]; then
    fp_why="no run has it"
    case $fp_lock_run:$fp_lock_by in "$1:lifted by "*) fp_why="it was removed by ${fp_lock_by#lifted by }" ;; esac
    [ "$fp_lock_until" = 0 ] || fp_why="run $fp_lock_run ($fp_lock_by) has it" fp_holder=$fp_lock_run
    fp_why="run $1 no longer has the lock of this machine: $fp_why"
  elif [ "$2" -lt "$fp_lock_attempt" ]; then
    fp_why="run $1 was resumed: its attempt $fp_lock_attempt has the lock, and this order is of attempt $2"
  fi
  [ -z "$fp_why" ]
}

# fp_find_running: sets fp_busy to the id of a job that runs now, or to nothing
fp_find_running() {
  fp_busy=''
  for fp_other in "$fp_jobs"/*/meta; do
    fp_other=${fp_other%/meta}
    [ -d "$fp_other" ] || continue
    fp_look "$fp_other"
    [ "$fp_phase" != running ] || { fp_busy=${fp_other##*/}; return 0; }
  done
}

# fp_job_param DIR NAME: a parameter of a job
fp_job_param() {
  (
    IFS= read -r fp_token <"$1/params"
    fp_read_token fp_of_job "$fp_token"
    fp_print_param fp_of_job "$2"
  ) 2>/dev/null
}

# fp_request_stop DIR BY: asks a job to stop between two transactions. BY is the other run for which it is to stop, or
# empty. A request without BY keeps an earlier one, with its reason.
fp_request_stop() {
  if [ -n "$2" ] && printf '%s\n' "$2" 2>/dev/null >"$1/stop.new" && mv -f "$1/stop.new" "$1/stop"; then return 0; fi
  true 2>/dev/null >>"$1/stop"
}

fp_nap() { sleep 0.05 2>/dev/null || sleep 1; }

# fp_running PID START: whether exactly that process still runs
fp_running() {
  fp_wanted=$2
  { IFS= read -r fp_stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  # shellcheck disable=SC2086  # fields; what stands before the last bracket is the name, which may hold anything
  set -- ${fp_stat##*) }
  case $1 in Z | X) return 1 ;; esac
  [ "${20}" = "$fp_wanted" ]
}

# fp_left PID: whether any process of the job's session still runs. A package transaction continues if only its shell
# was killed (out of memory, or by a person). The kernel does not reuse the number of a session that has processes.
fp_left() {
  cat /proc/[0-9]*/stat 2>/dev/null \
    | awk -v session="$1" '{ sub(/.*\) /, "") } $4 == session && $1 !~ /[ZX]/ { found = 1; exit } END { exit !found }'
}

fp_read_rc() {
  fp_rc='' fp_ended=''
  { read -r fp_rc fp_ended <"$1/rc"; } 2>/dev/null || return 1
  case $fp_rc in '' | *[!0-9]*) fp_rc=''; return 1 ;; esac
}

# fp_look DIR: sets fp_phase to absent, running, finished or lost; fp_rc, fp_began and fp_ended if they are known
fp_look() {
  fp_phase=absent fp_rc='' fp_began='' fp_ended='' fp_pid=''
  { read -r fp_pid fp_start fp_then fp_began <"$1/meta"; } 2>/dev/null || return 0
  [ "$fp_pid" != withdrawn ] || return 0
  if fp_read_rc "$1"; then
    fp_phase=finished
  elif fp_is_boot "$fp_then" && { fp_running "$fp_pid" "$fp_start" || fp_left "$fp_pid"; }; then
    fp_phase=running
  elif fp_read_rc "$1"; then # it ended between the two checks
    fp_phase=finished
  else
    fp_phase=lost
  fi
}

# fp_tell ID [MORE…]: one record with the result of fp_look
fp_tell() {
  fp_id=$1; shift
  fp_emit job "id=$fp_id" "phase=$fp_phase" "exit_code:=$fp_rc" "began:=$fp_began" "ended:=$fp_ended" "$@"
}
