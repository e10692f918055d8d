#!/bin/sh
# How a job of apt removes packages: only the named packages, only those that nothing needs, and never what they have
# kept on the disk: no --purge, which lets the scripts of a package delete data. See apt_job.sh.
# shellcheck disable=SC2034,SC2154  # variables of apt_job.sh, and for it

also_removed() { # what speaks against a removal: prints "why detail", or nothing. A check that fails speaks against it
  fp_apt_get -s autoremove >"$FP_JOB_DIR/apt-would" 2>"$FP_JOB_DIR/apt-said" || { unread 'what nothing needs'; return; }
  sed -n 's/^Remv \([^ ]*\).*/\1/p' "$FP_JOB_DIR/apt-would" >"$FP_JOB_DIR/apt-needless" # came as a dependency, was not chosen since, is needed by nothing
  fp_apt_get -s remove "$@" >"$FP_JOB_DIR/apt-would" 2>"$FP_JOB_DIR/apt-said" || { unread 'what goes with it, because apt refuses it'; return; }
  awk 'FILENAME == ARGV[1] { own[$0] = ++count; name[count] = $0; next }
    FILENAME == ARGV[2] { needless[$0]; next }
    $1 == "Inst" || (($1 == "Remv" || $1 == "Purg") && !($2 in own)) { other = other (other == "" ? "" : ", ") $1 " " $2 }
    END {
      for (k = 1; k <= count; k++) if (!(name[k] in needless)) needed = needed (needed == "" ? "" : ", ") name[k]
      if (needed != "") print "needed", needed
      else if (other != "") print "unexpected", other
    }' "$FP_JOB_DIR/apt-names" "$FP_JOB_DIR/apt-needless" "$FP_JOB_DIR/apt-would" || lines "unexpected it could not be checked"
}

failed=''
remove() { # NAME…: exactly these; their configuration stays
  [ "$#" -gt 0 ] || { ended 0; return; }
  if [ -n "$failed" ]; then fp_not_attempted 'not begun' 'the removal before it did not succeed'; return; fi
  wishes=$*
  fp_limit_lock_wait
  if ! look; then not_wanted; return; fi
  if fp_is_over "$latest"; then fp_not_attempted window ''; return; fi
  fp_transaction_started
  pending='-o DPkg::ConfigurePending=false' # what else waits to be configured is not touched
  run_apt remove "$@"; result=$?
  if fp_not_begun; then return; fi
  if [ "$ended_for" = unwanted ]; then not_wanted; return; fi
  ended "$result"
  failed=$error
}
