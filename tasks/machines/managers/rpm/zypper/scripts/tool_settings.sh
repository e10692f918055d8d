#!/bin/sh
# The machine's settings of libzypp, the options that keep them from changing what an installation means, and its
# repositories.
# docs/reference/platforms.md has the list.
# shellcheck disable=SC2034  # used by the scripts that this is put before

zypp_files='/usr/etc/zypp/zypp.conf /usr/etc/zypp/zypp.conf.d/*.conf /etc/zypp/zypp.conf /etc/zypp/zypp.conf.d/*.conf'
# shellcheck disable=SC2086  # files
zypp_settings=$(sed -n 's/^ *\([^][ #=]*\) *= *\(.*[^ ]\) *$/\1=\2/p' $zypp_files 2>/dev/null) # "NAME=VALUE", the last one counts
find_setting() { # NAME DEFAULT: sets value
  value=$2
  while IFS='=' read -r key said; do [ "$key" != "$1" ] || value=$said; done <<SETTINGS
$zypp_settings
SETTINGS
}

# solver.focus = Update would update what a package needs along with it. An older zypper knows neither it nor the option.
solver_options=''
find_setting solver.focus ''
[ -z "$value" ] || solver_options='--solver-focus Job'

find_setting cachedir /var/cache/zypp; cache=$value
find_setting metadatadir "$cache/raw"; raw=$value
find_setting solvfilesdir "$cache/solv"; solv=$value
find_setting packagesdir "$cache/packages"; cached=$value
find_setting reposdir /etc/zypp/repos.d; repositories_folder=$value
find_setting locksfile.path /etc/zypp/locks; locks_file=$value

# "alias<tab>name<tab>yes, no, or page: it was read, or a page of a proxy in its place<tab>yes or no: it has patches<tab>when its copy was last found to be
# current, or nothing<tab>how it is reached: the scheme of its URL" of each repository that is enabled. libzypp touches the index file when the copy is
# current. A copy of a folder keeps the folder's times: then the folder of the copy tells when it was made.
repositories() {
  listed=''
  set -- "$repositories_folder"/*.repo
  [ ! -e "$1" ] || listed=$(awk '
      function put() { if (alias != "" && enabled) print alias "\t" scheme "\t" name; alias = "" }
      FNR == 1 { put() }
      { sub(/\r$/, ""); sub(/^[ \t]+/, ""); sub(/[ \t]+$/, "") }
      /^\[.*\]/ { put(); alias = $0; sub(/^\[/, "", alias); sub(/\].*/, "", alias); name = alias; enabled = 1; scheme = "-" }
      /^name *=/ { name = $0; sub(/^[^=]*= */, "", name); gsub(/\t/, " ", name) }
      /^baseurl *=/ { scheme = $0; sub(/^[^=]*= */, "", scheme); sub(/:.*/, "", scheme); scheme = tolower(scheme) }
      /^enabled *=/ { sub(/^[^=]*= */, ""); enabled = tolower($0) ~ /^(yes|true|on|[+]|0*[1-9][0-9]*)$/ } # as libzypp does (str::strToTrue)
      END { put() }' "$@")
  while IFS='	' read -r alias scheme name; do
    [ -n "$alias" ] || continue
    find_folder "$alias"
    read=no patches=no
    [ ! -e "$solv/$folder/solv" ] || read=yes
    index=$raw/$folder/repodata/repomd.xml read_at=''
    # without repodata it is in SUSE's older format: a file for each patch
    [ -e "$index" ] || index=$raw/$folder/content
    [ ! -d "$raw/$folder/suse/setup/descr" ] || patches=yes
    if [ -e "$index" ]; then
      for touched in $(stat -c %Y "$index" "$raw/$folder" 2>/dev/null); do [ "$touched" -le "${read_at:-0}" ] || read_at=$touched; done
      marks=$(grep -oi -e '<data type="updateinfo"' -e '<html' "$index" 2>/dev/null)
      case $marks in *updateinfo*) patches=yes ;; esac
      case $marks in *'<'[Hh]*) read=page ;; esac # zypper takes any answer for an index
    fi
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$alias" "$name" "$read" "$patches" "$read_at" "$scheme"
  done <<LISTED
$listed
LISTED
}
find_folder() { # ALIAS: sets folder to the name of its copy's folder
  folder=$1
  while :; do case $folder in */*) folder=${folder%%/*}_${folder#*/} ;; *) return 0 ;; esac; done
}

find_readable() { # the aliases of the repositories that were read, if another one was not
  case ${known_repositories:=$(repositories)} in *'	no	'* | *'	page	'*) ;; *) return 0 ;; esac
  printf '%s\n' "$known_repositories" | awk -F '\t' '$3 == "yes" { read = read $1 "\n" } $3 != "yes" { lacking = 1 } END { if (lacking) printf "%s", read }'
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
