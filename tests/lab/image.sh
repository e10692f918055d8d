# shellcheck shell=bash disable=SC2154
# The images that hosts share, each with the repository its hosts get updates from: one of Debian, one for RPM's flavours;
# and a layer over Debian's, for hosts that are members of a cluster.
# Sourced by lab.sh.

system() { # folder, packages, options of mmdebstrap: a Debian that boots, with the users and services of every host
  local root=$1 packages=$2 user; shift 2
  # the machine's own way to the mirror (proxy, certificates) is used, and not left in the image
  apt-config dump | grep -E '^Acquire::(http|https|Check|Retries|ForceIPv4)' > "$root.apt" || true
  # 'main' alone is the point release, without the fixes that came after it: what makes the hosts behind
  mmdebstrap -q --mode=root --variant=minbase --architectures="$ARCH" --aptopt="$root.apt" \
    --include="systemd-sysv,dbus,openssh-server,sudo,iproute2,ca-certificates,cron,nginx-light,curl,procps,$packages" "$@" \
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
}

image() { # kind: the folder of the image that this recipe makes with this mirror
  local from=${SELF%/*}
  { cat "$from/image.sh" "$from/image_$1.sh" "$from"/mirror.py; [ "$1" != rpm ] || cat "$from"/rpm/*
    [ "$1" != vm ] || cat "$from"/vm/partition.py "$from"/vm/guest/*
    case $1 in cluster | vm) image apt ;; cloud) image vm ;; esac; mirror; echo "$ARCH"; } |
    sha256sum | cut -c1-12 | sed "s,^,$TOP/images/$1-,"
}

build() { # kind: its image, unless it is there; it is made elsewhere and moved into its place when it is whole
  local image draft; image=$(image "$1"); mkdir -p "$TOP/images"; chmod 700 "$TOP/images"; exec 8> "$image.lock"; flock 8
  if [ ! -d "$image" ]; then
    draft=$image.draft; rm -rf "$draft"; mkdir -p "$draft"/{base,repo,work}; "make_$1" "$draft"
    rm -rf "$draft/work"; mv "$draft" "$image"
  fi
  exec 8>&-
  echo "image $image: $(du -sh "$image/base" | cut -f1), $(find "$image/repo" -name '*.deb' -o -name '*.rpm' | wc -l) updates" >&2
}

build_all() { # kinds: side by side
  local kind pids=() pid
  for kind; do case $kind in apt | rpm | cluster | vm | cloud) ;; *) die "there is no image '$kind' (apt, rpm, cluster, vm, cloud)" ;; esac; done
  for kind; do build "$kind" & pids+=($!); done
  for pid in "${pids[@]}"; do wait "$pid"; done
}
