#!/bin/sh
# Defines assess_updaters: tells which updaters the system brings along. Nothing is changed.
# Section updaters: systemctl show of their units. Record updaters: jobs (paths of switched-on jobs of cron, one a
# line), offline_update (whether the next boot installs prepared updates).

fp_updater_timers='dnf-automatic.timer dnf-automatic-install.timer dnf-automatic-download.timer
dnf-automatic-notifyonly.timer dnf5-automatic.timer os-update.timer packagekit-background.timer'

fp_show_updaters() {
  fp_updater_services=''
  for fp_timer in $fp_updater_timers; do fp_updater_services="$fp_updater_services ${fp_timer%timer}service"; done
  # shellcheck disable=SC2086  # names of units
  TZ=UTC systemctl --no-pager show -p Id,ActiveState,NextElapseUSecRealtime yum-cron.service packagekit.service \
    $fp_updater_timers $fp_updater_services </dev/null
}

fp_is_switched_on() { # FILE VARIABLE: whether a file of settings says VARIABLE=true or yes
  sed -n "s/^[[:space:]]*$2=[\"']*\([A-Za-z]*\).*/\1/p" "${fp_etc:-/etc}/sysconfig/$1" 2>/dev/null | tail -n 1 | grep -qiE '^(true|yes)$'
}

fp_list_updater_jobs() {
  for fp_job in "${fp_etc:-/etc}"/cron.*/opensuse.org-online_update; do
    if [ -e "$fp_job" ] && fp_is_switched_on automatic_online_update AOU_ENABLE_CRONJOB; then echo "$fp_job"; fi
  done
  fp_job=${fp_etc:-/etc}/cron.daily/packagekit-background.cron
  if [ -x "$fp_job" ] && fp_is_switched_on packagekit-background ENABLED; then echo "$fp_job"; fi
}

assess_updaters() {
  [ ! -d /run/systemd/system ] || fp_answer updaters fp_show_updaters
  fp_offline=false
  if [ -h /system-update ] || [ -h "${fp_etc:-/etc}/system-update" ]; then fp_offline=true; fi
  fp_emit updaters jobs="$(fp_list_updater_jobs)" offline_update:=$fp_offline
}
