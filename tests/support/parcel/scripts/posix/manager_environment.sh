#!/bin/sh
# The environment of parcel.

PARCEL_ASKS=nobody
export PARCEL_ASKS
