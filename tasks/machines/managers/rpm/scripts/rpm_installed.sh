# shellcheck shell=sh
# Reads packages from rpm's database; an unknown package is no failure. Parameters: packages (list of names).
# Records: state {native}, sections "packages": the lines of fp_rpm_query, "duplicates": those of fp_rpm_duplicates.
# Requires: rpm_query, unfinished_packages

fp_set_rpm_arch
# shellcheck disable=SC2154  # set by fp_set_rpm_arch
fp_emit state native="$fp_arch"
twice=$(fp_rpm_duplicates) || exit 1 # an unreadable database is not an empty one
fp_set_param packages
# shellcheck disable=SC2086,SC2154  # names have no blanks and no wildcards; set by fp_set_param
fp_text_section packages "$(fp_rpm_query $packages)"
fp_text_section duplicates "$twice"
