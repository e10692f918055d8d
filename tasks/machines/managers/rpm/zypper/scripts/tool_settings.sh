#!/bin/sh
# The machine's settings of libzypp, the options that keep them from changing what an installation means, and its
# repositories.
# docs/reference/platforms.md has the list.
# shellcheck disable=SC2034  # used by the scripts that this is put before

zypp_settings() { cat /usr/etc/zypp/zypp.conf /usr/etc/zypp/zypp.conf.d/*.conf /etc/zypp/zypp.conf /etc/zypp/zypp.conf.d/*.conf 2>/dev/null; }
setting() { # NAME DEFAULT
  value=$(zypp_settings | sed -n "s/^ *$1 *= *\(.*[^ ]\) *\$/\1/p" | tail -n 1)
  printf '%s\n' "${value:-$2}"
}

# solver.focus = Update would update what a package needs along with it. An older zypper knows neither it nor the option.
solver_options=''
[ -z "$(setting solver.focus '')" ] || solver_options='--solver-focus Job'

cache=$(setting cachedir /var/cache/zypp)
raw=$(setting metadatadir "$cache/raw") solv=$(setting solvfilesdir "$cache/solv") cached=$(setting packagesdir "$cache/packages")

# "alias<tab>name<tab>yes, no, or page: it was read, or a page of a proxy in its place<tab>yes or no: it has patches<tab>when its copy was last found to be
# current, or nothing<tab>how it is reached: the scheme of its URL" of each repository that is enabled. libzypp touches the index file when the copy is
# current. A copy of a folder keeps the folder's times: then the folder of the copy tells when it was made.
repositories() {
  for file in "$(setting reposdir /etc/zypp/repos.d)"/*.repo; do
    [ ! -e "$file" ] || awk '
      function put() { if (alias != "" && enabled) print alias "\t" scheme "\t" name }
      { sub(/\r$/, ""); sub(/^[ \t]+/, ""); sub(/[ \t]+$/, "") }
      /^\[.*\]/ { put(); alias = $0; sub(/^\[/, "", alias); sub(/\].*/, "", alias); name = alias; enabled = 1; scheme = "-" }
      /^name *=/ { name = $0; sub(/^[^=]*= */, "", name); gsub(/\t/, " ", name) }
      /^baseurl *=/ { scheme = $0; sub(/^[^=]*= */, "", scheme); sub(/:.*/, "", scheme); scheme = tolower(scheme) }
      /^enabled *=/ { sub(/^[^=]*= */, ""); enabled = tolower($0) ~ /^(yes|true|on|[+]|0*[1-9][0-9]*)$/ } # as libzypp does (str::strToTrue)
      END { put() }' "$file"
  done | while IFS='	' read -r alias scheme name; do
    folder=$(printf %s "$alias" | tr / _) read=no patches=no
    [ ! -e "$solv/$folder/solv" ] || read=yes
    # without repodata it is in SUSE's older format: a file for each patch
    if grep -q '<data type="updateinfo"' "$raw/$folder/repodata/repomd.xml" 2>/dev/null \
      || [ -d "$raw/$folder/suse/setup/descr" ]; then patches=yes; fi
    index=$raw/$folder/repodata/repomd.xml
    [ -e "$index" ] || index=$raw/$folder/content
    read_at=''
    [ ! -e "$index" ] || read_at=$(stat -c %Y "$index" "$raw/$folder" 2>/dev/null | sort -n | tail -n 1)
    ! grep -qi '<html' "$index" 2>/dev/null || read=page # zypper takes any answer for an index
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$alias" "$name" "$read" "$patches" "$read_at" "$scheme"
  done
}

find_readable() { # the aliases of the repositories that were read, if another one was not
  repositories | awk -F '\t' '$3 == "yes" { read = read $1 "\n" } $3 != "yes" { lacking = 1 } END { if (lacking) printf "%s", read }'
}

# zypper_of_readable COMMAND ARGUMENTS…: zypper in place of this shell, with $zypper_words before the command. Even with
# --no-refresh, zypper reads a repository that it has never read, however long that takes. So if there is one, only the
# others are named. Their options come before the names of packages: "zypper install" takes an option behind one for a
# package that is to be removed.
zypper_of_readable() {
  command=$1; shift
  while IFS= read -r alias; do [ -z "$alias" ] || set -- --repo "$alias" "$@"; done <<EOF
${readable=$(find_readable)}
EOF
  # shellcheck disable=SC2086,SC2154  # options; set by who calls it
  exec zypper $zypper_words "$command" "$@"
}
