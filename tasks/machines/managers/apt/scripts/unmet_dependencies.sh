#!/bin/sh
# Packages with unmet dependencies, because another one could not be unpacked: apt installs nothing beside them, dpkg can.
# fp_set_apart FILE: sets fp_unmet to what apt says of unmet dependencies. If there are any, apt is given a copy of dpkg's
# status in FILE, without just these dependencies, so that it leaves these packages alone. dpkg itself keeps to its own.
# A command that changes packages needs FILE in dpkg's folder, where apt looks for dpkg's locks then.
# shellcheck disable=SC2016  # awk's $, not the shell's
fp_without_unmet='
  function short(name) { sub(/:.*/, "", name); return name }
  NR == FNR {
    if (/^[^ ]/) unmet = /unmet dependencies:$|^Unsatisfied dependencies:$/
    else if (unmet) {
      if ($2 == ":") name = short($1)
      needed = $1 # one more alternative
      for (i = 1; i < NF; i++) if ($i ~ /^(Pre-?)?Depends:$|^(Breaks|Conflicts):$/) needed = $(i + 1)
      apart[name]; lacks[name, short(needed)]
    }
    next
  }
  {
    count = split($0, line, "\n"); name = substr(line[1], 10)
    if (!(name in apart)) { print; next }
    for (n = 1; n <= count; n++) {
      if (line[n] ~ /^Status: /) sub(/ (unpacked|half-configured)$/, " installed", line[n])
      if (line[n] ~ /^(Pre-Depends|Depends|Breaks|Conflicts): /) {
        field = line[n]; sub(/:.*/, "", field); sub(/^[^:]*: /, "", line[n])
        entries = split(line[n], entry, /, */); line[n] = ""
        for (i = 1; i <= entries; i++) {
          words = split(entry[i], word, /[|] */)
          for (w = 1; w <= words; w++) { sub(/[ :(].*/, "", word[w]); if ((name, word[w]) in lacks) break }
          if (w > words) line[n] = line[n] (line[n] == "" ? field ": " : ", ") entry[i]
        }
        if (line[n] == "") continue
      }
      printf "%s\n", line[n]
    }
    print ""
  }'

fp_set_apart() {
  fp_apt_options=${fp_apt_options%% -o Dir::State::status=*}
  fp_unmet=$(fp_apt_get -s check 2>&1)
  case $fp_unmet in *' unmet dependencies:'* | *'Unsatisfied dependencies:'*) ;; *) fp_unmet=''; return ;; esac
  printf '%s\n' "$fp_unmet" | awk "$fp_without_unmet" - RS='' ORS='\n\n' /var/lib/dpkg/status >"$1"
  if [ "$(grep -c '^Package: ' "$1")" != "$(grep -c '^Package: ' /var/lib/dpkg/status)" ]; then # the disk is full
    rm -f "$1"
    fp_unmet=''
    return
  fi
  fp_apt_options="$fp_apt_options -o Dir::State::status=$1 -o Dir::Cache::pkgcache="
}
