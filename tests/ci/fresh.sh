#!/usr/bin/env bash
# Proves that `make demo` and `make test` need nothing but a fresh Debian 12 with python3 and make: as root, and as an
# ordinary user without sudo. Run by hand, as root on a Debian machine with mmdebstrap; the way to Debian's mirror and to
# Python packages (proxy, certificates, pip's settings) is this machine's own.
#
#   fresh.sh root|user [TARGET…]   make these targets (demo and test, when none is named)
#   fresh.sh root|user -- CMD…     run a command there instead
set -euo pipefail
umask 022; export LC_ALL=C

CHECKOUT=$(readlink -f "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../..")
TOP=/var/tmp/fleetpatch-fresh
die() { echo "fresh: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "needs root"
command -v mmdebstrap >/dev/null || die "needs mmdebstrap (apt-get install mmdebstrap)"
case ${1:-} in root) who=root home=/root ;; user) who=dev home=/home/dev ;; *) sed -n '2,/^set -e/{/^#/p}' "$0"; exit 2 ;; esac
shift
if [ "${1:-}" = -- ]; then shift; command=("$@"); else
  [ $# -gt 0 ] || set -- demo test
  command=(make "$@")
fi

mkdir -p "$TOP"; chmod 700 "$TOP"
mapfile -t sources < <(python3 "$CHECKOUT/tests/lab/mirror.py")
base=$TOP/$(printf '%s\n' "${sources[@]}" | sha256sum | cut -c1-12).tar
if [ ! -e "$base" ]; then
  apt-config dump | grep -E '^Acquire::(http|https|Check|Retries|ForceIPv4)' > "$TOP/apt.conf" || true
  mmdebstrap -q --mode=root --variant=minbase --aptopt="$TOP/apt.conf" --include=python3,make bookworm "$base.draft.tar" "${sources[@]}"
  mv "$base.draft.tar" "$base"
fi

root=$(mktemp -d "$TOP/$who.XXXXXX")
inside() { # root, user, words: in the fresh system, with a /run and processes of its own that end with it
  # shellcheck disable=SC2016  # for the inner shell
  unshare --mount --pid --fork bash -c 'set -e; root=$1 who=$2; shift 2
    mount --make-rprivate /; mount --bind "$root" "$root"  # ip(8) wants its root to be a mount
    mount -t proc proc "$root/proc"; mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"; mount -t tmpfs tmpfs "$root/run"
    exec chroot "$root" runuser -u "$who" -- "$@"' bash "$@" </dev/null
}
# shellcheck disable=SC2329  # the trap calls it
cleanup() {
  if [ "$who" = root ]; then inside "$root" root "$home/fleetpatch/tests/lab/lab.sh" down 2>/dev/null || true; fi
  rm -rf --one-file-system "$root"
}
trap cleanup EXIT

tar -xf "$base" -C "$root"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
settings=("HOME=$home" "TERM=${TERM:-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
if [ -s /etc/ssl/certs/ca-certificates.crt ]; then # beside the system's own, which a fresh Debian lacks
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/this-network.crt"
  [ ! -e "$root/etc/pip.conf" ] || sed -i 's,^ *cert *=.*,cert = /etc/this-network.crt,' "$root/etc/pip.conf"
  settings+=(PIP_CERT=/etc/this-network.crt SSL_CERT_FILE=/etc/this-network.crt)
fi
while IFS= read -r -d '' pair; do
  case $pair in
    PIP_CERT=* | PIP_FIND_LINKS=*) ;;
    PIP_*=* | [hH][tT][tT][pP]*_[pP][rR][oO][xX][yY]=* | [nN][oO]_[pP][rR][oO][xX][yY]=*) settings+=("$pair") ;;
  esac
done < <(env -0)
[ "$who" = root ] || chroot "$root" useradd -m -s /bin/bash "$who"
mkdir -p "$root$home/fleetpatch"
( cd "$CHECKOUT"; git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    [ ! -e "$file" ] || printf '%s\0' "$file"
  done | tar --null -T - -c ) | tar -x --no-same-owner -C "$root$home/fleetpatch"
chroot "$root" chown -R "$who:" "$home/fleetpatch"

echo "fresh: $who on a new Debian: ${command[*]}" >&2
started=$SECONDS rc=0
# shellcheck disable=SC2016  # for the inner shell
inside "$root" "$who" env -i "${settings[@]}" bash -c 'cd "$HOME/fleetpatch"; exec "$@"' bash "${command[@]}" || rc=$?
echo "fresh: $who: ${command[*]}: exit $rc after $((SECONDS - started)) s" >&2
exit $rc
