#!/bin/sh
# Shows what fleetpatch has left on the machine, or removes that, for a person. Nothing is removed while a job runs, a
# run has the machine lock, or a reboot or a power-off is under way; and nothing that has not fleetpatch's marks.
# Parameters: remove ("yes"), and then what was shown before: lock (run, attempt and until, with blanks), jobs (list of
# ids: others are not removed); broker (the public key of this controller, PEM).
# Records: lock (run, by, until, attempt: who has it; job: what runs; now); job (id, phase, run, ended, label); item
# (what, path), or with remove: removed (what, path), failed (what, path, why); left (path, why: it is not
# fleetpatch's, or not this controller's); updater (unit, how: of restored ones); refused (why, about), changed.
# Step: order
# Changes: it removes what fleetpatch left
# Requires: job_common, updaters_back
# shellcheck disable=SC2154  # variables of prelude.sh, job_common.sh and updaters_back.sh

umask 077
told=/var/lib/fleetpatch-events
forwarder_mark='# Laid down by fleetpatch. fleetpatch events forward --remove takes it away.'
above=${fp_jobs%/*} helper=/usr/local/sbin/fleetpatch-broker rule=/etc/sudoers.d/fleetpatch-broker

refuse() { fp_emit refused "why=$1" "about=$2"; exit 0; }
left() { fp_emit left "path=$1" "why=$2"; }
tell() { fp_emit updater "unit=$2" "how=$4" "kind_of=$1"; } # of updaters_back
has_systemd() { [ -d /run/systemd/system ] && command -v systemctl >/dev/null; }

item() { # WHAT PATH: shows it, or removes it
  if ! fp_has remove; then fp_emit item "what=$1" "path=$2"; return; fi
  why=$(rm -rf "${2:?}" 2>&1)
  if [ -e "$2" ] || [ -h "$2" ]; then fp_emit failed "what=$1" "path=$2" "why=$why"; else fp_emit removed "what=$1" "path=$2"; fi
}

files() { # WHAT PATH…: those that are there, if they are files of root, and no links
  what=$1
  shift
  for path in "$@"; do
    if [ -h "$path" ] || { [ -e "$path" ] && [ ! -f "$path" ]; }; then left "$path" "it is no file"
    elif [ -f "$path" ]; then item "$what" "$path"; fi
  done
}

is_job() { # DIR: whether it has the marks of a job
  [ ! -h "$1" ] && [ -d "$1" ] && [ -f "$1/label" ] && [ -f "$1/params" ] && { [ -e "$1/meta" ] || [ -e "$1/withdrawn" ]; }
}

each_job() { # the ids of all jobs
  for dir in "$fp_jobs"/*; do
    ! is_job "$dir" || printf '%s\n' "${dir##*/}"
  done
}

tell_jobs() {
  for id in $(each_job); do
    fp_look "$fp_jobs/$id"
    fp_emit job "id=$id" "phase=$fp_phase" "run=$(fp_job_param "$fp_jobs/$id" lock_run)" "ended:=$fp_ended" \
      "label=$(cat "$fp_jobs/$id/label" 2>/dev/null)"
  done
}

is_active() { has_systemd && case $(systemctl is-active "$1" 2>/dev/null) in active | activating | deactivating) ;; *) false ;; esac; }

guard() { # refuse what must not begin
  [ -z "$fp_busy" ] || refuse "job $fp_busy is running" job
  [ "$fp_lock_until" -le "$(fp_now)" ] || refuse "run $fp_lock_run ($fp_lock_by) has the lock of this machine" machine_lock
  ! is_active fleetpatch-reboot.service || refuse "a reboot was ordered" reboot
  ! is_active fleetpatch-poweroff.service || refuse "a power-off was ordered" reboot
  fp_has remove || return 0
  [ "$fp_lock_run $fp_lock_attempt $fp_lock_until" = "$(fp_param lock)" ] || { fp_emit changed; exit 0; }
  for id in $(each_job); do
    fp_param jobs | grep -qxF -e "$id" || { fp_emit changed; exit 0; }
  done
}

clean_updaters() { # what a run has paused is restored first
  [ -f "$above/updaters" ] && [ ! -h "$above/updaters" ] || return 0
  recall "$above/updaters"
  if fp_has remove && has_systemd; then
    manager stop fleetpatch-updaters.timer fleetpatch-updaters.service >/dev/null 2>&1
    ! fp_is_boot "$boot" || give_all_back "$above/updaters"
    if fp_is_boot "$boot" && [ -e "$above/updaters" ]; then
      fp_emit failed "what=paused updaters" "path=$above/updaters" "why=not all could be restored"
      return 1
    fi
  fi
  [ ! -e "$above/updaters" ] || item "paused updaters" "$above/updaters"
}

clean_units() { # transient ones of jobs, of reboots and of the pause; a unit with a file of its own is somebody else's
  has_systemd || return 0
  for unit in $(systemctl list-units --all --plain --no-legend --no-pager 'fleetpatch-*' 2>/dev/null | awk '{ print $1 }'); do
    name=${unit%.*}
    case ${name#fleetpatch-} in
      updaters | reboot | poweroff) ;;
      *) printf '%s\n' "$ids" | grep -qxF -e "${name#fleetpatch-}" || continue ;;
    esac
    case $(systemctl show -p FragmentPath --value "$unit" 2>/dev/null) in '' | /run/systemd/transient/*) ;; *) continue ;; esac
    if fp_has remove; then
      case $unit in *.timer) manager stop "$unit" >/dev/null 2>&1 ;; esac
      manager reset-failed "$unit" >/dev/null 2>&1
      if is_active "$unit"; then fp_emit failed "what=unit" "path=$unit" "why=it is active"
      else fp_emit removed "what=unit" "path=$unit"; fi
    else
      fp_emit item "what=unit" "path=$unit"
    fi
  done
}

is_of_component() { # NAME: whether it is a file of a component: its digest, an unfinished one, or its name for a tool
  case $1 in install.deb | install.rpm) return 0 ;; esac
  set -- "${1%.part}"
  case $1 in *[!0-9a-f]*) return 1 ;; esac
  [ "${#1}" -eq 64 ]
}

clean_components() { # their files; what others put beside them stays
  for place in "$above/components" "$above/components"/* "$above/components"/.[!.]*; do
    if [ ! -e "$place" ] && [ ! -h "$place" ]; then continue; fi
    if ! fp_ours "$place"; then
      left "$place" "$fp_why"
      if [ "$place" = "$above/components" ]; then return; else continue; fi
    fi
    [ "$place" != "$above/components" ] || continue
    for path in "$place"/* "$place"/.[!.]*; do
      if [ ! -e "$path" ] && [ ! -h "$path" ]; then continue; fi
      if is_of_component "${path##*/}"; then files "file of a component" "$path"; else left "$path" "it is not fleetpatch's"; fi
    done
    ! fp_has remove || rmdir "$place" 2>/dev/null
  done
  ! fp_has remove || rmdir "$above/components" 2>/dev/null
}

clean_state() { # the folder of jobs, and what is beside it
  if [ ! -e "$above" ] && [ ! -h "$above" ]; then return 0; fi
  fp_ours "$above" || { left "$above" "$fp_why"; return 0; }
  clean_updaters || return 0
  clean_components
  if [ -e "$fp_jobs" ] || [ -h "$fp_jobs" ]; then
    if fp_ours "$fp_jobs"; then
      for id in $ids; do item job "$fp_jobs/$id"; done
      files "file of jobs" "$fp_jobs/.error"
    else left "$fp_jobs" "$fp_why"; fi
  fi
  if [ -e "$above/kept" ] || [ -h "$above/kept" ]; then
    if fp_ours "$above/kept"; then item "kept packages" "$above/kept"; else left "$above/kept" "$fp_why"; fi
  fi
  files "machine lock" "$above/machine-lock" "$above/machine-lock.new"
  files "paused updaters" "$above/updaters.new" "$above/updaters.sh"
  for path in "$above"/* "$above"/.[!.]* "$fp_jobs"/* "$fp_jobs"/.[!.]*; do
    [ -e "$path" ] || [ -h "$path" ] || continue
    case $path in
      "$fp_jobs" | "$fp_jobs/.lock" | "$fp_jobs/.error" | "$above/components" | "$above/kept") ;;
      "$above/machine-lock" | "$above/machine-lock.new" | "$above/updaters" | "$above/updaters.new" | "$above/updaters.sh") ;;
      *) is_job "$path" || left "$path" "it is not fleetpatch's" ;;
    esac
  done
  if ! fp_has remove; then item folder "$above"; return 0; fi
  # the lock goes last: who waits for it finds no folder to write to
  rm -f "$fp_jobs/.lock" && rmdir "$fp_jobs" "$above" 2>/dev/null
  if [ -e "$above" ]; then left "$above" "something is in it"; else fp_emit removed "what=folder" "path=$above"; fi
}

clean_events() { # the document of scheduled events, and the forwarder of their address
  if [ -h "$told" ] || { [ -e "$told" ] && [ ! -d "$told" ]; }; then left "$told" "it is no folder"
  elif [ -d "$told" ]; then item "scheduled events" "$told"; fi
  for name in fleetpatch-forwarder.service fleetpatch-forwarder.socket fleetpatch-forwarder-address.service; do
    path=/etc/systemd/system/$name
    [ -f "$path" ] && [ ! -h "$path" ] || continue
    if [ "$(head -n 1 "$path")" != "$forwarder_mark" ]; then left "$path" "it is not fleetpatch's"; continue; fi
    if fp_has remove && has_systemd; then manager disable --now "$name" >/dev/null 2>&1; fi
    item forwarder "$path"
  done
}

clean_broker() { # at the very end: without it, the login may not be root any more
  [ -e "$helper" ] || [ -e "$rule" ] || [ -e /etc/fleetpatch-broker ] || [ -e /var/lib/fleetpatch-broker ] || return 0
  if [ "$(cat /etc/fleetpatch-broker/controller.pem 2>/dev/null)" != "$(fp_param broker)" ] || ! fp_has broker; then
    left /etc/fleetpatch-broker "it is the broker of another controller"
    return 0
  fi
  if [ -e "$helper" ] && ! grep -q '^# fleetpatch-broker: ' "$helper"; then left "$helper" "it is not fleetpatch's"
  else files broker "$helper" "$helper.new"; fi
  if [ -e "$rule" ] && grep -v -e "^Defaults!$helper env_reset\$" -e "^[^ ]* ALL=(root) NOPASSWD: $helper \"\"\$" "$rule" >/dev/null; then
    left "$rule" "somebody has changed it"
  else files "rule of sudo" "$rule" /etc/sudoers.d/.fleetpatch-broker.new; fi
  for path in /etc/fleetpatch-broker /var/lib/fleetpatch-broker; do
    [ ! -d "$path" ] || [ -h "$path" ] || item broker "$path"
  done
}

if fp_has remove && [ -d "$fp_jobs" ] && fp_ours "$fp_jobs"; then fp_mutex || refuse "$fp_why" "$fp_about"; fi
fp_read_lock
fp_find_running
[ "$fp_lock_until" != 0 ] || fp_lock_by=''
fp_emit lock "run=$fp_lock_run" "by=$fp_lock_by" "until:=$fp_lock_until" "attempt:=$fp_lock_attempt" \
  "job=$fp_busy" "now:=$(fp_now)"
tell_jobs
guard
ids=$(each_job)
clean_units
clean_state
clean_events
files "order of a reboot" /run/fleetpatch-reboot /run/fleetpatch-reboot.new /run/fleetpatch-reboot.sh \
  /run/fleetpatch-reboot.plain.sh /run/fleetpatch-reboot.pl /run/fleetpatch-reboot.err
files "order of a power-off" /run/fleetpatch-poweroff /run/fleetpatch-poweroff.new /run/fleetpatch-poweroff.sh
files "view of dpkg" /var/lib/dpkg/fleetpatch-status
clean_broker
