# shellcheck shell=bash disable=SC2154
# The disk of virtual machines: hosts with apt that have a kernel, GRUB, an initramfs and a /boot of their own, from
# Debian's point release; the kernel that came after it is in their repository. Sourced by lab.sh.

VM_ROOT=6c61622d-0000-4000-8000-726f6f740000 VM_BOOT=6c61622d-0000-4000-8000-626f6f740000 # the file systems' UUIDs
VM_BOOT_MIB=320 VM_ROOT_MIB=1536

make_vm() { # folder of the image: base/disk.raw, its digest, and a repository
  local image=$1 below work=$1/work disk=$1/work/disk.raw; below=$(image apt)
  ( build apt ) # a subshell: its lock isn't this image's
  mkdir -p "$work"/{upper,overlay,boot}; mirror | sed -n 1p > "$work/sources.list"
  apt_of "$below" "$work" update
  apt_of "$below" "$work" -y --no-install-recommends --download-only install "linux-image-cloud-$ARCH" initramfs-tools zstd \
    grub-pc udev lvm2 qemu-guest-agent >/dev/null
  mv "$work/cache/archives" "$work/debs"
  mount -t overlay overlay -o "volatile,lowerdir=$below/base,upperdir=$work/upper,workdir=$work/overlay" "$image/base"
  mount -t tmpfs -o mode=755 lab-boot "$image/base/boot" # GRUB finds its files by their place in their own file system
  ( put_vm "$image/base" "$work/debs" && fill_disk "$image/base" "$disk" ) ||
    { umount "$image/base/boot" "$image/base"; die "the kernel and GRUB didn't go into the image"; }
  umount "$image/base/boot"
  make_file_system "$image/base" "$disk" root $VM_ROOT $((1 + VM_BOOT_MIB)) $VM_ROOT_MIB
  publish_vm "$image" "$below" bookworm-security Debian-Security; publish_vm "$image" "$below" bookworm-updates Debian
  umount "$image/base"
  mv "$disk" "$image/base/disk.raw"; chmod 444 "$image/base/disk.raw"
  ( cd "$image/base" && sha256sum disk.raw > disk.raw.sha256 )
}

publish_vm() { # image, image of apt, suite, label: what that image has downloaded already is not downloaded again
  mkdir -p "$1/work/cache/archives"; rm -f "$1/work/cache/archives/"*.deb
  find "$2/repo/pool/$3" -name '*.deb' ! -name 'lab-*' -exec cp -t "$1/work/cache/archives" {} +
  publish "$1" "$3" "$4"
}

put_vm() ( # root, folder of the packages
  set -e; root=$1; guest=${SELF%/*}/vm/guest
  mkdir "$root/root/debs"; cp "$2"/*.deb "$root/root/debs"; rm -f "$root"/etc/systemd/system/systemd-udev{d,-trigger}.service
  mkdir -p "$root/etc/initramfs-tools/conf.d"
  printf 'MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\n' > "$root/etc/initramfs-tools/conf.d/lab"
  printf 'virtio_pci\nvirtio_blk\next4\n' > "$root/root/modules"
  printf 'UUID=%s / ext4 errors=remount-ro 0 1\nUUID=%s /boot ext4 defaults 0 2\n' $VM_ROOT $VM_BOOT > "$root/etc/fstab"
  echo 6c61620000004000800069640000abcd > "$root/etc/machine-id" # an empty one would make the first boot another one
  printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"; chmod 755 "$root/usr/sbin/policy-rc.d"
  mkdir -p "$root/etc/default/grub.d"
  printf '%s\n' GRUB_TIMEOUT=0 GRUB_TERMINAL=serial GRUB_SERIAL_COMMAND=serial 'GRUB_CMDLINE_LINUX_DEFAULT=quiet' \
    'GRUB_CMDLINE_LINUX="console=ttyS0 net.ifnames=0"' > "$root/etc/default/grub.d/lab.cfg"
  chroot "$root" sh -c 'echo grub-pc grub-pc/install_devices_empty boolean true | debconf-set-selections
    export DEBIAN_FRONTEND=noninteractive; dpkg --unpack --force-unsafe-io /root/debs/*.deb
    mv /root/modules /etc/initramfs-tools/modules; dpkg --configure --force-confold -a' >"$root/root/said" 2>&1 ||
    { cat "$root/root/said" >&2; exit 1; }
  printf 'grub-pc grub-pc/%s\n' 'install_devices_empty boolean false' 'install_devices multiselect /dev/vda' |
    chroot "$root" debconf-set-selections
  install -m 755 "$guest/lab-identity" "$root/usr/local/sbin/"; install -m 644 "$guest/lab-identity.service" "$root/etc/systemd/system/"
  echo 'PermitRootLogin prohibit-password' > "$root/etc/ssh/sshd_config.d/0-vm.conf"
  chroot "$root" systemctl -q enable lab-identity.service qemu-guest-agent.service
  chroot "$root" systemctl -q mask apparmor.service lvm2-monitor.service dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount modprobe@.service # what no test looks at, and each boot would pay for
  rm -rf "$root"/root/debs "$root"/root/said "$root/usr/sbin/policy-rc.d"
)

# What GRUB's own installation finds out by looking at disks is told to it: there is no disk yet.
# shellcheck disable=SC2016  # the script's own variables
fill_disk() ( # root, file: a disk with its partitions, GRUB in front of them, and /boot's file system
  set -e; root=$1; disk=$2; modules=/usr/lib/grub/i386-pc
  mkdir -p "$root/boot/grub/i386-pc" "$root/dev/disk/by-uuid"; cp "$root$modules"/*.{mod,lst} "$root/boot/grub/i386-pc/"
  touch "$root/dev/disk/by-uuid/$VM_ROOT" "$root/dev/disk/by-uuid/$VM_BOOT"
  mv "$root/usr/sbin/grub-probe" "$root/usr/sbin/grub-probe.real"
  printf '%s\n' '#!/bin/sh' 'case "$*" in *vda1*|*" /boot"*) n=1 uuid='$VM_BOOT' ;; *) n=2 uuid='$VM_ROOT' ;; esac' \
    'case "$*" in *=device\ *) echo /dev/vda$n ;; *fs_uuid*) echo $uuid ;; *partuuid*) echo 6c616200-0$n ;; *partmap*) echo msdos ;;' \
    '*fs*) echo ext2 ;; *hints_string*) echo "--hint-bios=hd0,msdos$n" ;; *compat*) echo "hd0,msdos$n" ;;' \
    '*drive*) echo "(hd0,msdos$n)" ;; esac' > "$root/usr/sbin/grub-probe"
  chmod 755 "$root/usr/sbin/grub-probe"
  chroot "$root" grub-mkconfig -o /boot/grub/grub.cfg 2>&1
  chroot "$root" grub-mkimage -O i386-pc -p '(hd0,msdos1)/grub' -o /boot/grub/i386-pc/core.img biosdisk part_msdos ext2
  mv "$root/usr/sbin/grub-probe.real" "$root/usr/sbin/grub-probe"; rm -rf "$root/dev/disk"
  cp "$root$modules/boot.img" "$root/boot/grub/i386-pc/"
  truncate -s $((1 + VM_BOOT_MIB + VM_ROOT_MIB))M "$disk"
  python3 "${SELF%/*}/vm/partition.py" "$disk" "$root/boot/grub/i386-pc" 1 $VM_BOOT_MIB $VM_ROOT_MIB
  make_file_system "$root/boot" "$disk" boot $VM_BOOT 1 $VM_BOOT_MIB
)

make_file_system() { # folder, disk, label, UUID, where it begins and how large it is (MiB)
  mke2fs -q -F -t ext4 -d "$1" -L "$3" -U "$4" -E "offset=$(($5 << 20)),lazy_itable_init=0,nodiscard" "$2" "${6}M" 2>&1 | { grep -v '^$' || true; } >&2
}
