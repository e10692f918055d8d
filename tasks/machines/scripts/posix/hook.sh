#!/bin/sh
# Runs a hook's command. Parameters: command, timeout (whole seconds), run, machine, place, name, state (of the
# machine so far; only after it). Record: hook, with the exit code, the end of the output, and whether the timeout has
# ended it.
# The timeout ends the command with all its children: it is no package transaction.
# Step: install
# Changes: what the owner's command changes
# Requires: manager_environment
# shellcheck disable=SC2154  # variables of prelude.sh

for variable in timeout command run machine place name state; do fp_set_param "$variable"; done
seconds=$timeout
case $seconds in '' | *[!0-9]*) seconds=300 ;; 0) seconds=1 ;; esac # timeout 0 would mean no timeout
FLEETPATCH_RUN=$run FLEETPATCH_MACHINE=$machine FLEETPATCH_PLACE=$place FLEETPATCH_HOOK=$name FLEETPATCH_STATE=$state
export FLEETPATCH_RUN FLEETPATCH_MACHINE FLEETPATCH_PLACE FLEETPATCH_HOOK FLEETPATCH_STATE

limit=''
if timeout -k 60 60 true 2>/dev/null; then limit="timeout -k 10 $seconds" # a command that ignores TERM is killed
elif command -v timeout >/dev/null; then limit="timeout $seconds"; fi

# shellcheck disable=SC2086  # words of our own
hook() { cd / && $limit /bin/sh -c "$command"; }
fp_note_clock
fp_read_time
began=$fp_time
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
case $limit:$code in ?*:124 | ?*:137 | ?*:143) fp_read_time; [ "$((fp_time - began))" -lt "$((seconds - 1))" ] || late=true ;; esac
fp_emit hook "exit_code:=$code" "text=$fp_text" "timed_out:=$late"
