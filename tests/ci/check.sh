#!/usr/bin/env bash
# Everything that can be judged without running it. All of it runs, so that one failure doesn't hide the next.
set -uo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." || exit
bin=.venv/bin failed=()

check() { # name, command
  local name=$1 started=$SECONDS; shift
  if "$@"; then echo "ok      $name ($((SECONDS - started)) s)"; else echo "FAILED  $name: $*"; failed+=("$name"); fi
}

shell_scripts() { find .ci deployments tasks tests -name '*.sh' -o -path .ci/run | sort; }

check format $bin/ruff format --quiet --check .
check lint $bin/ruff check --quiet .
check types $bin/mypy --no-error-summary
check layers $bin/lint-imports --no-logo
mapfile -t scripts < <(shell_scripts)
check 'shell scripts' $bin/shellcheck "${scripts[@]}"
check 'house rules' $bin/python -m pytest -q --no-header tests/unit/test_packaging.py tests/unit/test_documents.py

[ ${#failed[@]} = 0 ] || { echo "check: failed: ${failed[*]}"; exit 1; }
