# shellcheck shell=sh
# A detached job: enrols the machine for live patches of its kernel, or ends that, by the means that its vendor
# documents. Nothing here ends a command: some of them install packages.
# Parameters: provider (livepatch, kpatch or klp), action (enroll, unenroll, enable or disable), product (klp: the module
# as SUSEConnect names it).
# Records: enrolment_step (command, at), enrolment_ended (exit_code, error, at).
# Step: order
# Changes: the enrolment for live patches, with the packages that its vendor's command installs
# Requires: manager_environment

trap : HUP INT TERM # a handler, not "ignore": children must not inherit it
log=$FP_JOB_DIR/log

step() { # COMMAND…: run it, and end the job if it fails
  [ "$code" -eq 0 ] || return 0
  fp_emit enrolment_step command="$*" at:="$(fp_now)"
  from=$(wc -c <"$log")
  "$@" 3>&-
  code=$?
}

last_words() { tail -c "+$((${from:-0} + 1))" "$log" 2>/dev/null | tail -c 4096 | grep . | tail -n 3 | awk '{ printf "%s%s", (NR > 1 ? "; " : ""), $0 }'; }

code=0 error=''
case $(fp_param provider):$(fp_param action) in
  livepatch:enroll | livepatch:enable) step pro enable livepatch --assume-yes ;;
  livepatch:unenroll | livepatch:disable) step pro disable livepatch --assume-yes ;;
  kpatch:enroll)
    step dnf -y install kpatch kpatch-dnf
    step dnf -y kpatch auto
    step systemctl enable kpatch.service
    ;;
  kpatch:enable)
    step dnf -y kpatch auto
    step systemctl enable kpatch.service
    ;;
  kpatch:disable) step dnf -y kpatch manual ;;
  kpatch:unenroll)
    step dnf -y kpatch manual
    step systemctl disable kpatch.service
    ;;
  klp:enroll)
    step SUSEConnect -p "$(fp_param product)"
    step zypper --non-interactive install -t pattern lp_sles
    ;;
  klp:enable) step zypper --non-interactive install -t pattern lp_sles ;;
  klp:unenroll) step SUSEConnect -d -p "$(fp_param product)" ;;
  *) code=64 error='this is not known' ;;
esac
[ "$code" -eq 0 ] || error=${error:-$(last_words)}
fp_emit enrolment_ended exit_code:="$code" error="$error" at:="$(fp_now)"
