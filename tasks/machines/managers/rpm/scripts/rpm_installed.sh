# shellcheck shell=sh
# Reads packages from rpm's database; an unknown package is no failure. Parameters: packages (list of names).
# Records: state {native}, sections "packages": the lines of fp_rpm_query, "duplicates": those of fp_rpm_duplicates.
# Step: validate
# Changes: nothing
# Requires: rpm_query, unfinished_packages
# shellcheck disable=SC2154  # set by fp_ask_rpm and fp_set_param

fp_ask_rpm
fp_emit state native="$fp_arch"
installed=$(fp_rpm_query -a) || exit 1 # an unreadable database is not an empty one
fp_set_param packages
# a list goes to awk as its first lines: the kernel takes no argument of more than 128 KiB
rows=$(
  awk -F '\t' '$0 == "" { listed = 1; next } !listed { wanted[$1]; next } $1 in wanted' <<INSTALLED
$packages

$installed
INSTALLED
) || exit 1
fp_text_section packages "$rows"
fp_text_section duplicates "$(fp_rpm_duplicates "$installed")"
