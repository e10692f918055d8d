#!/bin/sh
# What image_assess.sh and image_job.sh ask rpm-ostree for.
# shellcheck disable=SC2154  # image is set by image_job.sh

read_only_upgrade() { # OPTION…: what stages nothing is done also while an agent drives the updates (Zincati on Fedora CoreOS)
  # shellcheck disable=SC2046  # a word, or none
  exec rpm-ostree upgrade "$@" $(rpm-ostree upgrade --help 2>/dev/null | grep -o -m 1 -e '--bypass-driver')
}

tool_check() { (read_only_upgrade --check); }
tool_report() { fp_section status rpm-ostree status --json; }
tool_can_download() { :; }
tool_download() { read_only_upgrade --download-only; }
tool_cancel() { rpm-ostree cancel; } # its daemon goes on without the client
tool_pins() { :; } # only the chosen image is staged
tool_offer() { # the checksum that was downloaded; nothing for a container image
  case $image in ostree-*) ;; *) ostree rev-parse "$image" ;; esac
}
tool_stage() { # what was downloaded, and nothing newer; a container image is looked up again. While an agent works, rpm-ostree refuses
  case $image in
    ostree-*) rpm-ostree upgrade ;;
    *) rpm-ostree upgrade --cache-only ;;
  esac
}
tool_undo() { echo 'before the reboot: rpm-ostree cleanup -p; after it: rpm-ostree rollback, then reboot'; }
