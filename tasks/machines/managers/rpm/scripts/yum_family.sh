#!/bin/sh
# What the package_tool.sh of yum, dnf 4 and dnf 5 share: what they print alike, their history, and what they cached.
# The script of dnf 5 defines some of these functions again.
# shellcheck disable=SC2034,SC2154  # variables of rpm_job.sh, and for it

# shellcheck disable=SC2016  # awk's $, not the shell's
read_progress='
  function told(percent, package, action) { sub(/^[0-9]+:/, "", package); printf "%.1f %s %s\n", percent, package == "" ? "-" : package, action }
  # "(1/4): NAME-VERSION-RELEASE.ARCH.rpm   1.9 MB/s"
  /^\([0-9]+\/[0-9]+\): / { split($1, n, /[(\/)]/); sub(/\.rpm$/, "", $2); told(100 * n[2] / n[3], $2, "Downloading"); next }
  # "  Upgrading        : NAME-VERSION-RELEASE.ARCH    1/8"
  /^ +[A-Z][A-Za-z ]+ *: .* [0-9]+\/[0-9]+ *$/ {
    action = $0; sub(/ *: .*/, "", action); sub(/^ +/, "", action); rest = $0; sub(/^[^:]*: */, "", rest)
    fields = split(rest, word, / +/); if (word[fields] == "") fields--
    split(word[fields], n, "/")
    done = action == "Verifying" ? 95 + 5 * n[1] / n[2] : 95 * (n[1] - 0.5) / n[2]
    told(done, fields > 1 ? word[1] : "", action) }'

# The failures of scripts, triggers and plugins. rpm names the package whose script it is; of a trigger, the tool names
# the package that set it off. What a script printed last is added. rpm also tells of plugins of its own.
tool_failure=. # all is read, also when the tool ended with 0
tool_complaints='
  function words_of(s) { sub(/^>>> ?(\[RPM\] )?/, "", s); gsub(/^[ \t]+|[ \t]+$/, "", s); return s }
  function tell_held() { if (held != "") say(held); held = "" }
  { sub(/\r/, "") }
  /^Running transaction( \(shutdown inhibited\))? *$/ { hooks = 0; last = ""; next }
  /^Transaction test succeeded/ { hooks = 1; next }
  /^  Verifying +: / { # what comes after the last of these lines is of plugins, and begins in it
    hooks = 1; last = ""; sub(/^  Verifying +: [^ ]+ +[0-9]+\/[0-9]+ */, ""); if (!NF) next }
  /^(Upgraded|Updated|Installed|Removed|Erased|Replaced|Failed|Downgraded|Reinstalled|Skipped|Dependency (Updated|Installed)):|^Complete!/ { hooks = 0 }
  /^ *(>>> )?Running .*scriptlet: / { tell_held(); target = $0; sub(/.*scriptlet: */, "", target); sub(/ .*/, "", target); last = told_script = ""; next }
  /^>>> Finished .*scriptlet: / { tell_held(); last = ""; next }
  /^>>> Scriptlet output:/ { last = ""; next }
  /^(warning|error): (%[a-z]+\(.*scriptlet failed|lua script failed: )|^>>> (\[RPM\] )?(%[a-z]+\(.*scriptlet failed|lua script failed: )/ {
    line = words_of($0)
    if (line ~ /%(file)?trigger/ && line !~ /%trans/ && target != "") line = line ", set off by " target
    if (last != "") line = line ", after it said: " last
    say(line); held = last = ""; told_script = 1; next }
  /^>>> .*rror in .* scriptlet: / { tell_held(); held = words_of($0); next }
  /^Error in .* scriptlet in rpm package |^Non-fatal .* scriptlet failure in rpm package / { if (told_script == "") say($0); last = ""; next }
  /^((warning|error): |>>> (\[RPM\] )?)[Pp]lugin .* hook .* failed/ { say(words_of($0)); next }
  (hooks || code) && /^Traceback \(most recent call last\):/ { trace = 1; next }
  trace && /^[A-Za-z_][A-Za-z0-9_.]*(:|$)/ { say($0); trace = 0; next }
  hooks && !trace && /(^|[^A-Za-z])([Ee]rror|[Ff]ail(ed|ure|ing)|[Cc]ould not|[Cc]annot|[Uu]nable to)/ { say($0); next }
  /^Error: Transaction failed|^Transaction failed: / { heading = $0; next }
  /^ +[A-Z][A-Za-z ]+ *: |^\[/ { last = told_script = "" } # progress
  !/^ +[A-Z][A-Za-z ]+ *: |^\[/ && words_of($0) != "" { last = words_of($0) }
  code == 0 { next }
  END { tell_held(); if (text == "") say(heading) }'

tool_changes() { # "---> Package NAME.ARCH VERSION will be …"
  awk '$1 == "--->" && $2 == "Package" && $5 == "will" {
    arch = name = $3; sub(/.*\./, "", arch); sub(/\.[^.]*$/, "", name); sub(/^0:/, "", $4); end = $0; sub(/.* will be /, "", end)
    action = end ~ /^(installed|an upgrade|an update|obsoleting)$/ ? "in" : end ~ /^(upgraded|updated)$/ ? "out" : \
      end ~ /^(erased|obsoleted)$/ ? "gone" : end == "a downgrade" ? "down" : end ~ /^(downgraded|a downgraded)$/ ? "out" : ""
    if (action != "") print action, name, arch, $4 }'
}

tool_inputs() { :; }
tool_explain() { cat "$FP_JOB_DIR/rpm-said"; }
tool_code() { return "$1"; } # CODE
tool_locked() { [ "$1" -eq 200 ]; } # CODE
tool_began() { fp_said '^Running transaction *$'; }
tool_continue() { return 1; }

discard() { # remove what was installed; the tool itself would remove what is downloaded for later transactions, too
  ! grep -qsiE '^keepcache *= *(1|true|yes|on) *$' /etc/dnf/dnf.conf || return 0
  folders=$(tool_folders)
  while read -r action _ _ package _; do
    case $action in in | down) print_files "$package" ;; esac
  done <"$FP_JOB_DIR/rpm-would" | tr '\n' '\000' | xargs -0 rm -f
}

comment="fleetpatch ${FP_JOB_DIR##*/}" # of the tool's history; with the number of the transaction

find_undo() { # TOOL COMMAND…: how to undo the last transaction of the tool's history, if it is ours; the command asks the tool
  tool=$1; shift
  said=$("$@" history info last 2>/dev/null)
  id=$(awk -v comment="$comment/$number" '
    { value = $0; sub(/^[^:]*: */, "", value); sub(/ *$/, "", value) }
    /^ *Comment *: / && value == comment { ours = 1 }
    /^ *Transaction ID *: *[0-9]/ { id = value + 0 }
    END { if (ours) print id }' <<SAID
$said
SAID
  )
  [ -n "$id" ] || return 0
  old=''
  while read -r package; do old="$old $package"; done <"$FP_JOB_DIR/rpm-old"
  # shellcheck disable=SC2086  # packages have no blanks and no wildcards
  offered=$("$@" -q -C repoquery $old 2>/dev/null)
  lines "$offered" >"$FP_JOB_DIR/rpm-offered"
  tell_undo "$tool history undo $id"
}

tell_undo() { # COMMAND: as long as the packages in the file rpm-old can be had: those in the file rpm-offered
  missing=$(awk '{ sub(/-[0-9]+:/, "-") } FILENAME == ARGV[1] { here[$0]; next } !($0 in here) { printf "%s%s", (count++ ? ", " : ""), $0 }' "$FP_JOB_DIR/rpm-offered" "$FP_JOB_DIR/rpm-old")
  if [ -z "$missing" ]; then
    lines "$1"
  else
    lines "not possible with $1: no enabled repository has $missing"
  fi
}
