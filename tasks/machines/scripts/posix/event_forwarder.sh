#!/bin/sh
# Lays down units that forward the machine's own 169.254.169.254, port 80, to the endpoint of scheduled events, or takes
# them away: programs that were written for Azure ask there. Only programs on this machine reach it. On a machine of a
# cloud, or where that address is used already, nothing is laid down.
# Parameters: work (look, lay or remove), target (host:port of the endpoint), root (before all paths; tests set it).
# Records: forwarder (state: absent, laid or other; target), changed (of lay and remove), unchanged, or refused (why).
# Step: order
# Changes: three units of systemd, and an address of the loopback device
# shellcheck disable=SC2154  # variables of prelude.sh

for name in work target root; do fp_set_param "$name"; done
address=169.254.169.254
units=$root/etc/systemd/system
mark='# Laid down by fleetpatch. fleetpatch events forward --remove takes it away.'
names='fleetpatch-forwarder-address.service fleetpatch-forwarder.socket fleetpatch-forwarder.service'
umask 022

refuse() { fp_emit refused "why=$1"; exit 0; }
manager() { systemctl --no-ask-password --no-pager "$@" </dev/null; }
read_first_line() { fp_line=''; { IFS= read -r fp_line <"$1"; } 2>/dev/null || :; } # PATH: sets fp_line
is_ours() { read_first_line "$units/$1"; [ "$fp_line" = "$mark" ]; }                 # NAME

find_cloud() { # sets cloud to the cloud that this machine is of, or ""
  cloud=''
  for name in chassis_asset_tag sys_vendor product_name bios_vendor board_vendor; do
    read_first_line "$root/sys/class/dmi/id/$name"
    case $fp_line in
      7783-7084-3265-9085-8269-3286-77) cloud=Azure ;;
      *Amazon* | *EC2*) cloud=AWS ;;
      *Google*) cloud='Google Cloud' ;;
      OracleCloud*) cloud='Oracle Cloud' ;;
      *OpenStack* | *DigitalOcean* | *Hetzner* | *Alibaba* | *Tencent* | *Scaleway* | *Vultr* | *Linode* | *Exoscale*)
        cloud=$fp_line ;;
    esac
    [ -z "$cloud" ] || return 0
  done
}
is_taken() { # whether the address is used by something that is not ours
  shown=$(ip -o -4 address show to "$address/32" 2>/dev/null)
  if [ -n "$shown" ] && [ "$state" != laid ]; then return 0; fi
  [ -n "$(ip -4 route show "$address/32" 2>/dev/null)" ]
}
is_port_used() { # whether a program listens at port 80 of all addresses, IPv4 or IPv6
  for name in tcp tcp6; do
    while read -r _ local _ status _; do
      case $local:$status in 00000000:0050:0A | 00000000000000000000000000000000:0050:0A) return 0 ;; esac
    done 2>/dev/null <"$root/proc/net/$name" || :
  done
  return 1
}
find_proxy() { # sets proxy to the path of systemd-socket-proxyd, without the root
  for proxy in /usr/lib/systemd/systemd-socket-proxyd /lib/systemd/systemd-socket-proxyd; do
    [ ! -x "$root$proxy" ] || return 0
  done
  proxy=''
}
find_state() { # sets state and laid_target
  state=absent laid_target='' count=0
  for name in $names; do
    if [ ! -e "$units/$name" ] && [ ! -L "$units/$name" ]; then continue; fi
    if ! is_ours "$name"; then state=other; return; fi
    count=$((count + 1))
  done
  [ "$count" = 0 ] || state=laid
  while IFS= read -r line; do
    case $line in ExecStart=*) laid_target=${line##* } ;; esac
  done 2>/dev/null <"$units/fleetpatch-forwarder.service" || :
}
put() { # NAME: writes stdin as a unit
  { printf '%s\n' "$mark"; cat; } >"$units/$1.new" 2>/dev/null && mv -f -- "$units/$1.new" "$units/$1" 2>/dev/null && return
  rm -f -- "$units/$1.new"
  give_up "cannot write $units/$1"
}
give_up() { # WHY: takes away what was laid, puts an earlier forwarder back, and refuses
  why=${why:-$1}
  remove
  if [ -n "$laid_target" ]; then
    target=$laid_target laid_target=''
    lay
  fi
  refuse "$why"
}
lay() {
  put fleetpatch-forwarder-address.service <<UNIT
[Unit]
Description=The address of scheduled events, for programs on this machine
# Sockets begin before the services that are ordered by default.
DefaultDependencies=no
After=sysinit.target
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$ip address replace $address/32 dev lo scope host
ExecStop=$ip address del $address/32 dev lo
UNIT
  put fleetpatch-forwarder.socket <<UNIT
[Unit]
Description=Scheduled events, for programs on this machine
Requires=fleetpatch-forwarder-address.service
After=fleetpatch-forwarder-address.service

[Socket]
ListenStream=$address:80
FreeBind=yes
# Others in the network could send packets for this address here, and would speak as this machine.
BindToDevice=lo
IPAddressDeny=any
IPAddressAllow=localhost
IPAddressAllow=$address/32

[Install]
WantedBy=sockets.target
UNIT
  put fleetpatch-forwarder.service <<UNIT
[Unit]
Description=Forwards requests for scheduled events to fleetpatch
Requires=fleetpatch-forwarder.socket
After=fleetpatch-forwarder.socket network-online.target
Wants=network-online.target

[Service]
DynamicUser=yes
PrivateTmp=yes
ProtectSystem=strict
ProtectHome=yes
NoNewPrivileges=yes
ExecStart=$proxy $target
UNIT
  manager daemon-reload >/dev/null 2>&1 || give_up "systemctl daemon-reload failed"
  said=$(manager enable --now fleetpatch-forwarder.socket 2>&1) \
    || give_up "the units could not be started: $(printf '%s\n' "$said" | grep -v '^Created symlink')"
  manager is-active --quiet fleetpatch-forwarder.socket || give_up "the socket of the forwarder is not active"
}
remove() {
  manager disable --now fleetpatch-forwarder.socket fleetpatch-forwarder.service >/dev/null 2>&1 || :
  manager stop fleetpatch-forwarder-address.service >/dev/null 2>&1 || :
  for name in $names; do
    if is_ours "$name"; then rm -f -- "$units/$name"; fi
    manager reset-failed "$name" >/dev/null 2>&1 || : # a failed unit without a file makes the system degraded
  done
  manager daemon-reload >/dev/null 2>&1 || :
}

find_state
if [ "$work" = look ]; then
  fp_emit forwarder "state=$state" "target=$laid_target"
  exit 0
fi
[ -d "$root/run/systemd/system" ] || refuse "there is no systemd that could keep it"
[ "$state" != other ] || refuse "there are units of this name that are not fleetpatch's: $units/fleetpatch-forwarder*"
if [ "$work" = remove ]; then
  if [ "$state" = absent ]; then fp_emit unchanged; exit 0; fi
  remove
  find_state
  [ "$state" = absent ] || refuse "the units could not be removed from $units"
  fp_emit changed "state=absent"
  exit 0
fi
find_cloud
[ -z "$cloud" ] || refuse "it is a machine of a cloud ($cloud), which has that address itself"
ip=$(command -v ip) || refuse "there is no program ip"
find_proxy
[ -n "$proxy" ] || refuse "there is no systemd-socket-proxyd: install the package that has it (systemd)"
! is_taken || refuse "the address $address is used already"
if [ "$state" = laid ] && [ "$laid_target" = "$target" ] && manager is-active --quiet fleetpatch-forwarder.socket; then
  fp_emit unchanged
  exit 0
fi
! is_port_used || refuse "another program listens at port 80 of all addresses"
if [ "$state" = laid ]; then remove; fi
why=''
lay
fp_emit changed "state=laid" "target=$target"
