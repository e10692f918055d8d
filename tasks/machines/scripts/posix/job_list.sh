#!/bin/sh
# Lists the jobs that the machine has, one record "job" each.
# Step: install
# Changes: nothing
# Requires: job_common
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

for meta in "$fp_jobs"/*/meta; do
  [ -f "$meta" ] || continue
  dir=${meta%/meta}
  fp_look "$dir"
  [ "$fp_phase" != absent ] || continue
  fp_tell "${dir##*/}" "label=$(cat "$dir/label" 2>/dev/null)"
done
