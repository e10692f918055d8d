#!/bin/sh
# Ends a command that only reads, and that waits for a network too long. Never for what changes packages.

# fp_limited SECONDS COMMAND…: runs it; ends it with all that it has started after so many seconds (with 124, or 137 if
# it had to be killed). Where timeout is missing, or SECONDS is "", nothing ends it.
fp_limited() {
  fp_seconds=$1; shift
  case $fp_seconds in '' | *[!0-9]*) "$@"; return ;; esac
  if command -v timeout >/dev/null; then timeout -k 10 "$fp_seconds" "$@"; else "$@"; fi
}
