#!/bin/sh
# What a job does with dnf 5. See rpm_job.sh for the functions.
# dnf 5 notes packages that are named with "install" as chosen by a person. "upgrade" keeps the note of installed ones.
# Requires: yum_family, tool_settings
# shellcheck disable=SC2034,SC2046,SC2086,SC2154  # variables of rpm_job.sh, and for it; words

# as for dnf 4: the repositories that answer are used, and what the assessment read of them is good enough
common="-y $tool_settings --setopt=keepcache=True --setopt=*.skip_if_unavailable=True --setopt=*.metadata_expire=-1"
call_dnf() { dnf5 $common --best "$@"; } # WORDS…
find_verb() { # PACKAGES
  if [ "$#" -le "$(grep -c . "$FP_JOB_DIR/rpm-present")" ]; then echo upgrade; else echo install; fi
}

tool_simulate() { # "Operation aborted by the user." is what a simulation ends with
  DNF5_FORCE_COLUMNS=500 FORCE_COLUMNS=500 call_dnf -C --assumeno $(find_verb "$@") "$@" >"$FP_JOB_DIR/rpm-answer" 2>&1; code=$?
  cat "$FP_JOB_DIR/rpm-answer"
  ! grep -qE '^(Failed to resolve the transaction|No match for argument|Problem)' "$FP_JOB_DIR/rpm-answer" || return 1
  [ "$code" -eq 0 ] || grep -q '^Operation aborted' "$FP_JOB_DIR/rpm-answer"
}

tool_changes() { # a table: "Upgrading:", " NAME ARCH [EPOCH:]VERSION REPOSITORY SIZE", "   replacing NAME ARCH …"
  awk '
    function tell(action, name, arch, version) { sub(/^0:/, "", version); print action, name, arch, version }
    /^Transaction Summary/ { exit }
    /^[A-Z][A-Za-z ]*: *$/ { part = $1; next }
    /^ [^ ]/ && NF >= 5 {
      new = $1; arch = $2
      if (part ~ /^(Installing|Upgrading|Reinstalling)/) tell("in", $1, $2, $3)
      if (part ~ /^Downgrading/) tell("down", $1, $2, $3)
      if (part ~ /^Removing/) tell("gone", $1, $2, $3)
    }
    /^ +replacing / && NF >= 5 { tell($2 == new && ($3 == arch || $3 == "noarch" || arch == "noarch") ? "out" : "gone", $2, $3, $4) }'
}

tool_download() { exec dnf5 $common --best $(find_verb "$@") --downloadonly "$@"; }
tool_download_again() { exec dnf5 $common reinstall --downloadonly "$@"; }
tool_renew() { exec dnf5 $common makecache --refresh; }
tool_download_and_test() { tool_download "$@"; }
tool_test() { exec dnf5 $common --best -C --setopt=tsflags=test $(find_verb "$@") "$@"; }
tool_folders() { echo '/var/cache/libdnf5/*/packages'; }
tool_install() {
  call_dnf -C --comment="$comment/$number" $(find_verb "$@") "$@"; code=$?
  [ "$code" -ne 0 ] || discard
  return "$code"
}
tool_install_again() { call_dnf -C --comment="$comment/$number" reinstall "$@"; }

locked_out() { fp_last_words | grep -qiE 'failed to obtain rpm transaction lock|cannot acquire transaction lock'; }
tool_locked() { locked_out; } # CODE
tool_began() { fp_said '^Running transaction' && ! locked_out; }

tool_undo() { find_undo dnf5 dnf5; }

# "[3/9] Upgrading NAME-EPOCH:VERSION-RELEASE.ARCH    100% | …"; of a download, the names have no action before them
# shellcheck disable=SC2016  # awk's $
read_progress='
  /^\[[ 0-9]+\/[ 0-9]+\] / {
    line = $0; sub(/^\[ */, "", line); split(line, n, /[\/\]]/); sub(/^[^\]]*\] */, "", line); split(line, word, / +/)
    if (word[1] ~ /^(Upgrading|Installing|Removing|Reinstalling|Downgrading|Running)$/) { action = word[1]; package = word[2] }
    else if (word[1] ~ /\./) { action = "Downloading"; package = word[1] }
    else { action = word[1] " " word[2]; package = "-" }
    printf "%.1f %s %s\n", n[2] ? 100 * n[1] / n[2] : 0, package, action }'
