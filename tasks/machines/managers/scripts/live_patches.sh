#!/bin/sh
# Reads which live patches the running kernel has, and which CVEs newer installed kernels fix. Changes nothing. A tool
# that is not installed costs nothing, and one that does not answer is left after its time.

# assess_live_patches CONTAINER: nothing in a container (true), where the kernel is the host's. Records: live_patching
# {kernel} if anything is known; live_patch {name, enabled, transition}; live_patch_package {name, version, release,
# cves}; other_kernel {release, relation (newer, older or unknown), cves}. Sections, each the output of a tool:
# canonical_livepatch, pro_reboot_required, klp, ksplice.
assess_live_patches() {
  [ "$1" != true ] || return 0
  live_patch_kernel=$(uname -r) live_patch_loaded=0 live_patch_packages=
  live_patch_canonical=$(command -v canonical-livepatch || command -v /snap/bin/canonical-livepatch) || :
  live_patch_ksplice=$(command -v ksplice || command -v uptrack-show) || :
  for live_patch_folder in /sys/kernel/livepatch/* /sys/kernel/kpatch/* /sys/kernel/kpatch/patches/*; do
    [ -e "$live_patch_folder/enabled" ] || continue
    live_patch_loaded=$((live_patch_loaded + 1))
    [ "$live_patch_loaded" -le 50 ] || break
    assess_loaded_live_patch "$live_patch_folder"
  done
  if [ -n "$live_patch_canonical" ]; then
    limit_live_patch_tool canonical_livepatch "$live_patch_canonical" status --format json
    if command -v pro >/dev/null; then
      limit_live_patch_tool pro_reboot_required pro api u.pro.security.status.reboot_required.v1
    fi
  fi
  if command -v klp >/dev/null; then limit_live_patch_tool klp klp -v patches; fi
  case $live_patch_ksplice in
    '') ;;
    *uptrack-show) limit_live_patch_tool ksplice uptrack-show ;;
    *) limit_live_patch_tool ksplice ksplice kernel show ;;
  esac
  if command -v kpatch >/dev/null && command -v rpm >/dev/null; then assess_live_patch_packages; fi
  [ "$live_patch_loaded$live_patch_canonical$live_patch_ksplice$live_patch_packages" != 0 ] || return 0
  fp_emit live_patching kernel="$live_patch_kernel"
  [ "$live_patch_loaded$live_patch_ksplice" = 0 ] || ! command -v rpm >/dev/null || assess_other_kernels
}

assess_loaded_live_patch() { # FOLDER in /sys; older kernels have no "transition"
  live_patch_enabled='' live_patch_transition=0
  { IFS= read -r live_patch_enabled <"$1/enabled"; } 2>/dev/null || :
  [ ! -e "$1/transition" ] || IFS= read -r live_patch_transition <"$1/transition" || :
  fp_emit live_patch name="${1##*/}" enabled="$live_patch_enabled" transition="$live_patch_transition"
}

limit_live_patch_tool() { # SECTION COMMAND…; without a way to end it, the tool is not called
  live_patch_section=$1; shift
  if command -v timeout >/dev/null; then fp_section "$live_patch_section" timeout -k 5 20 "$@" || :; fi
}

# the installed kpatch-patch packages, with the CVEs of their changelogs
assess_live_patch_packages() {
  live_patch_packages=$(rpm -qa --qf '%{NAME}\t%{VERSION}\t%{RELEASE}\n' 'kpatch-patch-*' 2>/dev/null | awk 'NR <= 20')
  [ -n "$live_patch_packages" ] || return 0
  printf '%s\n' "$live_patch_packages" | while IFS='	' read -r live_patch_name live_patch_version live_patch_release; do
    fp_emit live_patch_package name="$live_patch_name" version="$live_patch_version" release="$live_patch_release" \
      cves="$(list_changelog_cves "$live_patch_name-$live_patch_version-$live_patch_release" </dev/null)"
  done
}

# list_changelog_cves PACKAGE [OLDER]: the CVEs that the package's changelog names. With OLDER only those above the
# place where that package's changelog begins, and the exit code says whether it has such a place: two kernels of one
# stream have the same changelog up to the older one's build. rpm is always read to its end, so that no signal ends it.
list_changelog_cves() {
  live_patch_mark=
  if [ -n "${2:-}" ]; then
    live_patch_mark=$(rpm -q --changelog "$2" 2>/dev/null | awk 'NR <= 5')
    [ -n "$live_patch_mark" ] || return 1
  fi
  rpm -q --changelog "$1" 2>/dev/null | mark=$live_patch_mark awk '
    function take(s) {
      while (match(s, /CVE-[0-9]+-[0-9]+/)) {
        cve = substr(s, RSTART, RLENGTH); s = substr(s, RSTART + RLENGTH)
        if (!(cve in seen) && count < 20000) { seen[cve] = 1; count++; printf "%s%s", (count > 1 ? " " : ""), cve }
      }
    }
    function marked(   i) { for (i = 1; i <= size; i++) if (held[NR - size + i] != wanted[i]) return 0; return 1 }
    BEGIN { mark = ENVIRON["mark"]; size = mark == "" ? 0 : split(mark, wanted, "\n") }
    found { next }
    size == 0 { take($0); next }
    { held[NR] = $0 }
    NR >= size {
      if (held[NR - size + 1] == wanted[1] && marked()) { found = 1; next }
      take(held[NR - size + 1]); delete held[NR - size + 1]
    }
    END { exit (size > 0 && (!found || count == 20000)) }'
}

# Each installed kernel of the running kernel's package but itself: whether it is newer, and the CVEs it fixes.
assess_other_kernels() {
  live_patch_running=$(rpm -qf --qf '%{NAME}\t%{VERSION}-%{RELEASE}\t%{ARCH}\n' \
    "/lib/modules/$live_patch_kernel/vmlinuz" "/boot/vmlinuz-$live_patch_kernel" 2>/dev/null \
    | awk -F '\t' 'NF == 3 && !n++')
  [ -n "$live_patch_running" ] || return 0
  live_patch_name=${live_patch_running%%	*}
  live_patch_own=$live_patch_name-$(printf '%s\n' "$live_patch_running" | awk -F '\t' '{ print $2 "." $3 }')
  rpm -q --qf '%{VERSION}-%{RELEASE}\t%{ARCH}\n' "$live_patch_name" 2>/dev/null | awk 'NR <= 20' \
    | while IFS='	' read -r live_patch_release live_patch_arch; do
      live_patch_other=$live_patch_name-$live_patch_release.$live_patch_arch live_patch_relation=unknown
      [ "$live_patch_other" != "$live_patch_own" ] || continue
      if live_patch_cves=$(list_changelog_cves "$live_patch_other" "$live_patch_own" </dev/null); then
        live_patch_relation=newer
      else
        live_patch_cves=
        list_changelog_cves "$live_patch_own" "$live_patch_other" </dev/null >/dev/null && live_patch_relation=older
      fi
      fp_emit other_kernel release="$live_patch_release" relation="$live_patch_relation" cves="$live_patch_cves"
    done
}
