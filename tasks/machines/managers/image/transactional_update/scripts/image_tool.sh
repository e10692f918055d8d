#!/bin/sh
# What image_assess.sh and image_job.sh ask transactional-update, zypper and btrfs for.

ZYPP_READONLY_HACK=1 # libzypp must not import keys into a database that it can't write
export ZYPP_READONLY_HACK

snapshot_of() { sed -n 's|.*\.snapshots/\([0-9]*\)/snapshot.*|\1|p' | head -n 1; }
running_snapshot() { # as tukit finds it: "transactional-update apply" mounts another /usr
  for place in /usr /; do
    found=$(findmnt --target "$place" --raw --noheadings --output FSROOT --first-only --direction backward --types btrfs | snapshot_of)
    [ -z "$found" ] || { echo "$found"; return; }
  done
}
default_snapshot() { btrfs subvolume get-default / | snapshot_of; }
update_method() { # "up" or, on systems that only go from release to release, "dup"
  method=$(cat /usr/etc/transactional-update.conf /etc/transactional-update.conf 2>/dev/null | sed -n 's/^ *UPDATE_METHOD="\{0,1\}\([a-z]*\).*/\1/p' | tail -n 1)
  case $method in dup) echo dup ;; *) echo up ;; esac
}
list_updates() {
  case $(update_method) in
    dup) zypper --no-refresh --non-interactive list-updates --all ;;
    *) zypper --no-refresh --non-interactive list-updates ;;
  esac
}
system_facts() {
  # shellcheck disable=SC1091
  product=$(. /etc/os-release && printf '%s-%s' "$ID" "${VERSION_ID:-}" | tr -c 'A-Za-z0-9._\n-' -)
  printf 'product=%s\nrunning=%s\ndefault=%s\nmethod=%s\n' "${product%-}" "$(running_snapshot)" "$(default_snapshot)" "$(update_method)"
}
list_staged_packages() { # of the snapshot that waits for a reboot
  rpm --root "/.snapshots/$1/snapshot" -qa --qf '%{NAME}-%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}.%{ARCH}\n'
}

tool_check() { zypper --non-interactive refresh; }
tool_report() {
  fp_section system system_facts
  default=$(default_snapshot)
  [ -z "$default" ] || [ "$default" = "$(running_snapshot)" ] || fp_section installed list_staged_packages "$default"
  fp_section updates list_updates
  fp_section patches zypper --no-refresh --non-interactive list-patches
  fp_section cves zypper --no-refresh --non-interactive list-patches --cve
}
tool_can_download() { false; }
tool_download() { false; }
tool_cancel() { :; }
tool_pins() { false; } # zypper reads the repositories again in the snapshot
tool_stage() {
  default=$(default_snapshot) running=$(running_snapshot) command=$(update_method)
  if [ -z "$default" ] || [ -z "$running" ]; then # what waits for the next boot would be lost
    echo 'error: findmnt and btrfs do not tell the running snapshot and that of the next boot, so nothing is staged'
    return 1
  fi
  if [ "$command" = up ]; then
    updates=$(list_updates); code=$?
    case "
$updates" in
      *"
v "*) ;;
      *) # only patches are left; the codes are those that the assessment accepts
        case $code in 0 | 10[0-3] | 106) command='patch' ;; *) printf '%s\n' "$updates"; return "$code" ;; esac ;;
    esac
  fi
  if [ "$default" != "$running" ]; then # what waits there must not be lost
    transactional-update --non-interactive --continue "$default" "$command"
  else
    transactional-update --non-interactive "$command"
  fi
}
tool_undo() {
  running=$(running_snapshot)
  echo "before the reboot: transactional-update rollback $running; after it: the same, then reboot"
}
