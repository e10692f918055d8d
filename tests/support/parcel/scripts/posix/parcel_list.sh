#!/bin/sh
# What is installed and what is on offer. Records: installed (parcel) and offered (parcel), "NAME VERSION" each.

parcel list | fp_lines installed parcel
parcel offers | fp_lines offered parcel
