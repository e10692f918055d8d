#!/bin/sh
# The flags for rpm (tsflags) that would make a transaction something else than an installation.

# fp_tsflags FILE…: the option that leaves them out of the owner's flags in these files of settings; nothing if there are none
fp_tsflags() {
  cat "$@" 2>/dev/null | sed -n 's/^tsflags[[:space:]]*=//p' | tr -s ',[:space:]' '\n' | grep . | awk '
    tolower($0) ~ /^(test|justdb|noscripts|notriggers)$/ { bad = 1; next }
    { kept = kept "," $0 }
    END { if (bad) print "--setopt=tsflags=" (kept == "" ? "" : kept) }' # an empty first word: instead of those in the files
}
