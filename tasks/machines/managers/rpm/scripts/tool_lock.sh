#!/bin/sh
# Waits for the lock of a tool that gives up at once if another process has it. Parameter: lock_wait_seconds (in all; 0
# without it).
# shellcheck disable=SC2154  # package_queries.sh sets busy_code: the tool's exit code in that case; fp_set_param

fp_set_param lock_wait_seconds
fp_read_time
fp_tool_lock_until=$((fp_time + ${lock_wait_seconds:-0}))

# fp_ask_until_unlocked COMMAND…: again and again, as long as another process has the lock; for a command that then prints
# nothing to stdout
fp_ask_until_unlocked() {
  while "$@"; fp_code=$?; [ "$fp_code" -eq "$busy_code" ] && fp_read_time && [ "$fp_time" -lt "$fp_tool_lock_until" ]; do sleep 2; done
  return "$fp_code"
}

# fp_until_unlocked COMMAND…: again and again, as long as another process has the lock; prints only the last answer, and
# ends as the command
fp_until_unlocked() {
  while fp_answer=$("$@"); fp_code=$?; [ "$fp_code" -eq "$busy_code" ] && fp_read_time && [ "$fp_time" -lt "$fp_tool_lock_until" ]; do sleep 2; done
  [ -z "$fp_answer" ] || printf '%s\n' "$fp_answer"
  return "$fp_code"
}
