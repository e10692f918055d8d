# shellcheck shell=sh
# shellcheck disable=SC2154  # the tool's script, put before this one, sets its lists
# Reads everything that an assessment needs from rpm and the tool that works with it, in one call. Changes nothing but
# the tool's copy of the repositories' data, and that only with "refresh".
# Parameters: refresh ("yes" or absent), lock_wait_seconds (how long to wait for another process that uses the tool),
# refresh_seconds (when the reading of the repositories is ended).
# Records: state {native, changed, at, began}, reboot {container, flag, kernel, boot_time}, lock {path, pid, name},
# sections "installed", "duplicates", "left_over", "failed_scripts", "outdated", "update" with refresh, those of the tool, and
# what assess_updaters, assess_live_patches and assess_live_patch_enrolment write.
# The tool's package_queries.sh defines: lock_files and pid_files (its locks), busy_code (its exit code while another
# process has the lock), read_repositories (reads their data again) and assess_tool (gives the tool's own sections).
# A query of the tool goes through fp_until_unlocked, if the tool needs its lock for it.
# Step: assess
# Changes: nothing but the tool's copy of the repositories' data
# Requires: manager_environment, package_locks, unfinished_packages, rpm_query, outdated_programs, updater_facts
# Requires: live_patches, live_patch_enrolment, tool_lock, limited, failed_scripts, package_queries

read_all() { read_repositories 2>&1; }
refresh_repositories() { fp_until_unlocked read_all; }

boot_time() { # when the first process began: a container's own boot, too
  exec awk ' # the kernel tells this time in hundredths of a second
    /^btime / { boot = $2 }
    FILENAME == "/proc/1/stat" { sub(/^.*\) /, ""); if (boot != "") printf "%d\n", boot + $20 / 100 }' /proc/stat /proc/1/stat 2>/dev/null
}

holder() { fp_emit lock path="$1" pid:="$2" name="$(fp_name "$2")"; } # PATH PID
pid_holder() { # PATH: the tools take a lock for held while any process has the pid in it
  pid=''
  { read -r pid _ <"$1"; } 2>/dev/null || [ -n "${pid:-}" ] || return 0
  case $pid in *[!0-9]* | 0*) return 0 ;; esac
  [ ! -d "/proc/$pid" ] || holder "$1" "$pid"
}

fp_ask_rpm
rpm_home=$fp_rpm_home
fp_read_time
began=$fp_time
fp_set_param refresh
[ "$refresh" != yes ] || fp_answer update refresh_repositories
before=$(fp_rpm_stamp "$rpm_home")
fp_answer installed fp_rpm_query -a
# shellcheck disable=SC2034  # used by package_queries.sh
installed=$fp_output
twice=$(fp_rpm_duplicates "$installed")
fp_text_section duplicates "$twice"
if [ -n "$twice" ] || fp_has_failed_scripts; then fp_note_history; fi # once for both
[ -z "$twice" ] || fp_answer left_over fp_left_over
failed=''
if [ -n "$fp_history" ] || fp_has_zypper_history; then failed=$(fp_failed_scripts); fi
fp_text_section failed_scripts "$failed"
assess_tool
[ ! -d /run/systemd/system ] || fp_answer outdated fp_outdated
container=false
if [ -e /run/systemd/container ] || [ -e /.dockerenv ] || [ -e /run/.containerenv ] || grep -qz '^container=' /proc/1/environ 2>/dev/null; then container=true; fi
flag=false; [ ! -e /run/reboot-needed ] || flag=true
{ IFS= read -r release </proc/sys/kernel/osrelease || release=$(uname -r); } 2>/dev/null
fp_emit reboot container:=$container flag:=$flag kernel="$release" boot_time:="$(boot_time)"
assess_updaters
assess_live_patches "$container"
assess_live_patch_enrolment "$container"
# shellcheck disable=SC2086  # lists of paths
fp_each_holder holder "$rpm_home/.rpm.lock" $lock_files
for file in $pid_files; do pid_holder "$file"; done
# last: a process that released its locks before they were checked has written the database by now
changed=false; [ "$before" = "$(fp_rpm_stamp "$rpm_home")" ] || changed=true
fp_read_time
fp_emit state native="$fp_arch" changed:=$changed at:="$fp_time" began:="$began"
