# shellcheck shell=bash disable=SC2154
# What members of a cluster have besides: HAProxy and PostgreSQL, as a layer over the image of hosts with apt, whose
# repository is theirs. Nothing of them runs until a test has set it up. Sourced by lab.sh.

make_cluster() { # folder of the image
  local below work=$1/work root=$1/work/root; below=$(image apt)
  ( build apt ) # a subshell: its lock isn't this image's
  mkdir -p "$root" "$work/overlay"; mirror | sed -n 1p > "$work/sources.list"
  apt_of "$below" "$work" update
  apt_of "$below" "$work" -y --no-install-recommends --download-only install haproxy postgresql >/dev/null
  mount -t overlay overlay -o "volatile,lowerdir=$below/base,upperdir=$1/base,workdir=$work/overlay" "$root"
  put_cluster "$root" "$work/cache/archives" || { umount "$root"; die "HAProxy and PostgreSQL didn't go into the image"; }
  umount "$root"
}

put_cluster() ( # root, folder of the packages: they are installed there, and begin nothing
  set -e; mkdir -p "$1/etc/postgresql-common/createcluster.d" "$1/root/debs"
  echo 'create_main_cluster = false' > "$1/etc/postgresql-common/createcluster.d/lab.conf"
  printf '#!/bin/sh\nexit 101\n' > "$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"
  cp "$2"/*.deb "$1/root/debs"
  chroot "$1" sh -c 'DEBIAN_FRONTEND=noninteractive dpkg -i --force-unsafe-io /root/debs/*.deb' >"$1/root/said" 2>&1 || { cat "$1/root/said" >&2; exit 1; }
  chroot "$1" systemctl -q disable haproxy.service
  rm -rf "$1"/root/debs "$1"/root/said "$1/usr/sbin/policy-rc.d"
)
