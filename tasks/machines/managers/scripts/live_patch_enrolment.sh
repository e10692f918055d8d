#!/bin/sh
# Reads whether the machine is enrolled for live patches of its kernel. Changes nothing. A tool that is not installed
# costs nothing, and one that does not answer is left after its time.
# Requires: live_patches

# assess_live_patch_enrolment CONTAINER: nothing in a container (true), where the kernel is the host's. Record
# live_patch_enrolment {provider}, and by provider: livepatch with the sections pro_attached and pro_services; kpatch
# {plugin, automatic, service: "yes" or "no"}; klp {module, pattern: "yes" or "no"; version, arch: of the module}.
assess_live_patch_enrolment() {
  [ "$1" != true ] || return 0
  read_live_patch_system
  case $live_patch_id in
    ubuntu)
      command -v pro >/dev/null || return 0
      fp_emit live_patch_enrolment provider=livepatch
      limit_live_patch_tool pro_attached pro api u.pro.status.is_attached.v1
      limit_live_patch_tool pro_services pro api u.pro.status.enabled_services.v1
      ;;
    rhel | sles | sles_sap)
      command -v rpm >/dev/null || return 0
      if [ "$live_patch_id" = rhel ]; then assess_kpatch_enrolment; else assess_klp_enrolment; fi
      ;;
  esac
}

read_live_patch_system() { # sets live_patch_id and live_patch_version
  live_patch_id='' live_patch_version=''
  { while IFS='=' read -r live_patch_key live_patch_value; do
    live_patch_value=${live_patch_value#[\"\']} live_patch_value=${live_patch_value%[\"\']}
    case $live_patch_key in ID) live_patch_id=$live_patch_value ;; VERSION_ID) live_patch_version=$live_patch_value ;; esac
  done </etc/os-release; } 2>/dev/null || :
}
is_live_patch_package() { if rpm -q "$1" >/dev/null 2>&1; then echo yes; else echo no; fi; }

assess_kpatch_enrolment() { # the plugin is one of dnf; older systems have only yum
  command -v dnf >/dev/null || return 0
  live_patch_automatic=no live_patch_service=no
  ! grep -Eiq '^[ \t]*autoupdate[ \t]*[=:][ \t]*(true|yes|on|1)[ \t]*$' /etc/dnf/plugins/kpatch.conf 2>/dev/null \
    || live_patch_automatic=yes
  ! systemctl is-enabled --quiet kpatch.service >/dev/null 2>&1 || live_patch_service=yes
  fp_emit live_patch_enrolment provider=kpatch plugin="$(is_live_patch_package kpatch-dnf)" \
    automatic="$live_patch_automatic" service="$live_patch_service"
}

assess_klp_enrolment() {
  fp_emit live_patch_enrolment provider=klp module="$(is_live_patch_package sle-module-live-patching-release)" \
    pattern="$(is_live_patch_package patterns-lp-lp_sles)" version="$live_patch_version" arch="$(uname -m)"
}
