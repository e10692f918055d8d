#!/bin/sh
# Which packages somebody has chosen, and which nothing needs, as libzypp notes it. Without repositories: none is read.

# NAME…: those that libzypp does not note as a dependency, and those that somebody has named in an installation: of what is
# installed already, zypper writes that into its log alone
chosen() {
  printf '%s\n' "$@" | awk -v q="'" '
    function is_of(word, name) { return word == name || (index(word, name) == 1 && substr(word, length(name) + 1) ~ /^(-[0-9]|[.=<>])/) }
    NR == FNR { names[$0]; next }
    FILENAME ~ /AutoInstalled$/ { automatic[$0]; next }
    / ===== / && (index($0, q "install" q) || index($0, q "in" q)) && !($0 ~ q "(--dry-run|-D|--download-only|-d)" q) {
      count = split($0, words, q)
      for (i = 2; i <= count; i += 2) for (name in names) if (is_of(words[i], name)) named[name]
    }
    END { for (name in names) if (!(name in automatic) || name in named) print name }' - \
    "$(readable /var/lib/zypp/AutoInstalled)" "$(readable "${ZYPP_LOGFILE:-/var/log/zypper.log}")"
}
readable() { if [ -r "$1" ]; then echo "$1"; else echo /dev/null; fi; }

needless() { # of all
  found=$(ZYPP_READONLY_HACK=1 zypper --non-interactive --quiet --no-refresh --disable-repositories packages --unneeded) || { printf '%s\n' "$found" >&2; return 1; }
  found=$(printf '%s\n' "$found" | awk -F ' *[|] *' 'NF == 5 && $1 ~ /^i/ { sub(/ +$/, "", $5); print $3 "." $5 }')
  [ -n "$found" ] || return 0
  # shellcheck disable=SC2046,SC2086  # names have no blanks and no wildcards
  picked=$(chosen $(printf '%s\n' $found | sed 's/\.[^.]*$//')) || return 1
  # shellcheck disable=SC2086  # as above
  { printf '%s\n' "$picked" ''; printf '%s\n' $found; } |
    awk '$0 == "" { listed = 1; next } !listed { chosen[$0]; next } { name = $0; sub(/\.[^.]*$/, "", name) } !(name in chosen)'
}
