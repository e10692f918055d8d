#!/bin/sh
# Orders a reboot. Parameters: expected_boot_id, delay (whole seconds), claim_run and claim_attempt (the order is carried
# out only while that attempt at that run, or none newer, has the machine's claim), latest (the last moment, in whole
# seconds of this machine's clock). Record: ordered, or refused with why and about (claim, window, room or "").
# Asked twice, it is done once: the boot id is another one then. The answer is out before the machine goes down.
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

expected=$(fp_param expected_boot_id) delay=$(fp_param delay)
case $delay in '' | *[!0-9]*) delay=2 ;; esac

refuse() { fp_emit refused "why=$1" "boot_id=$fp_boot" "about=${2:-}"; exit 0; }

claimed() { # refuse an order of a run, or an attempt at it, that has not the machine's claim; later attempts supersede earlier ones
  claim_run=$(fp_param claim_run) attempt=$(fp_number "$(fp_param claim_attempt)")
  [ -n "$claim_run" ] || return 0
  mask=$(umask)
  umask 077
  if [ -w "$fp_jobs" ]; then # where nothing can be written, nobody takes the claim meanwhile either
    fp_ours "$fp_jobs" || refuse "$fp_why"
    fp_lock || refuse "$fp_why" "$fp_about"
  fi
  fp_check_claim "$claim_run" "$attempt" || refuse "$fp_why" claim
  # where that can't be written, an earlier attempt's order comes to the same: the boot id tells that it was carried out
  fp_keep_claim "$claim_run" "$attempt" "$(fp_param claim_until)" || :
  umask "$mask"
}

timely() { # refuse an order that comes when the window can't hold a reboot any more, by this machine's own clock
  latest=$(fp_param latest)
  case $latest in '' | *[!0-9]*) return 0 ;; esac
  now=$(fp_now)
  [ "$now" -le "$latest" ] || refuse "the order came $((now - latest)) s after the last moment at which the window holds it" window
}

[ -n "$fp_boot" ] || refuse "the machine does not tell its boot id, so a reboot could not be proven"
[ "$fp_boot" = "$expected" ] || refuse "it has rebooted already: its boot id is $fp_boot, not $expected"
claimed
timely
[ "$(id -u)" = 0 ] || refuse "the login is not root"
for meta in "$fp_jobs"/*/meta; do
  [ -f "$meta" ] || continue
  fp_look "${meta%/meta}"
  [ "$fp_phase" != running ] || { job=${meta%/meta}; refuse "the job ${job##*/} is still running"; }
done

# shellcheck disable=SC2016  # $1 and $2 are the inner shell's own
order='sleep "$1"; sync; if [ -d /run/systemd/system ]; then systemctl reboot && exit; fi; shutdown -r now || reboot'
if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
  if systemctl is-active --quiet fleetpatch-reboot.service; then fp_emit ordered "boot_id=$fp_boot" again:=true; exit 0; fi
  systemctl reset-failed fleetpatch-reboot.service 2>/dev/null
  systemd-run --quiet --no-ask-password --no-block --unit=fleetpatch-reboot /bin/sh -c "$order" sh "$delay" \
    </dev/null 3>&- 8>&- && { fp_emit ordered "boot_id=$fp_boot" again:=false; exit 0; }
fi
if command -v setsid >/dev/null; then
  setsid /bin/sh -c "$order" sh "$delay" </dev/null >/dev/null 2>&1 3>&- 8>&- &
  fp_emit ordered "boot_id=$fp_boot" again:=false
else
  refuse "the machine has neither systemd-run nor setsid to order a reboot with"
fi
