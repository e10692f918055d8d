#!/bin/sh
# Runs a check's command. Parameters: command, timeout (whole seconds). Record: probe, with the end of its output.
# The timeout ends the command (exit code 124, or 143): it is no package transaction.
# Step: precheck
# Changes: what the owner's command changes
# Requires: manager_environment
# shellcheck disable=SC2154  # variables of prelude.sh

fp_set_param timeout
seconds=$timeout
case $seconds in '' | *[!0-9]*) seconds=30 ;; 0) seconds=1 ;; esac # timeout 0 would mean no timeout
fp_set_param command

ask() {
  if command -v timeout >/dev/null; then timeout "$seconds" /bin/sh -c "$command"; else /bin/sh -c "$command"; fi
}
# first the exit code, then the end of the text
answer=$(
  exec 6>&1
  { ask </dev/null 3>&- 6>&-; printf '%s\n' "$?" >&6; } 2>&1 | tail -c 4000
)
code=${answer%%
*}
text=${answer#"$code"}
fp_untear "${text#?}" 4000
fp_emit probe "exit_code:=$code" "text=$fp_text"
