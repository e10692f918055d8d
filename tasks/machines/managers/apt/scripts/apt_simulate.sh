# shellcheck shell=sh
# Simulates the installation of a set of packages. Changes nothing. Parameters: packages (list of name=version), keep
# (list of names: they stay as they are, installed or not). Records: sections "simulation" and, if apt accepts the set
# without keep, "uris" (the missing downloads); those of apt_kept.sh.
# Step: assess
# Changes: nothing
# Requires: manager_environment, apt_options, apt_kept, unmet_dependencies
# shellcheck disable=SC2154  # parameters

fp_set_param packages
# shellcheck disable=SC2086  # package names and versions have no blanks and no wildcards
[ "$downgrades" != yes ] || packages=$(fp_with_kept $packages)
fp_set_param keep
keep_words() { # as arguments of apt: "name=version" of what is installed, "name-" of what is not
  for name in $keep; do
    version=$(dpkg-query -W -f '${db:Status-Status} ${Version}' "$name" 2>/dev/null)
    case $version in 'installed '*) echo "$name=${version#* }" ;; *) echo "$name-" ;; esac
  done
}
kept=$(keep_words)
# shellcheck disable=SC2086  # package names and versions have no blanks and no wildcards
simulate() { simulation=$(fp_apt_get -s -y install $packages $kept 2>&1); agreed=$?; }

simulate
if [ "$agreed" -ne 0 ]; then
  view=$(mktemp)
  fp_set_apart "$view"
  [ -z "$fp_unmet" ] || simulate
fi
fp_text_section simulation "$(printf '%s\n' "$simulation" | grep -v '^Conf ')" "$agreed"
if [ "$agreed" -eq 0 ] && [ -z "$keep" ]; then
  # shellcheck disable=SC2086  # package names and versions have no blanks and no wildcards
  fp_section uris fp_apt_get -qq -y --print-uris install $packages
fi
[ -z "${view:-}" ] || rm -f "$view"
exit 0
