#!/usr/bin/env bash
# In a Linux beside a Windows that can be reached over the loopback: looks at it with the real command, then as SYSTEM.
# WINDOWS_USER, WINDOWS_PASSWORD, WINDOWS_THUMBPRINT, and optionally WINDOWS_ADDRESS and WINDOWS_PORT, say how it is
# reached. It changes nothing there but its own folder, unless WINDOWS_INSTALL names updates: those are installed
# that are offered, and if none is, it fails. Defender's definitions (KB2267602) come several times a day and need no
# reboot. A recording of the machine and all output are kept in WINDOWS_OUTPUT, if that is set.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
output=${WINDOWS_OUTPUT:-$place/output}
mkdir -p "$output"
exec > >(tee "$output/output.txt") 2>&1
export FLEETPATCH_INVENTORY=$place/fleet.yaml FLEETPATCH_RECORDS_URL=sqlite:///$place/records.db
cat >"$FLEETPATCH_INVENTORY" <<END
machines:
  - name: windows
    address: ${WINDOWS_ADDRESS:-127.0.0.1}
    port: ${WINDOWS_PORT:-5986}
    transport: winrm
    user: $WINDOWS_USER
    credential: env:WINDOWS_PASSWORD
    winrm: {certificate_thumbprint: "$WINDOWS_THUMBPRINT"}
END

may_warn() { # a runner may lack disk, or wait for a reboot
  local code=0
  "$@" || code=$?
  [ "$code" = 0 ] || [ "$code" = 3 ] || { echo "$*: exit code $code" >&2; exit 1; }
}

may_warn .venv/bin/fleetpatch doctor windows --refresh --record "$output/recording"
may_warn .venv/bin/fleetpatch assess windows
offered=$(.venv/bin/fleetpatch updates windows --by machine)
printf '%s\n' "$offered"
.venv/bin/python -m tests.ci.windows_loopback windows

installed=
for name in ${WINDOWS_INSTALL:-}; do
  if ! grep -q "$name" <<<"$offered"; then echo "NOT INSTALLED: $name is not offered"; continue; fi
  may_warn .venv/bin/fleetpatch patch windows --yes --include "$name" --only-included --reboot Never --minutes 30
  .venv/bin/fleetpatch show last --json | grep -q '"Installed"' || { echo "$name was not installed" >&2; exit 1; }
  echo "INSTALLED: $name"
  installed+=" $name"
done
[ -z "${WINDOWS_INSTALL:-}" ] || [ "$installed" ] || { echo "NOTHING WAS INSTALLED: none of $WINDOWS_INSTALL is offered"; exit 1; }
