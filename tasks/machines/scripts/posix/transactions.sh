#!/bin/sh
# Functions that the jobs of all package managers share: the loop over a job's transactions, and their records. A
# manager's script defines a function that executes one transaction, and ends with "fp_each_transaction FUNCTION".
# Nothing here ends a command that changes packages.
# Parameters: work ("stage", "install", "repair", "remove", "roll-back"), numbers (list), tx_N_latest_start and tx_N_stop_at (epoch seconds;
# when a download is ended, by default the latest start), lock_wait_seconds (how long to wait for another process's lock;
# by default until nothing may begin any more; a repair or a removal waits 300 seconds).
# The function finds: $work, $number, $latest, $stop_at, $log (the job's log) and $log_from (where this transaction
# begins in it).
# shellcheck disable=SC2034,SC2154  # used by the scripts that this is put before; set by the prelude

trap : HUP INT TERM # a handler, not "ignore": children must not inherit it

log=$FP_JOB_DIR/log
fp_set_param work
fp_set_param lock_wait_seconds
lock_wait=$lock_wait_seconds
case $work in repair | remove) lock_wait=${lock_wait:-300} ;; esac
fp_awaited=''

fp_seconds_until() { fp_read_time; echo $(($1 - fp_time)); } # this time is never set back
fp_is_over() { fp_ask_time; ! [ "$1" -ge "$fp_time" ]; } # also if one of them is no number: without a known end, nothing begins
fp_mark_log() { log_from=$(wc -c <"$log"); } # the log after this point belongs to the work that begins now
fp_plain_line='{ gsub(/\033\[[0-9;]*[A-Za-z]/, "") }' # a rule of awk: without colours, which some machines have always on
fp_plain() { awk "$fp_plain_line"'{ print }'; }
fp_words() { tail -c "+$((log_from + 1))" "$log" 2>/dev/null | fp_plain; } # all of it: scripts of packages may print a lot
fp_said() { tail -c "+$((log_from + 1))" "$log" 2>/dev/null | awk "$fp_plain_line /$1/ { found = 1 } END { exit !found }"; } # REGULAR EXPRESSION; it reads to the end, so that no command reports a broken pipe
fp_last_line() { grep . "$1" | tail -n 1 | cut -c 1-300; } # FILE: the last one that a tool has written there
fp_last_words() { tail -c "+$((log_from + 1))" "$log" 2>/dev/null | tail -c 65536 | fp_plain; }

fp_not_attempted() { # WHY DETAIL; if the job was to stop for another run, these say so
  preempted_by=''
  if [ "$1" = stop ]; then { IFS= read -r preempted_by <"$FP_JOB_DIR/stop"; } 2>/dev/null || :; fi
  [ -z "$preempted_by" ] || set -- preempted "$preempted_by"
  fp_read_time
  fp_emit not_attempted number:="$number" at:="$fp_time" latest_start:="$latest" why="$1" detail="$2"
}
fp_not_begun() { # whether time or a stop ended the work before anything was changed, with its record
  case $ended_for in
    window) fp_not_attempted download '' ;;
    stop) fp_not_attempted stop 'asked to stop' ;;
    *) return 1 ;;
  esac
}
fp_download_started() { fp_read_time; fp_emit download_started number:="$number" at:="$fp_time"; }
fp_transaction_started() { fp_read_time; fp_emit transaction_started number:="$number" at:="$fp_time"; }
fp_transaction_ended() { # CODE CAUSE ERROR [UNDO]: how to undo it, or why that is not possible
  fp_read_time
  words='' # of the tool, where the job finds no error in them: the controller looks again
  case $3 in *": see the job's log") fp_untear "$(fp_last_words | tail -c 4096)" 4096; words=$fp_text ;; esac
  fp_emit transaction_ended number:="$number" at:="$fp_time" exit_code:="$1" cause="$2" error="$3" ${4:+undo="$4"} ${words:+words="$words"}
}
fp_tell_waiting() { # WHO: who is waited for; a record for each
  [ "$1" != "$fp_awaited" ] || return 0
  fp_awaited=$1
  fp_read_time
  fp_emit waiting number:="$number" at:="$fp_time" who="$1"
}
fp_progress() { fp_emit progress number:="$number" percent:="$1" update="$2" action="$3"; } # PERCENT UPDATE ACTION

# fp_watch_progress FILE END FUNCTION: until the file END exists or the job has ended. FUNCTION prints the newest progress in
# FILE: percent, update and action, each in a line; it is called in a subshell of its own. It reads a file, so that no dead reader
# can end the package manager.
# It runs in the background, and fp_end_watch ends it in the middle of a nap.
fp_watch_progress() {
  fp_seen='' fp_naps=0 fp_sleeper=''
  trap '[ -z "$fp_sleeper" ] || kill "$fp_sleeper" 2>/dev/null; exit 0' TERM
  : >"$FP_JOB_DIR/looked"
  while [ ! -e "$2" ] && kill -0 $$ 2>/dev/null; do
    # the package manager may end soon; a longer one is looked at more rarely: each look starts some processes
    case $fp_naps in [01]) fp_tick 0.3 ;; [2-5]) fp_tick 1 ;; [6-9]) fp_tick 2 ;; *) fp_tick 5 ;; esac
    fp_naps=$((fp_naps + 1))
    # To read starts some processes, and a file that is as old as the last look has nothing new. Two writes within a tick
    # of the clock have one time, so it is read at every fourth nap all the same.
    # shellcheck disable=SC3013  # POSIX has -nt since 2024, and every sh of such a machine
    [ $((fp_naps % 4)) -eq 0 ] || [ "$1" -nt "$FP_JOB_DIR/looked" ] || continue
    : >"$FP_JOB_DIR/looked"
    fp_newest=$("$3")
    [ -n "$fp_newest" ] && [ "$fp_newest" != "$fp_seen" ] || continue
    fp_seen=$fp_newest
    {
      IFS= read -r fp_percent; IFS= read -r fp_update; IFS= read -r fp_action # empty ones at the end have no line
    } <<NEWEST
$fp_newest
NEWEST
    fp_progress "$fp_percent" "$fp_update" "$fp_action"
  done
}

fp_tick() { # SECONDS: a nap of a watcher in the background, which a TERM ends. Not every sleep knows fractions
  sleep "$1" 2>/dev/null &
  fp_sleeper=$!
  wait "$fp_sleeper" || { sleep 1 & fp_sleeper=$!; wait "$fp_sleeper"; }
  fp_sleeper=''
}

fp_end_watch() { kill "$1" 2>/dev/null; wait "$1" 2>/dev/null; } # PID of a watcher in the background

fp_limit_lock_wait() { # sets until: the end of the wait for another process's lock; a download leaves time for the installation
  fp_read_time
  wait_for=$((latest - fp_time))
  [ "$work" != stage ] || [ "$stop_at" -ge "$latest" ] || wait_for=$((stop_at - fp_time))
  [ -z "$lock_wait" ] || [ "$wait_for" -lt "$lock_wait" ] || wait_for=$lock_wait
  [ "$wait_for" -gt 0 ] || wait_for=0
  until=$((fp_time + wait_for))
}

fp_while_in_time() { # COMMAND…, which changes no package: it is ended when its time is over or a stop is requested; ended_for says why
  ended_for=''
  rm -f "$FP_JOB_DIR/ended-for"
  "$@" &
  fetching=$!
  fp_watch_time &
  watching=$!
  while :; do # a signal to this process ends a wait, not the command
    wait "$fetching"; fetched=$?
    { [ "$fetched" -gt 128 ] && kill -0 "$fetching" 2>/dev/null; } || break
  done
  fp_end_watch "$watching"
  { read -r ended_for <"$FP_JOB_DIR/ended-for"; } 2>/dev/null || :
  return "$fetched"
}

fp_watch_time() { # ends $fetching when its time is over or a stop is requested; in the background
  fp_ticks=0 fp_sleeper=''
  trap '[ -z "$fp_sleeper" ] || kill "$fp_sleeper" 2>/dev/null; exit 0' TERM
  while kill -0 "$fetching" 2>/dev/null; do # also if the job's first shell was killed
    # to ask whether the system shuts down starts a process
    if fp_is_over "$stop_at"; then ended_for=window
    elif [ -e "$FP_JOB_DIR/stop" ] || { [ $((fp_ticks % 5)) = 0 ] && fp_stop_requested; }; then ended_for=stop; fi
    if [ -n "$ended_for" ]; then
      echo "$ended_for" >"$FP_JOB_DIR/ended-for"
      kill -TERM "$fetching" 2>/dev/null
      break
    fi
    fp_ticks=$((fp_ticks + 1))
    fp_tick 1
  done
  while kill -0 "$fetching" 2>/dev/null; do fp_tick 1; done # it may take long to end, and this process is ended after it
}

# fp_look_anew: just before packages change: another process's change may have ended during the last check, with its lock.
# Then the check is repeated. If packages must not be changed, ended_for says why. The job defines read_stamp (prints what
# each change of packages changes) and look (the check; it sets looked_at to the stamp before it).
fp_look_anew() {
  while [ "$(read_stamp)" != "$looked_at" ]; do
    look || { ended_for=unwanted; return 1; }
    if fp_is_over "$latest"; then ended_for=window; return 1; fi
  done
  if fp_stop_requested; then ended_for=stop; return 1; fi # a check can take minutes, and meanwhile a shutdown may begin
}

fp_each_transaction() { # FUNCTION: one after the other; before each: is a stop requested? is there time?
  fp_set_param numbers
  for number in $numbers; do
    fp_set_param "tx_${number}_latest_start"
    latest=$fp_stored
    fp_set_param "tx_${number}_stop_at"
    stop_at=${fp_stored:-$latest} ended_for=''
    fp_mark_log
    if fp_stop_requested; then fp_not_attempted stop 'asked to stop'; continue; fi
    if fp_is_over "$latest"; then fp_not_attempted window ''; continue; fi
    "$1"
  done
  fp_read_time
  fp_emit finished at:="$fp_time"
}
