#!/bin/sh
# Runs an owner's command. Parameters: command, timeout (whole seconds). Record: probe, with the end of all it printed.
# A command that takes too long is ended (exit code 124, or 143): it is a question, no package transaction.

seconds=$(fp_param timeout)
case $seconds in '' | *[!0-9]*) seconds=30 ;; 0) seconds=1 ;; esac # timeout 0 would be none at all
command=$(fp_param command)

ask() {
  if command -v timeout >/dev/null; then timeout "$seconds" /bin/sh -c "$command"; else /bin/sh -c "$command"; fi
}
# the exit code comes first, behind it the tail of the text
answer=$(
  exec 6>&1
  { ask </dev/null 3>&- 6>&-; printf '%s\n' "$?" >&6; } 2>&1 | tail -c 4000
)
code=${answer%%
*}
text=${answer#"$code"}
fp_emit probe "exit_code:=$code" "text=${text#?}"
