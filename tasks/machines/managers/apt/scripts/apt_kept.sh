#!/bin/sh
# Finds the files of older versions that a run has kept for its undo: apt_keep.sh. A folder for each run, for root alone,
# with an index: NAME=VERSION, digest and file in each line. A file whose digest differs is not used.
# shellcheck disable=SC2034  # for apt_keep.sh

fp_kept=/var/lib/fleetpatch/kept
[ -z "${FP_JOB_DIR:-}" ] || fp_kept=${FP_JOB_DIR%/*/*}/kept # beside the folder of jobs

# shellcheck disable=SC3067  # every sh of such a machine has -O
fp_is_private() { [ ! -h "$1" ] && [ -O "$1" ] && case $(ls -ld "$1") in drwx------*) ;; *) false ;; esac; } # DIR
fp_digest() { sha256sum <"$1" 2>/dev/null | cut -d ' ' -f 1; } # FILE

# fp_with_kept NAME=VERSION…: prints them, one in a line, and in the place of each that a run has kept its file. Records:
# kept_changed {update}, for a file that is gone or not what the run has kept
fp_with_kept() {
  fp_indexes=''
  for fp_index in "$fp_kept"/*/index; do
    if [ -f "$fp_index" ] && fp_is_private "$fp_kept" && fp_is_private "${fp_index%/*}"; then fp_indexes="$fp_indexes $fp_index"; fi
  done
  for fp_spec in "$@"; do
    fp_word=$fp_spec
    for fp_index in $fp_indexes; do
      while read -r fp_name fp_sum fp_file; do
        [ "$fp_name" = "$fp_spec" ] || continue
        if [ -n "$fp_sum" ] && [ "$(fp_digest "${fp_index%/*}/$fp_file")" = "$fp_sum" ]; then fp_word=${fp_index%/*}/$fp_file
        else fp_emit kept_changed update="${fp_spec%%=*}"; fi
      done <"$fp_index"
    done
    printf '%s\n' "$fp_word"
  done
}
