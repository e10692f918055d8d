# shellcheck shell=bash disable=SC2154
# The disk of virtual machines that are a cloud's: as image_vm.sh's, but who they are tells them cloud-init, as on
# Debian's own cloud images, with systemd-networkd below it. They have no lab-identity. Sourced by lab.sh.

make_cloud() { # folder of the image: base/disk.raw and its digest. Its machines use the repository of the kind vm.
  local image=$1 below wanted work=$1/work disk=$1/work/disk.raw; below=$(image apt)
  ( build apt ) # a subshell: its lock isn't this image's
  mkdir -p "$work"/{upper,overlay,boot}; mirror | sed -n 1p > "$work/sources.list"
  apt_of "$below" "$work" update
  for wanted in '' cloud-init; do # cloud-init's go in after the others
    # shellcheck disable=SC2086  # words
    apt_of "$below" "$work" -y --no-install-recommends --download-only install "linux-image-cloud-$ARCH" initramfs-tools \
      zstd grub-pc udev lvm2 qemu-guest-agent $wanted >/dev/null
    [ -n "$wanted" ] || cp -r "$work/cache/archives" "$work/debs"
  done
  ( cd "$work/debs" && find . -name '*.deb' -exec rm -f "$work/cache/archives/{}" \; )
  mount -t overlay overlay -o "volatile,lowerdir=$below/base,upperdir=$work/upper,workdir=$work/overlay" "$image/base"
  mount -t tmpfs -o mode=755 lab-boot "$image/base/boot"
  ( put_vm "$image/base" "$work/debs" && put_cloud "$image/base" "$work/cache/archives" && fill_disk "$image/base" "$disk" ) ||
    { umount "$image/base/boot" "$image/base"; die "cloud-init didn't go into the image"; }
  umount "$image/base/boot"
  make_file_system "$image/base" "$disk" root "$VM_ROOT" $((1 + VM_BOOT_MIB)) "$VM_ROOT_MIB"
  umount "$image/base"
  mv "$disk" "$image/base/disk.raw"; chmod 444 "$image/base/disk.raw"
  ( cd "$image/base" && sha256sum disk.raw > disk.raw.sha256 )
}

put_cloud() ( # root, folder of the packages: cloud-init instead of lab-identity; nothing of who a machine is
  set -e; root=$1; mkdir "$root/root/debs"; cp "$2"/*.deb "$root/root/debs"
  # python3 wants parts of itself configured before it is unpacked: each round comes further
  chroot "$root" sh -c 'export DEBIAN_FRONTEND=noninteractive; for round in 1 2 3 4; do
    dpkg --unpack --force-unsafe-io --skip-same-version /root/debs/*.deb; dpkg --configure --force-confold -a; done' >"$root/root/said" 2>&1 ||
    { cat "$root/root/said" >&2; exit 1; }
  rm -rf "$root"/root/debs "$root"/root/said
  chroot "$root" systemctl -q disable lab-identity.service lab-firstboot.service
  rm "$root"/usr/local/sbin/lab-identity "$root"/etc/systemd/system/lab-{identity,firstboot}.service
  rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/hostname
  printf '127.0.0.1 localhost\n' > "$root/etc/hosts"
  chroot "$root" systemctl -q unmask systemd-networkd.service
  chroot "$root" systemctl -q enable systemd-networkd.service
  chroot "$root" systemctl -q disable nginx.service
  # all stages, with the modules that a test looks at: QEMU alone takes seconds for what Python does in moments
  printf '%s\n' 'datasource_list: [NoCloud, None]' 'cloud_init_modules: [bootcmd, write-files, set_hostname, update_hostname, update_etc_hosts, users-groups, ssh]' \
    'cloud_config_modules: [apt-configure]' 'cloud_final_modules: [final-message]' > "$root/etc/cloud/cloud.cfg.d/95_lab.cfg"
  # a disk or a CD with a seed must be there when cloud-init's generator looks, as with Debian's initramfs of most modules
  printf 'virtio_scsi\nsr_mod\nsd_mod\nisofs\n' >> "$root/etc/initramfs-tools/modules"
  chroot "$root" update-initramfs -u -k all >/dev/null
)
