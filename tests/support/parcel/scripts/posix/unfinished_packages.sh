#!/bin/sh
# Finds half changed parcels.
# shellcheck disable=SC2034  # used by the scripts that this is put before

fp_unfinished() {
  fp_who=$(parcel half)
  [ -z "$fp_who" ] || fp_obstacle=packages fp_who="${fp_who}is half put"
}
