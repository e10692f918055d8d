#!/bin/sh
# Functions that read dpkg's database for apt's scripts.

# fp_dpkg_query WORDS…: dpkg-query, repeated if it can't read: dpkg may have just removed a file of its journal
fp_dpkg_query() {
  for fp_try in 1 2 3 4; do
    fp_found=$(dpkg-query "$@"); fp_asked=$?
    [ "$fp_asked" -gt 1 ] && [ "$fp_try" -lt 4 ] || break # 1: no such package
    sleep 1
  done
  [ -z "$fp_found" ] || printf '%s\n' "$fp_found"
  return "$fp_asked"
}
