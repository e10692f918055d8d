#!/bin/sh
# Functions for the files of components, each in the folder of its component by its digest: /var/lib/fleetpatch/components.
# Nobody else may write there: what root installs from there was compared with its digest before.
# shellcheck disable=SC2034  # used by the scripts that this is put before

fp_digest() { # FILE: prints its SHA-256
  if command -v sha256sum >/dev/null; then set -- "$(sha256sum <"$1")"
  elif command -v openssl >/dev/null; then set -- "$(openssl dgst -sha256 -r <"$1")"
  else set -- "$(shasum -a 256 <"$1")"; fi
  printf '%s' "${1%% *}"
}

fp_has_file() { [ -f "$1" ] && [ ! -h "$1" ] && [ "$(fp_digest "$1" 2>/dev/null)" = "$2" ]; } # FILE DIGEST

# fp_component_folder ABOVE NAME: sets fp_folder to the folder of a component, and makes it. If it can't be used, fp_why says why.
fp_component_folder() {
  fp_folder=$1/components
  for fp_place in "$fp_folder" "$fp_folder/$2"; do
    if [ -h "$fp_place" ] || { [ ! -d "$fp_place" ] && ! (umask 077; mkdir "$fp_place") 2>/dev/null; }; then
      fp_why="cannot make the folder $fp_place"
      return 1
    fi
    # shellcheck disable=SC3067  # every sh of such a machine has -O
    [ -O "$fp_place" ] || { fp_why="$fp_place belongs to another user"; return 1; }
  done
  fp_folder=$fp_folder/$2
}
