# shellcheck shell=sh
# Simulates the installation of a set of packages. Changes nothing. Parameters: packages (list of name=version), uris
# ("yes": also the missing downloads, if apt accepts the set). Records: sections "simulation" and "uris".
# Requires: manager_environment, apt_options

# shellcheck disable=SC2046  # package names and versions have no blanks and no wildcards
simulation=$(fp_apt_get -s -y install $(fp_param packages) 2>&1)
agreed=$?
fp_section simulation printf '%s\n' "$(printf '%s\n' "$simulation" | grep -v '^Conf ')"
if [ "$agreed" -eq 0 ] && [ "$(fp_param uris)" = yes ]; then
  # shellcheck disable=SC2046  # package names and versions have no blanks and no wildcards
  fp_section uris fp_apt_get -qq -y --print-uris install $(fp_param packages)
fi
exit 0
