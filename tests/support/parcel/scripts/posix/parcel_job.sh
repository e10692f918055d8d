#!/bin/sh
# Installs parcels. Parameters: those of transactions.sh, tx_N_parcels (list of NAME#VERSION).
# Requires: manager_environment, transactions
# shellcheck disable=SC2154  # variables of transactions.sh

transaction() {
  fp_transaction_started
  code=0 error=''
  [ "$work" != stage ] || { fp_transaction_ended 0 '' ''; return; } # parcels are not downloaded
  for parcel in $(fp_param "tx_${number}_parcels"); do
    fp_progress 50 "${parcel%#*}" putting
    parcel put "$parcel" || { code=$?; error=$(fp_last_words | tail -n 1); }
    edited=$(parcel edited "${parcel%#*}")
    [ -z "$edited" ] || fp_emit configuration_kept path="$edited" kept_as="$edited.new"
  done
  fp_transaction_ended "$code" "${error:+failed}" "${error:+failed: $error}"
}

fp_each_transaction transaction
