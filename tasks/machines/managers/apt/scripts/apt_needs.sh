# shellcheck shell=sh
# Reads which packages somebody has chosen, and which nothing needs. Changes nothing. Parameters: packages (list of names).
# Records: sections "chosen" (names, of those in the list) and "needless" (the simulation of apt's autoremove).
# Step: install
# Changes: nothing
# Requires: manager_environment, apt_options
# shellcheck disable=SC2154  # set by fp_set_param

fp_set_param packages
# shellcheck disable=SC2086  # names have no blanks and no wildcards
fp_section chosen apt-mark showmanual $packages
fp_section needless fp_apt_get -s autoremove
exit 0
