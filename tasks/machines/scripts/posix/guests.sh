#!/bin/sh
# Lists the guests of a hypervisor host (libvirt, Proxmox VE), and orders what is to be done with some of them.
# Parameters: work (list, away, force, back), action (shutdown, pause, move), target (the host for move), guests (one a
# line: libvirt:UUID, qemu:ID or lxc:ID).
# Records: guest (id, name, state: running; or paused: any other one but off; disks: as it has them, "other" if it would
# start again from other files, "unknown"), one for each that is not off; unread (why) for a hypervisor that does
# not tell, or where there is none; listed at the end of the list; ordered (id) or failed (id, why) for each order.
# An order returns at once: who has given it asks for the list until it has taken effect. A guest is switched off hard
# only by force.
# Step: install
# Changes: the guests that the owner names: shut down, paused, moved or started again
# shellcheck disable=SC2154  # variables of prelude.sh

for variable in work action target guests; do fp_set_param "$variable"; done

compare_disks() { # those that a guest of libvirt runs with, and those that it would start from; CDs do not count
  live=$(virsh -c qemu:///system domblklist "$1" --details 2>/dev/null) || { echo unknown; return 0; }
  later=$(virsh -c qemu:///system domblklist "$1" --details --inactive 2>/dev/null) || { echo unknown; return 0; }
  printf '%s\n' "$live" "$later" | awk '
    $2 == "disk" { target = $3; $1 = $2 = $3 = ""; if (target in source && source[target] != $0) differs = 1; source[target] = $0 }
    END { print differs ? "other" : "alike" }'
}

list_libvirt() {
  command -v virsh >/dev/null || return 0
  for state in running paused other; do # other: asleep, crashed, or just going off
    uuids=$(virsh -c qemu:///system list "--state-$state" --uuid 2>&1) || { fp_emit unread "why=virsh: $uuids"; return 0; }
    for uuid in $uuids; do
      fp_emit guest "id=libvirt:$uuid" "name=$(virsh -c qemu:///system domname "$uuid" 2>/dev/null)" "state=$([ "$state" = running ] && echo running || echo paused)" "disks=$(compare_disks "$uuid")"
    done
  done
}

list_proxmox() { # the commands of Proxmox VE print a table with a heading
  command -v "$1" >/dev/null || return 0
  table=$("$1" list 2>&1) || { fp_emit unread "why=$1: $table"; return 0; }
  lines=$(printf '%s\n' "$table" | awk -v state="$3" -v name="$4" '
    NR > 1 && $state == "running" { print $1 "/" (name == "last" ? $NF : $name) }')
  for line in $lines; do
    fp_emit guest "id=$2:${line%%/*}" "name=${line#*/}" state=running
  done
}

apart() { # the order outlives this connection
  if command -v setsid >/dev/null; then setsid "$@" </dev/null >/dev/null 2>&1 3>&- &
  else nohup "$@" </dev/null >/dev/null 2>&1 3>&- & fi
}

away() {
  case $action:$1 in
    shutdown:libvirt) apart virsh -c qemu:///system shutdown "$2" ;;
    shutdown:qemu) apart qm shutdown "$2" ;;
    shutdown:lxc) apart pct shutdown "$2" ;;
    pause:libvirt) apart virsh -c qemu:///system managedsave "$2" ;;
    pause:qemu) apart qm suspend "$2" --todisk 1 ;;
    move:libvirt) apart virsh -c qemu:///system migrate --live --persistent --undefinesource "$2" "qemu+ssh://$target/system" ;;
    move:qemu) apart qm migrate "$2" "$target" --online 1 ;;
    move:lxc) apart pct migrate "$2" "$target" --restart 1 ;;
    *) return 1 ;;
  esac
}

force() {
  case $1 in
    libvirt) apart virsh -c qemu:///system destroy "$2" ;;
    qemu) apart qm stop "$2" ;;
    lxc) apart pct stop "$2" ;;
  esac
}

back() {
  here=$(hostname 2>/dev/null || uname -n)
  case $action:$1 in
    move:libvirt) apart virsh -c "qemu+ssh://$target/system" migrate --live --persistent --undefinesource "$2" "qemu+ssh://$here/system" ;;
    move:qemu) apart pvesh create "/nodes/$target/qemu/$2/migrate" --target "$here" --online 1 ;;
    move:lxc) apart pvesh create "/nodes/$target/lxc/$2/migrate" --target "$here" --restart 1 ;;
    *:libvirt) apart virsh -c qemu:///system start "$2" ;;
    *:qemu) apart qm start "$2" ;;
    *:lxc) apart pct start "$2" ;;
  esac
}

case $work in
  list)
    command -v virsh >/dev/null || command -v qm >/dev/null || command -v pct >/dev/null \
      || fp_emit unread "why=none of virsh, qm and pct is there"
    list_libvirt
    list_proxmox qm qemu 3 2
    list_proxmox pct lxc 2 last
    fp_emit listed
    ;;
  away | force | back)
    for guest in $guests; do # an id has no blanks
      kind=${guest%%:*} number=${guest#*:}
      case $kind:$number in
        libvirt:*[!0-9a-fA-F-]* | qemu:*[!0-9]* | lxc:*[!0-9]* | *:) fp_emit failed "id=$guest" "why=it is no id of a guest"; continue ;;
        libvirt:* | qemu:* | lxc:*) ;;
        *) fp_emit failed "id=$guest" "why=it is no id of a guest"; continue ;;
      esac
      if "$work" "$kind" "$number"; then fp_emit ordered "id=$guest"
      else fp_emit failed "id=$guest" "why=a guest of this kind can't ${action}"; fi
    done
    ;;
  *) fp_emit failed "id=" "why=unknown work" ;;
esac
