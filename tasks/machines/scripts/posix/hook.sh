#!/bin/sh
# Runs a hook's command. Parameters: command, timeout (whole seconds), run, machine, place, name, state (of the
# machine so far; only after it). Record: hook, with the exit code, the end of the output, and whether the timeout has
# ended it.
# The timeout ends the command with all its children: it is no package transaction.
# Requires: manager_environment
# shellcheck disable=SC2154  # variables of prelude.sh

seconds=$(fp_param timeout)
case $seconds in '' | *[!0-9]*) seconds=300 ;; 0) seconds=1 ;; esac # timeout 0 would mean no timeout
command=$(fp_param command)
FLEETPATCH_RUN=$(fp_param run) FLEETPATCH_MACHINE=$(fp_param machine) FLEETPATCH_PLACE=$(fp_param place)
FLEETPATCH_HOOK=$(fp_param name) FLEETPATCH_STATE=$(fp_param state)
export FLEETPATCH_RUN FLEETPATCH_MACHINE FLEETPATCH_PLACE FLEETPATCH_HOOK FLEETPATCH_STATE

limit=''
if timeout -k 60 60 true 2>/dev/null; then limit="timeout -k 10 $seconds" # a command that ignores TERM is killed
elif command -v timeout >/dev/null; then limit="timeout $seconds"; fi

# shellcheck disable=SC2086  # words of our own
hook() { cd / && $limit /bin/sh -c "$command"; }
fp_note_clock
began=$(fp_now)
# first the exit code, then the end of the text
answer=$(
  exec 6>&1
  { hook </dev/null 3>&- 6>&-; printf '%s\n' "$?" >&6; } 2>&1 | tail -c 4000
)
code=${answer%%
*}
text=${answer#"$code"}
fp_untear "${text#?}" 4000
late=false
case $limit:$code in ?*:124 | ?*:137 | ?*:143) [ "$(($(fp_now) - began))" -lt "$((seconds - 1))" ] || late=true ;; esac
fp_emit hook "exit_code:=$code" "text=$fp_text" "timed_out:=$late"
