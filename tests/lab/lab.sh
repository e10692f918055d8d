#!/usr/bin/env bash
# A real fleet on one machine. Each host is a booted Debian 12 (systemd as PID 1, sshd, sudo, nginx) in a network
# namespace of its own, with an address on one bridge, and really behind on Debian's security updates, which a local
# repository on that bridge serves. Needs root on a Debian machine.
#
#   lab.sh can             exit 0 if the lab can run here; otherwise print the one reason why not
#   lab.sh deps            install what it needs (as root), or say what is lacking
#   lab.sh build           make the image and the update repository (about a minute, once for all labs of this machine)
#   lab.sh up N [FLAVOUR]  boot N more hosts (flavour: apt); prints "NUMBER NAME ADDRESS" for each
#   lab.sh down            end everything of this lab and remove it
#   lab.sh status          the lab's hosts and how they are
#   lab.sh inventory       the hosts as a fleetpatch inventory
#   lab.sh ssh I [CMD…]    a shell (or a command) on host I, as user patch or $LAB_USER
#   lab.sh wait I [SECS]   wait until a login on host I works
#   lab.sh root I          print where host I's root file system is
#   lab.sh cut I | mend I  take host I's network away | give it back
#   lab.sh crash I         cut host I's power; it comes back
#   lab.sh off I | on I    cut host I's power and leave it off | power it on
#   lab.sh drop I          destroy host I alone
#
# Every name follows from the checkout's path and $FLEETPATCH_LAB (a free name, for a second lab of the same checkout).
set -euo pipefail
umask 022; export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

SELF=$(readlink -f "${BASH_SOURCE[0]}")
CHECKOUT=$(readlink -f "$(dirname "$SELF")/../..")
OWNER="$CHECKOUT ${FLEETPATCH_LAB:-}"
TAG=$(printf '%s' "$OWNER" | sha256sum | cut -c1-6)
TOP=/var/tmp/fleetpatch-lab     # images (shared by all labs, never written once made) and one folder for each lab
STATE=$TOP/$TAG
NAME=fp$TAG                     # the bridge; with "-I" host I's interface, namespace, machine and cgroup (15 at most)
KEY=$STATE/id_ed25519
PORT=8099                       # the repository, at the bridge's address
ARCH=$(dpkg --print-architecture 2>/dev/null || echo unknown)
TOOLS=(sysctl:procps mmdebstrap:mmdebstrap systemd-nspawn:systemd-container ssh:openssh-client ip:iproute2 dpkg-deb:dpkg-dev
       apt-ftparchive:apt-utils python3:python3 flock:util-linux)

die() { echo "lab: $*" >&2; exit 1; }

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

# ---------------------------------------------------------------- the image and its repository
# recipe begins: a change between these two marks, or of the mirror, makes a new image

# shellcheck disable=SC2016  # the scripts' own variables
made() { # version, folder, names: packages that each have a behaviour in version 2
  local version=$1 out=$2 name d script extra; shift 2; mkdir -p "$out"
  for name; do
    d=$(mktemp -d); chmod 755 "$d"; mkdir -p "$d/DEBIAN" "$d/usr/share/$name"; script=: extra=
    echo "$version" > "$d/usr/share/$name/version"
    case $name-${version%%.*} in
      lab-slow-2) script='sleep "$(cat /etc/lab-slow-seconds 2>/dev/null || echo 30)"' ;;     # a long transaction
      lab-failing-2) script='[ -e /etc/lab-failing-fixed ] || { echo "lab-failing: cannot migrate data" >&2; exit 1; }' ;;
      lab-reboot-2 | lab-reboot-sec-2)                                                        # as Ubuntu's hook does
        script="touch /run/reboot-required; echo $name >> /run/reboot-required.pkgs" ;;
      lab-removes-2) extra='Conflicts: lab-plain\n' ;;                    # to upgrade it takes lab-plain away
      lab-dep-a-*) extra="Depends: lab-dep-b (= $version)\n" ;;           # the two only go together
    esac
    printf "Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: lab <lab@localhost>\n${extra}Description: %s\n" \
      "$name" "$version" "$name" > "$d/DEBIAN/control"
    printf '#!/bin/sh\nset -e\n[ "$1" = configure ] || exit 0\n%s\n' "$script" > "$d/DEBIAN/postinst"
    chmod 755 "$d/DEBIAN/postinst"
    if [ "$name" = lab-conffile ]; then  # a configuration file that was edited by hand and that the update changes too
      mkdir -p "$d/etc"; echo "setting=$version" > "$d/etc/lab.conf"; echo /etc/lab.conf > "$d/DEBIAN/conffiles"
    fi
    dpkg-deb --root-owner-group -Znone --build "$d" "$out/${name}_${version}_all.deb" >/dev/null; rm -rf "$d"
  done
}

base() { # folder: the root file system all hosts share
  local root=$1 user
  # the machine's own way to the mirror (proxy, certificates) is used, and not left in the image
  apt-config dump | grep -E '^Acquire::(http|https|Check|Retries|ForceIPv4)' > "$root.apt" || true
  # 'main' alone is the point release, without the fixes that came after it: what makes the hosts behind
  mmdebstrap -q --mode=root --variant=minbase --architectures="$ARCH" --aptopt="$root.apt" \
    --include=systemd-sysv,dbus,openssh-server,sudo,iproute2,ca-certificates,needrestart,cron,nginx-light,curl,procps \
    bookworm "$root" "$(mirror | sed -n 1p)"
  rm -f "$root.apt" "$root"/etc/apt/apt.conf.d/99mmdebstrap "$root"/etc/apt/sources.list.d/* "$root"/etc/apt/sources.list \
    "$root"/etc/ssh/ssh_host_* "$root"/etc/resolv.conf "$root"/etc/hostname; : > "$root/etc/resolv.conf"
  for user in patch nosudo pwsudo; do
    chroot "$root" useradd -m -s /bin/bash $user
    chroot "$root" install -d -m 700 -o $user -g $user /home/$user/.ssh
  done
  echo 'pwsudo:lab-password' | chroot "$root" chpasswd
  printf 'patch ALL=(ALL) NOPASSWD: ALL\npwsudo ALL=(ALL) ALL\n' > "$root/etc/sudoers.d/lab"; chmod 440 "$root/etc/sudoers.d/lab"
  printf 'PermitRootLogin no\nMaxStartups 200\nMaxSessions 50\n' > "$root/etc/ssh/sshd_config.d/lab.conf"
  # host keys of its own at first boot (no RSA: twenty hosts would spend their boot on it)
  cat > "$root/etc/systemd/system/lab-firstboot.service" <<'UNIT'
[Unit]
DefaultDependencies=no
Before=ssh.service
After=local-fs.target
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key.pub
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'cd /etc/ssh && for t in ecdsa ed25519; do ssh-keygen -q -t $t -N "" -f ssh_host_$${t}_key; done'
[Install]
WantedBy=multi-user.target
UNIT
  chroot "$root" systemctl -q enable lab-firstboot.service
  chroot "$root" systemctl -q disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
  chroot "$root" systemctl -q mask systemd-networkd systemd-resolved getty.target console-getty.service \
    e2scrub_reap.service systemd-udevd systemd-udev-trigger.service
  made 1.0 "$root/root/made" lab-{plain,slow,failing,reboot,conffile,sec,dep-a,dep-b,removes}
  chroot "$root" sh -c 'dpkg -i /root/made/*.deb' >/dev/null; rm -rf "$root/root/made"; echo 'setting=changed by hand' > "$root/etc/lab.conf"
  made 1.0 "$root/var/cache/lab" lab-reboot-sec  # not installed: dpkg -i it where one host shall need a reboot
}

publish() { # image, suite, label: a repository of what the image lacks from that suite and isn't published yet
  local image=$1 suite=$2 label=$3 work=$1/work pool=pool/$2 dist=dists/$2 deb real
  mkdir -p "$work"/state/lists/partial "$work"/cache/archives/partial "$image/repo/$pool" "$image/repo/$dist/main/binary-$ARCH"
  mirror | if [ "$suite" = bookworm-security ]; then grep -v bookworm-updates; else cat; fi > "$work/sources.list"
  # This machine's apt (so with its proxy and certificates) looks at the image's packages instead of its own.
  local apt=(apt-get -qq -o "Dir::State=$work/state" -o "Dir::Cache=$work/cache" -o "Dir::Cache::archives=$work/cache/archives"
    -o "Dir::State::status=$image/base/var/lib/dpkg/status" -o "Dir::State::extended_states=$image/base/var/lib/apt/extended_states"
    -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null
    -o Dir::Etc::PreferencesParts=/dev/null -o APT::Default-Release= -o APT::Sandbox::User=root -o Acquire::Languages=none
    -o APT::Get::List-Cleanup=false)
  "${apt[@]}" update
  "${apt[@]}" -y --download-only dist-upgrade >/dev/null
  for deb in "$work"/cache/archives/*.deb; do
    [ ! -e "$deb" ] || [ -n "$(find "$image/repo/pool" -name "${deb##*/}")" ] || cp "$deb" "$image/repo/$pool/"
  done
  if [ "$suite" = bookworm-security ]; then made 2.0 "$image/repo/$pool" lab-sec lab-reboot-sec; else
    made 2.0 "$image/repo/$pool" lab-{plain,slow,failing,reboot,conffile,dep-a,dep-b,removes}
    made 2.1 "$image/repo/$pool" lab-sec    # newer than the security fix, and not one itself
  fi
  real=$(find "$work/state/lists" -name "*_${suite}_*Release" | head -n1)  # the suite's name ages: stable, oldstable, …
  local field release=()
  for field in Origin=Debian "Label=$label" "Suite=$(sed -n 's/^Suite: //p' "$real")" "Version=$(sed -n 's/^Version: //p' "$real")" \
    "Codename=$suite" Components=main "Architectures=$ARCH"; do release+=(-o "APT::FTPArchive::Release::$field"); done
  ( cd "$image/repo"; apt-ftparchive packages "$pool" > "$dist/main/binary-$ARCH/Packages"
    apt-ftparchive "${release[@]}" release "$dist" > "$work/Release"; mv "$work/Release" "$dist/Release" )
}
# recipe ends

image() { # the folder of the image this recipe makes with this mirror
  { sed -n '/^# recipe begins/,/^# recipe ends/p' "$SELF"; mirror; echo "$ARCH"; } | sha256sum | cut -c1-12 | sed "s,^,$TOP/images/,"
}

build() {
  local image draft; image=$(image); mkdir -p "$TOP/images"; chmod 700 "$TOP/images"; exec 8> "$image.lock"; flock 8
  if [ ! -d "$image" ]; then
    draft=$image.draft; rm -rf "$draft"; mkdir -p "$draft/base"; base "$draft/base"
    publish "$draft" bookworm-security Debian-Security; publish "$draft" bookworm-updates Debian
    rm -rf "$draft/work"; mv "$draft" "$image"
  fi
  exec 8>&-
  echo "image $image: $(du -sh "$image/base" | cut -f1), $(find "$image/repo/pool" -name '*.deb' | wc -l) updates" \
    "($(find "$image/repo/pool/bookworm-security" -name '*.deb' | wc -l) security)" >&2
}

# ---------------------------------------------------------------- processes, cgroups, network

record() { local at; at=$(began "$1"); echo "$1 $at" > "$2"; }  # pid, file: with its start, so that a reused pid isn't taken for it
began() { sed -n 's/.*) \([^ZX] .*\)/\1/p' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }  # nothing for a zombie
alive() { local pid when; read -r pid when 2>/dev/null < "$1" && [ -n "$when" ] && [ "$(began "$pid")" = "$when" ]; }  # file
stop() { if alive "$1"; then kill -9 "$(cut -d' ' -f1 "$1")" 2>/dev/null || true; fi; }  # file: that process and no other

hierarchies() { awk '$3 == "cgroup2" || $3 == "cgroup" && $4 !~ /cpuset/ {print $2}' /proc/mounts; }

members() { # the processes in host I's cgroups
  local group
  for group in $(hierarchies); do find "$group/$NAME-$1" -name cgroup.procs -exec cat {} + 2>/dev/null || true; done | sort -u
}

cut_power() { local all; all=$(members "$1"); xargs -r kill -9 <<<"$all" 2>/dev/null || true; }  # all of host I at once

reap() { # end what is left in host I's cgroups, and remove them
  local group
  for _ in $(seq 1 60); do [ -n "$(members "$1")" ] || break; members "$1" | xargs -r kill -9 2>/dev/null || true; sleep 0.1; done
  for group in $(hierarchies); do find "$group/$NAME-$1" -depth -type d -exec rmdir {} \; 2>/dev/null || true; done
}

supervise() { # boot host I; again after a reboot, a crash or a failed start; not after a poweroff
  local i=$1 d=$STATE/hosts/$1 group rc
  while [ ! -e "$d/off" ]; do
    reap "$i"
    ( for group in $(hierarchies); do # cgroups of its own: sharing them, the hosts' systemds undo each other's
        { mkdir -p "$group/$NAME-$i" && echo "$BASHPID" > "$group/$NAME-$i/cgroup.procs"; } || true
      done 2>/dev/null
      exec systemd-nspawn -q --register=no --keep-unit -M "$NAME-$i" -D "$d/root" --hostname="lab-$i" --link-journal=no \
        --network-namespace-path="/run/netns/$NAME-$i" --timezone=off -b
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
      "$(net).1" $PORT "$(cat "$STATE/image")/repo" "$NAME-repo" </dev/null >/dev/null 2>&1 9>&- & record $! "$STATE/httpd.pid"
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

create() { # host I: its disk, its network
  local i=$1 d=$STATE/hosts/$1 user
  mkdir -p "$d"/{upper,work,root}
  # volatile: what a host syncs needn't reach this machine's disk (dpkg syncs all the time, a dropped host's disk never)
  mount -t overlay overlay -o "volatile,lowerdir=$(cat "$STATE/image")/base,upperdir=$d/upper,workdir=$d/work" "$d/root"
  echo "lab-$i" > "$d/root/etc/hostname"; printf '127.0.0.1 localhost\n127.0.1.1 lab-%s\n' "$i" > "$d/root/etc/hosts"
  tr -d - < /proc/sys/kernel/random/uuid > "$d/root/etc/machine-id"
  printf "deb [trusted=yes] http://$(net).1:$PORT %s main\n" bookworm-security bookworm-updates > "$d/root/etc/apt/sources.list"
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
  local i group
  { ip netns list | sed -n "s/^$NAME-\([0-9]*\).*/\1/p"
    ip -o link show | sed -n "s/^[0-9]*: $NAME-\([0-9]*\)[@:].*/\1/p"
    for group in $(hierarchies); do find "$group" -maxdepth 1 -name "$NAME-*" -printf '%f\n'; done | sed "s/^$NAME-//"
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

ssh_to() { # host, words: plain OpenSSH, the host's key pinned
  local i=$1; shift
  ssh -F none -o LogLevel=ERROR -i "$KEY" -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=yes \
    -o KexAlgorithms=^curve25519-sha256 -o "UserKnownHostsFile=$STATE/known_hosts" -l "${LAB_USER:-patch}" "$(address "$i")" "$@"
}

wait_login() { # a host is up when a login works: sshd answers before pam_nologin lets anyone in
  local i=$1 until=$((SECONDS + ${2:-300}))
  while [ $SECONDS -lt $until ]; do timeout 30 bash "$SELF" ssh "$i" true </dev/null >/dev/null 2>&1 && return 0; sleep 0.2; done
  die "no login on lab-$i (its console: $STATE/hosts/$i/console.log)"
}

up() {
  local count=$1 flavour=${2:-apt} why='' i new=()
  [[ $count =~ ^[0-9]+$ ]] || die "up takes a number of hosts"
  [ "$flavour" = apt ] || die "there is no flavour '$flavour' (only apt)"
  [ -e "$STATE/net" ] || { why=$(reason); [ -z "$why" ] || die "$why"; }  # what runs already can run
  locked; mkdir -p "$STATE/hosts"; chmod 700 "$STATE"
  [ ! -e "$STATE/owner" ] || [ "$(cat "$STATE/owner")" = "$OWNER" ] || die "$STATE belongs to another lab: $(cat "$STATE/owner")"
  echo "$OWNER" > "$STATE/owner"
  for i in $(leftovers); do destroy "$i"; done
  [ -e "$KEY" ] || ssh-keygen -q -t ed25519 -N '' -C "$NAME" -f "$KEY"
  if [ ! -e "$STATE/image" ]; then build 9>&-; image > "$STATE/image"; fi  # one image for all the lab's hosts, until down
  bridge
  for (( ; count > 0; count-- )); do i=$(next_number); new+=("$i"); create "$i"; power_on "$i"; done
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
    echo "$i lab-$i $(address "$i") $how"
  done
}

inventory() {
  local i; net >/dev/null; echo 'machines:'
  for i in $(numbers); do
    printf '  - name: lab-%s\n    address: %s\n    user: patch\n    credential: key:%s\n' "$i" "$(address "$i")" "$KEY"
    printf '    environment: lab\n    groups: [web]\n    tags: {lab: "%s"}\n' "$TAG"
  done
  printf 'host_keys:\n  policy: pinned\n  known_hosts: %s/known_hosts\n' "$STATE"
}

verb=${1:-help}; [ $# -eq 0 ] || shift
case $verb in ssh | wait | root | cut | mend | crash | off | on | drop) known "${1:-}" ;; esac
case $verb in
  can) why=$(reason); [ -z "$why" ] || { echo "$why"; exit 1; } ;;
  deps) deps ;;
  build) why=$(reason); [ -z "$why" ] || die "$why"; build ;;
  up) up "${1:?how many hosts}" "${2:-apt}" ;;
  down) [ "$(id -u)" = 0 ] || die "not root"; down ;;
  status) status ;;
  inventory) inventory ;;
  ssh) ssh_to "$@" ;;
  wait) wait_login "$@" ;;
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
