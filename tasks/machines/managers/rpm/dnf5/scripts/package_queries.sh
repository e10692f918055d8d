#!/bin/sh
# What an assessment and a simulation ask dnf 5. It works from its copy of the repositories' data (-C), and needs no lock
# for that. dnf 5 is started six times; once more if packages are held, twice more if updates need new packages.
# shellcheck disable=SC2034,SC2154  # used by, or set by, the scripts that this is put before
# Requires: dnf_family, tool_settings

lock_files=/run/dnf/rpmtransaction.lock
pid_files=''
busy_code=200 # none of its exit codes
cache_folder=$(sed -n 's/^system_cachedir *= *//p' /etc/dnf/libdnf5.conf.d/*.conf /etc/dnf/dnf.conf 2>/dev/null | tail -n 1)
cache_folder=${cache_folder:-/var/cache/libdnf5}
line_end='\n'

# one repository that does not answer, or was never read, must not keep the others from being used
# shellcheck disable=SC2086  # options
dnf_query() { dnf5 -C --setopt='*.skip_if_unavailable=True' --assumeno $tool_settings "$@"; }
all_versions='--setopt=disable_excludes=*'
read_repositories() {
  fp_limited "$(fp_param refresh_seconds)" dnf5 --setopt='*.skip_if_unavailable=True' --assumeno makecache --refresh
}

locked_versions() { grep -HE '^[[:space:]]*name[[:space:]]*=' /etc/dnf/versionlock.toml 2>/dev/null; }
hidden_versions() { # --upgrades would leave out locked versions. Words of $held are names and patterns of packages.
  [ -n "$held" ] || return 0
  said "$held" | sed 's/^[^:]*:[^=]*=//; s/#.*//' | tr -s "[:space:],\"'" '\n' | grep -E '^[A-Za-z0-9_*?[][A-Za-z0-9_.+~^:*?[-]*' | sort -u \
    | xargs dnf5 -C --setopt='*.skip_if_unavailable=True' -q "$all_versions" repoquery --available --latest-limit=1 --qf "$details$line_end"
}

advisories() { # without the texts, which can be megabytes: one field a line, and none of these is the last of its object
  described=$(dnf_query -q "$all_versions" advisory info --available --json); code=$?
  said "$described" | grep -vE '^ *"(Title|Description|Message|Rights|Vendor|Status)":'
  return "$code"
}

# Its table of a transaction as the lines of dnf 4: headings, " NAME ARCH VERSION REPOSITORY SIZE", and below that
# "   replacing NAME ARCH VERSION …" for what goes
# shellcheck disable=SC2016  # awk's $
transaction_lines='
  function tell(package, arch, version, action) { sub(/^0:/, "", version); print "---> Package " package "." arch " " version " will be " action }
  /^Transaction Summary/ { action = "" }
  /^[A-Z].*: *$/ {
    action = ""
    if ($0 ~ /^Installing( dependencies| weak dependencies| group packages| group\/module packages)?:/) action = "installed"
    if ($0 ~ /^Upgrading:/) action = "an upgrade"
    if ($0 ~ /^Downgrading:/) action = "a downgrade"
    if ($0 ~ /^Reinstalling:/) action = "reinstalled"
    if ($0 ~ /^Removing( dependent packages| unused dependencies)?:/) action = "erased"
  }
  /^ [^ ]/ && action != "" && $2 ~ /^[a-z0-9_]+$/ && $3 ~ /-/ { name = $1; tell($1, $2, $3, action) }
  /^   replacing / && action != "" && $4 ~ /-/ { tell($2, $3, $4, $2 == name ? "upgraded" : "obsoleted") }
  /^(Failed to resolve|No match for argument|Argument |Packages for argument|Problem| Problem|Nothing to do|Operation aborted|Failed to)/ || /^  - / { print }'
simulate() { # ARGUMENTS…
  transaction=$(FORCE_COLUMNS=500 DNF5_FORCE_COLUMNS=500 COLUMNS=500 dnf_query "$@" 2>&1); code=$?
  transaction=$(said "$transaction" | awk "$transaction_lines")
}

restart_names() { # those of which its plugin says so; advisories are among its reasons
  for plugin in /usr/lib*/dnf5/plugins/needs_restarting_cmd_plugin.so /usr/lib/*/dnf5/plugins/needs_restarting_cmd_plugin.so; do
    [ -e "$plugin" ] || continue
    dnf_query -q needs-restarting -r | sed -n 's/^  \* //p'
    return 0
  done
}

find_release_lock() { release=''; } # no distribution with dnf 5 has one
