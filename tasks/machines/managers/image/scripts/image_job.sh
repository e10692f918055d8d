# shellcheck shell=sh
# A detached job: downloads the next image or stages it for the next boot. It never reboots, and never ends the tool
# while that stages. Parameters: those of transactions.sh, tx_N_image (what the system follows), tx_N_digest (the first
# digits of the chosen image's digest; empty when the tool could not tell it).
# Step: install
# Changes: the image of the next boot
# Requires: manager_environment, unfinished_packages, image_tool, transactions
# shellcheck disable=SC2154  # variables of transactions.sh and image_tool.sh

errors() { # what the tool itself reports: a scriptlet of a package may print any words, also those below
  fp_last_words | grep -E -e '^ *((error|ERROR|Error)[: ]|Problem:)' -e "^(Another instance of tukit is already running|Couldn't get lock)" \
    -e '^ *(warning: %[a-z]+\(.* scriptlet failed|Warning: .* %posttrans script failed )' \
    -e '^(System management is locked by the application with pid |Download \(curl\) error for |Curl error|Timeout exceeded when accessing )'
}

error_cause() { # the cause that the tool's last words name
  case $(errors) in
    *'ransaction in progress'* | *'nother instance of '*' is already running'* | *'System management is locked by the application'* | *"Couldn't get lock"*) echo lock ;;
    *'No space left on device'* | *'min-free-space'* | *'nsufficient free space'* | *'not enough '*' space'* | *'Disk quota exceeded'*) echo space ;;
    *'anifest unknown'* | *'No such branch'* | *'name unknown'* | *'No such metadata object'*) echo gone ;;
    *'chronologically older'* | *'ignature'* | *'not trusted'* | *'local rpm-ostree modifications'* | *'depsolve'* | *'conflicting requests'* | *'are driven by'*) echo refused ;;
    *'scriptlet failed'* | *'%posttrans script failed '*) echo maintainer-script ;; # transactional-update discards the snapshot
    *'esolve host'* | *'imed out'* | *'imeout'* | *'onnection refused'* | *'no such host'* | *'nauthorized'* | *'While fetching'* | *'While pulling'* | *'Download (curl) error'* | *'pinging container registry'*) echo fetch ;;
    *) echo failed ;;
  esac
}

describe_error() {
  words=$(errors | tail -n 3)
  [ -n "$words" ] || words=$(fp_last_words | grep . | tail -n 2)
  printf '%s\n' "${words:-see the log of the job}" | cut -c 1-400 | awk '{ printf "%s%s", (NR > 1 ? "; " : ""), $0 }'
}

ended() { # CODE
  if [ "$1" -eq 0 ]; then
    fp_emit transaction_ended number:="$number" at:="$(fp_now)" exit_code:=0 cause= error= undo="$(tool_undo)"
  else
    cause=$(error_cause)
    fp_transaction_ended "$1" "$cause" "$cause: $(describe_error)"
  fi
}

not_begun() { [ "$ended_for" = gone ] || fp_not_begun; } # of "gone", is_chosen_image has written the record

with_lock() { # COMMAND…: repeated while another process changes deployments, at most until the latest start
  ended_for=''
  fp_limit_lock_wait
  while :; do
    fp_mark_log
    "$@" 3>&-; result=$?
    if [ "$result" -eq 0 ] || [ -n "$ended_for" ] || [ "$(error_cause)" != lock ]; then return; fi
    wait_for_turn "$1" || return
  done
}

wait_for_turn() { # COMMAND: whether it may be tried again; what it stages must still be the chosen image, the other process may have fetched one
  while [ "$(fp_seconds_until "$until")" -ge 3 ]; do
    fp_tell_waiting 'another process changes deployments'
    sleep 2
    if fp_stop_requested; then ended_for=stop; return 1; fi
    [ "$1" = tool_stage ] || return 0
    find_offer
    if [ -n "$chosen" ] && [ -z "$offered" ]; then continue; fi # not known while the other process works
    is_chosen_image || { ended_for=gone; return 1; }
    ! fp_is_over "$until"; return
  done
  return 1
}

fetch() { # sets result and ended_for
  if fp_is_over "$stop_at"; then ended_for=window; elif fp_stop_requested; then ended_for=stop; fi
  [ -z "$ended_for" ] || return 1
  fp_while_in_time tool_download; result=$?
  # only what our client ordered is cancelled, if it was ended here (128 + SIGTERM): another one's work goes on
  if [ -n "$ended_for" ] && [ "$result" -eq 143 ] && [ "$(error_cause)" != lock ]; then tool_cancel; fi
  return "$result"
}

find_offer() { # sets chosen and offered; they are empty if the tool stages whatever there is
  chosen='' offered=''
  ! tool_pins || chosen=$(fp_param "tx_${number}_digest")
  [ -n "$chosen" ] || return 0
  offered=$(tool_offer)
  offered=${offered#*:}
}

is_chosen_image() { # after find_offer: whether that is still what the source offers, else with the record
  case $offered in
    "$chosen"*) return 0 ;;
    '') fp_transaction_ended 1 fetch "fetch: which image the source of $image offers now is not known, so nothing is staged: $(describe_error)" ;;
    *) fp_transaction_ended 1 gone "gone: the source of $image no longer offers the chosen image ($chosen) but a newer one ($(printf %.12s "$offered"))" ;;
  esac
  return 1
}

install() {
  fp_download_started
  if tool_can_download; then
    with_lock fetch
    if not_begun; then return; fi
    if [ "$result" -ne 0 ]; then ended "$result"; return; fi
  fi
  find_offer
  is_chosen_image || return 0
  if fp_stop_requested; then fp_not_attempted stop 'asked to stop'; return; fi
  if fp_is_over "$latest"; then fp_not_attempted download ''; return; fi
  fp_transaction_started
  with_lock tool_stage
  if not_begun; then return; fi
  ended "$result"
}

stage() {
  if ! tool_can_download; then
    fp_not_attempted 'nothing is downloaded ahead' 'the tool of this system downloads an image only when it stages it'
    return
  fi
  fp_transaction_started
  with_lock fetch
  not_begun || ended "$result"
}

transaction() {
  image=$(fp_param "tx_${number}_image")
  case $work in
    stage) stage ;;
    install) install ;;
    repair) fp_not_attempted 'nothing to repair' 'an image is staged as a whole or not at all' ;;
  esac
}

fp_each_transaction transaction
