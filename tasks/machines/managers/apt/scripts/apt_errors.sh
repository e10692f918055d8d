#!/bin/sh
# How a job of apt tells why a transaction failed. See apt_job.sh.
# shellcheck disable=SC2154  # variables of apt_job.sh and transactions.sh

# Errors are "kind: part; part": each part is about one package, or about none (a hook, a repository).
# before: what a script or a hook said last, with the lines that are indented below it, as far as it is no line of apt
# or dpkg about their progress
# shellcheck disable=SC2016  # awk's $, not the shell's
read_errors='
  function say(s, own) {
    if (own != "" && own != s) s = s " (" own ")"
    gsub(/; /, ", ", s)
    if (s == "" || s in told || length(text) > 1500) return
    told[s]; text = text (text == "" ? "" : "; ") substr(s, 1, 400)
  }
  failed != "" { sub(/^ +/, ""); if ($0 !~ /^dependency problems/) say(failed ": " $0, before); failed = before = ""; next }
  /^dpkg: error processing / { failed = $5; if ($4 == "archive") { sub(/.*\//, "", failed); sub(/_.*/, "", failed) }; next }
  /^(Setting up|Processing triggers for|Preparing to unpack|Unpacking|Selecting|Fetched|\(Reading) |^Get:/ { before = ""; next }
  block != "" && /^ / { sub(/^ +/, ""); block = block " " $0; next } # apt 3 and dpkg continue an error in further lines
  block != "" { say(block); block = "" }
  /^E: (Problem executing scripts|Failure running script) / { say(substr($0, 4), before); before = ""; next }
  /^E: / && !/^E: Sub-process (\/usr\/bin\/dpkg )?returned/ { block = substr($0, 4); next }
  /^dpkg: error: / { block = $0; next }
  /^ [^ ]+ depends on .*; however:$/ { sub(/;$/, "", $4); say($1 " is not set up because " $4 " failed"); next }
  / : (Depends|PreDepends|Conflicts|Breaks): / { sub(/^ +/, ""); say($0) }
  /[^ ]/ && !/^(W: |N: |Errors were encountered|dpkg: dependency problems|  ?Package | [^ ]+$)/ {
    if (/^  / && before != "") { sub(/^ +/, ""); before = substr(before " " $0, 1, 300) } else before = $0
  }
  END { if (failed != "") say(failed); if (block != "") say(block); print kind ": " (text == "" ? "see the job\047s log" : text) }'

changed_something() { [ -n "$set_up" ] || apt_began; }

complaint() {
  words=$(fp_last_words) changed=no
  if changed_something; then changed=yes; fi
  case $changed:$words in
    *'dpkg was interrupted'*) kind=interrupted ;;
    no:*'Could not get lock'* | no:*'is another process using it'* | no:*'locked by another process'*) kind=lock ;; # this kind means that nothing has begun
    *'No space left on device'* | *"don't have enough free space"*) kind=space ;;
    *'Held packages were changed'*) kind=held ;;
    *'conffile prompt'*) kind=configuration-file ;;
    *'script subprocess '*) kind=maintainer-script ;;
    *'Failed to fetch'* | *'Unable to fetch some archives'*) kind=fetch ;;
    *"' was not found"* | *'Unable to locate package'*) kind=gone ;;
    *'unmet dependencies'* | *'held broken packages'* | *'but remove is disabled'* | *'--no-remove'*) kind=refused ;;
    *) kind=failed ;;
  esac
  lines "$words" | awk -v kind="$kind" "$read_errors"
}

ended() { # CODE
  error=
  [ "$1" -eq 0 ] || error=$(complaint)
  fp_transaction_ended "$1" "${error%%:*}" "$error"
}
