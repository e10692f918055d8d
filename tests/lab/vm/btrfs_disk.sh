#!/bin/sh
# btrfs_disk.sh DISK COPY PACKAGES: makes a copy of a lab's disk whose / is btrfs, as Debian's installer would: the subvolume
# @rootfs. /boot stays a partition. PACKAGES is a folder with those of btrfs-progs. Call it in a mount namespace of its own.
set -eu
disk=$1 copy=$2 packages=$3 tmp=$(mktemp -d)
trap 'set +e; umount -R "$tmp/new" "$tmp/old" 2>/dev/null; for loop in $loops; do losetup -d "$loop"; done; rm -rf "$tmp"' EXIT
loops=''
part() { # NUMBER FILE OPTIONS: sets loop to a device of a partition
  # shellcheck disable=SC2046  # its offset and its size
  set -- "$2" "$3" $(partx -g -o START,SECTORS -n "$1" "$2")
  # shellcheck disable=SC2086  # none or one
  loop=$(losetup -f --show $2 -o $(($3 * 512)) --sizelimit $(($4 * 512)) "$1") loops="$loops $loop"
}
cp --sparse=always "$disk" "$copy"
chmod 644 "$copy"
mkdir "$tmp/old" "$tmp/new" "$tmp/tools"
for package in "$packages"/*.deb; do dpkg-deb -x "$package" "$tmp/tools"; done
export LD_LIBRARY_PATH="$tmp/tools/usr/lib/x86_64-linux-gnu:$tmp/tools/lib/x86_64-linux-gnu"
part 2 "$disk" -r
old=$loop
mount -o ro,noload "$old" "$tmp/old"
part 2 "$copy" ''
"$tmp/tools/sbin/mkfs.btrfs" -q -f "$loop"
uuid=$(blkid -s UUID -o value "$loop") was=$(blkid -s UUID -o value "$old")
mount "$loop" "$tmp/new"
"$tmp/tools/bin/btrfs" -q subvolume create "$tmp/new/@rootfs"
umount "$tmp/new"
mount -o subvol=@rootfs "$loop" "$tmp/new"
unset LD_LIBRARY_PATH
cp -a "$tmp/old/." "$tmp/new"
part 1 "$copy" ''
mount "$loop" "$tmp/new/boot"
sed -i "s/^UUID=$was .*/UUID=$uuid \/ btrfs defaults,subvol=@rootfs 0 0/" "$tmp/new/etc/fstab"
sed -i "s/root=UUID=$was ro /root=UUID=$uuid ro rootflags=subvol=@rootfs /" "$tmp/new/boot/grub/grub.cfg"
echo btrfs >>"$tmp/new/etc/initramfs-tools/modules"
for place in dev proc sys; do mount --rbind "/$place" "$tmp/new/$place"; done
mkdir "$tmp/new/root/packages"
cp "$packages"/*.deb "$tmp/new/root/packages"
chroot "$tmp/new" sh -c 'dpkg -i /root/packages/*.deb && update-initramfs -u' >/dev/null
rm -r "$tmp/new/root/packages"
grep -q 'rootflags=subvol=@rootfs' "$tmp/new/boot/grub/grub.cfg"
