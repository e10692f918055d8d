#!/bin/sh
# What an assessment and a simulation ask dnf 4. It works from its copy of the repositories' data (-C), and gives up at
# once if another process has its lock (exit code 200). One process answers all questions (see dnf_process.sh).
# shellcheck disable=SC2034,SC2154  # used by, or set by, the scripts that this is put before
# Requires: dnf_family, tool_settings, dnf_process

fp_start_dnf

lock_files=''
pid_files='/var/cache/dnf/metadata_lock.pid /var/cache/dnf/download_lock.pid /var/lib/dnf/rpmdb_lock.pid'
busy_code=200

# one repository that does not answer, or was never read, must not keep the others from being used
dnf_words="--setopt=exit_on_lock=True --setopt=*.skip_if_unavailable=True --assumeno"
# shellcheck disable=SC2086  # options
dnf_query() { fp_ask_until_unlocked fp_ask_dnf 0 -C $dnf_words $tool_settings "$@"; }
all_versions='--disableexcludes=all --disableplugin=versionlock,foreman-protector' # also those that the machine's owner holds back
cache_folder=/var/cache/dnf
line_end=''

read_repositories() {
  fp_set_param refresh_seconds
  # shellcheck disable=SC2086  # options
  fp_ask_dnf "${refresh_seconds:-0}" $dnf_words -d 2 -e 3 makecache --refresh || { # whatever dnf.conf says, it writes what fails
    code=$?
    [ "$code" -ne 142 ] || code=124 # SIGALRM: as fp_limited says it
    return "$code"
  }
}

locked_versions() { # its plugin's settings say in which file they are
  list=''
  [ ! -e /etc/dnf/plugins/versionlock.conf ] || list=$(sed -n 's/^locklist *= *//p' /etc/dnf/plugins/versionlock.conf 2>/dev/null)
  list=${list##*"$fp_newline"} list=${list:-/etc/dnf/plugins/versionlock.list}
  [ ! -e "$list" ] || sed -n 's/^[[:space:]]*[^#[:space:]]/versionlock.list:&/p' "$list" 2>/dev/null
}
hidden_versions() { # plugins hide packages, too: versionlock, Satellite's foreman-protector
  dnf_query -q --disableexcludes=all --noplugins repoquery --upgrades --qf "$details"
}

# Of the descriptions of advisories, only these fields: the rest can be megabytes. A label ends in column 11. The files
# have no epochs. So a file of an installed package with an epoch ("=") counts only if dnf lists it ("+") as newer.
# shellcheck disable=SC2016  # awk's $
advisory_fields='
  /^[+]/ { sub(/-[0-9]+:/, "-"); newer[substr($0, 2)]; filters = 1; next }
  /^=[^=]/ { installed[substr($0, 2)]; next }
  substr($0, 12, 2) == ": " {
    label = substr($0, 1, 11); sub(/^ +/, "", label); if (label != "") field = label
    if (field ~ /^(Update ID|Type|Updated|CVEs|Severity)$/) print
    if (field != "Files") next
    file = arch = substr($0, 14); sub(/\.rpm$/, "", file); sub(/\.rpm$/, "", arch); name = file
    sub(/.*\./, "", arch); sub(/-[^-]*-[^-]*$/, "", name)
    if (!filters || file in newer || !((name "." arch) in installed)) print "      Files: " file ".rpm" }
  /^=====/ { field = "" }'
advisories() {
  # shellcheck disable=SC2086  # options
  described=$(dnf_query -q -v $all_versions updateinfo info --available); code=$? listed=''
  [ -n "$described" ] || return "$code"
  with_epochs=$(awk -F '\t' 'NF >= 7 && $2 != 0 { print "=" $1 "." $5 }' <<INSTALLED
$installed
INSTALLED
  )
  # shellcheck disable=SC2086  # options
  [ -z "$with_epochs" ] || listed=$(dnf_query -q $all_versions updateinfo list --available) || code=$?
  [ -z "$listed" ] || listed=$(said "$listed" | awk '$NF ~ /-[^-]*-[^-]*\./ { print "+" $NF }')
  awk "$advisory_fields" <<FIELDS
$listed
$with_epochs
$described
FIELDS
  return "$code"
}

# shellcheck disable=SC2086  # options
simulate_once() { fp_ask_dnf 0 -C $dnf_words $tool_settings -v "$@" 2>&1; }
simulate() { # ARGUMENTS…: sets transaction to the lines "---> Package NAME.ARCH VERSION will be …" and the errors, code to dnf's
  transaction=$(fp_until_unlocked simulate_once "$@"); code=$?
  transaction=$(awk '/^---> Package / || /^(Error|No match for argument|All matches were filtered out|cachedir|Problem| Problem)/ || /^  - / || /^Nothing to do/ || /^Operation aborted/' <<SAID
$transaction
SAID
  )
}

restart_names() { # its plugin looks there
  for file in /etc/dnf/plugins/needs-restarting.d/*.conf; do [ ! -e "$file" ] || cat "$file"; done
}

# Amazon Linux reads the repositories of one release, which never change: "" if it follows the newest
find_release_lock() {
  release=''
  [ -r /etc/os-release ] || return 0
  while IFS= read -r line; do
    case $line in 'ID=amzn' | 'ID="amzn"') release=$(cat /etc/dnf/vars/releasever 2>/dev/null || rpm -q --qf '%{VERSION}' system-release) ;; esac
  done </etc/os-release
  [ "$release" != latest ] || release=''
}
