#!/bin/sh
# Lays down the document of scheduled events for the programs of this machine, and looks for their approvals beside it.
# All users may read the document and approve, as on Azure. Only root may change it.
# Parameters: work (look or tell), folder (where it lies), document (its text, on one line), events (list: the ids of
# events whose approvals are looked for), over (list: the ids of events whose approvals are removed).
# Records: document (text: that of the document which lies there; "": none), approval (event: somebody approves it),
# told, or refused (why).
# Step: install
# Changes: the document of scheduled events, and its approvals
# shellcheck disable=SC2154  # variables of prelude.sh

for name in work folder document events over; do fp_set_param "$name"; done
folder=${folder:-/var/lib/fleetpatch-events}
file=$folder/scheduledevents.json approvals=$folder/approve
umask 022

refuse() { fp_emit refused "why=$1"; exit 0; }
check_folder() { # PATH: refuses what somebody else has put there
  [ ! -L "$1" ] || refuse "$1 is a link"
  [ -d "$1" ] || refuse "$1 is no folder"
  # shellcheck disable=SC3067  # dash, bash and busybox have -O
  [ -O "$1" ] || refuse "$1 belongs to another user"
}
make_folder() { # PATH MODE
  [ -e "$1" ] || [ -L "$1" ] || mkdir -- "$1" 2>/dev/null || refuse "cannot make $1"
  check_folder "$1"
  chmod "$2" -- "$1" 2>/dev/null || refuse "cannot change $1"
}

if [ "$work" = tell ]; then
  make_folder "$folder" 755
  make_folder "$approvals" 1733 # all may add an approval, and nobody sees or removes those of others
  if ! printf '%s\n' "$document" 2>/dev/null >"$file.new" || ! mv -f -- "$file.new" "$file" 2>/dev/null; then
    rm -f -- "$file.new"
    refuse "cannot write $file"
  fi
  for event in $over; do
    case $event in '' | *[!0-9a-f-]*) ;; *) rm -f -- "$approvals/$event" ;; esac
  done
  fp_emit told
elif [ -d "$folder" ] || [ -L "$folder" ]; then
  check_folder "$folder"
  text=''
  # shellcheck disable=SC3067
  if [ -f "$file" ] && [ ! -L "$file" ] && [ -O "$file" ]; then IFS= read -r text <"$file" || :; fi
  fp_emit document "text=$text"
  for event in $events; do
    case $event in '' | *[!0-9a-f-]*) continue ;; esac
    # only names that are asked for: whoever fills the folder with others delays nobody
    if [ -f "$approvals/$event" ] && [ ! -L "$approvals/$event" ]; then fp_emit approval "event=$event"; fi
  done
else
  fp_emit document "text="
fi
