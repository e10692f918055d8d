#!/bin/sh
# A function that finds out whether the machine's boot has ended. It only reads, and needs only the PATH of prelude.sh:
# reboot.sh also runs it in a separate process.
# shellcheck disable=SC2034  # used by the scripts that this is put before

# fp_find_boot_work: sets fp_boot_work to what the boot still does, or to nothing. cloud-init sets a machine up in its
# first boot, and can't be repeated where it was cut. Other first boots are services that systemd waits for before its
# state is no longer "starting" (systemctl(1), is-system-running). After a day, that is no boot any more, but a service
# that never ends its start: the machine has worked like that.
fp_find_boot_work() {
  fp_boot_work=''
  [ -d /run/systemd/system ] || return 0
  fp_begun=$(systemctl list-units --state=activating --plain --no-legend --no-pager 'cloud-*.service' 2>/dev/null)
  case $fp_begun in
    *activating*) fp_begun=$(printf '%s\n' "$fp_begun" | awk '$3 == "activating" { printf "%s%s", n++ ? ", " : "", $1 }') ;;
    *) fp_begun='' ;;
  esac
  [ -z "$fp_begun" ] || { fp_boot_work="cloud-init still sets this machine up: $fp_begun"; return 0; }
  case $(systemctl is-system-running 2>/dev/null) in initializing | starting) ;; *) return 0 ;; esac
  { IFS='. ' read -r fp_uptime _ </proc/uptime; } 2>/dev/null || fp_uptime=0
  [ "$fp_uptime" -lt 86400 ] 2>/dev/null || return 0
  fp_begun=$(systemctl list-jobs --no-legend --no-pager 2>/dev/null \
    | awk '$4 == "running" && n < 3 { printf "%s%s", n++ ? ", " : "", $2 }')
  fp_boot_work="its boot has not ended${fp_begun:+: systemd still starts $fp_begun}"
}
