# shellcheck shell=sh
# Reads which packages somebody has chosen, and which nothing needs. Changes nothing. Parameters: packages (list of names).
# Records: sections "chosen" (NAME or NAME.ARCH, of those in the list) and "needless" (NAME.ARCH), as the tool says.
# Step: install
# Changes: nothing
# Requires: manager_environment, package_needs
# shellcheck disable=SC2154  # set by fp_set_param

fp_set_param packages
# shellcheck disable=SC2086  # names have no blanks and no wildcards
fp_answer chosen chosen $packages
fp_answer needless needless
exit 0
