#!/usr/bin/env bash
# Everything that can be judged without running it. All of it runs, so that one failure doesn't hide the next.
set -uo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." || exit
bin=.venv/bin failed=() untold=()

check() { # name, command; exit code 75 is for what could not be asked: that is no fault of this checkout, and no good news
  local name=$1 started=$SECONDS rc=0; shift
  "$@" || rc=$?
  case $rc in
    0) echo "ok      $name ($((SECONDS - started)) s)" ;;
    75) echo "UNKNOWN $name"; untold+=("$name") ;;
    *) echo "FAILED  $name: $*"; failed+=("$name") ;;
  esac
}

shell_scripts() { find .ci deployments tasks tests -name '*.sh' -o -path .ci/run -o -path .ci/hook | sort; }

check format $bin/ruff format --quiet --check .
check lint $bin/ruff check --quiet .
check types $bin/mypy --no-error-summary
check layers $bin/lint-imports --no-logo
mapfile -t scripts < <(shell_scripts)
check 'shell scripts' $bin/shellcheck "${scripts[@]}"
check 'insecure code' $bin/python -m tests.ci.insecure_code
check 'committed secrets' $bin/python -m tests.ci.committed_secrets
check advisories $bin/python -m tests.ci.advisories
check 'house rules' $bin/python -m pytest -q --no-header tests/unit/test_packaging.py tests/unit/test_documents.py

[ ${#untold[@]} = 0 ] || echo "check: NOT CHECKED: ${untold[*]}"
[ ${#failed[@]} = 0 ] || { echo "check: failed: ${failed[*]}"; exit 1; }
