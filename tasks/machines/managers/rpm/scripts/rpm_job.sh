# shellcheck shell=sh
# A detached job: download, install, repair or remove, one transaction after the other. Nothing here ends the package manager
# while packages change. A download changes none, so it is ended when its time is over or a stop is requested.
# Parameters: those of transactions.sh, tx_N_packages (list: packages as the tool takes them, "NAME-VERSION-RELEASE.ARCH"),
# tx_N_names (list: their ids, in the same order), tx_N_present (list: the ids of them that were installed when they
# were chosen), allowed (list: ids of other packages that may change), excluded (list: masks of packages that must not
# be installed), allow_removals ("yes"), downgrades ("yes").
# Its files are beside the job's own; their names begin with "rpm-".
#
# The tool's package_tool.sh defines, for lists of packages:
#   tool_simulate, tool_changes: the first prints what the tool would do now, without the network, and fails if it refuses
#     (with 200 if another process's lock kept it from that); the second reads that and prints lines "ACTION NAME ARCH VERSION": in (this version comes), out
#     (it goes, because "in" or "down" replaces it), down ("in", but it is older than what it replaces), gone (removed).
#   tool_inputs: prints what shows a change of the settings and of the copies of repositories on which that depends; nothing if it can't tell.
#   tool_explain: after a tool_simulate that failed, prints why in words.
#   tool_download: executes (exec) a download. tool_renew: executes a new read of the repositories.
#   tool_download_and_test: as tool_download, and prints why an installation would fail; it changes nothing.
#   simulates_downloads: not empty if a download needs what a simulation has said.
#   tool_test, if that only downloads: with everything downloaded, prints why an installation would fail.
#   tool_folders, if known: prints patterns of the folders in which downloaded packages are, after a simulation.
#   tool_install: installs what is downloaded, without the network, and returns the code of the failure.
#   tool_code CODE: returns 0 if that exit code of the tool is no failure, else CODE.
#   tool_locked CODE: whether another process's lock kept it from its work. tool_began: whether it has changed packages.
#   tool_continue CODE: whether another tool_install is needed, of what $wishes then has.
#   tool_undo: prints how to undo the transaction, which replaced or removed the packages in the file rpm-old.
#   tool_download_again, tool_install_again: the same as without "again", of packages that are installed.
#   tool_complaints, if it has words of its own for errors: awk rules that say them; tool_failure: a regular expression
#     for those of them that the tool's code does not tell.
#   read_progress: an awk program, from the log to lines "PERCENT NAME-VERSION-RELEASE.ARCH ACTION" or less of it.
# Step: install
# Changes: packages: downloads, installs, repairs, removes exactly the chosen ones
# Requires: manager_environment, rpm_query, package_locks, transactions, package_tool, rpm_changes, rpm_removal
# shellcheck disable=SC2034,SC2154  # variables of transactions.sh, and for it

began=$FP_JOB_DIR/rpm-began runs=0
fp_ask_rpm
native=$fp_arch rpm_lock=$fp_rpm_home/.rpm.lock
fp_set_param allow_removals
removals=$allow_removals

lines() { printf '%s\n' "$@"; }
strip_version() { sed 's/^patch:.*//; s/-[^-]*-[^-]*$//'; } # the names of packages NAME-VERSION-RELEASE.ARCH
list() { awk 'NF { printf "%s%s", (count++ ? ", " : ""), $0 }'; } # the lines of stdin in one

# ---- progress

find_progress() { # of the end of the log
  tail -c "+$((log_from + 1))" "$log" 2>/dev/null | tail -c 4096 | tr '\r' '\n' | awk "$fp_plain_line$read_progress" \
    | awk -v native="$native" -v work="$work" -v downloads="$downloads" '
      { last = $0 }
      END {
        $0 = last; if (!NR) exit
        percent = $1 < 0 ? 0 : $1 > 100 ? 100 : $1
        if (work == "install") percent = downloads ? percent / 5 : 20 + percent * 4 / 5
        name = ""
        if ($2 ~ /-[^-]+-[^-]+\.[a-z0-9_]+$/) { # else it was cut off
          name = arch = $2; sub(/.*\./, "", arch); sub(/-[^-]*-[^-]*$/, "", name)
          if (arch != "noarch" && arch != native) name = name "." arch
        }
        $1 = $2 = ""; sub(/^ +/, ""); printf "%.1f\n%s\n%s\n", percent, name, $0 }'
}

# ---- locks

note_holder() { held_by="$(fp_name "$2") (pid $2) holds $1"; } # PATH PID
rpm_is_locked() { # rpm waits for its lock without an end, and no tool can limit that
  held_by=''
  fp_each_holder note_holder "$rpm_lock"
  [ -z "$held_by" ] || lines "rpm's database is locked: $held_by"
  [ -n "$held_by" ]
}

tell_waiting() { fp_tell_waiting "${held_by:-$(fp_last_words | grep -i -e lock -e process | tail -n 1)}"; }

run_tool() { # FUNCTION WORDS…: with its progress; a download is ended when its time is over or a stop is requested
  runs=$((runs + 1)) finished=$FP_JOB_DIR/rpm-done-$runs
  downloads=''
  case $1 in tool_download*) downloads=yes ;; esac
  fp_watch_progress "$log" "$finished" find_progress &
  watcher=$!
  ended_for='' ran=1
  fp_limit_lock_wait
  while :; do
    if [ -n "$downloads" ]; then
      fp_while_in_time "$@" 3>&-; tool_code "$?"; ran=$?
    elif rpm_is_locked; then ran=1
    elif [ "$1" = tool_install ] && ! fp_look_anew; then break
    else
      : >"$began"
      [ "$1" != tool_install ] || note_old
      ("$@") 3>&-; tool_code "$?"; ran=$?
    fi
    [ "$ran" -ne 0 ] && [ -z "$ended_for" ] || break
    if tool_began || ! { [ -n "$held_by" ] || tool_locked "$ran"; } || [ "$1" = tool_download_and_test ]; then break; fi
    [ "$(fp_seconds_until "$until")" -ge 3 ] || break
    tell_waiting
    sleep 2
    if fp_stop_requested; then ended_for=stop; break; fi
    # another process has changed packages since the last check
    if [ "$1" = tool_install ] && ! look; then ended_for=unwanted; break; fi
    ! fp_is_over "$until" || break
    fp_mark_log
  done
  : >"$finished"
  fp_end_watch "$watcher"
  return "$ran" # not $code, which "look" sets
}

# ---- errors, as "kind: the lines that say so"

complaint() { # CODE; nothing if it is 0 and nothing in the log is an error
  if [ "$1" -eq 0 ] && [ -z "$(find_errors 0 failed)" ]; then return; fi
  words=$(fp_last_words) changed=no
  if [ -n "$removed" ] || tool_began; then changed=yes; fi
  if [ $changed = no ] && { [ -n "$held_by" ] || tool_locked "$1"; }; then changed=locked; fi
  case $changed:$words in
    locked:*) kind=lock ;; # this kind means that nothing has begun
    *'No space left on device'* | *'Failed writing received data to disk'* | *"Can't hardlink/copy "* | *' more space '*needed* | *'needs '*' more space on the '* | *'nstallation requires '*' free'* | *'not enough free disk space'*) kind=space ;;
    *'scriptlet failed'* | *' script failed (returned '* | *'lua script failed'* | *' SCRIPTLET in rpm package '* | *'scriptlet in rpm package '*) kind=maintainer-script ;;
    *'Unable to find a match'* | *'No match for argument'* | *' not found in package names'* | *"No provider of '"* | *'No package '*' available'* | *'Installed package '*' not available'* | *'package not found'*) kind=gone ;;
    *'cannot be downloaded due to "--cacheonly"'* | *'Cannot download '* | *'Error downloading packages'* | *'Failed to download'* | *'All mirrors were tried'* | *'have incorrect checksum'* | *'Cache-only enabled but no cache'* | *'Cannot access installation media'* | *'Failed to provide Package'* | *'Curl error'* | *'Download (curl) error'* | *'Media source '* | *' repositories have not been refreshed'* | *'GPG '*check*FAILED* | *'Signature verification failed'* | *'Public key for '* | *'Package '*' is not signed'* | *'GPG key retrieval failed'* | *' not found on medium '* | *'Timeout exceeded when accessing'* | *'Digest verification failed'* | *'seems to be corrupted during transfer'* | *'Permission to access '*' denied'*) kind=fetch ;;
    *"rpm's database can't be read"* | *'rpmdb open failed'* | *'rpmdb: '*'corrupt'* | *'has been interrupted'*) kind=interrupted ;;
    *'Problem: '* | *'Error: Package: '* | *'Protected multilib versions'* | *' conflicts with '* | *'nothing provides '* | *'Depsolve Error'* | *'Transaction test error'* | *'Transaction check error'* | *'Detected '*' file conflict'* | *'Failed to resolve the transaction'*) kind=refused ;;
    *) kind=failed ;;
  esac
  text=$(find_errors "$1" "$kind")
  [ -n "$text" ] || text="see the job's log"
  lines "$kind: $text"
}
find_errors() { # CODE KIND: the lines of the log that say errors
  tail -c "+$((log_from + 1))" "$log" 2>/dev/null | awk -v code="$1" -v kind="$2" -v held_by="$held_by" "$fp_plain_line${tool_complaints:-}"'
    function say(s) { sub(/^[ \t]+(- )?/, "", s); gsub(/;/, ",", s); if (s == "" || s in told || length(text) > 6000) return; told[s]; text = text (text == "" ? "" : "; ") substr(s, 1, 400) }
    { sub(/\r/, "") }
    /^error: %.*scriptlet failed|^>>> .*%.*scriptlet failed|^warning: %.*scriptlet failed|^>>> .*lua script failed: / { say(before); say($0) }
    /^ *-? *package .* (requires|conflicts with|obsoletes) / { say($0); next }
    /^ *- (nothing provides|cannot install|conflicting requests)/ { say($0); next }
    /^ *Problem( [0-9]+)?: / { say($0); next }
    /^File \// { conflict = $0; next }
    conflict != "" && /^  / { sub(/^ +/, ""); conflict = conflict " " $0; next }
    conflict != "" { say(conflict); conflict = "" }
    /^Error: *$|^Problem: *$/ { next }
    /^ +Requires: / && before ~ /^Error: Package: / { say($0); next }
    /^File .* not found on medium |^Timeout exceeded when accessing |^(Warning: )?Digest verification failed|^Package .* seems to be corrupted|Signature verification failed \[|^Permission to access / { say($0); next }
    /^\[MIRROR\] [^ ]*: |^  [^ ]+: (Cannot download|Download failed|Curl error)|^Download \(curl\) error|^Error (code|message): |^ - Can.t / { sub(/^\[MIRROR\] /, ""); say($0); next }
    /^Error: Transaction failed$/ { summary = $0; before = $0; next }
    /^Error (unpacking|in cpio payload of) rpm package |^Error: |^error: |^Problem: |^Failed |^RPM: |^No provider of |^No match for argument|^(RPMDB|metadata|cachedir) already locked|^Existing lock |^System management is locked|^rpm.s database is locked/ { say($0); before = $0; next }
    /^[ \t]+(file .* conflicts|installing package .* needs |.* more space needed|.* is needed by )/ { say($0); next }
    /^[^ ]*: install failed$/ { say($0) }
    NF { before = $0 }
    END { if (text == "") text = kind == "lock" ? held_by : summary; if (text != "") print text }'
}

script_failure='^(warning|error): (%[a-z]+\(.*scriptlet failed|lua script failed: )'
ended() { # CODE [UNDO]
  error=
  # the tool may end with 0 although a package's script failed after its files were installed
  if [ "$1" -ne 0 ] || [ "${tool_failure:-}" = . ] || fp_words | grep -qaE "$script_failure${tool_failure:+|$tool_failure}"; then error=$(complaint "$1"); fi
  fp_transaction_ended "$1" "${error%%:*}" "$error" "${2:-}"
}

# ---- the work

note_conffiles() { # right after packages were changed: files kept before or after that may belong to another process
  kept=$(find /etc -xdev -cnewer "$began" \( -name '*.rpmnew' -o -name '*.rpmsave' -o -name '*.rpmorig' \) 2>/dev/null)
  [ -n "$kept" ] || return 0
  lines "$kept" | sort | while IFS= read -r file; do
    case $file in
      *.rpmnew) fp_emit configuration_kept path="${file%.*}" kept_as="$file" ;;
      *) fp_emit configuration_kept path="$file" kept_as="${file%.*}" ;; # here the edited file has the other name
    esac
  done
}

download_with() { # FUNCTION PACKAGES: what is missing; returns 1 if the time is then over or a stop is requested, with its record
  run_tool "$@"; result=$?
  if [ "$result" -ne 0 ] && [ -z "$ended_for" ]; then
    case $(complaint "$result") in fetch:* | gone:*) # files that have moved are found by reading the repositories again
      fp_while_in_time tool_renew 3>&-
      [ -n "$ended_for" ] || { fp_mark_log; run_tool "$@"; result=$?; } ;;
    esac
  fi
  ! fp_not_begun
}

may_begin() { # else with the record that says why not
  if fp_stop_requested; then fp_not_attempted stop 'asked to stop'; return 1; fi
  fp_limit_lock_wait
  if ! look; then refuse; return 1; fi
  if fp_is_over "$latest"; then fp_not_attempted download ''; return 1; fi
}

may_continue() { # else why says why not
  why=''
  if fp_stop_requested; then why='the run was asked to stop'
  elif fp_is_over "$latest"; then why='no time was left'
  elif ! look; then why=${unwanted:-"it is refused now"}; fi
  [ -z "$why" ]
}

# shellcheck disable=SC2086  # a list of words
fetch() { # else with the record that says why nothing is installed
  whole=''
  download_with tool_download $wishes || return 1
  [ "$result" -eq 0 ] || { ended "$result"; return 1; }
}
lacks_files() { # whether files that looked whole are others than those which the repositories have now; nothing was changed
  [ -n "$whole" ] && [ "$result" -ne 0 ] && [ -z "$ended_for" ] && ! tool_began || return 1
  case $(complaint "$result") in fetch:*) ;; *) return 1 ;; esac
}

# shellcheck disable=SC2086  # lists of words
install() {
  fp_download_started
  is_downloaded || fetch || return 0
  may_begin || return 0
  fp_transaction_started
  fp_mark_log
  run_tool tool_install $wishes; result=$?
  if lacks_files; then
    fetch && may_begin || return 0
    fp_mark_log
    run_tool tool_install $wishes; result=$?
  fi
  if fp_not_begun; then return; fi
  if [ "$ended_for" = unwanted ]; then refuse; return; fi
  if ! tool_began; then ended "$result"; return; fi
  last=$result log_of_all=$log_from
  while tool_continue "$last"; do
    if ! may_continue; then
      lines "Error: the rest was not installed: $why"
      [ "$result" -ne 0 ] || result=1
      break
    fi
    (tool_install $wishes) 3>&-; tool_code "$?"; last=$?
    [ "$last" -eq 0 ] || result=$last
  done
  log_from=$log_of_all # "look" may have set it
  note_conffiles
  ended "$result" "$(tool_undo)"
}

# shellcheck disable=SC2086  # lists of words
stage() {
  fp_transaction_started
  download_with tool_download_and_test $wishes || return 0
  # what another process does now says nothing about the window: then it is only downloaded
  if tool_locked "$result"; then fp_mark_log; download_with tool_download $wishes || return 0
  elif [ "$result" -eq 0 ] && command -v tool_test >/dev/null; then
    fp_mark_log
    fp_while_in_time tool_test $wishes 3>&-; tool_code "$?"; result=$?
    if fp_not_begun; then return; fi
    ! tool_locked "$result" || result=0
  fi
  ended "$result"
}

# the same errors as in an assessment: others are no fault of the database
is_readable() { said=$(rpm -qa 2>&1) && [ -n "$said" ] && ! lines "$said" | grep -v 'skipping h#' | grep -qiE '^error: .*(rpmdb|db[0-9]* error|sqlite|database|packages|rpmpkg|rpmxdb|rpmidx)'; }

rebuild_database() { # of rpm, which can't be read; its files are kept beside the job's
  folder=$(readlink -f "${rpm_lock%/*}")
  cp -a "$folder" "$FP_JOB_DIR/rpm-database" || return 1
  lines "rpm's database can't be read; a copy of its files is in $FP_JOB_DIR/rpm-database"
  rm -f "$folder"/__db.* # what a crash leaves of Berkeley DB
  if is_readable; then return; fi
  rpm --rebuilddb 3>&-
  if is_readable; then return; fi
  cp -a "$FP_JOB_DIR/rpm-database/." "$folder/"
  lines "Error: rpm's database can't be read, and rpm --rebuilddb could not mend it"
  return 1
}

wait_for_rpm() { # until no process has the lock of its database; else with the record that says why nothing is done
  while rpm_is_locked && [ "$(fp_seconds_until "$until")" -ge 3 ]; do
    tell_waiting
    sleep 2
    if fp_stop_requested; then fp_not_attempted stop 'asked to stop'; return 1; fi
    fp_mark_log
  done
  [ -z "$held_by" ] || { ended 1; return 1; }
}

is_still_twice() { # whether what is to be repaired is the same after the download; else with the record
  twice=$(fp_rpm_duplicates)
  [ "$twice" != "$(cat "$FP_JOB_DIR/rpm-twice")" ] || return 0
  if [ -z "$twice" ]; then ended 0; return 1; fi # another process has repaired it
  lines 'Error: another process has changed the packages that were to be repaired'
  ended 1
  return 1
}

# What an interrupted transaction leaves: packages of which two versions are in the database. The old one was not cleaned
# up. Of the new one, the files were unpacked, but perhaps not written, and its last scripts were perhaps not run.
repair() {
  fp_transaction_started
  wait_for_rpm || return 0
  is_readable || rebuild_database || { ended 1; return; }
  fp_rpm_duplicates >"$FP_JOB_DIR/rpm-twice"
  if [ ! -s "$FP_JOB_DIR/rpm-twice" ]; then ended 0; return; fi
  # shellcheck disable=SC2046  # packages have no blanks and no wildcards
  set -- $(awk '{ print $1 }' "$FP_JOB_DIR/rpm-twice" | sort -u)
  download_with tool_download_again "$@" || return 0
  case $result:$(complaint "$result") in
    0:* | *:gone:*) ;; # without these versions in a repository, there are newer ones, which are installed later
    *) ended "$result"; return ;;
  esac
  fp_limit_lock_wait
  fp_mark_log
  wait_for_rpm && is_still_twice || return 0
  if fp_is_over "$latest"; then fp_not_attempted download ''; return; fi
  : >"$began"
  # scripts of the old version run as at the end of an upgrade, because another version stays
  # shellcheck disable=SC2046
  rpm -e $(awk '{ print $2 }' "$FP_JOB_DIR/rpm-twice") 3>&-; code=$? removed=yes
  if [ "$result:$code" = 0:0 ]; then run_tool tool_install_again "$@"; code=$?; fi
  note_conffiles
  ended "$code"
}

transaction() {
  wishes='' held_by='' removed='' simulated=''
  fp_limit_lock_wait
  fp_param "tx_${number}_packages" >"$FP_JOB_DIR/rpm-own"
  fp_param "tx_${number}_names" >"$FP_JOB_DIR/rpm-names"
  fp_param "tx_${number}_present" >"$FP_JOB_DIR/rpm-present"
  case $work in
    stage) if [ -n "${simulates_downloads:-}" ]; then choose_wishes; else name_all; fi; stage ;;
    install) choose_wishes; install ;;
    repair) repair ;;
    remove) remove ;;
  esac
}

fp_each_transaction transaction
