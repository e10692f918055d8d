#!/usr/bin/env bash
# Creates .venv with this checkout and exactly the packages of requirements-dev.lock: what production has, and what tests
# and documents need. The hash of every file is checked.
# Needs python3 (3.11 or newer). If Python has no pip (a fresh Debian), it also needs apt: as root it installs the missing
# packages; otherwise it unpacks pip from Debian's package beside the venv. Does nothing if everything is up to date.
#
#   venv.sh              create or update .venv
#   PYTHON=… venv.sh     with another interpreter
set -euo pipefail
umask 022; export LC_ALL=C

cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
VENV=$PWD/.venv
LOCK=requirements-dev.lock
PYTHON=${PYTHON:-python3}
SYSTEM_CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

say() { echo "bootstrap: $*" >&2; }
die() { say "$*"; exit 1; }
quietly() { local said; said=$("$@" 2>&1) || { printf '%s\n' "$said" >&2; die "$* failed"; }; }
stamp_of() { { echo "$PWD"; "$VENV/bin/python" -VV; cat "$@"; } 2>/dev/null | sha256sum | cut -d' ' -f1; }
stamped() { [ "$(cat "$VENV/$1.stamp" 2>/dev/null)" = "$(stamp_of "${@:2}")" ]; }

new_enough() {
  command -v "$PYTHON" >/dev/null || die "there is no $PYTHON: install Python 3.11 or newer, or say PYTHON=/path/to/python3"
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "$("$PYTHON" -V) is too old: 3.11 is the oldest that works. Say PYTHON=/path/to/a/newer/python3"
}

# ---------------------------------------------------------------- pip, if Python has none

has_pip() { "$VENV/bin/python" -m pip --version >/dev/null 2>&1; }
can_give_pip() { "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; }

install_packages() { # as root: Debian's venv module and certificates
  say "installing Debian's python3-venv and ca-certificates"
  quietly apt-get -qq update
  DEBIAN_FRONTEND=noninteractive quietly apt-get -qq -y --no-install-recommends install python3-venv ca-certificates
}

fetch_packages() { # folder: unpacks pip's wheel and the certificates from Debian's packages; installs nothing
  local out=$1 apt; mkdir -p "$out"/{lists/partial,cache/archives/partial}
  # separate package lists: a fresh machine has none, and only root may update the system's
  apt=(apt-get -qq -o "Dir::State::lists=$out/lists" -o "Dir::Cache=$out/cache" -o Acquire::Languages=none -o Debug::NoLocking=true)
  say "getting pip from Debian's package, as there is none here and $(id -un) can't install it"
  "${apt[@]}" update
  ( cd "$out"; "${apt[@]}" download python3-pip-whl ca-certificates
    for deb in ./*.deb; do dpkg-deb -x "$deb" root; done )
  rm -rf "$out"/{lists,cache} "$out"/*.deb
}

certificates() { # Debian's pip trusts only the system's certificates. Without them, use the fetched ones
  local bundle=$VENV/ca-certificates.crt
  [ -s "$bundle" ] && [ ! -s "$SYSTEM_CERTIFICATES" ] || return 0
  local chosen; chosen=$(pip config list | sed -n '/[.]cert=/p') # no grep -q: pip would fail with a broken pipe
  [ -z "${REQUESTS_CA_BUNDLE:-}${CURL_CA_BUNDLE:-}$chosen" ] || return 0 # the user has set a bundle
  export PIP_CERT=$bundle
}

make_venv() {
  say "making .venv with $("$PYTHON" -V)"
  rm -rf "$VENV"
  if ! can_give_pip && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then install_packages; fi
  if can_give_pip; then
    "$PYTHON" -m venv "$VENV"
  elif command -v apt-get >/dev/null; then
    "$PYTHON" -m venv --without-pip "$VENV"
    fetch_packages "$VENV/debian"
    find "$VENV/debian/root/usr/share/ca-certificates" -name '*.crt' -exec cat {} + > "$VENV/ca-certificates.crt"
    local wheel; wheel=$(find "$VENV/debian/root" -name 'pip-*.whl' | head -n1)
    [ -n "$wheel" ] || die "Debian's python3-pip-whl holds no pip"
    "$VENV/bin/python" "$wheel/pip" install --quiet --no-index --no-deps "$wheel"
    rm -rf "$VENV/debian"
  else
    die "$PYTHON has no ensurepip, and this machine has no apt to get pip with: install pip for $PYTHON"
  fi
}

# ---------------------------------------------------------------- packages and checkout

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
# Returns whether pip has settings that say where packages come from. `grep -q` would end early, and pip would then fail.
configured() {
  [ -n "$(pip config list | sed -nE '/[.](index-url|no-index|proxy|trusted-host|client-cert)=/p')" ]
}
names() { sed -nE 's/^([A-Za-z0-9._-]+)==.*/\1/p' | tr 'A-Z_.' 'a-z\-\-' | sort -u; }

# The lock file is complete, so nothing is resolved. Only wheels are allowed, so nothing is built.
locked=(--no-deps --only-binary :all: --require-hashes)

# uv needs a tenth of pip's processor time. It reads no settings of pip.
install_with_uv() {
  local words='' trust=()
  ! configured || return 1
  pip install -qq "${locked[@]}" -r <(awk '/^[a-z]/ { mine = /^uv==/ } mine' "$LOCK") || return 1
  [ ! -s "$SYSTEM_CERTIFICATES" ] || trust=(--system-certs)  # a company's own authority is among them
  words=$("$VENV/bin/uv" "${trust[@]}" pip install --quiet --python "$VENV/bin/python" "${locked[@]}" -r "$LOCK" 2>&1) && return
  say "uv can't install them, so pip does. uv said: $words"; return 1
}

install_lock() {
  say "installing what $LOCK names (a minute or two)"
  install_with_uv || pip install -qq --no-compile "${locked[@]}" -r "$LOCK"
  local strays; mapfile -t strays < <(comm -13 <(names < "$LOCK") <(pip freeze --exclude-editable | names))
  [ ${#strays[@]} = 0 ] || { say "removing what the lock doesn't name: ${strays[*]}"; pip uninstall --quiet -y "${strays[@]}"; }
  stamp_of "$LOCK" > "$VENV/lock.stamp"
}

install_checkout() {
  pip install --quiet --no-deps --no-index --no-build-isolation --editable .
  # Python compiles what it imports. Programs that start together would all compile the same.
  env -u PYTHONDONTWRITEBYTECODE "$VENV/bin/python" -c 'import flows.execution, prefect.server.api.server'
  stamp_of pyproject.toml > "$VENV/checkout.stamp"
}

main() {
  local what
  if ! has_pip; then new_enough; make_venv; fi
  certificates
  stamped lock "$LOCK" || { install_lock; what="the lock's packages"; }
  stamped checkout pyproject.toml || { install_checkout; what=${what:-this checkout}; }
  [ -z "${what:-}" ] || say "ready: .venv has $what"
}

# Only one at a time, because two makes may start together. Python holds the lock: not every system has flock(1).
if [ -z "${FLEETPATCH_BOOTSTRAP_LOCKED:-}" ]; then
  new_enough
  FLEETPATCH_BOOTSTRAP_LOCKED=1 exec "$PYTHON" - "$PWD/.venv.lock" bash "$PWD/deployments/bootstrap/venv.sh" "$@" <<'PYTHON'
import fcntl
import os
import subprocess
import sys

lock = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR, 0o644)
fcntl.flock(lock, fcntl.LOCK_EX)
sys.exit(subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL).returncode)
PYTHON
fi
main
