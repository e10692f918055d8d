#!/bin/sh
# Moves the system of this machine onto btrfs on its data disk, as Debian's installer would: / is the subvolume @rootfs.
# /boot stays where it is. `in` as its argument: /boot goes into @rootfs, too.
set -e
modprobe btrfs
echo btrfs >>/etc/initramfs-tools/modules
mkfs.btrfs -q /dev/vdb
mount /dev/vdb /mnt
btrfs -q subvolume create /mnt/@rootfs
umount /mnt
mount -o subvol=@rootfs /dev/vdb /mnt
btrfs -q subvolume create /mnt/var
btrfs -q subvolume delete /mnt/var
tar -C / --one-file-system -cf - . | tar -C /mnt -xpf -
{
  echo "UUID=$(blkid -s UUID -o value /dev/vdb) / btrfs defaults,subvol=@rootfs 0 0"
  [ "$1" = in ] || grep ' /boot ' /etc/fstab
} >/mnt/etc/fstab
[ "$1" != in ] || tar -C /boot --one-file-system -cf - . | tar -C /mnt/boot -xpf -
for place in dev proc sys run; do mount --rbind "/$place" "/mnt/$place"; done
[ "$1" = in ] || mount --bind /boot /mnt/boot
chroot /mnt update-initramfs -u
chroot /mnt update-grub
sync
