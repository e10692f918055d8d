#!/usr/bin/env bash
# Verifies a release: the signature of SHA256SUMS, the hash of every file in it, and that no other file is there.
# It trusts nothing in the folder: who may sign is in a file that the reader got another way.
#
#   verify_release.sh FOLDER SIGNERS     SIGNERS is a file of allowed signers: ssh-keygen(1), ALLOWED SIGNERS
set -euo pipefail
export LC_ALL=C
[ $# = 2 ] || { sed -n '2,/^set -e/{/^#/p}' "$0" >&2; exit 2; }
refuse() { echo "verify-release: REFUSED: $*" >&2; exit 1; }

signers=$(readlink -f "$2")
cd "$1"
[ -s "$signers" ] || refuse "$2 names nobody who may sign"
[ -s SHA256SUMS ] && [ -s SHA256SUMS.sig ] || refuse "$1 has no signed checksums (SHA256SUMS, SHA256SUMS.sig)"
signer=$(ssh-keygen -Y find-principals -s SHA256SUMS.sig -f "$signers" 2>/dev/null | head -n1) ||
  refuse "nobody in $2 made this signature"
ssh-keygen -Y verify -f "$signers" -I "$signer" -n fleetpatch-release -s SHA256SUMS.sig < SHA256SUMS >/dev/null ||
  refuse "the signature of SHA256SUMS does not fit"
sha256sum --check --strict --quiet SHA256SUMS || refuse "a file is not the one that was signed"
unsigned=$(find . -mindepth 1 ! -name SHA256SUMS ! -name SHA256SUMS.sig -printf '%P\n' | sort | comm -23 - <(sed 's/^[0-9a-f]*  //' SHA256SUMS | sort))
[ -z "$unsigned" ] || refuse "nobody signed ${unsigned//$'\n'/, }"
echo "verify-release: $signer signed all $(wc -l < SHA256SUMS) files"
