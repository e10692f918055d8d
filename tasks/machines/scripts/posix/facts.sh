#!/bin/sh
# Reports facts about the machine. Parameters: managers (list of COMMAND:NAME or COMMAND:NAME:CONDITION, best first; see
# tasks/machines/managers/registry.py), units ("yes": the active units, too), root (the directory of jobs). Records: os, kernel, clock, privilege, manager (one
# for each), runner, hardware, disk (one for each role), service (one for each failed unit), unit (one for each active one), run (one for
# each service that runs or is about to be started again; see ServiceRun in tasks/domain/services.py),
# socket (one for each and each program that holds it), ports, services, routes (default: IPv4 and IPv6, with the units), and
# finding for a next boot that lacks files, for updaters that are still paused, and for a boot id of the host.
# It changes nothing, and reads only /proc, /sys, /boot, the ids of the machine, df, systemctl and, where it is installed,
# "bootc status".
# Step: assess
# Changes: nothing
# shellcheck disable=SC2154  # variables of environment.sh, boot_files.sh and boot_work.sh
# Requires: boot_files, boot_work, cgroups

os_release=/etc/os-release
[ -r "$os_release" ] || os_release=/usr/lib/os-release
# in a subshell: the file is shell text of the machine, and may set any variable
(
  ID='' ID_LIKE='' VERSION_ID='' PRETTY_NAME='' NAME='' SUPPORT_END=''
  # shellcheck disable=SC1090
  [ ! -r "$os_release" ] || . "$os_release"
  fp_emit os "id=$ID" "like=$ID_LIKE" "version=$VERSION_ID" "name=${PRETTY_NAME:-$NAME}" "support_end=$SUPPORT_END"
)

uptime=''
{ read -r uptime _ </proc/uptime; } 2>/dev/null
# Of the installation: 32 digits; "uninitialized" before the first boot has ended.
installation=''
{ IFS= read -r installation </etc/machine-id || IFS= read -r installation </var/lib/dbus/machine-id; } 2>/dev/null
case $installation in *[!0-9a-f]*) installation='' ;; esac
fp_read_boot # containers of one host differ in the start of their first process, even if they share all ids
fp_find_boot_work
system=$(uname -rm)
fp_emit kernel "release=${system%% *}" "arch=${system#* }" "boot_id=$fp_boot" "uptime:=$uptime" \
  "installation=$installation" "first_process=$fp_first" "boot_work=$fp_boot_work"

epoch=$(date +%s.%N)
case $epoch in *[!0-9.]* | *.) epoch=$(date +%s) ;; esac # date without %N
fp_emit clock "epoch:=$epoch"
# no process is started for that, where the kernel tells it
uid='' way=${fp_way:-root}
{ while read -r key _ uid _ && [ "$key" != Uid: ]; do uid=''; done </proc/self/status; } 2>/dev/null
case $uid in '' | *[!0-9]*) uid=$(id -u) ;; esac
[ "$uid" = 0 ] || way=none
fp_emit privilege "uid:=$uid" "way=$way"

# Whether the next boot can only get another system as an image: how OSTree, bootc and transactional systems say so.
runs_bootc_image() { # also that it has no local packages, which bootc can't update
  image_status=$(timeout -k 5 30 bootc status --json 2>/dev/null | tr -d ' \n')
  case $image_status in *'"booted":{"image":{'*) ;; *) return 1 ;; esac
  booted=${image_status#*'"booted":{'}
  case ${booted#*'"incompatible":'} in true*) return 1 ;; esac
}
bootc_is_silent() { case $image_status in *'"booted":'*) return 1 ;; esac; } # after runs_bootc_image
root_is_read_only() {
  awk '$2 == "/" || $2 == "/usr" { mode[$2] = "," $4 "," } END { exit !(index(mode["/"], ",ro,") || index(mode["/usr"], ",ro,")) }' /proc/mounts
}
meets() { # CONDITION
  case $1 in
    '') ;;
    bootc-image) runs_bootc_image ;;
    bootc-silent) bootc_is_silent && root_is_read_only ;;
    ostree) [ -e /run/ostree-booted ] ;;
    read-only-root) root_is_read_only ;;
    *) return 1 ;;
  esac
}

image='' # the condition that an image-based system meets
fp_set_param managers
for manager in $managers; do
  tool=${manager%%:*} name=${manager#*:} condition=''
  case $name in *:*) condition=${name#*:} name=${name%%:*} ;; esac
  program='' # the file behind the command: another package manager's, for some
  if [ -n "$tool" ]; then
    command -v "$tool" >/dev/null || continue
    program=$(command -v "$tool")
    [ ! -h "$program" ] || program=$(readlink -f "$program") || program=''
  fi
  meets "$condition" || continue
  fp_emit manager "name=$name" "program=${program##*/}"
  image=$condition
  [ -z "$image" ] || break # tools that change packages are installed there too, and fail or are undone
done

systemd=false
[ ! -d /run/systemd/system ] || systemd=true
runner=setsid
if [ "$systemd" = true ] && command -v systemd-run >/dev/null; then runner=systemd; fi

# May the machine be rebooted? Not a container whose PID 1 is no init: only its host can start it again.
init=''
{ IFS= read -r init </proc/1/comm; } 2>/dev/null
container=''
if [ -r /run/systemd/container ]; then read -r container </run/systemd/container; fi
if [ -f /.dockerenv ] || [ -f /run/.containerenv ]; then container=${container:-container}; fi
can_reboot=true
if [ -n "$container" ] && [ "$systemd" = false ] && [ "$init" != init ]; then can_reboot=false; fi
case $container in docker | podman | oci | rkt | wsl | container) can_reboot=false ;; esac
fp_emit runner "name=$runner" "can_reboot:=$can_reboot" "container=$container"

# What a run has paused comes back when its lock ends, by a timer of the machine, or with a reboot (see updaters.sh).
fp_set_param root
above=${root:-/var/lib/fleetpatch/jobs} above=${above%/*} by='' paused_in='' holder='' until=''
{ IFS= read -r by && IFS= read -r paused_in; } 2>/dev/null <"$above/updaters" || by=''
{ IFS= read -r holder && IFS= read -r until; } 2>/dev/null <"$above/machine-lock"
case $until in '' | *[!0-9]* | 0*) until=0 ;; esac
if [ -n "$by" ] && fp_is_boot "$paused_in" && { [ "$holder" != "$by" ] || [ "$((until + 300))" -lt "${epoch%.*}" ]; }; then
  fp_emit finding check=auto-updater level=warn "message=run $by has paused the system's own updaters, and they did not come back when its lock ended: $(
    timeout 10 journalctl -q -o cat --no-pager -n 3 -u fleetpatch-updaters.service 2>/dev/null | tr '\n' ' ')" \
    "remedy=fleetpatch machines clean brings them back, and so does a reboot, or the end of the next run with native_updaters: pause."
fi

# What the machine is: tasks/rules/machine_checks/machine_kind.py decides by it. No process is started for that.
first_line() { # FILE: its first line in fp_line; nothing if it can't be read
  fp_line=''
  { IFS= read -r fp_line <"$1"; } 2>/dev/null || [ -n "$fp_line" ]
}
has_hypervisor() { # as the processor says, on x86; others say nothing
  while IFS= read -r fp_line; do
    case $fp_line in
      flags*' hypervisor '* | flags*' hypervisor') fp_line=true && return ;;
      flags*) fp_line=false && return ;;
      '') break ;; # the first processor's lines are over
    esac
  done </proc/cpuinfo
  fp_line=null
}
vendor='' product='' model='' xen=''
first_line /sys/class/dmi/id/sys_vendor && vendor=$fp_line
first_line /sys/class/dmi/id/product_name && product=$fp_line
first_line /proc/device-tree/model && model=$fp_line # of boards without DMI
! first_line /proc/device-tree/hypervisor/compatible || model='' vendor=hypervisor
[ ! -d /proc/xen ] || { xen=guest && first_line /proc/xen/capabilities && case $fp_line in *control_d*) xen=host ;; esac; }
has_hypervisor 2>/dev/null || fp_line=null
hypervisor=$fp_line engines=''
for engine in docker:/run/docker.sock containerd:/run/containerd/containerd.sock cri-o:/run/crio/crio.sock \
  podman:/run/podman/podman.sock podman:/run/libpod/alive kubelet:/var/lib/kubelet/config.yaml; do
  [ ! -e "${engine#*:}" ] || engines="$engines ${engine%%:*}"
done
arc=false
[ ! -s /var/opt/azcmagent/agentconfig.json ] || arc=true # of an agent that is connected
fp_emit hardware "vendor=$vendor" "product=$product" "model=$model" "xen=$xen" "hypervisor:=$hypervisor" \
  "container=$container" "engines=${engines# }" "arc:=$arc"

# Container managers that give a container a boot id of its own mount it there.
if [ -n "$container" ] && ! grep -q ' /proc/sys/kernel/random/boot_id ' /proc/self/mountinfo 2>/dev/null; then
  fp_emit finding 'check=boot proof' level=remark 'message=its boot id is that of its host, so the start of its first process proves a reboot' remedy=
fi

fp_check_boot
[ -z "$fp_unbootable" ] || fp_emit finding 'check=next boot' level=warn "message=$fp_unbootable" "remedy=$fp_boot_remedy"

case $image in
  bootc-image | ostree) places=system:/sysroot ;; # "/" is only a view; the tool removes old kernels from /boot by itself
  *) places='system:/ system:/usr boot:/boot' ;;
esac
sizes() { # ROLE:PATH…: of their file systems: two tables, with a row for each path in this order
  roles='' paths=''
  for place in "$@"; do [ ! -d "${place#*:}" ] || roles="$roles ${place%%:*}" paths="$paths ${place#*:}"; done
  echo "= $roles"
  # shellcheck disable=SC2086  # words
  [ -z "$paths" ] || { df -kP $paths; echo +; df -iP $paths; } 2>/dev/null
}
# Read-only by design is the mount of an image's root, never its file system: that is how the kernel leaves it after
# errors. The last line of a mount point is the visible one; blanks are octal there.
# shellcheck disable=SC2016  # awk's $
read_sizes='
  function tell(   i, key, options) {
    if (rows["sizes"] != count) uneven = 1
    else for (i = 1; i <= count; i++) {
      if (told[role[i], mount[i]]++) continue
      key = mount[i]; gsub(/ /, "\\040", key)
      options = "," (image != "" && role[i] != "packages" ? "" : by_mount[key]) "," by_system[key] ","
      free_files = rows["inodes"] == count && inodes[i] ~ /^[0-9]+$/ ? inodes[i] : "-"
      print role[i], total[i], free[i], free_files, index(options, ",ro,") ? "true" : "false", mount[i]
    }
    rows["sizes"] = rows["inodes"] = 0
  }
  FILENAME == ARGV[1] {
    for (i = 7; i < NF - 2 && $i != "-"; i++) ;
    by_mount[$5] = $6; by_system[$5] = $(i + 3)
    next
  }
  $1 == "=" { tell(); count = NF - 1; for (i = 1; i <= count; i++) role[i] = $(i + 1); table = "sizes"; next }
  $1 == "+" { table = "inodes"; next }
  /^Filesystem / { next }
  { row = ++rows[table] }
  table == "inodes" { inodes[row] = $2 ~ /^[0-9]+$/ && $2 > 0 ? $4 : ""; next }
  { total[row] = $2; free[row] = $4; mount[row] = $6; for (i = 7; i <= NF; i++) mount[row] = mount[row] " " $i }
  END { tell(); exit uneven }'
places="$places packages:/var"
# shellcheck disable=SC2086  # words
disks=$(sizes $places | awk -v image="$image" "$read_sizes" /proc/self/mountinfo -) || # df failed for one of them
  disks=$(for place in $places; do sizes "$place"; done | awk -v image="$image" "$read_sizes" /proc/self/mountinfo -)
while read -r role total free inodes mode mount; do
  [ -z "$role" ] || fp_emit disk "role=$role" "mount=$mount" "total_kib:=$total" "free_kib:=$free" "free_files:=${inodes#-}" "read_only:=$mode"
done <<DISKS
$disks
DISKS

# The default routes of the main table that lead somewhere: 0200 is an unreachable one
if fp_has units && [ -r /proc/net/route ]; then
  set -- /proc/net/route
  [ ! -r /proc/net/ipv6_route ] || set -- "$@" /proc/net/ipv6_route
  # shellcheck disable=SC2016  # awk's $
  routes=$(awk '
    FILENAME ~ /ipv6/ { if ($2 == "00" && $1 ~ /^0+$/ && $9 !~ /[2367abefABEF]..$/ && $10 != "lo") v6 = " IPv6"; next }
    $2 == "00000000" && $8 == "00000000" && $4 !~ /[2367abefABEF]..$/ { v4 = "IPv4" }
    END { print v4 v6 }' "$@" 2>/dev/null) && fp_emit routes "default=$routes"
fi

known=false
unit_types=service,mount,automount,swap,socket,timer,path,target
# what was not made at run time: mounts by hand and units of systemd-run have no file there
name_unit_files() {
  ls -1 /etc/systemd/system /run/systemd/generator /run/systemd/generator.early /run/systemd/generator.late \
    /usr/local/lib/systemd/system /usr/lib/systemd/system /lib/systemd/system 2>/dev/null
}
show_runs() { # the properties of each loaded service, with an empty line between two
  echo '+'
  systemctl show --no-pager -p Id -p SubState -p InvocationID -p NRestarts -p MainPID -p ExecMainStartTimestampMonotonic \
    -p Restart -- '*.service' 2>/dev/null
}
states=failed
! fp_has units || states=failed,active,reloading
if [ "$systemd" = true ] && shown=$(systemctl list-units "--state=$states" "--type=$unit_types" --all --plain --no-legend --no-pager 2>/dev/null); then
  known=true
  # shellcheck disable=SC2154  # fp_awk is of prelude.sh
  [ -z "$shown" ] || { fp_has units && name_unit_files; echo '='; printf '%s\n' "$shown"; fp_has units && show_runs; } | awk \
    -v more="$fp_more" -v last="$fp_last" -v cut="${fp_cut:+1}" -v uptime="$uptime" "$fp_awk"'
    function tell(kind) { print last put("{\"kind\":\"" kind "\",\"name\":\"" quoted($1) "\"}") }
    function tell_run(   between, name, restarts, run, started) { # what is shown of one service
      name = value["Id"]; run = value["InvocationID"]; started = value["ExecMainStartTimestampMonotonic"] + 0
      restarts = value["NRestarts"] == "" ? "null" : value["NRestarts"] + 0
      between = value["SubState"] ~ /^auto-restart/
      template = name; sub(/@.*[.]/, "@.", template)
      if ((name in file || template in file) && (between || value["MainPID"] > 0 || value["SubState"] == "running")) {
        if (run == "") run = value["MainPID"] "@" started
        print last put("{\"kind\":\"run\",\"name\":\"" quoted(name) "\",\"run\":\"" quoted(run) "\",\"restarts\":" restarts \
          ",\"age\":" (started && uptime ? uptime - started / 1000000 : "null") \
          ",\"again\":" (value["Restart"] ~ /^(no)?$/ ? "false" : "true") ",\"between\":" (between ? "true" : "false") "}")
      }
      split("", value)
    }
    !listed && $0 == "=" { listed = 1; next }
    !listed { file[$0] = 1; next }
    { sub(/^[^A-Za-z0-9]+ /, "") }
    runs && /=/ { i = index($0, "="); value[substr($0, 1, i - 1)] = substr($0, i + 1); next }
    runs { tell_run(); next }
    $0 == "+" { runs = 1; next }
    NF && $3 == "failed" { tell("service"); next }
    { template = $1; sub(/@.*[.]/, "@.", template) }
    NF && ($1 in file || template in file) { tell("unit") }
    END { tell_run() }' >&3
fi

# sockets FILE…: for each socket of these files of /proc/net that waits for somebody: the port, the uid that opened it, and
# the inode; in place of this shell
sockets() {
  exec awk '
    BEGIN { for (i = 0; i < 16; i++) digit[substr("0123456789ABCDEF", i + 1, 1)] = i }
    FNR == 1 { protocol = FILENAME ~ /tcp/ ? "tcp" : "udp" }
    $4 == (protocol == "tcp" ? "0A" : "07") && $2 ~ /:/ {
      n = split($2, part, ":"); port = 0
      for (i = 1; i <= length(part[n]); i++) port = port * 16 + digit[substr(part[n], i, 1)]
      if (port) print protocol "/" port, $8, $10
    }' "$@"
}

# holders: one record for each line of sockets in $open and each program that holds the socket. The open files of all
# processes are read once.
# shellcheck disable=SC2012,SC2154  # only numbers and socket:[inode] matter; fp_awk is of prelude.sh
holders() {
  { printf '%s\n' "$open"; cd /proc && printf '%s\n' [0-9]*/fd | xargs ls -lnR 2>/dev/null; } | awk -v more="$fp_more" -v last="$fp_last" -v cut="${fp_cut:+1}" "$fp_awk$fp_processes"'
    function tell(inode, program, cgroup,   record) {
      record = "{\"kind\":\"socket\",\"name\":\"" name[inode] "\",\"uid\":" uid[inode] ",\"program\":\"" quoted(program)
      record = record "\",\"cgroup\":\"" quoted(cgroup) "\"}"
      if (!(record in told)) print last put(record)
      told[record] = held[inode] = 1
    }
    /^(tcp|udp)\/[0-9]+ [0-9]+ [0-9]+$/ { name[$3] = $1; uid[$3] = $2; next }
    /^[0-9]+\/fd:$/ { pid = $0; sub(/\/.*/, "", pid); next }
    /-> socket:\[[0-9]+\]$/ {
      inode = $NF; gsub(/[^0-9]/, "", inode)
      if (!(inode in name)) next
      if (!(pid in program)) {
        program[pid] = program_of(pid); cgroup[pid] = own_cgroup_of(pid)
      }
      tell(inode, program[pid], cgroup[pid])
    }
    END { for (inode in name) if (!(inode in held)) tell(inode, "", "") }' >&3
}

listening=false
if [ -r /proc/net/tcp ]; then
  listening=true
  set --
  for file in tcp tcp6 udp udp6; do [ ! -r "/proc/net/$file" ] || set -- "$@" "/proc/net/$file"; done
  open=$(sockets "$@" 2>/dev/null)
  [ -z "$open" ] || holders
  # not with read: it reads one byte at a time, and these files give no second byte
  set -- /proc/sys/net/ipv4/ip_local_port_range /proc/sys/net/ipv4/ip_local_reserved_ports
  range='' reserved=''
  if [ -r "$1" ]; then
    range=$(cat "$@" 2>/dev/null)
    case $range in *"$fp_newline"*) reserved=${range#*"$fp_newline"} range=${range%%"$fp_newline"*} ;; esac
  fi
  fp_emit ports "ephemeral=$range" "reserved=$reserved"
fi
fp_emit services "failed_known:=$known" "listening_known:=$listening"
