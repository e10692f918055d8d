#!/bin/sh
# What image_assess.sh and image_job.sh ask bootc for.

slot() { # NAME: the status of "staged" and so on, from there to the end; fails if bootc does not tell it
  status=$(bootc status --json) || return
  status=$(printf '%s' "$status" | tr -d ' \n')
  case $status in *"\"$1\":{"*) printf '%s' "${status#*"\"$1\":{"}" ;; esac
  return 0
}
is_downloaded() { # whether the staged image waits for --from-downloaded
  staged=$(slot staged)
  case $staged in *'"downloadOnly":'*) ;; *) return 1 ;; esac
  staged=${staged#*'"downloadOnly":'}
  case $staged in true*) ;; *) return 1 ;; esac
}

tool_check() { bootc upgrade --check; }
tool_report() { fp_section status bootc status --json; }
# bootc before 1.12 can't, and an image that is staged for the next boot would be dropped by it
tool_can_download() { bootc upgrade --help 2>/dev/null | grep -q -e --download-only && staged=$(slot staged) && { [ -z "$staged" ] || is_downloaded; }; }
tool_download() { exec bootc upgrade --download-only; }
tool_cancel() { :; } # it ends with its process
tool_pins() { :; } # only the chosen image is staged
tool_offer() { # the digest of what tool_stage would stage
  if is_downloaded; then
    staged=$(slot staged)
    staged=${staged#*'"imageDigest":"'}
    printf '%s\n' "${staged%%'"'*}"
  else bootc upgrade --check | awk '$1 == "Digest:" { print $2; exit }'; fi
}
tool_stage() {
  if is_downloaded; then bootc upgrade --from-downloaded; else bootc upgrade; fi
}
tool_undo() { echo 'before the reboot: ostree admin undeploy 0 (bootc rollback would go back further); after it: bootc rollback, then reboot'; }
