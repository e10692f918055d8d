#!/bin/sh
# Finds what an interrupted transaction leaves in rpm's database: a package of which two versions are installed. The old
# version goes when the transaction ends. Kernels and other packages that may be installed side by side do not count.
# Requires: tool_history
# shellcheck disable=SC2034  # used by the scripts that this is put before

# fp_rpm_duplicates [ROWS]: lines "NEW OLD" (NAME-VERSION-RELEASE.ARCH), one for each old version of such a package; fails if rpm
# can't read its database. ROWS are the lines of fp_rpm_query -a, if they were just read.
fp_rpm_duplicates() {
  fp_all=${1:-}
  # shellcheck disable=SC2016  # rpm's %
  [ -n "$fp_all" ] || fp_all=$(rpm -qa --qf '%{INSTALLTIME} %{NAME} %{ARCH} %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n' 2>/dev/null) || return 1
  # no here-documents: this is executed without the prelude, too, which finds room for them
  fp_twice=$(printf '%s\n' "$fp_all" | awk '
    split($0, row, "\t") >= 6 { $0 = row[6] " " row[1] " " row[5] " " row[1] "-" row[3] "-" row[4] "." row[5] }
    { id = $2 " " $3 }
    !(id in new) { time[id] = $1; new[id] = $4; next }
    { name[++count] = $2; ids[count] = id; old[count] = $4 }
    $1 + 0 > time[id] + 0 || ($1 + 0 == time[id] + 0 && $4 > new[id]) { old[count] = new[id]; time[id] = $1; new[id] = $4 }
    END { for (k = 1; k <= count; k++) print name[k] "|" new[ids[k]] "|" old[k] }')
  for fp_old in $fp_twice; do
    fp_package=${fp_old%%|*} fp_old=${fp_old#*|}
    fp_new=${fp_old%%|*} fp_old=${fp_old#*|}
    case $fp_package in kernel | kernel-* | kernel[0-9]* | gpg-pubkey) continue ;; esac
    ! rpm -q --provides "$fp_new" 2>/dev/null | grep -qE '^(installonlypkg|multiversion)\(' || continue
    ! grep -hsqE "^(installonlypkgs|multiversion) *[=+].*[=, ]$fp_package([, ]|\$)" /etc/dnf/dnf.conf /etc/yum.conf /etc/zypp/zypp.conf || continue
    printf '%s %s\n' "$fp_new" "$fp_old"
  done
}

# fp_left_over: "OLD<tab>WORDS" for each old version that a transaction which has ended could not remove, with what the
# history of zypper, dnf or yum says of its scripts; nothing if the last transaction of dnf or yum was aborted. dnf 5 does
# not tell it. With zypper, each package is a transaction of rpm. Of dnf and yum, after fp_note_history.
fp_left_over() {
  { xz -dc /var/log/zypp/history-*.xz; cat /var/log/zypp/history; } 2>/dev/null | awk '
    /^# (error|warning): %preun\(.*\) scriptlet failed/ {
      sub(/^# [a-z]+: /, ""); old = $0; sub(/^[^(]*\(/, "", old); sub(/\).*/, "", old); words[old] = $0 (said == "" ? "" : ": " said) }
    /^# .* Failed to execute preun script for / { old = $NF; words[old] = "%preun(" old ") scriptlet failed"; single = old; next }
    single != "" && /^# .*[^ ]/ && !/^# rpm output:/ { words[single] = "%preun(" single ") scriptlet failed: " substr($0, 3) }
    !/^# rpm output:|^# .*[^ ]/ { single = "" }
    { said = /^# / && !/ install failed$|^# rpm output:/ ? substr($0, 3) : "" }
    END { for (old in words) print old "\t" words[old] }'
  # shellcheck disable=SC2016,SC2154  # awk's $; set by fp_note_history
  printf '%s\n' "$fp_history" | awk '
      /^Transaction ID +: / { ended = closed = 0; split("", left) }
      /^End time +: / { closed = !/ 1970 / } # dnf shows this year, and a failure, where it was killed
      /^Return-Code +: / { ended = closed && !/Aborted/; if (!count++ && !ended) exit }
      ended && /^ \*\* +(Upgraded|Updated|Obsoleted|Erased?|Removed) / { sub(/-[0-9]+:/, "-", $3); left[$3]; words[$3] }
      /scriptlet failed/ { sub(/^ *[0-9]+ +/, ""); for (old in left) if (index($0, "(" old ")")) words[old] = $0 }
      END { if (ended || count > 1) for (old in words) print old "\t" words[old] }'
}

# fp_unfinished: sets fp_obstacle to packages and fp_who to the packages, if there are any
fp_unfinished() {
  fp_who=$(fp_rpm_duplicates) || { fp_obstacle=packages fp_who="rpm can't read its database"; return 0; }
  [ -z "$fp_who" ] || fp_who=$(printf '%s\n' "$fp_who" | awk '{ count++; if (count <= 3) said = said (said == "" ? "" : ", ") $1 " is beside " $2 }
    END { if (count > 3) said = said " and " count - 3 " more"; print said }')
  [ -z "$fp_who" ] || fp_obstacle=packages
}
