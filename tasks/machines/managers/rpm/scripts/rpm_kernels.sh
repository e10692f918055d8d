# shellcheck shell=sh
# Reads the installed kernel packages, and which ones the tool would remove. Changes nothing. Parameters: rule (zypper's
# command that tells it; empty for tools without one).
# Records: state {native, kernel}, sections "packages" (the lines of fp_rpm_query) and, with a rule, "unused".
# Step: validate
# Changes: nothing
# Requires: manager_environment, rpm_query

fp_ask_rpm
# shellcheck disable=SC2154  # set by fp_ask_rpm
fp_emit state native="$fp_arch" kernel="$(uname -r)"
fp_answer packages fp_rpm_query -a 'kernel*'
rule=$(fp_param rule)
[ -z "$rule" ] || fp_answer unused zypper --non-interactive "$rule" --dry-run
exit 0
