# shellcheck shell=sh
# A detached job: download, install or repair, one transaction after the other. Nothing in here ever ends apt or dpkg.
# Parameters: work ("stage", "install", "repair"), numbers (list), tx_N_packages (list of name=version), tx_N_latest_start
# (epoch seconds), allowed (list: other packages that may change), allow_removals ("yes"), lock_wait_seconds.
# Its files lie beside the job's own: apt-status (what apt tells of its progress), apt-began, apt-done.

trap : HUP INT TERM # a handler, not "ignore": children must not inherit it

status=$FP_JOB_DIR/apt-status began=$FP_JOB_DIR/apt-began finished=$FP_JOB_DIR/apt-done log=$FP_JOB_DIR/log
work=$(fp_param work)
lock_wait=$(fp_param lock_wait_seconds)
removals=--no-remove
[ "$(fp_param allow_removals)" != yes ] || removals=

lines() { printf '%s\n' "$@"; }
without() { awk 'FNR == NR { drop[$0]; next } $0 != "" && !($0 in drop)' "$1" -; } # FILE: stdin's lines that it lacks
last_words() { tail -c "+$((log_from + 1))" "$log" 2>/dev/null | tail -c 65536; }

not_attempted() { fp_emit not_attempted number:="$number" at:="$(fp_now)" latest_start:="$latest" why="$1" detail="$2"; }

# ---- progress: apt writes to a file, where nobody's death can end it; a reader looks at its last line twice a second

# shellcheck disable=SC2016  # awk's $, not the shell's
read_progress='
  { for (i = 2; i <= NF && $i !~ /^[0-9]+\.[0-9]+$/; i++) name = name (i > 2 ? ":" : "") $i
    if (i > NF) exit
    for (j = i + 1; j <= NF; j++) action = action (j > i + 1 ? ":" : "") $j
    percent = $i; if (percent > 100) percent = 100
    if (work == "install") percent = $1 == "dlstatus" ? percent / 5 : 20 + percent * 4 / 5
    if ($1 == "dlstatus" || name == "dpkg-exec") name = ""
    printf "%.1f\n%s\n%s\n", percent, name, action }'

watch_apt() {
  seen=
  while [ ! -e "$finished" ] && kill -0 $$ 2>/dev/null; do
    sleep 0.5 2>/dev/null || sleep 1
    line=$(grep -E '^(pm|dl)status:' "$status" 2>/dev/null | tail -n 1)
    [ -n "$line" ] && [ "$line" != "$seen" ] || continue
    seen=$line
    lines "$line" | awk -F : -v work="$work" "$read_progress" | {
      read -r percent && IFS= read -r name && IFS= read -r action &&
        fp_emit progress number:="$number" percent:="$percent" update="$name" action="$action"
    }
  done
}

run_apt() { # WORDS…: apt-get, with its progress told
  wait_at_most=$((latest - $(fp_now)))
  [ "$wait_at_most" -lt "${lock_wait:-0}" ] || wait_at_most=${lock_wait:-0}
  [ "$wait_at_most" -gt 0 ] || wait_at_most=0
  : >"$status"
  rm -f "$finished"
  watch_apt &
  watcher=$!
  until=$(($(fp_now) + wait_at_most))
  while :; do # apt before 1.9.11 doesn't wait for dpkg's lock, and none waits for that of its archives
    apt-get -q -y -o "DPkg::Lock::Timeout=$wait_at_most" -o Dpkg::Use-Pty=0 -o APT::Status-Fd=5 -o Acquire::Retries=3 \
      -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" 5>>"$status" 3>&-
    code=$?
    [ "$code" -ne 0 ] && last_words | grep -q 'Could not get lock' && [ "$(fp_now)" -lt "$until" ] || break
    sleep 3
    log_from=$(wc -c <"$log")
  done
  : >"$finished"
  wait "$watcher"
  return "$code"
}

configure() { # WORDS…: dpkg --configure; it doesn't wait for its lock by itself
  until=$(($(fp_now) + ${lock_wait:-0}))
  while :; do
    from=$(wc -c <"$log")
    dpkg --force-confdef --force-confold --configure "$@" 3>&- && return
    code=$?
    tail -c "+$((from + 1))" "$log" | grep -q 'locked by another process' && [ "$(fp_now)" -lt "$until" ] || return "$code"
    sleep 2
  done
}

# ---- what went wrong, as "kind: the lines that say so"

complaint() {
  words=$(last_words)
  case $words in
    *'dpkg was interrupted'*) kind=interrupted ;;
    *'Could not get lock'* | *'locked by another process'*) kind=lock ;;
    *'No space left on device'* | *"don't have enough free space"*) kind=space ;;
    *'Held packages were changed'*) kind=held ;;
    *'conffile prompt'*) kind=conffile ;;
    *'script subprocess '*) kind=maintainer-script ;;
    *'Failed to fetch'* | *'Unable to fetch some archives'*) kind=fetch ;;
    *"' was not found"* | *'Unable to locate package'*) kind=gone ;;
    *'unmet dependencies'* | *'held broken packages'* | *'but remove is disabled'* | *'--no-remove'*) kind=refused ;;
    *) kind=failed ;;
  esac
  lines "$words" | awk -v kind="$kind" '
    function say(s) { if (s == "" || s in told || length(text) > 1500) return; told[s]; text = text (text == "" ? "" : "; ") substr(s, 1, 400) }
    /^dpkg: error processing / { say(before); sub(/:$/, ""); say($0); next }
    /^ installed .* script subprocess |^ new .* script subprocess / { sub(/^ /, ""); say($0) }
    /^E: / && !/^E: Sub-process \/usr\/bin\/dpkg returned/ { say(substr($0, 4)) }
    /^dpkg: error: / { say($0) }
    / : (Depends|PreDepends|Conflicts|Breaks): / { sub(/^ +/, ""); say($0) }
    { before = $0 }
    END { print kind ": " (text == "" ? "see the job'"'"'s log" : text) }'
}

ended() { # CODE
  error=
  [ "$1" -eq 0 ] || error=$(complaint)
  fp_emit transaction_ended number:="$number" at:="$(fp_now)" exit_code:="$1" cause="${error%%:*}" error="$error"
}

# ---- installing

unfinished() { # packages that are there but not set up
  dpkg-query -W -f '${db:Status-Status} ${Package}:${Architecture}\n' |
    awk '$1 == "unpacked" || $1 == "half-configured" || $1 ~ /^triggers-/ { print $2 }'
}

unwanted() { # what installing would also do, and must not: prints "why detail", or nothing
  { cat "$FP_JOB_DIR/apt-names"; fp_param allowed; } >"$FP_JOB_DIR/apt-may"
  apt-get -s -q -y install "$@" 2>/dev/null | awk -v removals="$removals" '
    FNR == NR { may[$0]; next }
    $1 == "Remv" || $1 == "Purg" { gone = gone (gone == "" ? "" : ", ") $2 }
    $1 == "Inst" && $3 ~ /^\[/ && !($2 in may) { other = other (other == "" ? "" : ", ") $2 " " substr($3, 2, length($3) - 2) " -> " substr($4, 2) }
    END { if (removals != "" && gone != "") print "removals", gone; else if (other != "") print "unexpected", other }' "$FP_JOB_DIR/apt-may" -
}

set_up_the_rest() { # one failing package must not leave the others half done; it is not run again itself
  sed -n 's/^pmerror:\(.*\):[0-9][0-9]*\.[0-9]*:.*/\1/p' "$status" | awk -v native="$native" '{ print; print $0 ":" native; print $0 ":all" }' >"$FP_JOB_DIR/apt-drop"
  cat "$FP_JOB_DIR/apt-stuck" >>"$FP_JOB_DIR/apt-drop"
  rest=$(unfinished | without "$FP_JOB_DIR/apt-drop")
  [ -n "$rest" ] || return 0
  # shellcheck disable=SC2086  # a list of words
  configure $rest
}

kept_conffiles() {
  find /etc -xdev -cnewer "$began" \( -name '*.dpkg-dist' -o -name '*.dpkg-new' -o -name '*.ucf-dist' \) 2>/dev/null |
    while IFS= read -r file; do fp_emit conffile path="${file%.*}" kept_as="$file"; done
}

on_its_own() { # which of the transaction's packages apt holds for installed only because others need them, or are new
  xargs apt-mark showauto <"$FP_JOB_DIR/apt-names" 2>/dev/null
  while IFS= read -r name; do
    dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -q -v -e not-installed -e config-files || lines "$name"
  done <"$FP_JOB_DIR/apt-names"
}

install() { # NAME=VERSION…
  unwanted=$(unwanted "$@")
  if [ -n "$unwanted" ]; then not_attempted "${unwanted%% *}" "${unwanted#* }"; return; fi
  fp_emit transaction_started number:="$number" at:="$(fp_now)"
  # asking for a package by name makes apt take it for one that its administrator chose: note what was there on its own
  automatic=$(on_its_own)
  unfinished | awk 'FNR == NR { own[$0]; next } { short = $0; sub(/:[^:]*$/, "", short) } !($0 in own) && !(short in own)' "$FP_JOB_DIR/apt-names" - >"$FP_JOB_DIR/apt-stuck"
  pending=
  [ ! -s "$FP_JOB_DIR/apt-stuck" ] || pending='-o DPkg::ConfigurePending=false' # or it would set up what failed before, again
  # shellcheck disable=SC2086  # words, or none
  run_apt $pending $removals install "$@"; result=$?
  set_up_the_rest; code=$?
  [ "$result" -ne 0 ] || result=$code
  # shellcheck disable=SC2086  # a list of words
  [ -z "$automatic" ] || apt-mark auto $automatic 3>&-
  kept_conffiles
  ended "$result"
}

stage() { # NAME=VERSION…
  fp_emit transaction_started number:="$number" at:="$(fp_now)"
  run_apt --download-only install "$@"; result=$?
  if [ "$result" -ne 0 ]; then
    case $(complaint) in fetch:*) apt-get -q update 3>&-; log_from=$(wc -c <"$log"); run_apt --download-only install "$@"; result=$? ;; esac
  fi
  ended "$result"
}

repair() {
  fp_emit transaction_started number:="$number" at:="$(fp_now)"
  configure --pending; result=$?
  simulated=$(apt-get -s -q -f install 2>&1) || lines "$simulated"
  case "
$simulated" in
    *"
Remv "*)
      lines "E: apt-get -f install would remove:$(lines "$simulated" | awk '$1 == "Remv" { printf " %s", $2 }')"
      result=100 ;;
    *"
Inst "*) run_apt --no-remove -f install; result=$? ;; # what is only to be set up has just been tried
  esac
  kept_conffiles
  ended "$result"
}

# ---- one after the other; before each: asked to stop? still in time?

native=$(dpkg --print-architecture)
for number in $(fp_param numbers); do
  latest=$(fp_param "tx_${number}_latest_start")
  log_from=$(wc -c <"$log")
  if fp_stop_requested; then not_attempted stop 'asked to stop'; continue; fi
  if [ "$(fp_now)" -gt "$latest" ]; then not_attempted window ''; continue; fi
  fp_param "tx_${number}_packages" | grep . >"$FP_JOB_DIR/apt-own"
  sed 's/=.*//' "$FP_JOB_DIR/apt-own" >"$FP_JOB_DIR/apt-names"
  : >"$began"
  # shellcheck disable=SC2046  # package names and versions have no blanks and no wildcards
  case $work in
    stage) stage $(cat "$FP_JOB_DIR/apt-own") ;;
    install) install $(cat "$FP_JOB_DIR/apt-own") ;;
    repair) repair ;;
  esac
done
fp_emit finished at:="$(fp_now)"
