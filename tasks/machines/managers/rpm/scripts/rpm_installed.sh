# shellcheck shell=sh
# Reads packages from rpm's database; an unknown package is no failure. Parameters: packages (list of names).
# Records: state {native}, sections "packages": the lines of fp_rpm_query, "duplicates": those of fp_rpm_duplicates.
# Requires: rpm_query, unfinished_packages
# shellcheck disable=SC2154  # set by fp_ask_rpm and fp_set_param

fp_ask_rpm
fp_emit state native="$fp_arch"
installed=$(fp_rpm_query -a 2>/dev/null) || exit 1 # an unreadable database is not an empty one
fp_set_param packages
fp_text_section packages "$(
  awk -F '\t' -v names="$packages" '
    BEGIN { count = split(names, name, " "); for (k = 1; k <= count; k++) wanted[name[k]] }
    $1 in wanted' <<INSTALLED
$installed
INSTALLED
)"
fp_text_section duplicates "$(fp_rpm_duplicates "$installed")"
