#!/usr/bin/env bash
# Everything that can be judged without running it, side by side. All of it runs, so that one failure doesn't hide the next.
set -uo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." || exit
bin=.venv/bin names=() words=() pids=() failed=() untold=()
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT

check() { # name, command: begins it, unless CHECK_WITHOUT names it
  [ "$1" != "${CHECK_WITHOUT:-}" ] || return 0
  local n=${#names[@]}; names+=("$1"); shift; words+=("$*")
  { local started=$SECONDS rc=0
    "$@" >"$place/$n" 2>&1 </dev/null || rc=$?
    echo $((SECONDS - started)) >"$place/$n.seconds"; exit $rc; } &
  pids+=($!)
}

told() { # number: waits for it and says how it was; exit code 75 is for what could not be asked: no fault of this checkout
  local n=$1 rc=0
  wait "${pids[n]}" || rc=$?
  cat "$place/$n"
  case $rc in
    0) echo "ok      ${names[n]} ($(cat "$place/$n.seconds") s)" ;;
    75) echo "UNKNOWN ${names[n]}"; untold+=("${names[n]}") ;;
    *) echo "FAILED  ${names[n]}: ${words[n]}"; failed+=("${names[n]}") ;;
  esac
}

shell_scripts() { find .ci deployments fleetpatch tasks tests -name '*.sh' -o -path .ci/run -o -path .ci/hook -o -path deployments/units/fleetpatch-admin -o -path tests/lab/vm/guest/lab-identity | sort; }

check types $bin/mypy --no-error-summary
check 'insecure code' $bin/python -m tests.ci.insecure_code
check format $bin/ruff format --quiet --check .
check lint $bin/ruff check --quiet .
check layers $bin/lint-imports --no-logo
mapfile -t scripts < <(shell_scripts)
check 'shell scripts' $bin/shellcheck "${scripts[@]}"
check 'PowerShell scripts' $bin/python -m tests.ci.powershell_scripts
check 'committed secrets' $bin/python -m tests.ci.committed_secrets
check advisories $bin/python -m tests.ci.advisories
check 'house rules' $bin/python -m pytest -q --no-header tests/unit/test_packaging.py tests/unit/test_documents.py
for number in "${!names[@]}"; do told "$number"; done

[ ${#untold[@]} = 0 ] || echo "check: NOT CHECKED: ${untold[*]}"
[ ${#failed[@]} = 0 ] || { echo "check: failed: ${failed[*]}"; exit 1; }
