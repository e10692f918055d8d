#!/bin/sh
# What a job does with zypper. See rpm_job.sh for the functions.
# zypper calls rpm for each package. It stops at the first one that fails, so that the rest needs another call. It
# removes packages that a chosen version replaces. It never accepts a key or another vendor by itself, and a licence only
# with the parameter accept_licences ("yes"). It reads a repository again only if a file is missing.
# Requires: tool_settings
# shellcheck disable=SC2034,SC2086,SC2154  # variables of rpm_job.sh, and for it; words

# Without the first option, a patch that needs a reboot is left out and no message says so.
zypper_words='--non-interactive-include-reboot-patches --non-interactive --no-refresh'
install="install $solver_options" # with its options
fp_set_param accept_licences
readable=$(find_readable) # once for the whole job: the packages were chosen without the others
[ "$accept_licences" != yes ] || install="$install --auto-agree-with-licenses"
fp_set_param downgrades
[ "$downgrades" != yes ] || install="$install --oldpackage"

# A check changes nothing, so it does not wait for zypper's lock (see package_queries.sh).
tool_simulate() ( zypper_words="$zypper_words --xmlout"; tool_explain "$@" )
tool_explain() ( # the same in words
  ZYPP_READONLY_HACK=1
  export ZYPP_READONLY_HACK
  zypper_of_readable $install --dry-run "$@"
)

tool_inputs() {
  lines inputs
  find -L /etc/zypp /usr/etc/zypp "$repositories_folder" "$raw" "$solv" -type f -printf '%p %i %C@ %s\n' 2>/dev/null
}

tool_code() { # CODE: a reboot is needed, zypper itself was updated, some repositories were left out
  case $1 in 102 | 103 | 106) return 0 ;; *) return "$1" ;; esac
}

# shellcheck disable=SC2016  # awk's $, not the shell's
tool_changes() { # <solvable …/> in <to-install>, <to-upgrade> and others like them
  awk -v RS='<' '
    function value(key,   at) { # an attribute of this line
      at = index($0, " " key "=\"")
      if (!at) return ""
      at = substr($0, at + length(key) + 3)
      return substr(at, 1, index(at, "\"") - 1)
    }
    { gsub(/\n/, " ") }
    /^to-/ { part = $1; sub(/>.*/, "", part) }
    /^\/to-/ { part = "" }
    /^solvable / && part != "" {
      name = value("name"); arch = value("arch"); old = value("edition-old"); new = value("edition")
      if (value("type") == "patch") name = "patch:" name; else if (value("type") != "package") next
      if (part == "to-remove") { print "gone", name, arch, new; next }
      print (part ~ /^to-downgrade/ ? "down" : "in"), name, arch, new
      if (old != "") print "out", name, (value("arch-old") == "" ? arch : value("arch-old")), old
    }'
}

tool_folders() { lines "$cached/*" "$cached/*/*"; }
tool_download() { zypper_of_readable $install --download-only "$@"; }
tool_renew() { zypper_words=--non-interactive; zypper_of_readable refresh; }
tool_download_and_test() { zypper_of_readable $install --dry-run --download-only "$@"; } # reports file conflicts

tool_install() {
  tool_began || note_snapshot >"$FP_JOB_DIR/rpm-snapshot" # an undo is of all rounds
  said_before=$(size "$log") noted_before=$(size "$zypper_log")
  (zypper_of_readable $install --download-in-advance "$@"); code=$?
  [ "$code" -ne 103 ] || : >"$FP_JOB_DIR/rpm-again"
  tail -c "+$((said_before + 1))" "$log" | fp_plain >"$FP_JOB_DIR/rpm-call"
  ! grep -qE '%posttrans .*(skipped while|not executed when) aborting' "$FP_JOB_DIR/rpm-call" || run_skipped_scripts
  ! grep -q "$rpm_locked" "$FP_JOB_DIR/rpm-call" || : >"$FP_JOB_DIR/rpm-locked-out"
  tell_failed_plugins
  return "$code"
}
size() { { wc -c <"$1"; } 2>/dev/null || echo 0; } # FILE

# zypper stops at a package that fails, and then skips the %posttrans scripts of the packages that it has installed, a
# kernel's initramfs among them. The job goes on, so it runs them, as libzypp does (RpmPostTransCollector.cc), and tells
# of a failure in rpm's words.
run_skipped_scripts() {
  sed -n 's/^( *[0-9]*\/[0-9]*) Installing: \([^ ]*\).*/\1/p' "$FP_JOB_DIR/rpm-call" | while IFS= read -r package; do
    interpreter=$(rpm -q --qf '%{POSTTRANSPROG}' "$package" 2>/dev/null) || continue # it is the one that failed
    case $interpreter in
      '(none)') continue ;;
      '<lua>') # an older zypper left such a script to rpm, which ran it
        grep -q ' not executed when aborting' "$FP_JOB_DIR/rpm-call" || continue
        fault='as zypper skipped it when another package failed' ;;
      *)
        rpm -q --qf '%{POSTTRANS}\n' "$package" >"$FP_JOB_DIR/rpm-script"
        if strip_version <"$FP_JOB_DIR/rpm-old" | grep -qxF "${package%-*-*}"; then count=2; else count=1; fi # as in an update
        sh "$FP_JOB_DIR/rpm-script" "$count" </dev/null 3>&- && continue
        fault="exit status $?" ;;
    esac
    echo "warning: %posttrans($package) scriptlet failed, $fault"
  done
}

# zypper does not print that one of its plugins failed, nor what it said: only its log has that (PluginExecutor.cc).
zypper_log=${ZYPP_LOGFILE:-/var/log/zypper.log}
tell_failed_plugins() {
  [ ! -r "$zypper_log" ] || tail -c "+$((noted_before + 1))" "$zypper_log" | awk '
    / ->send PluginFrame\[/ { words = "" }
    /\(~PluginDumpStderr\):[0-9]+ ! / { sub(/^.*\(~PluginDumpStderr\):[0-9]+ ! */, ""); gsub(/;/, ","); if (NF) words = $0 }
    / Bad plugin response from PluginScript\[| Failed to load plugin \// {
      sub(/^.*( Bad plugin response from PluginScript\[[^]]*\]| Failed to load plugin) /, "")
      if (words == "") words = /PluginFrame\[.+\]/ ? "it answered " substr($0, index($0, "PluginFrame")) : "it gave no answer"
      sub(/[:({ ].*/, "")
      if (!($0 in told)) print "Error: a plugin ended with an error: " $0 ": " words
      told[$0]; words = "" }'
}
tool_download_again() { tool_download --force "$@"; }
tool_install_again() { zypper_of_readable $install --download-in-advance --force "$@"; }

rpm_locked="can.t create transaction lock on .*temporarily unavailable" # rpm does not wait for its lock without a terminal
tool_locked() { [ "$1" -eq 7 ] || { ! tool_began && fp_said "$rpm_locked"; }; } # CODE
tool_began() { # a line "(1/9)" or "( 1/10)" for each package; nothing has changed if rpm's lock ended the first one
  tail -c "+$((log_from + 1))" "$log" 2>/dev/null | awk -v locked="$rpm_locked" "$fp_plain_line"'/^\( *[0-9]+\/[0-9]+\) (Installing|Removing)/ { count++ } $0 ~ locked { count-- } END { exit count <= 0 }'
}

tool_continue() { # CODE: after a failed package, the others; after an update of zypper itself, the same again
  if [ -e "$FP_JOB_DIR/rpm-again" ]; then
    rm "$FP_JOB_DIR/rpm-again"
    echo round >>"$FP_JOB_DIR/rpm-rounds-$number"
    [ "$(wc -l <"$FP_JOB_DIR/rpm-rounds-$number")" -lt 3 ]
    return
  fi
  [ "$1" -eq 8 ] || return 1
  if [ -e "$FP_JOB_DIR/rpm-locked-out" ]; then # by a process that took rpm's lock between two packages
    rm "$FP_JOB_DIR/rpm-locked-out"
    while rpm_is_locked && ! fp_is_over "$latest" && ! fp_stop_requested; do sleep 2; done
    result=0 # of all calls: nothing has failed
    return
  fi
  fp_words | awk -v locked="$rpm_locked" '
    /^Installation of [^ ]* failed:/ { name = $3; failed[name] } $0 ~ locked { delete failed[name] } END { for (name in failed) print name }' >"$FP_JOB_DIR/rpm-failed"
  before=$wishes
  # zypper prints no epoch
  wishes=$(lines "$wishes" | tr ' ' '\n' | awk 'FILENAME == ARGV[1] { failed[$0]; next } { short = $0; sub(/-[0-9]+:/, "-", short) } NF && !(short in failed)' "$FP_JOB_DIR/rpm-failed" - | tr '\n' ' ')
  [ -n "$wishes" ] && [ "$wishes" != "$before" ]
}

note_snapshot() { # the number of the last snapshot, where the machine makes them
  ! command -v snapper >/dev/null || snapper --csvout list --columns number,type,pre-number 2>/dev/null | tail -n 1
}

tool_undo() { # the snapshots that zypper's plugin made before and after
  ! command -v snapper >/dev/null || snapper --csvout list --columns number,type,pre-number 2>/dev/null \
    | awk -F , -v last="$(sed 's/,.*//' "$FP_JOB_DIR/rpm-snapshot")" '
      $2 == "post" && $3 > last + 0 { from = from == "" ? $3 : from; to = $1 } END { if (to != "") print "snapper undochange " from ".." to }'
}

# What rpm_job.sh can't read in what zypper says about errors: each part with its package.
# shellcheck disable=SC2016  # awk's $, not the shell's
tool_complaints='
  function fail(s) { say(s (said == "" ? "" : ": " said)) }
  /^Output of .* %posttrans script:|^%.* script output:/ { said = ""; next }
  /^Additional rpm output:/ { said = ""; of_script = 1; next }
  /^\( *[0-9]+\/[0-9]+\) |^(Executing|Running) |^Loading repository data|^Warning: .*%posttrans|^Error: (a plugin ended|rpm --runposttrans)/ { of_script = 0 }
  /^Warning: .* %posttrans script failed \(returned / {
    code = $NF; sub(/\).*/, "", code); sub(/\.rpm$/, "", $2); fail("%posttrans(" $2 ") scriptlet failed, exit status " code); next }
  failure == "" && /^ *(warning|error): %.* scriptlet failed/ { sub(/^ +/, ""); fail($0); next }
  /^ *error: lua script failed: / { say($0); next }
  /[^ .]/ { said = $0; gsub(/^ +| +$/, "", said) }
  of_script { next } # a script may print any words
  /^(Installation|Removal) of .* failed:/ { failure = $0; next }
  failure != "" && (/^ *$/ || /^Abort, retry, ignore/) { if (failure ~ /create transaction lock on/) waits = failure; else say(failure); failure = ""; next }
  waits != "" && /^\( *[0-9]+\/[0-9]+\) Installing: / && index(waits, " " substr($0, index($0, ": ") + 2, index($0, " [") - index($0, ": ") - 2) " ") { waits = "" }
  failure != "" { sub(/^(Error: Subprocess failed\. )?(Error: )?(RPM failed: )?/, ""); failure = failure (failure ~ /:$/ ? " " : ", ") $0; next }
  /^Warning: %posttrans and %transfiletrigger scripts are not executed/ { say($0); next }
  END { if (waits != "") say(waits) }'
tool_failure='^Warning: .* %posttrans script failed \(returned |^ +(warning|error): %[a-z]+\(.* scriptlet failed|^Error: a plugin ended with an error: |^Error: rpm --runposttrans '

# shellcheck disable=SC2016  # awk's $, not the shell's
read_progress='
  function told(part, package, action) { printf "%.1f %s %s\n", part, package == "" ? "-" : package, action }
  function count() { match($0, /\( *[0-9]+\/[0-9]+\)/); split(substr($0, RSTART + 1, RLENGTH - 2), n, "/") }
  /^Retrieving( package|:) .* \( *[0-9]+\/[0-9]+\)/ { count(); told(100 * n[1] / n[2], $2 == "package" ? $3 : $2, "Downloading"); next }
  /^\( *[0-9]+\/[0-9]+\) (Installing|Removing)[^:]*: / {
    count(); sub(/^[^)]*\) /, ""); action = $1; sub(/:.*/, "", action); package = $0; sub(/^[^:]*: /, "", package); sub(/ .*/, "", package)
    told(100 * (n[1] - 0.5) / n[2], package, action) }'
