#!/bin/sh
# A function that finds out whether the next boot has its files. It only reads.
# shellcheck disable=SC2034  # used by the scripts that this is put before

# fp_check_boot: sets fp_unbootable to what a kernel lacks that the next boot may choose, and fp_boot_remedy; both are
# empty if nothing is known to be wrong. Such kernels are those in /boot that are newer than the running one; without
# any, the running one itself, or the newest if /boot does not have that. Boot loaders choose the newest.
# A kernel needs an initramfs if another one there has one, or if the machine has a tool that makes them. It needs
# modules if the running one has some. Files that GRUB takes for no kernels are none here: *.dpkg-new, *.rpmsave and the like.
fp_check_boot() {
  fp_unbootable='' fp_boot_remedy=''
  fp_kernels='' fp_newer='' fp_newest='' fp_here='' fp_displaced=''
  for fp_image in /boot/vmlinuz-* /boot/vmlinux-* /boot/Image-* /boot/image-*; do
    case $fp_image in
      *.dpkg-new) # dpkg has not given it its name, or a power cut has taken that back. If no package has it, it is left over
        fp_image=${fp_image%.dpkg-new}
        if [ ! -e "$fp_image" ] && dpkg-query -S "$fp_image" >/dev/null 2>&1; then fp_displaced=${fp_image#/boot/*-}; fi
        continue ;;
      *rescue* | *.old | *.bak | *.gz | *.dpkg-* | *.rpmsave | *.rpmnew | *.sig) continue ;;
    esac
    [ ! -f "$fp_image" ] || fp_kernels="$fp_kernels${fp_image#/boot/*-}
"
  done
  [ -n "$fp_kernels$fp_displaced" ] || return 0
  fp_running=$(uname -r)
  fp_kernels=$(printf '%s' "$fp_kernels" | sort -uV 2>/dev/null)
  for fp_kernel in $fp_kernels; do
    if [ "$fp_kernel" = "$fp_running" ]; then fp_newer='' fp_here=yes; else fp_newer="$fp_newer $fp_kernel" fp_newest=$fp_kernel; fi
  done
  if [ -z "$fp_here" ]; then fp_next=$fp_newest; else fp_next=${fp_newer:-$fp_running}; fi
  fp_makes='' fp_has=''
  if command -v update-initramfs >/dev/null; then fp_makes='update-initramfs -c -k'
  elif command -v dracut >/dev/null; then fp_makes='dracut -f --kver'; fi
  for fp_kernel in $fp_kernels; do
    case " $fp_next " in *" $fp_kernel "*) continue ;; esac
    ! fp_has_initramfs "$fp_kernel" || fp_has=yes
  done
  for fp_kernel in $fp_next; do
    if [ -n "$fp_has$fp_makes" ] && ! fp_has_initramfs "$fp_kernel"; then
      fp_unbootable="the kernel $fp_kernel in /boot has no initramfs, and the next boot may choose it"
      [ -z "$fp_makes" ] || fp_boot_remedy="Make it on the machine: $fp_makes $fp_kernel"
    elif [ -d "/lib/modules/$fp_running" ] && [ ! -d "/lib/modules/$fp_kernel" ]; then
      fp_unbootable="the kernel $fp_kernel in /boot has no modules in /lib/modules, and the next boot may choose it"
    else continue; fi
    return 0
  done
  [ -n "$fp_displaced" ] || return 0
  fp_unbootable="the kernel $fp_displaced is not whole in /boot, as after a power cut: its file still has the name that ends with .dpkg-new"
  fp_boot_remedy="Install it anew on the machine: apt-get install --reinstall linux-image-$fp_displaced"
}

fp_has_initramfs() { # KERNEL: one that is not empty, by the name of Debian, Red Hat or SUSE
  for fp_initramfs in "/boot/initrd.img-$1" "/boot/initramfs-$1.img" "/boot/initrd-$1" "/boot/initramfs-$1" "/boot/initrd-$1.img"; do
    [ ! -s "$fp_initramfs" ] || return 0
  done
  return 1
}
