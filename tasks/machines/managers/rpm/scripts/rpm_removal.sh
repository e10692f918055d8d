#!/bin/sh
# How a job of rpm's families removes packages: rpm removes the named packages, or refuses. It never removes what
# needs a package, as the tools do. An undo removes only what the tool counts as needless; kernels have a rule of their own.
# See rpm_job.sh.
# Requires: package_needs
# shellcheck disable=SC2034,SC2154  # variables of rpm_job.sh, and for it

may_remove() { # else with the record that says why not
  wait_for_rpm || return 1
  if fp_stop_requested; then fp_not_attempted stop 'asked to stop'; return 1; fi
  if fp_is_over "$latest"; then fp_not_attempted window ''; return 1; fi
}

still_installed() { # an unreadable database does not say that a package is gone
  while read -r package; do case $(rpm -q "$package" 2>&1) in *' is not installed') ;; *) lines "$package" ;; esac; done <"$FP_JOB_DIR/rpm-own"
}

needed() { # PACKAGES: those that the tool does not count as needless (rpm-needless)
  lines "$@" | awk 'FILENAME == ARGV[1] { needless[$0]; next }
    { name = arch = $0; sub(/.*\./, "", arch); sub(/-[^-]*-[^-]*$/, "", name); if (!((name "." arch) in needless)) print }' "$FP_JOB_DIR/rpm-needless" - | list
}

failed=''
remove() {
  [ -s "$FP_JOB_DIR/rpm-own" ] || { ended 0; return; }
  if [ -n "$failed" ]; then fp_not_attempted 'not begun' 'the removal before it did not succeed'; return; fi
  fp_transaction_started # first, so that its end can name who holds the lock
  may_remove || return 0
  # shellcheck disable=SC2046  # packages have no blanks and no wildcards
  set -- $(still_installed)
  [ "$#" -gt 0 ] || { ended 0; return; } # another process has removed them
  if [ "$(fp_param downgrades)" = yes ]; then
    if ! needless >"$FP_JOB_DIR/rpm-needless" 2>"$FP_JOB_DIR/rpm-said"; then
      fp_not_attempted unread "what nothing needs: $(fp_last_line "$FP_JOB_DIR/rpm-said")"
      return
    fi
    needed=$(needed "$@")
    [ -z "$needed" ] || { fp_not_attempted needed "$needed"; return; }
  fi
  if ! said=$(rpm -e --test "$@" 2>&1); then
    needed=$(lines "$said" | awk '/ is needed by / { sub(/^[ \t]+/, ""); print }' | list)
    if [ -n "$needed" ]; then fp_not_attempted 'rpm refuses it' "$needed"; else lines "$said"; ended 1; failed=$error; fi
    return
  fi
  may_remove || return 0 # the test may have taken long
  : >"$began"
  removed=yes
  rpm -e "$@" 3>&-; ended "$?"
  failed=$error
}
