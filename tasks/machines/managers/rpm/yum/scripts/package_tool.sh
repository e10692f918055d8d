#!/bin/sh
# What a job does with yum 3. See rpm_job.sh for the functions. What is downloaded for later transactions stays: yum
# removes only the files of the packages that it installed.
# Requires: yum_family, tool_settings
# shellcheck disable=SC2086,SC2154  # words; variables of rpm_job.sh

# It works from the copy of the repositories' data with which the packages were chosen, and without the repositories that
# have none.
yum_words="-y -d 2 -e 2 $tool_settings --setopt=exit_on_lock=1 --setopt=skip_broken=0 --setopt=*.metadata_expire=never --setopt=*.skip_if_unavailable=1"

tool_simulate() { # "Exiting on user command" is what a simulation ends with. Packages that yum does not know are left out.
  yum $yum_words -C --assumeno install "$@" >"$FP_JOB_DIR/rpm-answer" 2>&1; code=$?
  cat "$FP_JOB_DIR/rpm-answer"
  sed -n 's/^ yum load-transaction \(\/tmp\/yum_save_tx\.[A-Za-z0-9._-]*\.yumtx\)$/\1/p' "$FP_JOB_DIR/rpm-answer" | xargs rm -f
  ! grep -q '^Another app is currently holding the yum lock' "$FP_JOB_DIR/rpm-answer" || return 200
  ! grep -q '^No package .* available' "$FP_JOB_DIR/rpm-answer" || return 3
  [ "$code" -eq 0 ] || ! grep -q '^Another app is currently holding the yum lock' "$FP_JOB_DIR/rpm-answer" || return 200
  [ "$code" -eq 0 ] || grep -q '^Exiting on user command' "$FP_JOB_DIR/rpm-answer" || return 3
}
tool_download() { exec yum $yum_words --downloadonly install "$@"; }
tool_download_again() { exec yum $yum_words --downloadonly reinstall "$@"; }
tool_renew() { exec yum $yum_words makecache; } # all of it: an installation from the cache may need the lists of files
tool_download_and_test() { tool_download "$@"; }
tool_test() { exec yum $yum_words -C --setopt=tsflags=test --setopt=keepcache=1 install "$@"; }
tool_install() { yum $yum_words -C install "$@"; }
tool_install_again() {
  yum $yum_words -C reinstall "$@" || return
  # of the interrupted transaction, nothing is left to do; without this, yum warns of it for ever
  find /var/lib/yum -maxdepth 1 -name 'transaction-*' ! -name '*.disabled' ! -newer "$FP_JOB_DIR/rpm-twice" -exec mv {} {}.disabled \; 2>/dev/null || :
}

tool_code() { # CODE: older versions end a download with 1
  if [ "$1" -eq 1 ] && fp_last_words | grep -qx 'exiting because "Download Only" specified *'; then return 0; fi
  return "$1"
}
tool_locked() { # CODE: yum's code is that of any failure
  [ "$1" -eq 200 ] || { [ "$1" -ne 0 ] && fp_last_words | grep -q '^Another app is currently holding the yum lock'; }
}
tool_began() { fp_said '^Running transaction( \(shutdown inhibited\))? *$'; }

offered() { # the replaced packages that repositories still have, without their epochs
  if command -v repoquery >/dev/null; then
    xargs -r repoquery -C --plugins --show-duplicates --setopt=exit_on_lock=1 --qf '%{name}-%{version}-%{release}.%{arch}'
  else # three words in a row, which may have several lines
    xargs -r yum -C -d 0 -e 0 --setopt=exit_on_lock=1 --showduplicates list available | awk '
      / Packages *$/ { next }
      /^[^ ]/ { count = 0 }
      { for (i = 1; i <= NF; i++) word[++count] = $i }
      count >= 3 { arch = name = word[1]; sub(/.*\./, "", arch); sub(/\.[^.]*$/, "", name); sub(/^[0-9]+:/, "", word[2]); print name "-" word[2] "." arch; count = 0 }'
  fi <"$FP_JOB_DIR/rpm-old" 2>/dev/null
}

tool_undo() { # yum's history has no comments: its last transaction is ours if its command line is
  id=$(yum -d 2 --setopt=exit_on_lock=1 history list 2>/dev/null | awk '$1 ~ /^[0-9]+$/ { print $1; exit }')
  [ -n "$id" ] || return 0
  yum -d 2 --setopt=exit_on_lock=1 history info "$id" 2>/dev/null | grep '^Command Line' | grep -qF " -C install ${wishes%% *}" || return 0
  offered >"$FP_JOB_DIR/rpm-offered"
  tell_undo "yum history undo $id"
}
