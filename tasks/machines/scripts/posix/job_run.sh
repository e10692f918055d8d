#!/bin/sh
# Runs one job to its end: $1 is its directory, $2 this boot (fp_read_boot). It is started detached, with an empty environment, and does not need the
# connection. Nothing here kills a process, but for the holder of its own inhibitor: a TERM (a shutdown, systemctl stop) is
# ignored until the end, because a package transaction is never killed.
# Step: install
# Changes: the files of the job, and what its program changes
FP_JOB_DIR=$1 boot=$2
cd / || exit 1
umask 077
exec </dev/null >>"$FP_JOB_DIR/log" 2>&1 3>>"$FP_JOB_DIR/events"
trap : TERM HUP INT # not '': processes that packages start would inherit ignored signals

IFS= read -r stat <"/proc/$$/stat" || exit 1
# shellcheck disable=SC2086  # fields
set -- ${stat##*) }
# A lock that ends with this process, and that nothing it starts inherits: whoever waits for the end waits for the lock.
exec 9>>"$FP_JOB_DIR/alive"
command -v flock >/dev/null && flock -n 9
# The right to run the job: of two starts, and of a withdrawal, only one links the meta; the others end.
now=$(date +%s) up=''
printf '%s %s %s %s\n' "$$" "${20}" "$boot" "$now" >"$FP_JOB_DIR/meta.$$" || exit 73
ln "$FP_JOB_DIR/meta.$$" "$FP_JOB_DIR/meta" 2>/dev/null || { rm -f "$FP_JOB_DIR/meta.$$"; exit 75; }
rm -f "$FP_JOB_DIR/meta.$$"

inhibitor=''
if [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] && command -v systemd-inhibit >/dev/null; then
  # The lock ends at once with this shell, and never later; the shell itself may have no lock: some file systems have none.
  # shellcheck disable=SC2016  # $1 is the holder's own
  systemd-inhibit --what=shutdown:sleep --mode=block --who=fleetpatch --why="job ${FP_JOB_DIR##*/}" \
    /bin/sh -c 'command -v flock >/dev/null && flock -s "$2" true
      while kill -0 "$1" 2>/dev/null; do sleep 2; done' sh "$$" "$FP_JOB_DIR/alive" >/dev/null 3>&- 9>&- &
  inhibitor=$!
fi

# if the clock is set back from now on, nothing begins late (see fp_now)
{ IFS='. ' read -r up _ </proc/uptime; } 2>/dev/null || :
# shellcheck disable=SC2034  # read by the prelude, which the script begins with
case $up in '' | *[!0-9]*) fp_base='' ;; *) fp_base=$((now - up)) ;; esac

(
  trap - TERM HUP INT
  umask 022
  # shellcheck disable=SC2034  # read by the prelude, which the script begins with
  fp_mark=''
  # shellcheck disable=SC2034
  IFS= read -r FP_TOKEN <"$FP_JOB_DIR/params"
  # that of the login which started it; a proxy may have a password in it
  # shellcheck disable=SC1091
  . "$FP_JOB_DIR/environment"
  rm -f "$FP_JOB_DIR/environment"
  # shellcheck disable=SC1091
  . "$FP_JOB_DIR/script"
) 9>&-
printf '%s %s\n' "$?" "$(date +%s)" >"$FP_JOB_DIR/rc.new"
chmod -R go= "$FP_JOB_DIR" || : # the script wrote files under 022; their copies must not be readable either
sync "$FP_JOB_DIR/events" "$FP_JOB_DIR/log" "$FP_JOB_DIR/rc.new" 2>/dev/null || :
# before the end is told: a reboot that follows would find it, and wait for it
[ -z "$inhibitor" ] || { kill "$inhibitor" && wait "$inhibitor"; } 2>/dev/null || :
mv -f "$FP_JOB_DIR/rc.new" "$FP_JOB_DIR/rc"
