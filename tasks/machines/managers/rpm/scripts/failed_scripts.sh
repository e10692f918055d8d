#!/bin/sh
# Finds packages whose last scripts failed when they were installed. rpm forgets that: only the history of the tool that
# installed them has it. A later installation of the same version whose scripts succeed ends it.
# Requires: tool_history

# fp_failed_scripts: "NAME-VERSION-RELEASE.ARCH<tab>WORDS" for each such package, which may be gone meanwhile. dnf 5 does
# not tell it, nor does zypper tell the scripts that a job ran in its place. Of dnf and yum, after fp_note_history.
fp_failed_scripts() {
  fp_zypper_failed_scripts
  fp_dnf_failed_scripts
}
# whether the files of the history of dnf 4 or yum tell of one
fp_has_failed_scripts() { grep -qa 'scriptlet failed' /var/lib/dnf/history.sqlite* /var/lib/yum/history/*.sqlite* 2>/dev/null; }
fp_has_zypper_history() { set -- /var/log/zypp/history*; [ -e "$1" ]; }
fp_zypper_failed_scripts() { # of the newest two files; a comment about %post comes before the line of its package
  fp_archive=''
  for fp_file in /var/log/zypp/history-*.xz; do fp_archive=$fp_file; done
  [ -e /var/log/zypp/history ] || [ -e "$fp_archive" ] || return 0
  { xz -dc "$fp_archive"; cat /var/log/zypp/history; } 2>/dev/null | awk '
    function inside(s) { sub(/^[^(]*\(/, "", s); sub(/\).*/, "", s); sub(/-[0-9]+:/, "-", s); return s }
    function fail(s) { words[package] = s (said == "" ? "" : ": " said) }
    /^# +(warning|error): %post(trans)?\(.*\) scriptlet failed/ { sub(/^# +[a-z]+: /, ""); package = inside($0); fail($0); if (/^%post\(/) fresh[package]; next }
    /^# .* %posttrans script failed \(returned [0-9]+\)/ {
      package = $4; sub(/\.rpm$/, "", package); code = $NF; gsub(/[^0-9]/, "", code)
      fail("%posttrans(" package ") scriptlet failed, exit status " code); next }
    /^# .* Failed to execute (postin|posttrans) script for / { # libzypp with one transaction; the words come after it
      package = $NF; single = package; head = "%" ($7 == "postin" ? "post" : $7) "(" package ") scriptlet failed"; said = ""; fail(head)
      if ($7 == "postin") fresh[package]; next }
    single != "" && /^# .*[^ ]/ && !/^# rpm output:/ { sub(/^# +/, ""); words[single] = head ": " $0; next }
    !/^# rpm output:/ { single = "" }
    /^#? .*[^ ]/ { said = $0; sub(/^#? +/, "", said); if (/^# Additional rpm output:|^# .* (installed ok|script:)$/) said = ""; next }
    { said = "" }
    /^[^|]*\|command\|/ { split("", fresh) }
    /^[^|]*\|install\|/ {
      split($0, field, "|"); sub(/^[0-9]+:/, "", field[4]); package = field[3] "-" field[4] "." field[5]
      if (!(package in fresh)) delete words[package]
      delete fresh[package] }
    END { for (package in words) print package "\t" words[package] }'
}
fp_dnf_failed_scripts() { # of the last 30 transactions
  # shellcheck disable=SC2154  # set by fp_note_history
  [ -n "$fp_history" ] || return 0
  # shellcheck disable=SC2016  # awk's $
  printf '%s\n' "$fp_history" | awk '
      function begin(package) { if (number > last[package]) { last[package] = number; delete words[package] } }
      /^Transaction ID +: / { number = $4 + 0; said = ""; next }
      /^Scriptlet output:/ { said = ""; next }
      / Updated +[^ ]+-[^ ]+-[^ ]+/ { updated = $1 == "**" ? $3 : $2; sub(/-[^-]*-[^-]*$/, "", updated) } # yum names it once
      / Update +[^ -]+-[^ -]+ / && updated != "" { new = $1 == "**" ? $3 : $2; sub(/^[0-9]+:/, "", new); begin(updated "-" new); next }
      / (\*\* )?(Install|Dep-Install|Update|Upgrade|Reinstall|Downgrade|Obsoleting) +[^ ]+-[^ ]+-[^ ]+/ {
        package = $1 == "**" ? $3 : $2; sub(/-[0-9]+:/, "-", package); begin(package); next }
      /^ *[0-9]+ (warning|error): %post(trans)?\(.*\) scriptlet failed/ {
        sub(/^ *[0-9]+ [a-z]+: /, ""); package = $0; sub(/^[^(]*\(/, "", package); sub(/\).*/, "", package); sub(/-[0-9]+:/, "-", package)
        begin(package); if (number == last[package]) words[package] = $0 (said == "" ? "" : ": " said)
        said = ""; next }
      /^ *[0-9]+ / { said = $0; sub(/^ *[0-9]+ /, "", said) }
      END { for (package in words) print package "\t" words[package] }'
}
