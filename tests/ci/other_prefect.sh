#!/usr/bin/env bash
# Runs the tests of servers and flows on another release of Prefect than the one in the lock.
#
#   other_prefect.sh [RELEASE [pytest options]]   without options: all tests of servers and flows
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."

release=${1:-3.9.1}
[ $# -eq 0 ] || shift
place=$PWD/build/prefect-$release
if [ ! -e "$place/prefect/__init__.py" ]; then
  # Its requirements are in the lock, but for whenever, from 3.9 on.
  .venv/bin/python -m pip install --quiet --no-deps --target "$place" "prefect==$release" whenever
fi
[ $# -gt 0 ] || set -- tests/contract/test_server.py tests/contract/test_prefect_insides.py \
  tests/attacks/test_prefect_server.py tests/flows
export PYTHONPATH=$place
.venv/bin/python -c 'import prefect; print("Prefect", prefect.__version__)'
exec .venv/bin/python -m pytest -q "$@"
