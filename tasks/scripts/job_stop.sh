#!/bin/sh
# Asks a job to stop between two transactions; never inside one. One that is still to begin, since its order is held up,
# begins nothing then: it ends and says so. Parameter: id. Record: job; asked tells whether it finds the wish.
# shellcheck disable=SC2154  # variables of prelude.sh and job_common.sh

id=$(fp_param id)
umask 077
fp_look "$fp_jobs/$id"
asked=false
case $fp_phase.$fp_pid in
  running.*) : >"$fp_jobs/$id/stop" && asked=true ;;
  absent.) if fp_ready && mkdir -p "$fp_jobs/$id" && : >"$fp_jobs/$id/stop"; then asked=true; fi ;;
esac 2>/dev/null
fp_tell "$id" "asked:=$asked"
