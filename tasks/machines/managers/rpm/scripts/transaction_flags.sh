#!/bin/sh
# The flags for rpm (tsflags) that would make a transaction something else than an installation.

# fp_tsflags FILE…: the option that leaves them out of the owner's flags in these files of settings; nothing if there are none
fp_tsflags() {
  for fp_file in "$@"; do
    shift
    [ ! -f "$fp_file" ] || set -- "$@" "$fp_file"
  done
  [ "$#" -eq 0 ] || awk '
    sub(/^tsflags[ \t]*=/, "") {
      count = split($0, flags, /[, \t\r]+/)
      for (k = 1; k <= count; k++)
        if (tolower(flags[k]) ~ /^(test|justdb|noscripts|notriggers)$/) bad = 1; else if (flags[k] != "") kept = kept "," flags[k]
    }
    END { if (bad) print "--setopt=tsflags=" (kept == "" ? "" : kept) }' "$@" # an empty first word: instead of those in the files
}
