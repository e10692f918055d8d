#!/usr/bin/env bash
# A real fleet on one machine. Each host is a booted Debian 12 (systemd as PID 1, sshd, sudo, nginx) in a network
# namespace of its own, with an address on one bridge, and really behind on updates, which a local repository on that
# bridge serves: on Debian's (flavour apt), or on the lab's own through the real dnf or zypper. Needs root on a Debian machine.
#
#   lab.sh can             exit 0 if the lab can run here; otherwise print the one reason why not
#   lab.sh deps            install what it needs (as root), or say what is lacking
#   lab.sh build [KIND…]   make the images and the update repositories (about a minute, once for all labs of this machine);
#                          kinds: apt, rpm, cluster, vm and cloud (for tests/lab/vm); the first three when none is named
#   lab.sh up N [FLAVOUR]  boot N more hosts (apt, dnf, zypper, or cluster: apt with HAProxy and PostgreSQL; apt when none is
#                          named); prints "NUMBER NAME ADDRESS" for each
#   lab.sh down            end everything of this lab and remove it
#   lab.sh status          the lab's hosts and how they are
#   lab.sh inventory       the hosts as a fleetpatch inventory, for root or the user who called sudo for up
#   lab.sh ssh I [CMD…]    a shell (or a command) on host I, as user patch or $LAB_USER
#   lab.sh wait I [SECS]   wait until a login on host I works
#   lab.sh root I          print where host I's root file system is
#   lab.sh place           print this lab's folder, its bridge and its network
#   lab.sh cut I | mend I  take host I's network away | give it back
#   lab.sh crash I         cut host I's power; it comes back
#   lab.sh off I | on I    cut host I's power and leave it off | power it on
#   lab.sh drop I          destroy host I alone
#
# Every name follows from the checkout's path and $FLEETPATCH_LAB (a free name, for a second lab of the same checkout).
set -euo pipefail; shopt -s globstar
umask 022; export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

SELF=$(readlink -f "${BASH_SOURCE[0]}")
CHECKOUT=$(readlink -f "$(dirname "$SELF")/../..")
OWNER="$CHECKOUT ${FLEETPATCH_LAB:-}"
TAG=$(printf '%s' "$OWNER" | sha256sum | cut -c1-6)
TOP=/var/tmp/fleetpatch-lab     # images (shared by all labs, never written once made) and one folder for each lab
STATE=$TOP/$TAG
NAME=fp$TAG                     # the bridge; with "-I" host I's interface, namespace, machine and cgroup (15 at most)
KEY=$STATE/id_ed25519           # root's; with "-UID" the copy of the user who called sudo
[ "$(id -u)" = 0 ] || KEY=$KEY-$(id -u)
PORT=8099                       # the repository, at the bridge's address
# shellcheck disable=SC2034  # what is sourced below uses it
ARCH=$(dpkg --print-architecture 2>/dev/null || echo unknown)
TOOLS=(sysctl:procps mmdebstrap:mmdebstrap systemd-nspawn:systemd-container ssh:openssh-client ip:iproute2 dpkg-deb:dpkg-dev
       apt-ftparchive:apt-utils python3:python3 flock:util-linux rpmbuild:rpm createrepo_c:createrepo-c gpg:gpg gpg-agent:gpg-agent)

die() { echo "lab: $*" >&2; exit 1; }
# shellcheck source=/dev/null
for part in image image_apt image_rpm image_cluster image_vm image_cloud; do source "${SELF%/*}/$part.sh"; done

# ---------------------------------------------------------------- may it run here?

lacking() { local pair; for pair in "${TOOLS[@]}"; do command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"; done; }

reason() { # why the lab can't run here: nothing when it can
  local missing probe rc=0
  [ "$(id -u)" = 0 ] || { echo "not root"; return; }
  grep -q '^ID=debian$' /etc/os-release 2>/dev/null || { echo "not a Debian machine"; return; }
  missing=$(lacking | paste -sd' '); [ -z "$missing" ] || { echo "lacks packages: $missing (lab.sh deps)"; return; }
  [ -n "$(mirror)" ] || { echo "apt has no Debian source to build from"; return; }
  [ -n "$(hierarchies)" ] || { echo "no cgroup file system"; return; }
  mkdir -p "$TOP"; [ -O "$TOP" ] || { echo "$TOP belongs to somebody else"; return; }
  probe=$(mktemp -d "$TOP/.can.XXXXXX"); mkdir "$probe"/{lower,upper,work,root}
  if mount -t overlay overlay -o "volatile,lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" "$probe/root" 2>/dev/null
  then umount "$probe/root"; else rc=1; fi
  rm -rf "$probe"; [ $rc = 0 ] || { echo "overlayfs doesn't work in $TOP"; return; }
  ip netns add "fpcan$$" 2>/dev/null || { echo "network namespaces aren't allowed"; return; }
  ip -n "fpcan$$" link add fpcan type bridge 2>/dev/null && ip -n "fpcan$$" link add fpa type veth peer name fpb 2>/dev/null || rc=1
  ip netns del "fpcan$$"; [ $rc = 0 ] || echo "the kernel has no bridge or veth"
}

deps() {
  local missing; mapfile -t missing < <(lacking); [ ${#missing[@]} -gt 0 ] || { echo "nothing is lacking"; return; }
  [ "$(id -u)" = 0 ] || die "lacks: ${missing[*]} (run as root to install them)"
  apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}"
}

mirror() { python3 "${SELF%/*}/mirror.py"; } # Debian's three bookworm sources, from wherever this machine's apt gets them

# ---------------------------------------------------------------- processes, cgroups, network

# The shell itself reads /proc and the control groups here: these questions are asked all the time, and each program would
# cost more than the question.
record() { local at; began "$1"; echo "$1 $at" > "$2"; }  # pid, file: with its start, so that a reused pid isn't taken for it
began() { # pid: sets at; to nothing for a zombie
  local stat fields; at=''
  { read -r stat < "/proc/$1/stat"; } 2>/dev/null || return 0
  read -ra fields <<< "${stat##*) }"; case ${fields[0]} in Z | X) ;; *) at=${fields[19]} ;; esac
}
alive() { local pid when at; { read -r pid when < "$1"; } 2>/dev/null && [ -n "$when" ] && began "$pid" && [ "$at" = "$when" ]; }  # file
stop() { local pid; if alive "$1"; then read -r pid _ < "$1"; kill -9 "$pid" 2>/dev/null || true; fi; }  # file: that process and no other

mounts() { # where the hierarchies of control groups are
  local where kind options
  while read -r _ where kind options _; do
    case $kind:$options in cgroup2:*) echo "$where" ;; cgroup:*cpuset*) ;; cgroup:*) echo "$where" ;; esac
  done < /proc/mounts
}
hierarchies() { mounts | sed "s,\$,${LAB_CGROUP:+/$LAB_CGROUP},"; } # where hosts get their cgroups: below $LAB_CGROUP, which is there already
groups_of() { # host I: sets groups to its cgroups, also those that another process of the tests made below a cgroup of its own
  local mount group; groups=()
  [ -n "${MOUNTS:-}" ] || MOUNTS=$(mounts)
  # shellcheck disable=SC2231  # the host may be a pattern
  for mount in $MOUNTS; do for group in "$mount"/$NAME-$1 "$mount"/*/$NAME-$1; do [ ! -d "$group" ] || groups+=("$group"); done; done
}

members() { # host I: sets processes to those in its cgroups
  local groups group file pid; local -A own=()
  groups_of "$1"
  for group in "${groups[@]}"; do
    for file in "$group"/**/cgroup.procs; do
      { while read -r pid; do own[$pid]=; done < "$file"; } 2>/dev/null || true # the group has just gone
    done
  done
  processes=("${!own[@]}")
}

# All processes of host I end at once: each is stopped first. Else a program whose child was killed first would go on.
cut_power() {
  local processes signal; members "$1"
  for signal in STOP KILL; do [ ${#processes[@]} = 0 ] || kill -"$signal" "${processes[@]}" 2>/dev/null || true; done
}

reap() { # end what is left in host I's cgroups, and remove them
  local processes groups group
  for _ in $(seq 1 60); do
    members "$1"; [ ${#processes[@]} -gt 0 ] || break
    kill -9 "${processes[@]}" 2>/dev/null || true; sleep 0.1
  done
  groups_of "$1"; [ ${#groups[@]} = 0 ] || find "${groups[@]}" -depth -type d -delete 2>/dev/null || true
}

supervise() { # boot host I; again after a reboot, a crash or a failed start; not after a poweroff
  local i=$1 d=$STATE/hosts/$1 group rc
  while [ ! -e "$d/off" ]; do
    reap "$i"
    ( for group in $(hierarchies); do # cgroups of its own: sharing them, the hosts' systemds undo each other's
        { mkdir -p "$group/$NAME-$i" && echo "$BASHPID" > "$group/$NAME-$i/cgroup.procs"; } || true
      done 2>/dev/null
      exec systemd-nspawn -q --register=no --keep-unit -M "$NAME-$i" -D "$d/root" --hostname="lab-$i" --link-journal=no \
        --network-namespace-path="/run/netns/$NAME-$i" --capability=CAP_NET_ADMIN --timezone=off -b
    ) </dev/null > "$d/console.log" 2>&1 &
    record $! "$d/nspawn.pid"; rc=0; wait $! || rc=$?
    [ $rc -ne 0 ] || touch "$d/off"  # the host powered itself off; 133 is a reboot
    sleep 0.2
  done
  reap "$i"; rm -f "$d/nspawn.pid" "$d/supervisor.pid"
}

settled() { for _ in $(seq 1 100); do { [ -e "$STATE/hosts/$1/off" ] && alive "$STATE/hosts/$1/supervisor.pid"; } || break; sleep 0.1; done; }
power_on() { # host I, once what ended it before is through (settled)
  rm -f "$STATE/hosts/$1/off"
  setsid bash "$SELF" supervise "$1" "$NAME-$1" </dev/null >/dev/null 2>&1 9>&- & record $! "$STATE/hosts/$1/supervisor.pid"
}

net() { cat "$STATE/net" 2>/dev/null || die "this lab isn't up"; }
require_root() { [ "$(id -u)" = 0 ] || die "not root: become root, or sudo $SELF $verb"; }
require_key() { net >/dev/null; [ -r "$KEY" ] || die "the lab is up, and you have no key to it: sudo $SELF up 0 gives you one"; }
address() { echo "$(net).$((10 + $1))"; }

free_net() { # a /24 of 10.64.0.0/10 that follows from the tag; the next one when an interface or a route is in it
  ip -j -4 route show table all | python3 -c '
import ipaddress, json, sys
taken = [ipaddress.ip_network(r["dst"], strict=False) for r in json.load(sys.stdin) if r.get("dst", "default")[0].isdigit()]
for step in range(16384):
    n = (int(sys.argv[1], 16) + step) % 16384
    mine = ipaddress.ip_network(f"10.{64 + n // 256}.{n % 256}.0/24")
    if not any(mine.overlaps(t) for t in taken if t.prefixlen >= 9):
        sys.exit(print(f"10.{64 + n // 256}.{n % 256}"))
sys.exit("lab: every /24 of 10.64.0.0/10 is taken")' "$TAG"
}

bridged() { ip link show "$NAME" >/dev/null 2>&1; }
bridge() { # the lab's bridge and its repository server
  local pair wanted
  for pair in fs.inotify.max_user_{instances=8192,watches=524288} kernel.keys.max{keys=20000,bytes=2000000}; do
    wanted=${pair#*=}; [ "$(sysctl -n "${pair%%=*}")" -ge "$wanted" ] || sysctl -qw "$pair"
  done
  if [ ! -e "$STATE/net" ] || ! bridged; then
    exec 7> "$TOP/.net.lock"; flock 7
    stop "$STATE/httpd.pid"; ip link del "$NAME" 2>/dev/null || true
    free_net > "$STATE/net"; ip link add "$NAME" type bridge; ip addr add "$(net).1/24" dev "$NAME"; ip link set "$NAME" up
    exec 7>&-
  fi
  alive "$STATE/httpd.pid" || {
    setsid python3 -c '
import functools, http.server, sys
http.server.ThreadingHTTPServer.request_queue_size = 256
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[3])
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), handler).serve_forever()' \
      "$(net).1" $PORT "$STATE/repositories" "$NAME-repo" </dev/null >/dev/null 2>&1 9>&- & record $! "$STATE/httpd.pid"
  }
}

# ---------------------------------------------------------------- hosts

numbers() { [ ! -d "$STATE/hosts" ] || find "$STATE/hosts" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort -n; }
known() { [[ ${1:-} =~ ^[0-9]+$ ]] && [ -d "$STATE/hosts/$1" ] || die "there is no host '${1:-}'"; }
locked() { # one verb at a time that makes or removes hosts (down removes the lock file itself: then it is asked for again)
  mkdir -p "$TOP"
  while :; do exec 9> "$TOP/.$TAG.lock"; flock 9; [ ! "$TOP/.$TAG.lock" -ef /proc/self/fd/9 ] || break; done
}

next_number() { # numbers go up, so that a dropped host's isn't taken for another's soon; at the end, the lowest free one
  local last i; last=$(cat "$STATE/last" 2>/dev/null || echo 0)
  for i in $(seq $((last + 1)) 240) $(seq 1 240); do
    [ -d "$STATE/hosts/$i" ] || { echo "$i" > "$STATE/last"; echo "$i"; return; }
  done
  die "a lab has room for 240 hosts"
}

kind() { case $1 in apt) echo apt ;; dnf | zypper) echo rpm ;; cluster) echo cluster ;; vm | cloud) echo "$1" ;; *) die "there is no flavour '$1' (apt, dnf, zypper, cluster)" ;; esac; }

play() { # flavour, root: the distribution with that package manager, and none of the others
  local root=$2 url repos; url=http://$(net).1:$PORT
  case $1 in
    apt | cluster)
      printf "deb [trusted=yes] $url/apt %s main\n" bookworm-security bookworm-updates > "$root/etc/apt/sources.list"
      echo "APT::Architectures \"$ARCH\";" > "$root/etc/apt/apt.conf.d/00architectures" # else each start of apt starts dpkg twice
      return ;;
    dnf)
      repos=$root/etc/yum.repos.d; rm -rf "$root"/etc/zypp "$root"/usr/{,s}bin/zyp*; ln -s dnf "$root/usr/bin/yum"
      printf '%s\n' 'NAME="Rocky Linux"' 'VERSION="9.4 (Blue Onyx)"' 'ID="rocky"' 'ID_LIKE="rhel centos fedora"' 'VERSION_ID="9.4"' \
        'PLATFORM_ID="platform:el9"' 'PRETTY_NAME="Rocky Linux 9.4 (Blue Onyx)"' > "$root/usr/lib/os-release" ;;
    zypper)
      repos=$root/etc/zypp/repos.d; rm -rf "$root"/etc/{dnf,yum*} "$root"/usr/bin/dnf*
      printf '%s\n' 'NAME="SLES"' 'VERSION="15-SP6"' 'ID="sles"' 'ID_LIKE="suse"' 'VERSION_ID="15.6"' \
        'PRETTY_NAME="SUSE Linux Enterprise Server 15 SP6"' > "$root/usr/lib/os-release" ;;
  esac
  mkdir -p "$repos"
  printf '%s\n' '[lab]' name=lab "baseurl=$url/rpm/updates" enabled=1 gpgcheck=1 gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-lab > "$repos/lab.repo"
}

create() { # host I, flavour: its disk, its network
  local i=$1 flavour=$2 d=$STATE/hosts/$1 user lower
  lower=$(cat "$STATE/image-$(kind "$flavour")")/base
  [ "$flavour" != cluster ] || lower=$lower:$(cat "$STATE/image-apt")/base
  install -d -m 700 "$d"; mkdir "$d"/{upper,work,root}; echo "$flavour" > "$d/flavour"
  # volatile: what a host syncs needn't reach this machine's disk (dpkg syncs all the time, a dropped host's disk never)
  mount -t overlay overlay -o "volatile,lowerdir=$lower,upperdir=$d/upper,workdir=$d/work" "$d/root"
  echo "lab-$i" > "$d/root/etc/hostname"; printf '127.0.0.1 localhost\n127.0.1.1 lab-%s\n' "$i" > "$d/root/etc/hosts"
  tr -d - < /proc/sys/kernel/random/uuid > "$d/root/etc/machine-id"
  play "$flavour" "$d/root"
  for user in patch nosudo pwsudo; do
    install -m 600 "$KEY.pub" "$d/root/home/$user/.ssh/authorized_keys"
    chown --reference="$d/root/home/$user" "$d/root/home/$user/.ssh/authorized_keys"
  done
  ip netns add "$NAME-$i"; ip link add "$NAME-$i" type veth peer name eth0 netns "$NAME-$i"
  ip link set "$NAME-$i" master "$NAME" up
  ip -n "$NAME-$i" addr add "$(address "$i")/24" dev eth0; ip -n "$NAME-$i" link set eth0 up; ip -n "$NAME-$i" link set lo up
}

destroy() { # everything of host I, in whatever state a crash has left it
  local i=$1 d=$STATE/hosts/$1
  stop "$d/supervisor.pid"; stop "$d/nspawn.pid"; reap "$i"
  ip link del "$NAME-$i" 2>/dev/null || true; ip netns del "$NAME-$i" 2>/dev/null || true
  for _ in $(seq 1 50); do mountpoint -q "$d/root" || break; umount "$d/root" 2>/dev/null || sleep 0.1; done
  ! mountpoint -q "$d/root" || umount -l "$d/root"
  rm -rf --one-file-system "$d"
}

leftovers() { # numbers of hosts of which something is left but that aren't hosts any more
  local i group groups
  { ip netns list | sed -n "s/^$NAME-\([0-9]*\).*/\1/p"
    ip -o link show | sed -n "s/^[0-9]*: $NAME-\([0-9]*\)[@:].*/\1/p"
    groups_of '*'; for group in "${groups[@]}"; do echo "${group##*/"$NAME-"}"; done
    numbers
  } | sort -nu | while read -r i; do # a host is one that runs, or one that was powered off and still has its disk
    bridged && { alive "$STATE/hosts/$i/supervisor.pid" || { [ -e "$STATE/hosts/$i/off" ] && mountpoint -q "$STATE/hosts/$i/root"; }; } || echo "$i"
  done
}

pin() { # known_hosts, from the keys on the hosts' own disks
  local i; for i in $(numbers); do
    sed -n "s/^\([^ ]* [^ ]*\).*/$(address "$i") \1/p" "$STATE/hosts/$i"/root/etc/ssh/ssh_host_*_key.pub 2>/dev/null || true
  done > "$STATE/known_hosts.new"; mv "$STATE/known_hosts.new" "$STATE/known_hosts"
}

ssh_to() { # host, words: plain OpenSSH, the host's key pinned; it ends after $within seconds, if that is set
  local i=$1; shift; require_key
  ${within:+timeout $within} ssh -F none -o LogLevel=ERROR -i "$KEY" -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=yes \
    -o KexAlgorithms=^curve25519-sha256 -o "UserKnownHostsFile=$STATE/known_hosts" -l "${LAB_USER:-patch}" "$(address "$i")" "$@"
}

welcomes() { # host I: whether its files say that sshd listens and lets users in: to ask sshd in vain costs much more
  local pid='' first=''
  { read -r pid _ < "$STATE/hosts/$1/nspawn.pid"; read -r first _ < "/proc/$pid/task/$pid/children" || true; } 2>/dev/null # no line end
  [ -n "$first" ] && [ -e "/proc/$first/root/run/sshd.pid" ] && [ ! -e "/proc/$first/root/run/nologin" ]
}

wait_login() { # a host is up when a login works: sshd answers before pam_nologin lets anyone in
  local i=$1 until=$((SECONDS + ${2:-300})) within=30
  while [ $SECONDS -lt $until ]; do
    if [ $EUID != 0 ] || welcomes "$i"; then ssh_to "$i" true </dev/null >/dev/null 2>&1 && return 0; fi
    sleep 0.2
  done
  die "no login on lab-$i (its console: $STATE/hosts/$i/console.log)"
}

choose_image() { # kind: one image for all the lab's hosts of a kind, until down
  [ ! -e "$STATE/image-$1" ] || return 0
  build "$1" 9>&-; mkdir -p "$STATE/repositories"; ln -sfn "$(image "$1")/repo" "$STATE/repositories/$1"
  image "$1" > "$STATE/image-$1"
}

up() {
  local count=$1 flavour=$2 why='' kind i new=()
  [[ $count =~ ^[0-9]+$ ]] || die "up takes a number of hosts"
  kind=$(kind "$flavour")
  [[ $kind != vm && $kind != cloud ]] || [ "$count" = 0 ] || die "virtual machines are made by: python -m tests.lab.vm up $count"
  [ -e "$STATE/net" ] || { why=$(reason); [ -z "$why" ] || die "$why"; }  # what runs already can run
  locked; mkdir -p "$STATE/hosts"; chmod 711 "$STATE"
  [ ! -e "$STATE/owner" ] || [ "$(cat "$STATE/owner")" = "$OWNER" ] || die "$STATE belongs to another lab: $(cat "$STATE/owner")"
  echo "$OWNER" > "$STATE/owner"
  for i in $(leftovers); do destroy "$i"; done
  [ -e "$KEY" ] || ssh-keygen -q -t ed25519 -N '' -C "$NAME" -f "$KEY"
  [ "${SUDO_UID:-0}" = 0 ] || install -m 600 -o "$SUDO_UID" "$KEY" "$KEY-$SUDO_UID"
  [ "$kind" != cluster ] || choose_image apt  # what its layer lies upon, and whose repository its hosts use
  choose_image "$kind"
  bridge
  for (( ; count > 0; count-- )); do i=$(next_number); new+=("$i"); create "$i" "$flavour"; power_on "$i"; done
  for i in "${new[@]}"; do
    for _ in $(seq 1 1500); do [ ! -s "$STATE/hosts/$i/root/etc/ssh/ssh_host_ed25519_key.pub" ] || break; sleep 0.2; done
  done
  pin
  for i in "${new[@]}"; do wait_login "$i" 9>&-; echo "$i lab-$i $(address "$i")"; done
}

down() {
  local i; locked
  for i in $( { leftovers; numbers; } | sort -nu); do destroy "$i"; done
  stop "$STATE/httpd.pid"; ip link del "$NAME" 2>/dev/null || true; rm -rf --one-file-system "$STATE" "$TOP/.$TAG.lock"
}

status() {
  local i how
  echo "lab $TAG (${FLEETPATCH_LAB:-no name}) of $CHECKOUT: $(numbers | wc -l) hosts, $(cat "$STATE/net" 2>/dev/null || echo 'not up')"
  for i in $(numbers); do
    how=dead; ! alive "$STATE/hosts/$i/supervisor.pid" || how=on; [ ! -e "$STATE/hosts/$i/off" ] || how=off
    ip -o link show "$NAME-$i" 2>/dev/null | grep -q '[<,]UP[,>]' || how="$how, network cut"
    echo "$i lab-$i $(address "$i") $how ($(cat "$STATE/hosts/$i/flavour"))"
  done
}

inventory() {
  local i; require_key; echo 'machines:'
  for i in $(numbers); do
    printf '  - name: lab-%s\n    address: %s\n    user: patch\n    credential: key:%s\n' "$i" "$(address "$i")" "$KEY"
    printf '    environment: lab\n    groups: [web]\n    tags: {lab: "%s"}\n' "$TAG"
  done
  printf 'host_keys:\n  policy: pinned\n  known_hosts: %s/known_hosts\n' "$STATE"
}

verb=${1:-help}; [ $# -eq 0 ] || shift
case $verb in up | down | status | cut | mend | crash | off | on | drop) require_root ;; esac
case $verb in ssh | wait | root | cut | mend | crash | off | on | drop) known "${1:-}" ;; esac
case $verb in
  can) why=$(reason); [ -z "$why" ] || { echo "$why"; exit 1; } ;;
  deps) deps ;;
  build) why=$(reason); [ -z "$why" ] || die "$why"; if [ $# = 0 ]; then set -- apt rpm cluster; fi; build_all "$@" ;;
  up) up "${1:?how many hosts}" "${2:-apt}" ;;
  down) down ;;
  status) status ;;
  inventory) inventory ;;
  ssh) ssh_to "$@" ;;
  wait) wait_login "$@" ;;
  place) echo "$STATE $NAME $(net)" ;;
  root) echo "$STATE/hosts/$1/root" ;;
  cut) ip link set "$NAME-$1" down ;;
  mend) ip link set "$NAME-$1" up ;;
  crash) cut_power "$1" ;;
  off) touch "$STATE/hosts/$1/off"; cut_power "$1"; settled "$1" ;;
  on) settled "$1"; alive "$STATE/hosts/$1/supervisor.pid" || power_on "$1" ;;
  drop) locked; known "$1"; destroy "$1"; pin ;;
  supervise) supervise "$1" ;;
  *) sed -n '2,/^set -e/{/^#/p}' "$SELF"; exit 2 ;;
esac
