# shellcheck shell=sh
# Reads what an image-based system runs, what its next boot starts, and what is newer. Changes nothing but what the tool
# itself keeps of its check. Parameters: refresh ("yes": ask the image's source first), lock_wait_seconds (for another
# process that changes deployments), updaters (list of units).
# Records: sections "check" (with refresh), those of tool_report and "timers"; state {at, at_work}.
# Step: assess
# Changes: nothing but what the tool keeps of its check
# Requires: unfinished_packages, image_tool

wait_for_others() {
  until=$(($(fp_now) + $(fp_param lock_wait_seconds)))
  while fp_who=''; fp_unfinished; [ -n "$fp_who" ] && [ "$(fp_now)" -lt "$until" ]; do sleep 2; done
}

if [ "$(fp_param refresh)" = yes ]; then
  wait_for_others
  fp_section check tool_check
fi
tool_report
if [ -d /run/systemd/system ]; then
  # shellcheck disable=SC2046  # units are words
  fp_section timers env TZ=UTC systemctl show -p Id,ActiveState,NextElapseUSecRealtime $(fp_param updaters)
fi
fp_who=''
fp_unfinished
fp_emit state at:="$(date +%s)" at_work="$fp_who"
