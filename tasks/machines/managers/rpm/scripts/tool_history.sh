#!/bin/sh
# Reads the history of dnf 4 or yum. dnf 5 has another one.
# Requires: limited
# shellcheck disable=SC2034  # used by the scripts that this is put before

# fp_note_history: sets fp_history to what the last 30 transactions did, the newest first; nothing where there is no such
# tool. Another process that has the tool's lock is not waited for. A history that can't be read gives the section "history".
fp_history=''
fp_note_history() { fp_history=$(fp_read_history 2>&1) || { fp_send_section history '' "$?" "$fp_history"; fp_history=''; }; }
fp_read_history() {
  for fp_tool in dnf yum ''; do ! command -v "$fp_tool" >/dev/null || break; done
  case $fp_tool:$(readlink -f "$(command -v "$fp_tool")") in :* | *dnf5) return 0 ;; esac
  fp_all=''
  [ "$fp_tool" = dnf ] || fp_all=all # of itself, yum lists 20
  # shellcheck disable=SC2086  # a word, or nothing
  fp_ids=$(fp_ask_history list $fp_all) || { fp_code=$?; printf '%s\n' "$fp_ids"; return "$fp_code"; }
  fp_ids=$(printf '%s\n' "$fp_ids" | awk '$1 ~ /^[0-9]+$/ && count++ < 30 { print $1 }')
  # shellcheck disable=SC2086  # numbers
  [ -z "$fp_ids" ] || fp_ask_history info $fp_ids
}
fp_ask_tool() { fp_limited 60 "$fp_tool" "$@"; }
fp_ask_history() { fp_ask_tool -C --setopt=exit_on_lock=True --setopt=color=never history "$@"; }
