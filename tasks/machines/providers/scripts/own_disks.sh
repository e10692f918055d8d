# shellcheck shell=sh
# What providers on the machine itself share: how they fail, their lock, a copy of /boot and its way back, and the reboot.
# The kernels in /boot must fit what is in /: so each snapshot has a copy of a /boot that is a file system of its own.
# Records: failed (why, hint), rebooting.
# shellcheck disable=SC2034,SC2154  # used by the scripts that this is put before; variables of prelude.sh

umask 077
fp_read_boot
own_boot=$fp_boot
own_why='' own_hint='' # why no snapshot can be taken now

own_fail() { fp_emit failed "why=$1" "hint=${2:-}"; exit 0; }
own_run() { "$@" </dev/null 3>&- 7>&-; } # what a tool leaves running keeps nothing of ours open
own_do() { own_said=$(own_run "$@" 2>&1) || own_fail "$*: $own_said"; }
own_unfit() { [ -n "$own_why" ] || own_why=$1 own_hint=${2:-}; }

own_begin() { # WORK: makes own_folder. An order waits for another one, on whatever disks
  [ -n "$own_boot" ] || own_fail "the machine does not show its boot id, so a revert could not be proven"
  # not on /, which may be full
  own_folder=$(mktemp -d /run/fleetpatch-disks.XXXXXX 2>/dev/null || mktemp -d) || own_fail "no temporary folder can be made"
  trap 'rm -rf "$own_folder"' EXIT
  if [ "$1" = read ] || ! command -v flock >/dev/null; then return; fi
  exec 7>/run/fleetpatch-disks.lock
  flock -w 30 7 || own_fail "another order is at work on the disks" "Wait, and order it again."
}

own_check_boot() { # whether its boot files can be put back
  [ -d /boot/grub ] || [ -d /boot/grub2 ] || own_unfit "/boot has no GRUB, and only its boot files are put back" "Give the machine another provider."
  for own_file in /boot/efi/EFI/Linux/*.efi /boot/efi/loader/entries/*.conf /efi/EFI/Linux/*.efi /efi/loader/entries/*.conf; do
    [ ! -e "$own_file" ] || own_unfit "its boot files are in the EFI partition ($own_file), which is not put back" "Give the machine another provider."
  done
  for own_file in /boot/efi/EFI/*/grub.cfg; do
    ! grep -qs '^[[:space:]]*linux' "$own_file" || own_unfit "the entries of its boot are in $own_file, which is not put back" "Give the machine another provider."
  done
}

own_measure_boot() { own_need=$((($(du -skx /boot | awk '{ print $1 }') * 11 / 10 + 4096) * 1024)); } # bytes of a copy

own_list_boot() { # into own_folder: its files with their digests, and its links
  (cd /boot && find . -xdev -type f ! -path './lost+found/*' -exec sha256sum {} +) >"$own_folder/files" || own_fail "/boot can't be read"
  (cd /boot && find . -xdev -type l) >"$own_folder/links" || own_fail "/boot can't be read"
}

own_copy_boot() { # TAR, a file or a device: sets own_copied to BYTES+SHA256 of the copy
  own_said=$(tar -cf "$1" -C "$own_folder" files links -C /boot --one-file-system --exclude=./lost+found . 2>&1 3>&- 7>&-) \
    || own_fail "/boot could not be copied: $own_said"
  own_last=$(tar -tRf "$1" 2>/dev/null 3>&- 7>&- | sed -n 's/^block \([0-9]*\):.*/\1/p' | tail -n 1)
  own_bytes=$(((own_last + 1) * 512))
  [ "$own_bytes" -gt 512 ] || own_fail "the copy of /boot can't be read"
  own_digest=$(head -c "$own_bytes" "$1" | sha256sum)
  own_copied=$own_bytes+${own_digest%% *}
}

own_find_changed() { # of /boot since the copy: the files changed and extra. What belongs to GRUB's code before the partitions stays
  # shellcheck disable=SC2016  # awk's $
  own_skip='!/^\.\/grub2?\/[^\/]*-[^\/]*\// && !/^\.\/\.fleetpatch/ && !/^\.\/lost\+found/'
  (cd /boot && sha256sum -c --quiet "$own_folder/files" 2>/dev/null) | sed -n 's/: FAILED.*//p' | cat - "$own_folder/links" | awk "$own_skip" \
    | awk '/grub|loader/ { late = late $0 "\n"; next } { print } END { printf "%s", late }' >"$own_folder/changed"
  sed 's/^[0-9a-f]*  //' "$own_folder/files" | cat - "$own_folder/links" >"$own_folder/kept"
  (cd /boot && find . -xdev -type f -o -xdev -type l) | awk "$own_skip" \
    | awk 'FILENAME != "-" { kept[$0] = 1; next } !($0 in kept)' "$own_folder/kept" - >"$own_folder/extra"
}

own_remove_extra() { while IFS= read -r own_file; do rm -f "/boot/$own_file"; done <"$own_folder/extra"; }

own_put_boot_back() { # TAR BYTES+SHA256
  own_stage=/boot/.fleetpatch
  own_digest=$(head -c "${2%+*}" "$1" | sha256sum)
  [ "${own_digest%% *}" = "${2#*+}" ] || own_fail "the copy of /boot in $1 is damaged, so / is not put back without it" "Put the machine back by hand: with the kernels of that state in /boot."
  own_do tar -xf "$1" -C "$own_folder" files links
  own_find_changed
  own_need=$(tar -tvf "$1" 3>&- 7>&- | awk 'FILENAME != "-" { changed[$0] = 1; next } $6 in changed { need += $3 } END { printf "%.0f", need / 1024 + 1024 }' "$own_folder/changed" -)
  own_free=$(df -Pk /boot | awk 'NR == 2 { print $4 }')
  own_more=$( (cd /boot && tr '\n' '\0' <"$own_folder/extra" | xargs -0 -r du -k) | awk '{ more += $1 } END { printf "%.0f", more }')
  [ "$own_need" -le "$((own_free + own_more))" ] || own_fail "/boot has $((own_free / 1024)) MiB free, and $((own_need / 1024)) MiB of its files are to be put back" "Make room in /boot, and order it again."
  rm -rf "$own_stage"
  [ "$own_need" -le "$own_free" ] || own_remove_extra
  if [ -s "$own_folder/changed" ]; then
    own_do mkdir "$own_stage"
    own_do tar -xpf "$1" -C "$own_stage" -T "$own_folder/changed"
    sync
    while IFS= read -r own_file <&5; do
      own_do mkdir -p "/boot/${own_file%/*}"
      own_do mv -fT "$own_stage/$own_file" "/boot/$own_file"
    done 5<"$own_folder/changed"
    rm -rf "$own_stage"
  fi
  sync
  own_remove_extra
  sync
}

own_reboot() {
  own_order='sleep 1; sync; systemctl reboot || shutdown -r now || reboot -f'
  if [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; then
    systemctl reset-failed fleetpatch-revert.service 2>/dev/null
    own_run systemd-run --quiet --no-ask-password --no-block --unit=fleetpatch-revert -p DefaultDependencies=no /bin/sh -c "$own_order" >/dev/null 2>&1
  else
    setsid /bin/sh -c "$own_order" </dev/null >/dev/null 2>&1 3>&- 7>&- &
  fi
  fp_emit rebooting
}
