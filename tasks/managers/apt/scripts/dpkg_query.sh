#!/bin/sh
# What apt's scripts share that read dpkg's database.

# fp_dpkg_query WORDS…: dpkg-query, asked again when it can't read: dpkg may just have taken a file of its journal away
fp_dpkg_query() {
  for fp_try in 1 2 3 4; do
    fp_found=$(dpkg-query "$@"); fp_asked=$?
    [ "$fp_asked" -gt 1 ] && [ "$fp_try" -lt 4 ] || break # 1: it knows no such package
    sleep 1
  done
  [ -z "$fp_found" ] || printf '%s\n' "$fp_found"
  return "$fp_asked"
}
