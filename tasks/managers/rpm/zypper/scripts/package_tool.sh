#!/bin/sh
# What a job does with zypper. See rpm_job.sh for the functions.
# zypper calls rpm for each package. It stops at the first one that fails, so that the rest needs another call. It
# removes packages that a chosen version replaces. It never accepts a key or another vendor by itself, and a licence only
# with the parameter accept_licences ("yes").
# shellcheck disable=SC2034,SC2086,SC2154  # variables of rpm_job.sh, and for it; words

# Without the first option, a patch that needs a reboot is left out and no message says so.
zypper_words='--non-interactive-include-reboot-patches --non-interactive --no-refresh'
install=install # with its option
[ "$(fp_param accept_licences)" != yes ] || install='install --auto-agree-with-licenses'

# A check changes nothing, so it does not wait for zypper's lock (see package_queries.sh).
tool_simulate() { ZYPP_READONLY_HACK=1 zypper $zypper_words --xmlout $install --dry-run "$@"; }
tool_explain() { ZYPP_READONLY_HACK=1 zypper $zypper_words $install --dry-run "$@"; } # the same in words

tool_code() { # CODE: a reboot is needed, zypper itself was updated, some repositories were left out
  case $1 in 102 | 103 | 106) return 0 ;; *) return "$1" ;; esac
}

# shellcheck disable=SC2016  # awk's $, not the shell's
tool_changes() { # <solvable …/> in <to-install>, <to-upgrade> and others like them
  tr '\n' ' ' | sed 's/</\n</g' | awk '
    function value(key,   at) { # an attribute of this line
      at = index($0, " " key "=\"")
      if (!at) return ""
      at = substr($0, at + length(key) + 3)
      return substr(at, 1, index(at, "\"") - 1)
    }
    /^<to-/ { part = $1; gsub(/[<>]/, "", part) }
    /^<\/to-/ { part = "" }
    /^<solvable / && part != "" {
      name = value("name"); arch = value("arch"); old = value("edition-old"); new = value("edition")
      if (value("type") == "patch") name = "patch:" name; else if (value("type") != "package") next
      if (part == "to-remove") { print "gone", name, arch, new; next }
      print (part ~ /^to-downgrade/ ? "down" : "in"), name, arch, new
      if (old != "") print "out", name, (value("arch-old") == "" ? arch : value("arch-old")), old
    }'
}

tool_download() { exec zypper --non-interactive-include-reboot-patches --non-interactive $install --download-only "$@"; }
tool_renew() { exec zypper --non-interactive refresh; }
tool_test() { exec zypper $zypper_words $install --dry-run --download-only "$@"; } # reports file conflicts

tool_install() {
  tool_began || note_snapshot >"$FP_JOB_DIR/rpm-snapshot" # an undo is of all rounds
  zypper $zypper_words $install --download-in-advance "$@"; code=$?
  [ "$code" -ne 103 ] || : >"$FP_JOB_DIR/rpm-again"
  return "$code"
}
tool_download_again() { tool_download --force "$@"; }
tool_install_again() { zypper $zypper_words $install --force "$@"; }

tool_locked() { [ "$1" -eq 7 ]; } # CODE
tool_began() { fp_said '^\( *[0-9]+\/[0-9]+\) (Installing|Removing)'; } # "(1/9)", "( 1/10)"

tool_continue() { # CODE: after a failed package, the others; after an update of zypper itself, the same again
  if [ -e "$FP_JOB_DIR/rpm-again" ]; then
    rm "$FP_JOB_DIR/rpm-again"
    echo round >>"$FP_JOB_DIR/rpm-rounds-$number"
    [ "$(wc -l <"$FP_JOB_DIR/rpm-rounds-$number")" -lt 3 ]
    return
  fi
  [ "$1" -eq 8 ] || return 1
  fp_words | sed -n 's/^Installation of \([^ ]*\) failed:.*/\1/p' >"$FP_JOB_DIR/rpm-failed"
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

# shellcheck disable=SC2016  # awk's $, not the shell's
read_progress='
  function told(part, package, action) { printf "%.1f %s %s\n", part, package == "" ? "-" : package, action }
  function count() { match($0, /\( *[0-9]+\/[0-9]+\)/); split(substr($0, RSTART + 1, RLENGTH - 2), n, "/") }
  /^Retrieving package .* \( *[0-9]+\/[0-9]+\)/ { count(); told(100 * n[1] / n[2], $3, "Downloading"); next }
  /^\( *[0-9]+\/[0-9]+\) (Installing|Removing)[^:]*: / {
    count(); sub(/^[^)]*\) /, ""); action = $1; sub(/:.*/, "", action); package = $0; sub(/^[^:]*: /, "", package); sub(/ .*/, "", package)
    told(100 * (n[1] - 0.5) / n[2], package, action) }'
