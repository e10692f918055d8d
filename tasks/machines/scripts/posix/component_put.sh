#!/bin/sh
# Takes a part of a component's file from the controller, and stores the file when it is whole and has its digest.
# Parameters: component, sha256, size (bytes of the whole file), offset (where the part begins), data (base64; empty: only tell
# what is there). Record: component_file {have, is_whole, why}: the bytes that are there, and why they can't be stored, or "".
# Step: install
# Changes: a file in the folder of components
# Requires: job_common, component_files
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

for part in component sha256 size offset data; do
  fp_set_param "$part"
  eval "$part=\$fp_stored"
done
fp_why=''

tell() { # HAVE IS_WHOLE
  fp_emit component_file have:="$1" is_whole:="$2" why="$fp_why"
}

bytes() { if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; } # FILE

decode() { if command -v base64 >/dev/null; then base64 -d; else openssl base64 -d -A; fi; }

store() {
  if [ "$(fp_digest "$file.part")" != "$sha256" ]; then
    rm -f "$file.part"
    fp_why="the file that came has another digest than $sha256"
    tell 0 false
  elif chmod 600 "$file.part" && mv -f "$file.part" "$file"; then
    tell "$size" true
  else
    fp_why="cannot write $file"
    tell "$(bytes "$file.part")" false
  fi
}

put() {
  if ! fp_ready || ! fp_component_folder "${fp_jobs%/*}" "$component"; then tell 0 false; return; fi
  file=$fp_folder/$sha256
  if fp_has_file "$file" "$sha256"; then tell "$size" true; return; fi
  [ ! -h "$file.part" ] || rm -f "$file.part"
  have=$(bytes "$file.part")
  if [ "$have" -gt "$size" ]; then rm -f "$file.part"; have=0; fi
  if [ -n "$data" ] && [ "$have" -eq "$offset" ]; then
    if ! (umask 077; decode >>"$file.part") 2>/dev/null <<DATA; then fp_why="cannot write $file.part"; fi
$data
DATA
    have=$(bytes "$file.part")
  fi
  if [ "$have" -eq "$size" ] && [ -z "$fp_why" ]; then store; else tell "$have" false; fi
}

put
