#!/usr/bin/env bash
# Writes requirements.lock from pyproject.toml: every package with its hashes, for each system and each Python from 3.11 on.
#
#   lock.sh              keep what is locked where it still fits
#   lock.sh --upgrade    the newest of everything that fits (also: --upgrade-package NAME)
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."

.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
  pyproject.toml --group dev --group docs --output-file requirements.lock "$@"
.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
  tests/bench/requirements.in --output-file tests/bench/requirements.txt "$@"
