#!/bin/sh
# Moves the system of this machine onto a logical volume of its data disk: / and a volume for data. /boot stays where it is.
set -e
modprobe dm-snapshot
pvcreate -q /dev/vdb
vgcreate -q vg0 /dev/vdb
lvcreate -q -y -L 1024M -n root vg0
lvcreate -q -y -L 64M -n data vg0
mkfs.ext4 -q /dev/vg0/root
mkfs.ext4 -q /dev/vg0/data
mkdir -p /srv/data
mount /dev/vg0/root /mnt
tar -C / --one-file-system -cf - . | tar -C /mnt -xpf -
{
  echo '/dev/mapper/vg0-root / ext4 errors=remount-ro 0 1'
  grep ' /boot ' /etc/fstab
  echo '/dev/mapper/vg0-data /srv/data ext4 defaults 0 2'
} >/mnt/etc/fstab
for place in dev proc sys boot run; do mount --rbind "/$place" "/mnt/$place"; done
chroot /mnt update-grub
sync
